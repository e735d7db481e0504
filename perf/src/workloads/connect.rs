//! `connect`: what a connection costs to make, to have, and until its first answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use serde_json::json;

use super::{Measurement, Repeat, Title, choose, measure_all, ways_of_waiting};
use crate::args::{Defaults, Transports};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::peer::{EarlyConnector, MESSAGE_HEADER_BYTES, MessageHeader, Request, Sent};
use crate::peers::{Gather, Peer, Prepare};
use crate::record::{INTERVAL, Recorder};
use crate::result::{Pace, Waiting};
use crate::serve::PeerServer;

/// Bytes of the first message.
const MESSAGE_BYTES: usize = 64;
/// Connections made one after another to time the first answer.
const FIRST_REPLIES: usize = 20;
/// Made at a time, between two looks at whether to stop.
const STEP: usize = 500;
/// A first answer that takes longer is lost.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// Most connections: as many as one client has ports.
const CONNECTIONS_MAX: usize = 60_000;
/// The command's own choice of effort: one server takes all the connections of a repeat.
const DEFAULTS: Defaults = Defaults { repeats: 3, seconds: 1.0, warmup_seconds: 0.0, report: None };

const _: () = assert!(MESSAGE_BYTES >= MESSAGE_HEADER_BYTES && STEP <= CONNECTIONS_MAX);

/// The command line of `connect`.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = "Examples:\n  aether-perf connect --peer quantum --connections 1000,10000,50000\n  \
                        aether-perf connect --first-only --network delay=10ms")]
pub struct Args {
    /// Transports, packets, and what every measurement has.
    #[command(flatten)]
    pub transports: Transports,
    /// How many connections there are, each a run of its own.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000,10000,50000")]
    pub connections: Vec<usize>,
    /// Time first answers alone, as through a network: --network delay=10ms.
    #[arg(long)]
    pub first_only: bool,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &Args) -> Result<std::process::ExitCode> {
    let mut measurements: Vec<Box<dyn Measurement>> = Vec::new();
    for waiting in ways_of_waiting(&args.transports)? {
        let peers = choose(&args.transports)?;
        for peer in &peers {
            measurements.push(Box::new(FirstReply { peer: *peer, prepare: None, waiting }));
            if let Some(prepare) = peer.prepare_early {
                measurements.push(Box::new(FirstReply { peer: *peer, prepare: Some(prepare), waiting }));
            }
        }
        for &connections in args.connections.iter().filter(|_| !args.first_only) {
            if !(1..=CONNECTIONS_MAX).contains(&connections) {
                return Err(Error::Usage(format!(
                    "--connections {connections}: 1 to {CONNECTIONS_MAX} are possible"
                )));
            }
            for peer in &peers {
                // Those that have no state of a connection to speak of are not asked.
                if let Some(gather) = peer.gather {
                    measurements.push(Box::new(Connections { peer: *peer, gather, waiting, connections }));
                }
            }
        }
    }
    let mut context = Context::new("connect", &args.transports.common, DEFAULTS)?;
    context.packets = args.transports.packets;
    raise_open_files();
    let outcome = measure_all(&mut context, measurements);
    Ok(context.finish(outcome))
}

/// As many sockets as this user may have.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it fails fewer connections are possible, and the run says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Many connections at once, and then nothing.
pub struct Connections {
    /// To whom.
    pub peer: Peer,
    /// How they are made.
    pub gather: Gather,
    /// How both ends wait.
    pub waiting: Waiting,
    /// How many.
    pub connections: usize,
}

