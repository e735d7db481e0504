//! What the node says about its documents and its log.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node has done since its start, as it said at most two seconds later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) loads: u64,
    pub(crate) snapshots: u64,
    pub(crate) unloads: u64,
}

impl Figures {
    /// Asks the node at `http`.
    pub(crate) async fn ask(http: &str) -> io::Result<Self> {
        let answer = timeout(ANSWER_TIMEOUT, get(http)).await??;
        let sum = |name: &str| -> u64 {
            let values = answer.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
            values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
        };
        Ok(Self {
            loads: sum("aetherflow_loads_total{"),
            snapshots: sum("aetherflow_snapshots_total{"),
            unloads: sum("aetherflow_unloads_total{"),
        })
    }
}

async fn get(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Segments of the logs below `directory` that are there no more: their numbers are counted from zero.
pub(crate) fn segments_removed(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let (mut removed, mut first) = (0, None::<u32>);
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            removed += segments_removed(&entry.path());
        } else if let Some(number) = wal::parse_segment_file_name(&entry.file_name().to_string_lossy()) {
            first = Some(first.map_or(number, |first| first.min(number)));
        }
    }
    removed + u64::from(first.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_segment_is_not_counted() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(segments_removed(place.path()), 0);
        for (shard, segments) in [(0, [7, 8]), (1, [0, 1])] {
            let shard = place.path().join(format!("shard-{shard:03}"));
            std::fs::create_dir(&shard).unwrap();
            for segment in segments {
                std::fs::write(shard.join(format!("segment-{segment:010}.log")), b"").unwrap();
            }
            std::fs::write(shard.join("spare-0000000000.log"), b"").unwrap();
        }
        assert_eq!(segments_removed(place.path()), 7);
    }
}
