//! The two ends of a story and the path between them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use netem::{Direction, Mapping, Path, PathSpec};
use quantum::{
    Channel, Config, Connection, ConnectionKey, Endpoint, EndpointLimits, Event, MessageSink, Now, PacketTap,
    ResetKey,
};
use wire::header::HEADER_BYTES;
use wire::{Access, Grant, Guuid, Span, Ticket, TicketKeyRing, Time};

use super::Wrong;
use super::expect::has_words;
use super::parse::{Act, Drop, MESSAGE_BYTES_MIN, Script, Who};
use crate::trace::Trace;

/// When a story begins, so that what looks back does not meet zero.
const START: Time = Time::from_us(1_000_000);
const START_UNIX_MS: u64 = 1_700_000_000_000;
/// Tickets outlive every story.
const TICKET_EXPIRES_UNIX_S: u64 = START_UNIX_MS / 1_000 + 10_000_000;
const TICKET_KEY: (u32, [u8; 32]) = (1, [9; 32]);
const PRE_SHARED_KEY: [u8; 32] = [7; 32];
const RESET_KEY: [u8; 32] = [3; 32];
/// The client's address and the first of its ports; each mapping of the NAT has the next.
const CLIENT_IP: [u8; 4] = [10, 0, 0, 1];
const CLIENT_PORT: u16 = 10_000;
/// Where strangers are (TEST-NET-1).
const STRANGERS_IP: [u8; 4] = [192, 0, 2, 1];
/// What the largest datagram fits.
const BUFFER_BYTES: usize = 2_048;
/// Turns, after which a story has no end.
const TURNS_MAX: u32 = 1_000_000;

/// What one end did, or had done to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    Sent {
        /// The datagram, as a trace tells it.
        text: String,
        is_dropped: bool,
    },
    Delivered {
        channel: Channel,
        number: u64,
    },
    Connected,
    Closed {
        code: u16,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Happened {
    pub(super) at: Span,
    pub(super) who: Who,
    pub(super) what: What,
}

/// What happened in a story, in order.
#[derive(Clone, Debug, Default)]
pub struct Telling {
    pub(super) happened: Vec<Happened>,
    /// By `WHERE.NAME`, at the end.
    pub(super) counters: Vec<(String, u64)>,
}

impl std::fmt::Display for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for happened in &self.happened {
            writeln!(f, "{happened}")?;
        }
        for (name, value) in self.counters.iter().filter(|(_, value)| *value > 0) {
            writeln!(f, "{name} = {value}")?;
        }
        Ok(())
    }
}

/// The frames of packets that were written and not yet sent, by their headers.
#[derive(Debug, Default)]
struct Frames(Mutex<Vec<([u8; HEADER_BYTES], Vec<u8>)>>);

impl PacketTap for Frames {
    fn on_packet(&self, header: &[u8], frames: &[u8]) {
        if let Ok(header) = header.try_into() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((header, frames.to_vec()));
        }
    }
}

impl Frames {
    fn take(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = written.iter().position(|(header, _)| datagram.starts_with(header))?;
        Some(written.remove(index).1)
    }
}

/// What one datagram brings.
#[derive(Default)]
struct Inbox {
    opened: Option<ConnectionKey>,
    messages: Vec<(Channel, u64, usize)>,
}

impl MessageSink for Inbox {
    fn on_open(&mut self, from: ConnectionKey, _: &Ticket) {
        self.opened = Some(from);
    }

    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        let number = message.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        self.messages.push((channel, number, message.len()));
    }
}

struct Stage {
    now: Time,
    config: Arc<Config>,
    frames: Arc<Frames>,
    client: Option<Connection>,
    node: Endpoint,
    /// The node's name for the client.
    key: Option<ConnectionKey>,
    path: Path<Vec<u8>>,
    drops: Vec<Drop>,
    /// Datagrams and messages sent so far, by end.
    datagrams: [u64; 2],
    messages: [[u64; Channel::COUNT]; 2],
    lives: u8,
    strangers: u32,
    telling: Telling,
}

