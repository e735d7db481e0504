//! Connection ids that were used while their tickets may still live: a first packet is answered once.

use std::collections::{HashSet, VecDeque};

use wire::Guuid;

use crate::id_hash::IdHashBuilder;

/// A bounded set; the oldest are forgotten first, or when their tickets have expired.
#[derive(Debug)]
pub(crate) struct RecentIds {
    ids: HashSet<Guuid, IdHashBuilder>,
    order: VecDeque<(Guuid, u64)>,
    count_max: usize,
}

impl RecentIds {
    pub(crate) fn new(count_max: usize, hash: IdHashBuilder) -> Self {
        Self { ids: HashSet::with_hasher(hash), order: VecDeque::new(), count_max }
    }

    pub(crate) fn contains(&self, id: &Guuid) -> bool {
        self.ids.contains(id)
    }

    /// Remembers `id` until its ticket expires; returns how many were forgotten before their time.
    pub(crate) fn insert(&mut self, id: Guuid, expires_unix_s: u64, now_unix_s: u64) -> u64 {
        let mut evicted = 0;
        while let Some(&(oldest, expires)) = self.order.front() {
            let is_full = self.ids.len() >= self.count_max;
            if expires > now_unix_s && !is_full {
                break;
            }
            evicted += u64::from(expires > now_unix_s);
            self.ids.remove(&oldest);
            self.order.pop_front();
        }
        if self.ids.insert(id) {
            self.order.push_back((id, expires_unix_s));
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_grows_without_bound() {
        let mut recent = RecentIds::new(3, IdHashBuilder::new(1));
        let id = |n| Guuid::new(n, [n as u8; 10]);
        assert_eq!((0..3).map(|n| recent.insert(id(n), 100, 0)).sum::<u64>(), 0);
        assert_eq!(recent.insert(id(3), 100, 0), 1);
        assert!(!recent.contains(&id(0)) && recent.contains(&id(1)));
        assert_eq!(recent.insert(id(4), 300, 200), 0, "expired ones are not evicted");
        assert!(!recent.contains(&id(3)) && recent.contains(&id(4)));
    }
}
