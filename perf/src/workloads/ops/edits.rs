//! The load itself: types when it is due, and counts what comes of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use aetherflow_client::{ClientError, ClientStats, DocumentEvent, DocumentWriter};
use bytes::Bytes;
use editing::{Author, Contents, author_of};
use tokio::task::JoinSet;

use super::progress::Progress;
use crate::context::Interrupt;
use crate::error::{Error, Result};
use crate::load::{Due, Load, Plan};
use crate::product::flight::{Flight, Read, Sent};
use crate::product::zipf::Zipf;
use crate::record::{INTERVAL, Recorder};
use crate::stall::StallMeter;
use crate::verdict::Findings;
use crate::workloads::Repeat;

/// So many edits are typed before the clients have their turn.
const EDITS_PER_TURN: usize = 32;
/// Which documents are edited, and what is typed, follows from this.
const SEED: u64 = 0x0ed1_7000;
/// So many problems are told apart.
const PROBLEMS_MAX: usize = 8;

/// Who writes and reads how many documents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) documents: usize,
    pub(crate) clients: usize,
    /// Of each document.
    pub(crate) writers: usize,
    /// Of each document.
    pub(crate) readers: usize,
    pub(crate) zipf_exponent: f64,
    /// Of the clients: those who go to the wrong shard.
    pub(crate) wrong_shard_share: f64,
    /// Edits leave documents as long as they are.
    pub(crate) overwrites: bool,
}

/// A load of edits that runs.
pub(crate) struct Edits {
    origin: Instant,
    plan: Plan,
    shape: Shape,
    /// Whether edits may come twice, since the node forgets some.
    forgets: bool,
    /// Says how it goes where that takes long: then Ctrl-C ends the load, and what it gave until then counts.
    progress: RefCell<Option<Progress>>,
    /// When Ctrl-C came.
    stopped_ns: Cell<Option<u64>>,
    load: RefCell<Load>,
    flights: RefCell<Vec<Flight>>,
    counts: RefCell<Counts>,
    stall: StallMeter,
}

struct Counts {
    edit_to_durable: Recorder,
    edit_to_reader: Recorder,
    /// To the last of several readers.
    edit_to_last: Recorder,
    /// That became durable within the measured time, whenever they were due.
    durable_meanwhile: u64,
    payload_bytes: u64,
    edits: u64,
    /// That came to a reader within a state.
    read_in_state: u64,
    /// That came to a reader twice.
    repeated: u64,
    last_durable_ns: u64,
    silence_ns_max: u64,
    problems: Vec<String>,
}

/// The writers of one document, in turn.
struct Keyboard {
    writers: Vec<(DocumentWriter, Author)>,
    next: usize,
}

/// An edit that found no room.
struct Unsent {
    document: usize,
    author: usize,
    payload: Bytes,
}

impl Edits {
    /// Begins now.
    pub(crate) fn begin(plan: Plan, shape: Shape, forgets: bool, progress: Option<Progress>) -> Rc<Self> {
        let measured = Duration::from_nanos(plan.measured_ns);
        let counts = Counts {
            edit_to_durable: Recorder::new(INTERVAL, measured),
            edit_to_reader: Recorder::new(INTERVAL, measured),
            edit_to_last: Recorder::new(INTERVAL, measured),
            durable_meanwhile: 0,
            payload_bytes: 0,
            edits: 0,
            read_in_state: 0,
            repeated: 0,
            last_durable_ns: plan.warmup_ns,
            silence_ns_max: 0,
            problems: Vec::new(),
        };
        let flight = || Flight::new(shape.writers, shape.readers);
        Rc::new(Self {
            plan,
            shape,
            forgets,
            progress: RefCell::new(progress),
            stopped_ns: Cell::new(None),
            load: RefCell::new(Load::new(plan)),
            flights: RefCell::new(std::iter::repeat_with(flight).take(shape.documents).collect()),
            counts: RefCell::new(counts),
            stall: StallMeter::default(),
            origin: Instant::now(),
        })
    }

