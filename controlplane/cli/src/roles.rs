//! The parts of the appliance, as `dev` runs them together and as processes of their own.

use std::path::Path;
use std::process::ExitCode;

use gateway::{Gateway, GatewayConfig};
use model::Config;
use model::config::{ConfigError, IdlePolicy, ZeroCopySend};
use node::{Node, NodeConfig, NodeError};
use serde_json::json;
use server::ControlPlane;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use wire::Span;

use crate::args::{ConfigArgs, Output, RoleArgs};
use crate::transport::transport;
use crate::{logging, output};

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Why a part did not start, or stopped.
#[derive(Debug, Error)]
pub(crate) enum RoleError {
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Config { path: String, source: ConfigError },
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Control(#[from] server::StartError),
    #[error(transparent)]
    Gateway(#[from] gateway::StartError),
    #[error("the tokio runtime cannot be started: {0}")]
    Runtime(std::io::Error),
    #[error("signals cannot be watched: {0}")]
    Signals(std::io::Error),
}

/// Reads and checks a configuration file.
pub(crate) fn load(path: &Path) -> Result<Config, RoleError> {
    let shown = || path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| RoleError::Unreadable { path: shown(), source })?;
    Config::parse(&text).map_err(|source| RoleError::Config { path: shown(), source })
}

/// A runtime of one thread: what runs on it waits more than it works, and the cores belong to the shards.
pub(crate) fn runtime() -> Result<Runtime, RoleError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RoleError::Runtime)
}

/// The node's part of a configuration.
pub(crate) fn node_config(config: &Config) -> NodeConfig {
    let node = &config.node;
    NodeConfig {
        node_id: node.id.clone(),
        data_dir: node.data_dir.clone(),
        listen: node.listen,
        advertise: (!node.advertise.is_empty()).then(|| node.advertise.clone()),
        control: node.control.clone(),
        api_key: config.control.api_key.clone(),
        shards: (node.shards > 0).then_some(node.shards as usize),
        idle_policy: match node.idle_policy {
            IdlePolicy::Busy => node::IdlePolicy::Busy,
            IdlePolicy::Adaptive => node::IdlePolicy::Adaptive,
            IdlePolicy::Saver => node::IdlePolicy::Saver,
        },
        transport: transport(&node.transport),
        receive_buffer_bytes_max: node.receive_buffer_bytes_max,
        send_buffer_bytes_max: node.send_buffer_bytes_max,
        log_segment_bytes: node.log_segment_bytes,
        log: node::NodeLogConfig {
            bytes_max: node.log_bytes_max,
            spare_segments_max: node.log_spare_segments_max as usize,
        },
        commit_delay_us_max: node.log_commit_delay_us_max,
        stage_sample_turns: node.stage_sample_turns,
        core: core_config(&node.core),
        admin: node.admin,
        store: store_config(&node.store),
    }
}

fn store_config(store: &model::config::NodeStoreConfig) -> node::NodeStoreConfig {
    node::NodeStoreConfig {
        snapshot_after: Span::from_ms(u64::from(store.snapshot_after_ms)),
        unload_after: Span::from_ms(u64::from(store.unload_after_ms)),
        document_memory_bytes: store.document_memory_bytes,
        store: node::StoreConfig {
            cache_bytes: store.cache_bytes,
            history_retention_ms: u64::from(store.history_retention_days) * DAY_MS,
            history_bytes_per_document_max: store.history_bytes_per_document_max,
            tombstone_retention_ms: u64::from(store.tombstone_retention_days) * DAY_MS,
            ..node::StoreConfig::default()
        },
        merge_cache_bytes: store.merge_cache_bytes,
    }
}

fn core_config(core: &model::config::CoreConfig) -> node::CoreConfig {
    node::CoreConfig {
        stall_budget_us: core.stall_budget_us,
        datagrams_in_per_turn_max: core.datagrams_in_per_turn_max as usize,
        datagrams_out_per_turn_max: core.datagrams_out_per_turn_max as usize,
        zero_copy_send: match core.zero_copy_send {
            ZeroCopySend::Auto => node::ZeroCopySend::Auto,
            ZeroCopySend::Off => node::ZeroCopySend::Off,
            ZeroCopySend::On => node::ZeroCopySend::On,
        },
        busy_poll_us: core.busy_poll_us,
    }
}

