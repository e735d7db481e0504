//! Writing a backup.

use bytes::Bytes;
use object_store::ObjectStoreExt;
use wire::Guuid;

use crate::error::BackupError;
use crate::manifest::{FORMAT, MANIFEST_NAME, Manifest, Part, PartKind};
use crate::target::Target;

/// What a backup is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The node.
    pub node_id: String,
    /// Its shards.
    pub shards: usize,
    /// The identity of its logs.
    pub log_id: Guuid,
}

/// A backup that is being written.
pub struct BackupWriter {
    target: Target,
    manifest: Manifest,
}

impl BackupWriter {
    /// Begins one. Nothing is written yet.
    #[must_use]
    pub fn new(target: Target, subject: Subject, now_unix_ms: u64) -> Self {
        let manifest = Manifest {
            format: FORMAT,
            id: format!("{}-{now_unix_ms:013}", subject.node_id),
            node_id: subject.node_id,
            began_unix_ms: now_unix_ms,
            ended_unix_ms: now_unix_ms,
            shards: subject.shards,
            log_id: subject.log_id.to_string(),
            parts: Vec::new(),
        };
        Self { target, manifest }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Writes one part.
    ///
    /// # Errors
    /// [`BackupError::Object`].
    pub async fn put(&mut self, shard: usize, kind: PartKind, content: Bytes) -> Result<(), BackupError> {
        let name = format!("parts/{:08}", self.manifest.parts.len());
        let (bytes, crc32c) = (content.len() as u64, crc32c::crc32c(&content));
        self.put_object(&name, content).await?;
        self.manifest.parts.push(Part { name, shard, kind, bytes, crc32c });
        Ok(())
    }

    /// Makes it a whole one.
    ///
    /// # Errors
    /// [`BackupError::Object`], [`BackupError::File`].
    pub async fn finish(mut self, now_unix_ms: u64) -> Result<Manifest, BackupError> {
        self.manifest.ended_unix_ms = now_unix_ms;
        // Nothing may name a part that a loss of power takes back.
        self.sync_local()?;
        self.put_object(MANIFEST_NAME, self.manifest.encode().into()).await?;
        self.sync_local()?;
        Ok(self.manifest)
    }

    async fn put_object(&self, name: &str, content: Bytes) -> Result<(), BackupError> {
        let path = self.target.object(&self.manifest.id, name);
        let put = self.target.objects.put(&path, content.into()).await;
        let failed = |source| BackupError::Object { doing: "writing", path: path.to_string(), source };
        put.map(drop).map_err(failed)
    }

    fn sync_local(&self) -> Result<(), BackupError> {
        let Some(dir) = &self.target.local else { return Ok(()) };
        let dir = dir.join(&self.manifest.id);
        docstore::sync_tree(&dir).map_err(|source| BackupError::File { doing: "syncing", path: dir, source })
    }
}
