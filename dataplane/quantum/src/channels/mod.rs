//! The channels of a connection (`PROTOCOL.md`, section "Channels"): what waits to be sent, and what has come and
//! cannot be delivered yet. A channel takes memory from its first message on.

mod latest_receive;
mod latest_send;

mod queue;
mod reassembly;
mod receive;
mod reliable_receive;
mod reliable_send;
mod send;
mod turns;
mod unreliable_send;

use wire::Time;
use wire::frame::{LATEST_OVERHEAD_BYTES_MAX, MESSAGE_OVERHEAD_BYTES_MAX};
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::limits::INITIAL_DATAGRAM_BYTES;
use wire::varint::Writer;

use self::queue::Queued;
pub(crate) use self::receive::{ReceiveChannels, ReceiveLimits};
pub(crate) use self::send::{SendChannels, WrittenMessages};
use crate::config::MESSAGE_CHARGE_BYTES;
use crate::flow::SendCredit;
use crate::sent_packets::SentPackets;

/// The room that an ACK of one range leaves for messages to fit in whole.
pub(crate) const ACK_RESERVE_BYTES: usize = 32;
/// A message that takes no more room, its frame included, is never cut: it fits a packet that holds besides it a short ACK. Of
/// the least size, so that it can be sent again when the path carries no more.
pub(crate) const WHOLE_BYTES_MAX: usize =
    INITIAL_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES - ACK_RESERVE_BYTES;
/// The largest message that must fit one packet: that of an unreliable or latest-wins channel. It fits whatever
/// becomes of the path.
pub const PACKET_MESSAGE_BYTES_MAX: usize =
    INITIAL_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES - ACK_RESERVE_BYTES - LATEST_OVERHEAD_BYTES_MAX;
/// The most keys of a latest-wins channel that wait to be sent or acknowledged, and the most sequences between the
/// oldest of them and the newest.
pub const LATEST_KEYS_MAX: usize = 1_024;

const _: () = assert!(MESSAGE_OVERHEAD_BYTES_MAX <= LATEST_OVERHEAD_BYTES_MAX);

/// What a message counts as while it is queued.
pub(crate) const fn charge(payload_bytes: usize) -> usize {
    payload_bytes + MESSAGE_CHARGE_BYTES
}

/// What happened to messages besides being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// The charge of messages that need not be kept any more.
    pub(crate) freed_bytes: usize,
    pub(crate) expired: u64,
    pub(crate) cancelled: u64,
    pub(crate) replaced: u64,
    pub(crate) retransmitted_bytes: u64,
}

impl Tally {
    fn expire(&mut self, message: &Queued) {
        self.expired += 1;
        self.freed_bytes += message.charge();
    }

    fn cancel(&mut self, message: &Queued) {
        self.cancelled += 1;
        self.freed_bytes += message.charge();
    }
}

/// The packet that messages are written into.
pub(crate) struct Packet<'a, 'b> {
    pub(crate) now: Time,
    pub(crate) out: &'a mut Writer<'b>,
    pub(crate) sent: &'a mut SentPackets,
    pub(crate) connection_credit: &'a mut SendCredit,
    pub(crate) tally: &'a mut Tally,
}
