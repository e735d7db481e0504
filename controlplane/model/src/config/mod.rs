//! The configuration of the whole appliance: one TOML file, parsed once into values that cannot be wrong.
//!
//! `configs/aetherflow.toml` documents every key; its values are the defaults here, and a test holds the two
//! together.

mod core;
mod error;
mod reader;
mod session_rates;
mod store;
mod transport;
mod values;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wire::limits::{DOCUMENT_ID_BYTES_MAX, MESSAGE_BYTES_MAX, SHARDS_MAX};
use wire::{Access, Grant};

pub use self::core::{CoreConfig, ZeroCopySend};
pub use error::{ConfigError, Place};
use reader::Section;
pub use session_rates::SessionRates;
pub use store::NodeStoreConfig;
pub use transport::TransportConfig;
pub use values::{Congestion, IdlePolicy, LogFormat, LogLevel, StoreLocation};

use crate::cluster::PARTITIONS_MAX;
use crate::session::{self, SESSION_TTL_S_MAX};

/// The longest that a ticket may be valid: it is not checked against the session again before it expires.
pub const TICKET_TTL_S_MAX: u32 = 3_600;
/// The least queue of a slow subscriber: it must hold the largest message.
pub const SUBSCRIBER_QUEUE_BYTES_MIN: u64 = MESSAGE_BYTES_MAX as u64;
/// The largest document that may be configured.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 30;
/// The longest node id, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 64;

// Messages of this file name these numbers.
const _: () = assert!(DOCUMENT_ID_BYTES_MAX == 256 && NODE_ID_BYTES_MAX == 64);
const _: () = assert!(TICKET_TTL_S_MAX < SESSION_TTL_S_MAX);
const _: () = assert!(SUBSCRIBER_QUEUE_BYTES_MIN < DOCUMENT_BYTES_MAX);

/// Everything that can be configured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// `[node]`: the data plane.
    pub node: NodeConfig,
    /// `[control]`: the control plane.
    pub control: ControlConfig,
    /// `[gateway]`: WebSocket and REST.
    pub gateway: GatewayConfig,
    /// `[log]`: events of all three.
    pub log: LogConfig,
    /// `[settings]`: what a running node applies without a restart.
    pub settings: Settings,
}

/// `[node]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Unique in the cluster, and the same after a restart: it owns the data directory.
    pub id: String,
    /// Where the logs are.
    pub data_dir: PathBuf,
    /// The Quantum socket.
    pub listen: SocketAddr,
    /// What clients are told instead of `listen`; empty: `listen`.
    pub advertise: String,
    /// URL of the control plane.
    pub control: String,
    /// Cores; 0: all that the process may use.
    pub shards: u32,
    /// What a shard does when it has nothing to do.
    pub idle_policy: IdlePolicy,
    /// How its connections are run.
    pub transport: TransportConfig,
    /// Bytes of messages of one shard that have come and cannot be delivered yet.
    pub receive_buffer_bytes_max: u64,
    /// Bytes of messages of one shard that are to be sent, or are sent and not acknowledged.
    pub send_buffer_bytes_max: u64,
    /// One turn of a shard in so many has its stages timed; 0: none.
    pub stage_sample_turns: u32,
    /// How the loop of each core works.
    pub core: CoreConfig,
    /// Where operators' requests are taken; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// How the documents of each shard are stored.
    pub store: NodeStoreConfig,
    /// The size of a log segment, allocated ahead.
    pub log_segment_bytes: u64,
    /// A shard's log that has grown to so many bytes has the documents stored that keep its oldest segments.
    pub log_bytes_max: u64,
    /// Files of removed segments that are kept to be used again.
    pub log_spare_segments_max: u32,
    /// The longest that an op waits for others under load before the log is written, microseconds; 0: none waits.
    pub log_commit_delay_us_max: u32,
}

/// `[control]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlConfig {
    /// The gRPC socket.
    pub listen: SocketAddr,
    /// Where the state is kept.
    pub store: StoreLocation,
    /// The bearer key that callers must show; empty: none is asked for.
    pub api_key: String,
    /// The life of a session that does not ask for another.
    pub session_ttl_s: u32,
    /// The life of a ticket.
    pub ticket_ttl_s: u32,
    /// The age at which a ticket key is followed by a new one.
    pub ticket_key_rotate_s: u32,
    /// Slices of the document space; fixed when the cluster is first started.
    pub partitions: u32,
}

