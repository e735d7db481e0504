//! Who is at work while the node is killed: writers, and readers who stay through all of it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use aetherflow_client::{
    Client, ClientConfig, ControlPlane, DocumentEvent, DocumentEvents, DocumentKind, DocumentWriter,
    JoinOptions,
};
use netem::Random;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use wire::{Access, Grant};

use crate::content::{OpName, Sizes, Typist, words};
use crate::error::ChaosError;
use crate::ledger::{Account, Ledger};
use crate::view::View;

/// A writer has at most so many ops that are not acknowledged.
const UNACKNOWLEDGED_MAX: usize = 256;
/// One op in so many begins a small document.
const SMALL_ONE_IN: u64 = 200;
/// Such a document has at most so many ops.
const SMALL_OPS_MAX: u32 = 3;
/// The words of its ops.
const SMALL: Sizes = Sizes { min: 12, max: 60 };
/// The longest pause of a writer, and how many ops it says between two of them at the most.
const PAUSE_US_MAX: u64 = 4_000;
const BURST_OPS_MAX: u64 = 12;

/// What all of them share.
pub(crate) struct Stage {
    pub(crate) ledger: Rc<Ledger>,
    /// The documents that are written in now.
    pub(crate) documents: RefCell<Vec<Rc<Account>>>,
    /// Nobody writes while it is set.
    pub(crate) is_paused: Cell<bool>,
}

/// A client for a session of its own at this control plane.
pub(crate) async fn client(control: &str, access: Access) -> Result<Client, ChaosError> {
    let grants = [Grant { pattern: "chaos/*".to_owned(), access }];
    let session = ControlPlane::create_session(control, "chaos", &grants, None, 0).await?;
    let tickets = ControlPlane::connect(control, session.token).await?;
    let config = ClientConfig {
        heartbeat: Duration::from_millis(200),
        unresponsive_after: Duration::from_millis(300),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(40),
        drop_timeout: Duration::ZERO,
        ..ClientConfig::default()
    };
    Ok(Client::builder(tickets).config(config).connect().await?)
}

/// Somebody who writes, now here and now there.
pub(crate) struct Writer {
    stage: Rc<Stage>,
    client: Client,
    number: u32,
    random: Random,
    desks: HashMap<u64, Desk>,
    /// Ops that are not acknowledged, over all documents.
    waiting: Rc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    ops: Cell<usize>,
    acknowledged: Notify,
}

/// A writer's place at one document.
struct Desk {
    account: Rc<Account>,
    document: DocumentWriter,
    typist: Option<Typist>,
    /// Counters of the client, and the op's number in the document.
    sent: Rc<RefCell<VecDeque<(u64, u32)>>>,
    listening: AbortHandle,
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Its events would keep the document open.
        self.listening.abort();
    }
}

impl Writer {
    pub(crate) fn new(stage: Rc<Stage>, client: Client, number: u32, seed: u64) -> Self {
        let random = Random::stream(seed, u64::from(number));
        Self { stage, client, number, random, desks: HashMap::new(), waiting: Rc::default() }
    }

    /// Writes for ever.
    pub(crate) async fn write(mut self) {
        loop {
            let pause = Duration::from_micros(self.random.below(PAUSE_US_MAX));
            tokio::time::sleep(pause).await;
            if self.stage.is_paused.get() {
                self.leave_settled();
                continue;
            }
            for _ in 0..=self.random.below(BURST_OPS_MAX) {
                while self.waiting.ops.get() >= UNACKNOWLEDGED_MAX {
                    self.waiting.acknowledged.notified().await;
                }
                if let Some(account) = self.choose()
                    && let Err(what) = self.say(&account)
                {
                    self.stage.ledger.problem(format!("writer {}: {}: {what}", self.number, account.id));
                    return;
                }
            }
        }
    }

    fn choose(&mut self) -> Option<Rc<Account>> {
        if self.random.below(SMALL_ONE_IN) == 0 {
            let kind = if self.random.below(2) == 0 { DocumentKind::Yjs } else { DocumentKind::Opaque };
            let ops_max = 1 + self.random.below(u64::from(SMALL_OPS_MAX)) as u32;
            return Some(self.stage.ledger.open("small", kind, SMALL, ops_max));
        }
        // A small one is filled by who has begun it.
        let own =
            self.desks.values().find(|desk| desk.account.ops_max <= SMALL_OPS_MAX && !desk.account.is_full());
        if let Some(desk) = own {
            return Some(Rc::clone(&desk.account));
        }
        let documents = self.stage.documents.borrow();
        let account = &documents[self.random.below(documents.len() as u64) as usize];
        (!account.is_full()).then(|| Rc::clone(account))
    }