/// Lives through it. Besides what happened: steps that could not be done, and drops that found nothing.
pub(super) fn live(script: &Script) -> (Telling, Vec<Wrong>) {
    let mut stage = Stage::new(script);
    let mut wrong = Vec::new();
    let mut steps = script.steps.iter().peekable();
    for turn in 0.. {
        let next_step = steps.peek().map(|step| START + step.at);
        let Some(next) = stage.next_at().into_iter().chain(next_step).min() else { break };
        if next > START + script.until {
            break;
        }
        if turn == TURNS_MAX {
            wrong.push((1, format!("{TURNS_MAX} turns, and no end")));
            break;
        }
        stage.now = stage.now.max(next);
        while let Some(step) = steps.next_if(|step| START + step.at <= stage.now) {
            if let Err(why) = stage.act(&step.act) {
                wrong.push((step.line, format!("cannot be done: {why}")));
            }
        }
        stage.turn();
    }
    wrong.extend(steps.map(|step| (step.line, "comes after the end of the story".to_owned())));
    for Drop { line, who, .. } in &stage.drops {
        wrong.push((*line, format!("no such datagram to drop: the {} has sent none", who.name())));
    }
    stage.count();
    (stage.telling, wrong)
}

impl Stage {
    fn new(script: &Script) -> Self {
        let frames = Arc::new(Frames::default());
        let config = Arc::new(Config { tap: Some(frames.clone()), ..script.config.clone() });
        Self {
            now: START,
            node: node(&config, 0),
            config,
            frames,
            client: None,
            key: None,
            path: Path::new(script.network.clone(), 0),
            drops: Vec::new(),
            datagrams: [0; 2],
            messages: [[0; Channel::COUNT]; 2],
            lives: 0,
            strangers: 0,
            telling: Telling::default(),
        }
    }

    fn next_at(&self) -> Option<Time> {
        let client = self.client.as_ref().and_then(Connection::poll_timeout);
        client.into_iter().chain(self.node.poll_timeout()).chain(self.path.poll_timeout()).min()
    }

