//! Finding the logs, and keeping everybody else out while they are read.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use rt::{DataDir, LogDir, LogStorage};
use wal::{Progress, Record, RecoverError, Recovery, RecoveryError};
use wire::Guuid;

use super::{LogError, Source};

/// Where `aetherflow dev` keeps its node.
const DEV_NODE: &str = "node";
const LAYOUT: &str = "layout";

/// The logs of a node, locked.
pub(super) struct Logs {
    pub(super) shards: Vec<usize>,
    log_id: Guuid,
    data_dir: DataDir,
}

/// The log of one shard.
pub(super) struct ShardLog {
    pub(super) shard: usize,
    pub(super) log_id: Guuid,
    pub(super) dir: LogDir,
    pub(super) storage: LogStorage,
}

impl Logs {
    pub(super) fn open(source: &Source) -> Result<Self, LogError> {
        let given = source.data_dir.clone();
        let below = given.join(DEV_NODE);
        let path = [given.clone(), below].into_iter().find(|path| path.join(LAYOUT).is_file());
        let path = path.ok_or(LogError::NoDataDir(given))?;
        let holder = format!("`aetherflow log`, pid {}", std::process::id());
        let data_dir = DataDir::lock_as(path.clone(), &holder)?;
        let layout = data_dir.layout()?.ok_or(LogError::NoDataDir(path))?;
        let shards = match source.shard {
            Some(found) if found >= layout.shards => {
                return Err(LogError::NoShard { found, shards: layout.shards });
            }
            Some(shard) => vec![shard],
            None => (0..layout.shards).collect(),
        };
        Ok(Self { shards, log_id: layout.log_id, data_dir })
    }

    pub(super) fn shard(&self, shard: usize) -> ShardLog {
        let (dir, storage) = LogDir::reader(self.data_dir.log_path(shard));
        ShardLog { shard, log_id: self.log_id.with_shard(shard as u8), dir, storage }
    }
}

impl ShardLog {
    /// Reads the whole log; the recovery afterwards, and what is wrong, if anything is.
    pub(super) fn read(
        &mut self,
        on_record: impl FnMut(&Record<'_>),
    ) -> Result<(Recovery, Option<RecoveryError>), LogError> {
        let bar = progress_bar(self.shard, self.dir.bytes()?);
        let mut recovery = Recovery::new(self.log_id);
        let on_progress = |read: &Progress| bar.set_position(read.bytes);
        let read = wal::scan(&mut self.storage, &mut recovery, on_record, on_progress);
        bar.finish_and_clear();
        match read {
            Ok(()) => Ok((recovery, None)),
            Err(RecoverError::Log(error)) => Ok((recovery, Some(error))),
            Err(RecoverError::Storage(error)) => Err(error.into()),
        }
    }
}

/// Shown to people only.
fn progress_bar(shard: usize, bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style).with_message(format!("shard {shard}"))
}
