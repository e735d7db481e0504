//! Who is here, of one document: Yjs awareness, bound to the sockets that speak for it.
//!
//! The provider is careless in ways that this table makes good by keeping the clocks itself. It sends back what it hears of others,
//! so an entry counts only when it comes from the socket that owns the client id. It announces itself with
//! the clock it had before it lost its connection, which the others, who saw it leave at that clock, would
//! not believe, and remembers the clocks of the others, whom it would not believe either. The table then
//! raises the clock, and what is announced goes back to its sender as well, who takes the higher clock over
//! and echoes it: raised clocks are of a form by which such an echo is known from news.
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

/// Raised clocks are this apart at least, and [`RAISED_MARK`] above a multiple of it.
const RAISED_STRIDE: u32 = 16;
const RAISED_MARK: u32 = 9;
/// How far the clock of a client is raised that this table has not seen: others may remember it from before
/// the gateway was started, with a clock that had been raised since the client last heard of it.
const HEAD_START: u32 = 256 * RAISED_STRIDE;

const _: () = assert!(RAISED_STRIDE.is_power_of_two() && RAISED_MARK < RAISED_STRIDE);

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
    /// The first and the last raised clock that its owner was sent.
    raised: Option<(u32, u32)>,
}

impl Known {
    /// Whether the owner sends back what it was sent.
    fn is_echo(&self, entry: &Entry) -> bool {
        let sent = self.raised.is_some_and(|(first, last)| (first..=last).contains(&entry.clock));
        let marked = entry.clock % RAISED_STRIDE == RAISED_MARK;
        sent && marked || entry.clock == self.clock && entry.state == self.state
    }
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
            let late = left_at.is_some_and(|clock| entry.clock <= clock) && !opening;
            if late || entry.state.is_empty() || !self.has_room(from.socket) {
                return None;
            }
            return Some(self.arrive(entry, owner));
        };
        if known.owner == owner {
            if known.is_echo(entry) {
                return None;
            }
            if entry.state.is_empty() {
                return Some(self.depart(entry.client, entry.clock.max(known.clock)));
            }
            return Some(self.set(entry, owner));
        }
        let inherits = match known.owner {
            Owner::Socket { session, .. } => session == from.session,
            Owner::Node => true,
        };
        (opening && inherits && !entry.state.is_empty()).then(|| self.set(entry, owner))
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
            Some(_) => Some(self.set(entry, Owner::Node)),
            None if entry.state.is_empty() || self.here.len() >= PRESENCE_ENTRIES_MAX => None,
            None => Some(self.arrive(entry, Owner::Node)),
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

    /// All that are here, for a socket that joins: with clocks above those that it may remember.
    pub(crate) fn introduce(&mut self) -> impl ExactSizeIterator<Item = (u64, u32, &[u8])> {
        self.here.values_mut().for_each(|known| known.clock = raise(known.clock));
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

    /// One that is not here yet.
    fn arrive(&mut self, entry: &Entry, owner: Owner) -> Entry {
        let clock = match self.departed.get(&entry.client) {
            Some(&left_at) => {
                if entry.clock > left_at {
                    entry.clock
                } else {
                    raise(left_at)
                }
            }
            None => raise(entry.clock.saturating_add(HEAD_START)),
        };
        let raised = (clock != entry.clock).then_some((clock, clock));
        self.here.insert(entry.client, Known { clock, state: entry.state.clone(), owner, raised });
        Entry { clock, ..entry.clone() }
    }

    /// News of one that is here, under a clock that everybody believes.
    fn set(&mut self, entry: &Entry, owner: Owner) -> Entry {
        let Some(known) = self.here.get_mut(&entry.client) else { return self.arrive(entry, owner) };
        if known.owner != owner {
            known.owner = owner;
            known.raised = None;
        }
        known.state = entry.state.clone();
        if entry.clock > known.clock {
            known.clock = entry.clock;
        } else {
            known.clock = raise(known.clock);
            known.raised = Some((known.raised.map_or(known.clock, |(first, _)| first), known.clock));
        }
        Entry { clock: known.clock, ..entry.clone() }
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

/// The next raised clock above `clock`.
fn raise(clock: u32) -> u32 {
    clock.saturating_add(RAISED_STRIDE) & !(RAISED_STRIDE - 1) | RAISED_MARK
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

    /// The one entry that was announced.
    fn only(announced: Vec<Entry>) -> Entry {
        assert_eq!(announced.len(), 1, "{announced:?}");
        announced.into_iter().next().unwrap()
    }

    #[test]
    fn a_socket_speaks_for_the_client_of_another() {
        let mut presence = Presence::default();
        let shown = only(presence.announce(from(1, true), &[entry(7, 1, "a")]));
        assert!(presence.announce(from(2, false), &[entry(7, 9_999, "spoofed")]).is_empty());
        assert!(presence.announce(from(2, true), &[entry(7, 9_999, "spoofed")]).is_empty());
        assert!(presence.announce(from(2, false), &[entry(7, 9_999, "")]).is_empty());
        assert!(presence.socket_closed(2).is_empty());
        let next = entry(7, shown.clock + 1, "b");
        assert_eq!(only(presence.announce(from(1, false), std::slice::from_ref(&next))), next);
    }

    #[test]
    fn one_who_comes_back_with_the_clock_of_before_is_not_seen() {
        let mut presence = Presence::default();
        let shown = only(presence.announce(from(1, true), &[entry(7, 4, "a")]));
        assert_eq!(presence.socket_closed(1), [Entry { state: Bytes::new(), ..shown.clone() }]);
        let back = only(presence.announce(from(2, true), &[entry(7, shown.clock, "a")]));
        assert!(back.clock > shown.clock);
        // To a gateway that has just started, too.
        assert!(
            only(Presence::default().announce(from(2, true), std::slice::from_ref(&shown))).clock
                > shown.clock + 16
        );
    }

    #[test]
    fn an_echo_of_what_was_raised_goes_round_for_ever() {
        let mut presence = Presence::default();
        let first = only(presence.announce(from(1, true), &[entry(7, 4, "a")]));
        // Made before the raised clock was heard of: news all the same.
        let second = only(presence.announce(from(1, false), &[entry(7, 5, "b")]));
        let third = only(presence.announce(from(1, false), &[entry(7, 6, "c")]));
        assert!(first.clock < second.clock && second.clock < third.clock);
        for echo in [first, second, third.clone()] {
            assert!(presence.announce(from(1, false), &[echo]).is_empty());
        }
        let next = entry(7, third.clock + 1, "d");
        assert_eq!(only(presence.announce(from(1, false), std::slice::from_ref(&next))), next);
        assert!(presence.announce(from(1, false), &[next]).is_empty());
    }

    #[test]
    fn one_who_comes_back_does_not_see_those_who_stayed() {
        let mut presence = Presence::default();
        let shown = only(presence.announce(from(1, true), &[entry(7, 4, "a")]));
        let introduced = presence.introduce().next().unwrap().1;
        assert!(introduced > shown.clock);
        // Its renewal, with the clock that it knows, is passed on above what the others know.
        let renewed = only(presence.announce(from(1, false), &[entry(7, shown.clock + 1, "a")]));
        assert!(renewed.clock > introduced);
    }

    #[test]
    fn a_late_echo_brings_back_one_who_has_left() {
        let mut presence = Presence::default();
        let shown = only(presence.announce(from(1, true), &[entry(7, 4, "a")]));
        presence.socket_closed(1);
        assert!(presence.announce(from(2, false), std::slice::from_ref(&shown)).is_empty());
        assert_eq!(presence.announce(from(2, true), &[entry(8, 1, "x"), shown]).len(), 1);
        assert_eq!(presence.len(), 1);
    }

    #[test]
    fn the_old_socket_of_one_who_reconnected_takes_the_presence_along() {
        let mut presence = Presence::default();
        let shown = only(presence.announce(from(1, true), &[entry(7, 4, "a")]));
        let again = Announcer { socket: 2, ..from(1, true) };
        let back = only(presence.announce(again, std::slice::from_ref(&shown)));
        assert!(back.clock > shown.clock);
        assert!(presence.socket_closed(1).is_empty());
        assert_eq!(presence.socket_closed(2), [Entry { state: Bytes::new(), ..back }]);
    }

    #[test]
    fn those_behind_a_lost_node_stay_for_ever() {
        let mut presence = Presence::default();
        presence.announce(from(1, true), &[entry(1, 1, "a")]);
        let shown = only(presence.report(&[entry(2, 3, "b"), entry(1, 8, "c")]));
        assert_eq!(presence.node_lost(), [Entry { state: Bytes::new(), ..shown.clone() }]);
        let back = only(presence.report(&[entry(2, 3, "b")]));
        assert!(back.clock > shown.clock);
        assert_eq!(presence.report(&[entry(2, 3, "")]), [Entry { state: Bytes::new(), ..back }]);
    }

    #[test]
    fn a_socket_fills_the_table() {
        let mut presence = Presence::default();
        let many: Vec<_> = (0..100).map(|client| entry(client, 1, "x")).collect();
        assert_eq!(presence.announce(from(1, false), &many).len(), CLIENTS_PER_SOCKET_MAX);
        for client in 0..5_000 {
            let shown = only(presence.announce(from(2, false), &[entry(1_000 + client, 1, "x")]));
            presence.announce(from(2, false), &[entry(1_000 + client, shown.clock + 1, "")]);
        }
        assert!(presence.departed.len() <= DEPARTED_MAX && presence.departed_order.len() <= DEPARTED_MAX);
    }
}
