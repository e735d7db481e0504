//! The stages that an op passes in a shard, and who times them.

use wire::Guuid;

/// A stage of a shard's turn. The time in one excludes the stages inside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// Taking datagrams from the kernel; once a turn that got any.
    Receive,
    /// Finding the connection, decrypting, reading the frames; once a datagram.
    Open,
    /// Checking an op and taking it into its document, and listing whom it goes to; once a message.
    Statesync,
    /// Appending an op to the log's batch; once an op.
    Log,
    /// From handing a batch to the kernel to knowing that it is on the disk; once a batch. It passes beside the
    /// loop, not in it.
    Fsync,
    /// Handing messages to their connections; once a datagram that came, a durable batch, or a timer.
    FanOut,
    /// Writing the frames of a datagram and encrypting it; once a datagram.
    Seal,
    /// Giving datagrams to the kernel; once a turn that sent any.
    Send,
    /// Giving a batch of the log to the kernel; once a batch.
    Commit,
    /// All of a turn that did something, from its beginning to its end: the stages and what is between them.
    Turn,
}

impl Stage {
    /// All of them, in the order in which an op passes them.
    pub const ALL: [Self; 10] = [
        Self::Receive,
        Self::Open,
        Self::Statesync,
        Self::Log,
        Self::Fsync,
        Self::FanOut,
        Self::Seal,
        Self::Send,
        Self::Commit,
        Self::Turn,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Open => "open",
            Self::Statesync => "statesync",
            Self::Log => "log",
            Self::Fsync => "fsync",
            Self::FanOut => "fan_out",
            Self::Seal => "seal",
            Self::Send => "send",
            Self::Commit => "commit",
            Self::Turn => "turn",
        }
    }
}

/// Whose message took too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offender {
    /// The connection that it came on.
    pub connection: Option<Guuid>,
    /// The document that it was for.
    pub document: Option<Box<str>>,
}

/// Is told when a stage begins and ends. Stages nest: while an inner one lasts, the outer one's time stands still.
///
/// A shard knows no clock; whoever drives it brings a probe that has one, or none at all: `()` does nothing and
/// costs nothing.
pub trait Probe {
    /// `stage` begins.
    fn enter(&mut self, stage: Stage);

    /// The stage entered last ends, and is one sample.
    fn leave(&mut self);

    /// The stage entered last ends without having had anything to do: no sample.
    fn leave_idle(&mut self);

    /// A message of a client has been dealt with. True when it took so long that [`blame`](Self::blame) is to be told
    /// whose it was.
    #[inline]
    fn message(&mut self) -> bool {
        false
    }

    /// Whose the message was that took so long.
    fn blame(&mut self, _: Offender) {}

    /// The stage entered last ends; `any` says whether it had something to do.
    #[inline]
    fn leave_if(&mut self, any: bool) {
        if any {
            self.leave();
        } else {
            self.leave_idle();
        }
    }
}

impl Probe for () {
    #[inline]
    fn enter(&mut self, _: Stage) {}

    #[inline]
    fn leave(&mut self) {}

    #[inline]
    fn leave_idle(&mut self) {}
}
