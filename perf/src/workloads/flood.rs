//! `flood`: what a flood of forged first packets costs those who are connected.
//!
//! One connection echoes at a fixed rate; meanwhile first packets that a node must refuse come in. The flood is sent by
//! the generator's own thread, a few packets at a time: to tell what that costs the echoes from what the node makes of
//! it, the same flood also goes elsewhere, to a socket that nobody reads.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde_json::json;

use super::{Measurement, Repeat, Title, measure_all};
use crate::args::{Common, Defaults, rate};
use crate::context::{Context, Interrupt};
use crate::drive::drive;
use crate::error::{Error, Result};
use crate::load::{Plan, SECOND_NS};
use crate::peer::{Client, MESSAGE_HEADER_BYTES, MessageHeader, Request, Sent};
use crate::peers::quantum::{Forgery, PEER, forge};
use crate::result::{Bound, Pace, Run, Target, Verdict, Waiting};
use crate::serve::PeerServer;
use crate::verdict::Findings;

/// Bytes of an echo.
const MESSAGE_BYTES: usize = 64;
/// Packets sent at a time: an echo waits for no more than these.
const BATCH: usize = 8;
/// A flood that is further behind gives up what it did not send, and says what it achieved.
const BEHIND_MAX: u64 = 10_000;
/// Of the rate that was asked for, this must be achieved.
const RATE_RATIO_MIN: f64 = 0.95;
/// A reply that takes longer is lost.
const REPLY_NS_MAX: u64 = SECOND_NS;
/// How long the node may take to tell its counters.
const PATIENCE: Duration = Duration::from_secs(5);
/// What p99 may grow by.
const P99_RATIO_MAX: f64 = 2.0;
/// The runs without a flood, and with one that goes elsewhere.
const QUIET: &str = "no-flood";
const ELSEWHERE: &str = "flood-elsewhere";
/// Counters of the node that say nothing about what became of the flood.
const NOT_TOLD: [&str; 3] = ["datagrams_received", "connections_opened", "connections_closed"];
const DEFAULTS: Defaults = Defaults { repeats: 3, seconds: 2.0, warmup_seconds: 0.3, report: None };

/// The command line of `flood`.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = "Example: aether-perf flood --flood-rate 100000 --kind forged-ticket,replayed")]
pub struct Args {
    /// What is wrong with the packets, each a run of its own.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "unknown-key,forged-ticket,forged-handshake,replayed"
    )]
    pub kind: Vec<Forgery>,
    /// Forged first packets a second.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, default_value = "100000")]
    pub flood_rate: f64,
    /// Echoes a second of the connection that is established.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, default_value = "2000")]
    pub rate: f64,
    /// What every measurement has.
    #[command(flatten)]
    pub common: Common,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &Args) -> Result<std::process::ExitCode> {
    if args.common.network.is_some() {
        return Err(Error::Usage("--network: a flood is measured on loopback".to_owned()));
    }
    let mut context = Context::new("flood", &args.common, DEFAULTS)?;
    let towards = [Towards::Nobody, Towards::Elsewhere];
    let towards = towards.into_iter().chain(args.kind.iter().map(|&forgery| Towards::Node(forgery)));
    let measurements = towards
        .map(|towards| -> Box<dyn Measurement> {
            Box::new(Flood { towards, flood_per_s: args.flood_rate, rate_per_s: args.rate })
        })
        .collect();
    let outcome = measure_all(&mut context, measurements);
    let targets: Vec<Target> = args.kind.iter().flat_map(|kind| targets(*kind, context.runs())).collect();
    for target in targets {
        context.push_target(target);
    }
    Ok(context.finish(outcome))
}

/// Whom the flood hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Towards {
    Nobody,
    Elsewhere,
    Node(Forgery),
}

impl Towards {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => QUIET,
            Self::Elsewhere => ELSEWHERE,
            Self::Node(forgery) => forgery.name(),
        }
    }
}

struct Flood {
    towards: Towards,
    flood_per_s: f64,
    rate_per_s: f64,
}

