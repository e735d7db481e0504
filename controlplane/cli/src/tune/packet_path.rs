//! Whether the kernel gives what the packet path is made for.

use rt::{Feature, FeatureStatus};

use super::machine::Machine;
use super::{Status, Tunable};

pub(super) fn check(machine: &Machine) -> Vec<Tunable> {
    let mut tunables = vec![disabled(machine)];
    match &machine.features {
        None => {}
        Some(Ok(features)) => tunables.extend(features.iter().map(feature)),
        Some(Err(error)) => {
            let ring = Tunable::new("packet_path", "a packet ring", "a node does not start without io_uring");
            tunables.push(ring.improve("no ring can be made", error.to_string()));
        }
    }
    tunables
}

fn disabled(machine: &Machine) -> Tunable {
    let tunable = Tunable::new(
        "io_uring_disabled",
        "0",
        "a node does not start without io_uring: packets and the log pass through it",
    );
    match machine.read("proc/sys/kernel/io_uring_disabled") {
        None => tunable.unsupported("the kernel has no such switch: io_uring is on if it was built in"),
        Some(value) => {
            let how = "sysctl -w kernel.io_uring_disabled=0, and the same in /etc/sysctl.d/; in a container the \
                       seccomp profile must allow io_uring_setup, io_uring_enter and io_uring_register";
            tunable.judge(value == "0", value, how)
        }
    }
}

/// What a feature is good for, and what to do to have it.
fn feature(feature: &Feature) -> Tunable {
    let (recommended, why, how) = match feature.name {
        "deferred_completions" => (
            "Linux 6.1 or later",
            "completions wait until the shard asks, which saves it an interruption each",
            "boot a newer kernel",
        ),
        "multishot_receive" => (
            "Linux 6.0 or later",
            "a sleeping shard has its datagrams when it wakes, instead of asking for them",
            "boot a newer kernel",
        ),
        "receive_trains" => (
            "Linux 5.0 or later (UDP_GRO)",
            "datagrams of one peer are received as one: 56 instead of 16 Gbit/s a core",
            "boot a newer kernel",
        ),
        "send_trains" => (
            "Linux 4.18 or later (UDP_SEGMENT)",
            "datagrams to one peer are sent by one system call: three times the packets a core",
            "boot a newer kernel; `ethtool -K DEVICE tx-checksumming on`",
        ),
        "send_batches" => (
            "a seccomp profile that allows sendmmsg",
            "datagrams to many peers are sent by one system call, a sixth of what each costs",
            "allow sendmmsg in the container's seccomp profile",
        ),
        "ecn" => {
            ("a socket that takes IP_TOS", "congestion shows before packets are lost", "use another kernel")
        }
        "full_buffers" => (
            "256 receive buffers a shard",
            "a burst waits in buffers instead of being lost",
            "raise the limit of locked memory: `ulimit -l`, LimitMEMLOCK= in systemd, or CAP_IPC_LOCK",
        ),
        "zero_copy_send" => (
            "Linux 6.1 and a device with scatter-gather and checksums",
            "long trains (documents sent to joiners) are not copied into the kernel",
            "boot a newer kernel",
        ),
        "busy_poll" => (
            "`busy_poll_us` of 20 to 50 under the policies adaptive and saver, on a device with NAPI",
            "a sleeping shard sees a packet without interrupt and softirq: some 10 us",
            "boot Linux 6.9 or later",
        ),
        _ => ("in use", "the packet path is made for it", "see the reason"),
    };
    let name = format!("packet_path:{}", feature.name);
    let current = if feature.reason.is_empty() {
        feature.status.name().replace('_', " ")
    } else {
        format!("{}: {}", feature.status.name().replace('_', " "), feature.reason)
    };
    let status = match feature.status {
        FeatureStatus::InUse | FeatureStatus::Available => Status::Ok,
        FeatureStatus::Absent => Status::Improve,
    };
    let how = if status == Status::Improve { how.to_owned() } else { String::new() };
    Tunable { name, status, current, recommended, how, why }
}

#[cfg(test)]
mod tests {
    use rt::{Features, PacketRingConfig};

    use super::*;
    use crate::tune::check as check_all;

    #[test]
    fn a_feature_that_is_absent_is_not_reported_or_nothing_is_said_that_helps() {
        let all = Features::probe(PacketRingConfig::default()).unwrap();
        for name in all.iter().map(|feature| feature.name) {
            let mut machine = Machine::at(std::path::Path::new("/nowhere"), vec![0], 7400);
            machine.features = Some(Ok(all.clone().without(name, "taken away by the test")));
            let tunables = check_all(&machine);
            let found = tunables.iter().find(|tunable| tunable.name == format!("packet_path:{name}"));
            let found = found.unwrap_or_else(|| panic!("{name} is not checked"));
            assert!(found.status == Status::Improve && !found.how.is_empty(), "{found:?}");
            assert_eq!(found.current, "absent: taken away by the test");
            assert_ne!(found.recommended, "in use", "nothing is known of {name}");
        }
    }
}
