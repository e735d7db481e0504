//! Settings and limits of a gateway.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use aetherflow_client::TransportConfig;
use wire::Grant;
use wire::limits::OP_BYTES_MAX;

/// How a gateway is started.
pub struct GatewayConfig {
    /// The HTTP socket; port 0, the default, takes a free one.
    pub listen: SocketAddr,
    /// URL of the control plane's gRPC socket (`http://HOST:PORT`).
    pub control_url: String,
    /// The control plane's API key; empty: it has none. Callers of the sessions API must show it too.
    pub api_key: String,
    /// What somebody without a token may do; empty: nothing.
    pub anonymous: Vec<Grant>,
    /// How connections to nodes are run.
    pub transport: TransportConfig,
    /// More metrics in the Prometheus text format for `/metrics`, from a node in the same process.
    pub metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control_url: String::new(),
            api_key: String::new(),
            anonymous: Vec::new(),
            transport: TransportConfig::default(),
            metrics: None,
        }
    }
}

impl GatewayConfig {
    pub(crate) fn api_key(&self) -> Option<&str> {
        Some(self.api_key.as_str()).filter(|key| !key.is_empty())
    }
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("GatewayConfig");
        out.field("listen", &self.listen).field("control_url", &self.control_url);
        out.field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}

/// The most open sockets.
pub(crate) const SOCKETS_MAX: usize = 20_000;
/// The most documents open at once.
pub(crate) const DOCUMENTS_MAX: usize = 10_000;
/// The largest frame of a socket and body of a request: the largest op behind the y-websocket header.
pub(crate) const FRAME_BYTES_MAX: usize = OP_BYTES_MAX + 16;
/// A frame between the two limits is read to its end, so that its sender can be told; a larger one is not.
pub(crate) const FRAME_BYTES_READ_MAX: usize = 2 * FRAME_BYTES_MAX;
/// Bytes that may wait for one socket before it is closed, to be brought up to date when it reconnects.
pub(crate) const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// Bytes that the sockets of one document may have waiting for its hub.
pub(crate) const INBOX_BYTES_MAX: usize = 16 << 20;
/// Commands that may wait for a hub.
pub(crate) const INBOX_COMMANDS_MAX: usize = 256;
/// The largest body of a request to the sessions API.
pub(crate) const SESSION_BODY_BYTES_MAX: usize = 64 << 10;

/// A document stays open for so long after its last socket has gone.
pub(crate) const DOCUMENT_LINGER: Duration = Duration::from_secs(30);
/// The state of a document must have arrived within this.
pub(crate) const LOAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A request must be answered, and what it wrote durable, within this.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the ops under way, and then the open requests, are given when the gateway ends.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// What is said to a silent socket, and how often: the provider gives up after 30 s.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// A closed socket is listened to for so long, because a reset would overtake the reason.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A socket that does not even answer a ping is closed after this.
pub(crate) const SOCKET_SILENCE_MAX: Duration = Duration::from_secs(75);
/// How often the session of an open socket is checked for having been revoked.
pub(crate) const SESSION_CHECK: Duration = Duration::from_secs(30);

const _: () = assert!(FRAME_BYTES_MAX < OUTBOX_BYTES_MAX && FRAME_BYTES_MAX < INBOX_BYTES_MAX);
const _: () = assert!(INBOX_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(LOAD_TIMEOUT.as_millis() < REQUEST_TIMEOUT.as_millis());
const _: () = assert!(KEEP_ALIVE.as_secs() < 30 && KEEP_ALIVE.as_secs() * 3 < SOCKET_SILENCE_MAX.as_secs());
