//! What a storage thread does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use docstore::FjallStore;
use rings::spsc::{Consumer, Producer};
use rt::{Doorbell, unix_ms};
use statesync::{JobDone, StorageWorker, WorkerConfig};
use wire::Code;

use super::job_queue::JobQueue;
use super::stats::{JobKind, StorageStats};
use super::{ExportReply, JOBS_MAX, REPORTS_MAX, Request, StorageReport};

/// How often the thread's figures go to its shard.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// How often a step of the retention is made while there is nothing better to do.
const COMPACTION_STEP_INTERVAL: Duration = Duration::from_millis(200);
/// How long it rests after a pass over all documents.
const COMPACTION_PASS_INTERVAL: Duration = Duration::from_secs(600);
/// How often a store that takes no writes is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// All that a storage thread works with.
pub(super) struct StorageLoop {
    pub(super) worker_config: WorkerConfig,
    pub(super) store: FjallStore,
    pub(super) jobs: Consumer<Request>,
    pub(super) exports: mpsc::Receiver<ExportReply>,
    pub(super) reports: Producer<StorageReport>,
    pub(super) doorbell: Doorbell,
}

impl StorageLoop {
    /// Does jobs until the shard has let go of its end and everything has been done.
    pub(super) fn run(self) {
        let Self { worker_config, store, jobs, exports, reports, doorbell } = self;
        let now = Instant::now();
        let running = Running {
            worker: StorageWorker::new(store, worker_config),
            jobs,
            exports,
            reports,
            doorbell,
            queue: JobQueue::default(),
            stats: StorageStats::default(),
            stats_due: now,
            compaction_due: now + COMPACTION_PASS_INTERVAL,
            retry_due: now,
        };
        running.run();
    }
}

struct Running {
    worker: StorageWorker<FjallStore>,
    jobs: Consumer<Request>,
    exports: mpsc::Receiver<ExportReply>,
    reports: Producer<StorageReport>,
    doorbell: Doorbell,
    queue: JobQueue,
    stats: StorageStats,
    stats_due: Instant,
    compaction_due: Instant,
    retry_due: Instant,
}

impl Running {
    fn run(mut self) {
        loop {
            while let Some(request) = self.jobs.pop() {
                self.queue.push(request);
            }
            if let Ok(reply) = self.exports.try_recv() {
                let export = self.worker.store().export();
                let _ = reply.send(export.map_err(|error| error.to_string()));
            }
            let next = self.queue.pop();
            let is_idle = next.is_none();
            if let Some(request) = next {
                self.handle(request);
            } else if self.jobs.is_disconnected() {
                self.note_writes();
                return;
            }
            let now = Instant::now();
            self.look_after_store(now, is_idle);
            if now >= self.stats_due {
                self.note_writes();
                self.stats_due = now + STATS_INTERVAL;
                self.tell_stats();
            }
            if is_idle {
                // What was pushed since the look at the ring left a token, and this returns at once.
                let due = self.stats_due.min(self.compaction_due);
                std::thread::park_timeout(due.saturating_duration_since(now));
            }
        }
    }

    fn handle(&mut self, Request { id, job, asked }: Request) {
        let kind = JobKind::of(&job);
        let worker = &mut self.worker;
        // A panic inside the store or the CRDT library costs one job.
        let done = catch_unwind(AssertUnwindSafe(|| worker.handle(job))).unwrap_or_else(|_| {
            self.stats.panics += 1;
            let text = "the storage thread panicked over it; its message is on standard error".to_owned();
            JobDone::Failed { code: Code::StorageFailed, text }
        });
        let ns = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.stats.jobs[kind as usize].record(ns);
        let pushed = self.reports.try_push(StorageReport::Done(id, done));
        assert!(pushed.is_ok(), "there is room for an answer to every job that can be under way");
        self.doorbell.ring();
    }

    /// Notices that the store has failed, tries it again, lets go of what is too old.
    fn look_after_store(&mut self, now: Instant, is_idle: bool) {
        let store = self.worker.store();
        if let Some(failure) = store.failure() {
            if self.stats.failure.is_none() {
                self.stats.failures += 1;
                self.stats.failure = Some(failure.to_string());
                self.stats_due = now;
                self.retry_due = now + RETRY_INTERVAL;
            } else if now >= self.retry_due {
                self.retry_due = now + RETRY_INTERVAL;
                if store.try_again() {
                    self.stats.failure = None;
                    self.stats_due = now;
                }
            }
            return;
        }
        if !is_idle || now < self.compaction_due {
            return;
        }
        self.compaction_due = now + COMPACTION_STEP_INTERVAL;
        match store.compact(unix_ms()) {
            Ok(done) => {
                self.stats.dropped_bytes += done.chunk_bytes;
                self.stats.tombstones_dropped += done.tombstones;
                if done.is_pass_done {
                    self.compaction_due = now + COMPACTION_PASS_INTERVAL;
                }
            }
            Err(_) => {
                self.stats.compaction_errors += 1;
                self.compaction_due = now + COMPACTION_PASS_INTERVAL;
            }
        }
    }

    /// A store that lost what is trimmed out of the log is recognised by this at the next start.
    fn note_writes(&mut self) {
        self.stats.mark_errors += u64::from(self.worker.store().note_writes().is_err());
    }

    /// Figures never take the room that answers need; those that find none are followed by newer ones.
    fn tell_stats(&mut self) {
        if self.reports.len() >= REPORTS_MAX - JOBS_MAX {
            return;
        }
        self.stats.worker = self.worker.stats();
        self.stats.queue = (self.queue.len() + self.jobs.len()) as u64;
        self.stats.cache_bytes = self.worker.store().cache_bytes();
        self.stats.disk_bytes = self.worker.store().disk_bytes();
        // The shard looks when it is awake anyway.
        let _ = self.reports.try_push(StorageReport::Stats(Box::new(self.stats.clone())));
    }
}
