//! Flows that share a bottleneck on their way to a node, in virtual time: what they send, what becomes of it, and what
//! their controllers believe meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use netem::{Capacity, Link, LinkSpec, Probability, QueueLimit};
use quantum::{
    Channel, Config, Connection, ConnectionKey, ControllerKind, Endpoint, EndpointLimits, MessageSink, Now,
    PathModel,
};
use wire::{Access, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

const UNIX_MS: u64 = 1_700_000_000_000;
const PSK: [u8; 32] = [7; 32];
const TICKET_KEY: (u32, [u8; 32]) = (1, [9; 32]);
/// What a bulk sender keeps queued, besides what is under way.
const BACKLOG_BYTES: usize = 1 << 20;
const BULK_MESSAGE_BYTES: usize = 16_000;

/// What an application does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum App {
    /// Nothing.
    Silent,
    /// It always has more to send.
    Bulk,
    /// A message now and then.
    Messages { bytes: usize, every: Span },
}

/// A path of a rate and a round trip, with a queue of so many of its products.
pub(crate) fn path(mbit_per_s: f64, rtt: Span, queue_bdp: f64) -> LinkSpec {
    let bits_per_s = (mbit_per_s * 1e6) as u64;
    let queue = (bdp_bytes(mbit_per_s, rtt) as f64 * queue_bdp) as u64;
    LinkSpec {
        delay: Span::from_us(rtt.as_us() / 2),
        capacity: Capacity::BitsPerS(bits_per_s),
        queue: Some(QueueLimit::Bytes(queue.max(3_000))),
        ..LinkSpec::default()
    }
}

/// What is in flight on a full path without a queue.
pub(crate) fn bdp_bytes(mbit_per_s: f64, rtt: Span) -> u64 {
    (mbit_per_s * rtt.as_us() as f64 / 8.0) as u64
}

pub(crate) fn percent(value: f64) -> Probability {
    Probability::new(value / 100.0).expect("a part of a hundred")
}

/// One connection and its application.
pub(crate) struct Flow {
    pub(crate) connection: Connection,
    pub(crate) app: App,
    next_message: Time,
    /// Bytes of messages that have arrived.
    pub(crate) arrived_bytes: u64,
    /// From the call of `send` to the arrival of each message of [`App::Messages`].
    pub(crate) message_delays: Vec<Span>,
    sent_at: Vec<Time>,
    /// Every phase of the controller and when it began.
    pub(crate) phases: Vec<(Time, &'static str)>,
}

impl Flow {
    pub(crate) fn model(&self) -> PathModel {
        self.connection.path_model()
    }

    pub(crate) fn phase(&self) -> &'static str {
        self.model().phase
    }

    pub(crate) fn max_bw(&self) -> u64 {
        self.model().bandwidth_bytes_per_s.unwrap_or_default()
    }

    /// How often a phase began after `since`.
    pub(crate) fn entered(&self, phase: &str, since: Time) -> usize {
        self.phases.iter().filter(|(at, name)| *at > since && *name == phase).count()
    }
}

/// Takes what arrives at the node, by connection.
#[derive(Default)]
struct Inbox {
    opened: Vec<ConnectionKey>,
    arrived: Vec<(ConnectionKey, Channel, usize)>,
}

impl MessageSink for Inbox {
    fn on_open(&mut self, from: ConnectionKey, _ticket: &Ticket) {
        self.opened.push(from);
    }

    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]) {
        self.arrived.push((from, channel, message.len()));
    }
}

type Tagged = ((usize, Time), Vec<u8>);

pub(crate) struct Lab {
    pub(crate) now: Time,
    pub(crate) flows: Vec<Flow>,
    pub(crate) up: Link<Tagged>,
    pub(crate) down: Link<Tagged>,
    node: Endpoint,
    keys: Vec<Option<ConnectionKey>>,
    inbox: Inbox,
    /// What each packet spent in the queue.
    pub(crate) queue_delays: Vec<Span>,
    /// Until then no packet leaves the medium: a radio that looks for other networks.
    suspended_until: Time,
    /// What comes back waits for the next multiple of this: a radio that sends in slots.
    pub(crate) batch: Span,
    pub(crate) backlog_bytes: usize,
    pub(crate) sent_packets: u64,
}

fn address(flow: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + flow as u16))
}

