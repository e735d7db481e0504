//! Starting, watching and draining a node.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use backup::Subject;
use proto::v1::NodeHello;
use rings::spsc;
use rt::{DataDir, Layout, ShardHandle, SocketOptions, unix_ms};
use tokio::sync::{Notify, mpsc, watch};
use tracing::info;
use wire::Guuid;
use wire::limits::SHARDS_MAX;

use crate::admin::{self, Admin};
use crate::agent::{Agent, ShardLink};
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::metrics;
use crate::shard_loop::AgentLink;
use crate::shard_start::{ShardPlan, ShardStarted};
use crate::siblings;
use crate::state::NodeState;
use crate::timings::ShardSnapshot;

/// Commands under way to a shard: a handful of each kind.
const COMMANDS_MAX: usize = 64;
/// Reports under way from a shard.
const REPORTS_MAX: usize = 64;
/// Requests of the admin service under way to the agent.
const HOLDS_MAX: usize = 4;
/// How long a start waits for the control plane to send keys and placement.
const ADMISSION_SPAN_MAX: Duration = Duration::from_secs(60);

/// How often the shards' threads are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// What a drained node leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeSummary {
    /// Ops logged in this run.
    pub ops: u64,
    /// Bytes of their records.
    pub log_bytes: u64,
}

/// A running node. Dropping it without [`drain`](Self::drain) is like a kill: nothing acknowledged is lost.
pub struct Node {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    state: watch::Receiver<NodeState>,
    drain: watch::Sender<bool>,
    control: String,
    shards: Vec<ShardHandle<Result<(), NodeError>>>,
    agent: JoinHandle<()>,
    // The lock on the data directory lives as long as the node.
    _data_dir: DataDir,
}

impl Node {
    /// Takes the data directory, reads the logs, binds the sockets and starts one thread per shard and one
    /// for the agent. Returns when every log is recovered.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let data_dir = DataDir::lock(&config.data_dir, config.listen)?;
        let admin_listener =
            config.admin.map(|address| admin::listen(address, &config.api_key)).transpose()?;
        let layout = layout(&data_dir, config.shards)?;
        let reset_key = data_dir.reset_key()?;
        let cores = rt::allowed_cores();
        let sockets = rt::bind_group(config.listen, layout.shards, &SocketOptions::default())?;
        let address = sockets[0].local_addr().map_err(|error| NodeError::Config(error.to_string()))?;
        let reported = Arc::new(Notify::new());
        let notify: Arc<dyn Fn() + Send + Sync> = {
            let reported = reported.clone();
            Arc::new(move || reported.notify_one())
        };

        let data_cores: Vec<_> = (0..layout.shards).filter_map(|shard| core_of(&cores, shard)).collect();
        // All shards read their logs at the same time.
        let mut starting = Vec::new();
        for ((shard, socket), siblings) in sockets.into_iter().enumerate().zip(siblings::mesh(layout.shards))
        {
            let (commands, commands_out) = spsc::channel(COMMANDS_MAX);
            let (reports, reports_out) = spsc::channel(REPORTS_MAX);
            let link = AgentLink { commands: commands_out, reports, notify: notify.clone() };
            let (core, log_dir) = (core_of(&cores, shard), data_dir.log_dir(shard)?);
            let (address, config) = (advertised(&config, address), config.clone());
            let data_cores = data_cores.clone();
            let plan =
                ShardPlan { shard, core, data_cores, layout, log_dir, reset_key, address, config, siblings };
            starting.push((plan.spawn(socket, link)?, commands, reports_out));
        }
        let (mut shards, mut links) = (Vec::new(), Vec::new());
        let (mut told, mut storage) = (Vec::new(), Vec::new());
        for (shard, (started, commands, reports)) in starting.into_iter().enumerate() {
            let ShardStarted { handle, ready, doorbells } = started;
            match ready.recv() {
                Ok((doorbell, control)) => {
                    links.push(ShardLink { commands, reports, doorbell });
                    storage.push(control);
                }
                Err(_) => return Err(failure(shard, handle)),
            }
            shards.push(handle);
            told.push(doorbells);
        }
        let doorbells: Vec<_> = links.iter().map(|link| link.doorbell.clone()).collect();
        for shard in told {
            // One that has stopped meanwhile is found by whoever watches the node.
            let _ = shard.send(doorbells.clone());
        }
        let (state_in, state) = watch::channel(NodeState::new(layout.shards));
        let (drain, drain_out) = watch::channel(false);
        let hello = hello(&config, address, layout.shards)?;
        let (holds, holds_out) = mpsc::channel(HOLDS_MAX);
        let agent = Agent {
            control: config.control.clone(),
            api_key: config.api_key.clone(),
            hello,
            links,
            reported,
            state: state_in,
            drain: drain_out,
            drain_told: false,
            holds: holds_out,
            holding: (0..layout.shards).map(|_| VecDeque::new()).collect(),
        };
        let admin_address = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let admin = Admin {
            api_key: config.api_key.clone(),
            subject: Subject {
                node_id: config.node_id.clone(),
                shards: layout.shards,
                log_id: layout.log_id,
            },
            log_dirs: (0..layout.shards).map(|shard| data_dir.log_path(shard)).collect(),
            storage,
            holds,
        };
        let service = admin_listener.map(|listener| (listener, admin));
        let agent = std::thread::Builder::new()
            .name("agent".to_owned())
            .spawn(move || run_agent(agent, service))
            .map_err(NodeError::Agent)?;
        info!(%address, shards = layout.shards, "node started");
        let control = config.control;
        Ok(Self { address, admin_address, state, drain, control, shards, agent, _data_dir: data_dir })
    }

    /// Where the node receives.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes operators' requests, if anywhere.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// How many shards it has.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Returns when every shard has its keys and its placement, so that clients are served.
    pub async fn ready(self) -> Result<Self, NodeError> {
        let mut state = self.state.clone();
        let admitted = tokio::select! {
            admitted = tokio::time::timeout(ADMISSION_SPAN_MAX, state.wait_for(NodeState::is_ready)) => {
                matches!(admitted, Ok(Ok(_)))
            }
            () = self.failed() => false,
        };
        if admitted {
            return Ok(self);
        }
        let last = self.state.borrow().last_error.clone();
        let not_admitted = NodeError::NotAdmitted {
            control: self.control.clone(),
            waited_s: ADMISSION_SPAN_MAX.as_secs(),
            last: if last.is_empty() { "it has not answered yet".to_owned() } else { last },
        };
        // A shard that has stopped by itself knows better.
        Err(self.drain().err().unwrap_or(not_admitted))
    }

    /// Ops that were read from the logs at the start.
    #[must_use]
    pub fn recovered_ops(&self) -> u64 {
        self.state.borrow().shards.iter().map(|shard| shard.recovered_ops).sum()
    }

    /// How many of them the store had as well, so that the log was not needed for them.
    #[must_use]
    pub fn recovered_ops_stored(&self) -> u64 {
        self.state.borrow().shards.iter().map(|shard| shard.recovered_ops_stored).sum()
    }

    /// A source of the node's figures in Prometheus' text format.
    pub fn metrics(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let state = self.state.clone();
        move || metrics::render(&state.borrow())
    }

    /// A source of what each shard last reported, at most a second ago.
    pub fn snapshots(&self) -> impl Fn() -> Vec<ShardSnapshot> + Send + Sync + 'static {
        let state = self.state.clone();
        move || state.borrow().shards.iter().map(|shard| shard.last.clone()).collect()
    }

    /// Ends only when a shard has stopped by itself, as it does when its log cannot be written: then the process
    /// must stop, and [`drain`](Self::drain) says why.
    pub async fn failed(&self) {
        let mut watch = tokio::time::interval(WATCH_INTERVAL);
        while !self.shards.iter().any(ShardHandle::is_finished) {
            watch.tick().await;
        }
    }

    /// Makes everything durable, tells the clients, and stops.
    pub fn drain(self) -> Result<NodeSummary, NodeError> {
        // The agent may be gone already, and with it its receiver; then the shards have stopped, too.
        let _ = self.drain.send(true);
        for (shard, handle) in self.shards.into_iter().enumerate() {
            finished(shard, handle)?;
        }
        let _ = self.agent.join();
        let state = self.state.borrow();
        let sum = |name| state.shards.iter().map(|shard| shard.figure(name)).sum();
        Ok(NodeSummary { ops: sum("ops_logged"), log_bytes: sum("log_record_bytes") })
    }
}

