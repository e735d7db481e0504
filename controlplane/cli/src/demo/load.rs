//! The load: all writers and readers, on one thread with a core to itself.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aetherflow_client::{
    Client, ClientError, ClientStats, ControlPlane, Document, DocumentEvent, DocumentKind, JoinOptions,
    TicketRefusal,
};
use indicatif::ProgressBar;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{interval, timeout};
use wire::Code;

use super::reader::Reader;
use super::report::difference;
use super::run::{Figures, Milestone, Run};
use super::workload::Workload;
use super::writer::Writer;

/// How long a document may take to open.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// After so long without anything durable or read, something is lost.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long clients have to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the progress bar moves.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

const _: () = assert!(PROGRESS_INTERVAL.as_millis() < STALL_TIMEOUT.as_millis());

/// Where the load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// URL of the control plane.
    pub(crate) control: String,
    /// Token of the session that may write.
    pub(crate) writer_token: String,
    /// Token of the session that may read.
    pub(crate) reader_token: String,
    /// The document ids.
    pub(crate) documents: Vec<String>,
}

/// What came of the load.
#[derive(Debug)]
pub(crate) struct LoadOutcome {
    /// All that was counted.
    pub(crate) figures: Figures,
    /// From the start until every op was durable and read.
    pub(crate) elapsed: Duration,
    /// Over all clients.
    pub(crate) stats: ClientStats,
    /// What readers have instead of the text.
    pub(crate) divergences: Vec<String>,
}

/// Why the load could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The load's thread or runtime could not be started.
    #[error("cannot start the load: {0}")]
    Start(#[from] io::Error),
    /// The load's thread ended without a word.
    #[error("the load ended without a result; this is a fault of the demo")]
    Vanished,
    /// The control plane gave no session or ticket.
    #[error("the control plane of the demo's node gives no ticket: {0}")]
    Ticket(#[from] TicketRefusal),
    /// A client cannot go on.
    #[error("a client of the demo cannot go on: {0}")]
    Client(#[from] ClientError),
    /// A document did not open in time.
    #[error("the document {document} is not open after {} s", JOIN_TIMEOUT.as_secs())]
    NotJoined {
        /// Its id.
        document: String,
    },
    /// An op was refused.
    #[error("op {counter} of writer {agent} was refused: {code}: {text}")]
    Rejected {
        /// Whose.
        agent: usize,
        /// Its counter.
        counter: u64,
        /// Why.
        code: Code,
        /// What was wrong.
        text: String,
    },
    /// A document was closed.
    #[error("the node closed the document: {code}: {text}")]
    Closed {
        /// Why.
        code: Code,
        /// What was wrong.
        text: String,
    },
    /// A state or an op is no Yjs update.
    #[error("what the node sent cannot be integrated: {0}")]
    State(String),
    /// Nothing moves any more.
    #[error(
        "nothing has moved for {} s: {durable} of {ops} ops are durable, and readers have {read} of {reads}",
        STALL_TIMEOUT.as_secs()
    )]
    Stalled {
        /// Ops that are durable.
        durable: usize,
        /// Ops in all.
        ops: usize,
        /// Ops that readers have, over all readers.
        read: usize,
        /// Ops that they should have.
        reads: usize,
    },
}

/// A load that runs.
#[derive(Debug)]
pub(crate) struct Load {
    /// What it tells on its way.
    pub(crate) milestones: mpsc::Receiver<Milestone>,
    /// What came of it.
    pub(crate) outcome: oneshot::Receiver<Result<LoadOutcome, LoadError>>,
}

/// Starts the load on a thread of its own, pinned to the last allowed core: the node's shards begin at the
/// first.
pub(crate) fn start(workload: Arc<Workload>, target: Target, bar: ProgressBar) -> Result<Load, LoadError> {
    let (milestone, milestones) = mpsc::channel(1);
    let (done, outcome) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("load".to_owned()).spawn(move || {
        let cores = rt::allowed_cores();
        if let Some(core) = cores.last().filter(|_| cores.len() > 1) {
            // Unpinned it works as well, only less evenly.
            let _ = rt::pin_current_thread(*core);
        }
        rt::give_way_to_short_tasks();
        let run = Rc::new(Run::new(workload, milestone));
        let result = LocalSet::new().block_on(&runtime, replay(&run, &target, &bar));
        // Nobody waits any more when the demo was interrupted.
        let _ = done.send(result);
    })?;
    Ok(Load { milestones, outcome })
}

