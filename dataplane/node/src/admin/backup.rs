//! Making a backup of the node while it serves.
//!
//! First every shard's log is held: nothing in it is let go. Then what each store holds is copied as it is at one
//! moment, and behind it the log, up to what is durable by then. Whatever the store's copy lacks is in the log's: the
//! restored node recovers from the two as from a kill.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ::backup::{BackupWriter, PART_BYTES_MAX, PartKind, Target, encode_entry};
use bytes::Bytes;
use proto::v1::BackupProgress;
use rt::{LogDir, unix_ms};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{Admin, HoldRequest, LogEnd};

/// Parts of a store that are read ahead.
const PARTS_AHEAD: usize = 1;

type Progress = mpsc::Sender<Result<BackupProgress, Status>>;

/// Makes a backup; what is told at the end.
pub(super) async fn make(
    admin: &Admin,
    target: Target,
    progress: &Progress,
) -> Result<BackupProgress, String> {
    let writer = BackupWriter::new(target, admin.subject.clone(), unix_ms());
    let mut copy = Copy { admin, writer, progress, parts: 0, bytes: 0 };
    let copied = copy.all().await;
    for shard in 0..admin.subject.shards {
        // A shard that has stopped holds nothing.
        let _ = hold(admin, shard, false).await;
    }
    copied?;
    let manifest = copy.writer.finish(unix_ms()).await.map_err(|error| error.to_string())?;
    let (parts, bytes) = (manifest.parts.len() as u64, manifest.bytes());
    Ok(BackupProgress { id: manifest.id, parts, bytes, done: true })
}

async fn hold(admin: &Admin, shard: usize, is_held: bool) -> Result<LogEnd, String> {
    let (reply, answer) = oneshot::channel();
    let stopped = || format!("shard {shard} has stopped");
    admin.holds.send(HoldRequest { shard, is_held, reply }).await.map_err(|_| stopped())?;
    answer.await.map_err(|_| stopped())
}

/// A backup on its way.
struct Copy<'a> {
    admin: &'a Admin,
    writer: BackupWriter,
    progress: &'a Progress,
    parts: u64,
    bytes: u64,
}

impl Copy<'_> {
    async fn all(&mut self) -> Result<(), String> {
        let shards = self.admin.subject.shards;
        for shard in 0..shards {
            hold(self.admin, shard, true).await?;
        }
        for shard in 0..shards {
            self.store(shard).await?;
        }
        for shard in 0..shards {
            // Held still, and durable further than before.
            let end = hold(self.admin, shard, true).await?;
            self.log(shard, end).await?;
        }
        Ok(())
    }

    async fn put(&mut self, shard: usize, kind: PartKind, content: Bytes) -> Result<(), String> {
        self.parts += 1;
        self.bytes += content.len() as u64;
        self.writer.put(shard, kind, content).await.map_err(|error| error.to_string())?;
        let (id, parts, bytes) = (self.writer.id().to_owned(), self.parts, self.bytes);
        // Whoever is slow sees fewer steps.
        match self.progress.try_send(Ok(BackupProgress { id, parts, bytes, done: false })) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err("nobody waits for it any more".to_owned()),
            _ => Ok(()),
        }
    }

    async fn store(&mut self, shard: usize) -> Result<(), String> {
        let export = self.admin.storage[shard].export().await?;
        let (parts_in, mut parts) = mpsc::channel::<Bytes>(PARTS_AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            let mut part = Vec::with_capacity(PART_BYTES_MAX);
            for entry in export.entries() {
                encode_entry(&mut part, &entry?);
                if part.len() >= PART_BYTES_MAX {
                    let whole = std::mem::replace(&mut part, Vec::with_capacity(PART_BYTES_MAX));
                    parts_in.blocking_send(whole.into()).map_err(|_| "the copy has ended".to_owned())?;
                }
            }
            parts_in.blocking_send(part.into()).map_err(|_| "the copy has ended".to_owned())
        });
        while let Some(part) = parts.recv().await {
            if !part.is_empty() {
                self.put(shard, PartKind::Store, part).await?;
            }
        }
        reading.await.map_err(|error| error.to_string())?
    }

    /// The segments up to `end`; beyond it there may be half a write.
    async fn log(&mut self, shard: usize, end: LogEnd) -> Result<(), String> {
        let dir = self.admin.log_dirs[shard].clone();
        // Only looked at: what is unfinished in it is being made.
        let (reader, _) = LogDir::reader(&dir);
        let segments = reader.segments().map_err(|error| error.to_string())?;
        let mut is_first = true;
        for segment in segments.into_iter().filter(|segment| *segment <= end.0) {
            let path = dir.join(wal::segment_file_name(segment));
            let bytes_max = if segment == end.0 { end.1 } else { u64::MAX };
            let mut at = 0;
            loop {
                let part = read(path.clone(), at, bytes_max).await;
                let part = match part {
                    // It was let go of before the log was held, and is taken away only now.
                    Err(error) if error.kind() == ErrorKind::NotFound && is_first && at == 0 => break,
                    part => part.map_err(|error| describe(&path, &error))?,
                };
                if part.is_empty() {
                    is_first = false;
                    break;
                }
                at += part.len() as u64;
                self.put(shard, PartKind::Segment(segment), part).await?;
            }
        }
        Ok(())
    }
}

fn describe(path: &Path, error: &std::io::Error) -> String {
    format!("reading {} failed: {error}", path.display())
}

/// What is in a file at an offset, up to `bytes_max` of the file and one part; empty at the end.
async fn read(path: PathBuf, at: u64, bytes_max: u64) -> std::io::Result<Bytes> {
    let reading = tokio::task::spawn_blocking(move || {
        let file = File::open(path)?;
        let wanted = bytes_max.min(file.metadata()?.len()).saturating_sub(at).min(PART_BYTES_MAX as u64);
        let mut part = vec![0; wanted as usize];
        file.read_exact_at(&mut part, at)?;
        Ok(part.into())
    });
    reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
