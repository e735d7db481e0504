//! The packet ring: one raw io_uring for one UDP socket, polled by the shard that owns it.
//!
//! In: one multishot receive that fills buffers from a provided-buffer ring, so that a datagram ends the shard's sleep;
//! while the shard is awake all the time, plain system calls, which are the faster way. A datagram is handed to the
//! caller in place and its buffer goes back when the callback returns. Out: a pool of slots, sent at once; what the
//! socket has no room for waits on the ring. Both ways datagrams of one peer travel in trains where the kernel can.
//! The log: one durable write at a time on the same ring. Asleep: one enter that ends with a datagram, the doorbell,
//! a freed slot or the time.

mod alarm;
mod config;
mod counters;
mod direct;
mod log;
mod receive;
mod segments;
mod send;
mod setup;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::address::{NAME_BYTES, Name};
use crate::{Doorbell, Result, RtError};
use alarm::Alarm;
pub use config::PacketRingConfig;
pub use counters::PacketCounters;
use direct::DirectReceive;
use log::LogWrites;
use receive::{ReceiveBuffers, Received};
pub use segments::{Arrival, Train};
use segments::{CONTROL_BYTES, can_send_trains, receive_trains};
use send::SendSlots;
pub(crate) use setup::{explain as explain_setup, probe};

/// Receive operations that may fail in a row, lack of buffers aside, before the socket counts as broken.
const RECEIVE_FAILURES_MAX: u32 = 16;
/// Polls without a sleep between them after which the shard counts as awake all the time: more than fit into the
/// time that a shard looks for work before it goes to sleep, since each change costs two operations.
const AWAKE_POLLS: u32 = 1_024;
/// How long a dropped ring waits for the kernel to let go of its buffers.
const DROP_WAIT: Duration = Duration::from_millis(100);

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
const KIND_MASK: u64 = !0 << 32;

/// What one [`PacketRing::poll`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Datagrams handed to the callback.
    pub datagrams: usize,
    /// More are waiting for the next poll.
    pub more: bool,
}

/// What became of a [`PacketRing::send_train`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Sent, or on the ring until there is room; then the next flush submits it.
    Queued,
    /// The closure had nothing to send.
    Nothing,
    /// Every slot is in flight: the closure was not called; try after the next poll.
    Full,
}

/// Why a [`PacketRing::wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A datagram waits for [`PacketRing::poll`].
    Datagram,
    /// The doorbell rang: look at the queues.
    Doorbell,
    /// Send slots came free.
    Sent,
    /// The log write ended: [`PacketRing::poll_log_write`].
    Log,
    /// The time is over.
    Timeout,
    /// It did not sleep: `still_idle` said that there is work.
    Busy,
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
}

