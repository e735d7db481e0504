//! Cores: their speed, how deep they sleep, and who else runs on them.

use std::collections::BTreeSet;

use super::Tunable;
use super::machine::{Machine, core_names};

const CPU: &str = "sys/devices/system/cpu";
/// A deeper sleep than this shows in the latency of an edit, microseconds.
const WAKE_LATENCY_US_MAX: u64 = 10;
/// With fewer cores than this there is none to spare for the rest of the system.
const CORES_TO_ISOLATE_MIN: usize = 3;

pub(super) fn check(machine: &Machine) -> Vec<Tunable> {
    vec![
        governor(machine),
        c_states(machine),
        isolation(
            machine,
            "isolated_cores",
            "isolated",
            "isolcpus",
            "other programs run on the shards' cores: whoever waits for an edit waits for them, milliseconds at a time",
        ),
        isolation(
            machine,
            "tickless_cores",
            "nohz_full",
            "nohz_full",
            "the scheduler's tick interrupts a shard up to 1,000 times a second",
        ),
        siblings(machine),
        clocksource(machine),
    ]
}

fn governor(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "cpu_governor",
        "performance",
        "a core that was slowed down takes up to milliseconds to speed up, and the first edits after a pause wait",
    );
    let governors: BTreeSet<_> = machine
        .cores
        .iter()
        .filter_map(|core| machine.read(&format!("{CPU}/cpu{core}/cpufreq/scaling_governor")))
        .collect();
    if governors.is_empty() {
        return tunable.unsupported("no frequency scaling here: the hypervisor or the firmware decides");
    }
    let is_ok = governors.iter().all(|governor| governor == "performance");
    let current = governors.into_iter().collect::<Vec<_>>().join(", ");
    tunable.judge(is_ok, current, "`cpupower frequency-set -g performance` at every boot")
}

fn c_states(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "c_states",
        "no state of more than 10 us under the policies adaptive and saver",
        "a core in a deep sleep takes 50 to 200 us to wake: that is the latency of the first edit after a pause",
    );
    let core = machine.cores.first().copied().unwrap_or(0);
    let at = format!("{CPU}/cpu{core}/cpuidle");
    let states: Vec<_> = machine.names(&at).into_iter().filter(|name| name.starts_with("state")).collect();
    if states.is_empty() {
        return tunable.unsupported("no sleep states shown: the hypervisor decides");
    }
    let deep = states.iter().filter_map(|state| {
        let latency_us: u64 = machine.value(&format!("{at}/{state}/latency"))?;
        let is_off = machine.read(&format!("{at}/{state}/disable")).is_some_and(|value| value != "0");
        let name = machine.read(&format!("{at}/{state}/name")).unwrap_or_else(|| state.clone());
        (!is_off && latency_us > WAKE_LATENCY_US_MAX).then(|| format!("{name} ({latency_us} us)"))
    });
    let deep: Vec<_> = deep.collect();
    let how = "`cpupower idle-set -D 10`, or intel_idle.max_cstate=1 processor.max_cstate=1 on the kernel's command \
               line; policy `busy` never sleeps";
    let current = if deep.is_empty() { "none is deep".to_owned() } else { deep.join(", ") };
    tunable.judge(deep.is_empty(), current, how)
}

fn isolation(
    machine: &Machine,
    name: &'static str,
    file: &str,
    parameter: &str,
    why: &'static str,
) -> Tunable {
    let tunable = Tunable::new(name, "every core of a shard", why);
    let count = machine.core_count();
    let Some(isolated) = machine.core_list(&format!("{CPU}/{file}")) else {
        return tunable.unsupported("this kernel was built without it");
    };
    let missing: BTreeSet<_> = machine.cores.difference(&isolated).copied().collect();
    if missing.is_empty() {
        return tunable.ok(format!("cores {}", core_names(&isolated)));
    }
    if count.is_none_or(|count| count < CORES_TO_ISOLATE_MIN) {
        return tunable.unsupported("there are too few cores to keep any for the shards alone");
    }
    let how = format!(
        "{parameter}={} on the kernel's command line; leave at least one core out (`--cores`, node.shards) for the \
         agent, interrupts and the system",
        core_names(&machine.cores)
    );
    tunable.improve(format!("not for the shards' cores {}", core_names(&missing)), how)
}

fn siblings(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "core_siblings",
        "one shard a physical core",
        "two shards on the two threads of one core take turns at its execution units",
    );
    let mut shared = BTreeSet::new();
    let mut is_shown = false;
    for core in &machine.cores {
        let Some(siblings) = machine.core_list(&format!("{CPU}/cpu{core}/topology/thread_siblings_list"))
        else {
            continue;
        };
        is_shown = true;
        if siblings.intersection(&machine.cores).count() > 1 {
            shared.insert(*core);
        }
    }
    if !is_shown {
        return tunable;
    }
    let current = if shared.is_empty() {
        "each on its own".to_owned()
    } else {
        format!("{} share", core_names(&shared))
    };
    let how = "start the node on one thread of each core (`taskset -c`, a cpuset), with as many shards";
    tunable.judge(shared.is_empty(), current, how)
}

fn clocksource(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "clocksource",
        "tsc (arch_sys_counter on Arm)",
        "others are read by a system call, a microsecond each, and a shard reads the clock in every turn",
    );
    let at = "sys/devices/system/clocksource/clocksource0";
    let Some(current) = machine.read(&format!("{at}/current_clocksource")) else { return tunable };
    let is_ok =
        matches!(current.as_str(), "tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page");
    let how =
        format!("echo tsc > /{at}/current_clocksource, and clocksource=tsc on the kernel's command line");
    tunable.judge(is_ok, current, how)
}
