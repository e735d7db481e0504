//! A trace that is being played: each agent sends its edits when they are due and when it has what they build on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aetherflow_client::{ClientError, Document, DocumentEvent, DocumentEvents, DocumentWriter};
use editing::{Arrival, Arrivals, Contents};
use tokio::task::JoinSet;

use super::Piece;
use crate::context::Interrupt;
use crate::error::{Error, Result};
use crate::load::{LATE_END_NS, Tally};
use crate::record::{INTERVAL, Recorder};
use crate::result::Pace;
use crate::stall::StallMeter;
use crate::verdict::Findings;
use crate::workloads::Repeat;

/// Edits of one agent before others have their turn.
const EDITS_PER_TURN: usize = 32;
/// After so long without anything durable or read, something is lost.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Memory is made ready for latencies of so long a time.
const EXPECTED: Duration = Duration::from_secs(10);

/// All documents, while the trace is played into them.
pub(super) struct Play {
    piece: Arc<Piece>,
    documents: usize,
    readers: usize,
    origin: Instant,
    rooms: RefCell<Vec<Room>>,
    course: RefCell<Course>,
    stall: StallMeter,
    ended_ns: Cell<u64>,
}

/// One document.
struct Room {
    agents: Vec<Seat>,
    /// What each reader has.
    readers: Vec<Arrivals>,
    /// When each edit was sent.
    sent_ns: Vec<u64>,
}

/// One agent.
struct Seat {
    /// What has come from the others.
    arrivals: Arrivals,
    /// How many of its edits it has sent.
    sent: usize,
    /// Op counter and index of those that are not durable.
    under_way: VecDeque<(u64, usize)>,
}

struct Course {
    edit_to_durable: Recorder,
    edit_to_reader: Recorder,
    sent: usize,
    durable: usize,
    read: usize,
    last_sent_ns: u64,
    moved_ns: u64,
    problems: Vec<String>,
}

impl Play {
    /// Begins now.
    pub(super) fn new(piece: Arc<Piece>, documents: usize, readers: usize) -> Rc<Self> {
        let seat = || Seat { arrivals: Arrivals::new(&piece.script), sent: 0, under_way: VecDeque::new() };
        let room = || Room {
            agents: std::iter::repeat_with(seat).take(piece.script.agents).collect(),
            readers: std::iter::repeat_with(|| Arrivals::new(&piece.script)).take(readers).collect(),
            sent_ns: vec![0; piece.script.ops.len()],
        };
        let rooms = std::iter::repeat_with(room).take(documents).collect();
        let course = Course {
            edit_to_durable: Recorder::new(INTERVAL, EXPECTED),
            edit_to_reader: Recorder::new(INTERVAL, EXPECTED),
            sent: 0,
            durable: 0,
            read: 0,
            last_sent_ns: 0,
            moved_ns: 0,
            problems: Vec::new(),
        };
        Rc::new(Self {
            documents,
            readers,
            rooms: RefCell::new(rooms),
            course: RefCell::new(course),
            stall: StallMeter::default(),
            ended_ns: Cell::new(0),
            piece,
            origin: Instant::now(),
        })
    }