/// Connects everybody, replays, and compares.
async fn replay(run: &Rc<Run>, target: &Target, bar: &ProgressBar) -> Result<LoadOutcome, LoadError> {
    let mut clients = Vec::new();
    let mut tasks = JoinSet::new();
    let mut readers = Vec::new();
    for _ in 0..run.workload.readers {
        let client = connect(&target.control, &target.reader_token).await?;
        for (number, id) in target.documents.iter().enumerate() {
            let document = open(&client, id).await?;
            let reader = Rc::new(Reader::new(Rc::clone(run), number));
            readers.push(Rc::clone(&reader));
            let (_, events) = document.split();
            tasks.spawn_local(async move { reader.listen(events).await });
        }
        clients.push(client);
    }
    let mut keyboards = Vec::new();
    for (number, id) in target.documents.iter().enumerate() {
        for agent in 0..run.workload.script.agents {
            let client = connect(&target.control, &target.writer_token).await?;
            let (document, events) = open(&client, id).await?.split();
            let writer = Rc::new(Writer::new(Rc::clone(run), number, agent));
            let listener = Rc::clone(&writer);
            tasks.spawn_local(async move { listener.listen(events).await });
            keyboards.push((writer, document));
            clients.push(client);
        }
    }
    run.begin();
    for (writer, document) in keyboards {
        tasks.spawn_local(async move { writer.send(document).await });
    }
    let elapsed = finish(run, &mut tasks, bar).await?;
    let stats = total(&clients);
    tasks.shutdown().await;
    for client in clients {
        client.close(CLOSE_TIMEOUT).await;
    }
    let divergences = readers
        .iter()
        .filter_map(|reader| {
            let difference = difference(&run.workload.script.text, &reader.text())?;
            Some(format!("a reader of {}: {difference}", target.documents[reader.document()]))
        })
        .collect();
    let figures = run.figures.borrow().clone();
    Ok(LoadOutcome { figures, elapsed, stats, divergences })
}

/// Waits until every op is durable and read; returns how long that took.
async fn finish(
    run: &Run,
    tasks: &mut JoinSet<Result<(), LoadError>>,
    bar: &ProgressBar,
) -> Result<Duration, LoadError> {
    let mut tick = interval(PROGRESS_INTERVAL);
    let mut moved = (Instant::now(), 0);
    loop {
        tokio::select! {
            elapsed = run.finished() => {
                bar.finish_and_clear();
                return Ok(elapsed);
            }
            _ = tick.tick() => {
                let (durable, read) = run.counts();
                bar.set_position(durable as u64);
                if durable + read > moved.1 {
                    moved = (Instant::now(), durable + read);
                } else if moved.0.elapsed() > STALL_TIMEOUT {
                    let (ops, reads) = (run.workload.ops(), run.workload.reads());
                    return Err(LoadError::Stalled { durable, ops, read, reads });
                }
            }
            Some(ended) = tasks.join_next() => match ended {
                Ok(result) => result?,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return Err(LoadError::Vanished),
            },
        }
    }
}

/// A client of the session that `token` belongs to.
pub(crate) async fn connect(control: &str, token: &str) -> Result<Client, LoadError> {
    let tickets = ControlPlane::connect(control, token).await?;
    Ok(Client::builder(tickets).connect().await?)
}

/// Joins a document and waits until the node has opened it.
async fn open(client: &Client, id: &str) -> Result<Document, LoadError> {
    let mut document = client.join(id, DocumentKind::Yjs, JoinOptions::default())?;
    let joined = async {
        while let Some(event) = document.next_event().await {
            match event {
                DocumentEvent::Joined { .. } => return Ok(()),
                DocumentEvent::Closed { code, text } => return Err(LoadError::Closed { code, text }),
                _ => {}
            }
        }
        Err(LoadError::Client(ClientError::Closed))
    };
    match timeout(JOIN_TIMEOUT, joined).await {
        Ok(joined) => joined?,
        Err(_) => return Err(LoadError::NotJoined { document: id.to_owned() }),
    }
    Ok(document)
}

fn total(clients: &[Client]) -> ClientStats {
    clients.iter().map(Client::stats).fold(ClientStats::default(), |mut total, stats| {
        total.bytes_sent += stats.bytes_sent;
        total.bytes_received += stats.bytes_received;
        total.packets_lost += stats.packets_lost;
        total.reconnects += stats.reconnects;
        total
    })
}
