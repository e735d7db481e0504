//! How far the ops of each Yjs client reach without a gap: a state vector, kept without the CRDT library.
//!
//! It is read off the updates' clocks alone, so it speaks of what is held, not of what is integrated.

use bytes::Bytes;
use wire::varint::{Malformed, put_varint};
use wire::yjs_scan::{ClockRange, scan_state_vector_clocks};

/// Clients by id, each with the clock behind its last block.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Clocks {
    clients: Vec<(u64, u32)>,
}

impl Clocks {
    /// From a state vector (v1); no bytes stand for an empty one.
    pub(crate) fn from_v1(vector: &[u8]) -> Result<Self, Malformed> {
        let mut clients = Vec::new();
        if !vector.is_empty() {
            scan_state_vector_clocks(vector, |client, clock| clients.push((client, clock)))?;
        }
        clients.sort_unstable();
        clients.dedup_by_key(|&mut (client, _)| client);
        clients.shrink_to_fit();
        Ok(Self { clients })
    }

    pub(crate) fn to_v1(&self) -> Bytes {
        let mut out = Vec::with_capacity(2 + 8 * self.clients.len());
        put_varint(&mut out, self.clients.len() as u64);
        for &(client, clock) in &self.clients {
            put_varint(&mut out, client);
            put_varint(&mut out, u64::from(clock));
        }
        Bytes::from(out)
    }

    /// Takes blocks in; false when there is a gap before them, and they are left out.
    pub(crate) fn take(&mut self, range: ClockRange) -> bool {
        match self.clients.binary_search_by_key(&range.client, |&(client, _)| client) {
            Ok(at) => {
                let clock = &mut self.clients[at].1;
                let follows = range.start <= *clock;
                if follows {
                    *clock = range.end.max(*clock);
                }
                follows
            }
            Err(at) => {
                let follows = range.start == 0;
                if follows {
                    self.clients.insert(at, (range.client, range.end));
                }
                follows
            }
        }
    }

    /// Whether blocks go on where it ends, or before.
    pub(crate) fn is_followed_by(&self, range: ClockRange) -> bool {
        range.start <= self.get(range.client)
    }

    /// Whether it reaches as far as `other` for each client.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.clients.iter().all(|&(client, clock)| clock <= self.get(client))
    }

    fn get(&self, client: u64) -> u32 {
        let found = self.clients.binary_search_by_key(&client, |&(client, _)| client);
        found.map_or(0, |at| self.clients[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_said_to_be_held() {
        let range = |client, start, end| ClockRange { client, start, end };
        let mut clocks = Clocks::default();
        assert!(clocks.take(range(7, 0, 3)) && clocks.take(range(2, 0, 1)));
        assert!(!clocks.take(range(7, 5, 9)) && !clocks.take(range(3, 1, 2)));
        assert!(clocks.take(range(7, 1, 4)) && clocks.take(range(7, 0, 2)));
        assert_eq!(clocks.clients, [(2, 1), (7, 4)]);
        assert!(clocks.is_followed_by(range(7, 4, 5)) && !clocks.is_followed_by(range(9, 1, 2)));
        let again = Clocks::from_v1(&clocks.to_v1()).unwrap();
        assert_eq!(again, clocks);
        assert!(again.covers(&clocks) && !Clocks::default().covers(&clocks));
        assert!(Clocks::from_v1(&[3]).is_err());
    }
}
