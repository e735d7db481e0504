//! The storage thread of a shard: what merges documents and reads and writes the store, off the shard's core.
//!
//! The shard puts jobs into one ring, their answers come out of another. Whoever finds nothing to do sleeps: the
//! thread until it is unparked, the shard until its doorbell rings.

mod job_queue;
mod stats;
mod thread;

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use docstore::{FjallStore, StoreConfig, StoreExport};
use rings::spsc::{self, Consumer, Producer};
use rt::Doorbell;
use statesync::{Job, JobDone, JobId, WorkerConfig};
use tokio::sync::oneshot;
use wire::Guuid;

use crate::error::NodeError;
pub use stats::JobKind;
pub(crate) use stats::StorageStats;
use thread::StorageLoop;

/// Jobs under way to a storage thread and on it.
const JOBS_MAX: usize = 64;
/// What comes back: answers, and figures beside them.
const REPORTS_MAX: usize = 2 * JOBS_MAX;

/// A job on its way.
pub(crate) struct Request {
    pub(crate) id: JobId,
    pub(crate) job: Job,
    pub(crate) asked: Instant,
}

/// What the agent asks of a storage thread.
type ExportReply = oneshot::Sender<Result<StoreExport, String>>;

/// The agent's way to a storage thread.
#[derive(Clone)]
pub(crate) struct StorageControl {
    exports: mpsc::SyncSender<ExportReply>,
    wake: Thread,
}

impl StorageControl {
    /// What the store holds now.
    pub(crate) async fn export(&self) -> Result<StoreExport, String> {
        let (reply, answer) = oneshot::channel();
        self.exports
            .try_send(reply)
            .map_err(|_| "the storage thread is busy with another copy".to_owned())?;
        self.wake.unpark();
        answer.await.map_err(|_| "the storage thread has stopped".to_owned())?
    }
}

/// What a storage thread tells its shard.
pub(crate) enum StorageReport {
    Done(JobId, JobDone),
    Stats(Box<StorageStats>),
}

/// What a storage thread is started with.
pub(crate) struct StoragePlan {
    pub(crate) shard: usize,
    /// Of the store.
    pub(crate) path: PathBuf,
    /// The log that the store belongs to.
    pub(crate) log_id: Guuid,
    pub(crate) store: StoreConfig,
    pub(crate) worker: WorkerConfig,
    /// Cores that have a shard.
    pub(crate) data_cores: Vec<usize>,
}

/// A storage thread that opens its store, and waits for it to come back from recovery.
pub(crate) struct StorageStarting {
    shard: usize,
    opened: mpsc::Receiver<Result<FjallStore, docstore::StoreError>>,
    serve: mpsc::SyncSender<StorageLoop>,
    exports: mpsc::SyncSender<ExportReply>,
    exports_out: mpsc::Receiver<ExportReply>,
    worker: WorkerConfig,
    thread: JoinHandle<()>,
}

impl StoragePlan {
    /// Starts the thread. The engine's own threads are started by it, and keep out of the shards' way with it.
    pub(crate) fn spawn(self) -> Result<StorageStarting, NodeError> {
        let (opened_in, opened) = mpsc::sync_channel(1);
        let (serve, serve_out) = mpsc::sync_channel::<StorageLoop>(1);
        let Self { shard, path, log_id, store, worker, data_cores } = self;
        let thread = std::thread::Builder::new()
            .name(format!("storage-{shard}"))
            .stack_size(rt::STACK_BYTES)
            .spawn(move || {
                rt::step_aside(&data_cores);
                let _ = opened_in.send(FjallStore::open(path, log_id, store));
                // Nothing comes when the shard could not recover.
                if let Ok(serving) = serve_out.recv() {
                    serving.run();
                }
            })
            .map_err(|source| NodeError::StorageThread { shard, source })?;
        let (exports, exports_out) = mpsc::sync_channel(1);
        Ok(StorageStarting { shard, opened, serve, exports, exports_out, worker, thread })
    }
}

impl StorageStarting {
    /// The store, for recovery: waits until it is open.
    pub(crate) fn store(&self) -> Result<FjallStore, NodeError> {
        let shard = self.shard;
        match self.opened.recv() {
            Ok(opened) => opened.map_err(|source| NodeError::Store { shard, source }),
            Err(_) => Err(NodeError::ShardStopped { shard, reason: "its storage thread ended".to_owned() }),
        }
    }

    /// The agent's way to the thread.
    pub(crate) fn control(&self) -> StorageControl {
        StorageControl { exports: self.exports.clone(), wake: self.thread.thread().clone() }
    }

    /// Gives the store back; from now on jobs are done.
    pub(crate) fn serve(self, store: FjallStore, doorbell: Doorbell) -> StorageLink {
        let (jobs, jobs_out) = spsc::channel(JOBS_MAX);
        let (reports_in, reports) = spsc::channel(REPORTS_MAX);
        let serving = StorageLoop {
            store,
            worker_config: self.worker,
            jobs: jobs_out,
            exports: self.exports_out,
            reports: reports_in,
            doorbell,
        };
        // It waits for this and for nothing else.
        let _ = self.serve.send(serving);
        let wake = self.thread.thread().clone();
        StorageLink {
            jobs: Some(jobs),
            reports,
            wake,
            thread: Some(self.thread),
            in_flight: 0,
            stats: Box::default(),
            has_turned: false,
        }
    }
}

