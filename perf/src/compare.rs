//! `compare`: every transport under the same loads in the same run, then the product; what had to be reached, and
//! whether it was.

use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use crate::args::{Common, Defaults, Packets};
use crate::context::{Context, Effort};
use crate::error::Result;
use crate::impair::RelayHandle;
use crate::peers::{self, Peer};
use crate::product::target::{Target, TargetArgs};
use crate::result::{Pace, Waiting};
use crate::workloads::bulk::Bulk;
use crate::workloads::connect::Connections;
use crate::workloads::ops::{Ops, ShapeArgs};
use crate::workloads::rtt::RoundTrip;
use crate::workloads::{Measurement, measure_all};

pub mod loss;
pub mod targets;

use targets::{NETWORK_RATE_PER_S, OPEN_RATES_PER_S, OPS_RATE_PER_S};

/// Bytes of an echo.
const MESSAGE_BYTES: usize = 64;
/// Connections that idle at once.
pub(crate) const CONNECTIONS: usize = 1_000;
/// Bytes of an echo through the relay.
const NETWORK_MESSAGE_BYTES: usize = 200;
/// What lies between the sides in the last part, unless told otherwise.
const NETWORK: &str = "delay=10ms loss=1%";
/// When `--quick` stops to do stalled repeats of the echoes again, and does each of what is left of them once.
const QUICK_AGAIN: Duration = Duration::from_secs(55);
/// The same of all that follows.
const QUICK_AGAIN_LATER: Duration = Duration::from_secs(95);

const _: () =
    assert!(QUICK_AGAIN.as_secs() < QUICK_AGAIN_LATER.as_secs() && QUICK_AGAIN_LATER.as_secs() < 110);

const DEFAULTS: Defaults =
    Defaults { repeats: 5, seconds: 2.0, warmup_seconds: 0.3, report: Some("report.html") };
const QUICK: Defaults = Defaults { repeats: 3, seconds: 0.25, warmup_seconds: 0.05, ..DEFAULTS };

/// What is compared.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scenario {
    /// Echoes, bulk and connections on loopback, then the product, then echoes through the relay.
    #[default]
    All,
    /// Messages one way through networks that lose packets, beside quinn and KCP, and ours in virtual time.
    Loss,
}

/// The command line of `compare`.
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Examples:\n  aether-perf compare --quick --report report.html\n  aether-perf compare --scenario loss\n  \
                        aether-perf compare --scenario loss --rows '5 %' --seconds 30 --virtual-messages 100000"
)]
pub struct Args {
    /// What is compared.
    #[arg(long, value_enum, default_value_t)]
    pub scenario: Scenario,
    /// Options of the scenario of loss.
    #[command(flatten)]
    pub loss: loss::LossArgs,
    /// Everything, but briefly: under two minutes.
    #[arg(long)]
    pub quick: bool,
    /// Where the node keeps its log in the part that measures the product [default: a temporary directory on a disk].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<std::path::PathBuf>,
    /// Packets.
    #[command(flatten)]
    pub packets: Packets,
    /// What every measurement has; --network is for the last part, and is 'delay=10ms loss=1%' unless given.
    #[command(flatten)]
    pub common: Common,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &Args) -> Result<std::process::ExitCode> {
    let defaults = match (args.scenario, args.quick) {
        (Scenario::All, false) => DEFAULTS,
        (Scenario::All, true) => QUICK,
        (Scenario::Loss, false) => loss::DEFAULTS,
        (Scenario::Loss, true) => loss::QUICK,
    };
    let mut context = Context::new("compare", &args.common, defaults)?;
    let missing = peers::missing();
    if !missing.is_empty() {
        let names = missing.join(", ");
        eprintln!(
            "aether-perf: without {names}: built without them; add `--features peers` to compare with them"
        );
    }
    if args.scenario == Scenario::Loss {
        let outcome = loss::measure(&mut context, &args.loss, args.packets, args.quick);
        return Ok(context.finish(outcome));
    }
    let outcome = measure(&mut context, args);
    for target in targets::evaluate(context.runs()) {
        context.push_target(target);
    }
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &Args) -> Result<()> {
    // The relay lies between the sides in the last part only.
    let network = match context.network.take() {
        Some(network) => network,
        None => RelayHandle::network(NETWORK)?,
    };
    let began = Instant::now();
    context.packets = args.packets;
    let peers: Vec<Peer> = peers::all().into_iter().filter(|peer| peer.fills(args.packets.bytes())).collect();
    context.effort.again_until = args.quick.then_some(began + QUICK_AGAIN);
    measure_all(context, echoes(&peers, args.packets)?)?;
    context.effort.again_until = args.quick.then_some(began + QUICK_AGAIN_LATER);
    let usual = context.effort;
    context.effort = Effort { measured: usual.measured.max(Duration::from_millis(500)), ..usual };
    measure_all(context, bulks(&peers, args.packets)?)?;
    measure_all(context, crowds(&peers))?;
    context.effort = product_effort(usual, args.quick);
    context.packets = Packets::default();
    product(context, args)?;
    context.packets = args.packets;
    context.effort = network_effort(usual, args.quick);
    context.network = Some(network);
    measure_all(context, network_echoes(&peers, args.packets)?)?;
    context.network = None;
    Ok(())
}

