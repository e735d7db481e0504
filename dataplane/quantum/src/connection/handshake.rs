//! The handshake (`PROTOCOL.md`, section "Handshake").

use std::net::SocketAddr;
use std::sync::Arc;

use snow::HandshakeState;
use thiserror::Error;
use wire::frame::{Frame, PARAMETERS_BYTES_MAX, Parameters, put_ack, put_parameters};
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::limits::{DATAGRAM_BYTES_MAX, INITIAL_DATAGRAM_BYTES, TICKET_BYTES_MAX};
use wire::varint::{Malformed, Reader, Writer};
use wire::{Code, Guuid, Header, OpenedTicket, PacketType, Time};
use zerocopy::IntoBytes;

use super::initial::{Initial, put_prologue};
use super::{Amplification, Connection, ConnectionKey, MessageSink, Now, Side, State};
use crate::config::{Config, ConfigError};
use crate::cookie::Cookie;
use crate::key_update::PhasedKeys;
use crate::keys::{EntropyPool, PacketKeys};
use crate::noise::{self, NOISE_OVERHEAD_BYTES};
use crate::reset::{ResetToken, put_token};

/// The frames of a reply: PARAMETERS and an ACK of the first packet.
const REPLY_PAYLOAD_BYTES_MAX: usize = PARAMETERS_BYTES_MAX + 3 + 8;

/// Why a connection cannot be begun.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConnectError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ticket is not one that a control plane would issue.
    #[error("ticket of {0} bytes is empty or over the limit of {TICKET_BYTES_MAX}: ask for a new one")]
    Ticket(usize),
}

/// The client's side until the node has answered.
pub(super) struct ClientHandshake {
    ticket: Vec<u8>,
    pub(super) psk: [u8; 32],
    /// Each first packet has an ephemeral key of its own: under one, two would share key and nonce.
    entropy: EntropyPool,
    pub(super) cookie: Option<Cookie>,
    audience: u64,
    /// Once begun.
    pub(super) begun: Option<FirstPacket>,
    /// The one without a cookie: the node may yet take it.
    pub(super) before_retry: Option<FirstPacket>,
}

/// A first packet as it was sent, and the Noise state in which its answer is read.
pub(super) struct FirstPacket {
    noise: HandshakeState,
    pub(super) datagram: Vec<u8>,
}

/// The node's side until the client has shown that it got the answer.
pub(super) struct NodeHandshake {
    reply: Vec<u8>,
    pub(super) is_reply_due: bool,
    /// The first packet has come from several addresses: it is not known at which the reply was read.
    pub(super) has_moved: bool,
    /// The end of the first packet, by which its repetitions are known.
    initial_tag: [u8; TAG_BYTES],
}

/// Why a first packet opens no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AcceptError {
    Ticket(Malformed),
    Forged,
    /// It is for another node.
    Audience,
}

/// What a node needs to accept a connection.
pub(crate) struct Acceptor<'a> {
    pub(crate) key: ConnectionKey,
    pub(crate) config: &'a Arc<Config>,
    pub(crate) reset_token: ResetToken,
    /// This node; zero: whoever.
    pub(crate) audience: u64,
    pub(crate) entropy: &'a mut EntropyPool,
    /// Where the first packet came from.
    pub(crate) from: SocketAddr,
}

impl Connection {
    /// Begins a connection of a client: `id` names the shard in its last byte, `ticket` and `psk` are the
    /// control plane's, `entropy` is 32 random bytes never used before. Queue what should ride in the first
    /// packet before the first [`poll_transmit`](Self::poll_transmit).
    pub fn connect(
        now: Now,
        config: Arc<Config>,
        id: Guuid,
        ticket: &[u8],
        psk: &[u8; 32],
        entropy: [u8; 32],
    ) -> Result<Self, ConnectError> {
        config.validate()?;
        if ticket.is_empty() || ticket.len() > TICKET_BYTES_MAX {
            return Err(ConnectError::Ticket(ticket.len()));
        }
        let mut connection = Self::new(ConnectionKey::default(), id, Side::Client, now.mono, config);
        let handshake = ClientHandshake {
            ticket: ticket.to_vec(),
            psk: *psk,
            entropy: EntropyPool::new(entropy),
            cookie: None,
            audience: 0,
            begun: None,
            before_retry: None,
        };
        connection.client_handshake = Some(Box::new(handshake));
        Ok(connection)
    }