impl Lab {
    /// Flows of these kinds over a path.
    pub(crate) fn new(spec: LinkSpec, kinds: &[ControllerKind]) -> Self {
        let now = Time::from_us(1_000_000);
        let keys = || TicketKeyRing::new([TICKET_KEY]);
        let ticket = Ticket {
            session_id: Guuid::new(1, [1; 10]),
            writer_id: Guuid::new(2, [2; 10]).writer(),
            psk: PSK,
            expires_unix_s: UNIX_MS / 1_000 + 6_000,
            grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
        };
        let sealed = keys().seal(&ticket, [3; 12]).expect("a ticket");
        let mut node = Endpoint::new(Arc::new(Config::default()), EndpointLimits::default(), [5; 32]);
        node.set_ticket_keys(keys());
        let flow = |(n, &controller): (usize, &ControllerKind)| {
            let config = Arc::new(Config { controller, ..Config::default() });
            let id = Guuid::new(UNIX_MS, [n as u8 + 1; 10]);
            let moment = Now { mono: now, unix_ms: UNIX_MS };
            let connection = Connection::connect(moment, config, id, &sealed, &PSK, [n as u8 + 1; 32]);
            Flow {
                connection: connection.expect("a connection"),
                app: App::Silent,
                next_message: now,
                arrived_bytes: 0,
                message_delays: Vec::new(),
                sent_at: Vec::new(),
                phases: Vec::new(),
            }
        };
        let back = LinkSpec { delay: spec.delay, ..LinkSpec::default() };
        Self {
            now,
            flows: kinds.iter().enumerate().map(flow).collect(),
            up: Link::new(spec, 1),
            down: Link::new(back, 2),
            node,
            keys: vec![None; kinds.len()],
            inbox: Inbox::default(),
            queue_delays: Vec::new(),
            suspended_until: Time::ZERO,
            batch: Span::ZERO,
            backlog_bytes: BACKLOG_BYTES,
            sent_packets: 0,
        }
    }

    /// One BBR flow with a backlog.
    pub(crate) fn bulk(spec: LinkSpec) -> Self {
        let mut lab = Self::new(spec, &[ControllerKind::Bbr]);
        lab.flows[0].app = App::Bulk;
        lab
    }

    /// The same, whose application can fall silent at once.
    pub(crate) fn short_bulk(spec: LinkSpec) -> Self {
        let mut lab = Self::bulk(spec);
        lab.backlog_bytes = 64_000;
        lab
    }

    pub(crate) fn flow(&self) -> &Flow {
        &self.flows[0]
    }

    pub(crate) fn set_app(&mut self, flow: usize, app: App) {
        self.flows[flow].app = app;
        self.flows[flow].next_message = self.now;
    }