/// `[gateway]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayConfig {
    /// The HTTP socket.
    pub listen: SocketAddr,
    /// URL of the control plane.
    pub control: String,
    /// What somebody without a token may do; `None`: nothing.
    pub anonymous: Option<Grant>,
    /// How its connections to nodes are run.
    pub transport: TransportConfig,
}

/// `[log]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogConfig {
    /// From which severity on.
    pub level: LogLevel,
    /// JSON or text.
    pub format: LogFormat,
}

/// `[settings]`: pushed to running nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Presence changes of one document are gathered for so long.
    pub presence_tick_ms: u32,
    /// A connection that is silent for so long is closed.
    pub idle_timeout_ms: u32,
    /// Past it a slow subscriber's queue is dropped and it is sent the state instead.
    pub subscriber_queue_bytes_max: u64,
    /// A document that would outgrow it takes no more ops.
    pub document_bytes_max: u64,
    /// What one session may do.
    #[serde(default)]
    pub session_rates: SessionRates,
}

const fn any(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// The size of a log segment: room for the largest batch, and for what one file system takes as a file.
const LOG_SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 8 << 20..=4 << 30;
/// The length of a log that has documents stored: two of the smallest segments and more.
const LOG_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;
/// The rarest that a shard's turns are timed: at some 300,000 turns a second still every few seconds.
const STAGE_SAMPLE_TURNS_MAX: u32 = 1_000_000;
/// The least that a shard may hold of what cannot be delivered yet: two connections that use all their credit.
const RECEIVE_BUFFER_BYTES_MIN: u64 = 16 << 20;
/// The most.
const RECEIVE_BUFFER_BYTES_LIMIT: u64 = 64 << 30;
/// The longest that a log write may be put off.
const COMMIT_DELAY_US_MAX: u32 = 10_000;
const CONTROL_URL: &str = "http://127.0.0.1:7401";

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            id: "node-1".to_owned(),
            data_dir: PathBuf::from("/var/lib/aetherflow/node"),
            listen: any(7400),
            advertise: String::new(),
            control: CONTROL_URL.to_owned(),
            shards: 0,
            idle_policy: IdlePolicy::Adaptive,
            // The clients see to it that a connection does not fall silent.
            transport: TransportConfig { keep_alive_ms: 0, ..TransportConfig::default() },
            receive_buffer_bytes_max: 256 << 20,
            send_buffer_bytes_max: 1 << 30,
            stage_sample_turns: 997,
            core: CoreConfig::default(),
            admin: None,
            store: NodeStoreConfig::default(),
            log_segment_bytes: 256 << 20,
            log_bytes_max: 1 << 30,
            log_spare_segments_max: 2,
            log_commit_delay_us_max: 500,
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7401),
            store: StoreLocation::Embedded(PathBuf::from("/var/lib/aetherflow/control.store")),
            api_key: String::new(),
            session_ttl_s: 24 * 3_600,
            ticket_ttl_s: 120,
            ticket_key_rotate_s: 24 * 3_600,
            partitions: 256,
        }
    }
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: any(7480),
            control: CONTROL_URL.to_owned(),
            anonymous: None,
            transport: TransportConfig::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            presence_tick_ms: 20,
            idle_timeout_ms: 30_000,
            subscriber_queue_bytes_max: 16 << 20,
            document_bytes_max: 256 << 20,
            session_rates: SessionRates::default(),
        }
    }
}

impl Config {
    /// Reads a file. What it does not say keeps its default; what nobody knows is refused.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut file = Section::parse(text)?;
        config.node.read(file.section("node")?)?;
        config.control.read(file.section("control")?)?;
        config.gateway.read(file.section("gateway")?)?;
        config.log.read(file.section("log")?)?;
        config.settings.read(file.section("settings")?)?;
        file.finish()?;
        Ok(config)
    }
}

fn url(text: &str) -> Option<String> {
    values::is_url(text).then(|| text.to_owned())
}

const URL_EXPECTED: &str = "a URL such as http://127.0.0.1:7401";

/// Whether `id` can name a node: letters, digits, `.`, `_` and `-`.
#[must_use]
pub fn is_node_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !id.is_empty() && id.len() <= NODE_ID_BYTES_MAX && id.bytes().all(allowed)
}