    /// When it began: the warm-up does with it.
    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// Types until everything is durable and read, or given up on.
    pub(crate) async fn run(
        &self,
        keyboards: Vec<Vec<DocumentWriter>>,
        tasks: &mut JoinSet<Result<()>>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut keyboards = self.sit_down(keyboards);
        let mut zipf = Zipf::new(self.shape.documents, self.shape.zipf_exponent, SEED);
        let mut unsent = None;
        loop {
            let now = Instant::now();
            self.stall.turn(now);
            let now_ns = self.ns(now);
            if interrupt.is_set() && self.stopped_ns.get().is_none() {
                if self.progress.borrow().is_none() {
                    return Err(Error::Interrupted);
                }
                self.stopped_ns.set(Some(now_ns));
            }
            if let Some(progress) = self.progress.borrow_mut().as_mut() {
                progress.turn(now_ns);
            }
            for _ in 0..EDITS_PER_TURN {
                let Some(due) = self.poll_send(now_ns) else { break };
                let edit = unsent.take().unwrap_or_else(|| type_one(&mut keyboards, zipf.draw()));
                unsent = self.send(&keyboards, due, edit)?;
                if unsent.is_some() {
                    break;
                }
            }
            if self.is_over(now_ns) {
                return Ok(());
            }
            if let Some(ended) = tasks.try_join_next() {
                match ended {
                    Ok(result) => result?,
                    Err(error) => return Err(Error::doing("listening to a document", error)),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Every writer of every document is a Yjs client of its own.
    fn sit_down(&self, keyboards: Vec<Vec<DocumentWriter>>) -> Vec<Keyboard> {
        let author = |document: usize, author: usize| {
            let seed = SEED.wrapping_add((document * self.shape.writers + author) as u64);
            let client = author as u64 + 1;
            if self.shape.overwrites { Author::overwriting(client) } else { Author::new(client, seed) }
        };
        let keyboard = |(document, writers): (usize, Vec<DocumentWriter>)| {
            let writers = writers.into_iter().enumerate();
            Keyboard {
                writers: writers.map(|(at, writer)| (writer, author(document, at))).collect(),
                next: 0,
            }
        };
        keyboards.into_iter().enumerate().map(keyboard).collect()
    }

    /// Gives the edit back when the client has no room for it.
    fn send(&self, keyboards: &[Keyboard], due: Due, edit: Unsent) -> Result<Option<Unsent>> {
        let (writer, _) = &keyboards[edit.document].writers[edit.author];
        let id = match writer.try_apply(edit.payload.clone()) {
            Err(ClientError::Full) => return Ok(Some(edit)),
            applied => applied.map_err(|error| Error::doing("sending an edit", error))?,
        };
        self.load.borrow_mut().handle_sent(due, self.ns(Instant::now()));
        let mut counts = self.counts.borrow_mut();
        counts.edits += 1;
        counts.payload_bytes += edit.payload.len() as u64;
        let sent =
            Sent { number: due.number, due_ns: due.due_ns, counter: id.counter, payload: edit.payload };
        self.flights.borrow_mut()[edit.document].handle_sent(edit.author, sent);
        Ok(None)
    }

    /// What an author is told.
    pub(crate) fn handle_author(
        &self,
        document: usize,
        author: usize,
        events: impl Iterator<Item = DocumentEvent>,
    ) -> Result<()> {
        for event in events {
            match event {
                DocumentEvent::Durable { up_to_counter, .. } => {
                    self.handle_durable(document, author, up_to_counter);
                }
                DocumentEvent::Rejected { code, text, .. } | DocumentEvent::Closed { code, text } => {
                    return Err(Error::doing("editing a document", format!("{code}: {text}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn handle_durable(&self, document: usize, author: usize, up_to_counter: u64) {
        let now_ns = self.ns(Instant::now());
        let (mut load, mut counts) = (self.load.borrow_mut(), self.counts.borrow_mut());
        let counts = &mut *counts;
        let is_measured = (self.plan.warmup_ns..self.plan.end_ns()).contains(&now_ns);
        self.flights.borrow_mut()[document].handle_durable(author, up_to_counter, |number| {
            counts.durable_meanwhile += u64::from(is_measured);
            if let Some(timed) = load.handle_reply(number, now_ns) {
                counts.edit_to_durable.record(timed.at_ns, timed.latency_ns);
                if let Some(progress) = self.progress.borrow_mut().as_mut() {
                    progress.note_durable(timed.latency_ns);
                }
            }
        });
        if is_measured {
            counts.silence_ns_max = counts.silence_ns_max.max(now_ns - counts.last_durable_ns);
            counts.last_durable_ns = now_ns;
        }
    }

    /// What a reader is told.
    pub(crate) fn handle_reader(
        &self,
        document: usize,
        reader: usize,
        events: impl Iterator<Item = DocumentEvent>,
    ) -> Result<()> {
        let now_ns = self.ns(Instant::now());
        let mut flights = self.flights.borrow_mut();
        let flight = &mut flights[document];
        let mut counts = self.counts.borrow_mut();
        for event in events {
            match event {
                DocumentEvent::Op { payload, .. } => {
                    let author =
                        author_of(&payload).and_then(|client| usize::try_from(client.checked_sub(1)?).ok());
                    let read = author.map(|author| flight.handle_read(reader, author, &payload));
                    match read.unwrap_or(Read::Unknown) {
                        Read::Next { due_ns, is_last } => {
                            self.note_read(&mut counts, due_ns, now_ns);
                            if is_last && self.shape.readers > 1 {
                                self.note_last(&mut counts, due_ns, now_ns);
                            }
                        }
                        Read::Again => counts.repeated += 1,
                        // Forgotten by the node, sent again, and long with everybody.
                        Read::Unknown if self.forgets => counts.repeated += 1,
                        Read::Unknown => {
                            counts.problem("a reader got an edit out of order, or one that nobody sent");
                        }
                    }
                }
                DocumentEvent::State(state) => {
                    let contents = Contents::read(&state)
                        .map_err(|error| Error::doing("reading the state that a node sent", error))?;
                    let contains = |payload: &Bytes| contents.contains_update(payload);
                    flight.handle_state(reader, contains, |due_ns| {
                        counts.read_in_state += 1;
                        self.note_read(&mut counts, due_ns, now_ns);
                    });
                }
                DocumentEvent::Closed { code, text } => {
                    return Err(Error::doing("reading a document", format!("{code}: {text}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn note_read(&self, counts: &mut Counts, due_ns: u64, now_ns: u64) {
        if self.is_measured(due_ns) {
            let latency_ns = now_ns.saturating_sub(due_ns);
            counts.edit_to_reader.record(due_ns - self.plan.warmup_ns, latency_ns);
            if let Some(progress) = self.progress.borrow_mut().as_mut() {
                progress.note_read(latency_ns);
            }
        }
    }

    fn note_last(&self, counts: &mut Counts, due_ns: u64, now_ns: u64) {
        if self.is_measured(due_ns) {
            counts.edit_to_last.record(due_ns - self.plan.warmup_ns, now_ns.saturating_sub(due_ns));
        }
    }

    fn poll_send(&self, now_ns: u64) -> Option<Due> {
        if self.stopped_ns.get().is_some() { None } else { self.load.borrow_mut().poll_send(now_ns) }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        let is_sent = self.stopped_ns.get().is_some() || self.load.borrow_mut().is_over(now_ns);
        is_sent
            && (now_ns >= self.end_ns() + self.plan.reply_ns_max
                || self.flights.borrow().iter().all(Flight::is_over))
    }

    /// When the last edit was due.
    fn end_ns(&self) -> u64 {
        self.stopped_ns.get().unwrap_or(u64::MAX).min(self.plan.end_ns())
    }

    fn is_measured(&self, due_ns: u64) -> bool {
        (self.plan.warmup_ns..self.plan.end_ns()).contains(&due_ns)
    }

    fn ns(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.origin).as_nanos() as u64
    }

    /// What came of it.
    pub(crate) fn into_repeat(self: Rc<Self>, stats: &ClientStats) -> Repeat {
        let mut tally = self.load.replace(Load::new(self.plan)).into_tally();
        let measured_s = self.end_ns().saturating_sub(self.plan.warmup_ns) as f64 / 1e9;
        if self.stopped_ns.get().is_some() {
            tally.achieved_per_s = tally.sent as f64 / measured_s;
        }
        let unread: u64 =
            self.flights.borrow().iter().map(|flight| flight.unread(|due_ns| self.is_measured(due_ns))).sum();
        let counts = self.counts.borrow();
        let mut reasons = counts.problems.clone();
        if unread > 0 {
            let reads = tally.sent * self.shape.readers as u64;
            reasons.push(format!("{unread} of {reads} edits never came to a reader"));
        }
        if counts.repeated > 0 && !self.forgets {
            reasons.push(format!("{} edits came to a reader twice", counts.repeated));
        }
        let edits = counts.edits.max(1) as f64;
        let mut figures = vec![
            ("durable_ops_per_s", counts.durable_meanwhile as f64 / measured_s),
            ("payload_bytes_per_op", counts.payload_bytes as f64 / edits),
            ("wire_bytes_sent_per_op", stats.bytes_sent as f64 / edits),
            ("packets_lost", stats.packets_lost as f64),
        ];
        if self.forgets {
            figures.extend([
                ("silence_ms_max", counts.silence_ns_max as f64 / 1e6),
                ("edits_repeated", counts.repeated as f64),
                ("edits_read_in_state", counts.read_in_state as f64),
                ("reconnects", stats.reconnects as f64),
            ]);
        }
        let latencies = [
            ("edit_to_durable", &counts.edit_to_durable),
            ("edit_to_reader", &counts.edit_to_reader),
            ("edit_to_last_reader", &counts.edit_to_last),
        ];
        let findings = Findings {
            tally,
            generator_stall_us: self.stall.take_longest_us(),
            reasons,
            ..Findings::default()
        };
        Repeat {
            findings,
            latencies: latencies.map(|(name, recorder)| (name.to_owned(), recorder.clone())).into(),
            figures: figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect(),
            ..Repeat::default()
        }
    }
}

impl Counts {
    fn problem(&mut self, problem: &str) {
        if self.problems.len() < PROBLEMS_MAX && !self.problems.iter().any(|known| known == problem) {
            self.problems.push(problem.to_owned());
        }
    }
}

/// The next edit of a document, by the next of its writers.
fn type_one(keyboards: &mut [Keyboard], document: usize) -> Unsent {
    let keyboard = &mut keyboards[document];
    let author = keyboard.next;
    keyboard.next = (author + 1) % keyboard.writers.len();
    Unsent { document, author, payload: keyboard.writers[author].1.edit() }
}
