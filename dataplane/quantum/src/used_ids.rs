//! Connection ids that were used: a first packet opens at most one connection (`PROTOCOL.md`, section "Single use").

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use wire::Guuid;

use crate::id_hash::IdHashBuilder;

/// How far a client's clock may be ahead of the node's before its first packet needs a cookie. As many ids of one
/// shard as handshakes can be done in this time must be remembered, or its clients with cookies would be refused.
pub(crate) const AHEAD_MS_MAX: u64 = 2_000;
/// An id is forgotten so long after its time.
const REMEMBERED_MS: u64 = 120_000;
/// One part in so many of the ids may be of clients whose clocks are further ahead: they are kept for longer.
const FAR_AHEAD_PARTS: usize = 16;

/// What a first packet's id says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Freshness {
    /// It cannot have opened a connection.
    Fresh,
    /// It has.
    Used,
    /// It may have, as far as is remembered: a cookie would tell.
    Unknown,
    /// Too many clients have clocks that are far ahead.
    TooFarAhead,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Used {
    /// Until then, on the node's clock, a packet with this id could be taken.
    last_ms: u64,
    id: Guuid,
    is_far_ahead: bool,
}

/// A bounded set: what does not fit is forgotten oldest first, and nothing is taken any more that could have been among
/// what is forgotten.
#[derive(Debug)]
pub(crate) struct UsedIds {
    ids: HashSet<Guuid, IdHashBuilder>,
    order: BinaryHeap<Reverse<Used>>,
    count_max: usize,
    far_ahead: usize,
    /// What was forgotten has earlier times than this.
    floor_ms: u64,
    /// What an earlier run of the node may have taken without a cookie has earlier times than this. That run's cookies
    /// were under other keys.
    start_ms: u64,
}

impl UsedIds {
    pub(crate) fn new(count_max: usize, hash: IdHashBuilder) -> Self {
        Self {
            ids: HashSet::with_hasher(hash),
            order: BinaryHeap::new(),
            count_max: count_max.max(FAR_AHEAD_PARTS),
            far_ahead: 0,
            floor_ms: 0,
            start_ms: 0,
        }
    }

    /// An earlier run may have used ids up to `unix_ms`, its clock's accuracy included.
    pub(crate) fn set_start(&mut self, unix_ms: u64) {
        self.start_ms = unix_ms + AHEAD_MS_MAX + 1;
    }

    /// Whether a first packet may be taken; `cookie_ms` is when its cookie was issued.
    pub(crate) fn judge(&self, id: &Guuid, cookie_ms: Option<u64>, now_ms: u64) -> Freshness {
        if self.ids.contains(id) {
            return Freshness::Used;
        }
        let is_far_ahead = id.unix_ms() > now_ms + AHEAD_MS_MAX;
        match cookie_ms {
            Some(_) if is_far_ahead && self.far_ahead >= self.count_max / FAR_AHEAD_PARTS => {
                Freshness::TooFarAhead
            }
            Some(cookie_ms) if cookie_ms >= self.floor_ms => Freshness::Fresh,
            None if !is_far_ahead && id.unix_ms() >= self.floor_ms.max(self.start_ms) => Freshness::Fresh,
            _ => Freshness::Unknown,
        }
    }