/// Starts the control plane on its store.
pub(crate) async fn start_control(config: &Config) -> Result<ControlPlane, RoleError> {
    let store = store::open(&config.control.store).await?;
    Ok(ControlPlane::start(config, store, config.control.listen).await?)
}

/// The gateway's part of a configuration.
pub(crate) fn gateway_config(config: &Config) -> GatewayConfig {
    GatewayConfig {
        listen: config.gateway.listen,
        control_url: config.gateway.control.clone(),
        api_key: config.control.api_key.clone(),
        anonymous: config.gateway.anonymous.clone().into_iter().collect(),
        transport: transport(&config.gateway.transport),
        metrics: None,
    }
}

/// Ends when the process is asked to: Ctrl-C or SIGTERM.
pub(crate) async fn asked_to_stop() -> Result<(), RoleError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RoleError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RoleError::Signals)?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// The same, or when a shard of the node has stopped by itself: draining it says why.
pub(crate) async fn asked_to_stop_or_failed(node: &Node) -> Result<(), RoleError> {
    tokio::select! {
        asked = asked_to_stop() => asked,
        () = node.failed() => Ok(()),
    }
}

/// `aetherflow node`.
pub(crate) fn node(args: &RoleArgs) -> ExitCode {
    role(args, |config, runtime, output| {
        let node = runtime.block_on(Node::start(node_config(config))?.ready())?;
        let ready =
            json!({ "event": "ready", "quantum": node.address().to_string(), "shards": node.shard_count() });
        output::print(output, &ready, || format!("node {} serves on {}", config.node.id, node.address()));
        runtime.block_on(asked_to_stop_or_failed(&node))?;
        node.drain()?;
        Ok(())
    })
}

/// `aetherflow control`.
pub(crate) fn control(args: &RoleArgs) -> ExitCode {
    role(args, |config, runtime, output| {
        runtime.block_on(async {
            let control = start_control(config).await?;
            let ready = json!({ "event": "ready", "control": format!("http://{}", control.address()) });
            output::print(output, &ready, || format!("control plane serves on http://{}", control.address()));
            asked_to_stop().await?;
            control.shutdown().await;
            Ok(())
        })
    })
}

/// `aetherflow gateway`.
pub(crate) fn gateway(args: &RoleArgs) -> ExitCode {
    role(args, |config, runtime, output| {
        runtime.block_on(async {
            let gateway = Gateway::start(gateway_config(config)).await?;
            let ready = json!({ "event": "ready", "http": format!("http://{}", gateway.address()) });
            output::print(output, &ready, || format!("gateway serves on http://{}", gateway.address()));
            asked_to_stop().await?;
            gateway.shutdown().await;
            Ok(())
        })
    })
}

/// `aetherflow config`.
pub(crate) fn check_config(args: &ConfigArgs) -> ExitCode {
    match load(&args.file) {
        Ok(_) => {
            let file = args.file.display().to_string();
            output::print(args.output, &json!({ "event": "valid", "file": file }), || {
                format!("{file} is valid")
            });
            output::OK
        }
        Err(error) => output::fail(args.output, &error),
    }
}

fn role(args: &RoleArgs, run: impl FnOnce(&Config, &Runtime, Output) -> Result<(), RoleError>) -> ExitCode {
    let run = || {
        let config = load(&args.config)?;
        logging::init(config.log);
        run(&config, &runtime()?, args.output)
    };
    match run() {
        Ok(()) => output::OK,
        Err(error) => output::fail(args.output, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_measured_with_other_defaults_than_it_runs_with() {
        let config = node_config(&Config::default());
        assert_eq!(config.commit_delay_us_max, node::COMMIT_DELAY_US_MAX);
        assert_eq!(config.stage_sample_turns, node::STAGE_SAMPLE_TURNS);
        assert_eq!(config.core, node::CoreConfig::default());
        assert_eq!(config.log, node::NodeLogConfig::default());
        assert_eq!(config.store, node::NodeStoreConfig::default());
    }
}
