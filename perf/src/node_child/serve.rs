//! The child's side: a control plane and a node, and nothing else.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use model::Config;
use model::config::{SessionRates, StoreLocation};
use node::{Node, NodeConfig};
use rustix::thread::{CpuSet, sched_setaffinity};
use server::ControlPlane;
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::{IdlePolicy, NodeMetrics, NodeReady, Usage};
use crate::error::{Error, Result};

/// The command line of `serve node`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where it keeps its log and its sessions.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Shards.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
    /// The cores that the process may use [default: all that it is allowed].
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    cores: Vec<usize>,
    /// What a shard does when idle.
    #[arg(long, value_enum, default_value_t)]
    idle_policy: IdlePolicy,
    /// gRPC address of the control plane; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// UDP address for Quantum; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The size of a log segment.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    log_segment_bytes: u64,
    /// The longest that an op waits for others under load before the log is written.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = node::COMMIT_DELAY_US_MAX)]
    commit_delay_us_max: u32,
    /// One turn of a shard in so many has its stages timed; 0: none.
    #[arg(long, value_name = "N", default_value_t = node::STAGE_SAMPLE_TURNS)]
    stage_sample_turns: u32,
}

/// Serves until standard input closes, then drains.
///
/// # Errors
/// What did not start, or why a shard stopped.
pub fn serve(args: &ServeArgs) -> Result<()> {
    // Before anything asks for the allowed cores or starts a thread.
    confine(&args.cores)?;
    let filter = EnvFilter::try_from_env("AETHERFLOW_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::doing("starting a tokio runtime", error))?;
    runtime.block_on(run(args))
}

async fn run(args: &ServeArgs) -> Result<()> {
    let config = config(args);
    let starting = |error: Box<dyn std::error::Error + Send + Sync>| Error::doing("starting the node", error);
    let store = store::open(&config.control.store).await.map_err(|error| starting(error.into()))?;
    let control = ControlPlane::start(&config, store, config.control.listen).await;
    let control = control.map_err(|error| starting(error.into()))?;
    let url = format!("http://{}", control.address());
    // A node's start reads its log: it must not hold up the control plane, which its agent asks.
    let node_config = node_config(&config, args, url.clone());
    let node = tokio::task::spawn_blocking(move || Node::start(node_config)).await;
    let node = node.map_err(|error| starting(error.into()))?.map_err(|error| starting(error.into()))?;
    let node = node.ready().await.map_err(|error| starting(error.into()))?;
    say(&NodeReady {
        control: url,
        quantum: node.address(),
        shards: node.shard_count(),
        recovered_ops: node.recovered_ops(),
    })?;
    let (render, snapshots) = (node.metrics(), node.snapshots());
    let metrics = || NodeMetrics {
        prometheus: render(),
        shards: snapshots().iter().map(Into::into).collect(),
        usage: Usage::of(std::process::id()).unwrap_or_default(),
    };
    let mut lines = lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(()) => say(&metrics())?,
                None => break,
            },
            () = node.failed() => break,
        }
    }
    let drained = tokio::task::spawn_blocking(move || node.drain()).await;
    drained
        .map_err(|error| Error::doing("draining the node", error))?
        .map_err(|error| Error::doing("draining the node", error))?;
    control.shutdown().await;
    say(&metrics())
}

fn config(args: &ServeArgs) -> Config {
    let mut config = Config::default();
    config.control.store = StoreLocation::Embedded(args.data_dir.join("control.store"));
    config.control.listen = args.control;
    config.node.data_dir = args.data_dir.join("node");
    // All clients of a load are of one session.
    config.settings.session_rates = SessionRates::UNLIMITED;
    // The control plane tells it to the node, too.
    config.node.idle_policy = match args.idle_policy {
        IdlePolicy::Busy => model::config::IdlePolicy::Busy,
        IdlePolicy::Adaptive => model::config::IdlePolicy::Adaptive,
        IdlePolicy::Saver => model::config::IdlePolicy::Saver,
    };
    config
}

fn node_config(config: &Config, args: &ServeArgs, control: String) -> NodeConfig {
    NodeConfig {
        node_id: config.node.id.clone(),
        data_dir: config.node.data_dir.clone(),
        listen: args.listen,
        advertise: None,
        control,
        api_key: String::new(),
        shards: Some(usize::from(args.shards)),
        idle_policy: match args.idle_policy {
            IdlePolicy::Busy => node::IdlePolicy::Busy,
            IdlePolicy::Adaptive => node::IdlePolicy::Adaptive,
            IdlePolicy::Saver => node::IdlePolicy::Saver,
        },
        transport: node::TransportConfig::default(),
        receive_buffer_bytes_max: config.node.receive_buffer_bytes_max,
        send_buffer_bytes_max: config.node.send_buffer_bytes_max,
        log_segment_bytes: args.log_segment_bytes,
        commit_delay_us_max: args.commit_delay_us_max,
        stage_sample_turns: args.stage_sample_turns,
        core: node::CoreConfig::default(),
        log: node::NodeLogConfig::default(),
        admin: None,
        store: node::NodeStoreConfig::default(),
    }
}

/// Keeps this thread, and all that it will start, to `cores`.
fn confine(cores: &[usize]) -> Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for &core in cores.iter().filter(|&&core| core < CpuSet::MAX_CPU) {
        set.set(core);
    }
    let doing = || format!("keeping the node to the cores {cores:?}");
    sched_setaffinity(None, &set).map_err(|error| Error::doing(doing(), error))
}

/// What comes on standard input, by a thread of its own; closes with it.
fn lines() -> mpsc::Receiver<()> {
    let (asked, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || asked.blocking_send(()).is_err() {
                return;
            }
        }
    });
    lines
}

fn say(what: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let said = serde_json::to_writer(&mut out, what).map_err(std::io::Error::from);
    let said = said.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    said.map_err(|error| Error::doing("speaking to whoever started the node", error))
}
