//! In which order jobs are done.

use std::collections::VecDeque;

use statesync::Job;

use super::Request;
use super::stats::JobKind;

/// Jobs that somebody waits for go before those that nobody does, and the jobs of one document stay in order.
#[derive(Default)]
pub(super) struct JobQueue {
    waiting: VecDeque<Request>,
}

impl JobQueue {
    pub(super) fn push(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn pop(&mut self) -> Option<Request> {
        let urgent = (0..self.waiting.len()).find(|&index| self.may_go_first(index));
        self.waiting.remove(urgent.unwrap_or(0))
    }

    fn may_go_first(&self, index: usize) -> bool {
        let job = &self.waiting[index].job;
        JobKind::of(job) != JobKind::Snapshot
            && self.waiting.iter().take(index).all(|before| document(&before.job) != document(job))
    }
}

fn document(job: &Job) -> &str {
    match job {
        Job::Snapshot(snapshot) => &snapshot.document,
        Job::Load { document }
        | Job::Diff { document, .. }
        | Job::ReadOps { document, .. }
        | Job::Delete { document, .. }
        | Job::CreateVersion { document, .. }
        | Job::ListVersions { document }
        | Job::ReadAt { document, .. } => document,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use statesync::JobId;
    use statesync::jobs::{Base, Snapshot};
    use wire::sync::DocumentKind;

    use super::*;

    fn snapshot(document: &str) -> Job {
        Job::Snapshot(Snapshot {
            document: document.into(),
            kind: DocumentKind::Yjs,
            base: Base::default(),
            ops: Vec::new(),
            writers: Vec::new(),
            quarantined: false,
            unix_ms: 0,
        })
    }

    fn load(document: &str) -> Job {
        Job::Load { document: document.into() }
    }

    #[test]
    fn a_joiner_waits_for_snapshots_of_others_or_one_document_is_read_before_it_is_written() {
        let mut queue = JobQueue::default();
        let jobs = [snapshot("a"), snapshot("b"), load("b"), load("c"), load("b"), load("c")];
        for (id, job) in jobs.into_iter().enumerate() {
            queue.push(Request { id: JobId(id as u64), job, asked: Instant::now() });
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|request| request.id.0).collect();
        assert_eq!(order, [3, 5, 0, 1, 2, 4]);
    }
}