impl Flood {
    fn flooder(&self, server: &PeerServer) -> io::Result<Option<Flooder>> {
        let context = server.client_context();
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (packets, to) = match self.towards {
            Towards::Nobody => return Ok(None),
            Towards::Elsewhere => (forge(&context, Forgery::ForgedTicket)?, nobody.local_addr()?),
            Towards::Node(forgery) => (forge(&context, forgery)?, context.ready.address),
        };
        Flooder::new(packets, to, nobody, self.flood_per_s).map(Some)
    }
}

impl Measurement for Flood {
    fn title(&self) -> Title {
        Title {
            workload: "flood",
            subject: self.towards.name().to_owned(),
            waiting: Waiting::Polling,
            pace: Pace::Open { rate_per_s: self.rate_per_s },
            parameters: BTreeMap::from([
                ("message_bytes".to_owned(), json!(MESSAGE_BYTES)),
                ("forged_packets_per_s".to_owned(), json!(self.flood_per_s)),
            ]),
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let broke = |doing| {
            let subject = self.towards.name().to_owned();
            move |source| Error::Transport { subject, doing, source }
        };
        let mut server = PeerServer::start(&PEER, Waiting::Polling, context)?;
        let client = (PEER.connect)(&server.client_context()).map_err(broke("connecting"))?;
        let flooder = self.flooder(&server).map_err(broke("forging packets"))?;
        let mut client = Flooded { client, flooder };
        let before = client.ask_counters().map_err(broke("asking for counters"))?;
        let memory_before = server.begin()?.rss_bytes;
        let plan = Plan {
            pace: Pace::Open { rate_per_s: self.rate_per_s },
            warmup_ns: context.effort.warmup.as_nanos() as u64,
            measured_ns: context.effort.measured.as_nanos() as u64,
            reply_ns_max: REPLY_NS_MAX,
        };
        let driven = drive(&mut client, plan, Waiting::Polling, MESSAGE_BYTES, &context.interrupt)
            .map_err(broke("sending and receiving"))?;
        let flood = client.flooder.take();
        let after = client.ask_counters().map_err(broke("asking for counters"))?;
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
        let memory = server.end(&mut repeat)?.rss_bytes;
        self.judge(&mut repeat, flood.as_ref(), &context.interrupt);
        let grown = |name: &str, now: f64| now - before.get(name).copied().unwrap_or(0.0);
        let told = after.iter().map(|(name, &now)| (name, grown(name, now)));
        for (name, grown) in told.filter(|(name, grown)| *grown > 0.0 && !NOT_TOLD.contains(&name.as_str())) {
            repeat.figures.insert(name.clone(), grown);
        }
        let opened = after.get("connections_opened").map_or(0.0, |&now| grown("connections_opened", now));
        repeat.figures.insert("connections_made".to_owned(), opened);
        repeat.figures.insert("node_grown_bytes".to_owned(), memory.saturating_sub(memory_before) as f64);
        Ok(repeat)
    }
}

impl Flood {
    fn judge(&self, repeat: &mut Repeat, flood: Option<&Flooder>, interrupt: &Interrupt) {
        let Some(flood) = flood.filter(|_| !interrupt.is_set()) else { return };
        let achieved = flood.achieved_per_s();
        repeat.figures.insert("flood_packets_per_s".to_owned(), achieved);
        if achieved < self.flood_per_s * RATE_RATIO_MIN {
            let asked = self.flood_per_s;
            repeat
                .findings
                .reasons
                .push(format!("a flood of {asked:.0}/s was to be sent, {achieved:.0}/s was"));
        }
    }
}

/// Sends packets again and again at a rate.
struct Flooder {
    socket: UdpSocket,
    /// Nobody reads it; kept open, so that the kernel has somewhere to put what is sent elsewhere.
    _elsewhere: UdpSocket,
    packets: Vec<Vec<u8>>,
    per_s: f64,
    began: Option<Instant>,
    latest: Option<Instant>,
    /// Sent, and given up.
    passed: u64,
    sent: u64,
}

impl Flooder {
    fn new(packets: Vec<Vec<u8>>, to: SocketAddr, elsewhere: UdpSocket, per_s: f64) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(to)?;
        Ok(Self {
            socket,
            _elsewhere: elsewhere,
            packets,
            per_s,
            began: None,
            latest: None,
            passed: 0,
            sent: 0,
        })
    }

