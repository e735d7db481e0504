//! Making a node's data directory from a backup.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use docstore::StoreImport;
use rt::{DataDir, Layout};
use wire::Guuid;

use crate::error::BackupError;
use crate::frames::decode_entry;
use crate::manifest::{Manifest, Part, PartKind};
use crate::reader::{choose, read_part};
use crate::target::Target;

/// The directory while it is being filled.
const UNFINISHED_SUFFIX: &str = "restoring";

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Which backup.
    pub manifest: Manifest,
    /// Entries of the stores.
    pub entries: u64,
}

/// Fills the data directory `data_dir`, which must not exist or be empty. It has its name only when it is whole. The
/// node must not run: it starts over the directory afterwards, and recovers.
///
/// # Errors
/// [`BackupError::NotEmpty`], [`BackupError::Unfinished`], [`BackupError::Damaged`], and what keeps files from being
/// written.
pub async fn restore(
    target: &Target,
    id: Option<&str>,
    data_dir: &Path,
    now_unix_ms: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    check_empty(data_dir)?;
    let manifest = choose(target, id).await?;
    let mut filling = Filling::begin(data_dir, &manifest)?;
    let (all, mut bytes) = (manifest.bytes(), 0);
    for part in &manifest.parts {
        let content = read_part(target, &manifest.id, part).await?;
        bytes += content.len() as u64;
        filling.put(&manifest.id, part, content)?;
        progress(bytes, all);
    }
    let entries = filling.finish(data_dir, now_unix_ms)?;
    Ok(Restored { manifest, entries })
}

fn check_empty(path: &Path) -> Result<(), BackupError> {
    let is_filled = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if is_filled { Err(BackupError::NotEmpty { path: path.to_owned() }) } else { Ok(()) }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { doing, path, source }
}

/// A directory on its way.
struct Filling {
    path: PathBuf,
    layout: Layout,
    stores: HashMap<usize, StoreImport>,
    segment: Option<(PathBuf, File)>,
    entries: u64,
}

impl Filling {
    fn begin(data_dir: &Path, manifest: &Manifest) -> Result<Self, BackupError> {
        let damaged = |reason: &str| BackupError::Damaged {
            id: manifest.id.clone(),
            part: "manifest.json".to_owned(),
            reason: reason.to_owned(),
        };
        let log_id = Guuid::parse(&manifest.log_id).ok_or_else(|| damaged("the log's identity is none"))?;
        if manifest.shards == 0 || manifest.shards > wire::limits::SHARDS_MAX {
            return Err(damaged("an impossible number of shards"));
        }
        let path = data_dir.with_extension(UNFINISHED_SUFFIX);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed("removing", &path))?;
        }
        let layout = Layout { shards: manifest.shards, log_id, incarnation_min: 0 };
        let mut filling = Self { path, layout, stores: HashMap::new(), segment: None, entries: 0 };
        for shard in 0..manifest.shards {
            let dir = filling.shard_dir(shard);
            fs::create_dir_all(&dir).map_err(failed("making", &dir))?;
            let store = StoreImport::create(&dir.join(docstore::STORE_NAME), log_id.with_shard(shard as u8))?;
            filling.stores.insert(shard, store);
        }
        Ok(filling)
    }

    fn shard_dir(&self, shard: usize) -> PathBuf {
        self.path.join(rt::shard_dir_name(shard))
    }

    fn put(&mut self, id: &str, part: &Part, mut content: Bytes) -> Result<(), BackupError> {
        let damaged = |reason: &str| BackupError::Damaged {
            id: id.to_owned(),
            part: part.name.clone(),
            reason: reason.to_owned(),
        };
        match part.kind {
            PartKind::Store => {
                let store = self.stores.get_mut(&part.shard).ok_or_else(|| damaged("of no shard"))?;
                while !content.is_empty() {
                    let entry = decode_entry(&mut content).ok_or_else(|| damaged("an entry is cut short"))?;
                    store.put(entry)?;
                    self.entries += 1;
                }
                Ok(())
            }
            PartKind::Segment(segment) => {
                if part.shard >= self.layout.shards {
                    return Err(damaged("of no shard"));
                }
                let path = self.shard_dir(part.shard).join(wal::segment_file_name(segment));
                if self.segment.as_ref().is_none_or(|(open, _)| *open != path) {
                    let file = File::options().create(true).append(true).open(&path);
                    self.segment = Some((path.clone(), file.map_err(failed("making", &path))?));
                }
                let (_, file) = self.segment.as_mut().expect("opened above");
                file.write_all(&content).map_err(failed("writing", &path))
            }
        }
    }

    fn finish(self, data_dir: &Path, now_unix_ms: u64) -> Result<u64, BackupError> {
        for store in self.stores.into_values() {
            store.finish()?;
        }
        // Runs of the log after the backup was made had numbers that clients may remember: this one has none of them.
        let layout = Layout { incarnation_min: now_unix_ms, ..self.layout };
        let lock = DataDir::lock(&self.path, SocketAddr::from(([0, 0, 0, 0], 0)))?;
        lock.write_layout(&layout)?;
        drop(lock);
        docstore::sync_tree(&self.path).map_err(failed("syncing", &self.path))?;
        if data_dir.exists() {
            fs::remove_dir(data_dir).map_err(failed("replacing", data_dir))?;
        }
        fs::rename(&self.path, data_dir).map_err(failed("renaming", &self.path))?;
        let parent =
            data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("syncing", parent))?;
        Ok(self.entries)
    }
}
