//! The receiving side of all channels, and the credit that the peer has for them.

use wire::channel::{Channel, ChannelKind};
use wire::frame::{self, Fragment, Latest};
use wire::varint::Writer;
use wire::{Code, prefetch};

use super::latest_receive::LatestReceive;
use super::reliable_receive::{Delivery, ReliableReceive};
use crate::flow::ReceiveCredit;
use crate::sent_packets::{SentFrame, SentPackets};

/// The bit of the connection's credit in `credit_lost`.
const CONNECTION_CREDIT_BIT: u16 = 1 << Channel::COUNT;
/// The most that one credit frame takes.
const CREDIT_FRAME_BYTES_MAX: usize = 12;

/// What every reliable channel may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveLimits {
    pub(crate) window_bytes: u64,
    pub(crate) message_bytes_max: usize,
}

#[derive(Debug)]
enum ReceiveChannel {
    Reliable(ReliableReceive),
    Latest(LatestReceive),
}

/// What has come on all channels.
#[derive(Debug)]
pub(crate) struct ReceiveChannels {
    channels: [Option<Box<ReceiveChannel>>; Channel::COUNT],
    credit: ReceiveCredit,
    /// Credit whose announcement was lost: a bit for each channel, then the connection's.
    credit_lost: u16,
}

type Violation = (Code, &'static str);

impl ReceiveChannels {
    pub(crate) fn new(window_bytes: u64) -> Self {
        Self { channels: Default::default(), credit: ReceiveCredit::new(window_bytes), credit_lost: 0 }
    }

    /// Has the caches fetch what is known of each channel.
    pub(crate) fn prefetch(&self) {
        self.channels.iter().flatten().for_each(|channel| prefetch(&**channel));
    }

    /// All bytes that have come on reliable channels, each counted once.
    pub(crate) const fn received_bytes(&self) -> u64 {
        self.credit.received()
    }

    /// The memory of messages that cannot be delivered yet.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.reliable().map(|(_, reliable)| reliable.held_bytes()).sum()
    }

    fn reliable(&self) -> impl Iterator<Item = (Channel, &ReliableReceive)> {
        Channel::ALL.into_iter().zip(&self.channels).filter_map(|(channel, found)| match found.as_deref() {
            Some(ReceiveChannel::Reliable(reliable)) => Some((channel, reliable)),
            Some(ReceiveChannel::Latest(_)) | None => None,
        })
    }

    fn reliable_mut(&mut self, channel: Channel) -> Option<&mut ReliableReceive> {
        match self.channels[channel as usize].as_deref_mut() {
            Some(ReceiveChannel::Reliable(reliable)) => Some(reliable),
            Some(ReceiveChannel::Latest(_)) | None => None,
        }
    }

    /// The channel, from its first message on, and the connection's credit.
    fn open(&mut self, channel: Channel, limits: ReceiveLimits) -> (&mut ReceiveChannel, &mut ReceiveCredit) {
        let found = self.channels[channel as usize]
            .get_or_insert_with(|| Box::new(ReceiveChannel::new(channel.kind(), limits)));
        (found, &mut self.credit)
    }

    /// A whole message.
    pub(crate) fn handle_message(
        &mut self,
        channel: Channel,
        sequence: u64,
        payload: &[u8],
        limits: ReceiveLimits,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<(), Violation> {
        if channel.kind() == ChannelKind::Unreliable {
            deliver(payload);
            return Ok(());
        }
        let total = u32::try_from(payload.len()).map_err(|_| (Code::MessageTooLarge, "message"))?;
        let message = Fragment { channel, sequence, offset: 0, total, payload };
        let (ReceiveChannel::Reliable(reliable), connection_credit) = self.open(channel, limits) else {
            return Err((Code::Protocol, "a message without a key on a latest-wins channel"));
        };
        reliable
            .handle_message(&message, &mut Delivery { connection_credit, deliver })
            .map_err(|code| (code, "message"))
    }

    /// A part of a message.
    pub(crate) fn handle_fragment(
        &mut self,
        fragment: &Fragment<'_>,
        limits: ReceiveLimits,
        deliver: impl FnMut(&[u8]),
    ) -> Result<(), Violation> {
        if !fragment.channel.is_reliable() {
            return Err((Code::Protocol, "a fragment on a channel without fragments"));
        }
        let (ReceiveChannel::Reliable(reliable), connection_credit) = self.open(fragment.channel, limits)
        else {
            return Ok(());
        };
        reliable
            .handle_fragment(fragment, &mut Delivery { connection_credit, deliver })
            .map_err(|code| (code, "fragment"))
    }

    /// A message with a key; returns whether it is to be delivered.
    pub(crate) fn handle_latest(
        &mut self,
        latest: &Latest<'_>,
        limits: ReceiveLimits,
    ) -> Result<bool, Violation> {
        if latest.channel.kind() != ChannelKind::LatestWins {
            return Err((Code::Protocol, "a key on a channel without keys"));
        }
        match self.open(latest.channel, limits).0 {
            ReceiveChannel::Latest(found) => found
                .handle(latest.key, latest.sequence)
                .map_err(|code| (code, "one sequence for several keys")),
            ReceiveChannel::Reliable(_) => Ok(false),
        }
    }

    /// The application has taken delivered bytes.
    pub(crate) fn consume(&mut self, channel: Channel, bytes: u64) {
        if let Some(reliable) = self.reliable_mut(channel) {
            reliable.credit.consume(bytes);
            self.credit.consume(bytes);
        }
    }

    /// Whether the peer should hear of more credit.
    pub(crate) fn has_credit_update(&self) -> bool {
        self.credit_lost != 0
            || self.credit.is_update_due()
            || self.reliable().any(|(_, reliable)| reliable.credit.is_update_due())
    }

    /// Announces credit that the application has freed; returns whether any was written.
    pub(crate) fn write_credit(&mut self, out: &mut Writer<'_>, sent: &mut SentPackets) -> bool {
        if !self.has_credit_update() {
            return false;
        }
        let mut any = false;
        let is_lost = self.credit_lost & CONNECTION_CREDIT_BIT != 0;
        if (is_lost || self.credit.is_update_due()) && out.remaining() >= CREDIT_FRAME_BYTES_MAX {
            frame::put_max_data(out, self.credit.announce());
            sent.push_frame(SentFrame::MaxData);
            self.credit_lost &= !CONNECTION_CREDIT_BIT;
            any = true;
        }
        for channel in Channel::ALL {
            let is_lost = self.credit_lost & 1 << channel as u16 != 0;
            let Some(reliable) = self.reliable_mut(channel) else { continue };
            if (is_lost || reliable.credit.is_update_due()) && out.remaining() >= CREDIT_FRAME_BYTES_MAX {
                frame::put_max_channel_data(out, channel, reliable.credit.announce());
                sent.push_frame(SentFrame::MaxChannelData(channel));
                self.credit_lost &= !(1 << channel as u16);
                any = true;
            }
        }
        any
    }

    /// The announcement of credit was lost: the connection's, or a channel's.
    pub(crate) fn on_credit_lost(&mut self, channel: Option<Channel>) {
        self.credit_lost |= channel.map_or(CONNECTION_CREDIT_BIT, |channel| 1 << channel as u16);
    }
}

impl ReceiveChannel {
    fn new(kind: ChannelKind, limits: ReceiveLimits) -> Self {
        match kind {
            ChannelKind::ReliableOrdered | ChannelKind::ReliableUnordered => {
                Self::Reliable(ReliableReceive::new(kind, limits.window_bytes, limits.message_bytes_max))
            }
            // An unreliable message leaves nothing to remember.
            ChannelKind::LatestWins | ChannelKind::Unreliable => Self::Latest(LatestReceive::default()),
        }
    }
}
