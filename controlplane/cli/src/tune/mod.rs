//! `aetherflow tune --check`: what of this machine keeps a node from its best, and how to change it.
//!
//! It changes nothing and needs no privilege: it reads procfs, sysfs and the limits of this process, asks the network
//! devices' drivers, and makes one packet ring on loopback to see what the kernel gives.

mod cpu;
mod interrupts;
mod machine;
mod memory;
mod network;
mod packet_path;

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use crate::args::TuneArgs;
use crate::output;
use machine::Machine;

/// How something stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// As it should be.
    Ok,
    /// It could be better.
    Improve,
    /// This machine does not have it, or does not show it.
    Unsupported,
}

/// One thing that can be tuned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Tunable {
    name: String,
    status: Status,
    current: String,
    recommended: &'static str,
    /// What to do; empty where there is nothing to do.
    how: String,
    why: &'static str,
}

impl Tunable {
    fn new(name: impl Into<String>, recommended: &'static str, why: &'static str) -> Self {
        Self {
            name: name.into(),
            status: Status::Unsupported,
            current: "not shown by this machine".to_owned(),
            recommended,
            how: String::new(),
            why,
        }
    }

    /// As it should be.
    fn ok(self, current: impl Into<String>) -> Self {
        Self { status: Status::Ok, current: current.into(), ..self }
    }

    /// Could be better.
    fn improve(self, current: impl Into<String>, how: impl Into<String>) -> Self {
        Self { status: Status::Improve, current: current.into(), how: how.into(), ..self }
    }

    /// Not there, and why.
    fn unsupported(self, current: impl Into<String>) -> Self {
        Self { status: Status::Unsupported, current: current.into(), ..self }
    }

    /// One or the other.
    fn judge(self, is_ok: bool, current: impl Into<String>, how: impl Into<String>) -> Self {
        if is_ok { self.ok(current) } else { self.improve(current, how) }
    }

    fn text(&self) -> String {
        let mark = match self.status {
            Status::Ok => "ok         ",
            Status::Improve => "improve    ",
            Status::Unsupported => "unsupported",
        };
        let mut text = format!("{mark}  {:<22} {}", self.name, self.current);
        if self.status == Status::Improve {
            let indent = " ".repeat(13);
            text += &format!("\n{indent}recommended: {}\n{indent}how: {}", self.recommended, self.how);
            text += &format!("\n{indent}why: {}", self.why);
        }
        text
    }
}

/// `aetherflow tune`.
pub(crate) fn run(args: &TuneArgs) -> ExitCode {
    let machine = Machine::of(args);
    let tunables = check(&machine);
    for tunable in &tunables {
        let mut value = json!(tunable);
        value["event"] = "tunable".into();
        output::print(args.output, &value, || tunable.text());
    }
    let count = |status| tunables.iter().filter(|tunable| tunable.status == status).count();
    let (ok, improve, unsupported) = (count(Status::Ok), count(Status::Improve), count(Status::Unsupported));
    let summary = json!({ "event": "summary", "ok": ok, "improve": improve, "unsupported": unsupported });
    output::print(args.output, &summary, || {
        format!("\n{ok} ok, {improve} to improve, {unsupported} that this machine does not have")
    });
    if args.strict && improve > 0 { ExitCode::FAILURE } else { output::OK }
}

