//! A bit of the log that changes on the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use netem::Random;

/// Of each segment's written part only so much is changed, percent: the end of a log may be unfinished.
const CHANGED_PERCENT: u64 = 50;

/// A byte that was changed.
#[derive(Debug)]
pub(crate) struct Damage {
    path: PathBuf,
    at: u64,
    before: u8,
}

impl Damage {
    /// Changes one bit of what is written in one of the segments below `directory`. None: there is nothing written.
    pub(crate) fn inflict(directory: &Path, random: &mut Random) -> io::Result<Option<Self>> {
        let mut segments = Vec::new();
        find_segments(directory, &mut segments)?;
        segments.sort();
        while !segments.is_empty() {
            let path = segments.swap_remove(random.below(segments.len() as u64) as usize);
            let bytes = fs::read(&path)?;
            // A segment that is only ready to be written is empty.
            let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
            let from = random.below(((last as u64 + 1) * CHANGED_PERCENT / 100).max(1)) as usize;
            let Some(at) = bytes.iter().skip(from).position(|byte| *byte != 0) else { continue };
            let at = from + at;
            let damage = Self { path, at: at as u64, before: bytes[at] };
            damage.write(damage.before ^ 1 << random.below(8))?;
            return Ok(Some(damage));
        }
        Ok(None)
    }

    /// Puts the byte right.
    pub(crate) fn undo(&self) -> io::Result<()> {
        self.write(self.before)
    }

    fn write(&self, byte: u8) -> io::Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        file.write_all_at(&[byte], self.at)?;
        file.sync_all()
    }

    /// Where it is.
    pub(crate) fn in_words(&self) -> String {
        format!("byte {} of {}", self.at, self.path.display())
    }
}

fn find_segments(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_segment = name.to_str().and_then(wal::parse_segment_file_name).is_some();
        if entry.file_type()?.is_dir() {
            find_segments(&entry.path(), found)?;
        } else if is_segment {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_or_too_much_is_changed() {
        let place = tempfile::tempdir().unwrap();
        let shard = place.path().join("shard-000");
        fs::create_dir(&shard).unwrap();
        let path = shard.join("segment-0000000000.log");
        let mut random = Random::new(1);
        assert!(Damage::inflict(place.path(), &mut random).unwrap().is_none(), "no segment");
        fs::write(shard.join("segment-0000000001.log"), [0; 100]).unwrap();
        assert!(Damage::inflict(place.path(), &mut random).unwrap().is_none(), "an empty one");
        let mut bytes = vec![7; 1_000];
        bytes.resize(5_000, 0);
        fs::write(&path, &bytes).unwrap();
        for _ in 0..20 {
            let damage = Damage::inflict(place.path(), &mut random).unwrap().unwrap();
            let found = fs::read(&path).unwrap();
            let changed: Vec<usize> = (0..5_000).filter(|&at| found[at] != bytes[at]).collect();
            assert!(changed.len() == 1 && changed[0] < 501, "{changed:?}");
            damage.undo().unwrap();
            assert!(fs::read(&path).unwrap() == bytes);
        }
    }
}
