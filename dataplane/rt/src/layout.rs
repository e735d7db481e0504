//! What a data directory was made for, in plain text, written once and atomically.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use wire::Guuid;
use wire::limits::SHARDS_MAX;

use crate::data_dir::sync_dir;
use crate::{Result, RtError};

/// The version that is written, and the latest that is read.
pub const LAYOUT_VERSION: u32 = 1;
const LAYOUT_NAME: &str = "layout";
/// Far more than a layout needs, bytes.
const LAYOUT_BYTES_MAX: u64 = 4096;

/// What must stay the same for as long as the directory lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many shards the partitions were spread over.
    pub shards: usize,
    /// The identity of the logs in here.
    pub log_id: Guuid,
    /// The least number of a run of the logs: what was restored from a backup never has one again that a later run of
    /// the lost directory had.
    pub incarnation_min: u64,
}

/// Reads the layout of `dir`; `None` when there is none.
pub(crate) fn read(dir: &Path) -> Result<Option<Layout>> {
    let path = dir.join(LAYOUT_NAME);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RtError::file("read", path)(source)),
        Ok(metadata) if metadata.len() > LAYOUT_BYTES_MAX => {
            return Err(RtError::LayoutCorrupt { path, line: 0, what: "it is too long to be one" });
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(&path).map_err(RtError::file("read", &path))?;
    parse(&text, &path).map(Some)
}

/// Writes the layout of `dir`: a new file, synced, renamed over the old one, and the directory synced.
pub(crate) fn write(dir: &Path, layout: &Layout) -> Result<()> {
    let path = dir.join(LAYOUT_NAME);
    let temporary = dir.join(format!("{LAYOUT_NAME}.new"));
    let mut file = File::create(&temporary).map_err(RtError::file("create", &temporary))?;
    file.write_all(render(layout).as_bytes()).map_err(RtError::file("write", &temporary))?;
    file.sync_all().map_err(RtError::file("sync", &temporary))?;
    fs::rename(&temporary, &path).map_err(RtError::file("rename", &temporary))?;
    sync_dir(dir)
}

fn render(layout: &Layout) -> String {
    let Layout { shards, log_id, incarnation_min } = layout;
    let restored = match incarnation_min {
        0 => String::new(),
        least => format!("incarnation_min = {least}\n"),
    };
    format!("version = {LAYOUT_VERSION}\nshards = {shards}\nlog_id = {log_id}\n{restored}")
}

fn parse(text: &str, path: &Path) -> Result<Layout> {
    let corrupt = |line, what| RtError::LayoutCorrupt { path: PathBuf::from(path), line, what };
    let (mut version, mut shards, mut log_id, mut incarnation_min) = (None, None, None, 0);
    for (number, line) in (1..).zip(text.lines()) {
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            return Err(corrupt(number, "`key = value` expected"));
        };
        match key {
            "version" => {
                let found = value.parse().map_err(|_| corrupt(number, "the version is not a number"))?;
                if found > LAYOUT_VERSION {
                    return Err(RtError::LayoutTooNew { path: path.into(), found, known: LAYOUT_VERSION });
                }
                version = Some(found);
            }
            "shards" => {
                let count: Option<usize> =
                    value.parse().ok().filter(|count| (1..=SHARDS_MAX).contains(count));
                shards = Some(count.ok_or_else(|| corrupt(number, "shards is not a number from 1 to 256"))?);
            }
            "log_id" => {
                let id = Guuid::parse(value).ok_or_else(|| corrupt(number, "log_id is not a GUUID"))?;
                log_id = Some(id);
            }
            "incarnation_min" => {
                let least = value.parse();
                incarnation_min = least.map_err(|_| corrupt(number, "incarnation_min is not a number"))?;
            }
            _ => return Err(corrupt(number, "unknown key")),
        }
    }
    match (version, shards, log_id) {
        (Some(_), Some(shards), Some(log_id)) => Ok(Layout { shards, log_id, incarnation_min }),
        (None, ..) => Err(corrupt(0, "the version is missing")),
        (_, None, _) => Err(corrupt(0, "shards is missing")),
        (.., None) => Err(corrupt(0, "log_id is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout { shards: 2, log_id: Guuid::new(1_700_000_000_000, [7; 10]), incarnation_min: 0 }
    }

    #[test]
    fn a_layout_is_read_back_as_written_and_a_new_directory_has_none() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(read(dir.path()).expect("no layout"), None);
        for (shards, incarnation_min) in [(2, 0), (3, 7)] {
            let layout = Layout { shards, incarnation_min, ..layout() };
            write(dir.path(), &layout).expect("write");
            assert_eq!(read(dir.path()).expect("read"), Some(layout));
        }
    }

    #[test]
    fn a_later_version_is_refused_before_its_unknown_keys_are_read() {
        let text = "version = 2\nsegments = many\n";
        let error = parse(text, Path::new("layout")).expect_err("version 2");
        assert!(matches!(error, RtError::LayoutTooNew { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn a_damaged_layout_is_refused_with_its_line() {
        let good = render(&layout());
        for (from, to, line) in
            [("shards = 2", "shards = 0", 2), ("shards", "sharks", 2), ("log_id = ", "log_id", 3)]
        {
            let error = parse(&good.replace(from, to), Path::new("layout")).expect_err(to);
            assert!(error.to_string().contains(&format!("line {line}")), "{error}");
        }
        for missing in good.lines() {
            let rest: String =
                good.lines().filter(|line| *line != missing).map(|line| format!("{line}\n")).collect();
            let error = parse(&rest, Path::new("layout")).expect_err(missing);
            assert!(error.to_string().contains("is missing"), "{error}");
        }
    }
}
