//! Who is here, of one document: Yjs awareness, bound to the sockets that speak for it.
//!
//! The provider is careless in ways that this table makes good by keeping the clocks itself. It sends back what it hears of others,
//! so an entry counts only when it comes from the socket that owns the client id. It announces itself with
//! the clock it had before it lost its connection, which the others, who saw it leave at that clock, would
//! not believe, and remembers the clocks of the others, whom it would not believe either. The table then
//! raises the clock, and what is announced goes back to its sender as well, who takes the higher clock over.
//! And it may leave without a word: the table says so in its place.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use wire::Guuid;
use wire::limits::PRESENCE_ENTRIES_MAX;

use crate::yproto::Entry;

/// The most client ids that one socket may speak for; a page with several editors uses one each.
pub(crate) const CLIENTS_PER_SOCKET_MAX: usize = 16;

/// How many that have left are remembered with their clock, so that a late echo does not bring them back.
const DEPARTED_MAX: usize = 1_024;

/// Names a socket in the process.
pub(crate) type SocketId = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Socket {
        socket: SocketId,
        session: Option<Guuid>,
    },
    /// Another gateway or a native client, behind the node.
    Node,
}

impl Owner {
    fn is_socket(self, id: SocketId) -> bool {
        matches!(self, Self::Socket { socket, .. } if socket == id)
    }
}

#[derive(Debug)]
struct Known {
    clock: u32,
    state: Bytes,
    owner: Owner,
}

/// From whom an announcement comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcer {
    /// The socket.
    pub(crate) socket: SocketId,
    /// Its session, none when anonymous: a new socket may take a client id over from one of the same.
    pub(crate) session: Option<Guuid>,
    /// Whether this is what the provider sends on opening, about itself alone.
    pub(crate) opening: bool,
}

/// The presence of one document. Entries that it returns are to be sent to everyone, their sender included.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    here: HashMap<u64, Known>,
    departed: HashMap<u64, u32>,
    departed_order: VecDeque<u64>,
}

impl Presence {
    /// Takes what a socket announced; returns what has changed by it.
    pub(crate) fn announce(&mut self, from: Announcer, entries: &[Entry]) -> Vec<Entry> {
        entries.iter().filter_map(|entry| self.announce_one(from, entry, entries.len() == 1)).collect()
    }

    fn announce_one(&mut self, from: Announcer, entry: &Entry, alone: bool) -> Option<Entry> {
        let owner = Owner::Socket { socket: from.socket, session: from.session };
        let opening = from.opening && alone;
        let Some(known) = self.here.get(&entry.client) else {
            let left_at = self.departed.get(&entry.client).copied();
            let echo = left_at.is_some_and(|clock| entry.clock <= clock) && !opening;
            if echo || entry.state.is_empty() || !self.has_room(from.socket) {
                return None;
            }
            return Some(self.set(entry, owner, raised(entry.clock, left_at)));
        };
        let owned = known.owner == owner;
        let inherits = match known.owner {
            Owner::Socket { session, .. } => session == from.session,
            Owner::Node => true,
        };
        let takes_over = opening && inherits && !entry.state.is_empty();
        if !owned && !takes_over {
            return None;
        }
        // With the known clock it is the sender's echo; with an older one it is a sign of life.
        if owned && entry.clock == known.clock && entry.state == known.state {
            return None;
        }
        if entry.state.is_empty() {
            return Some(self.depart(entry.client, entry.clock.max(known.clock)));
        }
        Some(self.set(entry, owner, raised(entry.clock, Some(known.clock))))
    }

    /// Takes what the node says of those behind other connections.
    pub(crate) fn report(&mut self, entries: &[Entry]) -> Vec<Entry> {
        entries.iter().filter_map(|entry| self.report_one(entry)).collect()
    }

