//! The ring against real sockets on loopback.

use std::collections::{BTreeSet, HashSet};

use std::time::Instant;

use wire::Ecn;

use super::*;

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("socket")
}

pub(super) fn small() -> PacketRingConfig {
    let receive_buffer_bytes = 2_048;
    PacketRingConfig {
        receive_buffers: 16,
        receive_buffer_bytes,
        send_slots: 16,
        ..PacketRingConfig::default()
    }
}

pub(super) fn ring(config: PacketRingConfig) -> (PacketRing, SocketAddr) {
    let ring = PacketRing::new(socket(), config).expect("ring");
    let address = ring.local_addr().expect("address");
    (ring, address)
}

/// Polls until `enough` says so.
pub(super) fn poll_until(ring: &mut PacketRing, mut on_datagram: impl FnMut(&mut [u8]) -> bool) {
    let mut done = false;
    let give_up = Instant::now() + PATIENCE;
    while !done {
        assert!(Instant::now() < give_up, "waited too long; {:?}", ring.counters());
        ring.wait(Some(Duration::from_millis(100)), || true).expect("wait");
        ring.poll(|_, payload| done |= on_datagram(payload)).expect("poll");
    }
}

#[test]
fn an_echo_comes_back_from_the_address_that_was_asked() {
    let (mut ring, address) = ring(small());
    let client = socket();
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    client.send_to(b"ping", address).expect("send");
    let mut request = None;
    let give_up = Instant::now() + PATIENCE;
    while request.is_none() && Instant::now() < give_up {
        ring.poll(|arrival, payload| {
            payload.reverse();
            request = Some((arrival.from, payload.to_vec()));
        })
        .expect("poll");
    }
    let (from, payload) = request.expect("the request");
    assert_eq!((from, payload.as_slice()), (client.local_addr().expect("address"), &b"gnip"[..]));
    let sent = ring.send(|slot| {
        slot[..payload.len()].copy_from_slice(&payload);
        Some((payload.len(), from))
    });
    assert_eq!(sent.expect("send"), Sent::Queued);
    ring.flush().expect("flush");
    let mut answer = [0u8; 16];
    assert_eq!(client.recv_from(&mut answer).expect("answer"), (4, address));
    assert_eq!(&answer[..4], b"gnip");
    assert_eq!((ring.counters().datagrams_out, ring.counters().bytes_out), (1, 4));
}

#[test]
fn more_datagrams_than_buffers_are_all_received_once() {
    const DATAGRAMS: u32 = 200;
    let (mut ring, address) = ring(small());
    let client = socket();
    for number in 0..DATAGRAMS {
        client.send_to(&number.to_be_bytes(), address).expect("send");
    }
    let mut seen = BTreeSet::new();
    poll_until(&mut ring, |payload| {
        let number = u32::from_be_bytes((&*payload).try_into().expect("four bytes"));
        assert!(seen.insert(number), "datagram {number} came twice");
        seen.len() == DATAGRAMS as usize
    });
    assert!(ring.counters().receive_no_buffer > 0, "the buffers never ran out: {:?}", ring.counters());
    assert!(ring.counters().receive_rearmed > 0);
    assert_eq!(ring.counters().datagrams_in, u64::from(DATAGRAMS));
}

#[test]
fn an_empty_datagram_does_not_end_reception() {
    let (mut ring, address) = ring(small());
    let client = socket();
    for _ in 0..40 {
        client.send_to(&[], address).expect("send");
    }
    client.send_to(b"after", address).expect("send");
    poll_until(&mut ring, |payload| payload == b"after");
    assert_eq!(ring.counters().empty, 40);
}

#[test]
fn a_datagram_longer_than_a_buffer_is_counted_and_dropped() {
    let (mut ring, address) = ring(small());
    let client = socket();
    client.send_to(&[7; 4000], address).expect("send");
    client.send_to(b"whole", address).expect("send");
    poll_until(&mut ring, |payload| {
        assert_eq!(payload, b"whole");
        true
    });
    assert_eq!(ring.counters().truncated, 1);
}

#[test]
fn sends_behind_one_that_waits_for_room_overtake_it_or_are_lost() {
    let (mut ring, _) = ring(small());
    let client = socket();
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let to = client.local_addr().expect("address");
    // Loopback always has room: one that waits is pretended.
    let waiting = ring.send.take().expect("a slot");
    ring.sends_waiting += 1;
    let mut queued = 0u8;
    let give_up = Instant::now() + PATIENCE;
    while queued < 100 {
        assert!(Instant::now() < give_up);
        let sent = ring.send(|slot| {
            slot[0] = queued;
            Some((1, to))
        });
        match sent.expect("send") {
            Sent::Queued => queued += 1,
            Sent::Full => ring.flush().expect("flush"),
            Sent::Nothing => unreachable!("the closure always fills"),
        }
    }
    ring.flush().expect("flush");
    ring.send.release(waiting);
    ring.sends_waiting -= 1;
    assert!(ring.counters().send_slots_exhausted > 0 && ring.counters().sends_queued > 0);
    let mut received = [0u8; 8];
    for number in 0..100 {
        assert_eq!(client.recv_from(&mut received).expect("datagram").0, 1);
        assert_eq!(received[0], number, "loopback keeps the order");
    }
}