fn check(machine: &Machine) -> Vec<Tunable> {
    let mut tunables = packet_path::check(machine);
    tunables.extend(memory::check(machine));
    tunables.extend(cpu::check(machine));
    tunables.extend(interrupts::check(machine));
    tunables.extend(network::check(machine));
    tunables
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::args::Output;

    /// A machine made of files.
    fn made_up(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("/"))).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let machine = Machine::at(root.path(), vec![0, 1], 7400);
        (root, machine)
    }

    fn found(machine: &Machine, name: &str) -> Tunable {
        let tunables = check(machine);
        let found = tunables.iter().find(|tunable| tunable.name == name).cloned();
        found.unwrap_or_else(|| panic!("{name} is not checked: {tunables:?}"))
    }

    const CPU: &str = "sys/devices/system/cpu";

    /// Each tunable with the files of a machine on which it is well, and of one on which it is not.
    #[test]
    fn a_machine_in_need_of_tuning_passes_or_one_without_does_not() {
        let governor = |of| [(format!("{CPU}/cpu0/cpufreq/scaling_governor"), of)];
        let own =
            |files: [(&'static str, &'static str); 1]| files.map(|(path, text)| (path.to_owned(), text));
        let cases = [
            (
                "io_uring_disabled",
                own([("proc/sys/kernel/io_uring_disabled", "0\n")]),
                own([("proc/sys/kernel/io_uring_disabled", "2\n")]),
            ),
            ("cpu_governor", governor("performance\n"), governor("powersave\n")),
            (
                "clocksource",
                own([("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")]),
                own([("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")]),
            ),
            (
                "receive_buffer_max",
                own([("proc/sys/net/core/rmem_max", "8388608\n")]),
                own([("proc/sys/net/core/rmem_max", "212992\n")]),
            ),
            (
                "send_buffer_max",
                own([("proc/sys/net/core/wmem_max", "8388608\n")]),
                own([("proc/sys/net/core/wmem_max", "212992\n")]),
            ),
            (
                "swap",
                own([("proc/swaps", "Filename Type Size Used Priority\n")]),
                own([("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 9 0 -2\n")]),
            ),
            (
                "transparent_hugepages",
                own([("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")]),
                own([("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n")]),
            ),
            (
                "memlock",
                own([(
                    "proc/self/limits",
                    "Limit Soft Hard Units\nMax locked memory         unlimited            unlimited            bytes\n",
                )]),
                own([(
                    "proc/self/limits",
                    "Limit Soft Hard Units\nMax locked memory         65536                65536                bytes\n",
                )]),
            ),
            (
                "isolated_cores",
                own([("sys/devices/system/cpu/isolated", "0-1\n")]),
                own([("sys/devices/system/cpu/isolated", "\n")]),
            ),
            (
                "tickless_cores",
                own([("sys/devices/system/cpu/nohz_full", "0-3\n")]),
                own([("sys/devices/system/cpu/nohz_full", "(null)\n")]),
            ),
        ];
        for (name, well, ill) in cases {
            for (files, status) in [(well, Status::Ok), (ill, Status::Improve)] {
                let present = [("sys/devices/system/cpu/present".to_owned(), "0-7\n")];
                let files: Vec<_> =
                    files.iter().chain(&present).map(|(path, text)| (path.as_str(), *text)).collect();
                let (_root, machine) = made_up(&files);
                let tunable = found(&machine, name);
                assert_eq!(tunable.status, status, "{tunable:?}");
                assert_eq!(tunable.how.is_empty(), status == Status::Ok, "{tunable:?}");
            }
        }
    }

    #[test]
    fn a_machine_that_shows_nothing_is_judged() {
        let (_root, machine) = made_up(&[]);
        for tunable in check(&machine) {
            assert_ne!(tunable.status, Status::Improve, "{tunable:?}");
            assert!(!tunable.why.is_empty() && !tunable.recommended.is_empty(), "{tunable:?}");
        }
    }

    #[test]
    fn a_deep_sleep_of_the_core_is_missed_or_one_that_is_off_is_not() {
        let state = |number: u32, latency: &'static str, disable: &'static str| {
            let at = format!("{CPU}/cpu0/cpuidle/state{number}");
            [
                (format!("{at}/name"), "C6"),
                (format!("{at}/latency"), latency),
                (format!("{at}/disable"), disable),
            ]
        };
        for (deep, status) in
            [(state(1, "133\n", "0\n"), Status::Improve), (state(1, "133\n", "1\n"), Status::Ok)]
        {
            let files: Vec<_> = state(0, "0\n", "0\n").into_iter().chain(deep).collect();
            let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            let (_root, machine) = made_up(&files);
            assert_eq!(found(&machine, "c_states").status, status);
        }
    }

    #[test]
    fn interrupts_on_a_shards_core_are_not_seen() {
        let device = "sys/class/net/eth0/device";
        let with = |core: &'static str| {
            vec![
                ("sys/devices/system/cpu/present", "0-3\n"),
                ("sys/class/net/eth0/operstate", "up\n"),
                ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
                ("proc/irq/41/effective_affinity_list", core),
                ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00\n"),
                ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00\n"),
            ]
        };
        for (core, status) in [("1\n", Status::Improve), ("3\n", Status::Ok)] {
            let (root, machine) = made_up(&with(core));
            assert!(root.path().join(device).is_dir());
            let tunable = found(&machine, "irq_affinity:eth0");
            assert_eq!(tunable.status, status, "{tunable:?}");
        }
    }

    #[test]
    fn connection_tracking_or_a_far_device_is_not_seen() {
        let (_root, machine) = made_up(&[
            ("proc/sys/net/netfilter/nf_conntrack_count", "17\n"),
            ("sys/devices/system/node/online", "0-1\n"),
            ("sys/devices/system/node/node0/cpulist", "0-3\n"),
            ("sys/devices/system/node/node1/cpulist", "4-7\n"),
            ("sys/class/net/eth0/device/numa_node", "1\n"),
            ("sys/class/net/eth0/operstate", "up\n"),
        ]);
        let conntrack = found(&machine, "connection_tracking");
        assert!(conntrack.status == Status::Improve && conntrack.how.contains("7400"), "{conntrack:?}");
        assert_eq!(found(&machine, "numa:eth0").status, Status::Improve);
    }

    #[test]
    fn the_packet_path_of_this_machine_is_left_out() {
        let args = TuneArgs {
            check: true,
            strict: false,
            cores: Vec::new(),
            port: 7400,
            root: "/".into(),
            output: Output::Json,
        };
        let tunables = check(&Machine::of(&args));
        for name in
            ["packet_path:deferred_completions", "packet_path:zero_copy_send", "packet_path:busy_poll"]
        {
            assert!(tunables.iter().any(|tunable| tunable.name == name), "{name}");
        }
    }
}
