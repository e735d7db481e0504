//! What the control plane refuses, and why. The codes never change their meaning.

use model::SessionError;
use store::StoreError;
use thiserror::Error;
use tonic::{Code, Status};
use wire::TicketError;

/// The stable code in front of every message, as `AF1203 session-expired`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum ErrorCode {
    /// A session or token that is not known.
    UnknownSession = 1201,
    /// The session was revoked.
    SessionRevoked = 1202,
    /// The session's time is over.
    SessionExpired = 1203,
    /// The ticket to be continued does not open, or belongs to another session.
    PreviousTicket = 1204,
    /// The session's grants do not fit a ticket.
    TicketTooLarge = 1205,
    /// A field of the request that cannot be.
    InvalidRequest = 1206,
    /// No API key, or another.
    ApiKey = 1207,
    /// The node did not introduce itself as it must.
    NodeHello = 1301,
    /// A later start of the same node has taken its place.
    NodeSuperseded = 1302,
    /// The cluster has as many nodes as it may have.
    TooManyNodes = 1303,
    /// The store cannot be reached, or refused.
    Store = 1401,
    /// What the store holds cannot be read.
    StoredValue = 1402,
    /// The system gives no random bytes.
    Random = 1403,
    /// The control plane is going away.
    Draining = 1404,
}

impl ErrorCode {
    /// The name in logs, metrics and REST errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownSession => "unknown-session",
            Self::SessionRevoked => "session-revoked",
            Self::SessionExpired => "session-expired",
            Self::PreviousTicket => "invalid-previous-ticket",
            Self::TicketTooLarge => "ticket-too-large",
            Self::InvalidRequest => "invalid-request",
            Self::ApiKey => "api-key-refused",
            Self::NodeHello => "invalid-node-hello",
            Self::NodeSuperseded => "node-superseded",
            Self::TooManyNodes => "too-many-nodes",
            Self::Store => "store-unavailable",
            Self::StoredValue => "stored-value-unreadable",
            Self::Random => "no-random-source",
            Self::Draining => "draining",
        }
    }

    const fn grpc(self) -> Code {
        match self {
            Self::UnknownSession | Self::SessionRevoked | Self::SessionExpired | Self::ApiKey => {
                Code::Unauthenticated
            }
            Self::PreviousTicket | Self::TicketTooLarge | Self::InvalidRequest | Self::NodeHello => {
                Code::InvalidArgument
            }
            Self::NodeSuperseded => Code::Aborted,
            Self::TooManyNodes => Code::ResourceExhausted,
            Self::Store | Self::Draining => Code::Unavailable,
            Self::StoredValue => Code::DataLoss,
            Self::Random => Code::Internal,
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AF{:04} {}", *self as u16, self.name())
    }
}

/// Why the control plane refused.
#[derive(Clone, Debug, Error)]
pub enum ControlError {
    /// No such session, or another token.
    #[error("no session has this id or token")]
    UnknownSession,
    /// Ended by an operator.
    #[error("the session was revoked: create a new one")]
    SessionRevoked,
    /// Ended by time.
    #[error("the session expired at Unix millisecond {0}: create a new one")]
    SessionExpired(u64),
    /// The ticket to be continued is of no use.
    #[error("the ticket to be continued is refused ({0}): ask without one, for a new writer id")]
    PreviousTicket(String),
    /// The ticket cannot be sealed.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// What a new session asks for cannot be.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A field that cannot be.
    #[error("{field}: {problem}")]
    InvalidRequest {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The caller did not show the key.
    #[error("this call needs the metadata `authorization: Bearer KEY` with the API key of the control plane")]
    ApiKey,
    /// The first report of a node was not an introduction that can be.
    #[error("{0}")]
    NodeHello(String),
    /// The same node has attached again.
    #[error("node {0} has attached again, or has been started again since: this attachment ends")]
    NodeSuperseded(String),
    /// As many nodes as there may be.
    #[error("the cluster has {0} nodes, its limit")]
    TooManyNodes(usize),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds is not what was written there.
    #[error("the store's value of {key} cannot be read: {problem}")]
    StoredValue {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The control plane is going away.
    #[error("the control plane is going away: attach again")]
    Draining,
}

impl ControlError {
    /// The code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownSession => ErrorCode::UnknownSession,
            Self::SessionRevoked => ErrorCode::SessionRevoked,
            Self::SessionExpired(_) => ErrorCode::SessionExpired,
            Self::PreviousTicket(_) => ErrorCode::PreviousTicket,
            Self::Ticket(_) => ErrorCode::TicketTooLarge,
            Self::Session(_) | Self::InvalidRequest { .. } => ErrorCode::InvalidRequest,
            Self::ApiKey => ErrorCode::ApiKey,
            Self::NodeHello(_) => ErrorCode::NodeHello,
            Self::NodeSuperseded(_) => ErrorCode::NodeSuperseded,
            Self::TooManyNodes(_) => ErrorCode::TooManyNodes,
            Self::Store(_) => ErrorCode::Store,
            Self::StoredValue { .. } => ErrorCode::StoredValue,
            Self::Random => ErrorCode::Random,
            Self::Draining => ErrorCode::Draining,
        }
    }
}

impl From<ControlError> for Status {
    fn from(error: ControlError) -> Self {
        let code = error.code();
        if matches!(code, ErrorCode::Store | ErrorCode::StoredValue | ErrorCode::Random) {
            tracing::error!(%code, %error, "a request failed");
        } else {
            tracing::debug!(%code, %error, "a request was refused");
        }
        Self::new(code.grpc(), format!("{code}: {error}"))
    }
}
