//! What an application is told when a call cannot be done.

use thiserror::Error;
use wire::Code;
use wire::limits::{DOCUMENT_ID_BYTES_MAX, OP_BYTES_MAX, PRESENCE_STATE_BYTES_MAX, VERSION_NAME_BYTES_MAX};

use crate::placement::PlacementError;

/// Why a call on a client or a document failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ClientError {
    /// The client was closed, or its runtime is gone.
    #[error("the client is closed")]
    Closed,
    /// The control plane will give this session no ticket any more, or a node ended the session.
    #[error("the session is refused: {0}; create a new session")]
    Refused(String),
    /// The source of tickets does not answer.
    #[error("no ticket to be had: {0}; check that the control plane runs and its URL is right")]
    TicketUnavailable(String),
    /// The tickets name another writer than before, under which unacknowledged ops would get new ids.
    #[error("the control plane issued a ticket for another writer; connect a new client")]
    WriterChanged,
    /// The partition map of a ticket makes no sense.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The document was closed by its node, or left.
    #[error("document closed: {code}: {text}")]
    DocumentClosed {
        /// Why.
        code: Code,
        /// What was wrong and with what.
        text: String,
    },
    /// The node refused a request about a document, which stays open.
    #[error("request refused: {code}: {text}")]
    RequestRefused {
        /// Why.
        code: Code,
        /// What was wrong and with what.
        text: String,
    },
    /// A version name that no node takes.
    #[error("a version's name has 1 to {VERSION_NAME_BYTES_MAX} bytes, not {0}")]
    VersionName(usize),
    /// A document id that no node takes.
    #[error("a document id has 1 to {DOCUMENT_ID_BYTES_MAX} bytes, not {0}")]
    DocumentId(usize),
    /// The client has the document open already.
    #[error("document {0} is joined already by this client: share its writer, or leave it first")]
    AlreadyJoined(String),
    /// The budget of unacknowledged ops is in use: wait for [`crate::DocumentEvent::Durable`].
    #[error("the budget of unacknowledged ops is in use; wait until some are durable")]
    Full,
    /// An op over the limit.
    #[error("op of {0} bytes, over the limit of {OP_BYTES_MAX}: split it")]
    OpTooLarge(usize),
    /// A writer has used up its 2^40 op ids.
    #[error("the writer has used all its op ids; connect a new client")]
    OpIdsExhausted,
    /// A presence state over the limit.
    #[error("presence state of {0} bytes, over the limit of {PRESENCE_STATE_BYTES_MAX}")]
    PresenceTooLarge(usize),
    /// A limit of the client is reached.
    #[error("limit of {limit} {what} reached; leave or wait for some first")]
    LimitReached {
        /// Of what there are too many.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A value of the configuration that cannot work.
    #[error("client configuration: {0}")]
    Config(&'static str),
    /// A setting that the transport does not take.
    #[error("client configuration: {0}")]
    Transport(String),
    /// No echo came in time.
    #[error("no answer from the node in time")]
    Timeout,
}
