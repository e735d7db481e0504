//! The codes of errors on the wire. A code never changes its meaning.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)+) => {
        /// Why a peer refused or closed.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Code {
            $($(#[doc = $doc])+ $name = $value,)+
        }

        impl Code {
            /// All codes, in order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// From its number on the wire.
            #[must_use]
            pub const fn from_u16(value: u16) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The name in logs, metrics and REST errors.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// The application is done.
    Done = 0, "done";
    /// The node is going away; connect again.
    Draining = 1, "draining";
    /// The peer broke the transport's rules.
    Protocol = 2, "protocol-violation";
    /// Nothing was heard for the idle timeout.
    IdleTimeout = 3, "idle-timeout";
    /// More data came than credit was given.
    FlowControl = 4, "flow-control-violation";
    /// A message over the limit.
    MessageTooLarge = 5, "message-too-large";
    /// The session was revoked.
    SessionRevoked = 6, "session-revoked";
    /// The node has no room for one more connection, or for what this one sends.
    Overloaded = 7, "overloaded";
    /// The handshake did not end in time.
    HandshakeTimeout = 8, "handshake-timeout";
    /// The keys have sealed or refused as many packets as is safe.
    KeyLimit = 9, "key-limit";
    /// The node does not know the connection: it was started again, or has given it up.
    StatelessReset = 10, "stateless-reset";
    /// The node does not speak the client's version.
    VersionNotSupported = 11, "version-not-supported";

    /// A sync message that does not follow the format.
    MalformedMessage = 100, "malformed-message";
    /// A handle that no join has opened, or one that is open already.
    UnknownHandle = 101, "unknown-handle";
    /// The session's grants do not allow it.
    Forbidden = 102, "forbidden";
    /// An empty or overlong document id.
    DocumentId = 103, "invalid-document-id";
    /// The document is of another kind.
    KindMismatch = 104, "document-kind-mismatch";
    /// An update that cannot be decoded.
    UndecodableUpdate = 105, "undecodable-update";
    /// An op over the limit.
    OpTooLarge = 106, "op-too-large";
    /// The document is at its limit.
    DocumentFull = 107, "document-full";
    /// A limit of joins, subscribers or documents is reached.
    LimitReached = 108, "limit-reached";
    /// The log takes no more at the moment: try again after the given time.
    LogBusy = 109, "log-busy";
    /// The document's cached state is quarantined after a fault of the CRDT library.
    Quarantined = 110, "document-quarantined";
    /// A state vector that cannot be decoded.
    StateVector = 111, "invalid-state-vector";
    /// An op counter of zero, or above 40 bits.
    OpCounter = 112, "invalid-op-counter";
    /// The document is being loaded or compacted: try again after the given time.
    DocumentBusy = 113, "document-busy";
    /// The document was deleted.
    DocumentDeleted = 114, "document-deleted";
    /// What is stored of the document fails its checksum, or does not fit together.
    SnapshotDamaged = 115, "snapshot-damaged";
    /// The store could not be read or written.
    StorageFailed = 116, "storage-failed";
    /// The document has no version of this name.
    UnknownVersion = 117, "unknown-version";
    /// The history that was asked for is not kept any more, or is not there yet.
    HistoryNotKept = 118, "history-not-kept";
    /// The session does more than its rate allows: try again after the given time.
    RateLimited = 119, "rate-limited";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AF{:04} {}", *self as u16, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_does_not_come_back_from_the_wire() {
        for &code in Code::ALL {
            assert_eq!(Code::from_u16(code as u16), Some(code));
        }
        assert_eq!(Code::from_u16(65_535), None);
        assert_eq!(Code::Forbidden.to_string(), "AF0102 forbidden");
    }
}
