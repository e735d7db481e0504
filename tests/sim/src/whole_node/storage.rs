//! The storage thread of a shard: does one job after the other, each at a later time, in any order that keeps that of
//! each document.

use std::collections::VecDeque;

use statesync::jobs::Job;
use statesync::{JobDone, JobId, StorageWorker, WorkerConfig};
use wire::Time;

use super::World;
use super::plan::Point;
use super::store::Store;

/// A worker over the store, and what it has to do.
pub(super) struct StorageThread {
    worker: StorageWorker<Store>,
    queue: VecDeque<(JobId, Job)>,
    working: Option<Working>,
}

/// The job at hand: it is done at some moment, and its answer comes a while later.
struct Working {
    id: JobId,
    stage: Stage,
    at: Time,
}

enum Stage {
    Begun(Job),
    Done(JobDone),
}

impl StorageThread {
    pub(super) fn new(store: Store, config: WorkerConfig) -> Self {
        Self { worker: StorageWorker::new(store, config), queue: VecDeque::new(), working: None }
    }

    pub(super) fn wake(&self) -> Option<Time> {
        self.working.as_ref().map(|working| working.at)
    }

    /// The process is gone: what is in the store stays.
    pub(super) fn into_store(self) -> Store {
        self.worker.into_store()
    }

    /// The process goes in peace: what is begun is ended.
    pub(super) fn finish(mut self) -> Store {
        let begun = self.working.take().into_iter().filter_map(|working| match working.stage {
            Stage::Begun(job) => Some(job),
            Stage::Done(_) => None,
        });
        for job in begun.chain(self.queue.drain(..).map(|(_, job)| job)) {
            self.worker.handle(job);
        }
        self.into_store()
    }

    pub(super) const fn peek_store(&self) -> &Store {
        self.worker.peek()
    }

    pub(super) const fn store(&mut self) -> &mut Store {
        self.worker.store()
    }

    /// A job that no other of the same document is before.
    fn take_job(&mut self, number: usize) -> Option<(JobId, Job)> {
        let document = |at: usize| document_of(&self.queue[at].1);
        let is_free = |at: &usize| (0..*at).all(|before| document(before) != document(*at));
        let free: Vec<usize> = (0..self.queue.len()).filter(is_free).collect();
        self.queue.remove(*free.get(number % free.len().max(1))?)
    }
}

fn document_of(job: &Job) -> &str {
    match job {
        Job::Load { document }
        | Job::Diff { document, .. }
        | Job::ReadOps { document, .. }
        | Job::Delete { document, .. }
        | Job::CreateVersion { document, .. }
        | Job::ListVersions { document }
        | Job::ReadAt { document, .. } => document,
        Job::Snapshot(snapshot) => &snapshot.document,
    }
}

impl World {
    /// Takes the jobs of a shard, and begins one when there is none at hand.
    pub(super) fn begin_jobs(&mut self, number: usize) {
        let now = self.node_now();
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        while let Some(job) = host.shard.poll_job(now) {
            host.storage.queue.push_back(job);
        }
        if host.storage.working.is_some() {
            return;
        }
        let any = self.random.next_u64() as usize;
        let Some((id, job)) = host.storage.take_job(any) else { return };
        match &job {
            Job::Diff { .. } => self.counts.diffs += 1,
            Job::ReadOps { .. } => self.counts.ops_read_back += 1,
            _ => {}
        }
        let at = now.mono + host.storage.store().latency();
        host.storage.working = Some(Working { id, stage: Stage::Begun(job), at });
    }

    /// Does what is due of the job at hand.
    pub(super) fn work_on_jobs(&mut self, number: usize) {
        let now = self.node_now();
        let Some(host) = self.node.shards.as_mut().map(|hosts| &mut hosts[number]) else { return };
        let thread = &mut host.storage;
        let Some(Working { id, stage, .. }) = thread.working.take_if(|working| working.at <= now.mono) else {
            return;
        };
        match stage {
            Stage::Begun(job) => {
                let told = self.trace.is_on().then(|| describe(&job));
                let done = thread.worker.handle(job);
                let is_snapshot = matches!(done, JobDone::Snapshotted { .. });
                let at = now.mono + thread.worker.store().latency();
                self.trace.say(now.mono, &format!("store {number}"), || match &done {
                    JobDone::Failed { text, .. } => format!("{} not: {text}", told.unwrap_or_default()),
                    _ => told.unwrap_or_default(),
                });
                thread.working = Some(Working { id, stage: Stage::Done(done), at });
                if is_snapshot {
                    self.kill_at(Point::Stored);
                }
            }
            Stage::Done(done) => {
                host.is_touched = true;
                host.shard.handle_job_done(now, id, done);
            }
        }
    }
}

fn describe(job: &Job) -> String {
    let document = document_of(job);
    match job {
        Job::Load { .. } => format!("loads {document}"),
        Job::Snapshot(snapshot) => {
            let last = snapshot.ops.last().map_or(0, |op| op.sequence);
            format!("stores {document} up to op {last}")
        }
        Job::Diff { .. } => format!("compares {document}"),
        Job::ReadOps { from, .. } => format!("reads the ops of {document} from {from} on"),
        Job::Delete { .. } => format!("deletes {document}"),
        Job::CreateVersion { .. } => format!("names a version of {document}"),
        Job::ListVersions { .. } => format!("reads the versions of {document}"),
        Job::ReadAt { .. } => format!("builds {document} as it was"),
    }
}
