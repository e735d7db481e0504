//! The machine that a result comes from.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::context::Cores;

/// What of the machine can move a figure. A fact that cannot be read is absent, never guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// By name: `kernel`, `cpu_model`, `cores_allowed`, `governor`, `mitigations`, `clocksource`, `memlock_bytes`,
    /// `virtualization`, `nic_offloads`, `cmdline`, `rustc`, `commit`, …
    pub facts: BTreeMap<String, String>,
}

/// Facts that are a file's content, by name and path.
const FILES: [(&str, &str); 14] = [
    ("kernel", "/proc/sys/kernel/osrelease"),
    ("hostname", "/proc/sys/kernel/hostname"),
    ("cmdline", "/proc/cmdline"),
    ("isolated_cores", "/sys/devices/system/cpu/isolated"),
    ("nohz_full", "/sys/devices/system/cpu/nohz_full"),
    ("smt", "/sys/devices/system/cpu/smt/control"),
    ("governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ("transparent_hugepages", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("load_average_at_start", "/proc/loadavg"),
    ("rmem_max_bytes", "/proc/sys/net/core/rmem_max"),
    ("wmem_max_bytes", "/proc/sys/net/core/wmem_max"),
    ("io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"),
    ("machine", "/sys/class/dmi/id/product_name"),
];

/// Offloads of a network interface that move a figure.
const OFFLOADS: [&str; 6] = [
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-udp-segmentation",
    "rx-udp-gro-forwarding",
    "tcp-segmentation-offload",
    "large-receive-offload",
];

impl Environment {
    /// What can be read of this machine now.
    pub fn collect(cores: &Cores) -> Self {
        let mut facts = BTreeMap::new();
        let mut fact = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                facts.insert(name.to_owned(), value);
            }
        };
        for (name, path) in FILES {
            fact(name, read(path));
        }
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        fact("cpu_model", keyed(&cpu, "model name"));
        fact("cpu_mhz", keyed(&cpu, "cpu MHz"));
        fact("invariant_tsc", keyed(&cpu, "flags").map(|flags| yes_no(flags.contains("nonstop_tsc"))));
        fact(
            "virtualization",
            read("/sys/hypervisor/type")
                .or_else(|| keyed(&cpu, "flags").map(|flags| hypervisor(&flags).to_owned())),
        );
        fact("turbo", turbo());
        fact("mitigations", mitigations());
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        fact("memory", keyed(&memory, "MemTotal"));
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        fact("memlock_bytes", limit(&limits, "Max locked memory"));
        fact("open_files_max", limit(&limits, "Max open files"));
        fact("cores_allowed", Some(list(&rt::allowed_cores())));
        fact("client_core", Some(cores.client.to_string()));
        fact("server_core", Some(cores.server.to_string()));
        fact("memory_monitors", Some(memory_monitors()));
        fact("disk_interrupts", disk_interrupts());
        fact("nic_offloads", Some(offloads("lo")));
        fact("rustc", Some(env!("PERF_RUSTC").to_owned()));
        fact("commit", commit());
        fact("profile", Some(if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()));
        fact("features", Some(if cfg!(feature = "peers") { "peers" } else { "none" }.to_owned()));
        Self { facts }
    }
}

/// Seconds that the hypervisor gave these cores to others since the machine started; none where it does not say.
pub fn steal_seconds(cores: &[usize]) -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Option<u64> = cores.iter().map(|&core| steal_ticks(&stat, core)).sum();
    Some(ticks? as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The eighth column of a core's line.
fn steal_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    line.split_whitespace().nth(8)?.parse().ok()
}

