//! Somebody who only reads: integrates every op into a text of their own.

use std::cell::RefCell;
use std::rc::Rc;

use aetherflow_client::{DocumentEvent, DocumentEvents};
use bytes::Bytes;
use editing::{Arrival, Arrivals, Contents, Replica};

use super::load::LoadError;
use super::run::Run;

/// So many updates are integrated before others get a turn.
const UPDATES_PER_TURN: usize = 64;

/// One reader of one document.
#[derive(Debug)]
pub(crate) struct Reader {
    run: Rc<Run>,
    document: usize,
    replica: RefCell<Replica>,
    arrivals: RefCell<Arrivals>,
}

impl Reader {
    /// A reader of `document`.
    #[must_use]
    pub(crate) fn new(run: Rc<Run>, document: usize) -> Self {
        let arrivals = RefCell::new(Arrivals::new(&run.workload.script));
        Self { run, document, replica: RefCell::default(), arrivals }
    }

    /// Takes the events of the document, until it is closed.
    pub(crate) async fn listen(&self, mut events: DocumentEvents) -> Result<(), LoadError> {
        let mut batch = Vec::new();
        let mut updates = Vec::new();
        while events.next_events(&mut batch).await {
            let had = self.arrivals.borrow().count();
            for event in batch.drain(..) {
                updates.extend(self.handle(event)?);
            }
            let received = self.arrivals.borrow().count() - had;
            self.integrate(&mut updates).await?;
            self.run.count_read(received);
        }
        Ok(())
    }

    /// The text as this reader has it.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        self.replica.borrow().text()
    }

    /// The document that is read.
    #[must_use]
    pub(crate) fn document(&self) -> usize {
        self.document
    }

    /// What an event brings to integrate.
    fn handle(&self, event: DocumentEvent) -> Result<Option<Bytes>, LoadError> {
        match event {
            DocumentEvent::Op { payload, .. } => {
                let workload = &self.run.workload;
                match self.arrivals.borrow_mut().take(&workload.script, &workload.catalog, &payload) {
                    Arrival::New(index) => self.run.count_received(self.document, index, false),
                    Arrival::Repeated => self.run.count_repeated(),
                    Arrival::Foreign => self.run.problem(|| "a reader got an op that nobody sent".to_owned()),
                }
                Ok(Some(payload))
            }
            DocumentEvent::State(state) => {
                let contents = Contents::read(&state).map_err(LoadError::State)?;
                let workload = &self.run.workload;
                let mut arrivals = self.arrivals.borrow_mut();
                arrivals.take_state(&workload.script, &workload.catalog, &contents, |index| {
                    self.run.count_received(self.document, index, true);
                });
                Ok(Some(state))
            }
            DocumentEvent::Closed { code, text } => Err(LoadError::Closed { code, text }),
            DocumentEvent::Joined { .. }
            | DocumentEvent::CaughtUp
            | DocumentEvent::Durable { .. }
            | DocumentEvent::Rejected { .. }
            | DocumentEvent::Presence(_)
            | DocumentEvent::Disconnected
            | DocumentEvent::Reconnected => Ok(None),
        }
    }

    async fn integrate(&self, updates: &mut Vec<Bytes>) -> Result<(), LoadError> {
        for turn in updates.chunks(UPDATES_PER_TURN) {
            let applied = self.replica.borrow_mut().apply(turn);
            applied.map_err(|(_, reason)| LoadError::State(reason))?;
            if turn.len() == UPDATES_PER_TURN {
                tokio::task::yield_now().await;
            }
        }
        updates.clear();
        Ok(())
    }
}
