//! `presence`: cursors move in one document, and everybody sees them. Only the latest place of each counts: what is
//! overtaken need not be shown.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aetherflow_client::{DocumentEvent, DocumentEvents, DocumentWriter, PresenceState};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;
use wire::Access;

use super::ops::pace;
use super::{Measurement, Repeat, Title, measure_all};
use crate::args::{Common, Defaults};
use crate::context::{Context, Interrupt};
use crate::error::{Error, Result};
use crate::load::{Load, Plan};
use crate::product::clients;
use crate::product::runtime::on_generator;
use crate::product::target::{Target, TargetArgs};
use crate::record::{INTERVAL, Recorder};
use crate::result::Pace;
use crate::stall::StallMeter;
use crate::verdict::Findings;

const DEFAULTS: Defaults = Defaults { repeats: 3, seconds: 5.0, warmup_seconds: 1.0, report: None };
/// So long is waited until everybody sees where everybody is.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// Moves before others have their turn.
const MOVES_PER_TURN: usize = 32;
/// The number of a move and the instant that it was due lie in its state.
const STATE_BYTES_MIN: i64 = 16;

/// The command line of `presence`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  aether-perf presence --clients 50 --rate 1000")]
pub struct PresenceArgs {
    /// What every measurement has
    #[command(flatten)]
    pub common: Common,
    /// Where the load goes
    #[command(flatten)]
    pub target: TargetArgs,
    /// Clients in the document
    #[arg(long, value_name = "N", default_value_t = 20, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub clients: u32,
    /// Moves a second over all clients, each rate a run of its own
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',', default_value = "200,1000", value_parser = pace,
        help_heading = "Load")]
    pub rate: Vec<Pace>,
    /// Bytes of a cursor's state
    #[arg(long, value_name = "BYTES", default_value_t = 64, help_heading = "Load",
        value_parser = clap::value_parser!(u32).range(STATE_BYTES_MIN..=4_096))]
    pub state_bytes: u32,
}

/// Runs the command.
///
/// # Errors
/// A wrong argument, before anything is measured.
pub fn run(args: &PresenceArgs) -> Result<ExitCode> {
    let mut context = Context::new("presence", &args.common, DEFAULTS)?;
    let outcome = measure(&mut context, args);
    Ok(context.finish(outcome))
}

fn measure(context: &mut Context, args: &PresenceArgs) -> Result<()> {
    let target = Target::start(context, &args.target)?;
    let load = |&pace: &Pace| -> Box<dyn Measurement> {
        let (clients, state_bytes) = (args.clients as usize, args.state_bytes as usize);
        Box::new(Presence { target: Rc::clone(&target), clients, state_bytes, pace })
    };
    let outcome = measure_all(context, args.rate.iter().map(load).collect());
    outcome.and(target.stop())
}

struct Presence {
    target: Rc<Target>,
    clients: usize,
    state_bytes: usize,
    pace: Pace,
}

impl Measurement for Presence {
    fn title(&self) -> Title {
        let mut parameters = self.target.parameters();
        parameters.insert("clients".to_owned(), json!(self.clients));
        parameters.insert("state_bytes".to_owned(), json!(self.state_bytes));
        Title {
            workload: "presence",
            subject: "node".to_owned(),
            waiting: self.target.waiting(),
            pace: self.pace,
            parameters,
        }
    }

    fn repeat(&mut self, context: &Context) -> Result<Repeat> {
        let plan = Plan {
            pace: self.pace,
            warmup_ns: context.effort.warmup.as_nanos() as u64,
            measured_ns: context.effort.measured.as_nanos() as u64,
            reply_ns_max: REPLY_MAX.as_nanos() as u64,
        };
        let (control, api_key) = (self.target.control.clone(), self.target.api_key.clone());
        let (count, state_bytes) = (self.clients, self.state_bytes);
        let interrupt = context.interrupt.clone();
        on_generator(Some(context.cores.client), || async move {
            let tickets = Target::session(&control, api_key.as_deref(), Access::Presence).await?;
            let everybody = clients::connect(&tickets, count).await?;
            let id = clients::fresh_documents(&everybody);
            let mut cursors = Vec::with_capacity(count);
            let mut eyes = Vec::with_capacity(count);
            for client in &everybody {
                let mut document = clients::join(client, &id, false)?;
                clients::opened(&mut document).await?;
                let (cursor, events) = document.split();
                cursors.push(cursor);
                eyes.push(events);
            }
            let moves = Rc::new(Moves::begin(plan, count, state_bytes));
            let mut tasks = JoinSet::new();
            for (at, events) in eyes.into_iter().enumerate() {
                tasks.spawn_local(watch(Rc::clone(&moves), at, events));
            }
            let outcome = moves.run(&cursors, &mut tasks, &interrupt).await;
            tasks.shutdown().await;
            drop(cursors);
            let stats = clients::close(everybody).await;
            outcome?;
            let mut repeat = moves.repeat();
            let per_client = stats.bytes_received as f64 / count as f64;
            repeat.figures.insert("received_bytes_per_client".to_owned(), per_client);
            Ok(repeat)
        })
    }
}

