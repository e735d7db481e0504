//! Which cores the network's interrupts and queues fall on.

use std::collections::BTreeSet;

use super::Tunable;
use super::machine::{Machine, core_names};

pub(super) fn check(machine: &Machine) -> Vec<Tunable> {
    let mut tunables: Vec<_> = machine
        .interfaces()
        .iter()
        .flat_map(|interface| {
            [affinity(machine, interface), rps(machine, interface), xps(machine, interface)]
        })
        .collect();
    tunables.push(irqbalance(machine));
    tunables
}

/// Cores that the interrupts of an interface fall on, and how many interrupts it has.
fn interrupt_cores(machine: &Machine, interface: &str) -> (BTreeSet<usize>, usize) {
    let numbers = machine.names(&format!("sys/class/net/{interface}/device/msi_irqs"));
    let cores = numbers.iter().filter_map(|number| {
        let list = |file| machine.core_list(&format!("proc/irq/{number}/{file}"));
        list("effective_affinity_list")
            .filter(|cores| !cores.is_empty())
            .or_else(|| list("smp_affinity_list"))
    });
    (cores.flatten().collect(), numbers.len())
}

fn affinity(machine: &Machine, interface: &str) -> Tunable {
    let tunable = Tunable::new(
        format!("irq_affinity:{interface}"),
        "on cores without a shard, or one queue for each shard's core",
        "the interrupt of a packet for one shard stops another, and the busiest shard pays for all",
    );
    let (cores, count) = interrupt_cores(machine, interface);
    if cores.is_empty() {
        return tunable.unsupported("the device shows no interrupts of its own");
    }
    let on_shards = cores.intersection(&machine.cores).count();
    let has_spare = machine.core_count().is_some_and(|count| count > machine.cores.len());
    // Without a core to spare they have to be shared, and evenly.
    let is_ok = on_shards == 0 || (!has_spare && (on_shards == machine.cores.len() || count == 1));
    let current =
        format!("{count} on cores {}, shards on {}", core_names(&cores), core_names(&machine.cores));
    let how = format!(
        "stop irqbalance, then write a core without a shard to /proc/irq/N/smp_affinity_list for each N in \
         /sys/class/net/{interface}/device/msi_irqs"
    );
    tunable.judge(is_ok, current, how)
}

/// The masks of an interface's queues in one direction, and whether each is empty.
fn masks(machine: &Machine, interface: &str, direction: &str, file: &str) -> Vec<bool> {
    let at = format!("sys/class/net/{interface}/queues");
    let queues = machine.names(&at);
    let of_direction = queues.iter().filter(|queue| queue.starts_with(direction));
    let masks = of_direction.filter_map(|queue| machine.read(&format!("{at}/{queue}/{file}")));
    masks.map(|mask| mask.chars().all(|digit| matches!(digit, '0' | ','))).collect()
}

fn rps(machine: &Machine, interface: &str) -> Tunable {
    let tunable = Tunable::new(
        format!("receive_steering:{interface}"),
        "off where the device has a queue a shard, else to cores without a shard",
        "with one queue one core does the network's work for all packets; with many, passing them on costs a wake-up",
    );
    let is_empty = masks(machine, interface, "rx-", "rps_cpus");
    let (queues, steered) = (is_empty.len(), is_empty.iter().filter(|empty| !**empty).count());
    if queues == 0 {
        return tunable;
    }
    let has_queues = queues >= machine.cores.len();
    let has_spare = machine.core_count().is_some_and(|count| count > machine.cores.len() + 1);
    let current = format!("{queues} queues, {steered} of them passed on (RPS)");
    if has_queues {
        let how = format!("echo 0 > /sys/class/net/{interface}/queues/rx-N/rps_cpus for each");
        return tunable.judge(steered == 0, current, how);
    }
    let how = format!(
        "`ethtool -L {interface} combined {}`, or write the mask of the cores without a shard to \
         /sys/class/net/{interface}/queues/rx-0/rps_cpus",
        machine.cores.len()
    );
    tunable.judge(steered > 0 || !has_spare, current, how)
}

fn xps(machine: &Machine, interface: &str) -> Tunable {
    let tunable = Tunable::new(
        format!("send_steering:{interface}"),
        "one queue for each shard's core",
        "two shards that send through one queue wait for its lock",
    );
    let is_empty = masks(machine, interface, "tx-", "xps_cpus");
    if is_empty.is_empty() {
        return tunable.unsupported("the device's queues cannot be assigned (XPS)");
    }
    let assigned = is_empty.iter().filter(|empty| !**empty).count();
    let current = format!("{} queues, {assigned} of them assigned (XPS)", is_empty.len());
    let how = format!("write the mask of core N to /sys/class/net/{interface}/queues/tx-N/xps_cpus");
    tunable.judge(is_empty.len() == 1 || assigned > 0, current, how)
}

fn irqbalance(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "irqbalance",
        "not running, or told to leave the shards' cores alone",
        "it moves interrupts back onto the shards' cores every few seconds",
    );
    let processes = machine.names("proc");
    let mut ids = processes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).peekable();
    if ids.peek().is_none() {
        return tunable;
    }
    let is_running =
        ids.any(|id| machine.read(&format!("proc/{id}/comm")).is_some_and(|name| name == "irqbalance"));
    let how = format!(
        "`systemctl disable --now irqbalance`, or IRQBALANCE_BANNED_CPULIST={} in its environment",
        core_names(&machine.cores)
    );
    tunable.judge(!is_running, if is_running { "running" } else { "not running" }, how)
}