/// A shard's end of the rings to and from its storage thread. Dropping it waits until the jobs under way have ended.
pub(crate) struct StorageLink {
    jobs: Option<Producer<Request>>,
    reports: Consumer<StorageReport>,
    wake: Thread,
    thread: Option<JoinHandle<()>>,
    in_flight: usize,
    /// As last reported.
    stats: Box<StorageStats>,
    /// Whether the store began or ceased to take writes since somebody asked.
    has_turned: bool,
}

impl StorageLink {
    /// Whether [`Self::begin`] takes one more job.
    pub(crate) const fn has_room(&self) -> bool {
        self.in_flight < JOBS_MAX
    }

    /// Hands a job over.
    pub(crate) fn begin(&mut self, id: JobId, job: Job) {
        let request = Request { id, job, asked: Instant::now() };
        let jobs = self.jobs.as_mut().expect("taken when this is dropped");
        assert!(jobs.try_push(request).is_ok(), "there is room for as many as may be in flight");
        self.in_flight += 1;
        self.wake.unpark();
    }

    /// The next answer.
    pub(crate) fn poll_done(&mut self) -> Option<(JobId, JobDone)> {
        loop {
            match self.reports.pop()? {
                StorageReport::Done(id, done) => {
                    self.in_flight -= 1;
                    return Some((id, done));
                }
                StorageReport::Stats(stats) => {
                    self.has_turned |= stats.failure != self.stats.failure;
                    self.stats = stats;
                }
            }
        }
    }

    /// How many answers have come, figures included.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.reports.len()
    }

    /// Whether [`Self::poll_done`] has nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        self.reports.is_empty()
    }

    /// Why the store takes no writes from now on, or `None` when it takes them again; once.
    pub(crate) fn poll_turn(&mut self) -> Option<Option<String>> {
        std::mem::take(&mut self.has_turned).then(|| self.stats.failure.clone())
    }

    /// What the thread has done and holds, at most a second ago.
    pub(crate) const fn stats(&self) -> &StorageStats {
        &self.stats
    }
}

impl Drop for StorageLink {
    fn drop(&mut self) {
        // The thread ends when nothing more can come.
        self.jobs = None;
        self.wake.unpark();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::path::Path;

    use bytes::Bytes;
    use rt::{PacketRing, PacketRingConfig};
    use statesync::DocumentStore;
    use statesync::jobs::{Base, HistoryOp, Snapshot};
    use wire::sync::DocumentKind;

    use super::*;

    fn plan(dir: &Path) -> StoragePlan {
        StoragePlan {
            shard: 0,
            path: dir.join("store"),
            log_id: Guuid::new(1, [1; 10]),
            store: StoreConfig::default(),
            worker: WorkerConfig::default(),
            data_cores: rt::allowed_cores(),
        }
    }

    fn snapshot(document: &str) -> Job {
        let op_id = Guuid::new(1, [2; 10]).writer().with_counter(1);
        let op = HistoryOp { sequence: 1, op_id, unix_ms: 1, payload: Bytes::from_static(b"an op") };
        Job::Snapshot(Snapshot {
            document: document.into(),
            kind: DocumentKind::Opaque,
            base: Base::default(),
            ops: vec![op],
            writers: Vec::new(),
            quarantined: false,
            unix_ms: 1,
        })
    }

    #[test]
    fn a_sleeping_shard_misses_an_answer_or_the_end_of_a_link_loses_a_job() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut ring = PacketRing::new(socket, PacketRingConfig::default()).expect("a ring");
        let starting = plan(dir.path()).spawn().expect("a thread");
        let store = starting.store().expect("a store");
        let mut link = starting.serve(store, ring.doorbell());
        for round in 0..20 {
            link.begin(JobId(round), snapshot(&format!("doc-{round}")));
            let done = loop {
                if let Some(done) = link.poll_done() {
                    break done;
                }
                // Without a limit: only the answer ends it.
                ring.wait(None, || link.is_quiet()).expect("a sleep");
                ring.poll(|_, _| {}).expect("a look");
            };
            assert!(matches!(done, (id, JobDone::Snapshotted { sequence: 1, .. }) if id == JobId(round)));
        }
        for last in 20..40 {
            link.begin(JobId(last), snapshot(&format!("doc-{last}")));
        }
        drop(link);

        let starting = plan(dir.path()).spawn().expect("a thread");
        let mut store = starting.store().expect("the store that the first thread has closed");
        for round in 0..40 {
            let head = store.head(&format!("doc-{round}")).expect("a sound head");
            assert_eq!(head.map(|head| head.sequence), Some(1), "doc-{round}");
        }
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_not_named() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("store"), b"a file").expect("a file");
        let error = plan(dir.path()).spawn().expect("a thread").store().err().expect("no store").to_string();
        assert!(error.contains("shard 0") && error.contains(&dir.path().display().to_string()), "{error}");
    }
}
