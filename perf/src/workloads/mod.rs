//! What is measured, and how repeats of it take turns.
//!
//! A [`Measurement`] is one subject under one load. [`measure_all`] does a repeat of each in turn (A B C A B C), so
//! that a slow minute of the machine hits everybody, judges each, and makes the [`Run`]s.

pub mod bulk;
pub mod commit;
pub mod connect;
pub mod delivery;
pub mod fanout;
pub mod flood;
pub mod join_storm;
pub mod ops;
pub mod presence;
pub mod recover;
pub mod replay;
pub mod rtt;
pub mod soak;
pub mod stages;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::args::{Packets, Transports};
use crate::context::{Context, Cores, Effort};
use crate::environment::steal_seconds;
use crate::error::{Error, Result};
use crate::peer::MESSAGE_HEADER_BYTES;
use crate::peers::{self, Peer};
use crate::record::{self, Recorder};
use crate::result::{Mark, Pace, Repeats, Run, ShardStrip, Verdict, Waiting};
use crate::serve::sharpen_timers;
use crate::stages::Stages;
use crate::verdict::{ATTEMPTS_PER_REPEAT_MAX, Findings, Judgement, judge, judge_run};

/// What tells a run from its neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct Title {
    /// `rtt`, `bulk`, `ops`, …
    pub workload: &'static str,
    /// What is measured.
    pub subject: String,
    /// How both ends wait.
    pub waiting: Waiting,
    /// What sets the pace.
    pub pace: Pace,
    /// By name with unit.
    pub parameters: BTreeMap<String, serde_json::Value>,
}

/// One subject under one load.
pub trait Measurement {
    /// What it is.
    fn title(&self) -> Title;

    /// Measures once, with [`Context::effort`]; ends early, with what it has, when [`Context::interrupt`] is set.
    ///
    /// # Errors
    /// The subject cannot be measured at all: the run has failed, the others go on.
    fn repeat(&mut self, context: &Context) -> Result<Repeat>;
}

/// What one repeat gave.
#[derive(Debug, Default)]
pub struct Repeat {
    /// What it has to be judged by.
    pub findings: Findings,
    /// By name with unit.
    pub figures: BTreeMap<String, f64>,
    /// By what was timed.
    pub latencies: BTreeMap<String, Recorder>,
    /// What happened meanwhile.
    pub marks: Vec<Mark>,
    /// Load of each shard over time.
    pub shards: Vec<ShardStrip>,
    /// Where the time went.
    pub stages: Option<Stages>,
}

/// The repeats of one measurement so far.
struct Course {
    measurement: Box<dyn Measurement>,
    title: Title,
    passed: Vec<Repeat>,
    repeats: Repeats,
    reasons: Vec<String>,
    broken: bool,
}

impl Course {
    fn wants_more(&self, effort: &Effort) -> bool {
        let in_time = effort.again_until.is_none_or(|until| Instant::now() < until);
        let wanted = if in_time { effort.repeats } else { 1 };
        let attempts_max = if in_time { wanted.saturating_mul(ATTEMPTS_PER_REPEAT_MAX) } else { 1 };
        let tried = self.repeats.passed + self.repeats.stalled + self.repeats.failed;
        !self.broken && self.repeats.passed + self.repeats.failed < wanted && tried < attempts_max
    }

    fn repeat_once(&mut self, context: &Context) {
        let steal_before_s = steal_seconds(&[context.cores.client]);
        let repeat = match self.measurement.repeat(context) {
            Ok(mut repeat) => {
                let stolen_s = steal_seconds(&[context.cores.client]).zip(steal_before_s);
                repeat.findings.generator_steal_us =
                    stolen_s.map_or(0.0, |(now, before)| (now - before) * 1e6);
                repeat
            }
            Err(error) => {
                self.broken = true;
                self.repeats.failed += u32::from(!context.interrupt.is_set());
                self.reasons.push(error.to_string());
                return;
            }
        };
        let judgement = judge(&repeat.findings, context.effort.stall_limit_us());
        if context.interrupt.is_set() && judgement != Judgement::Passed {
            // Ctrl-C cut it short: that it missed its rate or lost what was under way is not its fault.
            self.reasons.push(Error::Interrupted.to_string());
            return;
        }
        match judgement {
            Judgement::Passed => {
                self.repeats.passed += 1;
                self.passed.push(repeat);
            }
            Judgement::Stalled(reasons) => {
                self.repeats.stalled += 1;
                self.reasons.extend(reasons);
            }
            Judgement::Failed(reasons) => {
                self.repeats.failed += 1;
                self.reasons.extend(reasons);
            }
        }
    }

    fn into_run(self) -> Run {
        let Self { title, passed, repeats, reasons, .. } = self;
        let verdict = judge_run(repeats, &reasons);
        let passed = if verdict == Verdict::Passed { passed } else { Vec::new() };
        let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut latencies: BTreeMap<String, Vec<Recorder>> = BTreeMap::new();
        let (mut marks, mut shards, mut stages) = (Vec::new(), Vec::new(), None);
        for repeat in passed {
            for (name, value) in repeat.figures {
                figures.entry(name).or_default().push(value);
            }
            for (name, recorder) in repeat.latencies {
                latencies.entry(name).or_default().push(recorder);
            }
            marks.extend(repeat.marks);
            // Strips and stages are of one stretch of time: the latest.
            shards = repeat.shards;
            stages = repeat.stages.or(stages);
        }
        Run {
            workload: title.workload.to_owned(),
            subject: title.subject,
            waiting: title.waiting,
            pace: title.pace,
            parameters: title.parameters,
            verdict,
            figures: figures
                .into_iter()
                .filter_map(|(name, values)| Some((name, record::spread(values)?)))
                .collect(),
            latencies: latencies
                .into_iter()
                .filter_map(|(name, repeats)| Some((name, record::latency(&repeats)?)))
                .collect(),
            repeats,
            marks,
            shards,
            stages,
        }
    }
}

