//! The packet ring: one raw io_uring for one UDP socket, polled by the shard that owns it.
//!
//! In: one multishot receive that fills buffers from a provided-buffer ring, so that a datagram ends the shard's sleep;
//! while the shard is awake all the time, plain system calls, which are the faster way. A datagram is handed to the
//! caller in place and its buffer goes back when the callback returns. Out: a pool of slots, sent at once; what the
//! socket has no room for waits on the ring. Both ways datagrams of one peer travel in trains where the kernel can.
//! The log: one durable write at a time on the same ring. Asleep: one enter that ends with a datagram, the doorbell,
//! a freed slot or the time.

mod alarm;
mod batch;
#[cfg(test)]
mod batch_tests;
mod busy_poll;
mod config;
mod counters;
mod direct;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod feature_tests;
mod features;
mod kernel;
mod log;
mod receive;
mod segments;
mod send;
mod setup;
mod sleep;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wake_tests;
mod zero_copy;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{IoUring, types};

use crate::address::{NAME_BYTES, Name};
use crate::{Doorbell, Result, RtError};
use alarm::Alarm;
use batch::Batch;
use busy_poll::BusyPoll;
pub use config::PacketRingConfig;
pub use counters::PacketCounters;
use direct::DirectReceive;
pub use features::{Feature, FeatureStatus, Features};
use kernel::is_of_the_path;
use log::LogWrites;
use receive::{ReceiveBuffers, Received};
pub use segments::{Arrival, Train};
use segments::{CONTROL_BYTES, can_send_trains, receive_trains};
use send::SendSlots;
pub(crate) use setup::{explain as explain_setup, probe};
pub use sleep::Wake;
use zero_copy::ZeroCopy;
pub use zero_copy::ZeroCopySend;

/// Receive operations that may fail in a row, lack of buffers aside, before the socket counts as broken.
const RECEIVE_FAILURES_MAX: u32 = 16;
/// Polls without a sleep between them after which the shard counts as awake all the time: more than fit into the
/// time that a shard looks for work before it goes to sleep, since each change costs two operations.
const AWAKE_POLLS: u32 = 1_024;
/// How long a dropped ring waits for the kernel to let go of its buffers.
const DROP_WAIT: Duration = Duration::from_millis(100);

/// A message of the socket is announced so many before it is handed over.
const UPCOMING_AHEAD: usize = 2;

const BUFFER_GROUP: u16 = 0;
const SOCKET: types::Fixed = types::Fixed(0);
const BELL: types::Fixed = types::Fixed(1);
/// The kind of an operation is in the upper half of its user data, the slot in the lower.
const KIND_RECEIVE: u64 = 1 << 32;
const KIND_BELL: u64 = 2 << 32;
const KIND_SEND: u64 = 3 << 32;
const KIND_LOG: u64 = 4 << 32;
const KIND_CANCEL: u64 = 5 << 32;
const KIND_ALARM: u64 = 6 << 32;
const KIND_ALARM_UPDATE: u64 = 7 << 32;
const KIND_SEND_ZERO_COPY: u64 = 8 << 32;
const KIND_LOG_SYNC: u64 = 9 << 32;
const KIND_MASK: u64 = !0 << 32;

/// Something that [`PacketRing::poll_ahead`] hands over.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// The beginning of what comes soon, others first: not every datagram is announced.
    Upcoming(&'a [u8]),
    /// A datagram, to be changed in place.
    Datagram(Arrival, &'a mut [u8]),
}

/// What one [`PacketRing::poll`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Datagrams handed to the callback.
    pub datagrams: usize,
    /// More are waiting for the next poll.
    pub more: bool,
}

/// What became of a [`PacketRing::send_train`] or [`PacketRing::send_trains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Sent, or on the ring until there is room; then the next flush submits it.
    Queued,
    /// The closure had nothing to send.
    Nothing,
    /// Every slot is in flight: the closure was not called; try after the next poll.
    Full,
}

