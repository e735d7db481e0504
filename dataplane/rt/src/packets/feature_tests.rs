//! What a ring does where the kernel, the device or the limits do not give what it is made for.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;

use io_uring::opcode;
use wire::Ecn;

use super::fault_tests::pass_long_train;
use super::setup::{Flavor, make_as};
use super::tests::{PATIENCE, poll_until, ring, small, socket};
use super::*;
use crate::socket::{get_int, set_int};

/// A flag of a receive that no kernel knows.
const UNKNOWN_FLAG: u16 = 1 << 14;

/// A feature's name, and a ring without it.
type Absence = (&'static str, fn() -> PacketRing);

/// Each feature, and how it is taken from a ring in the way in which it is missing elsewhere.
const ABSENCES: [Absence; 9] = [
    ("deferred_completions", || {
        let (config, completions) = (large(), large().completions());
        let made = make_as(&[Flavor::Cooperative], completions).expect("Linux 5.19 and later have it");
        let own = socket();
        let parts = PacketRing::parts(made, &own, config, completions).expect("the parts of a ring");
        PacketRing::assemble(parts, own, config)
    }),
    ("multishot_receive", || {
        let mut ring = full();
        ring.disarm();
        let give_up = Instant::now() + PATIENCE;
        while ring.receive_armed {
            assert!(Instant::now() < give_up, "the receive does not end");
            ring.enter().and_then(|()| ring.reap()).expect("a ring");
        }
        // A flag that this kernel does not know, in place of one that an older kernel does not know.
        let header = &raw const *ring.receive_header;
        let receive = opcode::RecvMsg::new(SOCKET, header.cast_mut()).ioprio(UNKNOWN_FLAG);
        ring.receive_armed = ring.push(&receive.build().user_data(KIND_RECEIVE));
        ring
    }),
    ("receive_trains", || {
        let mut ring = full();
        set_int(ring.socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, 0).expect("an option");
        ring.receives_trains = false;
        ring
    }),
    ("send_trains", || {
        let mut ring = full();
        ring.sends_trains = false;
        ring
    }),
    ("send_batches", || {
        let mut ring = full();
        ring.batch.forbid();
        ring
    }),
    ("ecn", || {
        let mut ring = full();
        set_int(ring.socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_TOS, 0).expect("an option");
        ring.send.ecn = Ecn::NotEct;
        ring
    }),
    ("full_buffers", || {
        let mut ring = full();
        ring.asked_buffers = 256;
        ring
    }),
    ("zero_copy_send", || {
        let mut ring = full();
        ring.zero_copy = ZeroCopy::new(ZeroCopySend::On, false);
        ring
    }),
    ("busy_poll", || {
        let mut ring = full();
        ring.busy_poll = BusyPoll::Refused(io::Error::from_raw_os_error(libc::EINVAL));
        ring
    }),
];

fn large() -> PacketRingConfig {
    PacketRingConfig { receive_buffers: 16, send_slots: 16, ..PacketRingConfig::default() }
}

fn full() -> PacketRing {
    ring(large()).0
}

/// Sends a few datagrams, as a train where the ring can.
fn pass_datagrams(sender: &mut PacketRing, receiver: &mut PacketRing, round: u8) {
    const SEGMENT_BYTES: usize = 500;
    const DATAGRAMS: usize = 5;
    let to = receiver.local_addr().expect("address");
    let mut left = DATAGRAMS;
    while left > 0 {
        let count = left.min(sender.train_datagrams_max());
        let bytes = count * SEGMENT_BYTES;
        let sent = sender.send_train(|slot| {
            slot[..bytes].fill(round);
            Some(Train { to, bytes, segment_bytes: SEGMENT_BYTES, ecn: Ecn::Ect0 })
        });
        assert_eq!(sent.expect("send"), Sent::Queued);
        left -= count;
    }
    let mut got = 0;
    poll_until(receiver, |datagram| {
        assert_eq!(datagram, [round; SEGMENT_BYTES], "round {round}");
        got += 1;
        got == DATAGRAMS
    });
}

fn absent_besides(name: &str, features: &Features) -> Vec<&'static str> {
    let is_one = |feature: &&Feature| feature.status == FeatureStatus::Absent && feature.name != name;
    features.iter().filter(is_one).map(|feature| feature.name).collect()
}

