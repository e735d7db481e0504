//! How many writes of a store are durable, noted beside it.
//!
//! The engine takes damage in its journal for a write that a crash left unfinished, and goes on without what came after;
//! a store that is missing is made anew. Both would be a loss that nobody is told of once the log is trimmed behind the
//! store. So the store counts its writes, and the count is noted outside of it now and then: one that has fewer is refused.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use wire::Guuid;

/// The name of the file is the store's with this suffix.
const SUFFIX: &str = "mark";
const HEADING: &str = "aetherflow store mark 1";

/// Where it is.
pub(crate) fn path(store: &Path) -> PathBuf {
    store.with_extension(SUFFIX)
}

/// The writes that were durable. `None`: nothing readable was noted of the store of this log.
pub(crate) fn read(store: &Path, log_id: Guuid) -> io::Result<Option<u64>> {
    let noted = match fs::read(path(store)) {
        Ok(noted) => noted,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A crash may have left half a note: then the next one counts.
    let Ok(text) = String::from_utf8(noted) else { return Ok(None) };
    let mut fields = text.trim_end().rsplit(' ');
    let (_, writes) = (fields.next(), fields.next().and_then(|writes| writes.parse().ok()));
    Ok(writes.filter(|&writes| text == encode(log_id, writes)))
}

/// Notes a number of writes; durable when this returns.
pub(crate) fn write(store: &Path, log_id: Guuid, writes: u64) -> io::Result<()> {
    let path = path(store);
    let is_new = !path.exists();
    let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
    let note = encode(log_id, writes);
    file.write_all(note.as_bytes())?;
    file.set_len(note.len() as u64)?;
    file.sync_all()?;
    match path.parent().filter(|_| is_new) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn encode(log_id: Guuid, writes: u64) -> String {
    let text = format!("{HEADING} {log_id} {writes}");
    format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
}