fn echoes(peers: &[Peer], packets: Packets) -> Result<Vec<Box<dyn Measurement>>> {
    let mut loads = vec![(Waiting::Polling, Pace::Closed), (Waiting::Blocking, Pace::Closed)];
    loads.extend(OPEN_RATES_PER_S.map(|rate_per_s| (Waiting::Polling, Pace::Open { rate_per_s })));
    let mut measurements: Vec<Box<dyn Measurement>> = Vec::new();
    for (waiting, pace) in loads {
        for peer in peers {
            measurements.push(Box::new(RoundTrip::new(*peer, waiting, pace, MESSAGE_BYTES, packets)?));
        }
    }
    Ok(measurements)
}

fn bulks(peers: &[Peer], packets: Packets) -> Result<Vec<Box<dyn Measurement>>> {
    let bulk = |peer: &Peer| -> Result<Box<dyn Measurement>> {
        Ok(Box::new(Bulk::new(*peer, Waiting::Polling, None, packets)?))
    };
    peers.iter().map(bulk).collect()
}

/// Connections that are made and then idle.
fn crowds(peers: &[Peer]) -> Vec<Box<dyn Measurement>> {
    let crowd = |peer: &Peer| -> Option<Box<dyn Measurement>> {
        let (peer, gather, waiting) = (*peer, peer.gather?, Waiting::Polling);
        Some(Box::new(Connections { peer, gather, waiting, connections: CONNECTIONS }))
    };
    peers.iter().filter_map(crowd).collect()
}

/// Both ends sleep: the relay needs a core as well.
fn network_echoes(peers: &[Peer], packets: Packets) -> Result<Vec<Box<dyn Measurement>>> {
    let pace = Pace::Open { rate_per_s: NETWORK_RATE_PER_S };
    let echo = |peer: &Peer| -> Result<Box<dyn Measurement>> {
        Ok(Box::new(RoundTrip::new(*peer, Waiting::Blocking, pace, NETWORK_MESSAGE_BYTES, packets)?))
    };
    peers.iter().filter(|peer| peer.reliable && peer.crosses_relay()).map(echo).collect()
}

fn product(context: &mut Context, args: &Args) -> Result<()> {
    let target = TargetArgs { data_dir: args.data_dir.clone(), ..TargetArgs::default() };
    let target = Target::start(context, &target)?;
    let load = |pace| -> Box<dyn Measurement> { Box::new(Ops::new(&target, ShapeArgs::default(), pace)) };
    let loads = vec![load(Pace::Open { rate_per_s: OPS_RATE_PER_S }), load(Pace::Saturating)];
    measure_all(context, loads)?;
    target.stop()
}

/// A node takes a moment to have its log and its documents in order.
fn product_effort(usual: Effort, quick: bool) -> Effort {
    let warmup = usual.warmup.max(Duration::from_millis(300));
    if quick {
        Effort {
            warmup,
            measured: usual.measured.max(Duration::from_secs(1)),
            repeats: usual.repeats.min(2),
            ..usual
        }
    } else {
        Effort { warmup, ..usual }
    }
}

/// Round trips of 20 ms need more time than those of 10 us.
fn network_effort(usual: Effort, quick: bool) -> Effort {
    let warmup = usual.warmup.max(Duration::from_millis(300));
    if quick {
        Effort { warmup, measured: Duration::from_secs(1), repeats: usual.repeats.min(2), ..usual }
    } else {
        Effort { warmup, measured: usual.measured.max(Duration::from_secs(5)), ..usual }
    }
}
