//! What travels between two shards of a node: one message a slot, small ones inside it.

use quantum::ConnectionKey;
use statesync::Session;
use wire::Code;
use wire::sync::Channel;

/// Bytes of the longest message that lies in the slot itself: ops of typing and their acknowledgements do.
pub const LANE_INLINE_BYTES: usize = 216;
/// What a message costs a lane at the least: its slot.
pub(super) const SLOT_BYTES: usize = 256;

// Four cache lines, which the hardware fetches in pairs.
const _: () = assert!(size_of::<LaneMessage>() <= SLOT_BYTES);

/// What a connection of the transport may be given credit for: bytes of its messages on a channel.
pub(crate) type Credit = (ConnectionKey, Channel, usize);

/// One message from a shard to a sibling. What it means is the shards' business; whoever drives them carries it, in order
/// and without losing any.
#[derive(Debug)]
pub struct LaneMessage {
    /// The connection that it is about, as the shard numbers it where that connection lives.
    pub(super) connection: u64,
    pub(super) body: Body,
}

/// Between the shard where a connection lives (its origin) and the one that owns a document (its owner).
#[derive(Debug)]
pub(crate) enum Body {
    /// To the owner: who speaks on the connection. Comes once, before its first message.
    Open(Box<Session>),
    /// To the owner: a client's message.
    FromClient(Payload),
    /// To the owner: so many bytes of what was sent have gone on to the client.
    Credit(u32),
    /// To the owner: the connection is gone.
    Close,
    /// To the origin: a message for the client.
    ToClient(Payload),
    /// To the origin: end the connection.
    End(Code, &'static str),
}

/// A client's message or one for it.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) channel: Channel,
    /// Whether what others are sent goes first.
    pub(super) can_wait: bool,
    bytes: PayloadBytes,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the point of a slot is that small messages need no memory of their own"
)]
enum PayloadBytes {
    Inline(u8, [u8; LANE_INLINE_BYTES]),
    Boxed(Box<[u8]>),
}

const _: () = assert!(LANE_INLINE_BYTES <= u8::MAX as usize);

impl Payload {
    pub(super) fn new(channel: Channel, can_wait: bool, message: &[u8]) -> Self {
        let bytes = match u8::try_from(message.len()) {
            Ok(length) if message.len() <= LANE_INLINE_BYTES => {
                let mut inline = [0; LANE_INLINE_BYTES];
                inline[..message.len()].copy_from_slice(message);
                PayloadBytes::Inline(length, inline)
            }
            _ => PayloadBytes::Boxed(Box::from(message)),
        };
        Self { channel, can_wait, bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            PayloadBytes::Inline(length, inline) => &inline[..usize::from(*length)],
            PayloadBytes::Boxed(bytes) => bytes,
        }
    }

    pub(super) const fn is_boxed(&self) -> bool {
        matches!(self.bytes, PayloadBytes::Boxed(_))
    }
}

impl LaneMessage {
    /// Bytes that it holds outside of its slot.
    #[must_use]
    pub fn boxed_bytes(&self) -> usize {
        match &self.body {
            Body::FromClient(payload) | Body::ToClient(payload) if payload.is_boxed() => {
                payload.bytes().len()
            }
            _ => 0,
        }
    }

    /// What it takes of a lane's limit.
    pub(super) fn cost(&self) -> usize {
        SLOT_BYTES + self.boxed_bytes()
    }
}