/// Threads of the kernel that walk all memory now and then, and are away with a core meanwhile: DAMON's and the one
/// that looks for equal pages.
fn memory_monitors() -> String {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|process| read(&process.path().join("comm").to_string_lossy()));
    let mut found: Vec<String> = names.filter(|name| name.starts_with("kdamond")).collect();
    found.sort();
    if read("/sys/kernel/mm/ksm/run").is_some_and(|run| run != "0") {
        found.push("ksmd".to_owned());
    }
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// The cores that the interrupts of disks go to: a log's writes take time from whoever runs there.
fn disk_interrupts() -> Option<String> {
    let interrupts = fs::read_to_string("/proc/interrupts").ok()?;
    let is_disk = |name: &str| {
        name.contains("nvme") || (name.contains("virtio") && name.contains("req")) || name.contains("ahci")
    };
    let of_line = |line: &str| {
        let (number, name) = (line.split(':').next()?.trim(), line.split_whitespace().last()?);
        let cores = read(&format!("/proc/irq/{number}/effective_affinity_list"))?;
        is_disk(name).then(|| format!("{name} to core {cores}"))
    };
    let found: Vec<String> = interrupts.lines().filter_map(of_line).collect();
    Some(found.join(", "))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The value of the first line `key : value`.
fn keyed(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// The soft limit of a line of `/proc/self/limits`.
fn limit(text: &str, name: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn hypervisor(flags: &str) -> &'static str {
    if flags.split_whitespace().any(|flag| flag == "hypervisor") { "a hypervisor" } else { "none seen" }
}

fn turbo() -> Option<String> {
    if let Some(off) = read("/sys/devices/system/cpu/intel_pstate/no_turbo") {
        return Some(if off == "1" { "off" } else { "on" }.to_owned());
    }
    read("/sys/devices/system/cpu/cpufreq/boost").map(|on| if on == "1" { "on" } else { "off" }.to_owned())
}

/// What the kernel does against the processor's flaws; each costs every system call something.
fn mitigations() -> Option<String> {
    let mut names: Vec<_> = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?.flatten().collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let states = names.iter().filter_map(|entry| {
        let state = fs::read_to_string(entry.path()).ok()?;
        let state = state.trim();
        (state != "Not affected").then(|| format!("{}: {state}", entry.file_name().to_string_lossy()))
    });
    let states: Vec<String> = states.collect();
    Some(if states.is_empty() { "none needed".to_owned() } else { states.join("; ") })
}

fn offloads(interface: &str) -> String {
    let output = Command::new("ethtool").args(["-k", interface]).output();
    let Some(text) = output.ok().filter(|output| output.status.success()) else {
        return format!("{interface}: not readable (ethtool is not installed)");
    };
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let states = OFFLOADS.iter().filter_map(|name| Some(format!("{name} {}", keyed(&text, name)?)));
    format!("{interface}: {}", states.collect::<Vec<_>>().join(", "))
}

/// The commit of the tree that this program lies in, and whether that tree has been changed since.
fn commit() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(program.parent()?).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit} with changes") } else { commit })
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_figure_is_recorded() {
        let environment = Environment::collect(&Cores { client: 1, server: 0 });
        for name in ["kernel", "cores_allowed", "memlock_bytes", "nic_offloads", "rustc", "client_core"] {
            assert!(environment.facts.contains_key(name), "{name} is missing: {:?}", environment.facts);
        }
    }

    #[test]
    fn another_cores_steal_is_taken() {
        let stat = "cpu  1 2 3 4 5 6 7 90 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\ncpu10 1 2 3 4 5 6 7 80 0 0\n";
        assert_eq!(steal_ticks(stat, 1), Some(8));
        assert_eq!(steal_ticks(stat, 10), Some(80));
        assert_eq!(steal_ticks(stat, 0), None);
    }

    #[test]
    fn a_line_is_found_by_its_whole_key() {
        let text = "cpu MHz\t\t: 2000.1\nmodel\t\t: 7\nmodel name\t: Fast: very\n";
        assert_eq!(keyed(text, "model name").as_deref(), Some("Fast: very"));
        assert_eq!(keyed(text, "model").as_deref(), Some("7"));
        assert_eq!(keyed(text, "flags"), None);
        let text = "Max locked memory         8388608              unlimited            bytes     \n";
        assert_eq!(limit(text, "Max locked memory").as_deref(), Some("8388608"));
    }
}
