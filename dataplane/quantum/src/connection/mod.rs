//! One connection: the conductor of the parts that the other files describe.

mod fec;
mod finish;
mod footprint;
mod handshake;
#[cfg(test)]
mod hostile_tests;
mod ids;
mod initial;
mod key_update;
mod messages;
mod mtu;
mod path;
mod receive;
mod send;
mod stateless;
mod timers;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::frame::Parameters;
use wire::limits::INITIAL_DATAGRAM_BYTES;
use wire::sync::Channel;
use wire::{Code, Guuid, Span, Ticket, Time};

use self::fec::Fec;
use self::finish::Finishing;
pub use self::footprint::Footprint;
pub use self::handshake::ConnectError;
pub(crate) use self::handshake::{AcceptError, Acceptor};
use self::handshake::{ClientHandshake, NodeHandshake};
pub(crate) use self::initial::Initial;
pub use self::messages::{MessageId, SendError, SendOptions};
pub use self::send::Transmit;
use crate::acks::Acknowledger;
use crate::channels::{ReceiveChannels, SendChannels};
use crate::config::Config;
use crate::congestion::{CongestionController, PathModel, controller};
use crate::connection_ids::ConnectionIds;
use crate::delivery::DeliveryRate;
use crate::ecn::EcnSender;
use crate::fec::WINDOW_SYMBOLS_MAX;
use crate::flow::SendCredit;
use crate::key_update::PhasedKeys;
use crate::loss::LossDetector;
use crate::mtu::MtuDiscovery;
use crate::pacer::Pacer;
use crate::path::Paths;
use crate::replay::ReplayWindow;
use crate::reset::{ResetToken, token_of};
use crate::rtt::RttEstimator;
use crate::sent_packets::SentPackets;
use crate::stats::ConnectionStats;

/// The credit that a client has before it knows the node's: what a first packet can hold.
const EARLY_CREDIT_BYTES: u64 = INITIAL_DATAGRAM_BYTES as u64;

/// Names a connection of an endpoint: slot and generation. A key is never used again for another connection.
/// The client's only connection has the default key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct ConnectionKey(u64);

impl ConnectionKey {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    pub(crate) const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// The key as a number, for maps and logs.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The key that [`as_u64`](Self::as_u64) gave.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }
}

/// The moment on both clocks: the machine's own, and Unix time, which tickets need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic.
    pub mono: Time,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

/// Takes what arrives.
pub trait MessageSink {
    /// A connection of a node has been opened by a valid ticket; comes before its first message.
    fn on_open(&mut self, from: ConnectionKey, ticket: &Ticket) {
        let _ = (from, ticket);
    }

    /// A message. It lies in the decrypted packet: copy what must outlive the call. Its bytes count against
    /// the receive window until [`Connection::consume`] gives them back, if the channel is reliable.
    fn on_message(&mut self, from: ConnectionKey, channel: Channel, message: &[u8]);

    /// A message of a latest-wins channel, newer than those of its key before it. Unless told otherwise, a message
    /// like any other.
    fn on_latest(&mut self, from: ConnectionKey, channel: Channel, key: u64, message: &[u8]) {
        let _ = key;
        self.on_message(from, channel, message);
    }
}

/// What has become of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The handshake is complete (client), or the first packet's ticket is valid (node).
    Connected,
    /// After [`SendError::Full`]: half of the send buffer is free again.
    Writable,
    /// The peer takes no new messages and will end the connection once it has delivered what it had; what is sent to it
    /// until then still arrives.
    Finishing,
    /// The connection is over: the last event. Its key is of no use any more.
    Closed(CloseReason),
}

/// Who ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClosedBy {
    /// The application on this side, or this side because the peer broke a rule.
    Local,
    /// The peer.
    Peer,
    /// Nobody: time ran out.
    Timeout,
}

/// Why a connection is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseReason {
    /// Who ended it.
    pub by: ClosedBy,
    /// See [`Code`].
    pub code: u16,
    /// For people.
    pub reason: String,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            ClosedBy::Local => "closed here",
            ClosedBy::Peer => "closed by the peer",
            ClosedBy::Timeout => "timed out",
        };
        let name = Code::from_u16(self.code).map_or("unknown", Code::name);
        write!(f, "{by}: AF{:04} {name} {}", self.code, self.reason)
    }
}

/// Which end of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Node,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A client that waits for the node's answer.
    Handshaking,
    /// Keys are known. A node is here from the first packet on.
    Established,
    /// Closed here; the peer is told, again whenever it sends something.
    Closing,
    /// Closed by the peer; silent.
    Draining,
    /// Nothing will ever come out again.
    Drained,
}

/// How much may be sent to an address that has not proven itself (`PROTOCOL.md`, section "Address
/// validation").
#[derive(Clone, Copy, Debug, Default)]
struct Amplification {
    is_validated: bool,
    received_bytes: u64,
    sent_bytes: u64,
}