/// Sends one train and returns what comes out at the other end, datagram by datagram.
fn through(receiver: &mut PacketRing, to: SocketAddr, bytes: usize, segment_bytes: usize) -> Vec<Vec<u8>> {
    let (mut sender, _) = ring(small());
    let sent = sender.send_train(|slot| {
        for (at, byte) in slot[..bytes].iter_mut().enumerate() {
            *byte = (at / segment_bytes) as u8;
        }
        Some(Train { to, bytes, segment_bytes, ecn: Ecn::Ect0 })
    });
    assert_eq!(sent.expect("send"), Sent::Queued);
    assert_eq!(sender.counters().trains_refused, 0);
    assert_eq!(sender.counters().datagrams_out as usize, bytes.div_ceil(segment_bytes));
    let mut got = Vec::new();
    poll_until(receiver, |datagram| {
        got.push(datagram.to_vec());
        got.iter().map(Vec::len).sum::<usize>() == bytes
    });
    got
}

#[test]
fn a_train_comes_apart_at_the_wrong_places() {
    let big = PacketRingConfig { receive_buffers: 16, ..PacketRingConfig::default() };
    for awake in [false, true] {
        let (mut receiver, to) = ring(big);
        for _ in 0..if awake { AWAKE_POLLS + 8 } else { 0 } {
            receiver.poll(|_, _| ()).expect("poll");
        }
        for (bytes, segment_bytes) in
            [(3_000, 1_000), (3_001, 1_000), (64_999, 1_452), (65_000, 1_200), (64, 1), (7, 9)]
        {
            let got = through(&mut receiver, to, bytes, segment_bytes);
            assert_eq!(got.len(), bytes.div_ceil(segment_bytes), "{bytes} of {segment_bytes}");
            for (number, datagram) in got.iter().enumerate() {
                let is_last = number + 1 == got.len();
                let length = if is_last { bytes - number * segment_bytes } else { segment_bytes };
                assert_eq!(*datagram, vec![number as u8; length]);
            }
        }
        assert!(receiver.counters().trains_in >= 4, "{:?}", receiver.counters());
    }
}

