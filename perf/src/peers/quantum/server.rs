//! The server: the loop of a shard without documents and log.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Instant;

use bytes::Bytes;
use quantum::{Channel, ConnectionKey, Endpoint, EndpointLimits, Event, MessageSink, Now, SendError};
use rt::{Clock, PacketRing, PacketRingConfig, Sent, Train};
use wire::{Span, Time};

use super::setup::{Issuer, bind_server, config, entropy, now};
use crate::peer::{MESSAGE_HEADER_BYTES, MessageHeader, Ready, Request, Responder};
use crate::peers::ServerContext;
use crate::result::Waiting;

/// Connections at once: more than any workload makes.
const CONNECTIONS_MAX: usize = 100_000;
/// Datagrams sent in one turn, so that what comes in is never kept waiting long.
const DATAGRAMS_PER_TURN: usize = 256;
/// How long it looks for work before it goes to sleep, as a shard with the policy `saver`.
const SPIN: Span = Span::ZERO;

/// Takes messages while the endpoint is borrowed.
#[derive(Default)]
struct Inbox {
    responder: Responder,
    /// Replies that the transport has not taken yet.
    replies: VecDeque<(ConnectionKey, Bytes)>,
    /// Who asks for the endpoint's counters.
    asking: Vec<(ConnectionKey, MessageHeader)>,
    /// Credit to give back.
    consumed: Vec<(ConnectionKey, usize)>,
}

impl MessageSink for Inbox {
    fn on_message(&mut self, from: ConnectionKey, _: Channel, message: &[u8]) {
        if let Some(header) =
            MessageHeader::read(message).filter(|header| header.request == Request::Counters)
        {
            self.asking.push((from, header));
        } else if let Some(reply) = self.responder.handle_message(message) {
            self.replies.push_back((from, Bytes::copy_from_slice(reply)));
        }
        match self.consumed.last_mut() {
            Some((key, bytes)) if *key == from => *bytes += message.len(),
            _ => self.consumed.push((from, message.len())),
        }
    }
}

/// How old the Unix time may be.
const UNIX_CLOCK_INTERVAL: Span = Span::from_ms(100);

struct Server {
    endpoint: Endpoint,
    ring: PacketRing,
    inbox: Inbox,
    clock: Clock,
    /// Read once in [`UNIX_CLOCK_INTERVAL`]: only tickets are held against it.
    unix_clock: Now,
}

/// Serves until the process is ended.
pub(super) fn serve(context: &ServerContext<'_>) -> io::Result<()> {
    let issuer = Issuer::generate()?;
    let limits = EndpointLimits {
        connections_max: CONNECTIONS_MAX,
        used_ids_max: CONNECTIONS_MAX,
        ..EndpointLimits::default()
    };
    let mut endpoint = Endpoint::new(config(context.packet_bytes), limits, entropy()?);
    endpoint.set_ticket_keys(issuer.keys());
    let ring = PacketRing::new(bind_server()?, PacketRingConfig::default()).map_err(io::Error::other)?;
    (context.ready)(Ready { address: ring.local_addr()?, secret: issuer.secret() });
    let clock = Clock::new();
    let mut server = Server { endpoint, ring, inbox: Inbox::default(), clock, unix_clock: now(clock) };
    let mut last_work = Time::ZERO;
    loop {
        let now = server.now();
        if server.turn(now)? {
            last_work = now.mono;
        } else if context.waiting == Waiting::Blocking && now.mono.since(last_work) >= SPIN {
            server.sleep(now.mono)?;
        }
        if context.waiting == Waiting::Polling {
            context.stalls.turn(Instant::now());
        }
    }
}

impl Server {
    fn now(&mut self) -> Now {
        let mono = self.clock.now();
        if mono.since(self.unix_clock.mono) >= UNIX_CLOCK_INTERVAL {
            self.unix_clock = now(self.clock);
        }
        Now { mono, ..self.unix_clock }
    }

    /// Returns whether there was anything to do.
    fn turn(&mut self, now: Now) -> io::Result<bool> {
        let (endpoint, inbox) = (&mut self.endpoint, &mut self.inbox);
        let polled = self
            .ring
            .poll(|arrival, datagram| {
                endpoint.handle_marked_datagram(now, arrival.from, arrival.ecn, datagram, inbox);
            })
            .map_err(io::Error::other)?;
        let is_due = self.endpoint.poll_timeout().is_some_and(|due| due <= now.mono);
        if polled.datagrams == 0 && !is_due {
            return Ok(polled.more);
        }
        self.answer();
        if is_due {
            self.endpoint.handle_timeout(now.mono);
        }
        let sent = self.transmit(now.mono)?;
        while let Some((_, event)) = self.endpoint.poll_event() {
            if event == Event::Writable {
                self.answer();
            }
        }
        Ok(polled.datagrams > 0 || polled.more || sent)
    }

    /// Hands the replies over, and gives credit back.
    fn answer(&mut self) {
        for (key, bytes) in self.inbox.consumed.drain(..) {
            self.endpoint.consume(key, Channel::Sync, bytes);
        }
        while let Some((key, header)) = self.inbox.asking.pop() {
            let counters: BTreeMap<_, _> = self.endpoint.stats().fields().collect();
            let mut reply = vec![0; MESSAGE_HEADER_BYTES];
            header.write(&mut reply);
            reply.extend_from_slice(serde_json::json!(counters).to_string().as_bytes());
            self.inbox.replies.push_back((key, reply.into()));
        }
        while let Some((key, reply)) = self.inbox.replies.pop_front() {
            // A reply to a connection that is gone goes with it.
            if self.endpoint.send(key, Channel::Sync, reply.clone()) == Err(SendError::Full) {
                self.inbox.replies.push_front((key, reply));
                return;
            }
        }
    }

    fn transmit(&mut self, now: Time) -> io::Result<bool> {
        let mut datagrams = 0;
        while datagrams < DATAGRAMS_PER_TURN {
            let endpoint = &mut self.endpoint;
            let datagrams_max = self.ring.train_datagrams_max();
            let sent = self.ring.send_train(|buffer| {
                let (to, train) = endpoint.poll_transmit_train(now, buffer, datagrams_max)?;
                datagrams += train.datagrams;
                let (bytes, segment_bytes) = (train.bytes, train.segment_bytes);
                Some(Train { to, bytes, segment_bytes, ecn: train.ecn })
            });
            if sent.map_err(io::Error::other)? != Sent::Queued {
                break;
            }
        }
        self.ring.flush().map_err(io::Error::other)?;
        Ok(datagrams > 0)
    }

    fn sleep(&mut self, now: Time) -> io::Result<()> {
        let until = self.endpoint.poll_timeout().map(|due| due.since(now).as_duration());
        self.ring.wait(until, || true).map_err(io::Error::other)?;
        Ok(())
    }
}