/// The layout that the directory was made with, or a new one.
fn layout(data_dir: &DataDir, wanted: Option<usize>) -> Result<Layout, NodeError> {
    match (data_dir.layout()?, wanted) {
        (Some(found), Some(wanted)) if found.shards != wanted => {
            Err(NodeError::ShardCount { path: data_dir.path().to_owned(), found: found.shards, wanted })
        }
        (Some(found), _) => Ok(found),
        (None, wanted) => {
            let shards = wanted.unwrap_or_else(|| rt::allowed_cores().len()).clamp(1, SHARDS_MAX);
            let layout = Layout { shards, log_id: new_guuid()?, incarnation_min: 0 };
            data_dir.write_layout(&layout)?;
            Ok(layout)
        }
    }
}

/// Shards beyond the allowed cores share them.
fn core_of(cores: &[usize], shard: usize) -> Option<usize> {
    (!cores.is_empty()).then(|| cores[shard % cores.len()])
}

fn hello(config: &NodeConfig, address: SocketAddr, shards: usize) -> Result<NodeHello, NodeError> {
    Ok(NodeHello {
        node_id: config.node_id.clone(),
        incarnation: new_guuid()?.as_bytes().to_vec(),
        quantum_address: advertised(config, address),
        shards: shards as u32,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Under which the cluster knows the node.
fn advertised(config: &NodeConfig, address: SocketAddr) -> String {
    config.advertise.clone().unwrap_or_else(|| reachable(address).to_string())
}

/// A node that listens on every address is reached by its own host on the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), v6.port())
        }
        bound => bound,
    }
}

fn new_guuid() -> Result<Guuid, NodeError> {
    let mut entropy = [0; 10];
    rt::entropy(&mut entropy)?;
    Ok(Guuid::new(unix_ms(), entropy))
}

fn run_agent(agent: Agent, service: Option<(TcpListener, Admin)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime of one thread needs an epoll instance and nothing else").block_on(async {
        if let Some((listener, admin)) = service {
            // It ends with the runtime.
            tokio::spawn(admin::serve(listener, admin));
        }
        agent.run().await;
    });
}

fn finished(shard: usize, handle: ShardHandle<Result<(), NodeError>>) -> Result<(), NodeError> {
    match handle.join() {
        Ok(ended) => ended,
        Err(error) => Err(NodeError::ShardStopped { shard, reason: error.to_string() }),
    }
}

/// Why a shard never became ready.
fn failure(shard: usize, handle: ShardHandle<Result<(), NodeError>>) -> NodeError {
    let early = || NodeError::ShardStopped { shard, reason: "it ended before it served".to_owned() };
    finished(shard, handle).err().unwrap_or_else(early)
}
