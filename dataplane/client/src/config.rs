//! What can be set for a client.

use std::time::Duration;

use quantum::Config as TransportConfig;
use wire::limits::{MESSAGE_BYTES_MAX, OP_BYTES_MAX};

use crate::error::ClientError;
use crate::shared::OP_OVERHEAD_BYTES;

/// The default budget of unacknowledged ops.
const UNACKED_BYTES_MAX: usize = 16 << 20;
/// The default room for events that the application has not read, per document.
const EVENT_BYTES_MAX: usize = 8 << 20;
/// The largest state of a document that is assembled by default.
const STATE_BYTES_MAX: usize = 512 << 20;

const _: () = assert!(UNACKED_BYTES_MAX > OP_BYTES_MAX + OP_OVERHEAD_BYTES);
const _: () = assert!(EVENT_BYTES_MAX > MESSAGE_BYTES_MAX);
const _: () = assert!(STATE_BYTES_MAX > MESSAGE_BYTES_MAX);

/// The settings of a client; the default is right for production.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Bytes of ops that may wait for acknowledgement, over all documents; [`crate::DocumentWriter::apply`]
    /// waits beyond that. At least one op of the largest size.
    pub unacked_bytes_max: usize,
    /// Bytes of events that may wait for the application, per document; the node is held back beyond that.
    pub event_bytes_max: usize,
    /// The largest state that a document may have; larger ones are closed.
    pub state_bytes_max: usize,
    /// After so long without a sign of the node, a connection asks for one.
    pub heartbeat: Duration,
    /// After so long without an answer, a connection is given up and made anew.
    pub unresponsive_after: Duration,
    /// The first pause between attempts to connect; it doubles, with jitter, up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest pause between attempts to connect.
    pub backoff_max: Duration,
    /// How long unacknowledged ops are given when the client is dropped without [`crate::Client::close`].
    pub drop_timeout: Duration,
    /// Whether a document that a node serves through another of its shards goes to a connection of its own to the shard
    /// that owns it. Off only to measure what it costs to stay.
    pub follow_advice: bool,
    /// How connections are run: congestion control, repairs of lost packets, the largest datagram, signs of life.
    pub transport: TransportConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            unacked_bytes_max: UNACKED_BYTES_MAX,
            event_bytes_max: EVENT_BYTES_MAX,
            state_bytes_max: STATE_BYTES_MAX,
            heartbeat: Duration::from_secs(1),
            unresponsive_after: Duration::from_secs(1),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(1),
            drop_timeout: Duration::from_secs(5),
            follow_advice: true,
            transport: TransportConfig::default(),
        }
    }
}

impl ClientConfig {
    /// Refuses values that cannot work.
    pub fn validate(&self) -> Result<(), ClientError> {
        let refuse = |wrong: bool, why| if wrong { Err(ClientError::Config(why)) } else { Ok(()) };
        refuse(
            self.unacked_bytes_max < OP_BYTES_MAX + OP_OVERHEAD_BYTES
                || self.unacked_bytes_max > u32::MAX as usize,
            "unacked_bytes_max must hold the largest op, and be under 4 GiB",
        )?;
        refuse(self.event_bytes_max == 0, "event_bytes_max must not be zero")?;
        refuse(self.state_bytes_max == 0, "state_bytes_max must not be zero")?;
        refuse(
            self.heartbeat.is_zero() || self.unresponsive_after.is_zero(),
            "heartbeat and unresponsive_after must not be zero",
        )?;
        refuse(
            self.backoff_min.is_zero() || self.backoff_min > self.backoff_max,
            "backoff_min must be above zero and at most backoff_max",
        )?;
        self.transport.validate().map_err(|error| ClientError::Transport(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_taken() {
        ClientConfig::default().validate().unwrap();
        let refused = [
            ClientConfig { unacked_bytes_max: OP_BYTES_MAX, ..ClientConfig::default() },
            ClientConfig { event_bytes_max: 0, ..ClientConfig::default() },
            ClientConfig { state_bytes_max: 0, ..ClientConfig::default() },
            ClientConfig { heartbeat: Duration::ZERO, ..ClientConfig::default() },
            ClientConfig { backoff_min: Duration::from_secs(2), ..ClientConfig::default() },
        ];
        for config in refused {
            assert!(matches!(config.validate(), Err(ClientError::Config(_))), "{config:?}");
        }
        let transport = TransportConfig { datagram_bytes_max: 1_199, ..TransportConfig::default() };
        let config = ClientConfig { transport, ..ClientConfig::default() };
        assert!(matches!(config.validate(), Err(ClientError::Transport(_))));
    }
}