/// A buffer that the kernel has filled and the caller has not seen.
struct Filled {
    buffer: u16,
    bytes: usize,
}

/// What a ring is made of.
struct Parts {
    made: setup::MadeRing,
    receive: ReceiveBuffers,
    send: SendSlots,
    direct: DirectReceive,
    bell: Doorbell,
    receives_trains: bool,
    zero_copy: ZeroCopy,
    busy_poll: BusyPoll,
}

/// One UDP socket on its own io_uring. Made, used and dropped on one thread (it is not `Send`).
///
/// A turn is: [`Self::poll`], any number of [`Self::send_train`] or [`Self::send_trains`], [`Self::flush`]; and [`Self::wait`] when there is
/// nothing to do. While a log write is in flight each poll offers the core to others once, because the kernel ends
/// the write on a worker thread of this core.
pub struct PacketRing {
    ring: IoUring,
    // Behind a box because the kernel reads it at every arming.
    receive_header: Box<libc::msghdr>,
    // Taken out (and leaked) only by a drop that the kernel does not let finish.
    receive: std::mem::ManuallyDrop<ReceiveBuffers>,
    send: std::mem::ManuallyDrop<SendSlots>,
    log: std::mem::ManuallyDrop<LogWrites>,
    filled: VecDeque<Filled>,
    direct: DirectReceive,
    alarm: Alarm,
    bell: Doorbell,
    socket: UdpSocket,
    config: PacketRingConfig,
    counters: PacketCounters,
    receive_failures: u32,
    receive_armed: bool,
    receive_cancelled: bool,
    /// Polls since the last sleep.
    polls_awake: u32,
    sends_trains: bool,
    /// Gathered by one call, and empty when it returns.
    batch: Batch,
    receives_trains: bool,
    /// Whether the kernel receives into buffers by itself; otherwise it is asked, and only says that there is something.
    receives_multishot: bool,
    is_readable: bool,
    /// Sends on the ring that the kernel has not answered yet.
    sends_waiting: usize,
    zero_copy: ZeroCopy,
    busy_poll: BusyPoll,
    /// Receive buffers asked for.
    asked_buffers: u16,
    bell_armed: bool,
    bell_heard: bool,
    slots_freed: bool,
    deferred: bool,
}

impl PacketRing {
    /// Takes over `socket`. Buffers are halved, down to 16, while the kernel has no memory for them.
    ///
    /// # Errors
    /// [`RtError::IoUringDisabled`], [`RtError::RingMemory`], [`RtError::RingConfig`], [`RtError::Ring`].
    pub fn new(socket: UdpSocket, config: PacketRingConfig) -> Result<Self> {
        config.check()?;
        let asked_buffers = config.receive_buffers;
        let mut config = config;
        let mut socket = socket;
        loop {
            match Self::build(socket, config, config.completions()) {
                Ok(mut ring) => {
                    ring.asked_buffers = asked_buffers;
                    return Ok(ring);
                }
                Err((back, RtError::RingMemory { entries, source })) => match config.halved() {
                    Some(half) => (socket, config) = (back, half),
                    None => return Err(RtError::RingMemory { entries, source }),
                },
                Err((_, error)) => return Err(error),
            }
        }
    }

    fn build(
        socket: UdpSocket,
        config: PacketRingConfig,
        completions: u32,
    ) -> std::result::Result<Self, (UdpSocket, RtError)> {
        let made = setup::make(completions);
        match made.and_then(|made| Self::parts(made, &socket, config, completions)) {
            Ok(parts) => Ok(Self::assemble(parts, socket, config)),
            Err(error) => Err((socket, error)),
        }
    }