impl NodeConfig {
    fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.parsed("id", &mut self.id, "1 to 64 letters, digits, `.`, `_` or `-`", |text| {
            is_node_id(text).then(|| text.to_owned())
        })?;
        section.parsed("data_dir", &mut self.data_dir, "a path", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        })?;
        section.address("listen", &mut self.listen)?;
        section.parsed("advertise", &mut self.advertise, "HOST:PORT, or empty", |text| {
            (text.is_empty() || is_host_port(text)).then(|| text.to_owned())
        })?;
        section.parsed("control", &mut self.control, URL_EXPECTED, url)?;
        section.integer("shards", &mut self.shards, 0..=SHARDS_MAX as u32)?;
        section.parsed("idle_policy", &mut self.idle_policy, IdlePolicy::EXPECTED, IdlePolicy::parse)?;
        section.integer("stage_sample_turns", &mut self.stage_sample_turns, 0..=STAGE_SAMPLE_TURNS_MAX)?;
        self.core.read(section.section("core")?)?;
        section.parsed("admin", &mut self.admin, "IP:PORT, or empty", |text| {
            if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
        })?;
        self.store.read(section.section("store")?)?;
        let mut transport = section.section("transport")?;
        self.transport.read(&mut transport)?;
        let buffers = RECEIVE_BUFFER_BYTES_MIN..=RECEIVE_BUFFER_BYTES_LIMIT;
        transport.integer("receive_buffer_bytes_max", &mut self.receive_buffer_bytes_max, buffers.clone())?;
        transport.integer("send_buffer_bytes_max", &mut self.send_buffer_bytes_max, buffers)?;
        transport.finish()?;
        let mut log = section.section("log")?;
        log.integer("segment_bytes", &mut self.log_segment_bytes, LOG_SEGMENT_BYTES)?;
        log.integer("bytes_max", &mut self.log_bytes_max, LOG_BYTES)?;
        log.integer("spare_segments_max", &mut self.log_spare_segments_max, 0..=64)?;
        log.integer("commit_delay_us_max", &mut self.log_commit_delay_us_max, 0..=COMMIT_DELAY_US_MAX)?;
        log.finish()?;
        section.finish()
    }
}

/// Whether it is a host or address, a colon and a port.
#[must_use]
pub fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

impl ControlConfig {
    fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.address("listen", &mut self.listen)?;
        section.parsed("store", &mut self.store, StoreLocation::EXPECTED, StoreLocation::parse)?;
        section.string("api_key", &mut self.api_key)?;
        section.integer("session_ttl_s", &mut self.session_ttl_s, 60..=SESSION_TTL_S_MAX)?;
        section.integer("ticket_ttl_s", &mut self.ticket_ttl_s, 10..=TICKET_TTL_S_MAX)?;
        section.integer(
            "ticket_key_rotate_s",
            &mut self.ticket_key_rotate_s,
            TICKET_TTL_S_MAX..=SESSION_TTL_S_MAX,
        )?;
        section.integer("partitions", &mut self.partitions, 1..=PARTITIONS_MAX)?;
        section.finish()
    }
}

impl GatewayConfig {
    fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.address("listen", &mut self.listen)?;
        section.parsed("control", &mut self.control, URL_EXPECTED, url)?;
        let mut anonymous = section.section("anonymous")?;
        let mut enabled = self.anonymous.is_some();
        let mut grant = Grant { pattern: "*".to_owned(), access: Access::Read };
        anonymous.boolean("enabled", &mut enabled)?;
        anonymous.parsed(
            "pattern",
            &mut grant.pattern,
            "a document id, or a prefix and `*`, of at most 256 bytes",
            |text| session::is_pattern(text).then(|| text.to_owned()),
        )?;
        anonymous.parsed(
            "access",
            &mut grant.access,
            "\"presence\", \"read\", \"write\" or \"admin\"",
            session::access_from_name,
        )?;
        anonymous.finish()?;
        self.anonymous = enabled.then_some(grant);
        let mut transport = section.section("transport")?;
        self.transport.read(&mut transport)?;
        transport.finish()?;
        section.finish()
    }
}

impl LogConfig {
    fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.parsed("level", &mut self.level, LogLevel::EXPECTED, LogLevel::parse)?;
        section.parsed("format", &mut self.format, LogFormat::EXPECTED, LogFormat::parse)?;
        section.finish()
    }
}

