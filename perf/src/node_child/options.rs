//! How a node under test is started.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// `f_type` of a file system that lives in memory, linux/magic.h.
const TMPFS_MAGIC: u32 = 0x0102_1994;
/// A segment of the log: so large that few end while it is measured.
const LOG_SEGMENT_BYTES: u64 = 64 << 20;

/// What a shard does when idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum IdlePolicy {
    /// Never sleeps.
    #[default]
    Busy,
    /// Spins, then sleeps.
    Adaptive,
    /// Sleeps at once.
    Saver,
}

impl IdlePolicy {
    /// As the command line and the product spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Adaptive => "adaptive",
            Self::Saver => "saver",
        }
    }
}

/// How a node under test is started, every time.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// How many shards it has.
    pub shards: u16,
    /// The cores that its whole process may use; shard `i` is on the `i`-th, round and round.
    pub cores: Vec<usize>,
    /// What a shard does when idle.
    pub idle_policy: IdlePolicy,
    /// Where its log is; none: in a temporary directory on a disk.
    pub data_dir: Option<PathBuf>,
    /// The longest that an op waits for others under load before the log is written, microseconds.
    pub commit_delay_us_max: u32,
    /// One turn of a shard in so many has its stages timed; 0: none.
    pub stage_sample_turns: u32,
}

impl NodeOptions {
    /// One busy shard on the core of servers.
    pub fn new(cores: Vec<usize>) -> Self {
        Self {
            shards: 1,
            cores,
            idle_policy: IdlePolicy::Busy,
            data_dir: None,
            commit_delay_us_max: node::COMMIT_DELAY_US_MAX,
            stage_sample_turns: node::STAGE_SAMPLE_TURNS,
        }
    }

    /// The command line of the child.
    pub(super) fn arguments(&self, place: &Path, control: SocketAddr, quantum: SocketAddr) -> Vec<OsString> {
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        let mut arguments: Vec<OsString> =
            ["serve", "node", "--shards", &self.shards.to_string(), "--idle-policy"]
                .map(OsString::from)
                .into();
        arguments.push(self.idle_policy.name().into());
        if !cores.is_empty() {
            arguments.extend(["--cores".into(), cores.join(",").into()]);
        }
        arguments.extend(["--data-dir".into(), place.into()]);
        arguments.extend(["--control".into(), control.to_string().into()]);
        arguments.extend(["--listen".into(), quantum.to_string().into()]);
        arguments.extend(["--log-segment-bytes".into(), LOG_SEGMENT_BYTES.to_string().into()]);
        arguments.extend(["--commit-delay-us-max".into(), self.commit_delay_us_max.to_string().into()]);
        arguments.extend(["--stage-sample-turns".into(), self.stage_sample_turns.to_string().into()]);
        arguments
    }
}

/// The cores for `shards` shards beside a generator on `client`: from `first` on if that is given, else the last
/// that are left. Fewer when there are not so many; the shards share them then.
pub fn data_cores(allowed: &[usize], client: Option<usize>, first: Option<usize>, shards: u16) -> Vec<usize> {
    let shards = usize::from(shards);
    let left: Vec<usize> = allowed.iter().copied().filter(|&core| Some(core) != client).collect();
    if left.is_empty() {
        return allowed.to_vec();
    }
    match first.and_then(|first| left.iter().position(|&core| core == first)) {
        Some(at) => left.into_iter().skip(at).take(shards).collect(),
        None => left[left.len().saturating_sub(shards)..].to_vec(),
    }
}

/// A directory on a disk: temporary files are often in memory, where a sync costs nothing.
pub(super) fn disk_for_logs() -> PathBuf {
    let candidates = [std::env::temp_dir(), "/var/tmp".into(), ".".into()];
    let on_disk = candidates.iter().find(|path| is_on_disk(path));
    on_disk.unwrap_or(&candidates[0]).clone()
}

fn is_on_disk(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u32 != TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_put_beside_the_generator() {
        assert_eq!(data_cores(&[0, 1], Some(1), None, 1), [0]);
        assert_eq!(data_cores(&[0, 1, 2, 3], Some(3), None, 2), [1, 2]);
        assert_eq!(data_cores(&[0, 1, 2, 3], Some(3), Some(0), 2), [0, 1]);
        assert_eq!(data_cores(&[0, 1], Some(1), None, 4), [0]);
        assert_eq!(data_cores(&[5], Some(5), None, 1), [5]);
    }

    #[test]
    fn memory_is_taken_for_a_disk() {
        if Path::new("/dev/shm").exists() {
            assert!(!is_on_disk(Path::new("/dev/shm")));
        }
        assert!(!is_on_disk(Path::new("/nowhere")));
    }
}