    fn parts(
        made: setup::MadeRing,
        socket: &UdpSocket,
        config: PacketRingConfig,
        entries: u32,
    ) -> Result<Parts> {
        let explain = |source| setup::explain(source, entries);
        let receive =
            ReceiveBuffers::map(config.receive_buffers, config.receive_buffer_bytes).map_err(explain)?;
        let send = SendSlots::map(config.send_slots, config.send_slot_bytes, socket).map_err(explain)?;
        let direct = DirectReceive::map().map_err(explain)?;
        let bell = Doorbell::new().map_err(|source| RtError::Ring { what: "eventfd", source })?;
        let submitter = made.ring.submitter();
        submitter.register_files(&[socket.as_raw_fd(), bell.raw_fd()]).map_err(explain)?;
        let (address, count) = receive.registration();
        // SAFETY: the ring of `count` entries and the buffers they name are mapped until after the io_uring is
        // gone: `PacketRing` drops them last, or leaks them.
        unsafe { submitter.register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }
            .map_err(explain)?;
        // A kernel without it hands over datagrams one by one.
        let receives_trains = receive_trains(socket.as_raw_fd()).is_ok();
        let zero_copy = ZeroCopy::new(config.zero_copy_send, zero_copy::is_in_kernel(&made.ring));
        let busy_poll = BusyPoll::register(&made.ring, socket.as_raw_fd(), config.busy_poll_us);
        Ok(Parts { made, receive, send, direct, bell, receives_trains, zero_copy, busy_poll })
    }

    fn assemble(parts: Parts, socket: UdpSocket, config: PacketRingConfig) -> Self {
        let Parts { made, receive, send, direct, bell, receives_trains, zero_copy, busy_poll } = parts;
        // SAFETY: all-zero is a valid `msghdr`; a multishot receive reads only the two lengths.
        let mut receive_header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        receive_header.msg_namelen = NAME_BYTES as u32;
        receive_header.msg_controllen = CONTROL_BYTES;
        const _: () = assert!(size_of::<Name>() == NAME_BYTES);
        let mut ring = Self {
            ring: made.ring,
            receive_header,
            receive: std::mem::ManuallyDrop::new(receive),
            send: std::mem::ManuallyDrop::new(send),
            log: std::mem::ManuallyDrop::default(),
            filled: VecDeque::with_capacity(usize::from(config.receive_buffers)),
            direct,
            alarm: Alarm::new(),
            bell,
            sends_trains: can_send_trains(socket.as_raw_fd()),
            batch: Batch::new(socket.as_raw_fd(), config.send_slots),
            receives_trains,
            receives_multishot: true,
            is_readable: false,
            sends_waiting: 0,
            zero_copy,
            busy_poll,
            asked_buffers: config.receive_buffers,
            socket,
            config,
            counters: PacketCounters::default(),
            receive_failures: 0,
            receive_armed: false,
            receive_cancelled: false,
            polls_awake: 0,
            bell_armed: false,
            bell_heard: false,
            slots_freed: false,
            deferred: made.deferred,
        };
        ring.arm();
        ring.counters.receive_rearmed = 0;
        ring
    }

    /// What wakes this ring from another thread.
    #[must_use]
    pub fn doorbell(&self) -> Doorbell {
        self.bell.clone()
    }