    fn report_one(&mut self, entry: &Entry) -> Option<Entry> {
        match self.here.get(&entry.client) {
            Some(Known { owner: Owner::Socket { .. }, .. }) => None,
            Some(known) if entry.state.is_empty() => {
                let clock = known.clock.max(entry.clock);
                Some(self.depart(entry.client, clock))
            }
            Some(known) => Some(self.set(entry, Owner::Node, raised(entry.clock, Some(known.clock)))),
            None if entry.state.is_empty() || self.here.len() >= PRESENCE_ENTRIES_MAX => None,
            None => {
                let left_at = self.departed.get(&entry.client).copied();
                Some(self.set(entry, Owner::Node, raised(entry.clock, left_at)))
            }
        }
    }

    /// A socket has closed: those it spoke for are gone, at the clock they had, so that their next
    /// announcement is the later one.
    pub(crate) fn socket_closed(&mut self, socket: SocketId) -> Vec<Entry> {
        self.depart_all(|owner| owner.is_socket(socket))
    }

    /// The node was lost: it will name those behind it again.
    pub(crate) fn node_lost(&mut self) -> Vec<Entry> {
        self.depart_all(|owner| owner == Owner::Node)
    }

    /// All that are here: client, clock and state.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = (u64, u32, &[u8])> {
        self.here.iter().map(|(&client, known)| (client, known.clock, &known.state[..]))
    }

    /// All that are here, for a socket that joins: with clocks above those that it may remember. Above by
    /// two, so that what the owners say next, one above what they know, is not taken for an echo.
    pub(crate) fn introduce(&mut self) -> impl ExactSizeIterator<Item = (u64, u32, &[u8])> {
        self.here.values_mut().for_each(|known| known.clock = known.clock.saturating_add(2));
        self.entries()
    }

    /// How many are here.
    pub(crate) fn len(&self) -> usize {
        self.here.len()
    }

    fn has_room(&self, socket: SocketId) -> bool {
        self.here.len() < PRESENCE_ENTRIES_MAX
            && self.here.values().filter(|known| known.owner.is_socket(socket)).count()
                < CLIENTS_PER_SOCKET_MAX
    }

    fn set(&mut self, entry: &Entry, owner: Owner, clock: u32) -> Entry {
        self.here.insert(entry.client, Known { clock, state: entry.state.clone(), owner });
        Entry { clock, ..entry.clone() }
    }

    fn depart(&mut self, client: u64, clock: u32) -> Entry {
        self.here.remove(&client);
        if self.departed.insert(client, clock).is_none() {
            self.departed_order.push_back(client);
        }
        if self.departed_order.len() > DEPARTED_MAX
            && let Some(oldest) = self.departed_order.pop_front()
        {
            self.departed.remove(&oldest);
        }
        Entry { client, clock, state: Bytes::new() }
    }

    fn depart_all(&mut self, leaves: impl Fn(Owner) -> bool) -> Vec<Entry> {
        let leaving = self.here.iter().filter(|(_, known)| leaves(known.owner));
        let leaving: Vec<_> = leaving.map(|(&client, known)| (client, known.clock)).collect();
        leaving.into_iter().map(|(client, clock)| self.depart(client, clock)).collect()
    }
}

