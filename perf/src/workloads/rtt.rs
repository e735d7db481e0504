//! `rtt`: how long a message and its echo take.

use std::collections::BTreeMap;

use clap::Args as ClapArgs;
use serde_json::json;

use super::{Measurement, Repeat, Title, check_message_bytes, choose, measure_all, ways_of_waiting};
use crate::args::{Defaults, Packets, Transports, rate};
use crate::context::Context;
use crate::drive::drive;
use crate::error::{Error, Result};
use crate::load::{Plan, SECOND_NS};
use crate::peers::Peer;
use crate::result::{Pace, Waiting};
use crate::serve::PeerServer;
use crate::verdict::Findings;

/// A reply that takes longer is lost.
const REPLY_NS_MAX: u64 = SECOND_NS;
/// The command's own choice of effort.
const DEFAULTS: Defaults = Defaults { repeats: 5, seconds: 2.0, warmup_seconds: 0.3, report: None };

/// The command line of `rtt`.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = "Example: aether-perf rtt --peer raw-udp,quantum --waiting polling --rate 10000")]
pub struct Args {
    /// Transports, packets, and what every measurement has.
    #[command(flatten)]
    pub transports: Transports,
    /// Sizes of the message.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64")]
    pub message_bytes: Vec<usize>,
    /// Open loop at so many messages a second; 'closed': the next one leaves when the reply has come.
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',', default_value = "closed", value_parser = pace)]
    pub rate: Vec<Pace>,
}

fn pace(text: &str) -> Result<Pace, String> {
    match text {
        "closed" => Ok(Pace::Closed),
        "saturating" => Ok(Pace::Saturating),
        rate_text => rate(rate_text)
            .map(|rate_per_s| Pace::Open { rate_per_s })
            .map_err(|error| format!("{error}, or 'closed' or 'saturating'")),
    }
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured; Ctrl-C.
pub fn run(args: &Args) -> Result<std::process::ExitCode> {
    let peers = choose(&args.transports)?;
    let mut measurements: Vec<Box<dyn Measurement>> = Vec::new();
    for waiting in ways_of_waiting(&args.transports)? {
        for &pace in &args.rate {
            for &message_bytes in &args.message_bytes {
                for peer in &peers {
                    measurements.push(Box::new(RoundTrip::new(
                        *peer,
                        waiting,
                        pace,
                        message_bytes,
                        args.transports.packets,
                    )?));
                }
            }
        }
    }
    let mut context = Context::new("rtt", &args.transports.common, DEFAULTS)?;
    context.packets = args.transports.packets;
    let outcome = measure_all(&mut context, measurements);
    Ok(context.finish(outcome))
}

/// Echoes of one size, through one peer, at one pace.
pub struct RoundTrip {
    peer: Peer,
    waiting: Waiting,
    pace: Pace,
    message_bytes: usize,
}

impl RoundTrip {
    /// Checks that the peer can.
    ///
    /// # Errors
    /// A message that is too small to be numbered or too large for the peer.
    pub fn new(
        peer: Peer,
        waiting: Waiting,
        pace: Pace,
        message_bytes: usize,
        packets: Packets,
    ) -> Result<Self> {
        check_message_bytes(&peer, message_bytes, packets)?;
        Ok(Self { peer, waiting, pace, message_bytes })
    }
}

impl Measurement for RoundTrip {
    fn title(&self) -> Title {
        Title {
            workload: "rtt",
            subject: self.peer.name.to_owned(),
            waiting: self.waiting,
            pace: self.pace,
            parameters: BTreeMap::from([("message_bytes".to_owned(), json!(self.message_bytes))]),
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let broke = |doing| {
            let subject = self.peer.name.to_owned();
            move |source| Error::Transport { subject, doing, source }
        };
        let mut server = PeerServer::start(&self.peer, self.waiting, context)?;
        let mut client = (self.peer.connect)(&server.client_context()).map_err(broke("connecting"))?;
        server.begin()?;
        let plan = Plan {
            pace: self.pace,
            warmup_ns: context.effort.warmup.as_nanos() as u64,
            measured_ns: context.effort.measured.as_nanos() as u64,
            reply_ns_max: REPLY_NS_MAX,
        };
        let driven = drive(client.as_mut(), plan, self.waiting, self.message_bytes, &context.interrupt)
            .map_err(broke("sending and receiving"))?;
        let messages_per_s = driven.tally.replies as f64 / context.effort.measured.as_secs_f64();
        let mut repeat = Repeat {
            findings: Findings {
                tally: driven.tally,
                generator_stall_us: driven.stall_us,
                damaged: driven.damaged,
                ..Findings::default()
            },
            latencies: BTreeMap::from([("round_trip".to_owned(), driven.round_trips)]),
            ..Repeat::default()
        };
        if !context.interrupt.is_set() {
            repeat.figures.insert("messages_per_s".to_owned(), messages_per_s);
        }
        server.end(&mut repeat)?;
        Ok(repeat)
    }
}