/// Measures everything, repeats taking turns, and keeps the runs in the context, in the given order.
///
/// # Errors
/// [`Error::Interrupted`], with the runs kept as far as they came. What goes wrong with a measurement is the verdict
/// of its run.
pub fn measure_all(context: &mut Context, measurements: Vec<Box<dyn Measurement>>) -> Result<()> {
    become_generator(context)?;
    let wanted = context.effort.repeats;
    let mut courses: Vec<Course> = measurements
        .into_iter()
        .map(|measurement| Course {
            title: title(measurement.as_ref(), context),
            measurement,
            passed: Vec::new(),
            repeats: Repeats::default(),
            reasons: Vec::new(),
            broken: false,
        })
        .collect();
    context.progress.inc_length(courses.len() as u64 * u64::from(wanted));
    let mut round = 0;
    while !context.interrupt.is_set() && courses.iter().any(|course| course.wants_more(&context.effort)) {
        round += 1;
        for course in &mut courses {
            if context.interrupt.is_set() || !course.wants_more(&context.effort) {
                continue;
            }
            context.progress.set_message(format!(
                "{} {} ({round} of {wanted})",
                course.title.workload, course.title.subject
            ));
            let stalled_before = course.repeats.stalled;
            course.repeat_once(context);
            if course.repeats.stalled == stalled_before {
                context.progress.inc(1);
            }
        }
    }
    for course in courses {
        context.push(course.into_run());
    }
    if context.interrupt.is_set() { Err(Error::Interrupted) } else { Ok(()) }
}

/// The title, and what lies between the sides.
fn title(measurement: &dyn Measurement, context: &Context) -> Title {
    let mut title = measurement.title();
    if let Some(network) = &context.network {
        title.parameters.insert("network".to_owned(), network.to_string().into());
    }
    if let Some(packet_bytes) = context.packets.packet_bytes {
        title.parameters.insert("packet_bytes".to_owned(), packet_bytes.into());
    }
    title
}

/// Puts the calling thread where the generator runs.
fn become_generator(context: &Context) -> Result<()> {
    sharpen_timers();
    let core = context.cores.client;
    rt::pin_current_thread(core)
        .map_err(|error| Error::doing(format!("the generator cannot run on core {core}"), error))
}

/// The peers of these names; all that can, where there are none.
fn choose(transports: &Transports) -> Result<Vec<Peer>> {
    let Transports { peer: names, packets, common, .. } = transports;
    let through_relay = common.network.is_some();
    if names.is_empty() {
        let can = |peer: &Peer| (!through_relay || peer.crosses_relay()) && peer.fills(packets.bytes());
        return Ok(peers::all().into_iter().filter(can).collect());
    }
    let chosen: Vec<Peer> = names.iter().map(|name| peers::find(name)).collect::<Result<_>>()?;
    if let Some(peer) = chosen.iter().find(|peer| !peer.fills(packets.bytes())) {
        return Err(Error::Usage(format!(
            "--packet-bytes {}: packets of {} hold {} bytes at most",
            packets.bytes(),
            peer.name,
            peer.packet_bytes_max.unwrap_or(u16::MAX)
        )));
    }
    match chosen.iter().find(|peer| through_relay && !peer.crosses_relay()) {
        Some(peer) => Err(Error::Usage(format!(
            "--network: the relay carries datagrams, which {} does not send",
            peer.name
        ))),
        None => Ok(chosen),
    }
}

/// How both ends wait, one run for each; what suits the machine, where nobody says.
fn ways_of_waiting(transports: &Transports) -> Result<Vec<Waiting>> {
    let Transports { waiting: asked, common, .. } = transports;
    let cores = Cores::choose(common.client_core, common.server_core)?;
    let polling_starves_relay = common.network.is_some() && !cores.has_room_for_relay();
    match asked.as_slice() {
        [] if polling_starves_relay => Ok(vec![Waiting::Blocking]),
        [] => Ok(vec![Waiting::Polling]),
        _ if polling_starves_relay && asked.contains(&Waiting::Polling) => Err(Error::Usage(
            "--waiting polling with --network: two ends that never sleep leave the relay no core; use --waiting \
             blocking, or allow three cores"
                .to_owned(),
        )),
        _ => Ok(asked.clone()),
    }
}

/// A message has room for its number, and the peer takes it.
fn check_message_bytes(peer: &Peer, message_bytes: usize, packets: Packets) -> Result<()> {
    let message_bytes_max = (peer.message_bytes_max)(packets.bytes());
    if (MESSAGE_HEADER_BYTES..=message_bytes_max).contains(&message_bytes) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--message-bytes {message_bytes}: {} takes {MESSAGE_HEADER_BYTES} to {message_bytes_max} bytes",
        peer.name
    )))
}

#[cfg(test)]
mod tests;
