//! One program under test at a time: servers and generators that poll take a core each, and those of several tests
//! at once would take each other's.

use std::fs::File;
use std::path::Path;

/// Waits until no other test has a program running, in this process or another; from then on this one may, until
/// what is returned is dropped.
pub(crate) fn alone() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("one-at-a-time.lock");
    let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file
}
