//! A control plane, a node of two shards, and clients with a map that is right or wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aetherflow_client::{
    Client, ClientConfig, ControlPlane as Tickets, IssuedTicket, TicketRefusal, TicketSource,
};
use model::Config;
use model::config::StoreLocation;
use node::{IdlePolicy, Node, NodeConfig};
use server::ControlPlane;
use wire::{Access, Grant};

const SHARDS: usize = 2;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Figures are reported once a second.
const FIGURES_LATE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Rig {
    control: ControlPlane,
    node: Node,
    tickets: Tickets,
    _place: tempfile::TempDir,
}

/// Tickets whose map sends each document to the next shard.
struct Astray {
    tickets: Tickets,
    is_astray: bool,
}

impl TicketSource for Astray {
    async fn ticket(&self, previous: Option<&[u8]>) -> Result<IssuedTicket, TicketRefusal> {
        let mut issued = self.tickets.ticket(previous).await?;
        if self.is_astray {
            issued.map.owners.iter_mut().for_each(|owner| owner.shard = (owner.shard + 1) % SHARDS as u32);
        }
        Ok(issued)
    }
}

impl Rig {
    pub(crate) async fn start(idle_policy: IdlePolicy) -> Self {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on a disk");
        let mut config = Config::default();
        config.control.store = StoreLocation::Embedded(place.path().join("control.store"));
        config.control.listen = LOOPBACK;
        config.node.idle_policy = match idle_policy {
            IdlePolicy::Busy => model::config::IdlePolicy::Busy,
            IdlePolicy::Adaptive => model::config::IdlePolicy::Adaptive,
            IdlePolicy::Saver => model::config::IdlePolicy::Saver,
        };
        let store = store::open(&config.control.store).await.expect("a store");
        let control = ControlPlane::start(&config, store, LOOPBACK).await.expect("a control plane");
        let url = format!("http://{}", control.address());
        let node_config = node_config(&config, place.path().join("node"), url.clone(), idle_policy);
        let node = tokio::task::spawn_blocking(move || Node::start(node_config)).await.expect("no panic");
        let node = node.expect("a node").ready().await.expect("ready");
        let grants = [Grant { pattern: "*".to_owned(), access: Access::Write }];
        let session = Tickets::create_session(&url, "test", &grants, None, 0).await.expect("a session");
        let tickets = Tickets::connect(&url, session.token).await.expect("tickets");
        Self { control, node, tickets, _place: place }
    }

    /// A client; one that is astray takes the other shard for the owner of each document.
    pub(crate) async fn client(&self, config: ClientConfig, is_astray: bool) -> Client {
        let tickets = Astray { tickets: self.tickets.clone(), is_astray };
        Client::builder(tickets).config(config).connect().await.expect("a client")
    }

    /// Whether a figure of a shard comes to `least`.
    pub(crate) async fn figure(&self, shard: usize, name: &str, least: u64) -> bool {
        let snapshots = self.node.snapshots();
        let comes = async {
            while snapshots()[shard].figure(name) < least {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(FIGURES_LATE_MAX, comes).await.is_ok()
    }

    pub(crate) async fn stop(self) {
        let node = self.node;
        tokio::task::spawn_blocking(move || node.drain()).await.expect("no panic").expect("drained");
        self.control.shutdown().await;
    }
}

fn node_config(
    config: &Config,
    data_dir: std::path::PathBuf,
    control: String,
    idle_policy: IdlePolicy,
) -> NodeConfig {
    NodeConfig {
        node_id: config.node.id.clone(),
        data_dir,
        listen: LOOPBACK,
        advertise: None,
        control,
        api_key: String::new(),
        shards: Some(SHARDS),
        idle_policy,
        transport: node::TransportConfig::default(),
        receive_buffer_bytes_max: config.node.receive_buffer_bytes_max,
        send_buffer_bytes_max: 1 << 30,
        log_segment_bytes: 32 << 20,
        log: node::NodeLogConfig::default(),
        commit_delay_us_max: node::COMMIT_DELAY_US_MAX,
        stage_sample_turns: 0,
        admin: None,
        store: node::NodeStoreConfig::default(),
        core: node::CoreConfig::default(),
    }
}
