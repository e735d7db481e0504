//! One agent at its keyboard: sends its ops when they are due, and counts what becomes durable.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use aetherflow_client::{ClientError, DocumentEvent, DocumentEvents, DocumentWriter};
use editing::{Arrival, Arrivals, Contents};
use tokio::sync::Notify;

use super::load::LoadError;
use super::run::Run;

/// An agent that is late sends so many ops before others get a turn.
const OPS_PER_TURN: usize = 32;

/// One agent in one document.
#[derive(Debug)]
pub(crate) struct Writer {
    run: Rc<Run>,
    document: usize,
    agent: usize,
    /// What has come from the other agents.
    arrivals: RefCell<Arrivals>,
    arrived: Notify,
    /// Op counter and index of what is not durable yet.
    sent: RefCell<VecDeque<(u64, usize)>>,
}

impl Writer {
    /// The `agent` of `document`.
    #[must_use]
    pub(crate) fn new(run: Rc<Run>, document: usize, agent: usize) -> Self {
        let arrivals = RefCell::new(Arrivals::new(&run.workload.script));
        Self { run, document, agent, arrivals, arrived: Notify::new(), sent: RefCell::default() }
    }

    /// Sends all ops of the agent, each when it is due and when what it builds on is there.
    pub(crate) async fn send(&self, document: DocumentWriter) -> Result<(), LoadError> {
        let workload = &self.run.workload;
        for (place, &index) in workload.catalog.by_agent[self.agent].iter().enumerate() {
            let op = &workload.script.ops[index];
            for &(author, count) in &op.needs {
                while !self.arrivals.borrow().has(author, count) {
                    self.arrived.notified().await;
                }
            }
            self.run.until_due(self.document, index).await;
            let id = match document.try_apply(op.payload.clone()) {
                Err(ClientError::Full) => document.apply(op.payload.clone()).await?,
                applied => applied?,
            };
            self.sent.borrow_mut().push_back((id.counter, index));
            if place % OPS_PER_TURN == OPS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Takes the events of the document, until it is closed.
    pub(crate) async fn listen(&self, mut events: DocumentEvents) -> Result<(), LoadError> {
        let mut batch = Vec::new();
        while events.next_events(&mut batch).await {
            for event in batch.drain(..) {
                self.handle(event)?;
            }
        }
        Ok(())
    }

    fn handle(&self, event: DocumentEvent) -> Result<(), LoadError> {
        match event {
            DocumentEvent::Durable { up_to_counter, .. } => self.acknowledged(up_to_counter),
            DocumentEvent::Op { payload, .. } => {
                let workload = &self.run.workload;
                let mut arrivals = self.arrivals.borrow_mut();
                match arrivals.take(&workload.script, &workload.catalog, &payload) {
                    Arrival::New(_) => {}
                    Arrival::Repeated => self.run.count_repeated(),
                    Arrival::Foreign => {
                        self.run.problem(|| format!("writer {} got an op that nobody sent", self.agent));
                    }
                }
                self.arrived.notify_one();
            }
            // One author alone waits for nobody.
            DocumentEvent::State(state) if self.run.workload.script.agents > 1 => {
                let state = Contents::read(&state).map_err(LoadError::State)?;
                let workload = &self.run.workload;
                let mut arrivals = self.arrivals.borrow_mut();
                arrivals.take_state(&workload.script, &workload.catalog, &state, |_| {});
                self.arrived.notify_one();
            }
            DocumentEvent::Rejected { counter, code, text } => {
                return Err(LoadError::Rejected { agent: self.agent, counter, code, text });
            }
            DocumentEvent::Closed { code, text } => return Err(LoadError::Closed { code, text }),
            DocumentEvent::State(_)
            | DocumentEvent::Joined { .. }
            | DocumentEvent::CaughtUp
            | DocumentEvent::Presence(_)
            | DocumentEvent::Disconnected
            | DocumentEvent::Reconnected => {}
        }
        Ok(())
    }

    fn acknowledged(&self, up_to_counter: u64) {
        let mut sent = self.sent.borrow_mut();
        while let Some((_, index)) = sent.pop_front_if(|(counter, _)| *counter <= up_to_counter) {
            self.run.count_durable(self.document, index);
        }
        self.run.count_acknowledgement();
    }
}