/// A connection as a state machine: feed it datagrams and time, and take datagrams and events out.
///
/// After every call of a `handle_*`, [`send`](Self::send), [`consume`](Self::consume) or
/// [`close`](Self::close), call [`poll_transmit`](Self::poll_transmit) until it has nothing,
/// [`poll_event`](Self::poll_event) until it has nothing, and arm a timer for
/// [`poll_timeout`](Self::poll_timeout).
pub struct Connection {
    key: ConnectionKey,
    /// The first one: the connection's identity.
    id: Guuid,
    /// The one in use in both directions.
    current_id: Guuid,
    /// Once there is more than one.
    ids: Option<Box<ConnectionIds>>,
    /// Where the peer is, on a node.
    remote: SocketAddr,
    /// While a path is in doubt.
    paths: Option<Box<Paths>>,
    side: Side,
    state: State,
    config: Arc<Config>,
    session: Option<Arc<Ticket>>,
    client_handshake: Option<Box<ClientHandshake>>,
    node_handshake: Option<Box<NodeHandshake>>,
    keys: Option<PhasedKeys>,
    replay: ReplayWindow,
    acks: Acknowledger,
    sent: SentPackets,
    loss: LossDetector,
    lost_scratch: Vec<u64>,
    rtt: RttEstimator,
    controller: Box<dyn CongestionController>,
    delivery: DeliveryRate,
    pacer: Pacer,
    send_channels: SendChannels,
    send_credit: SendCredit,
    receive_channels: ReceiveChannels,
    ping_due: bool,
    /// The handshake's packet must hold the peer's parameters, once.
    expects_parameters: bool,
    acks_without_ping: u32,
    queued_bytes: usize,
    is_blocked: bool,
    /// What the path is known to carry.
    datagram_bytes: usize,
    mtu: MtuDiscovery,
    ecn: EcnSender,
    message_bytes_max: usize,
    peer_ack_delay: Span,
    /// With which the node may end a client's connection that it has forgotten.
    reset_token: Option<ResetToken>,
    /// The node's time when it opened the connection, on a client.
    peer_since_ms: u64,
    idle_timeout: Span,
    last_received: Time,
    last_eliciting_sent: Time,
    /// End of the handshake, or of closing and draining.
    deadline: Option<Time>,
    close: Option<(u16, String)>,
    finishing: Option<Box<Finishing>>,
    is_peer_finishing: bool,
    close_due: bool,
    close_sent: Time,
    /// How often CLOSE is still repeated without being asked for.
    close_repeats: u8,
    amplification: Amplification,
    fec: Fec,
    events: VecDeque<Event>,
    stats: ConnectionStats,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("side", &self.side)
            .field("state", &self.state)
            .field("rtt", &self.rtt)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// What a path's controller takes for randomness: other connections have other ids.
fn congestion_seed(id: Guuid) -> u64 {
    id.as_bytes()[8..].iter().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

impl Connection {
    fn new(key: ConnectionKey, id: Guuid, side: Side, now: Time, config: Arc<Config>) -> Self {
        let is_client = side == Side::Client;
        Self {
            key,
            id,
            current_id: id,
            ids: None,
            remote: SocketAddr::from(([0, 0, 0, 0], 0)),
            paths: None,
            side,
            state: if is_client { State::Handshaking } else { State::Established },
            session: None,
            client_handshake: None,
            node_handshake: None,
            keys: None,
            replay: ReplayWindow::new(),
            acks: Acknowledger::new(),
            sent: SentPackets::default(),
            loss: LossDetector::new(),
            lost_scratch: Vec::new(),
            rtt: RttEstimator::new(),
            controller: controller(&config, congestion_seed(id)),
            delivery: DeliveryRate::default(),
            pacer: Pacer::new(),
            send_channels: SendChannels::new(EARLY_CREDIT_BYTES),
            send_credit: SendCredit::new(EARLY_CREDIT_BYTES),
            receive_channels: ReceiveChannels::new(config.receive_window_bytes),
            ping_due: false,
            expects_parameters: true,
            acks_without_ping: 0,
            queued_bytes: 0,
            is_blocked: false,
            datagram_bytes: INITIAL_DATAGRAM_BYTES,
            mtu: MtuDiscovery::new(),
            ecn: EcnSender::new(),
            message_bytes_max: config.message_bytes_max,
            peer_ack_delay: Span::ZERO,
            reset_token: None,
            peer_since_ms: 0,
            idle_timeout: config.idle_timeout,
            last_received: now,
            last_eliciting_sent: now,
            deadline: Some(now + config.handshake_timeout),
            close: None,
            finishing: None,
            is_peer_finishing: false,
            close_due: false,
            close_repeats: 0,
            close_sent: Time::ZERO,
            amplification: Amplification { is_validated: is_client, received_bytes: 0, sent_bytes: 0 },
            fec: Fec::default(),
            events: VecDeque::new(),
            stats: ConnectionStats::default(),
            config,
        }
    }

    /// Ends the connection at once, whatever is queued. The peer is told `code` and `reason` (cut to 256
    /// bytes).
    pub fn close(&mut self, now: Time, code: u16, reason: &str) {
        self.end(now, ClosedBy::Local, code, reason);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the connection is over, for the application.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        !matches!(self.state, State::Handshaking | State::Established)
    }

    /// Whether nothing will come out of this connection any more: it can be dropped.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        matches!(self.state, State::Drained)
    }

    /// Whether both ends have proven that they hold the keys.
    #[must_use]
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Established) && self.node_handshake.is_none()
    }

    /// The connection's identity: its first id, whatever its packets carry by now.
    #[must_use]
    pub const fn id(&self) -> Guuid {
        self.id
    }

    /// The key under which messages are delivered.
    #[must_use]
    pub const fn key(&self) -> ConnectionKey {
        self.key
    }

    /// The opened ticket, on a node.
    #[must_use]
    pub fn session(&self) -> Option<&Ticket> {
        self.session.as_deref()
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> &ConnectionStats {
        &self.stats
    }

    /// The smoothed round-trip time; none before the first sample.
    #[must_use]
    pub fn rtt_us(&self) -> Option<u64> {
        self.rtt.has_sample().then(|| self.rtt.smoothed().as_us())
    }

    /// The least round-trip time; none before the first sample.
    #[must_use]
    pub fn rtt_min_us(&self) -> Option<u64> {
        self.rtt.has_sample().then(|| self.rtt.min().as_us())
    }

    /// The congestion window.
    #[must_use]
    pub fn congestion_window_bytes(&self) -> u64 {
        self.controller.window_bytes()
    }

    /// The rate at which a backlog leaves, bytes per second; none: as fast as the window allows.
    #[must_use]
    pub fn pacing_rate_bytes_per_s(&self) -> Option<u64> {
        self.controller.pacing_rate()
    }

    /// What the congestion controller believes of the path.
    #[must_use]
    pub fn path_model(&self) -> PathModel {
        self.controller.path_model()
    }

    /// Bytes sent and neither acknowledged nor lost.
    #[must_use]
    pub const fn in_flight_bytes(&self) -> u64 {
        self.sent.in_flight_bytes()
    }

    fn set_peer(&mut self, peer: &Parameters) {
        let datagram = usize::try_from(peer.datagram_bytes_max).unwrap_or(usize::MAX);
        self.mtu.set_max(datagram.min(self.config.datagram_bytes_max));
        self.follow_mtu();
        let message = usize::try_from(peer.message_bytes_max).unwrap_or(usize::MAX);
        self.message_bytes_max = self.message_bytes_max.min(message);
        self.peer_ack_delay = Span::from_us(peer.max_ack_delay_us).min(crate::config::ACK_DELAY_MAX);
        let idle = Span::from_us(peer.idle_timeout_ms.saturating_mul(1_000));
        self.idle_timeout = self.idle_timeout.min(idle.max(crate::config::IDLE_TIMEOUT_MIN));
        self.reset_token = token_of(peer).filter(|_| self.is_client());
        self.peer_since_ms = peer.unix_ms;
        self.fec.peer_window = peer.fec_window.min(WINDOW_SYMBOLS_MAX as u64) as u8;
        self.send_credit.open(peer.max_data);
        self.send_channels.raise_all_credit(peer.max_channel_data);
    }

    fn probe_timeout(&self) -> Span {
        self.rtt.probe_timeout(self.peer_ack_delay)
    }

    fn end(&mut self, now: Time, by: ClosedBy, code: u16, reason: &str) {
        if self.is_closed() {
            return;
        }
        let can_tell = self.keys.is_some() && by == ClosedBy::Local;
        self.state = match by {
            ClosedBy::Local if can_tell => State::Closing,
            ClosedBy::Peer => State::Draining,
            ClosedBy::Local | ClosedBy::Timeout => State::Drained,
        };
        self.deadline = Some(now + self.probe_timeout().times(3));
        self.close_due = can_tell;
        self.close = can_tell.then(|| (code, reason.to_owned()));
        self.events.push_back(Event::Closed(CloseReason { by, code, reason: reason.to_owned() }));
        self.release();
    }

    /// Gives back the memory of queues that a closed connection does not need.
    fn release(&mut self) {
        self.receive_channels = ReceiveChannels::new(self.config.receive_window_bytes);
        self.send_channels = SendChannels::new(0);
        self.release_fec();
        self.queued_bytes = 0;
        self.is_blocked = false;
        self.client_handshake = None;
        self.node_handshake = None;
        self.finishing = None;
    }

    /// The peer has broken a rule.
    fn violation(&mut self, now: Time, code: Code, what: &str) {
        self.end(now, ClosedBy::Local, code as u16, what);
    }
}