/// One UDP socket on its own io_uring. Made, used and dropped on one thread (it is not `Send`).
///
/// A turn is: [`Self::poll`], any number of [`Self::send_train`], [`Self::flush`]; and [`Self::wait`] when there is
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
        let mut config = config;
        let mut socket = socket;
        loop {
            match Self::build(socket, config) {
                Ok(ring) => return Ok(ring),
                Err((back, RtError::RingMemory { entries, source })) => match config.halved() {
                    Some(half) => (socket, config) = (back, half),
                    None => return Err(RtError::RingMemory { entries, source }),
                },
                Err((_, error)) => return Err(error),
            }
        }
    }

    fn build(socket: UdpSocket, config: PacketRingConfig) -> std::result::Result<Self, (UdpSocket, RtError)> {
        match Self::parts(&socket, config) {
            Ok(parts) => Ok(Self::assemble(parts, socket, config)),
            Err(error) => Err((socket, error)),
        }
    }

    fn parts(socket: &UdpSocket, config: PacketRingConfig) -> Result<Parts> {
        let entries = config.completions();
        let explain = |source| setup::explain(source, entries);
        let made = setup::make(entries)?;
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
        let _ = receive_trains(socket.as_raw_fd());
        Ok(Parts { made, receive, send, direct, bell })
    }

    fn assemble(parts: Parts, socket: UdpSocket, config: PacketRingConfig) -> Self {
        let Parts { made, receive, send, direct, bell } = parts;
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
            hand_over(received, &mut self.counters, &mut polled, &mut on_datagram);
            self.receive.give_back(filled.buffer);
        }
        if had_filled {
            self.receive.publish();
        }
        polled.more = !self.filled.is_empty();
        self.polls_awake = self.polls_awake.saturating_add(1);
        if !self.is_awake() {
            self.arm();
        } else if self.receive_armed {
            self.disarm();
        } else if !polled.more {
            self.poll_directly(&mut polled, &mut on_datagram)?;
        }
        Ok(polled)
    }

    /// Asks the socket itself.
    fn poll_directly(
        &mut self,
        polled: &mut Polled,
        on_datagram: &mut impl FnMut(Arrival, &mut [u8]),
    ) -> Result<()> {
        self.counters.syscalls += 1;
        match self.direct.receive(self.socket.as_raw_fd()) {
            Ok((count, more)) => {
                self.receive_failures = 0;
                for at in 0..count {
                    hand_over(self.direct.read(at), &mut self.counters, polled, on_datagram);
                }
                polled.more = more;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(source) => {
                self.counters.receive_errors += 1;
                self.receive_failures += 1;
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

    /// Sleeps until a datagram comes, the doorbell rings, the log write ends, a send slot comes free or `until` has passed (`None`:
    /// no limit). Everything queued is submitted first.
    ///
    /// `still_idle` is called after other threads have been told to ring: it must look at every queue that they
    /// fill, and say false if there is anything in one. Then no wake-up can be lost.
    ///
    /// # Errors
    /// [`RtError::Ring`] when the ring or the socket is broken.
    pub fn wait(&mut self, until: Option<Duration>, still_idle: impl FnOnce() -> bool) -> Result<Wake> {
        if self.filled.is_empty() {
            self.bell_heard = false;
            self.bell.park();
            let wake = if still_idle() { self.sleep(until) } else { Ok(Wake::Busy) };
            self.bell.unpark();
            wake
        } else {
            Ok(Wake::Datagram)
        }
    }

    fn sleep(&mut self, until: Option<Duration>) -> Result<Wake> {
        let deadline = until.map(|until| Instant::now() + until);
        self.polls_awake = 0;
        self.arm();
        if self.kernel_has_work() {
            self.enter()?;
        }
        self.reap()?;
        self.slots_freed = false;
        loop {
            if !self.filled.is_empty() {
                return Ok(Wake::Datagram);
            }
            if self.bell_heard {
                return Ok(Wake::Doorbell);
            }
            if self.log.has_ended() {
                return Ok(Wake::Log);
            }
            if self.slots_freed {
                return Ok(Wake::Sent);
            }
            self.arm();
            let mut until = None;
            if let Some(deadline) = deadline {
                let now = Instant::now();
                let left = deadline.saturating_duration_since(now);
                if left.is_zero() {
                    return Ok(Wake::Timeout);
                }
                until = (!self.set_alarm(now, left)).then_some(left);
            }
            self.counters.waits += 1;
            self.enter_waiting(until)?;
            self.reap()?;
        }
    }

    /// Whether an enter would get anything done.
    fn kernel_has_work(&mut self) -> bool {
        let submissions = self.ring.submission();
        !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow()
    }

    /// Submits, and has the kernel post what it has: with deferred task work it does so only when asked.
    fn enter(&mut self) -> Result<()> {
        let queued = self.ring.submission().len() as u32;
        self.counters.syscalls += 1;
        let flags = io_uring::EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is passed, and each queued entry was valid when it was pushed and still is.
        let entered = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, flags, None) };
        tolerate(entered)
    }

    fn enter_waiting(&mut self, left: Option<Duration>) -> Result<()> {
        self.counters.syscalls += 1;
        let entered = match left {
            None => self.ring.submitter().submit_and_wait(1),
            Some(left) => {
                let timespec = types::Timespec::from(left);
                let args = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        tolerate(entered)
    }

    /// Takes every completion off the ring.
    fn reap(&mut self) -> Result<()> {
        loop {
            let Some(completion) = self.ring.completion().next() else { break };
            let (data, result, flags) = (completion.user_data(), completion.result(), completion.flags());
            let Self { receive, log, filled, alarm, counters, .. } = self;
            match data & KIND_MASK {
                KIND_RECEIVE => {
                    self.receive_armed &= cqueue::more(flags);
                    if let Some(buffer) = cqueue::buffer_select(flags) {
                        receive.taken();
                        filled.push_back(Filled { buffer, bytes: result.max(0) as usize });
                    }
                    match result {
                        0.. => self.receive_failures = 0,
                        error if error == -libc::ENOBUFS => counters.receive_no_buffer += 1,
                        error if error == -libc::ECANCELED => {}
                        _ => {
                            counters.receive_errors += 1;
                            self.receive_failures += 1;
                        }
                    }
                }
                KIND_SEND => {
                    self.end_send(data as u16, result);
                    self.slots_freed = true;
                }
                KIND_LOG => log.handle_completion(result),
                KIND_ALARM => alarm.handle_completion(),
                KIND_CANCEL | KIND_ALARM_UPDATE => {}
                _ => {
                    self.bell_armed &= cqueue::more(flags);
                    self.bell_heard = true;
                    counters.doorbells += 1;
                }
            }
        }
        if self.receive_failures > RECEIVE_FAILURES_MAX {
            return Err(RtError::Ring {
                what: "multishot receive",
                source: io::ErrorKind::Unsupported.into(),
            });
        }
        Ok(())
    }

    /// Arms again what has ended. A receive without buffers would end at once: it waits until one is back.
    fn arm(&mut self) {
        if !self.receive_armed && self.receive.free() > 0 {
            let header: *const libc::msghdr = &raw const *self.receive_header;
            let entry =
                opcode::RecvMsgMulti::new(SOCKET, header, BUFFER_GROUP).build().user_data(KIND_RECEIVE);
            self.receive_armed = self.push(&entry);
            self.receive_cancelled = false;
            self.counters.receive_rearmed += u64::from(self.receive_armed);
        }
        if !self.bell_armed {
            let entry =
                opcode::PollAdd::new(BELL, libc::POLLIN as u32).multi(true).build().user_data(KIND_BELL);
            self.bell_armed = self.push(&entry);
        }
    }

    /// Ends the receive operation: what it still brings is taken first, then the socket is asked.
    fn disarm(&mut self) {
        if !self.receive_cancelled {
            let entry = opcode::AsyncCancel::new(KIND_RECEIVE).build().user_data(KIND_CANCEL);
            self.receive_cancelled = self.push(&entry);
        }
    }

    /// False when the submission queue is full.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry points at a slot's message, at the receive header, or at the alarm's time. The first two
        // stay where they are and as they are until the completion: slots are released only by `reap`, the header
        // never changes, and drop waits for the kernel or leaks them. The time is boxed and read when the entry is
        // submitted only; an entry that is not submitted goes with the ring.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }
}

/// Gives what was received to the caller, datagram by datagram.
fn hand_over(
    received: Received<'_>,
    counters: &mut PacketCounters,
    polled: &mut Polled,
    on_datagram: &mut impl FnMut(Arrival, &mut [u8]),
) {
    match received {
        Received::Datagrams { arrival, payload, segment_bytes } => {
            counters.bytes_in += payload.len() as u64;
            counters.trains_in += u64::from(payload.len() > segment_bytes);
            for datagram in payload.chunks_mut(segment_bytes) {
                polled.datagrams += 1;
                counters.datagrams_in += 1;
                on_datagram(arrival, datagram);
            }
        }
        Received::Truncated => counters.truncated += 1,
        Received::Empty => counters.empty += 1,
    }
}

/// Answers that only mean "later": a signal, the time, no memory just now, completions to be taken first.
fn tolerate(entered: io::Result<usize>) -> Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY)
            ) =>
        {
            Ok(())
        }
        Err(source) => Err(RtError::Ring { what: "enter", source }),
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // Closing the ring cancels its operations only some time later, so have them cancelled first.
        let wait = Some(types::Timespec::from(DROP_WAIT));
        let cancelled = self.ring.submitter().register_sync_cancel(wait, types::CancelBuilder::any());
        let none_left = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        let settled = none_left && self.enter().is_ok() && self.reap().is_ok();
        if settled && self.send.in_flight() == 0 && !self.receive_armed && !self.log.is_in_flight() {
            // The kernel frees the ring later than we close it: the socket's port must not wait for that.
            let _ = self.ring.submitter().unregister_files();
            // SAFETY: dropped once, here, and not used again.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.receive) };
            // SAFETY: as above.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.send) };
            // SAFETY: as above.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.log) };
        }
        // Otherwise the kernel may still write: a leak of some megabytes is the safe end.
    }
}