/// The clock to announce, after the one that others know.
fn raised(clock: u32, known: Option<u32>) -> u32 {
    known.map_or(clock, |known| clock.max(known.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client: u64, clock: u32, state: &str) -> Entry {
        Entry { client, clock, state: Bytes::copy_from_slice(state.as_bytes()) }
    }

    /// Each socket of a session of its own.
    fn from(socket: SocketId, opening: bool) -> Announcer {
        Announcer { socket, session: Some(Guuid::new(socket, [0; 10])), opening }
    }

    #[test]
    fn a_socket_speaks_for_the_client_of_another() {
        let mut presence = Presence::default();
        assert_eq!(presence.announce(from(1, true), &[entry(7, 1, "a")]), [entry(7, 1, "a")]);
        assert!(presence.announce(from(2, false), &[entry(7, 9, "spoofed")]).is_empty());
        assert!(presence.announce(from(2, true), &[entry(7, 9, "spoofed")]).is_empty());
        assert!(presence.announce(from(2, false), &[entry(7, 9, "")]).is_empty());
        assert!(presence.socket_closed(2).is_empty());
        assert_eq!(presence.announce(from(1, false), &[entry(7, 2, "b")]), [entry(7, 2, "b")]);
    }

    #[test]
    fn one_who_comes_back_with_the_clock_of_before_is_not_seen() {
        let mut presence = Presence::default();
        presence.announce(from(1, true), &[entry(7, 4, "a")]);
        assert_eq!(presence.socket_closed(1), [entry(7, 4, "")]);
        assert_eq!(presence.announce(from(2, true), &[entry(7, 4, "a")]), [entry(7, 5, "a")]);
        // A change made before the raised clock came back to its sender.
        assert_eq!(presence.announce(from(2, false), &[entry(7, 5, "b")]), [entry(7, 6, "b")]);
        assert!(presence.announce(from(2, false), &[entry(7, 6, "b")]).is_empty());
    }

    #[test]
    fn one_who_comes_back_does_not_see_those_who_stayed() {
        let mut presence = Presence::default();
        presence.announce(from(1, true), &[entry(7, 4, "a")]);
        assert_eq!(presence.introduce().collect::<Vec<_>>(), [(7, 6, &b"a"[..])]);
        // Its renewal, with the clock that it knows, is passed on; its echo of what that became is not.
        assert_eq!(presence.announce(from(1, false), &[entry(7, 5, "a")]), [entry(7, 7, "a")]);
        assert!(presence.announce(from(1, false), &[entry(7, 7, "a")]).is_empty());
        assert_eq!(presence.announce(from(1, false), &[entry(7, 8, "b")]), [entry(7, 8, "b")]);
    }

    #[test]
    fn a_late_echo_brings_back_one_who_has_left() {
        let mut presence = Presence::default();
        presence.announce(from(1, true), &[entry(7, 4, "a")]);
        presence.socket_closed(1);
        assert!(presence.announce(from(2, false), &[entry(7, 4, "a")]).is_empty());
        assert!(presence.announce(from(2, true), &[entry(8, 1, "x"), entry(7, 4, "a")]).len() == 1);
        assert_eq!(presence.len(), 1);
    }

    #[test]
    fn the_old_socket_of_one_who_reconnected_takes_the_presence_along() {
        let mut presence = Presence::default();
        presence.announce(from(1, true), &[entry(7, 4, "a")]);
        let again = Announcer { socket: 2, ..from(1, true) };
        assert_eq!(presence.announce(again, &[entry(7, 4, "a")]), [entry(7, 5, "a")]);
        assert!(presence.socket_closed(1).is_empty());
        assert_eq!(presence.socket_closed(2), [entry(7, 5, "")]);
    }

    #[test]
    fn those_behind_a_lost_node_stay_for_ever() {
        let mut presence = Presence::default();
        presence.announce(from(1, true), &[entry(1, 1, "a")]);
        assert_eq!(presence.report(&[entry(2, 3, "b"), entry(1, 8, "c")]), [entry(2, 3, "b")]);
        assert_eq!(presence.node_lost(), [entry(2, 3, "")]);
        assert_eq!(presence.report(&[entry(2, 3, "b")]), [entry(2, 4, "b")]);
        assert_eq!(presence.report(&[entry(2, 3, "")]), [entry(2, 4, "")]);
    }

    #[test]
    fn a_socket_fills_the_table() {
        let mut presence = Presence::default();
        let many: Vec<_> = (0..100).map(|client| entry(client, 1, "x")).collect();
        assert_eq!(presence.announce(from(1, false), &many).len(), CLIENTS_PER_SOCKET_MAX);
        for client in 0..5_000 {
            presence.announce(from(2, false), &[entry(1_000 + client, 1, "x")]);
            presence.announce(from(2, false), &[entry(1_000 + client, 2, "")]);
        }
        assert!(presence.departed.len() <= DEPARTED_MAX && presence.departed_order.len() <= DEPARTED_MAX);
    }
}
