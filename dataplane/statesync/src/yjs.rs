//! What is asked of the CRDT library on a shard's core: whether an update decodes. Integration is elsewhere.

use std::panic::catch_unwind;

use thiserror::Error;
use wire::Malformed;
use wire::yjs_scan::{ClockRange, UpdateScan, scan_state_vector, scan_update_ranges};
use yrs::updates::decoder::Decode;
use yrs::{StateVector, Update};

/// Why an update was refused.
#[derive(Debug, Error)]
pub(crate) enum UpdateFault {
    #[error("update does not follow the Yjs v1 format: {0}")]
    Scan(#[from] Malformed),
    #[error("update does not decode: {0}")]
    Decode(yrs::encoding::read::Error),
    #[error("update does not decode")]
    Panic,
}

/// Decodes an update, after a look at what it asks for. Answers with what is in it; none for an update that
/// changes nothing. Its clocks are added to `ranges`.
pub(crate) fn check_update(
    update: &[u8],
    ranges: &mut Vec<ClockRange>,
) -> Result<Option<UpdateScan>, UpdateFault> {
    let scan = scan_update_ranges(update, |range| ranges.push(range))?;
    let is_empty = catch_unwind(|| Update::decode_v1(update).map(|update| update.is_empty()));
    let is_empty = is_empty.map_err(|_| UpdateFault::Panic)?.map_err(UpdateFault::Decode)?;
    Ok((!is_empty).then_some(scan))
}

/// Decodes a state vector; no bytes stand for an empty one.
pub(crate) fn decode_state_vector(vector: &[u8]) -> Option<StateVector> {
    if vector.is_empty() {
        return Some(StateVector::default());
    }
    scan_state_vector(vector).ok()?;
    StateVector::decode_v1(vector).ok()
}