impl Settings {
    fn read(&mut self, mut section: Section<'_>) -> Result<(), ConfigError> {
        section.integer("presence_tick_ms", &mut self.presence_tick_ms, 1..=1_000)?;
        section.integer("idle_timeout_ms", &mut self.idle_timeout_ms, 1_000..=600_000)?;
        section.integer(
            "subscriber_queue_bytes_max",
            &mut self.subscriber_queue_bytes_max,
            SUBSCRIBER_QUEUE_BYTES_MIN..=1 << 30,
        )?;
        section.integer("document_bytes_max", &mut self.document_bytes_max, 64 << 10..=DOCUMENT_BYTES_MAX)?;
        self.session_rates.read(section.section("session_rates")?)?;
        section.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../../../configs/aetherflow.toml");

    #[test]
    fn the_documented_file_differs_from_the_defaults() {
        assert_eq!(Config::parse(FILE).unwrap(), Config::default());
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn a_key_is_missing_from_the_documented_file() {
        for key in
            ["id", "data_dir", "listen", "advertise", "control", "shards", "idle_policy", "segment_bytes"]
                .into_iter()
                .chain([
                    "admin",
                    "snapshot_after_ms",
                    "unload_after_ms",
                    "document_memory_bytes",
                    "cache_bytes",
                    "merge_cache_bytes",
                    "history_retention_days",
                ])
                .chain(["history_bytes_per_document_max", "tombstone_retention_days"])
                .chain(["stage_sample_turns", "commit_delay_us_max", "congestion", "fec", "fec_deadline_ms"])
                .chain(["fec_overhead_percent_max", "keep_alive_ms", "key_update_packets"])
                .chain([
                    "receive_buffer_bytes_max",
                    "send_buffer_bytes_max",
                    "bytes_max",
                    "spare_segments_max",
                ])
                .chain(["stall_budget_us", "datagrams_in_per_turn_max", "datagrams_out_per_turn_max"])
                .chain(["zero_copy_send", "busy_poll_us"])
                .chain(["datagram_bytes_max", "store", "api_key", "session_ttl_s", "ticket_ttl_s", "enabled"])
                .chain(["ticket_key_rotate_s", "partitions", "pattern", "access", "level", "format"])
                .chain([
                    "presence_tick_ms",
                    "idle_timeout_ms",
                    "subscriber_queue_bytes_max",
                    "document_bytes_max",
                ])
                .chain(["ops_per_s", "op_bytes_per_s", "joins_per_s", "presence_per_s", "burst_ms"])
        {
            assert!(FILE.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_passes() {
        let error = |text| Config::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("[node]\nlisten = \"0.0.0.0:1\"\nshard = 2\n"),
            "line 3: `shard` in [node] is not a known key: did you mean `shards`?"
        );
        assert_eq!(error("[nodes]\n"), "line 1: `nodes` is not a known key: did you mean `node`?");
        assert_eq!(
            error("[node.log]\nsegment_byte = 1\n"),
            "line 2: `segment_byte` in [node.log] is not a known key: did you mean `segment_bytes`?"
        );
        assert_eq!(error("qqqqqqqqq = 1"), "line 1: `qqqqqqqqq` is not a known key");
    }

    #[test]
    fn a_wrong_value_passes_or_is_not_named() {
        let error = |text| Config::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("[node]\nshards = 257"),
            "line 2: `shards` in [node] is 257: it must be from 0 to 256"
        );
        assert_eq!(
            error("[node]\nshards = -1"),
            "line 2: `shards` in [node] is -1: it must be from 0 to 256"
        );
        assert_eq!(
            error("[node]\nshards = \"2\""),
            "line 2: `shards` in [node] must be an integer, not string"
        );
        assert_eq!(error("node = 1"), "line 1: `node` must be a section, not integer");
        assert!(
            error("[control]\nstore = \"etcd:localhost\"").contains("\"embedded:PATH\" or \"etcd:URL,URL\"")
        );
        assert!(
            error("[gateway.anonymous]\npattern = \"a*b\"")
                .contains("line 2: `pattern` in [gateway.anonymous]")
        );
        assert!(error("[node]\n\nlisten = 1 2").starts_with("line 3: not valid TOML"));
        assert!(error("[settings]\nsubscriber_queue_bytes_max = 1").contains("from 4194304 to 1073741824"));
    }

    #[test]
    fn a_given_value_is_ignored() {
        let config = Config::parse(
            "[control]\nstore = \"etcd:http://a:2379, http://b:2379\"\napi_key = \"k\"\n\
             [gateway.anonymous]\nenabled = true\npattern = \"public/*\"\naccess = \"write\"\n[node]\nshards = 0x10\n",
        )
        .unwrap();
        let urls = ["http://a:2379", "http://b:2379"].map(ToOwned::to_owned).to_vec();
        assert_eq!(config.control.store, StoreLocation::Etcd(urls));
        assert_eq!((config.control.api_key.as_str(), config.node.shards), ("k", 16));
        let grant = Grant { pattern: "public/*".to_owned(), access: Access::Write };
        assert_eq!(config.gateway.anonymous, Some(grant));
    }
}