    /// Sends a batch when it is due.
    fn turn(&mut self, now: Instant) -> io::Result<()> {
        let began = *self.began.get_or_insert(now);
        self.latest = Some(now);
        let due = ((now - began).as_secs_f64() * self.per_s) as u64;
        if due < self.passed + BATCH as u64 {
            return Ok(());
        }
        self.passed = self.passed.max(due.saturating_sub(BEHIND_MAX));
        let mut slices = [const { None }; BATCH];
        for (place, number) in slices.iter_mut().zip(self.sent..) {
            *place = Some([IoSlice::new(&self.packets[(number % self.packets.len() as u64) as usize])]);
        }
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] = Default::default();
        let messages = slices.iter().flatten().zip(&mut controls);
        let mut messages: Vec<MMsgHdr<'_>> =
            messages.map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
        match sendmmsg(&self.socket, &mut messages, SendFlags::DONTWAIT) {
            Ok(count) => {
                self.passed += count as u64;
                self.sent += count as u64;
                Ok(())
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNREFUSED | rustix::io::Errno::INTR) => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn achieved_per_s(&self) -> f64 {
        let seconds =
            self.began.zip(self.latest).map_or(0.0, |(began, latest)| (latest - began).as_secs_f64());
        if seconds > 0.0 { self.sent as f64 / seconds } else { 0.0 }
    }
}

/// A client that floods while it waits.
struct Flooded {
    client: Box<dyn Client>,
    flooder: Option<Flooder>,
}

impl Client for Flooded {
    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        self.client.send(message)
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.client.poll(wait_until, on_message)?;
        self.flooder.as_mut().map_or(Ok(()), |flooder| flooder.turn(Instant::now()))
    }
}

impl Flooded {
    /// What the node has counted, by name.
    fn ask_counters(&mut self) -> io::Result<BTreeMap<String, f64>> {
        let mut question = [0; MESSAGE_HEADER_BYTES];
        MessageHeader { request: Request::Counters, number: 0 }.write(&mut question);
        let deadline = Instant::now() + PATIENCE;
        let (mut is_asked, mut counters) = (false, None);
        while counters.is_none() {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            is_asked = is_asked || self.client.send(&question)? == Sent::Taken;
            self.client.poll(None, &mut |reply| {
                let is_it =
                    MessageHeader::read(reply).is_some_and(|header| header.request == Request::Counters);
                if is_it {
                    counters = serde_json::from_slice(&reply[MESSAGE_HEADER_BYTES..]).ok();
                }
            })?;
        }
        Ok(counters.unwrap_or_default())
    }
}

/// What a flood of this kind may cost.
fn targets(kind: Forgery, runs: &[Run]) -> [Target; 2] {
    let find =
        |subject: &str| runs.iter().find(|run| run.subject == subject && run.verdict == Verdict::Passed);
    let p99 =
        |subject: &str| Some(find(subject)?.latencies.get("round_trip")?.percentiles_us.get("p99")?.median);
    let made = find(kind.name()).and_then(|run| Some(run.figures.get("connections_made")?.median));
    [
        Target {
            name: format!("p99 of an echo under a flood ({}) / without", kind.name()),
            bound: Bound::AtMost,
            limit: P99_RATIO_MAX,
            measured: p99(kind.name()).zip(p99(QUIET)).map(|(flooded, quiet)| flooded / quiet),
            unit: "x".to_owned(),
        },
        Target {
            name: format!("connections that a flood makes ({})", kind.name()),
            bound: Bound::AtMost,
            limit: 0.0,
            measured: made,
            unit: "connections".to_owned(),
        },
    ]
}
