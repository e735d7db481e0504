//! What a workload drives: a node of its own, or a cluster that runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use aetherflow_client::ControlPlane;
use clap::Args;
use serde_json::json;
use wire::{Access, Grant};

use crate::context::{Context, Cores};
use crate::error::{Error, Result};
use crate::node_child::{IdlePolicy, NodeOptions, NodeProcess, data_cores};
use crate::result::Waiting;

/// Documents of a load begin with this.
pub const DOCUMENT_PREFIX: &str = "aether-perf";

/// Options of every workload of the product.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// Drive a cluster that runs, by the URL of its control plane, instead of a node of one's own
    #[arg(long, value_name = "URL", help_heading = "Node", conflicts_with_all = ["shards", "data_dir", "idle_policy", "commit_delay_us_max", "stage_sample_turns"])]
    pub target: Option<String>,
    /// The API key of that control plane, if it has one
    #[arg(
        long,
        value_name = "KEY",
        help_heading = "Node",
        requires = "target",
        env = "AETHERFLOW_API_KEY",
        hide_env_values = true
    )]
    pub api_key: Option<String>,
    /// Shards of the node
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Node",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: u16,
    /// What a shard does when idle
    #[arg(long, value_enum, default_value_t, help_heading = "Node")]
    pub idle_policy: IdlePolicy,
    /// Where the node keeps its log [default: a temporary directory on a disk, removed at the end]
    #[arg(long, value_name = "DIR", help_heading = "Node")]
    pub data_dir: Option<PathBuf>,
    /// The longest that an op waits for others under load before the log is written; 0: none waits
    #[arg(long, value_name = "MICROSECONDS", default_value_t = node::COMMIT_DELAY_US_MAX, help_heading = "Node")]
    pub commit_delay_us_max: u32,
    /// Time the stages of one turn in N of a shard's loop; 0: of none
    #[arg(long = "sample", value_name = "1/N", default_value = "1/997", value_parser = sample, help_heading = "Node")]
    pub stage_sample_turns: u32,
}

/// `1/N`, or `0`.
fn sample(text: &str) -> Result<u32, String> {
    let wanted = || format!("1/N is wanted, such as 1/{}, or 0 for none", node::STAGE_SAMPLE_TURNS);
    match text.strip_prefix("1/") {
        Some(turns) => turns.parse().ok().filter(|&turns| turns > 0).ok_or_else(wanted),
        None if text == "0" => Ok(0),
        None => Err(wanted()),
    }
}

impl Default for TargetArgs {
    fn default() -> Self {
        Self {
            target: None,
            api_key: None,
            shards: 1,
            idle_policy: IdlePolicy::Busy,
            data_dir: None,
            commit_delay_us_max: node::COMMIT_DELAY_US_MAX,
            stage_sample_turns: node::STAGE_SAMPLE_TURNS,
        }
    }
}

/// What tells runs on nodes of one's own apart.
#[derive(Clone, Copy, Debug)]
struct OwnNode {
    shards: u16,
    idle_policy: IdlePolicy,
    commit_delay_us_max: u32,
}

/// Where loads go, one after the other.
#[derive(Debug)]
pub struct Target {
    /// URL of the control plane.
    pub control: String,
    /// Its API key.
    pub api_key: Option<String>,
    /// Of the node, where it is one's own.
    own: Option<OwnNode>,
    node: RefCell<Option<NodeProcess>>,
}

impl Target {
    /// Starts a node, unless a cluster was named.
    ///
    /// # Errors
    /// The node does not start, or what was asked for cannot be.
    pub fn start(context: &Context, args: &TargetArgs) -> Result<Rc<Self>> {
        if context.network.is_some() {
            let reason = "--network is for the transports (rtt, bulk, connect, compare): clients of a node go where \
                          its control plane says; run `aether-perf impair` in front of a node that advertises it";
            return Err(Error::Usage(reason.to_owned()));
        }
        let node = match &args.target {
            Some(_) => None,
            None => Some(NodeProcess::start(options(&context.cores, args))?),
        };
        let own_control = node.as_ref().map(|node| node.ready().control.clone());
        Ok(Rc::new(Self {
            control: args.target.clone().or(own_control).unwrap_or_default(),
            api_key: args.api_key.clone(),
            own: node.as_ref().map(|_| OwnNode {
                shards: args.shards,
                idle_policy: args.idle_policy,
                commit_delay_us_max: args.commit_delay_us_max,
            }),
            node: RefCell::new(node),
        }))
    }

    /// Takes the node to watch it, until [`Self::give_back`]; none where it is not one's own.
    pub fn take_node(&self) -> Option<NodeProcess> {
        self.node.borrow_mut().take()
    }

    /// Gives the node back.
    pub fn give_back(&self, node: NodeProcess) {
        *self.node.borrow_mut() = Some(node);
    }

    /// What tells a run on this target from others.
    pub fn parameters(&self) -> BTreeMap<String, serde_json::Value> {
        match self.own {
            Some(own) => {
                let parameters = [
                    ("shards", json!(own.shards)),
                    ("idle_policy", json!(own.idle_policy.name())),
                    ("commit_delay_us_max", json!(own.commit_delay_us_max)),
                ];
                parameters.map(|(name, value)| (name.to_owned(), value)).into()
            }
            None => [("target".to_owned(), json!(self.control))].into(),
        }
    }

    /// How the node waits; a cluster's is taken to sleep.
    pub fn waiting(&self) -> Waiting {
        match self.own {
            Some(OwnNode { idle_policy: IdlePolicy::Busy, .. }) => Waiting::Polling,
            _ => Waiting::Blocking,
        }
    }

    /// Has a node of one's own drain and end.
    ///
    /// # Errors
    /// It failed.
    pub fn stop(&self) -> Result<()> {
        self.take_node().map_or(Ok(()), |node| node.stop().map(drop))
    }

    /// A session that may do `access` in the documents of loads; tickets of any number of clients come from it.
    ///
    /// # Errors
    /// The control plane refuses, or is not there.
    pub async fn session(control: &str, api_key: Option<&str>, access: Access) -> Result<ControlPlane> {
        let refused = |refusal: aetherflow_client::TicketRefusal| {
            let doing = format!("asking {control} for a session (--target, --api-key)");
            Error::doing(doing, refusal)
        };
        let grants = [Grant { pattern: format!("{DOCUMENT_PREFIX}/*"), access }];
        let session = ControlPlane::create_session(control, DOCUMENT_PREFIX, &grants, api_key, 0).await;
        let session = session.map_err(refused)?;
        ControlPlane::connect(control, session.token).await.map_err(refused)
    }
}

fn options(cores: &Cores, args: &TargetArgs) -> NodeOptions {
    let allowed = rt::allowed_cores();
    NodeOptions {
        shards: args.shards,
        cores: data_cores(&allowed, Some(cores.client), Some(cores.server), args.shards),
        idle_policy: args.idle_policy,
        data_dir: args.data_dir.clone(),
        commit_delay_us_max: args.commit_delay_us_max,
        stage_sample_turns: args.stage_sample_turns,
    }
}
