//! How much a node's log holds.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Files are looked at from their end in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

/// Bytes of all log segments of the node below `data_dir`, each up to its last byte that is not zero: what
/// follows was made ready and not written.
pub(crate) fn written_bytes(data_dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for shard in std::fs::read_dir(data_dir.join("node"))? {
        let shard = shard?;
        if !shard.file_type()?.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(shard.path())? {
            let entry = entry?;
            // Beside them lie the store, and files that wait to become segments.
            if entry.file_name().to_str().and_then(wal::parse_segment_file_name).is_some() {
                total += written_bytes_of(&mut File::open(entry.path())?)?;
            }
        }
    }
    Ok(total)
}

fn written_bytes_of(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(PIECE_BYTES);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        file.by_ref().take(end - start).read_to_end(&mut piece)?;
        if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_made_ready_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let shard = folder.path().join("node/shard-000");
        std::fs::create_dir_all(shard.join("store")).unwrap();
        std::fs::write(folder.path().join("node/layout"), "1").unwrap();
        let mut segment = vec![0; 3 * PIECE_BYTES as usize];
        std::fs::write(shard.join(wal::segment_file_name(1)), &segment).unwrap();
        segment[7] = 1;
        std::fs::write(shard.join(wal::segment_file_name(0)), &segment).unwrap();
        assert_eq!(written_bytes(folder.path()).unwrap(), 8);
        segment[2 * PIECE_BYTES as usize] = 1;
        std::fs::write(shard.join(wal::segment_file_name(0)), &segment).unwrap();
        assert_eq!(written_bytes(folder.path()).unwrap(), 2 * PIECE_BYTES + 1);
    }
}