    /// The socket's own address.
    ///
    /// # Errors
    /// The kernel's, which has none for a bound socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> &PacketCounters {
        &self.counters
    }

    /// The sizes in force, which may be smaller than asked for.
    #[must_use]
    pub fn config(&self) -> &PacketRingConfig {
        &self.config
    }

    /// Whether the kernel posts completions only when asked (Linux 6.1 and later), which is the fast way.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Send slots that are free now.
    #[must_use]
    pub fn send_slots_free(&self) -> usize {
        self.send.free()
    }

    /// Hands the datagrams that have come to `on_datagram`, each with its sender and ECN bits, to be changed in place; the
    /// buffer goes back to the kernel when the callback returns. Submits what is queued. Between sleeps no system
    /// call is made when nothing has come and nothing is queued.
    ///
    /// # Errors
    /// [`RtError::Ring`] when the ring or the socket is broken.
    pub fn poll(&mut self, mut on_datagram: impl FnMut(Arrival, &mut [u8])) -> Result<Polled> {
        self.poll_ahead(|incoming| {
            if let Incoming::Datagram(arrival, datagram) = incoming {
                on_datagram(arrival, datagram);
            }
        })
    }

    /// The same, for who can make ready for a datagram before it has its turn.
    ///
    /// # Errors
    /// As of [`Self::poll`].
    pub fn poll_ahead(&mut self, mut on_incoming: impl FnMut(Incoming<'_>)) -> Result<Polled> {
        if self.log.is_in_flight() {
            // The kernel ends a synced write on a worker thread of this core. A shard that never lets go of the
            // core keeps it waiting until the scheduler's next tick (4 ms).
            std::thread::yield_now();
        }
        if self.kernel_has_work() {
            self.enter()?;
        }
        self.reap()?;
        let mut polled = Polled::default();
        let had_filled = !self.filled.is_empty();
        while polled.datagrams < self.config.poll_datagrams_max
            && let Some(filled) = self.filled.pop_front()
        {
            let received = self.receive.read(filled.buffer, filled.bytes);
            hand_over(received, &mut self.counters, &mut polled, &mut on_incoming);
            self.receive.give_back(filled.buffer);
        }
        if had_filled {
            self.receive.publish();
        }
        polled.more = !self.filled.is_empty();
        self.polls_awake = self.polls_awake.saturating_add(1);
        self.is_readable = false;
        let is_awake = self.is_awake();
        if is_awake && self.receive_armed {
            self.disarm();
        } else if (is_awake || !self.receives_multishot) && !polled.more {
            self.poll_directly(&mut polled, &mut on_incoming)?;
        }
        if !is_awake {
            self.arm();
        }
        Ok(polled)
    }

    /// Asks the socket itself.
    fn poll_directly(
        &mut self,
        polled: &mut Polled,
        on_incoming: &mut impl FnMut(Incoming<'_>),
    ) -> Result<()> {
        self.counters.syscalls += 1;
        match self.direct.receive(self.socket.as_raw_fd()) {
            Ok((count, more)) => {
                self.receive_failures = 0;
                for at in 0..count {
                    if at + UPCOMING_AHEAD < count {
                        on_incoming(Incoming::Upcoming(self.direct.peek(at + UPCOMING_AHEAD)));
                    }
                    hand_over(self.direct.read(at), &mut self.counters, polled, on_incoming);
                }
                polled.more = more;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.receive_failures = 0;
            }
            Err(source) => {
                self.counters.receive_errors += 1;
                self.receive_failures += u32::from(!is_of_the_path(source.raw_os_error()));
                if self.receive_failures > RECEIVE_FAILURES_MAX {
                    return Err(RtError::Ring { what: "recvmmsg", source });
                }
            }
        }
        Ok(())
    }

    /// Whether the shard is awake all the time.
    const fn is_awake(&self) -> bool {
        self.polls_awake >= AWAKE_POLLS
    }

    /// Submits everything queued, in one system call.
    ///
    /// # Errors
    /// [`RtError::Ring`] when the ring is broken.
    pub fn flush(&mut self) -> Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.enter()?;
        self.reap()
    }
}

/// Gives what was received to the caller, datagram by datagram.
fn hand_over(
    received: Received<'_>,
    counters: &mut PacketCounters,
    polled: &mut Polled,
    on_incoming: &mut impl FnMut(Incoming<'_>),
) {
    match received {
        Received::Datagrams { arrival, payload, segment_bytes } => {
            counters.bytes_in += payload.len() as u64;
            counters.trains_in += u64::from(payload.len() > segment_bytes);
            for datagram in payload.chunks_mut(segment_bytes) {
                polled.datagrams += 1;
                counters.datagrams_in += 1;
                on_incoming(Incoming::Datagram(arrival, datagram));
            }
        }
        Received::Truncated => counters.truncated += 1,
        Received::Empty => counters.empty += 1,
    }
}