#[test]
fn without_a_feature_packets_are_lost_or_nobody_is_told() {
    for (name, without) in ABSENCES {
        let (mut ring, mut other) = (without(), full());
        for round in 0..20 {
            pass_datagrams(&mut other, &mut ring, round);
            pass_datagrams(&mut ring, &mut other, round);
        }
        let found = ring.features();
        let feature = found.get(name).unwrap_or_else(|| panic!("{name} is not told"));
        assert!(feature.status == FeatureStatus::Absent && !feature.reason.is_empty(), "{feature:?}");
        assert_eq!(absent_besides(name, &found), absent_besides(name, &other.features()), "without {name}");
        assert_eq!(ring.counters().receive_errors + ring.counters().send_errors, 0, "{:?}", ring.counters());
    }
}

#[test]
fn a_feature_is_not_in_the_table_or_says_nothing_of_its_absence() {
    let features = Features::probe(PacketRingConfig { busy_poll_us: 20, ..small() }).expect("a ring");
    let names: Vec<_> = features.iter().map(|feature| feature.name).collect();
    assert_eq!(names, ABSENCES.map(|(name, _)| name));
    for feature in features.iter().filter(|feature| feature.status != FeatureStatus::InUse) {
        assert!(!feature.reason.is_empty(), "{feature:?}");
    }
    // Loopback has no queue that can be polled, whatever the kernel says.
    assert!(features.get("busy_poll").is_some_and(|found| found.status != FeatureStatus::InUse));
}

#[test]
fn trains_are_received_without_gro_or_long_ones_not_sent_without_zero_copy() {
    let of =
        |name: &str| ABSENCES.iter().find(|(absent, _)| *absent == name).expect("it is in the table").1();
    let (mut single, mut sender) = (of("receive_trains"), full());
    pass_datagrams(&mut sender, &mut single, 1);
    assert_eq!((single.counters().trains_in, single.counters().datagrams_in), (0, 5));
    assert_eq!(get_int(single.socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO).expect("an option"), 0);
    pass_datagrams(&mut of("send_trains"), &mut single, 2);
    let mut receiver = full();
    pass_datagrams(&mut sender, &mut receiver, 3);
    assert_eq!(receiver.counters().trains_in, 1, "trains come as one where nothing is missing");
    let mut copying = of("zero_copy_send");
    pass_long_train(&mut copying, &mut receiver, 4);
    assert_eq!((copying.counters().zero_copy_trains, copying.counters().trains_out), (0, 1));
}

#[test]
fn without_multishot_a_datagram_does_not_end_a_sleep_or_keeps_ending_it() {
    let of =
        |name: &str| ABSENCES.iter().find(|(absent, _)| *absent == name).expect("it is in the table").1();
    let mut ring = of("multishot_receive");
    ring.poll(|_, _| ()).expect("the kernel says that it cannot");
    assert!(!ring.receives_multishot);
    let (to, client) = (ring.local_addr().expect("address"), socket());
    for round in 0..50_u8 {
        client.send_to(&[round], to).expect("send");
        let mut got = None;
        while got.is_none() {
            assert_eq!(ring.wait(Some(PATIENCE), || true).expect("a sleep"), Wake::Datagram);
            ring.poll(|_, datagram| got = Some(datagram[0])).expect("poll");
        }
        assert_eq!(got, Some(round));
    }
    let mut wakes = 0;
    while ring.wait(Some(Duration::from_millis(1)), || true).expect("a sleep") == Wake::Datagram {
        wakes += 1;
        assert!(wakes <= 1, "there is nothing to be received");
        ring.poll(|_, _| ()).expect("poll");
    }
}
