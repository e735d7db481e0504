//! The database on the disk: made whole or not at all, opened with small buffers, recognised by the log it belongs to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode};
use wire::Guuid;

use crate::value::{Kind, Reader, Writer};
use crate::{StoreConfig, StoreError};

/// Values from this size on live in files of their own, so that compaction does not copy them again and again, bytes.
const BLOB_BYTES_MIN: u32 = 4 << 10;
/// The size at which such a file is followed by another, bytes.
const BLOB_FILE_BYTES: u64 = 16 << 20;
/// What small keyspaces gather in memory before it is written to a table, bytes.
const SMALL_MEMTABLE_BYTES: u64 = 1 << 20;
/// Journals past this size have their keyspaces flushed, bytes.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Threads of the engine, for flushes and compaction.
const WORKER_THREADS: usize = 1;
/// Files that are kept open.
const OPEN_FILES_MAX: usize = 256;
/// What must be writable before a store that ran out of room is opened again, bytes.
const ROOM_BYTES_MIN: usize = 8 << 20;
/// What is written to see whether that is so.
const PROBE_NAME: &str = "room";
/// A database in the making.
const NEW_SUFFIX: &str = "new";
const IDENTITY_KEY: &[u8] = b"identity";
const WRITES_KEY: &[u8] = b"writes";

/// The open database.
pub(crate) struct Tables {
    pub(crate) database: Database,
    /// Document to its newest snapshot, or its tombstone.
    pub(crate) heads: Keyspace,
    /// Document and first sequence number to a chunk of ops.
    pub(crate) history: Keyspace,
    /// Document and sequence number to a snapshot of then.
    pub(crate) bases: Keyspace,
    /// Document and name to a version.
    pub(crate) versions: Keyspace,
    /// Time and document of each tombstone.
    pub(crate) deleted: Keyspace,
    /// What the store is and whose.
    about: Keyspace,
}

impl Tables {
    /// Opens the store in `path`, or makes one for `log_id` where there is none.
    pub(crate) fn open(path: &Path, log_id: Guuid, config: &StoreConfig) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(io_error(path, "look at its directory"))? {
            create(path, log_id, config)?;
        }
        let tables = Self::attach(path, path, config)?;
        tables.check_identity(path, log_id)?;
        Ok(tables)
    }

    fn attach(path: &Path, shown: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let failed = |doing| move |source| engine_error(shown, doing, source);
        let database = Database::builder(path)
            .cache_size(config.cache_bytes)
            .worker_threads(WORKER_THREADS)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            // Every batch says for itself how durable it is to be.
            .manual_journal_persist(true)
            .open()
            .map_err(failed("open"))?;
        let large = || options(config.memtable_bytes).with_kv_separation(Some(blobs()));
        let small = || options(SMALL_MEMTABLE_BYTES);
        let open = |name: &str, is_large: bool| {
            database.keyspace(name, || if is_large { large() } else { small() }).map_err(failed("open"))
        };
        Ok(Self {
            heads: open("heads", true)?,
            history: open("history", true)?,
            bases: open("bases", true)?,
            versions: open("versions", false)?,
            deleted: open("deleted", false)?,
            about: open("about", false)?,
            database,
        })
    }

    fn check_identity(&self, path: &Path, log_id: Guuid) -> Result<(), StoreError> {
        let found = self.about.get(IDENTITY_KEY).map_err(|source| engine_error(path, "read", source))?;
        let foreign =
            |found: String| StoreError::Foreign { path: path.into(), found, wanted: log_id.to_string() };
        let found = found.ok_or_else(|| foreign("none".to_owned()))?;
        let mut reader = Reader::open_as(Kind::Store, "", IDENTITY_KEY, &found.into())?;
        let found = Guuid::from_bytes(reader.array()?);
        if found == log_id { Ok(()) } else { Err(foreign(found.to_string())) }
    }

    /// How many writes there have been.
    pub(crate) fn writes(&self, path: &Path) -> Result<u64, StoreError> {
        let found = self.about.get(WRITES_KEY).map_err(|source| engine_error(path, "read", source))?;
        let Some(found) = found else { return Ok(0) };
        Reader::open_as(Kind::Writes, "", WRITES_KEY, &found.into())?.u64()
    }

    /// Has a batch say how many there have been with it.
    pub(crate) fn count(&self, batch: &mut OwnedWriteBatch, writes: u64) {
        let mut value = Writer::new(Kind::Writes, size_of::<u64>());
        value.u64(writes);
        batch.insert(&self.about, WRITES_KEY, value.finish(WRITES_KEY));
    }
}

/// Makes a store: under another name until everything in it is on the disk, because the engine does not open what a
/// kill left half made.
fn create(path: &Path, log_id: Guuid, config: &StoreConfig) -> Result<(), StoreError> {
    let making = path.with_extension(NEW_SUFFIX);
    let failed = |doing| io_error(path, doing);
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove half a store")(error));
        }
        _ => {}
    }
    fs::create_dir_all(&making).map_err(failed("make its directory"))?;
    let tables = Tables::attach(&making, path, config)?;
    let mut identity = Writer::new(Kind::Store, size_of::<Guuid>());
    identity.raw(log_id.as_bytes());
    let mut batch = tables.database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(&tables.about, IDENTITY_KEY, identity.finish(IDENTITY_KEY));
    batch.commit().map_err(|source| engine_error(path, "write", source))?;
    drop(tables);
    sync_tree(&making).map_err(failed("sync its directory"))?;
    fs::rename(&making, path).map_err(failed("rename its directory"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync its directory"))
}

/// Returns when a new directory and all in it are on the disk.
///
/// # Errors
/// What the system said.
pub fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

/// Whether some megabytes can be written durably where the store is: the engine does not say why its own threads stopped.
pub(crate) fn check_room(path: &Path) -> Result<(), StoreError> {
    let probe = path.join(PROBE_NAME);
    let written = File::create(&probe)
        .and_then(|mut file| file.write_all(&vec![0xa5; ROOM_BYTES_MIN]).and_then(|()| file.sync_all()));
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(io_error(path, "write into it"))
}

fn options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes).manual_journal_persist(true)
}

fn blobs() -> KvSeparationOptions {
    KvSeparationOptions::default().separation_threshold(BLOB_BYTES_MIN).file_target_size(BLOB_FILE_BYTES)
}

/// Names what the system said.
pub(crate) fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        _ => StoreError::Io { path, doing, source },
    }
}

/// Names what the engine said.
pub(crate) fn engine_error(path: &Path, doing: &'static str, source: fjall::Error) -> StoreError {
    match source {
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
            io_error(path, doing)(source)
        }
        fjall::Error::Poisoned => StoreError::Stopped { path: path.into() },
        source => StoreError::Engine { path: path.into(), doing, source },
    }
}