    /// Says which node the connection is for, as [`audience`](crate::audience) names it: another one that gets hold of
    /// the first packet refuses it. Before the first [`poll_transmit`](Self::poll_transmit); without, any node takes it.
    pub fn set_audience(&mut self, audience: u64) {
        if let Some(handshake) = &mut self.client_handshake {
            handshake.audience = audience;
        }
    }

    /// Writes the first packet, or repeats it when a probe is due.
    pub(super) fn transmit_initial(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        if buffer.len() < INITIAL_DATAGRAM_BYTES {
            return None;
        }
        let mut handshake = self.client_handshake.take()?;
        let length = match &handshake.begun {
            Some(FirstPacket { datagram, .. }) if self.loss.probes_due() > 0 => {
                buffer[..datagram.len()].copy_from_slice(datagram);
                self.loss.on_sent(now, true);
                Some(datagram.len())
            }
            Some(_) => None,
            None => self.begin(now, &mut handshake, buffer),
        };
        if self.state == State::Handshaking {
            self.client_handshake = Some(handshake);
        }
        length
    }

    fn begin(&mut self, now: Time, handshake: &mut ClientHandshake, buffer: &mut [u8]) -> Option<usize> {
        let datagram = &mut buffer[..INITIAL_DATAGRAM_BYTES];
        let header = Header::new(PacketType::Initial, self.id, self.sent.next_number(), now.as_us() as u32);
        let noise_offset = put_prologue(datagram, &header, handshake.cookie.as_ref(), &handshake.ticket);
        let (prologue, message) = datagram.split_at_mut(noise_offset);

        // What is not written stays zero: padding.
        let mut payload = [0; INITIAL_DATAGRAM_BYTES];
        let payload = &mut payload[..message.len() - NOISE_OVERHEAD_BYTES];
        let mut out = Writer::new(payload);
        put_parameters(&mut out, &Parameters { audience: handshake.audience, ..self.config.parameters() });
        self.write_messages(now, &mut out);
        self.finish_packet(now, INITIAL_DATAGRAM_BYTES, true);
        if let Some(tap) = &self.config.tap {
            tap.on_packet(header.as_bytes(), payload);
        }

        let written = noise::initiator(&handshake.psk, prologue, handshake.entropy.draw())
            .and_then(|mut noise| noise.write_message(payload, message).map(|_| noise));
        let Ok(noise) = written else {
            self.violation(now, Code::Protocol, "the handshake cannot be begun with these keys");
            return None;
        };
        handshake.begun = Some(FirstPacket { noise, datagram: datagram.to_vec() });
        Some(INITIAL_DATAGRAM_BYTES)
    }

    /// The node's answer, on a client.
    pub(super) fn handle_reply(&mut self, now: Time, datagram: &[u8], sink: &mut impl MessageSink) {
        let mut payload = [0; DATAGRAM_BYTES_MAX];
        let Some(handshake) = &mut self.client_handshake else {
            self.stats.unexpected += 1;
            return;
        };
        let mut packets = handshake.begun.iter_mut().chain(&mut handshake.before_retry);
        let read = packets.find_map(|packet| {
            let length = packet.noise.read_message(&datagram[HEADER_BYTES..], &mut payload).ok()?;
            Some((packet.noise.dangerously_get_raw_split(), length))
        });
        let Some((secrets, length)) = read else {
            self.stats.forged_packet += 1;
            return;
        };
        let entropy = handshake.entropy.draw();
        self.keys = Some(PhasedKeys::new(PacketKeys::new(secrets, true), self.sent.next_number()));
        self.client_handshake = None;
        self.state = State::Established;
        self.begin_ids(now, entropy);
        self.ecn.begin_path(self.config.ecn, self.sent.next_number());
        self.deadline = None;
        self.last_received = now;
        self.stats.datagrams_received += 1;
        self.stats.bytes_received += datagram.len() as u64;
        self.replay.insert(0);
        self.connected();
        self.handle_payload(now, 0, &payload[..length], sink);
        self.require_parameters(now);
        // The node waits for a sign that its answer has arrived.
        self.acks.hurry(now);
    }

    fn require_parameters(&mut self, now: Time) {
        if self.expects_parameters && !self.is_closed() {
            self.violation(now, Code::Protocol, "a handshake without parameters");
        }
    }