    /// Lets everybody listen; returns the agents of each document.
    pub(super) fn listen(
        self: &Rc<Self>,
        joined: Vec<Vec<Document>>,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Vec<Vec<DocumentWriter>> {
        let mut keyboards = Vec::with_capacity(joined.len());
        for (document, members) in joined.into_iter().enumerate() {
            let mut of_document = Vec::with_capacity(self.piece.script.agents);
            for (member, joined) in members.into_iter().enumerate() {
                let (keyboard, events) = joined.split();
                if member < self.piece.script.agents {
                    of_document.push(keyboard);
                }
                tasks.spawn_local(hear(Rc::clone(self), document, member, events));
            }
            keyboards.push(of_document);
        }
        keyboards
    }

    /// Plays to the end, or until nothing moves any more.
    pub(super) async fn run(
        &self,
        keyboards: &[Vec<DocumentWriter>],
        tasks: &mut JoinSet<Result<()>>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        loop {
            let now = Instant::now();
            self.stall.turn(now);
            let now_ns = self.ns(now);
            for (document, writers) in keyboards.iter().enumerate() {
                for (agent, writer) in writers.iter().enumerate() {
                    self.send_due(now_ns, document, agent, writer)?;
                }
            }
            if self.is_over(now_ns) {
                self.ended_ns.set(now_ns);
                return Ok(());
            }
            if interrupt.is_set() {
                return Err(Error::Interrupted);
            }
            if let Some(ended) = tasks.try_join_next() {
                ended.map_err(|error| Error::doing("listening to a document", error))??;
            }
            tokio::task::yield_now().await;
        }
    }

    fn send_due(&self, now_ns: u64, document: usize, agent: usize, writer: &DocumentWriter) -> Result<()> {
        let mut rooms = self.rooms.borrow_mut();
        let Room { agents, sent_ns, .. } = &mut rooms[document];
        let seat = &mut agents[agent];
        for _ in 0..EDITS_PER_TURN {
            let Some(&index) = self.piece.catalog.by_agent[agent].get(seat.sent) else { break };
            let due_ns = self.piece.tempo.due_ns(index, document, self.documents).unwrap_or(now_ns);
            let op = &self.piece.script.ops[index];
            let has_all = op.needs.iter().all(|&(author, count)| seat.arrivals.has(author, count));
            if due_ns > now_ns || !has_all {
                break;
            }
            let id = match writer.try_apply(op.payload.clone()) {
                Err(ClientError::Full) => break,
                applied => applied.map_err(|error| Error::doing("sending an edit", error))?,
            };
            seat.sent += 1;
            seat.under_way.push_back((id.counter, index));
            sent_ns[index] = due_ns;
            let mut course = self.course.borrow_mut();
            course.sent += 1;
            course.last_sent_ns = now_ns;
        }
        Ok(())
    }

    fn handle(&self, document: usize, member: usize, event: &DocumentEvent) -> Result<()> {
        let now_ns = self.ns(Instant::now());
        let (mut rooms, mut course) = (self.rooms.borrow_mut(), self.course.borrow_mut());
        let Room { agents, readers, sent_ns } = &mut rooms[document];
        let agent_count = agents.len();
        let (script, catalog) = (&self.piece.script, &self.piece.catalog);
        match event {
            DocumentEvent::Durable { up_to_counter, .. } if member < agent_count => {
                let under_way = &mut agents[member].under_way;
                while let Some((_, index)) = under_way.pop_front_if(|(counter, _)| *counter <= *up_to_counter)
                {
                    let due_ns = sent_ns[index];
                    course.edit_to_durable.record(due_ns, now_ns.saturating_sub(due_ns));
                    course.durable += 1;
                }
                course.moved_ns = now_ns;
            }
            DocumentEvent::Op { payload, .. } => {
                let is_reader = member >= agent_count;
                let arrivals =
                    if is_reader { &mut readers[member - agent_count] } else { &mut agents[member].arrivals };
                match arrivals.take(script, catalog, payload) {
                    Arrival::New(index) if is_reader => course.note_read(sent_ns[index], now_ns),
                    Arrival::New(_) => {}
                    Arrival::Repeated => course.problem("an edit came twice"),
                    Arrival::Foreign => course.problem("an edit came that nobody sent"),
                }
            }
            DocumentEvent::State(state) => {
                let contents = Contents::read(state)
                    .map_err(|error| Error::doing("reading the state that a node sent", error))?;
                if member < agent_count {
                    agents[member].arrivals.take_state(script, catalog, &contents, |_| {});
                } else {
                    let arrivals = &mut readers[member - agent_count];
                    arrivals.take_state(script, catalog, &contents, |index| {
                        course.note_read(sent_ns[index], now_ns);
                    });
                }
            }
            DocumentEvent::Rejected { code, text, .. } | DocumentEvent::Closed { code, text } => {
                return Err(Error::doing("playing into a document", format!("{code}: {text}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self, now_ns: u64) -> bool {
        let course = self.course.borrow();
        let ops = self.piece.script.ops.len() * self.documents;
        let is_done = course.durable == ops && course.read == ops * self.readers;
        let stall_ns = STALL_MAX.as_nanos() as u64;
        let moved_ns = course.moved_ns.max(course.last_sent_ns);
        // A recording may rest for longer than that.
        is_done || (now_ns > moved_ns + stall_ns && now_ns > self.next_due_ns() + stall_ns)
    }

    /// When the next edit is due that is not sent; 0: there is none.
    fn next_due_ns(&self) -> u64 {
        let rooms = self.rooms.borrow();
        let seats = rooms.iter().enumerate().flat_map(|(document, room)| {
            room.agents.iter().enumerate().map(move |(agent, seat)| (document, agent, seat.sent))
        });
        let due = |(document, agent, sent): (usize, usize, usize)| {
            let &index = self.piece.catalog.by_agent[agent].get(sent)?;
            Some(self.piece.tempo.due_ns(index, document, self.documents).unwrap_or(0))
        };
        seats.filter_map(due).min().unwrap_or(0)
    }

    /// What came of it.
    pub(super) fn repeat(&self) -> Repeat {
        let course = self.course.borrow();
        let ops = self.piece.script.ops.len() * self.documents;
        let seconds = self.ended_ns.get() as f64 / 1e9;
        let asked_per_s = match self.piece.tempo.pace(self.piece.script.ops.len(), self.documents) {
            Pace::Open { rate_per_s } => Some(rate_per_s),
            Pace::Closed | Pace::Saturating => None,
        };
        let per_s = |sending_ns: u64| course.sent as f64 * 1e9 / sending_ns.max(1) as f64;
        let achieved_per_s = asked_per_s.map_or_else(
            || per_s(course.last_sent_ns),
            |asked| asked.min(per_s(course.last_sent_ns.saturating_sub(LATE_END_NS))),
        );
        let (sent, durable) = (course.sent as u64, course.durable as u64);
        let tally = Tally {
            asked_per_s,
            achieved_per_s,
            sent,
            replies: durable,
            lost: ops as u64 - durable,
            ..Tally::default()
        };
        let mut reasons = course.problems.clone();
        let reads = ops * self.readers;
        if course.read < reads {
            reasons.push(format!("{} of {reads} edits never came to a reader", reads - course.read));
        }
        let figures = [
            ("durable_ops_per_s", course.durable as f64 / seconds),
            ("ops", ops as f64),
            ("seconds", seconds),
        ];
        let latencies =
            [("edit_to_durable", &course.edit_to_durable), ("edit_to_reader", &course.edit_to_reader)];
        let generator_stall_us = self.stall.take_longest_us();
        Repeat {
            findings: Findings { tally, generator_stall_us, reasons, ..Findings::default() },
            figures: figures.map(|(name, figure)| (name.to_owned(), figure)).into(),
            latencies: latencies.map(|(name, recorder)| (name.to_owned(), recorder.clone())).into(),
            ..Repeat::default()
        }
    }

    fn ns(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.origin).as_nanos() as u64
    }
}

impl Course {
    fn note_read(&mut self, due_ns: u64, now_ns: u64) {
        self.edit_to_reader.record(due_ns, now_ns.saturating_sub(due_ns));
        self.read += 1;
        self.moved_ns = now_ns;
    }

    fn problem(&mut self, problem: &str) {
        if !self.problems.iter().any(|known| known == problem) {
            self.problems.push(problem.to_owned());
        }
    }
}

async fn hear(play: Rc<Play>, document: usize, member: usize, mut events: DocumentEvents) -> Result<()> {
    let mut batch = Vec::new();
    while events.next_events(&mut batch).await {
        for event in batch.drain(..) {
            play.handle(document, member, &event)?;
        }
    }
    Ok(())
}