    fn say(&mut self, account: &Rc<Account>) -> Result<(), String> {
        if !self.desks.contains_key(&account.number) {
            self.leave_settled();
            let desk = self.sit_down(account)?;
            self.desks.insert(account.number, desk);
        }
        let desk = &self.desks[&account.number];
        let name = OpName { writer: self.number, number: account.next_number(self.number) };
        let words = words(account.number, name, account.sizes);
        let bytes = words.len();
        let payload = match &desk.typist {
            Some(typist) => typist.type_words(&words),
            None => words.into(),
        };
        account.say(self.number, bytes);
        self.stage.ledger.count_applied();
        let id = desk.document.try_apply(payload).map_err(|error| error.to_string())?;
        desk.sent.borrow_mut().push_back((id.counter, name.number));
        self.waiting.ops.set(self.waiting.ops.get() + 1);
        Ok(())
    }

    fn sit_down(&self, account: &Rc<Account>) -> Result<Desk, String> {
        // It reads, too, as an editor does; what comes is not kept.
        let joined = self.client.join(&account.id, account.kind, JoinOptions::default());
        let (document, events) = joined.map_err(|error| error.to_string())?.split();
        let sent = Rc::default();
        let typist = (account.kind == DocumentKind::Yjs).then(|| Typist::new(self.number));
        let listener = Listener {
            stage: Rc::clone(&self.stage),
            account: Rc::clone(account),
            writer: self.number,
            sent: Rc::clone(&sent),
            waiting: Rc::clone(&self.waiting),
        };
        let listening = tokio::task::spawn_local(listener.listen(events)).abort_handle();
        Ok(Desk { account: Rc::clone(account), document, typist, sent, listening })
    }

    /// Leaves the documents that take nothing any more and have acknowledged everything.
    fn leave_settled(&mut self) {
        self.desks.retain(|_, desk| !desk.account.is_full() || !desk.sent.borrow().is_empty());
    }
}

/// Keeps book of what is acknowledged to a writer in one document.
struct Listener {
    stage: Rc<Stage>,
    account: Rc<Account>,
    writer: u32,
    sent: Rc<RefCell<VecDeque<(u64, u32)>>>,
    waiting: Rc<Waiting>,
}

impl Listener {
    async fn listen(self, mut events: DocumentEvents) {
        while let Some(event) = events.next_event().await {
            let problem = match event {
                DocumentEvent::Durable { up_to_counter, .. } => {
                    self.acknowledged(up_to_counter);
                    continue;
                }
                DocumentEvent::Rejected { counter, code, text } => {
                    format!("op {counter} was refused: {code}: {text}")
                }
                DocumentEvent::Closed { code, text } => format!("closed: {code}: {text}"),
                _ => continue,
            };
            let (id, writer) = (&self.account.id, self.writer);
            self.stage.ledger.problem(format!("{id}, writer {writer}: {problem}"));
            return;
        }
    }

    fn acknowledged(&self, up_to_counter: u64) {
        let mut sent = self.sent.borrow_mut();
        let (mut below, mut count) = (0, 0);
        while let Some((_, number)) = sent.pop_front_if(|(counter, _)| *counter <= up_to_counter) {
            below = number + 1;
            count += 1;
        }
        self.stage.ledger.acknowledge(&self.account, self.writer, below, count);
        self.waiting.ops.set(self.waiting.ops.get() - count as usize);
        self.waiting.acknowledged.notify_one();
    }
}

/// Reads a document through all kills; `view` is what it has.
pub(crate) async fn read_along(stage: Rc<Stage>, client: Client, view: Rc<RefCell<View>>) {
    let (id, kind) = {
        let account = &view.borrow().account;
        (account.id.clone(), account.kind)
    };
    let mut document = match client.join(&id, kind, JoinOptions::default()) {
        Ok(document) => document,
        Err(error) => return stage.ledger.problem(format!("{id}, a reader: {error}")),
    };
    let mut events = Vec::new();
    while document.next_events(&mut events).await {
        for event in events.drain(..) {
            let taken = view.borrow_mut().take(&event);
            if let Err(what) = taken {
                return stage.ledger.problem(format!("a reader: {what}"));
            }
        }
    }
}
