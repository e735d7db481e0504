//! `aetherflow log repair`: cuts a log behind its last provable batch. What a start accepts is never touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Serialize;
use wal::{LogPosition, RecoveryError, Storage};

use super::lost::{self, LostOps};
use super::open::{Logs, ShardLog};
use super::{LogError, RepairArgs};
use crate::output;

/// What the names of files end with that were cut out of a log.
const DAMAGED: &str = ".damaged";

/// What is done, or would be, to one log.
#[derive(Serialize, Debug)]
struct Plan {
    shard: usize,
    /// `sound`, `repairable`, `repaired` or `beyond-repair`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The log ends here afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
    /// Readable ops that are lost with it; what the damaged bytes held is not known.
    lost: Vec<LostOps>,
}

/// Where the log is cut.
#[derive(Serialize, Clone, Copy, Debug)]
struct Cut {
    segment: u32,
    offset: u64,
    last_lsn: u64,
}

/// True when nothing is left to repair.
pub(super) fn run(args: &RepairArgs) -> Result<bool, LogError> {
    let logs = Logs::open(&args.source)?;
    let mut is_sound = true;
    for &shard in &logs.shards {
        let mut log = logs.shard(shard);
        let mut plan = plan(&mut log)?;
        if let (Some(cut), true) = (plan.cut, args.yes) {
            apply(&log, cut)?;
            let (recovery, damage) = log.read(|_| ())?;
            match damage.map_or_else(|| recovery.finish().map(drop), Err) {
                Ok(()) => plan.status = "repaired",
                Err(error) => (plan.status, plan.problem) = ("beyond-repair", Some(error.to_string())),
            }
        }
        is_sound &= matches!(plan.status, "sound" | "repaired");
        output::print(args.source.output, &plan, || plan.text());
    }
    Ok(is_sound)
}

fn plan(log: &mut ShardLog) -> Result<Plan, LogError> {
    let (recovery, damage) = log.read(|_| ())?;
    let (position, (first, first_kept)) = (recovery.position(), recovery.first_segments());
    let shard = log.shard;
    let Err(error) = damage.map_or_else(|| recovery.finish().map(drop), Err) else {
        return Ok(Plan { shard, status: "sound", problem: None, cut: None, lost: Vec::new() });
    };
    let problem = Some(error.to_string());
    let is_explained = first <= first_kept;
    let has_start = position.incarnation > 0;
    let cut = match error {
        RecoveryError::Corrupt { .. } | RecoveryError::Hole { .. } if is_explained && has_start => {
            cut_at(position)
        }
        // A newer program's log, another log's file, a log without its beginning: nothing here is ours to cut.
        _ => return Ok(Plan { shard, status: "beyond-repair", problem, cut: None, lost: Vec::new() }),
    };
    let lost = lost::behind(log, cut.segment, cut.offset)?;
    Ok(Plan { shard, status: "repairable", problem, cut: Some(cut), lost })
}

const fn cut_at(position: LogPosition) -> Cut {
    Cut { segment: position.segment, offset: position.offset, last_lsn: position.lsn }
}

/// Puts aside what is behind the cut: later segments as they are, the one that is cut as a copy; then zeros follow the
/// cut. In this order, so that a repair that is interrupted can be done again.
fn apply(log: &ShardLog, cut: Cut) -> Result<(), LogError> {
    let segment = log.dir.segment_path(cut.segment);
    let copy = unused(&segment);
    copy_durably(&segment, &copy)?;
    // From the end, so that no hole is left behind a crash.
    for later in log.dir.segments()?.into_iter().rev().filter(|&later| later > cut.segment) {
        let path = log.dir.segment_path(later);
        fs::rename(&path, unused(&path)).map_err(file("renaming", &path))?;
    }
    let length = fs::metadata(&segment).map_err(file("looking at", &segment))?.len();
    let mut storage = log.dir.storage();
    storage.zero(cut.segment, cut.offset..length)?;
    storage.sync(cut.segment)?;
    Ok(())
}

/// `NAME.damaged`, or `NAME.damaged-2` and so on when an earlier repair has left that.
fn unused(path: &Path) -> PathBuf {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(DAMAGED);
        if number > 1 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    (1..).map(named).find(|path| !path.exists()).expect("there are fewer files than numbers")
}

fn copy_durably(from: &Path, to: &Path) -> Result<(), LogError> {
    fs::copy(from, to).map_err(file("copying", from))?;
    File::open(to).and_then(|copy| copy.sync_all()).map_err(file("syncing", to))
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File { what, path, source }
}

impl Plan {
    fn text(&self) -> String {
        let shard = self.shard;
        let problem = self.problem.as_deref().unwrap_or_default();
        let Some(Cut { segment, offset, last_lsn }) = self.cut else {
            return if self.problem.is_none() {
                format!("shard {shard}: sound, there is nothing to repair")
            } else {
                format!("shard {shard}: {problem}\n  this cannot be repaired here")
            };
        };
        let head = match self.status {
            "repaired" => format!("shard {shard}: repaired; the log now ends"),
            "repairable" => format!("shard {shard}: {problem}\n  --yes would end the log"),
            _ => format!("shard {shard}: cut, but not repaired: {problem}\n  the log now ends"),
        };
        format!(
            "{head} with record {last_lsn}, at offset {offset} of segment {segment}; what follows is kept in files that end \
             in `{DAMAGED}`\n{}",
            lost::text(&self.lost)
        )
    }
}
