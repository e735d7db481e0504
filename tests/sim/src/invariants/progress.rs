//! On a healed network everything reliable arrives within a bound.

use wire::{Span, Time};

use super::{Check, Invariant};

/// Judges a connection of which both ends are alive; `since` is when it had the last of it to send and nothing stood in its
/// way.
pub(crate) fn check(attempt: usize, missing: usize, since: Time, now: Time, bound: Span) -> Check {
    let waited = now.since(since);
    if missing == 0 || waited <= bound {
        return Ok(());
    }
    let seen = format!(
        "connection {attempt}: {missing} reliable messages have not arrived {} ms after nothing stood in their way",
        waited.as_us() / 1_000
    );
    Err((Invariant::Progress, seen))
}