async fn watch(moves: Rc<Moves>, observer: usize, mut events: DocumentEvents) -> Result<()> {
    let mut batch = Vec::new();
    while events.next_events(&mut batch).await {
        for event in batch.drain(..) {
            match event {
                DocumentEvent::Presence(entries) => moves.handle_seen(observer, &entries),
                DocumentEvent::Closed { code, text } => {
                    return Err(Error::doing("watching presence", format!("{code}: {text}")));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// All cursors, and who has seen what of them.
struct Moves {
    origin: Instant,
    plan: Plan,
    state_bytes: usize,
    load: RefCell<Load>,
    course: RefCell<Course>,
    stall: StallMeter,
}

struct Course {
    /// How often each client has moved.
    moved: Vec<u64>,
    /// Of each client, the numbers in the load of the moves that nobody has seen yet, with their own number.
    unseen: Vec<VecDeque<(u64, u64)>>,
    /// Of each observer, the latest move of each client that was seen.
    seen: Vec<Vec<u64>>,
    move_to_others: Recorder,
    shown: u64,
    overtaken: u64,
}

impl Moves {
    fn begin(plan: Plan, clients: usize, state_bytes: usize) -> Self {
        let course = Course {
            moved: vec![0; clients],
            unseen: vec![VecDeque::new(); clients],
            seen: vec![vec![0; clients]; clients],
            move_to_others: Recorder::new(INTERVAL, Duration::from_nanos(plan.measured_ns)),
            shown: 0,
            overtaken: 0,
        };
        Self {
            plan,
            state_bytes,
            load: RefCell::new(Load::new(plan)),
            course: RefCell::new(course),
            stall: StallMeter::default(),
            origin: Instant::now(),
        }
    }

    async fn run(
        &self,
        cursors: &[DocumentWriter],
        tasks: &mut JoinSet<Result<()>>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut next = 0;
        loop {
            let now = Instant::now();
            self.stall.turn(now);
            let now_ns = self.ns(now);
            for _ in 0..MOVES_PER_TURN {
                let due = self.load.borrow_mut().poll_send(now_ns);
                let Some(due) = due else { break };
                self.load.borrow_mut().handle_sent(due, self.ns(Instant::now()));
                let mut course = self.course.borrow_mut();
                course.moved[next] += 1;
                let number = course.moved[next];
                course.unseen[next].push_back((due.number, number));
                drop(course);
                let state = state(number, due.due_ns, self.state_bytes);
                let moved = cursors[next].set_presence(next as u64 + 1, state);
                moved.map_err(|error| Error::doing("moving a cursor", error))?;
                next = (next + 1) % cursors.len();
            }
            if self.is_over(now_ns) {
                return Ok(());
            }
            if interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            if let Some(ended) = tasks.try_join_next() {
                ended.map_err(|error| Error::doing("watching presence", error))??;
            }
            tokio::task::yield_now().await;
        }
    }

    fn handle_seen(&self, observer: usize, entries: &[PresenceState]) {
        let now_ns = self.ns(Instant::now());
        let mut course = self.course.borrow_mut();
        let course = &mut *course;
        for entry in entries {
            let Some((number, due_ns)) = read_state(&entry.state) else { continue };
            let mover = usize::try_from(entry.client).unwrap_or(0).wrapping_sub(1);
            if mover == observer {
                // A node tells everybody the same, and so everybody of themselves.
                continue;
            }
            let Some(latest) = course.seen[observer].get_mut(mover).filter(|latest| **latest < number) else {
                continue;
            };
            let overtaken = number - *latest - 1;
            *latest = number;
            if (self.plan.warmup_ns..self.plan.end_ns()).contains(&due_ns) {
                course.shown += 1;
                course.overtaken += overtaken;
                course.move_to_others.record(due_ns - self.plan.warmup_ns, now_ns.saturating_sub(due_ns));
            }
            let mut load = self.load.borrow_mut();
            while let Some((in_load, _)) = course.unseen[mover].pop_front_if(|(_, own)| *own <= number) {
                load.handle_reply(in_load, now_ns);
            }
        }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        self.load.borrow_mut().is_over(now_ns)
            && (self.blind() == 0 || now_ns >= self.plan.end_ns() + self.plan.reply_ns_max)
    }

    /// How many clients do not see where another one is, over all pairs.
    fn blind(&self) -> usize {
        let course = self.course.borrow();
        let lacks = |(observer, seen): (usize, &Vec<u64>)| {
            let pairs = seen.iter().zip(&course.moved).enumerate();
            pairs.filter(|&(mover, (seen, moved))| mover != observer && seen != moved).count()
        };
        course.seen.iter().enumerate().map(lacks).sum()
    }

    fn repeat(&self) -> Repeat {
        let blind = self.blind();
        let tally = self.load.replace(Load::new(self.plan)).into_tally();
        let course = self.course.borrow();
        let mut reasons = Vec::new();
        if blind > 0 {
            reasons.push(format!("{blind} times somebody does not see where another one is"));
        }
        let seconds = self.plan.measured_ns as f64 / 1e9;
        let (shown, overtaken) = (course.shown as f64, course.overtaken as f64);
        let figures = [
            ("moves_per_s", tally.sent as f64 / seconds),
            ("shown_per_s", shown / seconds),
            ("overtaken_ratio", overtaken / (shown + overtaken).max(1.0)),
        ];
        let generator_stall_us = self.stall.take_longest_us();
        Repeat {
            findings: Findings { tally, generator_stall_us, reasons, ..Findings::default() },
            figures: figures.map(|(name, figure)| (name.to_owned(), figure)).into(),
            latencies: [("move_to_others".to_owned(), course.move_to_others.clone())].into(),
            ..Repeat::default()
        }
    }

    fn ns(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.origin).as_nanos() as u64
    }
}

/// Number and instant, then zeros.
fn state(number: u64, due_ns: u64, bytes: usize) -> Bytes {
    let mut state = Vec::with_capacity(bytes);
    state.extend(number.to_be_bytes());
    state.extend(due_ns.to_be_bytes());
    state.resize(bytes, 0);
    state.into()
}

fn read_state(state: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = state.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(*rest.first_chunk()?)))
}