    /// Remembers an id that was judged fresh, and whose ticket expires at `expires_unix_s`.
    pub(crate) fn insert(&mut self, id: Guuid, cookie_ms: Option<u64>, expires_unix_s: u64, now_ms: u64) {
        let expires_ms = expires_unix_s.saturating_mul(1_000);
        // The packet without a cookie can be taken up to the time of its id, if its ticket is valid as long; the one
        // with a cookie as long as nothing later than the cookie is forgotten.
        let last_ms = id.unix_ms().min(expires_ms.saturating_add(AHEAD_MS_MAX)).max(cookie_ms.unwrap_or(0));
        let is_far_ahead = last_ms > now_ms + AHEAD_MS_MAX;
        if self.ids.insert(id) {
            self.far_ahead += usize::from(is_far_ahead);
            self.order.push(Reverse(Used { last_ms, id, is_far_ahead }));
        }
        while let Some(&Reverse(oldest)) = self.order.peek() {
            if self.ids.len() <= self.count_max && oldest.last_ms + REMEMBERED_MS >= now_ms {
                break;
            }
            self.floor_ms = self.floor_ms.max(oldest.last_ms + 1);
            self.far_ahead -= usize::from(oldest.is_far_ahead);
            self.ids.remove(&oldest.id);
            self.order.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPIRES_S: u64 = 100_000;

    fn used(count_max: usize) -> UsedIds {
        UsedIds::new(count_max, IdHashBuilder::new(1))
    }

    fn id(unix_ms: u64, n: u8) -> Guuid {
        Guuid::new(unix_ms, [n; 10])
    }

    #[test]
    fn what_is_forgotten_is_taken_again_or_the_set_grows_without_bound() {
        let mut ids = used(32);
        for n in 0..100_u64 {
            let now = 1_000_000 + n;
            assert_eq!(ids.judge(&id(now, 1), None, now), Freshness::Fresh);
            ids.insert(id(now, 1), None, EXPIRES_S, now);
            assert_eq!(ids.judge(&id(now, 1), None, now), Freshness::Used);
            assert!(ids.ids.len() <= 32 && ids.order.len() <= 32);
        }
        assert_eq!(ids.judge(&id(1_000_050, 1), None, 1_000_100), Freshness::Unknown);
        assert_eq!(ids.judge(&id(1_000_050, 1), Some(1_000_050), 1_000_100), Freshness::Unknown);
        assert_eq!(
            ids.judge(&id(1_000_050, 2), Some(1_000_090), 1_000_100),
            Freshness::Fresh,
            "a slow clock"
        );
    }

    #[test]
    fn a_quiet_shard_remembers_for_ever() {
        let mut ids = used(1_000);
        (0..500).for_each(|n| ids.insert(id(1_000_000 + n, 1), None, EXPIRES_S, 1_000_000 + n));
        ids.insert(id(1_200_000, 1), None, EXPIRES_S, 1_200_000);
        assert_eq!(ids.ids.len(), 1);
    }

    #[test]
    fn a_restart_forgets_what_was_used() {
        let mut ids = used(32);
        ids.set_start(1_000_000);
        assert_eq!(ids.judge(&id(1_001_999, 1), None, 1_000_500), Freshness::Unknown);
        assert_eq!(ids.judge(&id(1_001_999, 1), Some(1_000_001), 1_000_500), Freshness::Fresh);
        assert_eq!(ids.judge(&id(1_002_001, 1), None, 1_002_001), Freshness::Fresh);
    }

    #[test]
    fn clocks_that_are_far_ahead_fill_the_set() {
        let mut ids = used(32);
        assert_eq!(ids.judge(&id(9_000_000, 1), None, 1_000_000), Freshness::Unknown);
        for n in 0..2 {
            assert_eq!(ids.judge(&id(9_000_000, n), Some(1_000_000), 1_000_000), Freshness::Fresh);
            ids.insert(id(9_000_000, n), Some(1_000_000), EXPIRES_S, 1_000_000);
        }
        assert_eq!(ids.judge(&id(9_000_000, 3), Some(1_000_000), 1_000_000), Freshness::TooFarAhead);
        for n in 0..100 {
            ids.insert(id(1_000_000, n), None, EXPIRES_S, 1_000_000);
        }
        assert_eq!(ids.judge(&id(9_000_000, 0), None, 9_000_000), Freshness::Used);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Whatever clocks clients have, and however little is remembered: the same packet is taken once.
        #[test]
        fn a_replay_slips_through(steps in prop::collection::vec((0_u64..5_000, 0_u64..20_000, any::<bool>(), 0_usize..40), 1..200)) {
            let mut ids = used(20);
            let mut now = 1_000_000_u64;
            let mut packets: Vec<(Guuid, Option<u64>)> = Vec::new();
            let mut taken: Vec<usize> = Vec::new();
            for (index, (pause, clock, has_cookie, replay)) in steps.into_iter().enumerate() {
                now += pause;
                let unix_ms = now + clock - 10_000;
                packets.push((Guuid::new(unix_ms, [index as u8; 10]), has_cookie.then_some(now)));
                for at in [packets.len() - 1, replay.min(packets.len() - 1)] {
                    let (id, cookie) = packets[at];
                    // A ticket valid for 30 s, and cookies for 10.
                    let expires_s = (1_000_000 + at as u64 * 100) / 1_000 + 30;
                    let is_cookie_valid = cookie.is_none_or(|cookie| now <= cookie + 10_000);
                    if now / 1_000 >= expires_s || !is_cookie_valid {
                        continue;
                    }
                    if ids.judge(&id, cookie, now) == Freshness::Fresh {
                        prop_assert!(!taken.contains(&at), "packet {at} at {now}");
                        taken.push(at);
                        ids.insert(id, cookie, expires_s, now);
                    }
                }
            }
        }
    }
}
