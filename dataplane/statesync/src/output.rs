//! What the state machine asks its caller to do.

use bytes::Bytes;
use wire::Code;
use wire::sync::Channel;

use crate::connection::SubscriberKey;

/// Something to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send a message. When the connection takes no more, tell
    /// [`handle_blocked`](crate::StateSync::handle_blocked) before the next output is polled.
    Send {
        /// To this connection.
        to: SubscriberKey,
        /// On this channel.
        channel: Channel,
        /// The message, shared by all who receive it.
        message: Bytes,
        /// Whether it can wait: one of very many alike, or a part of much. What others are sent goes first.
        can_wait: bool,
    },
    /// Close a connection, then call [`handle_close`](crate::StateSync::handle_close).
    Close {
        /// This one.
        to: SubscriberKey,
        /// With this code.
        code: Code,
        /// And this text.
        reason: &'static str,
    },
}

/// What a queued message is, which decides what happens when it cannot be sent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// Kept until it can.
    Control,
    /// An op as it comes; sent again from the kept ops.
    Op { subscription: usize, sequence: u64, is_for_many: bool },
    /// A kept op; sent again in the same way.
    KeptOp { subscription: usize, sequence: u64 },
    /// Sent again from the same state.
    State { subscription: usize, offset: usize },
    /// A piece of an answer; sent again from it.
    Past { request: usize, number: u64, offset: usize },
    /// Made again.
    Ack { subscription: usize },
    /// Made again, with all who are here.
    Presence { subscription: usize, is_for_many: bool },
    /// Tells the caller to close.
    Close(Code, &'static str),
}

impl What {
    /// Whether what is sent to others goes before it.
    pub(crate) const fn can_wait(self) -> bool {
        match self {
            Self::Op { is_for_many, .. } | Self::Presence { is_for_many, .. } => is_for_many,
            Self::KeptOp { .. } | Self::State { .. } | Self::Past { .. } => true,
            Self::Control | Self::Ack { .. } | Self::Close(..) => false,
        }
    }
}

/// A queued output.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) to: SubscriberKey,
    pub(crate) channel: Channel,
    pub(crate) message: Bytes,
    pub(crate) what: What,
}
