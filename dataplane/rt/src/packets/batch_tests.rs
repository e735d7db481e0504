//! Many sends with one system call.

use wire::Ecn;

use super::tests::{PATIENCE, ring, small, socket};
use super::*;

const DATAGRAMS: u8 = 100;

/// Three peers, and what has come to each.
struct Peers([UdpSocket; 3]);

impl Peers {
    fn new() -> Self {
        let peers = [socket(), socket(), socket()];
        for peer in &peers {
            peer.set_read_timeout(Some(PATIENCE)).expect("timeout");
        }
        Self(peers)
    }

    fn address(&self, number: u8) -> SocketAddr {
        self.0[usize::from(number) % 3].local_addr().expect("address")
    }

    /// Takes in the numbers of `sent`, each at its peer and in this order.
    fn expect(&self, sent: impl Iterator<Item = u8>) {
        let mut datagram = [0; 64];
        for number in sent {
            let bytes = self.0[usize::from(number) % 3].recv(&mut datagram).expect("a datagram");
            assert_eq!(
                (bytes, datagram[0]),
                (usize::from(number) % 7 + 1, number),
                "another's, or out of order"
            );
        }
    }
}

/// Writes datagram `number` to `to`.
fn fill(slot: &mut [u8], number: u8, to: SocketAddr) -> Train {
    let bytes = usize::from(number) % 7 + 1;
    slot[..bytes].fill(number);
    Train { to, bytes, segment_bytes: bytes, ecn: Ecn::Ect0 }
}

/// Sends all of them, as one turn would.
fn send_all(ring: &mut PacketRing, mut to: impl FnMut(u8) -> SocketAddr) {
    let mut numbers = 0..DATAGRAMS;
    let sent = ring.send_trains(|slot| numbers.next().map(|number| fill(slot, number, to(number))));
    assert_eq!(sent.expect("send"), Sent::Queued);
}

#[test]
fn a_batch_mixes_up_or_loses_datagrams() {
    let (mut ring, _) = ring(small());
    let peers = Peers::new();
    send_all(&mut ring, |number| peers.address(number));
    peers.expect(0..DATAGRAMS);
    let counters = ring.counters();
    assert_eq!((counters.datagrams_out, counters.send_errors), (u64::from(DATAGRAMS), 0), "{counters:?}");
    assert!(counters.batches_out > 0 && counters.syscalls < u64::from(DATAGRAMS) / 4, "{counters:?}");
    assert_eq!(ring.send_slots_free(), 16);
    assert_eq!(ring.send_trains(|_| None).expect("send"), Sent::Nothing);
    assert_eq!(ring.send_slots_free(), 16);
}

#[test]
fn one_that_is_refused_takes_its_batch_along() {
    let nowhere: SocketAddr = "[::1]:9".parse().expect("address");
    let peers = Peers::new();
    for every in [1, 2, 5, 16] {
        let (mut ring, _) = ring(small());
        let is_refused = |number: u8| number % every == every - 1;
        send_all(&mut ring, |number| if is_refused(number) { nowhere } else { peers.address(number) });
        peers.expect((0..DATAGRAMS).filter(|number| !is_refused(*number)));
        let refused = (0..DATAGRAMS).filter(|number| is_refused(*number)).count() as u64;
        let counters = ring.counters();
        assert_eq!(
            (counters.send_errors, counters.datagrams_out),
            (refused, u64::from(DATAGRAMS) - refused),
            "every {every}: {counters:?}"
        );
        assert_eq!(ring.send_slots_free(), 16);
    }
}

#[test]
fn a_batch_overtakes_what_waits_for_room() {
    let (mut ring, _) = ring(small());
    let peers = Peers::new();
    // Loopback always has room: the answer that says there is none is pretended.
    let slot = ring.take_slot().expect("ring").expect("a slot");
    let first = fill(ring.send.buffer(slot), 0, peers.address(0));
    ring.send.message(slot, &first);
    ring.settle_send(slot, -libc::EAGAIN).expect("queued");
    assert_eq!(ring.counters().sends_queued, 1);
    let mut numbers = 1..10;
    let sent =
        ring.send_trains(|slot| numbers.next().map(|number| fill(slot, number, peers.address(number))));
    assert_eq!(sent.expect("send"), Sent::Queued);
    assert_eq!((ring.counters().sends_queued, ring.counters().batches_out), (10, 0));
    ring.flush().expect("flush");
    peers.expect(0..10);
}

#[test]
fn a_long_train_is_overtaken_by_what_comes_behind_it() {
    const SEGMENT_BYTES: usize = 1_000;
    let (mut ring, _) = ring(small());
    let peer = socket();
    peer.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let to = peer.local_addr().expect("address");
    let lengths = [1, 2, 12 * SEGMENT_BYTES, 3, 20 * SEGMENT_BYTES, 4, 5];
    let mut left = lengths.iter();
    ring.send_trains(|_| {
        let &bytes = left.next()?;
        Some(Train { to, bytes, segment_bytes: SEGMENT_BYTES.min(bytes), ecn: Ecn::Ect0 })
    })
    .expect("send");
    let mut datagram = [0; 2 * SEGMENT_BYTES];
    for bytes in lengths {
        for _ in 0..bytes.div_ceil(SEGMENT_BYTES) {
            assert_eq!(peer.recv(&mut datagram).expect("a datagram"), bytes.min(SEGMENT_BYTES));
        }
    }
    assert_eq!(ring.counters().batches_out, 2, "two and two small ones: {:?}", ring.counters());
}

#[test]
fn without_sendmmsg_nothing_is_sent() {
    let (mut ring, _) = ring(small());
    assert!(ring.batch.is_allowed(), "every Linux has it");
    ring.batch.forbid();
    let peers = Peers::new();
    send_all(&mut ring, |number| peers.address(number));
    peers.expect(0..DATAGRAMS);
    assert_eq!((ring.counters().batches_out, ring.counters().syscalls), (0, u64::from(DATAGRAMS)));
    assert_eq!(ring.features().names(FeatureStatus::Absent), "send_batches");
}