    /// Changes the way up.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut LinkSpec)) {
        let mut spec = self.up.spec().clone();
        change(&mut spec);
        self.up.change(self.now, spec);
    }

    /// Nothing passes for a while; what waits comes afterwards.
    pub(crate) fn suspend(&mut self, span: Span) {
        self.suspended_until = self.now + span;
    }

    fn run_apps(&mut self) {
        for flow in &mut self.flows {
            match flow.app {
                App::Silent => {}
                App::Bulk => {
                    let backlog = self.backlog_bytes + flow.connection.in_flight_bytes() as usize;
                    while flow.connection.queued_bytes() < backlog {
                        let message = Bytes::from_static(&[7; BULK_MESSAGE_BYTES]);
                        flow.connection.send(Channel::Sync, message).expect("room");
                    }
                }
                App::Messages { bytes, every } => {
                    while flow.next_message <= self.now {
                        flow.next_message += every;
                        flow.sent_at.push(self.now);
                        flow.connection.send(Channel::Presence, vec![7; bytes].into()).expect("room");
                    }
                }
            }
        }
    }

    /// Takes out of both ends what they have.
    fn flush(&mut self) {
        let mut buffer = [0; 1_500];
        self.run_apps();
        for (n, flow) in self.flows.iter_mut().enumerate() {
            while let Some(length) = flow.connection.poll_transmit(self.now, &mut buffer) {
                self.sent_packets += 1;
                self.up.handle_packet(self.now, ((n, self.now), buffer[..length].to_vec()));
            }
            while flow.connection.poll_event().is_some() {}
            let phase = flow.phase();
            if flow.phases.last().is_none_or(|last| last.1 != phase) {
                flow.phases.push((self.now, phase));
            }
        }
        while let Some((to, length)) = self.node.poll_transmit(self.now, &mut buffer) {
            let flow = usize::from(to.port() - 10_000);
            self.down.handle_packet(self.now, ((flow, self.now), buffer[..length].to_vec()));
        }
        while self.node.poll_event().is_some() {}
    }

    fn take_arrivals(&mut self) {
        for (key, channel, bytes) in self.inbox.arrived.drain(..) {
            self.node.consume(key, channel, bytes);
            let Some(n) = self.keys.iter().position(|known| *known == Some(key)) else { continue };
            let flow = &mut self.flows[n];
            flow.arrived_bytes += bytes as u64;
            if channel == Channel::Presence {
                let sent = flow.sent_at[flow.message_delays.len()];
                flow.message_delays.push(self.now.since(sent));
            }
        }
    }

    /// Goes on to the next thing that happens, at most to `until`; false when nothing does.
    pub(crate) fn step(&mut self, until: Time) -> bool {
        self.flush();
        let is_suspended = self.suspended_until > self.now;
        let up = if is_suspended { Some(self.suspended_until) } else { self.up.poll_timeout() };
        let messages = self.flows.iter().filter_map(|flow| match flow.app {
            App::Messages { .. } => Some(flow.next_message),
            App::Silent | App::Bulk => None,
        });
        let timers = self.flows.iter().filter_map(|flow| flow.connection.poll_timeout());
        let down = self.down.poll_timeout().map(|at| self.slot(at));
        let links = [up, down, self.node.poll_timeout()];
        let next = links.into_iter().flatten().chain(messages).chain(timers).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        self.deliver();
        for flow in &mut self.flows {
            if flow.connection.poll_timeout().is_some_and(|at| at <= self.now) {
                flow.connection.handle_timeout(self.now);
            }
        }
        self.node.handle_timeout(self.now);
        true
    }

    /// The first slot at or after a moment.
    fn slot(&self, at: Time) -> Time {
        let slot_us = self.batch.as_us().max(1);
        Time::from_us(at.as_us().max(self.now.as_us()).div_ceil(slot_us) * slot_us)
    }

    fn deliver(&mut self) {
        if self.suspended_until <= self.now {
            while let Some(delivery) = self.up.poll_packet(self.now) {
                let ((n, sent), mut datagram) = delivery.payload;
                let delay = delivery.due.since(sent) - self.up.spec().delay;
                self.queue_delays.push(delay);
                let now = Now { mono: self.now, unix_ms: UNIX_MS + self.now.as_us() / 1_000 };
                self.node.handle_datagram(now, address(n), &mut datagram, &mut self.inbox);
                if let Some(key) = self.inbox.opened.pop() {
                    self.keys[n] = Some(key);
                }
            }
            self.take_arrivals();
        }
        if self.slot(self.now) != self.now {
            return;
        }
        while let Some(delivery) = self.down.poll_packet(self.now) {
            let ((n, _), mut datagram) = delivery.payload;
            self.flows[n].connection.handle_datagram(self.now, &mut datagram, &mut Inbox::default());
        }
    }

    /// Runs for a span of virtual time.
    pub(crate) fn run(&mut self, span: Span) {
        let until = self.now + span;
        while self.step(until) {}
    }

    /// Runs until `done` holds, at most for a span; what happens then is the caller's failure.
    pub(crate) fn run_until(&mut self, span: Span, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + span;
        while !done(self) {
            if !self.step(until) {
                return done(self);
            }
        }
        true
    }

    /// Runs until the first flow enters a phase.
    pub(crate) fn run_to(&mut self, phase: &str) {
        assert!(
            self.run_until(Span::from_ms(30_000), |lab| lab.flow().phase() == phase),
            "never in {phase}: {:?}",
            self.flow().phases
        );
    }

    /// Bytes that arrive in a span.
    pub(crate) fn goodput(&mut self, span: Span) -> Vec<u64> {
        let before: Vec<_> = self.flows.iter().map(|flow| flow.arrived_bytes).collect();
        self.run(span);
        self.flows.iter().zip(before).map(|(flow, before)| flow.arrived_bytes - before).collect()
    }

    /// What is not exceeded by this part of the packets' times in the queue.
    pub(crate) fn queue_delay(&mut self, part: f64) -> Span {
        self.queue_delays.sort_unstable();
        let last = self.queue_delays.len().saturating_sub(1);
        self.queue_delays[(last as f64 * part) as usize]
    }
}
