//! Finding backups and reading their parts.

use bytes::Bytes;
use object_store::ObjectStoreExt;

use crate::error::BackupError;
use crate::manifest::{MANIFEST_NAME, Manifest, Part};
use crate::target::Target;

/// A backup that was found.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// What it consists of, or why it is of no use.
    pub manifest: Result<Manifest, BackupError>,
}

/// What verification read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Parts.
    pub parts: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// All backups in a place, by name, those that were interrupted included.
///
/// # Errors
/// [`BackupError::Object`].
pub async fn list(target: &Target) -> Result<Vec<Listed>, BackupError> {
    let failed = |source| BackupError::Object { doing: "listing", path: target.shown.clone(), source };
    let found = target.objects.list_with_delimiter(Some(&target.prefix)).await.map_err(failed)?;
    let mut listed = Vec::new();
    for folder in found.common_prefixes {
        let Some(id) = folder.filename().map(ToOwned::to_owned) else { continue };
        let manifest = read_manifest(target, &id).await;
        listed.push(Listed { id, manifest });
    }
    listed.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(listed)
}

/// The named backup, or else the one that was begun last among the whole ones.
pub(crate) async fn choose(target: &Target, id: Option<&str>) -> Result<Manifest, BackupError> {
    if let Some(id) = id {
        return read_manifest(target, id).await;
    }
    let whole = list(target).await?.into_iter().filter_map(|listed| listed.manifest.ok());
    let none = || BackupError::None { place: target.shown.clone() };
    whole.max_by_key(|manifest| manifest.began_unix_ms).ok_or_else(none)
}

async fn read_manifest(target: &Target, id: &str) -> Result<Manifest, BackupError> {
    let stored = match read(target, id, MANIFEST_NAME).await {
        Err(BackupError::Object { source: object_store::Error::NotFound { .. }, .. }) => {
            return Err(BackupError::Unfinished { id: id.to_owned() });
        }
        stored => stored?,
    };
    Manifest::decode(id, &stored)
}

/// Reads every part and checks it.
///
/// # Errors
/// [`BackupError::Damaged`] names the first part that is not as it was written.
pub async fn verify(
    target: &Target,
    id: Option<&str>,
    mut progress: impl FnMut(u64, u64),
) -> Result<(Manifest, Verified), BackupError> {
    let manifest = choose(target, id).await?;
    let (all, mut bytes) = (manifest.bytes(), 0);
    for part in &manifest.parts {
        bytes += read_part(target, &manifest.id, part).await?.len() as u64;
        progress(bytes, all);
    }
    let parts = manifest.parts.len();
    Ok((manifest, Verified { parts, bytes }))
}

/// A part that is as it was written.
pub(crate) async fn read_part(target: &Target, id: &str, part: &Part) -> Result<Bytes, BackupError> {
    let damaged = |reason: &str| BackupError::Damaged {
        id: id.to_owned(),
        part: part.name.clone(),
        reason: reason.to_owned(),
    };
    let content = match read(target, id, &part.name).await {
        Err(BackupError::Object { source: object_store::Error::NotFound { .. }, .. }) => {
            return Err(damaged("it is missing"));
        }
        content => content?,
    };
    if content.len() as u64 != part.bytes {
        return Err(damaged("its length is wrong"));
    }
    if crc32c::crc32c(&content) != part.crc32c {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(content)
}

async fn read(target: &Target, id: &str, name: &str) -> Result<Bytes, BackupError> {
    let path = target.object(id, name);
    let failed = |source| BackupError::Object { doing: "reading", path: path.to_string(), source };
    target.objects.get(&path).await.map_err(failed)?.bytes().await.map_err(failed)
}
