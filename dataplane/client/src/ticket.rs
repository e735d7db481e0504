//! Where a client gets its tickets.

use std::fmt;
use std::future::Future;

use thiserror::Error;
use wire::Guuid;

use crate::placement::PlacementMap;

/// A ticket as issued: what the handshake needs, and where the documents live.
#[derive(Clone)]
pub struct IssuedTicket {
    /// Sealed; opaque to the client.
    pub ticket: Vec<u8>,
    /// The handshake's pre-shared key.
    pub psk: [u8; 32],
    /// Op ids are this plus the op counter; its low 40 bits are zero. The same in every ticket that
    /// continues another one.
    pub writer_id: Guuid,
    /// The session that it proves.
    pub session_id: Guuid,
    /// Not valid from this moment on, Unix milliseconds.
    pub expires_unix_ms: u64,
    /// Which shard of which node owns each partition.
    pub map: PlacementMap,
}

impl fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedTicket")
            .field("writer_id", &self.writer_id)
            .field("session_id", &self.session_id)
            .field("expires_unix_ms", &self.expires_unix_ms)
            .field("map_revision", &self.map.revision)
            .finish_non_exhaustive()
    }
}

/// Why no ticket was issued.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TicketRefusal {
    /// The session is unknown, over or revoked: asking again is of no use.
    #[error("refused: {0}")]
    Refused(String),
    /// Nobody answered, or not in a way that can be read: the client asks again later.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Issues tickets for one session. [`crate::ControlPlane`] is the usual one.
pub trait TicketSource: Send + Sync + 'static {
    /// Issues a ticket that continues `previous`, or the first one of a new writer.
    fn ticket(
        &self,
        previous: Option<&[u8]>,
    ) -> impl Future<Output = Result<IssuedTicket, TicketRefusal>> + Send;
}