    /// Opens a connection for a first packet, on a node. Nothing is kept and nobody is told when it fails.
    pub(crate) fn accept(
        acceptor: Acceptor<'_>,
        now: Now,
        (initial, ticket): (&Initial<'_>, &OpenedTicket<'_>),
        sink: &mut impl MessageSink,
    ) -> Result<Self, AcceptError> {
        let Acceptor { key, config, reset_token, audience, entropy, from } = acceptor;
        let forged = |_| AcceptError::Forged;
        let mut noise = noise::responder(&ticket.psk, initial.prologue, entropy.draw()).map_err(forged)?;
        let mut payload = [0; DATAGRAM_BYTES_MAX];
        let length = noise.read_message(initial.message, &mut payload).map_err(forged)?;
        if !is_for(audience, &payload[..length]) {
            return Err(AcceptError::Audience);
        }
        let ticket = ticket.to_ticket().map_err(AcceptError::Ticket)?;

        let reply = write_reply(&mut noise, now, initial, config, &reset_token).map_err(forged)?;
        let now = now.mono;
        let mut connection = Self::new(key, initial.id, Side::Node, now, config.clone());
        connection.sent.skip();
        connection.ecn.begin_path(config.ecn, connection.sent.next_number());
        let keys = PacketKeys::new(noise.dangerously_get_raw_split(), false);
        connection.keys = Some(PhasedKeys::new(keys, connection.sent.next_number()));
        connection.remote = from;
        let initial_tag = initial.tag();
        connection.node_handshake =
            Some(Box::new(NodeHandshake { reply, is_reply_due: true, has_moved: false, initial_tag }));
        let received_bytes = (initial.prologue.len() + initial.message.len()) as u64;
        connection.amplification = Amplification { is_validated: false, received_bytes, sent_bytes: 0 };
        connection.stats.datagrams_received += 1;
        connection.stats.bytes_received += received_bytes;
        connection.replay.insert(initial.number);
        sink.on_open(key, &ticket);
        connection.session = Some(Arc::new(ticket));
        connection.connected();
        connection.handle_payload(now, initial.number, &payload[..length], sink);
        connection.require_parameters(now);
        // The reply acknowledges the first packet.
        connection.acks.settle();
        Ok(connection)
    }

    /// Writes the reply, on a node.
    pub(super) fn transmit_reply(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let room = self.datagram_room(buffer);
        let handshake = self.node_handshake.as_mut()?;
        let length = handshake.reply.len();
        if !handshake.is_reply_due || length > room {
            return None;
        }
        handshake.is_reply_due = false;
        buffer[..length].copy_from_slice(&handshake.reply);
        Some(length)
    }

    /// A first packet for a connection that exists: the reply may have been lost, or the client may have moved before it
    /// got one.
    pub(super) fn handle_repeated_initial(&mut self, from: Option<SocketAddr>, datagram: &[u8]) {
        let is_same = |handshake: &NodeHandshake| datagram.ends_with(&handshake.initial_tag);
        match &mut self.node_handshake {
            Some(handshake) if datagram.len() >= INITIAL_DATAGRAM_BYTES && is_same(handshake) => {
                handshake.is_reply_due = true;
                if let Some(from) = from.filter(|from| *from != self.remote) {
                    handshake.has_moved = true;
                    self.remote = from;
                    self.amplification = Amplification::default();
                }
                self.amplification.received_bytes += datagram.len() as u64;
            }
            _ => self.stats.replayed += 1,
        }
    }
}

/// Whether a first packet, which begins with PARAMETERS, is for `audience`.
fn is_for(audience: u64, payload: &[u8]) -> bool {
    let meant = match Frame::decode(&mut Reader::new(payload)) {
        Ok(Frame::Parameters(parameters)) => parameters.audience,
        // What is wrong with it is said when the connection reads it.
        _ => 0,
    };
    meant == 0 || audience == 0 || meant == audience
}

fn write_reply(
    noise: &mut HandshakeState,
    now: Now,
    initial: &Initial<'_>,
    config: &Config,
    reset_token: &ResetToken,
) -> Result<Vec<u8>, snow::Error> {
    let mut payload = [0; REPLY_PAYLOAD_BYTES_MAX];
    let mut out = Writer::new(&mut payload);
    let mut parameters = config.parameters();
    put_token(&mut parameters, reset_token);
    parameters.unix_ms = now.unix_ms;
    put_parameters(&mut out, &parameters);
    put_ack(&mut out, 0, std::iter::once((initial.number, initial.number)));
    let length = out.len();
    let mut reply = vec![0; HEADER_BYTES + length + NOISE_OVERHEAD_BYTES];
    let header = Header::new(PacketType::Handshake, initial.id, 0, now.mono.as_us() as u32);
    reply[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    if let Some(tap) = &config.tap {
        tap.on_packet(header.as_bytes(), &payload[..length]);
    }
    noise.write_message(&payload[..length], &mut reply[HEADER_BYTES..])?;
    Ok(reply)
}
