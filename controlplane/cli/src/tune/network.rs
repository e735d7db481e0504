//! The network stack: buffers, the devices' offloads, where they are, and who looks at every packet.

use rt::SocketOptions;

use super::Tunable;
use super::machine::{Machine, core_names};

pub(super) fn check(machine: &Machine) -> Vec<Tunable> {
    let wanted = SocketOptions::default();
    let mut tunables = vec![
        buffer(machine, "receive_buffer_max", "rmem_max", wanted.receive_buffer_bytes),
        buffer(machine, "send_buffer_max", "wmem_max", wanted.send_buffer_bytes),
        conntrack(machine),
    ];
    for interface in machine.interfaces() {
        tunables.push(offloads(machine, &interface));
        tunables.push(numa(machine, &interface));
    }
    tunables
}

fn buffer(machine: &Machine, name: &'static str, file: &str, wanted: usize) -> Tunable {
    let tunable = Tunable::new(
        name,
        "4 MiB or more",
        "a burst that does not fit into the socket's buffer is lost, and comes again a round trip later",
    );
    let Some(bytes) = machine.value::<usize>(&format!("proc/sys/net/core/{file}")) else { return tunable };
    let how = format!(
        "sysctl -w net.core.{file}={wanted}, and the same in /etc/sysctl.d/; or give the node CAP_NET_ADMIN"
    );
    tunable.judge(bytes >= wanted, format!("{bytes} bytes"), how)
}

fn conntrack(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "connection_tracking",
        "none for the node's port",
        "every packet is looked up in a table that all cores share; when it is full, packets of new clients are dropped",
    );
    let Some(count) = machine.value::<u64>("proc/sys/net/netfilter/nf_conntrack_count") else {
        return tunable.ok("not loaded");
    };
    let max = machine.value::<u64>("proc/sys/net/netfilter/nf_conntrack_max");
    let max = max.map_or_else(String::new, |max| format!(" of {max}"));
    let port = machine.port;
    let how = format!(
        "exempt the port, where that is not done yet (the rules are shown to root only): nft add rule inet raw \
         prerouting udp dport {port} notrack, and udp sport {port} in output"
    );
    tunable.improve(format!("loaded, {count}{max} entries"), how)
}

fn offloads(machine: &Machine, interface: &str) -> Tunable {
    let tunable = Tunable::new(
        format!("offloads:{interface}"),
        "checksums, scatter-gather, GSO and GRO on",
        "without them trains are cut and summed up by the shard's core, and nothing is sent without a copy",
    );
    let Some(found) = machine.offloads(interface) else { return tunable };
    let all = [
        ("rx-checksumming", found.rx_checksum),
        ("tx-checksumming", found.tx_checksum),
        ("scatter-gather", found.scatter_gather),
        ("generic-segmentation-offload", found.gso),
        ("generic-receive-offload", found.gro),
    ];
    let names = |wanted: bool| {
        let chosen = all.iter().filter(|(_, state)| *state == Some(wanted)).map(|(name, _)| *name);
        chosen.collect::<Vec<_>>()
    };
    let (on, off) = (names(true), names(false));
    if on.is_empty() && off.is_empty() {
        return tunable.unsupported("the driver does not say");
    }
    if off.is_empty() {
        return tunable.ok(format!("on: {}", on.join(", ")));
    }
    let how = format!("`ethtool -K {interface} {} on`; a driver that refuses cannot do it", off.join(" on "));
    tunable.improve(format!("off: {}", off.join(", ")), how)
}

fn numa(machine: &Machine, interface: &str) -> Tunable {
    let tunable = Tunable::new(
        format!("numa:{interface}"),
        "shards on the node that the device is attached to",
        "packets and their buffers cross between the processors otherwise, 100 ns a cache line",
    );
    let nodes = machine.core_list("sys/devices/system/node/online").map_or(1, |nodes| nodes.len());
    if nodes < 2 {
        return tunable.ok("one node");
    }
    let Some(node) = machine.value::<i64>(&format!("sys/class/net/{interface}/device/numa_node")) else {
        return tunable;
    };
    let Some(near) = usize::try_from(node)
        .ok()
        .and_then(|node| machine.core_list(&format!("sys/devices/system/node/node{node}/cpulist")))
    else {
        return tunable.unsupported("the device says no node");
    };
    let far: std::collections::BTreeSet<_> = machine.cores.difference(&near).copied().collect();
    let current = format!("device on node {node}, shards elsewhere: {}", core_names(&far));
    let how = format!("start the node on cores {} (`taskset -c`, a cpuset)", core_names(&near));
    tunable.judge(far.is_empty(), current, how)
}
