//! The sizes of a packet ring and the limits between them.

use wire::limits::DATAGRAM_BYTES_MAX;

use super::receive::PAYLOAD_OFFSET;
use super::segments::TRAIN_BYTES_MAX;
use super::zero_copy::ZeroCopySend;
use crate::{Result, RtError};

const RECEIVE_BUFFERS_DEFAULT: u16 = 256;
const SEND_SLOTS_DEFAULT: u16 = 256;
/// Room for a train and what the kernel puts before it, in whole pages: only what is touched takes memory.
const RECEIVE_BUFFER_BYTES_DEFAULT: usize = 68 << 10;
const SEND_SLOT_BYTES_DEFAULT: usize = 64 << 10;
const POLL_DATAGRAMS_DEFAULT: usize = 256;
/// The fewest buffers and slots worth running with when memory is short.
const RING_ENTRIES_MIN: u16 = 16;
const RING_ENTRIES_MAX: u16 = 1 << 14;
/// Completions besides those of buffers and slots: the doorbell's and the ends of the armed operations.
const SPARE_COMPLETIONS: u32 = 64;
const _: () = assert!(PAYLOAD_OFFSET + (64 << 10) <= RECEIVE_BUFFER_BYTES_DEFAULT);
const _: () = assert!(DATAGRAM_BYTES_MAX <= TRAIN_BYTES_MAX && TRAIN_BYTES_MAX <= SEND_SLOT_BYTES_DEFAULT);
const _: () = assert!(RECEIVE_BUFFERS_DEFAULT.is_power_of_two() && RING_ENTRIES_MIN.is_power_of_two());
const _: () =
    assert!(RING_ENTRIES_MIN <= RECEIVE_BUFFERS_DEFAULT && RECEIVE_BUFFERS_DEFAULT <= RING_ENTRIES_MAX);

/// Sizes of a [`PacketRing`].
#[derive(Clone, Copy, Debug)]
pub struct PacketRingConfig {
    /// Receive buffers, a power of two.
    pub receive_buffers: u16,
    /// Size of a receive buffer, bytes; 72 of them are the kernel's. What is longer, datagram or train, is lost.
    pub receive_buffer_bytes: usize,
    /// Send slots.
    pub send_slots: u16,
    /// Size of a send slot, bytes.
    pub send_slot_bytes: usize,
    /// Datagrams after which one [`PacketRing::poll`] takes no further buffer, each with a datagram or a train.
    pub poll_datagrams_max: usize,
    /// Whether long trains are sent without a copy.
    pub zero_copy_send: ZeroCopySend,
    /// How long the kernel polls the network device before the shard sleeps, microseconds; 0: not at all.
    pub busy_poll_us: u32,
}

impl Default for PacketRingConfig {
    fn default() -> Self {
        Self {
            receive_buffers: RECEIVE_BUFFERS_DEFAULT,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES_DEFAULT,
            send_slots: SEND_SLOTS_DEFAULT,
            send_slot_bytes: SEND_SLOT_BYTES_DEFAULT,
            poll_datagrams_max: POLL_DATAGRAMS_DEFAULT,
            zero_copy_send: ZeroCopySend::Auto,
            busy_poll_us: 0,
        }
    }
}

impl PacketRingConfig {
    pub(super) fn check(&self) -> Result<()> {
        let entries = RING_ENTRIES_MIN..=RING_ENTRIES_MAX;
        let wrong = if !self.receive_buffers.is_power_of_two() || !entries.contains(&self.receive_buffers) {
            "receive_buffers must be a power of two from 16 to 16384"
        } else if !entries.contains(&self.send_slots) {
            "send_slots must be from 16 to 16384"
        } else if self.receive_buffer_bytes < PAYLOAD_OFFSET + DATAGRAM_BYTES_MAX {
            "receive_buffer_bytes must be 1524 or more"
        } else if self.send_slot_bytes < DATAGRAM_BYTES_MAX {
            "send_slot_bytes must be 1452 or more"
        } else if self.poll_datagrams_max == 0 {
            "poll_datagrams_max must be 1 or more"
        } else {
            return Ok(());
        };
        Err(RtError::RingConfig { what: wrong })
    }

    /// Half of everything, or nothing when it is small already.
    pub(super) fn halved(&self) -> Option<Self> {
        let half = Self {
            receive_buffers: (self.receive_buffers / 2).max(RING_ENTRIES_MIN),
            send_slots: (self.send_slots / 2).max(RING_ENTRIES_MIN),
            ..*self
        };
        let smaller = half.receive_buffers < self.receive_buffers || half.send_slots < self.send_slots;
        smaller.then_some(half)
    }

    /// One for each buffer, and two for each slot: its send's and its notification's.
    pub(super) fn completions(&self) -> u32 {
        let slots = 2 * u32::from(self.send_slots);
        (u32::from(self.receive_buffers) + slots + SPARE_COMPLETIONS).next_power_of_two()
    }
}
