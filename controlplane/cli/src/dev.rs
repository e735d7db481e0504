//! `aetherflow dev`: control plane, node and gateway in one process, on the embedded store.

use std::process::ExitCode;
use std::time::Instant;

use gateway::Gateway;
use model::Config;
use model::config::{IdlePolicy, LogLevel, StoreLocation};
use node::Node;
use serde_json::json;
use server::ControlPlane;
use tracing::warn;
use wire::{Access, Grant};

use crate::args::{DevArgs, IdlePolicyArg};
use crate::roles::{self, RoleError};
use crate::{logging, output};

/// A segment of the log: small, so that a first start is quick and a small disk suffices.
const SEGMENT_BYTES: u64 = 32 << 20;

/// What runs in a `dev` process.
struct Appliance {
    control: ControlPlane,
    node: Node,
    gateway: Gateway,
}

/// Runs until it is asked to stop; then drains, so that nothing is lost.
pub(crate) fn run(args: &DevArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => output::OK,
        Err(error) => output::fail(args.output, &error),
    }
}

fn serve(args: &DevArgs) -> Result<(), RoleError> {
    let started = Instant::now();
    let config = config(args)?;
    logging::init(config.log);
    let runtime = roles::runtime()?;
    runtime.block_on(async {
        let appliance = Appliance::start(config).await?;
        appliance.announce(args, started);
        let asked = roles::asked_to_stop_or_failed(&appliance.node).await;
        appliance.stop(args).await?;
        asked
    })
}

/// The configuration file if there is one, then the defaults of `dev`, then the flags.
fn config(args: &DevArgs) -> Result<Config, RoleError> {
    let mut config = match &args.config {
        Some(path) => roles::load(path)?,
        None => {
            let mut config = Config::default();
            config.log.level = LogLevel::Warn;
            config.node.log_segment_bytes = SEGMENT_BYTES;
            config.gateway.anonymous = Some(Grant { pattern: "*".to_owned(), access: Access::Write });
            config
        }
    };
    config.control.store = StoreLocation::Embedded(args.data_dir.join("control.store"));
    config.control.listen = args.control;
    config.node.data_dir = args.data_dir.join("node");
    config.node.listen = args.listen;
    config.gateway.listen = args.http;
    config.node.admin = args.admin.or(config.node.admin);
    if let Some(shards) = args.shards {
        config.node.shards = u32::from(shards);
    }
    match args.idle_policy {
        Some(IdlePolicyArg::Busy) => config.node.idle_policy = IdlePolicy::Busy,
        Some(IdlePolicyArg::Adaptive) => config.node.idle_policy = IdlePolicy::Adaptive,
        Some(IdlePolicyArg::Saver) => config.node.idle_policy = IdlePolicy::Saver,
        None => {}
    }
    Ok(config)
}

impl Appliance {
    async fn start(mut config: Config) -> Result<Self, RoleError> {
        if config.control.api_key.is_empty() && !config.gateway.listen.ip().is_loopback() {
            warn!(http = %config.gateway.listen, "anybody who reaches this address can read and edit every document");
        }
        let control = roles::start_control(&config).await?;
        let url = format!("http://{}", control.address());
        config.node.control.clone_from(&url);
        config.gateway.control = url;
        // The node's start reads the log: it must not hold up the control plane, which the agent asks.
        let node_config = roles::node_config(&config);
        let node = tokio::task::spawn_blocking(move || Node::start(node_config)).await;
        let node = node.expect("starting a node does not panic")?.ready().await?;
        let mut gateway = roles::gateway_config(&config);
        gateway.metrics = Some(Box::new(node.metrics()));
        let gateway = Gateway::start(gateway).await?;
        Ok(Self { control, node, gateway })
    }

    fn announce(&self, args: &DevArgs, started: Instant) {
        let http = format!("http://{}", self.gateway.address());
        let control = format!("http://{}", self.control.address());
        let quantum = self.node.address();
        let ready_ms = started.elapsed().as_millis() as u64;
        let data_dir = args.data_dir.display().to_string();
        let ready = json!({
            "event": "ready", "http": http, "control": control, "quantum": quantum.to_string(),
            "data_dir": data_dir, "shards": self.node.shard_count(), "recovered_ops": self.node.recovered_ops(),
            "recovered_ops_stored": self.node.recovered_ops_stored(), "ready_ms": ready_ms, "pid": std::process::id(),
            "admin": self.node.admin_address().map(|address| address.to_string()),
        });
        output::print(args.output, &ready, || {
            let websocket = http.replacen("http", "ws", 1);
            format!(
                "AetherFlow is ready after {ready_ms} ms: {} shards, {} ops recovered from {data_dir}\n\n\
                 Playground  {http}/\n            open it in two windows and type\n\
                 Yjs         {websocket}/y\n            new WebsocketProvider('{websocket}/y', 'my-document', doc)\n\
                 REST        {http}/v1\n            curl '{http}/v1/documents/my-document?format=text'\n\
                 gRPC        {control}\n            sessions and tickets for native clients\n\
                 Quantum     {quantum}\n            native clients, encrypted UDP\n\n\
                 Ctrl-C stops it; nothing is lost.",
                self.node.shard_count(),
                self.node.recovered_ops(),
            )
        });
    }

    /// From the edge inwards: no new edits, then everything durable, then the rest.
    async fn stop(self, args: &DevArgs) -> Result<(), RoleError> {
        self.gateway.shutdown().await;
        let summary = tokio::task::spawn_blocking(move || self.node.drain()).await;
        let summary = summary.expect("draining a node does not panic")?;
        self.control.shutdown().await;
        let stopped = json!({ "event": "stopped", "ops": summary.ops, "log_bytes": summary.log_bytes });
        output::print(args.output, &stopped, || {
            format!("stopped: {} ops logged, {} bytes of log", summary.ops, summary.log_bytes)
        });
        Ok(())
    }
}