    fn act(&mut self, act: &Act) -> Result<(), String> {
        let now = self.now;
        match act {
            Act::Connect if self.client.is_some() => return Err("there is a client already".to_owned()),
            Act::Connect => self.client = Some(self.connection(0)?),
            Act::Send { who, channel, bytes } => return self.send(*who, *channel, *bytes),
            Act::Close { who: Who::Client, code } => self.client()?.close(now, *code, ""),
            Act::Close { who: Who::Node, code } => {
                let key = self.key()?;
                self.node.close(now, key, *code, "");
            }
            Act::Finish { who: Who::Client, code, within } => {
                self.client()?.finish(now, *code, "", now + *within);
            }
            Act::Finish { who: Who::Node, code, within } => {
                let key = self.key()?;
                self.node.finish(now, key, *code, "", now + *within);
            }
            Act::Rebind => {
                self.path.rebind();
            }
            Act::Move => {
                self.path.rebind();
                self.client()?.migrate(now);
            }
            Act::UpdateKeys if !self.client()?.update_keys() => {
                return Err("the connection cannot change its keys now".to_owned());
            }
            Act::RotateId if !self.client()?.rotate_connection_id(now) => {
                return Err("the connection has no other id".to_owned());
            }
            Act::UpdateKeys | Act::RotateId => {}
            Act::Restart => {
                self.lives += 1;
                self.node = node(&self.config, self.lives);
                self.key = None;
            }
            Act::Network(spec) => self.path.change(now, PathSpec::clone(spec)),
            Act::Knock(count) => return self.knock(*count),
            Act::Drop(drop) => self.drops.push(drop.clone()),
        }
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Connection, String> {
        self.client.as_mut().ok_or_else(|| "there is no client yet".to_owned())
    }

    fn key(&self) -> Result<ConnectionKey, String> {
        self.key.ok_or_else(|| "the node has no connection".to_owned())
    }

    fn send(&mut self, who: Who, channel: Channel, bytes: usize) -> Result<(), String> {
        let sent = &mut self.messages[who as usize][channel as usize];
        let number = *sent;
        *sent += 1;
        let mut message = vec![0; bytes.max(MESSAGE_BYTES_MIN)];
        message[..MESSAGE_BYTES_MIN].copy_from_slice(&number.to_be_bytes());
        let message = Bytes::from(message);
        match who {
            Who::Client => self.client()?.send(channel, message),
            Who::Node => {
                let key = self.key()?;
                self.node.send(key, channel, message)
            }
        }
        .map_err(|error| error.to_string())
    }

    /// The connection of the client (0), or of a stranger.
    fn connection(&self, number: u32) -> Result<Connection, String> {
        let [.., high, low] = number.to_be_bytes();
        let unique = [high, low, 1, 1, 1, 1, 1, 1, 1, 1];
        let id = Guuid::new(START_UNIX_MS, unique);
        let ticket = Ticket {
            session_id: id,
            writer_id: id.writer(),
            psk: PRE_SHARED_KEY,
            expires_unix_s: TICKET_EXPIRES_UNIX_S,
            grants: vec![Grant { pattern: "*".to_owned(), access: Access::Write }],
        };
        let mut nonce = [0; 12];
        nonce[..2].copy_from_slice(&[high, low]);
        let sealed =
            TicketKeyRing::new([TICKET_KEY]).seal(&ticket, nonce).map_err(|error| error.to_string())?;
        let mut entropy = [1; 32];
        entropy[..2].copy_from_slice(&[high, low]);
        Connection::connect(self.clocks(), self.config.clone(), id, &sealed, &PRE_SHARED_KEY, entropy)
            .map_err(|error| error.to_string())
    }

    fn knock(&mut self, count: u32) -> Result<(), String> {
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..count {
            self.strangers += 1;
            let mut stranger = self.connection(self.strangers)?;
            let Some(length) = stranger.poll_transmit(self.now, &mut buffer) else { continue };
            self.frames.take(&buffer[..length]);
            let from = SocketAddr::from((STRANGERS_IP, self.strangers as u16));
            let now = self.clocks();
            self.node.handle_datagram(now, from, &mut buffer[..length], &mut Inbox::default());
        }
        Ok(())
    }

    /// What is due arrives, timers that are due fire, and what the ends have to say leaves.
    fn turn(&mut self) {
        while let Some(delivery) = self.path.poll_packet(self.now) {
            let mut datagram = delivery.payload;
            match delivery.direction {
                Direction::Up => self.reach_node(delivery.mapping, &mut datagram),
                Direction::Down => self.reach_client(&mut datagram),
            }
        }
        if let Some(client) = &mut self.client
            && client.poll_timeout().is_some_and(|at| at <= self.now)
        {
            client.handle_timeout(self.now);
        }
        self.node.handle_timeout(self.now);
        self.flush_client();
        self.flush_node();
    }

    fn reach_node(&mut self, mapping: Mapping, datagram: &mut [u8]) {
        let mut inbox = Inbox::default();
        let from = SocketAddr::from((CLIENT_IP, CLIENT_PORT + mapping.0 as u16));
        let now = self.clocks();
        self.node.handle_datagram(now, from, datagram, &mut inbox);
        if let Some(key) = inbox.opened {
            self.key = Some(key);
            self.tell(Who::Node, What::Connected);
        }
        for (channel, number, bytes) in inbox.messages {
            self.tell(Who::Node, What::Delivered { channel, number });
            if let Some(key) = self.key.filter(|_| channel.is_reliable()) {
                self.node.consume(key, channel, bytes);
            }
        }
    }

    fn reach_client(&mut self, datagram: &mut [u8]) {
        let Some(client) = &mut self.client else { return };
        let mut inbox = Inbox::default();
        client.handle_datagram(self.now, datagram, &mut inbox);
        for &(channel, _, bytes) in inbox.messages.iter().filter(|(channel, ..)| channel.is_reliable()) {
            client.consume(channel, bytes);
        }
        for (channel, number, _) in inbox.messages {
            self.tell(Who::Client, What::Delivered { channel, number });
        }
    }

    fn flush_client(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        while let Some(length) =
            self.client.as_mut().and_then(|client| client.poll_transmit(self.now, &mut buffer))
        {
            if self.arrives(Who::Client, &buffer[..length]) {
                self.path.handle_up(self.now, buffer[..length].to_vec());
            }
        }
        while let Some(event) = self.client.as_mut().and_then(Connection::poll_event) {
            match event {
                Event::Connected => self.tell(Who::Client, What::Connected),
                Event::Closed(reason) => self.tell(Who::Client, What::Closed { code: reason.code }),
                Event::Writable | Event::Finishing => {}
            }
        }
    }

    fn flush_node(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        while let Some((to, length)) = self.node.poll_transmit(self.now, &mut buffer) {
            if to.ip() != SocketAddr::from((CLIENT_IP, 0)).ip() {
                self.frames.take(&buffer[..length]);
            } else if self.arrives(Who::Node, &buffer[..length]) {
                let mapping = Mapping(u32::from(to.port() - CLIENT_PORT));
                self.path.handle_down(self.now, mapping, buffer[..length].to_vec());
            }
        }
        while let Some((key, event)) = self.node.poll_event() {
            if let Event::Closed(reason) = event
                && self.key == Some(key)
            {
                self.tell(Who::Node, What::Closed { code: reason.code });
            }
        }
    }

    /// Tells of a datagram; false when the story drops it.
    fn arrives(&mut self, who: Who, datagram: &[u8]) -> bool {
        let sent = &mut self.datagrams[who as usize];
        let number = *sent;
        *sent += 1;
        let frames = self.frames.take(datagram);
        let mut trace = Trace::on();
        trace.on_sent(self.now, 0, who.name(), datagram, frames.as_deref());
        let text = trace.into_lines().pop().map(|line| line.what).unwrap_or_default();
        let is_meant = |drop: &Drop| {
            drop.who == who
                && drop.number.is_none_or(|which| which == number)
                && (drop.words.is_empty() || has_words(&text, &drop.words))
        };
        let found = self.drops.iter().position(is_meant);
        if let Some(index) = found {
            self.drops.remove(index);
        }
        self.tell(who, What::Sent { text, is_dropped: found.is_some() });
        found.is_none()
    }

    fn tell(&mut self, who: Who, what: What) {
        self.telling.happened.push(Happened { at: self.now.since(START), who, what });
    }

    fn count(&mut self) {
        let mut add = |place: &str, fields: &mut dyn Iterator<Item = (&'static str, u64)>| {
            self.telling.counters.extend(fields.map(|(name, value)| (format!("{place}.{name}"), value)));
        };
        if let Some(client) = &self.client {
            add("client", &mut client.stats().fields());
        }
        add("node", &mut self.node.connection_stats().fields());
        add("endpoint", &mut self.node.stats().fields());
    }

    fn clocks(&self) -> Now {
        Now { mono: self.now, unix_ms: START_UNIX_MS + self.now.as_us() / 1_000 }
    }
}

/// A node in one of its lives: what it draws differs, its keys for tickets and resets do not.
fn node(config: &Arc<Config>, life: u8) -> Endpoint {
    let mut node = Endpoint::new(config.clone(), EndpointLimits::default(), [life + 1; 32]);
    node.set_ticket_keys(TicketKeyRing::new([TICKET_KEY]));
    node.set_reset_key(ResetKey::new(&RESET_KEY));
    node
}
