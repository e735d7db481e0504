//! What goes wrong on the way of a packet, forced.

use std::time::Instant;

use wire::Ecn;

use super::tests::{PATIENCE, poll_until, ring, small, socket};
use super::zero_copy::ZERO_COPY_BYTES_MIN;
use super::*;

fn zero_copy(mode: ZeroCopySend) -> PacketRing {
    ring(PacketRingConfig { zero_copy_send: mode, ..small() }).0
}

/// Sends one train that is long enough to go without a copy, and takes it in at the other end.
pub(super) fn pass_long_train(sender: &mut PacketRing, receiver: &mut PacketRing, fill: u8) {
    const SEGMENT_BYTES: usize = 1_000;
    const BYTES: usize = ZERO_COPY_BYTES_MIN + 500;
    let to = receiver.local_addr().expect("address");
    let sent = sender.send_train(|slot| {
        slot[..BYTES].fill(fill);
        Some(Train { to, bytes: BYTES, segment_bytes: SEGMENT_BYTES, ecn: Ecn::Ect0 })
    });
    assert_eq!(sent.expect("send"), Sent::Queued);
    let mut got = 0;
    poll_until(receiver, |datagram| {
        assert!(datagram.iter().all(|byte| *byte == fill), "another train's bytes");
        got += datagram.len();
        got == BYTES
    });
    let give_up = Instant::now() + PATIENCE;
    while sender.send_slots_free() < 16 {
        assert!(Instant::now() < give_up, "the kernel keeps the slot: {:?}", sender.counters());
        sender.poll(|_, _| ()).expect("poll");
    }
}

fn receiver() -> PacketRing {
    ring(PacketRingConfig { receive_buffers: 16, ..PacketRingConfig::default() }).0
}

#[test]
fn a_train_sent_without_a_copy_is_torn_or_keeps_its_slot() {
    let (mut sender, mut receiver) = (zero_copy(ZeroCopySend::On), receiver());
    assert!(sender.zero_copy.is_supported(), "Linux 6.1 and later have it");
    for round in 0..40 {
        pass_long_train(&mut sender, &mut receiver, round);
    }
    let counters = sender.counters();
    assert_eq!((counters.zero_copy_trains, counters.zero_copy_refused), (40, 0), "{counters:?}");
    // Loopback hands the pages to a socket of the same machine, so the kernel copies them.
    assert_eq!((counters.zero_copy_copied, counters.trains_out), (40, 40), "{counters:?}");
    assert_eq!(sender.features().get("zero_copy_send").map(|found| found.status), Some(FeatureStatus::InUse));
}

#[test]
fn a_device_that_copies_anyway_is_asked_for_every_train() {
    let (mut sender, mut receiver) = (zero_copy(ZeroCopySend::Auto), receiver());
    for round in 0..60 {
        pass_long_train(&mut sender, &mut receiver, round);
    }
    let counters = sender.counters();
    assert_eq!((counters.zero_copy_trains, counters.zero_copy_copied, counters.trains_out), (1, 1, 60));
    let features = sender.features();
    let found = features.get("zero_copy_send").expect("a feature");
    assert!(found.status == FeatureStatus::Available && found.reason.contains("loopback"), "{found:?}");
}

#[test]
fn a_train_refused_without_a_copy_is_lost() {
    let (mut sender, mut receiver) = (zero_copy(ZeroCopySend::Off), receiver());
    let to = receiver.local_addr().expect("address");
    let slot = sender.send.take().expect("a slot");
    sender.send.buffer(slot)[..4].copy_from_slice(b"long");
    sender.send.message(slot, &Train { to, bytes: 4, segment_bytes: 4, ecn: Ecn::Ect0 });
    // The kernel's answer when the limit of locked memory is reached.
    sender.sends_waiting += 1;
    sender.end_zero_copy(slot, -libc::ENOMEM, 0);
    poll_until(&mut receiver, |datagram| datagram == b"long");
    let counters = sender.counters();
    assert_eq!((counters.zero_copy_refused, counters.datagrams_out, counters.send_errors), (1, 1, 0));
    assert_eq!(sender.send_slots_free(), 16);
}

#[test]
fn a_full_completion_queue_loses_an_answer() {
    const SENDS: u8 = 64;
    let config = PacketRingConfig { send_slots: u16::from(SENDS), ..small() };
    let mut ring = PacketRing::build(socket(), config, 16).map_err(|(_, error)| error).expect("ring");
    let client = socket();
    let to = client.local_addr().expect("address");
    for number in 0..SENDS {
        if ring.ring.submission().is_full() {
            // Submitted, and the answers left where they are.
            ring.enter().expect("enter");
        }
        let slot = ring.send.take().expect("a slot");
        ring.send.buffer(slot)[0] = number;
        let message = ring.send.message(slot, &Train { to, bytes: 1, segment_bytes: 1, ecn: Ecn::Ect0 });
        ring.queue_send(slot, message);
    }
    let address = ring.local_addr().expect("address");
    client.send_to(b"meanwhile", address).expect("send");
    poll_until(&mut ring, |datagram| datagram == b"meanwhile");
    let give_up = Instant::now() + PATIENCE;
    while ring.send_slots_free() < usize::from(SENDS) {
        assert!(Instant::now() < give_up, "answers are lost: {:?}", ring.counters());
        ring.poll(|_, _| ()).expect("poll");
    }
    let counters = ring.counters();
    assert!(counters.completions_overflowed > 0, "the queue never was full: {counters:?}");
    assert_eq!(counters.datagrams_out, u64::from(SENDS));
}

#[test]
fn a_refused_send_is_counted_without_its_reason() {
    let (mut ring, _) = ring(small());
    let everybody: SocketAddr = "255.255.255.255:9".parse().expect("address");
    ring.send(|_| Some((1, everybody))).expect("send");
    assert_eq!(
        (ring.counters().send_errors, ring.counters().send_forbidden),
        (1, 1),
        "{:?}",
        ring.counters()
    );
    let mut fail = |errno: i32| {
        let slot = ring.send.take().expect("a slot");
        ring.send.message(slot, &Train { to: everybody, bytes: 1, segment_bytes: 1, ecn: Ecn::Ect0 });
        ring.end_send(slot, -errno);
        *ring.counters()
    };
    assert_eq!(fail(libc::ENOBUFS).send_no_memory, 1);
    assert_eq!(fail(libc::EMSGSIZE).send_too_large, 1);
    let counters = fail(libc::ENETUNREACH);
    assert_eq!((counters.send_unreachable, counters.send_errors), (1, 4));
    assert_eq!(ring.send_slots_free(), 16);
}

#[test]
fn a_peer_that_is_gone_breaks_the_ring() {
    // A port that nobody has: its host answers each datagram with an ICMP message.
    let gone = socket().local_addr().expect("address");
    for is_awake in [false, true] {
        let own = socket();
        own.connect(gone).expect("connect");
        let mut ring = PacketRing::new(own, small()).expect("ring");
        for _ in 0..if is_awake { AWAKE_POLLS + 8 } else { 0 } {
            ring.poll(|_, _| ()).expect("poll");
        }
        for _ in 0..4 * RECEIVE_FAILURES_MAX {
            ring.send(|_| Some((1, gone))).expect("send");
            if is_awake {
                ring.poll(|_, _| ()).expect("an ICMP message ends the shard");
            } else {
                ring.wait(Some(Duration::from_micros(50)), || true).expect("an ICMP message ends the shard");
            }
        }
        let counters = ring.counters();
        assert!(counters.receive_errors + counters.send_unreachable > 0, "{counters:?}");
    }
}