#[test]
fn the_bits_of_congestion_are_lost_or_mixed_up() {
    let bind = |local| PacketRing::new(UdpSocket::bind(local).expect("socket"), small()).expect("ring");
    for (local, far, to) in [
        ("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "[::1]:0", "::1"),
        ("127.0.0.1:0", "[::]:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.1:0", "::ffff:127.0.0.1"),
    ] {
        let (mut sender, mut receiver) = (bind(local), bind(far));
        let port = receiver.local_addr().expect("address").port();
        let to = SocketAddr::new(to.parse().expect("address"), port);
        for awake in [false, true] {
            for _ in 0..if awake { AWAKE_POLLS + 8 } else { 0 } {
                receiver.poll(|_, _| ()).expect("poll");
            }
            for ecn in [Ecn::Ect0, Ecn::NotEct, Ecn::Ce, Ecn::Ect1, Ecn::Ect0] {
                for bytes in [100, 350] {
                    sender.send_train(|_| Some(Train { to, bytes, segment_bytes: 100, ecn })).expect("send");
                    assert_eq!(
                        bits_received(&mut receiver, bytes),
                        [ecn].into(),
                        "{bytes} to {to} from {local}"
                    );
                }
            }
        }
    }
}

/// The ECN bits of so many bytes of datagrams.
fn bits_received(receiver: &mut PacketRing, bytes: usize) -> HashSet<Ecn> {
    let (mut bits, mut got, give_up) = (HashSet::new(), 0, Instant::now() + PATIENCE);
    while got < bytes && Instant::now() < give_up {
        if !receiver.is_awake() {
            receiver.wait(Some(Duration::from_millis(100)), || true).expect("wait");
        }
        let polled = receiver.poll(|arrival, datagram| {
            bits.insert(arrival.ecn);
            got += datagram.len();
        });
        polled.expect("poll");
    }
    bits
}

#[test]
fn a_kernel_that_refuses_trains_is_asked_for_ever() {
    let (mut ring, to) = ring(small());
    assert_eq!(ring.train_datagrams_max(), 64);
    // The kernel cuts nothing that it may not sum up.
    crate::socket::set_int(ring.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("option");
    ring.send_train(|_| Some(Train { to, bytes: 2_400, segment_bytes: 1_200, ecn: Ecn::Ect0 }))
        .expect("send");
    assert_eq!((ring.train_datagrams_max(), ring.counters().trains_refused), (1, 1));
    assert_eq!((ring.counters().send_errors, ring.send_slots_free()), (2, 16));
    ring.send_train(|_| Some(Train { to, bytes: 1_200, segment_bytes: 1_200, ecn: Ecn::Ect0 }))
        .expect("send");
    assert_eq!(ring.counters().datagrams_out, 1);
}

#[test]
fn a_shard_awake_all_the_time_misses_what_it_was_asleep_for() {
    let (mut receiver, address) = ring(small());
    let client = socket();
    for round in 0..4 {
        // Awake: the receive operation ends, and the socket is asked.
        for _ in 0..AWAKE_POLLS + 8 {
            receiver.poll(|_, _| ()).expect("poll");
        }
        let calls = receiver.counters().syscalls;
        receiver.poll(|_, _| ()).expect("poll");
        assert_eq!(receiver.counters().syscalls, calls + 1, "round {round}");
        client.send_to(b"awake", address).expect("send");
        let mut got = Vec::new();
        receiver.poll(|_, datagram| got.push(datagram.to_vec())).expect("poll");
        assert_eq!(got, [b"awake"]);
        // Asleep: a datagram that came before, and one that comes meanwhile.
        client.send_to(b"asleep", address).expect("send");
        poll_until(&mut receiver, |datagram| datagram == b"asleep");
    }
}

#[test]
fn an_unsendable_datagram_frees_its_slot() {
    let (mut ring, _) = ring(small());
    let nowhere: SocketAddr = "[::1]:9".parse().expect("address");
    for _ in 0..64 {
        ring.send(|_| Some((1, nowhere))).expect("send");
        ring.flush().expect("flush");
    }
    assert_eq!(ring.counters().send_errors, 64);
    assert_eq!(ring.send_slots_free(), 16);
    assert_eq!(ring.send(|_| None).expect("send"), Sent::Nothing);
    assert_eq!(ring.send_slots_free(), 16);
}

#[test]
fn an_idle_wait_lasts_as_long_as_it_was_told() {
    let (mut ring, _) = ring(small());
    let start = Instant::now();
    assert_eq!(ring.wait(Some(Duration::from_millis(20)), || true).expect("wait"), Wake::Timeout);
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(ring.wait(None, || false).expect("wait"), Wake::Busy);
}

/// Each sleep that a datagram ends leaves its timer behind for the next.
#[test]
fn a_sleep_ends_by_the_timer_of_another() {
    let (mut ring, address) = ring(small());
    let client = socket();
    let millis = Duration::from_millis;
    let mut sleep = |left_behind: Duration, slept: Duration| {
        client.send_to(b"wake", address).expect("send");
        let mut datagrams = 0;
        while datagrams == 0 {
            ring.wait(Some(left_behind), || true).expect("wait");
            datagrams = ring.poll(|_, _| ()).expect("poll").datagrams;
        }
        let start = Instant::now();
        assert_eq!(ring.wait(Some(slept), || true).expect("wait"), Wake::Timeout);
        assert!((slept..PATIENCE).contains(&start.elapsed()), "{:?} of {slept:?}", start.elapsed());
    };
    // One that is late must be brought forward, one that is early must not count, and both again.
    for _ in 0..8 {
        sleep(PATIENCE * 2, millis(5));
        sleep(millis(2), millis(30));
        sleep(Duration::from_micros(1), millis(1));
    }
}

#[test]
fn looking_for_work_before_a_sleep_makes_system_calls() {
    let (mut ring, _) = ring(small());
    ring.poll(|_, _| ()).expect("poll");
    let before = ring.counters().syscalls;
    for _ in 0..1000 {
        ring.poll(|_, _| ()).expect("poll");
        ring.flush().expect("flush");
    }
    assert_eq!(ring.counters().syscalls, before);
}

#[test]
fn a_ring_dropped_with_operations_armed_leaves_the_address_free() {
    for _ in 0..20 {
        let (mut ring, address) = ring(small());
        ring.poll(|_, _| ()).expect("poll");
        ring.send(|_| Some((1, address))).expect("send");
        drop(ring);
        let again = UdpSocket::bind(address);
        assert!(again.is_ok(), "the dropped ring still holds the socket: {again:?}");
    }
}

#[test]
fn a_size_that_cannot_work_is_refused_with_the_right_one() {
    let config = PacketRingConfig { receive_buffers: 100, ..small() };
    let error = PacketRing::new(socket(), config).err().expect("100 buffers");
    assert!(error.to_string().contains("power of two"), "{error}");
}

/// A seccomp program for this thread alone: `io_uring_setup` answers EPERM, as in a container's default profile.
fn forbid_io_uring() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load_number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let is_setup = libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k: libc::SYS_io_uring_setup as u32,
    };
    let refuse = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let allow = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    let mut filter = [load_number, is_setup, refuse, allow];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain numbers; the thread can gain no privileges from here on.
    let no_new = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(no_new, 0);
    // SAFETY: `program` and the filter it points to live through the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_kernel_without_io_uring_is_an_error_without_a_remedy() {
    let errors = std::thread::spawn(|| {
        // A shard's thread is made by this one and may do no more than it.
        forbid_io_uring();
        let shard = crate::spawn_shard(None, "shard", || async {});
        [PacketRing::new(socket(), small()).err(), shard.err()]
    });
    for error in errors.join().expect("the thread") {
        let error = error.expect("no ring can be made");
        assert!(matches!(error, RtError::IoUringDisabled { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("io_uring_disabled") && text.contains("seccomp"), "{text}");
    }
}
