//! Memory: what may be locked, what may be swapped, and the size of pages.

use super::Tunable;
use super::machine::Machine;

/// Locked memory that a shard's rings may come to, bytes.
const MEMLOCK_BYTES_PER_SHARD: u64 = 2 * rt::MEMLOCK_BYTES_MIN;

pub(super) fn check(machine: &Machine) -> Vec<Tunable> {
    vec![memlock(machine), swap(machine), transparent_hugepages(machine), hugepages(machine)]
}

fn memlock(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "memlock",
        "1 MiB a shard or more, or unlimited",
        "rings and their buffers are locked memory; with little of it rings are smaller, with less there are none",
    );
    let limits = machine.read("proc/self/limits");
    let line = limits
        .as_deref()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("Max locked memory")));
    let Some(soft) = line.and_then(|line| line.split_whitespace().next()) else { return tunable };
    let needed = MEMLOCK_BYTES_PER_SHARD * machine.cores.len() as u64;
    let is_ok = soft == "unlimited" || soft.parse().is_ok_and(|bytes: u64| bytes >= needed);
    let how = format!(
        "`ulimit -l {}` before the start, LimitMEMLOCK= in the systemd unit, or CAP_IPC_LOCK in the container",
        needed / 1024
    );
    tunable.judge(is_ok, format!("{soft} bytes"), how)
}

fn swap(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "swap",
        "no swap",
        "a document that was swapped out comes back from the disk while its shard stands still",
    );
    let Some(swaps) = machine.read("proc/swaps") else { return tunable };
    let count = swaps.lines().count().saturating_sub(1);
    if count == 0 {
        return tunable.ok("none");
    }
    let swappiness = machine.read("proc/sys/vm/swappiness").unwrap_or_else(|| "unknown".to_owned());
    let how =
        "`swapoff -a` and no swap in /etc/fstab; where it must stay, MemorySwapMax=0 for the node's unit";
    tunable.improve(format!("{count} in use, swappiness {swappiness}"), how)
}

fn transparent_hugepages(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "transparent_hugepages",
        "madvise or never",
        "`always` makes small documents take 2 MiB each, and the kernel stops a thread to put pages together",
    );
    let Some(text) = machine.read("sys/kernel/mm/transparent_hugepage/enabled") else { return tunable };
    let chosen =
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(chosen, _)| chosen);
    let how = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or transparent_hugepage=madvise on the \
               kernel's command line";
    tunable.judge(chosen != "always", chosen, how)
}

fn hugepages(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "hugepages",
        "0",
        "a node uses none: pages that are set aside are lost to documents and to the page cache",
    );
    match machine.value::<u64>("proc/sys/vm/nr_hugepages") {
        None => tunable,
        Some(0) => tunable.ok("none set aside"),
        Some(pages) => tunable.improve(
            format!("{pages} set aside"),
            "sysctl -w vm.nr_hugepages=0, unless another program needs them",
        ),
    }
}
