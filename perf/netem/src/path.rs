//! Both directions between a client and a server, and the NAT on the client's side.

use wire::Time;

use crate::{Delivery, DropReason, Link, LinkStats, PathSpec, Payload};

/// The way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// The public address that the NAT uses for the client: the first is 0, and each rebinding takes the next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mapping(pub u32);

/// Two links and a NAT. The NAT is on the client's side: it stamps packets before they go up, and drops packets that
/// come down to a mapping that it has forgotten.
#[derive(Clone, Debug)]
pub struct Path<P> {
    up: Link<(Mapping, P)>,
    down: Link<(Mapping, P)>,
    mapping: Mapping,
    unmapped: LinkStats,
}

/// A packet that comes out of one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathDelivery<P> {
    /// At the server's end, or at the client's.
    pub direction: Direction,
    /// Going up: where it seems to come from. Going down: where it was sent to.
    pub mapping: Mapping,
    /// When it was to come; not after the instant of the poll.
    pub due: Time,
    /// What it carries.
    pub payload: P,
}

impl<P: Payload> Path<P> {
    /// A path whose fates follow from `seed`, each direction by itself.
    #[must_use]
    pub fn new(spec: PathSpec, seed: u64) -> Self {
        let seed_of = |number| crate::Random::stream(seed, number).next_u64();
        Self {
            up: Link::new(spec.up, seed_of(0)),
            down: Link::new(spec.down, seed_of(1)),
            mapping: Mapping::default(),
            unmapped: LinkStats::default(),
        }
    }

    /// Takes a packet from the client.
    pub fn handle_up(&mut self, now: Time, payload: P) {
        self.up.handle_packet(now, (self.mapping, payload));
    }

    /// Takes a packet from the server, sent to a mapping.
    pub fn handle_down(&mut self, now: Time, mapping: Mapping, payload: P) {
        self.down.handle_packet(now, (mapping, payload));
    }

    /// The next packet that is due at either end.
    pub fn poll_packet(&mut self, now: Time) -> Option<PathDelivery<P>> {
        if let Some(Delivery { due, payload: (mapping, payload) }) = self.up.poll_packet(now) {
            return Some(PathDelivery { direction: Direction::Up, mapping, due, payload });
        }
        while let Some(Delivery { due, payload: (mapping, mut payload) }) = self.down.poll_packet(now) {
            if mapping == self.mapping {
                return Some(PathDelivery { direction: Direction::Down, mapping, due, payload });
            }
            self.unmapped.dropped_unmapped += 1;
            self.unmapped.delivered_bytes += payload.bytes() as u64;
            payload.on_dropped(due, DropReason::Unmapped);
        }
        None
    }

    /// No packet comes before this instant; none when nothing waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.up.poll_timeout().into_iter().chain(self.down.poll_timeout()).min()
    }

    /// Packets that are under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.up.waiting() + self.down.waiting()
    }

    /// The NAT forgets the client and gives it another mapping, which is returned. The client does not notice.
    pub fn rebind(&mut self) -> Mapping {
        self.mapping.0 = self.mapping.0.wrapping_add(1);
        self.mapping
    }

    /// The mapping in use.
    #[must_use]
    pub const fn mapping(&self) -> Mapping {
        self.mapping
    }

    /// Another path from `now` on, as when a client goes from one network to another. Packets under way still arrive.
    /// Rebind besides, if the address changes as well.
    pub fn change(&mut self, now: Time, spec: PathSpec) {
        self.up.change(now, spec.up);
        self.down.change(now, spec.down);
    }

    /// What became of the packets of one direction.
    #[must_use]
    pub fn stats(&self, direction: Direction) -> LinkStats {
        match direction {
            Direction::Up => *self.up.stats(),
            Direction::Down => {
                let mut stats = *self.down.stats();
                stats.dropped_unmapped = self.unmapped.dropped_unmapped;
                stats.delivered -= self.unmapped.dropped_unmapped;
                stats.delivered_bytes -= self.unmapped.delivered_bytes;
                stats
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_us(ms * 1_000)
    }

    fn path(text: &str) -> Path<Vec<u8>> {
        Path::new(text.parse().expect("a network"), 1)
    }

    #[test]
    fn a_reply_to_a_forgotten_mapping_arrives() {
        let mut path = path("delay=10ms");
        path.handle_up(ms(0), vec![1]);
        let up = path.poll_packet(ms(10)).expect("due");
        assert_eq!((up.direction, up.mapping, up.due), (Direction::Up, Mapping(0), ms(10)));
        path.handle_down(ms(10), up.mapping, vec![2]);
        assert_eq!(path.rebind(), Mapping(1));
        path.handle_down(ms(11), Mapping(1), vec![3]);
        let down = path.poll_packet(ms(30)).expect("due");
        assert_eq!((down.direction, down.payload), (Direction::Down, vec![3]));
        assert!(path.poll_packet(ms(30)).is_none());
        let stats = path.stats(Direction::Down);
        assert_eq!((stats.taken, stats.delivered, stats.dropped_unmapped), (2, 1, 1));
        assert_eq!((stats.delivered_bytes, stats.dropped()), (1, 1));
    }

    #[test]
    fn a_client_behind_a_new_mapping_is_still_seen_under_the_old() {
        let mut path = path("clean");
        path.handle_up(ms(0), vec![1]);
        path.rebind();
        path.handle_up(ms(0), vec![2]);
        let mappings: Vec<Mapping> =
            std::iter::from_fn(|| path.poll_packet(ms(0))).map(|delivery| delivery.mapping).collect();
        assert_eq!(mappings, [Mapping(0), Mapping(1)]);
    }

    #[test]
    fn directions_share_their_conditions_or_their_fates() {
        let mut lossy = path("loss=50% down.delay=5ms");
        for n in 0..64_u8 {
            lossy.handle_up(ms(0), vec![n]);
            lossy.handle_down(ms(0), Mapping(0), vec![n]);
        }
        let up: Vec<u8> =
            std::iter::from_fn(|| lossy.poll_packet(ms(0))).map(|delivery| delivery.payload[0]).collect();
        let down: Vec<u8> =
            std::iter::from_fn(|| lossy.poll_packet(ms(5))).map(|delivery| delivery.payload[0]).collect();
        assert_ne!(up, down);
        assert!((16..48).contains(&up.len()) && (16..48).contains(&down.len()));
    }

    #[test]
    fn a_new_path_changes_what_is_under_way_or_not_what_comes() {
        let mut path = path("delay=50ms");
        path.handle_up(ms(0), vec![1]);
        path.change(ms(1), "delay=1ms".parse().expect("a network"));
        path.handle_up(ms(1), vec![2]);
        assert_eq!(path.poll_timeout(), Some(ms(2)));
        assert_eq!(path.poll_packet(ms(2)).expect("due").payload, [2]);
        assert_eq!(path.poll_timeout(), Some(ms(50)));
        assert_eq!(path.poll_packet(ms(50)).expect("due").payload, [1]);
        assert_eq!((path.poll_timeout(), path.waiting()), (None, 0));
    }
}
