//! Where backups are.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::error::BackupError;

const FILE_SCHEME: &str = "file://";
const S3_SCHEME: &str = "s3://";
/// How often a request to an object store is tried again: the log is not trimmed while a backup waits.
const RETRIES_MAX: usize = 6;
/// The longest time between two tries.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
/// When a request is given up in any case.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// A place for backups.
#[derive(Clone, Debug)]
pub struct Target {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    /// A directory of this machine, which has to be synced.
    pub(crate) local: Option<PathBuf>,
    pub(crate) shown: String,
}

impl Target {
    /// `file:///DIRECTORY`, made where it is missing, or `s3://BUCKET/PREFIX`; credentials, region and endpoint of
    /// the latter come from the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT`, …).
    ///
    /// # Errors
    /// [`BackupError::Target`], [`BackupError::File`].
    pub fn parse(url: &str) -> Result<Self, BackupError> {
        let bad = |reason: String| BackupError::Target { url: url.to_owned(), reason };
        if let Some(path) = url.strip_prefix(FILE_SCHEME) {
            if !path.starts_with('/') {
                return Err(bad("the path is not absolute".to_owned()));
            }
            let dir = PathBuf::from(path);
            fs::create_dir_all(&dir).map_err(|source| BackupError::File {
                doing: "making",
                path: dir.clone(),
                source,
            })?;
            let objects = LocalFileSystem::new_with_prefix(&dir).map_err(|error| bad(error.to_string()))?;
            let (objects, shown) = (Arc::new(objects) as Arc<dyn ObjectStore>, url.to_owned());
            return Ok(Self { objects, prefix: Path::default(), local: Some(dir), shown });
        }
        let Some(rest) = url.strip_prefix(S3_SCHEME) else { return Err(bad("another scheme".to_owned())) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad("no bucket".to_owned()));
        }
        let backoff = BackoffConfig { max_backoff: RETRY_DELAY_MAX, ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT };
        let objects = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry).build();
        let objects = objects.map_err(|error| bad(error.to_string()))?;
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|error| bad(error.to_string()))?;
        Ok(Self { objects: Arc::new(objects), prefix, local: None, shown: url.to_owned() })
    }

    /// In an object store that is at hand.
    #[must_use]
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let shown = prefix.to_string();
        Self { objects, prefix, local: None, shown }
    }

    pub(crate) fn object(&self, id: &str, name: &str) -> Path {
        let names = name.split('/').filter(|name| !name.is_empty());
        names.fold(self.prefix.clone().join(id), Path::join)
    }
}
