//! The bearer key that operators, nodes and gateways show.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use tonic::metadata::MetadataMap;

use crate::error::ControlError;

/// The key, kept as its SHA-256, so that comparing takes the same time for keys of any length.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey(Option<[u8; 32]>);

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// Whether two digests are the same, in constant time.
pub(crate) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// The bearer token in the metadata.
pub(crate) fn bearer(metadata: &MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

impl ApiKey {
    /// An empty key asks for none.
    pub(crate) fn new(key: &str) -> Self {
        Self((!key.is_empty()).then(|| sha256(key.as_bytes())))
    }

    /// Refuses a caller that does not show the key.
    pub(crate) fn check(&self, metadata: &MetadataMap) -> Result<(), ControlError> {
        let Some(expected) = &self.0 else { return Ok(()) };
        match bearer(metadata) {
            Some(key) if same(&sha256(key.as_bytes()), expected) => Ok(()),
            _ => Err(ControlError::ApiKey),
        }
    }
}
