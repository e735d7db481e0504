//! What happens in a world: drawn from the seed in full before it begins, so that it can be printed and made simpler.

mod draw;
mod ecn_path;
pub(crate) mod network;
mod print;
mod traffic;

pub(crate) use self::ecn_path::EcnPath;
pub(crate) use self::print::Ms;
use netem::{Direction, PathSpec};
use quantum::{Config, EndpointLimits};
use wire::channel::Channel;
use wire::{Span, Time};

/// All of it. Times count from the start of the world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// The network as it is until [`heal_at`](Self::heal_at).
    pub(crate) network: PathSpec,
    /// From then on: as far and as fast, but nothing is lost except by a full queue.
    pub(crate) healed: PathSpec,
    /// The network heals, and incidents and attacks are over.
    pub(crate) heal_at: Time,
    pub(crate) client_config: Config,
    pub(crate) node_config: Config,
    pub(crate) limits: EndpointLimits,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) incidents: Vec<(Time, Incident)>,
    pub(crate) hostility: Hostility,
    /// What becomes of marks until the network heals.
    pub(crate) ecn_path: EcnPath,
    /// How far the node's clock is ahead of the world's.
    pub(crate) node_clock: Span,
    /// Datagrams that one call takes out at most.
    pub(crate) train_datagrams_max: usize,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) start: Time,
    /// How far its clock is ahead of the world's.
    pub(crate) clock: Span,
    /// Its connections, one after the other; the next begins when the one before is over.
    pub(crate) attempts: Vec<AttemptPlan>,
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct AttemptPlan {
    pub(crate) flows: Vec<Flow>,
    /// So long after its start.
    pub(crate) ending: Option<(Span, Ending)>,
    pub(crate) client_appetite: Appetite,
    pub(crate) node_appetite: Appetite,
}

/// How a connection ends before the world does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    ClientCloses,
    NodeCloses,
    /// As soon as everything is acknowledged that it was given, or so long after.
    ClientFinishes(Span),
    NodeFinishes(Span),
    /// The client is gone without a word.
    ClientVanishes,
}

/// Messages of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) direction: Direction,
    pub(crate) channel: Channel,
    /// After the connection can first send.
    pub(crate) start: Span,
    pub(crate) interval: Span,
    /// How many times something is sent.
    pub(crate) ticks: u32,
    /// How many messages at a time.
    pub(crate) burst: u32,
    pub(crate) bytes_min: usize,
    pub(crate) bytes_max: usize,
    /// So many of a hundred are taken back, if nothing of them has been sent.
    pub(crate) cancelled: u64,
    /// Where the channel allows it: after this it is not worth sending.
    pub(crate) deadline: Option<Span>,
    /// On a latest-wins channel, so many values.
    pub(crate) keys: u64,
}

/// How fast an application takes what is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Appetite {
    AtOnce,
    /// So many bytes at a time.
    Slow {
        every: Span,
        bytes: usize,
    },
}

/// Something that happens to a client's network, or to the node.
#[derive(Clone, Debug)]
pub(crate) enum Incident {
    /// The NAT gives the client another address.
    Rebind(usize),
    /// The client goes to another network, and so to another address; whether it is told.
    Move { client: usize, to: Box<PathSpec>, is_told: bool },
    /// The application asks for a fresh connection id.
    RotateId(usize),
    /// The application asks for fresh keys.
    UpdateKeys(usize),
    /// The node forgets everything.
    Restart,
}

/// What somebody does who sees all packets and can send as anybody: so many of a thousand datagrams are copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Hostility {
    /// Sent again as they are, from where they came.
    pub(crate) replayed: u64,
    /// Sent again from somewhere else.
    pub(crate) moved: u64,
    /// Sent again with bits changed or an end cut off.
    pub(crate) changed: u64,
    /// First packets with a stranger's ticket, or one that is made up: so many in all.
    pub(crate) forged_initials: u64,
}

impl Scenario {
    /// Virtual time in which a connection whose both ends are alive has delivered everything on a healed path, from when it
    /// had the last of it to send.
    pub(crate) fn progress_bound(&self, reliable_bytes: u64) -> Span {
        let rtt = self.rtt_max();
        // Probe timeouts double while nothing passes: the next may be as far ahead as the outage was long.
        let backed_off = Span::from_us(self.heal_at.as_us() * 2);
        let idle = self.client_config.idle_timeout.min(self.node_config.idle_timeout);
        let window_trips = 60 + reliable_bytes / 8_000;
        let trips = Span::from_us((rtt.as_us() + 10_000) * window_trips);
        let slowest = network::slowest_bits_per_s(&self.healed);
        let serialized = Span::from_us(reliable_bytes * 8 * 1_000_000 / slowest * 4);
        Span::from_ms(3_000) + backed_off + idle + trips + serialized + self.appetite_span(reliable_bytes)
    }

    /// The longest round trip that the network has without a queue.
    pub(crate) fn rtt_max(&self) -> Span {
        let moves = self.incidents.iter().filter_map(|(_, incident)| match incident {
            Incident::Move { to, .. } => Some(&**to),
            _ => None,
        });
        let rtt = |path: &PathSpec| path.up.delay + path.up.jitter + path.down.delay + path.down.jitter;
        moves.chain([&self.network]).map(rtt).max().unwrap_or(Span::ZERO)
    }

    fn appetite_span(&self, bytes: u64) -> Span {
        let appetites = self.clients.iter().flat_map(|client| &client.attempts);
        let spans = appetites.flat_map(|plan| [plan.client_appetite, plan.node_appetite]).map(|appetite| {
            match appetite {
                Appetite::AtOnce => Span::ZERO,
                Appetite::Slow { every, bytes: meal } => every.times(2 + bytes * 2 / meal as u64),
            }
        });
        spans.max().unwrap_or(Span::ZERO)
    }
}
