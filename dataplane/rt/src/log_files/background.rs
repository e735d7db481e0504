//! The thread that handles the segment files of one log, so that the shard never waits for a filesystem.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wal::segment_file_name;

use super::file::is_disk_full;
use super::prepare::Files;
use super::{LogDir, LogFile};
use crate::{Doorbell, Result, RtError, executor};

/// How soon it is looked again whether a full device has room.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// What has been done with a segment file.
#[derive(Debug)]
pub enum SegmentEvent {
    /// It has its size, is on the disk, and open.
    Ready {
        /// Which.
        segment: u32,
        /// To write it.
        file: LogFile,
    },
    /// The device has no room for it; it is tried again until it has.
    DiskFull {
        /// Which.
        segment: u32,
    },
    /// It is gone, and the disk knows.
    Removed {
        /// Which.
        segment: u32,
        /// Whether its file is kept to be used again.
        is_spare: bool,
    },
}

#[derive(Debug)]
enum Job {
    Prepare(u32),
    Remove(u32),
}

/// How segment files are made and kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFilesConfig {
    /// The size of a segment in bytes.
    pub segment_bytes: u64,
    /// Files of removed segments that are kept to be used again.
    pub spares_max: usize,
}

/// Makes, opens and takes away the segment files of one log on a thread of its own, in the order in which it is asked:
/// one at a time, so that the segment that is needed first does not share the device with the next.
#[derive(Debug)]
pub struct SegmentFiles {
    jobs: Option<Sender<Job>>,
    events: Receiver<Result<SegmentEvent>>,
    /// Events that the thread has sent, and that were taken.
    sent: Arc<AtomicU64>,
    taken: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SegmentFiles {
    pub(super) fn start(dir: &LogDir, config: SegmentFilesConfig, done: Doorbell) -> Result<Self> {
        let (jobs, jobs_out) = channel();
        let (events_in, events) = channel();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let path = dir.path().to_owned();
        let worker = Worker {
            path: path.clone(),
            config,
            stop: stop.clone(),
            events: events_in,
            sent: sent.clone(),
            done,
        };
        let thread = std::thread::Builder::new()
            .name("log-segment".to_owned())
            .spawn(move || {
                executor::unpin_current_thread();
                worker.run(&jobs_out);
            })
            .map_err(RtError::file("start a thread for the segments in", path))?;
        Ok(Self { jobs: Some(jobs), events, sent, taken: 0, stop, thread: Some(thread) })
    }

    /// Makes a segment ready, and opens it.
    pub fn prepare(&mut self, segment: u32) {
        self.send(Job::Prepare(segment));
    }

    /// Takes a segment away that nobody writes any more.
    pub fn remove(&mut self, segment: u32) {
        self.send(Job::Remove(segment));
    }

    /// What has been done since, one at a time.
    ///
    /// # Errors
    /// [`RtError::File`], after which nothing more is done: the log cannot go on.
    pub fn poll(&mut self) -> Option<Result<SegmentEvent>> {
        if !self.has_event() {
            return None;
        }
        let event = self.events.try_recv().ok()?;
        self.taken += 1;
        Some(event)
    }

    /// Whether [`Self::poll`] has something. The doorbell rings after it has become true.
    #[must_use]
    pub fn has_event(&self) -> bool {
        self.sent.load(Ordering::Acquire) > self.taken
    }

    fn send(&self, job: Job) {
        // A thread that has gone has told why: the error is seen at the next poll.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for SegmentFiles {
    /// Waits for what is under way to be left off, so that nobody else works on the same files.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    path: PathBuf,
    config: SegmentFilesConfig,
    stop: Arc<AtomicBool>,
    events: Sender<Result<SegmentEvent>>,
    sent: Arc<AtomicU64>,
    done: Doorbell,
}

impl Worker {
    fn run(&self, jobs: &Receiver<Job>) {
        let files = Files { dir: &self.path, segment_bytes: self.config.segment_bytes, stop: &self.stop };
        let mut next = files.remove_spares(self.config.spares_max).map(|()| None);
        // Segments that the device has no room for, in the order in which they are needed.
        let mut waiting: Vec<u32> = Vec::new();
        loop {
            if let Err(error) = next {
                if !self.stop.load(Ordering::Relaxed) {
                    self.tell(Err(error));
                }
                return;
            }
            let job = if waiting.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(RETRY_INTERVAL)
            };
            next = match job {
                Ok(Job::Prepare(segment)) if !waiting.is_empty() => {
                    waiting.push(segment);
                    Ok(None)
                }
                Ok(Job::Prepare(segment)) => self.prepare(&files, segment),
                Ok(Job::Remove(segment)) => files.remove(segment, self.config.spares_max).map(|is_spare| {
                    self.tell(Ok(SegmentEvent::Removed { segment, is_spare }));
                    None
                }),
                Err(RecvTimeoutError::Timeout) => self.prepare(&files, waiting.remove(0)),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            .inspect(|full: &Option<u32>| waiting.splice(0..0, *full).for_each(drop));
        }
    }

    /// The segment again, when the device is full.
    fn prepare(&self, files: &Files<'_>, segment: u32) -> Result<Option<u32>> {
        let path = self.path.join(segment_file_name(segment));
        match files.prepare(segment).and_then(|()| LogFile::open(path)) {
            Ok(file) => {
                self.tell(Ok(SegmentEvent::Ready { segment, file }));
                Ok(None)
            }
            Err(error) if is_disk_full(&error) => {
                self.tell(Ok(SegmentEvent::DiskFull { segment }));
                Ok(Some(segment))
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&self, event: Result<SegmentEvent>) {
        // Nobody listens any more when the shard has gone.
        let _ = self.events.send(event);
        self.sent.fetch_add(1, Ordering::Release);
        self.done.ring();
    }
}