impl Measurement for Connections {
    fn title(&self) -> Title {
        Title {
            workload: "connect",
            subject: self.peer.name.to_owned(),
            waiting: self.waiting,
            pace: Pace::Saturating,
            parameters: BTreeMap::from([("connections".to_owned(), json!(self.connections))]),
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let broke = |doing| {
            let subject = self.peer.name.to_owned();
            move |source| Error::Transport { subject, doing, source }
        };
        let mut server = PeerServer::start(&self.peer, self.waiting, context)?;
        let mut crowd = (self.gather)(&server.client_context()).map_err(broke("preparing to connect"))?;
        // What the first one brings about once and for all is no cost of a connection.
        crowd.grow(1).map_err(broke("connecting"))?;
        let before = server.begin()?;
        let began = Instant::now();
        let mut made = 0;
        while made < self.connections {
            context.check_interrupt()?;
            let step = STEP.min(self.connections - made);
            crowd.grow(step).map_err(broke("connecting"))?;
            made += step;
        }
        let seconds = began.elapsed().as_secs_f64();
        let made_at = server.process().usage()?;
        // What comes right after a handshake belongs to it: new tickets, new ids, acknowledgements.
        let settled = Instant::now() + Duration::from_millis(300);
        while Instant::now() < settled {
            crowd.poll().map_err(broke("idling"))?;
        }
        let mut held_up = Repeat::default();
        let after = server.end(&mut held_up)?;
        let count = self.connections as f64;
        let figures = [
            ("handshakes_per_s", count / seconds),
            ("server_bytes_per_connection", after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / count),
            ("server_cpu_us_per_handshake", (made_at.cpu_s - before.cpu_s) * 1e6 / count),
        ];
        let mut repeat = Repeat::default();
        repeat.figures.extend(figures.map(|(name, value)| (name.to_owned(), value)));
        repeat.figures.extend(held_up.figures.remove_entry("relay_late_us_p99"));
        repeat.findings.held_up = held_up.findings.held_up;
        Ok(repeat)
    }
}

/// From the wish to connect to the first answer.
pub struct FirstReply {
    /// From whom.
    pub peer: Peer,
    /// Where the first message does not wait for the handshake.
    pub prepare: Option<Prepare>,
    /// How both ends wait.
    pub waiting: Waiting,
}

impl FirstReply {
    fn once(
        &self,
        server: &PeerServer,
        early: Option<&mut Box<dyn EarlyConnector>>,
    ) -> std::io::Result<Option<Duration>> {
        let began = Instant::now();
        let deadline = began + REPLY_MAX;
        let mut client = match early {
            Some(early) => early.connect()?,
            None => (self.peer.connect)(&server.client_context())?,
        };
        let mut message = [0; MESSAGE_BYTES];
        MessageHeader { request: Request::Echo, number: 0 }.write(&mut message);
        let (mut sent, mut reply_at) = (false, None);
        while reply_at.is_none() && Instant::now() < deadline {
            sent = sent || client.send(&message)? == Sent::Taken;
            let wait_until = (self.waiting == Waiting::Blocking).then_some(deadline);
            client.poll(wait_until, &mut |_| reply_at = Some(Instant::now()))?;
        }
        Ok(reply_at.map(|at| at - began))
    }
}

impl Measurement for FirstReply {
    fn title(&self) -> Title {
        // Beside those that wait: what is compared is how soon there is an answer.
        let subject = match self.prepare {
            Some(_) => format!("{} (early data)", self.peer.name),
            None => self.peer.name.to_owned(),
        };
        let parameters = BTreeMap::from([("message_bytes".to_owned(), json!(MESSAGE_BYTES))]);
        Title { workload: "connect", subject, waiting: self.waiting, pace: Pace::Closed, parameters }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let broke =
            |source| Error::Transport { subject: self.peer.name.to_owned(), doing: "connecting", source };
        let server = PeerServer::start(&self.peer, self.waiting, context)?;
        let mut early =
            self.prepare.map(|prepare| prepare(&server.client_context())).transpose().map_err(broke)?;
        let mut repeat = Repeat::default();
        let mut recorder = Recorder::new(INTERVAL, Duration::from_secs(1));
        let began = Instant::now();
        for _ in 0..FIRST_REPLIES {
            context.check_interrupt()?;
            let at_ns = began.elapsed().as_nanos() as u64;
            early.as_mut().map_or(Ok(()), |early| early.prepare()).map_err(broke)?;
            let first = self.once(&server, early.as_mut()).map_err(broke)?;
            match first {
                Some(latency) => recorder.record(at_ns, latency.as_nanos() as u64),
                None => repeat.findings.reasons.push(format!("no answer within {} s", REPLY_MAX.as_secs())),
            }
        }
        repeat.latencies.insert("first_reply".to_owned(), recorder);
        Ok(repeat)
    }
}
