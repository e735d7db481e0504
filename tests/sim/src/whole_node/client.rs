//! Clients: their connections to the shards, and what they do in their documents.

use bytes::Bytes;
use netem::Path;
use quantum::{Connection, ConnectionKey, Event, MessageSink, Now, SendError};
use wire::sync::{Channel, Client as Message, DocumentKind, Server};
use wire::{Access, Code, Ecn, Grant, Guuid, Span, Ticket, Time, partition_of};

use super::oracle::Content;
use super::plan::Role;
use super::session::{Effect, Phase, SPARE_COUNTERS, Session};
use super::yjs::{self, Letters};
use super::{BUFFER_BYTES, Task, World, unix_ms};
use crate::datagram::Datagram;
use crate::draw::Draw;
use crate::invariants::{Check, Invariant};

/// Tickets of a world are good for all of it, seconds.
const TICKET_LIFE_S: u64 = 3_600;
/// A client comes back after so long at first, then after twice as long each time.
const BACKOFF_US: (u64, u64) = (5_000, 400_000);
/// So many ops are looked at for one that the client has seen.
const LETTER_TRIES: usize = 8;
/// Yjs ids of clients begin here; a process that takes another's place has the next.
const YJS_ID_BASE: u64 = 1_000;
const YJS_IDS_PER_CLIENT: u64 = 16;

/// A process with a session.
pub(super) struct Client {
    pub(super) is_alive: bool,
    /// How often another process has taken its place.
    generation: u64,
    writer: Guuid,
    ticket: Vec<u8>,
    psk: [u8; 32],
    counter: u64,
    pub(super) sessions: Vec<Session>,
    /// Letters written, by part.
    clocks: Vec<u32>,
    /// It reads nothing.
    pub(super) is_deaf: bool,
}

/// The way from a client to a shard.
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) shard: usize,
    pub(super) path: Path<Datagram>,
    pub(super) connection: Option<Connection>,
    pub(super) wake: Option<Time>,
    pub(super) is_touched: bool,
    backoff_us: u64,
    pub(super) retry_at: Time,
    /// Whose part a document number of the node is.
    numbers: Vec<(u32, usize)>,
    /// Presence of documents whose numbers are not known: it has overtaken the answer to the join.
    early: Vec<(u32, Vec<u8>)>,
    /// Read and not given back yet.
    unread: Vec<(Channel, usize)>,
}

impl Link {
    pub(super) const fn new(client: usize, shard: usize, path: Path<Datagram>) -> Self {
        Self {
            client,
            shard,
            path,
            connection: None,
            wake: None,
            is_touched: false,
            backoff_us: BACKOFF_US.0,
            retry_at: Time::ZERO,
            numbers: Vec::new(),
            early: Vec::new(),
            unread: Vec::new(),
        }
    }
}

/// What a connection delivers.
#[derive(Default)]
pub(super) struct Inbox(Vec<(Channel, Vec<u8>)>);

impl MessageSink for Inbox {
    fn on_message(&mut self, _: ConnectionKey, channel: Channel, message: &[u8]) {
        self.0.push((channel, message.to_vec()));
    }
}

impl World {
    /// A client that has not begun.
    pub(super) const fn idle_client() -> Client {
        Client {
            is_alive: false,
            generation: 0,
            writer: Guuid::NIL,
            ticket: Vec::new(),
            psk: [0; 32],
            counter: 0,
            sessions: Vec::new(),
            clocks: Vec::new(),
            is_deaf: false,
        }
    }

    /// A process begins, with a session from the control plane and nothing else.
    pub(super) fn begin_client(&mut self, number: usize) {
        let session_id = self.guuid();
        let psk = self.random.bytes32();
        let ticket = Ticket {
            session_id,
            writer_id: session_id.writer(),
            psk,
            expires_unix_s: unix_ms(self.now) / 1_000 + TICKET_LIFE_S,
            grants: vec![Grant { pattern: "*".to_owned(), access: Access::Admin }],
        };
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.random.bytes32()[..12]);
        let sealed = self.node.keys().seal(&ticket, nonce).expect("a ticket with one grant fits");
        let plan = &self.plan.clients[number];
        let generation = self.clients[number].generation + 1;
        let presence = YJS_ID_BASE + number as u64 * YJS_IDS_PER_CLIENT + generation;
        let mut sessions = Vec::new();
        for (index, part) in plan.parts.iter().enumerate() {
            let document = &self.plan.documents[part.document];
            let owner = partition_of(&document.name, self.plan.partitions) as usize % self.plan.shards;
            let is_wrong = self.random.percent(plan.wrong_guesses);
            let shard = if is_wrong { self.random.below(self.plan.shards as u64) as usize } else { owner };
            let document = (part.document, document.name.as_str(), document.kind);
            let mut session = Session::new(index, document, part.role, ticket.writer_id, shard, presence);
            session.tells_vector = plan.tells_vector;
            self.counts.joins_elsewhere += u64::from(shard != owner);
            sessions.push(session);
            if part.role == Role::Writer {
                self.agenda.add(self.now, Task::Edit { client: number, generation, part: index, done: 0 });
            }
            if part.is_present {
                self.agenda.add(self.now, Task::Announce { client: number, generation, part: index });
            }
            for (at, is_end) in [(part.asks, false), (part.deletes, true)] {
                if let Some(at) = at {
                    let at = at.max(self.now);
                    self.agenda.add(at, Task::Ask { client: number, generation, part: index, is_end });
                }
            }
            if let Some(at) = part.leaves {
                let at = at.max(self.now);
                self.agenda.add(at, Task::Leave { client: number, generation, part: index });
            }
        }
        self.clients[number] = Client {
            is_alive: true,
            generation,
            writer: ticket.writer_id,
            ticket: sealed,
            psk,
            counter: 0,
            clocks: vec![0; sessions.len()],
            sessions,
            is_deaf: false,
        };
        self.say_client(number, || format!("begins, as writer {}", ticket.writer_id));
        self.pump_client(number);
    }

    /// A process dies: nothing of it is left but what the node has.
    pub(super) fn end_client(&mut self, number: usize, returns: bool) {
        if !self.clients[number].is_alive {
            return;
        }
        self.say_client(number, || "dies".to_owned());
        self.clients[number].is_alive = false;
        for link in self.links.iter_mut().filter(|link| link.client == number) {
            link.connection = None;
            link.wake = None;
            link.unread.clear();
            link.path.rebind();
        }
        if returns {
            let at = self.now + Span::from_us(self.random.between(1_000, 100_000));
            self.agenda.add(at, Task::Begin { client: number });
        } else {
            self.clients[number].sessions.clear();
        }
    }

    fn is_current(&self, client: usize, generation: u64) -> bool {
        self.clients[client].is_alive && self.clients[client].generation == generation
    }

    /// The application of a client has something to say.
    pub(super) fn edit(&mut self, client: usize, generation: u64, part: usize, mut done: u32) {
        if !self.is_current(client, generation) || self.clients[client].sessions[part].is_leaving {
            return;
        }
        let plan = self.plan.clients[client].parts[part].clone();
        for _ in 0..plan.burst.min(plan.ops - done) {
            self.say_op(client, part, plan.op_bytes_max);
            done += 1;
        }
        if done < plan.ops && self.now < self.plan.heal_at {
            self.agenda.add(self.now + plan.interval, Task::Edit { client, generation, part, done });
        }
        self.pump_client(client);
    }

    fn say_op(&mut self, client: usize, part: usize, bytes_max: u64) {
        let bytes = self.random.scaled_between(1, bytes_max) as usize;
        let document = self.clients[client].sessions[part].document;
        let (payload, letters) = match self.plan.documents[document].kind {
            DocumentKind::Opaque => (self.opaque_payload(bytes), None),
            DocumentKind::Yjs => self.yjs_payload(client, part, bytes),
        };
        let process = &mut self.clients[client];
        process.counter += 1 + SPARE_COUNTERS;
        let counter = process.counter;
        let op = process.writer.with_counter(counter);
        let content = self.oracle.on_said(Content { document, payload: payload.clone(), letters, op });
        process.sessions[part].push(counter, content, &payload);
        if let Some(letters) = letters {
            let view = &mut process.sessions[part].view;
            view.letters.merge_with(letters.set());
            view.updates.push(payload);
        }
        let name = self.oracle.name(document);
        self.trace.say(self.now, &format!("client {client}"), || {
            format!("says op {counter} in {name} ({bytes} B)")
        });
    }

    /// No two are the same, and no sector of it is all zero.
    fn opaque_payload(&mut self, bytes: usize) -> Bytes {
        let mut payload = Vec::with_capacity(bytes + 16);
        while payload.len() < bytes.max(8) {
            payload.extend_from_slice(&(self.random.next_u64() | 1).to_le_bytes());
        }
        payload.into()
    }

    fn yjs_payload(&mut self, client: usize, part: usize, count: usize) -> (Bytes, Option<Letters>) {
        let presence = self.clients[client].sessions[part].presence.client;
        let clock = self.clients[client].clocks[part];
        let letters = Letters { client: presence, clock, count: count as u32 };
        self.clients[client].clocks[part] += count as u32;
        let own = (clock > 0).then(|| (presence, clock - 1));
        let origin = if self.random.percent(30) { self.any_letter(client, part).or(own) } else { own };
        let text: String = (0..count).map(|_| char::from(b'a' + self.random.below(26) as u8)).collect();
        (yjs::insert(letters, origin, &text).into(), Some(letters))
    }

    /// A letter that a client has seen, of anybody.
    fn any_letter(&mut self, client: usize, part: usize) -> Option<(u64, u32)> {
        let session = &self.clients[client].sessions[part];
        let contents = self.oracle.contents_count();
        (0..LETTER_TRIES).find_map(|_| {
            let content = self.oracle.any_content(self.random.below(contents.max(1)))?;
            let letters = content.letters.filter(|_| content.document == session.document)?;
            letters.is_in(&session.view.letters).then(|| letters.last())
        })
    }

    /// A client tells what it does at the moment.
    pub(super) fn announce(&mut self, client: usize, generation: u64, part: usize) {
        if !self.is_current(client, generation) {
            return;
        }
        let presence = &mut self.clients[client].sessions[part].presence;
        presence.clock += 1;
        presence.is_sent = false;
        if self.now < self.plan.heal_at {
            let after = Span::from_us(self.random.scaled_between(5_000, 500_000));
            self.agenda.add(self.now + after, Task::Announce { client, generation, part });
        }
        self.pump_client(client);
    }

    /// A client wants to close a document, once its ops are safe.
    pub(super) fn leave(&mut self, client: usize, generation: u64, part: usize) {
        if self.is_current(client, generation) {
            self.clients[client].sessions[part].is_leaving = true;
            self.pump_client(client);
        }
    }

    /// A client wants a version and the past of a document, or its end.
    pub(super) fn ask(&mut self, client: usize, generation: u64, part: usize, is_end: bool) {
        if !self.is_current(client, generation) {
            return;
        }
        let session = &mut self.clients[client].sessions[part];
        if is_end {
            session.requests.want_delete();
        } else {
            session.requests.name = format!("of client {client}");
            session.requests.want_past(session.seen);
        }
        self.pump_client(client);
    }

    /// Hands the connections of a client what there is to send.
    pub(super) fn pump_client(&mut self, client: usize) {
        if !self.clients[client].is_alive {
            return;
        }
        for part in 0..self.clients[client].sessions.len() {
            self.pump(client, part);
        }
    }

    fn pump(&mut self, client: usize, part: usize) {
        let shard = self.clients[client].sessions[part].shard;
        let link = client * self.plan.shards + shard;
        if self.clients[client].sessions[part].phase == Phase::Left || !self.open_link(link) {
            return;
        }
        self.tell_node(client, part);
        let now = self.now;
        let session = &mut self.clients[client].sessions[part];
        let Link { connection: Some(connection), is_touched, .. } = &mut self.links[link] else { return };
        let mut send = |channel, message: Bytes| match connection.send(channel, message) {
            Ok(()) => {
                *is_touched = true;
                true
            }
            Err(SendError::Full | SendError::Closed | SendError::TooLarge { .. } | SendError::Deadline) => {
                false
            }
        };
        if let Phase::Offline(until) = session.phase {
            if until > now {
                self.pumps.insert((until, client));
                return;
            }
            let (seen, name) = (session.seen, session.name.clone());
            let join = session.join(&self.oracle);
            if !send(Channel::Sync, join.into()) {
                session.phase = Phase::Offline(now);
                return;
            }
            self.trace.say(now, &format!("client {client}"), || {
                format!("joins {name} on shard {shard}, having seen op {seen}")
            });
        }
        while let Some(op) = session.next_op(now) {
            if !send(Channel::Sync, op) {
                return;
            }
            session.mark_sent();
        }
        if now < session.paused_until {
            self.pumps.insert((session.paused_until, client));
        }
        if let Some(presence) = session.next_presence()
            && send(Channel::Presence, presence.into())
        {
            session.presence.is_sent = true;
        }
        if session.phase == Phase::Joined {
            match session.requests.next(now, session.handle()) {
                Ok((request, message)) if send(Channel::Sync, message.clone()) => {
                    if request == 1 {
                        self.oracle.on_delete_asked(session.document);
                    }
                    session.requests.mark_sent(request);
                    self.pumps.insert((now, client));
                    let name = session.name.clone();
                    self.trace.say(now, &format!("client {client}"), || {
                        format!("sends request {request} for {name}")
                    });
                }
                Err(Some(at)) => {
                    self.pumps.insert((at, client));
                }
                Ok(_) | Err(None) => {}
            }
        }
        if session.is_leaving
            && session.phase == Phase::Joined
            && session.unacked.is_empty()
            && session.requests.is_done()
        {
            let handle = session.handle();
            if send(Channel::Sync, Message::Leave { handle }.to_vec().into()) {
                session.phase = Phase::Left;
                let name = session.name.clone();
                self.trace.say(now, &format!("client {client}"), || format!("leaves {name}"));
            }
        }
    }

    /// Says again what the client has seen and the node lacks: a crash may have taken what was shown before it was safe.
    fn tell_node(&mut self, client: usize, part: usize) {
        let process = &mut self.clients[client];
        let session = &mut process.sessions[part];
        if session.phase != Phase::Joined || session.assembly_is_open() {
            return;
        }
        let Some(vector) = session.node_vector.take() else { return };
        let own = session.presence.client;
        let lacking: Vec<(usize, Letters, Bytes)> = self
            .oracle
            .contents_of(session.document)
            .filter_map(|(number, content)| Some((number, content.letters?, content.payload.clone())))
            .filter(|(_, letters, _)| letters.is_in(&session.view.letters) && !yjs::covers(&vector, *letters))
            .collect();
        let free = session.begin_telling();
        // What it has said itself comes anyway; with it the rest would wait for what lies between.
        if lacking.iter().all(|(_, letters, _)| letters.client == own) {
            return;
        }
        let mut free = free.unwrap_or(process.counter + 1..u64::MAX);
        for (content, _, payload) in lacking {
            let counter = free.next().expect("more counters are spared than ops are lost");
            process.counter = process.counter.max(counter);
            self.oracle.on_said_again(process.writer.with_counter(counter), content);
            session.push_again(counter, content, &payload);
            let first = self.oracle.content(content).op;
            self.trace.say(self.now, &format!("client {client}"), || {
                format!("says again what the node lacks: {first}, as op {counter}")
            });
        }
    }

    /// Whether there is a connection to send on; begins one when it is time.
    fn open_link(&mut self, number: usize) -> bool {
        let now = self.now;
        let link = &self.links[number];
        if link.connection.is_some() {
            return true;
        }
        let (client, shard) = (link.client, link.shard);
        if link.retry_at > now {
            self.pumps.insert((link.retry_at, client));
            return false;
        }
        let id = self.guuid().with_shard(shard as u8);
        let entropy = self.random.bytes32();
        let process = &self.clients[client];
        let at = Now { mono: now, unix_ms: unix_ms(now) };
        let connection =
            Connection::connect(at, self.client_config.clone(), id, &process.ticket, &process.psk, entropy);
        let link = &mut self.links[number];
        link.connection = Some(connection.expect("a drawn configuration is valid"));
        link.is_touched = true;
        link.numbers.clear();
        link.early.clear();
        link.unread.clear();
        // A socket of its own.
        link.path.rebind();
        self.say_client(client, || format!("connects to shard {shard}"));
        true
    }

    /// A datagram reaches a client.
    pub(super) fn reach_client(&mut self, number: usize, ecn: Ecn, bytes: &mut [u8]) -> Check {
        let link = &mut self.links[number];
        let Some(connection) = &mut link.connection else { return Ok(()) };
        link.is_touched = true;
        let mut inbox = std::mem::take(&mut self.inbox);
        connection.handle_marked_datagram(self.now, ecn, bytes, &mut inbox);
        let result =
            inbox.0.drain(..).try_for_each(|(channel, message)| self.on_message(number, channel, &message));
        self.inbox = inbox;
        result?;
        self.take_events(number)
    }

    fn on_message(&mut self, number: usize, channel: Channel, message: &[u8]) -> Check {
        self.messages += 1;
        let client = self.links[number].client;
        self.links[number].unread.push((channel, message.len()));
        if !self.clients[client].is_deaf {
            self.give_credit(number);
        }
        self.digest.word(number as u64);
        self.take_message(number, message)
    }

    fn take_message(&mut self, number: usize, bytes: &[u8]) -> Check {
        let client = self.links[number].client;
        let Ok(message) = Server::decode(bytes) else {
            return Err((Invariant::ReliableDelivery, "the node sends what does not decode".to_owned()));
        };
        let part = match &message {
            Server::Joined(joined) => joined.handle as usize - 1,
            Server::Ack { handle, .. }
            | Server::Reject { handle, .. }
            | Server::Moved { handle, .. }
            | Server::Advice { handle, .. }
            | Server::Error { handle, .. }
            | Server::Done { handle, .. }
            | Server::Versions { handle, .. }
            | Server::PastState { handle, .. }
            | Server::Refused { handle, .. } => *handle as usize - 1,
            Server::Past(past) => past.handle as usize - 1,
            Server::State { document, .. }
            | Server::Op { document, .. }
            | Server::Presence { document, .. } => {
                let known = self.links[number].numbers.iter().find(|(known, _)| known == document);
                let Some(&(_, part)) = known else {
                    if matches!(message, Server::Presence { .. }) {
                        self.links[number].early.push((*document, bytes.to_vec()));
                    }
                    return Ok(());
                };
                part
            }
        };
        if self.clients[client].sessions[part].shard != self.links[number].shard {
            return Ok(());
        }
        self.tell_message(client, part, &message);
        let session = &mut self.clients[client].sessions[part];
        match session.handle_message(self.now, &message, &mut self.oracle)? {
            Effect::None => {}
            Effect::Joined { document } => {
                let numbers = &mut self.links[number].numbers;
                numbers.retain(|(known, found)| *known != document && *found != part);
                numbers.push((document, part));
                self.links[number].backoff_us = BACKOFF_US.0;
                let early = std::mem::take(&mut self.links[number].early);
                let (mine, others) = early.into_iter().partition(|(known, _)| *known == document);
                self.links[number].early = others;
                let mine: Vec<(u32, Vec<u8>)> = mine;
                mine.iter().try_for_each(|(_, message)| self.take_message(number, message))?;
            }
            Effect::Moved { shard } => {
                if shard >= self.plan.shards {
                    return Err((
                        Invariant::StatedReason,
                        format!("the node sends a client to shard {shard}"),
                    ));
                }
                session.disconnect(self.now);
                session.shard = shard;
            }
        }
        self.pump(client, part);
        Ok(())
    }

    /// What was read is done with.
    pub(super) fn give_credit(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.is_touched = true;
        if let Some(connection) = &mut link.connection {
            link.unread.drain(..).for_each(|(channel, bytes)| connection.consume(channel, bytes));
        }
    }

    /// What the connections of a client have to say themselves.
    pub(super) fn take_events(&mut self, number: usize) -> Check {
        while let Some(event) = self.links[number].connection.as_mut().and_then(Connection::poll_event) {
            let client = self.links[number].client;
            match event {
                Event::Connected | Event::Finishing => {}
                Event::Writable => self.pump_client(client),
                Event::Closed(reason) => {
                    let known = Code::from_u16(reason.code);
                    if matches!(
                        known,
                        Some(Code::MalformedMessage | Code::Protocol | Code::FlowControl) | None
                    ) {
                        return Err((Invariant::StatedReason, format!("a connection ends: {reason}")));
                    }
                    let shard = self.links[number].shard;
                    self.say_client(client, || format!("has lost its connection to shard {shard}: {reason}"));
                    self.lose_connection(number);
                }
            }
        }
        Ok(())
    }

    /// All clients notice at once that the node is gone.
    pub(super) fn lose_connections(&mut self) {
        let open = |link: &usize| self.links[*link].connection.is_some();
        for number in (0..self.links.len()).filter(open).collect::<Vec<_>>() {
            self.lose_connection(number);
        }
    }

    fn lose_connection(&mut self, number: usize) {
        let link = &mut self.links[number];
        let (client, shard) = (link.client, link.shard);
        link.connection = None;
        link.wake = None;
        let pause_us = self.random.between(link.backoff_us / 2, link.backoff_us);
        link.backoff_us = (link.backoff_us * 2).min(BACKOFF_US.1);
        link.retry_at = self.now + Span::from_us(pause_us);
        self.pumps.insert((link.retry_at, client));
        let now = self.now;
        let sessions = self.clients[client].sessions.iter_mut();
        sessions.filter(|session| session.shard == shard).for_each(|session| session.disconnect(now));
    }

    /// Timers and datagrams of a client's connection.
    pub(super) fn flush_link(&mut self, number: usize) -> Check {
        let now = self.now;
        if self.links[number].wake.is_some_and(|at| at <= now) {
            self.links[number].is_touched = true;
            if let Some(connection) = &mut self.links[number].connection {
                connection.handle_timeout(now);
            }
            self.take_events(number)?;
        }
        if !std::mem::take(&mut self.links[number].is_touched) {
            return Ok(());
        }
        let mut buffer = [0; BUFFER_BYTES];
        while let Some(length) = self.links[number]
            .connection
            .as_mut()
            .and_then(|connection| connection.poll_transmit(now, &mut buffer))
        {
            let datagram = self.datagram(&buffer[..length]);
            self.links[number].path.handle_up(now, datagram);
        }
        self.take_events(number)?;
        let link = &mut self.links[number];
        link.wake = link.connection.as_ref().and_then(Connection::poll_timeout);
        Ok(())
    }

    fn tell_message(&mut self, client: usize, part: usize, message: &Server<'_>) {
        if !self.trace.is_on() {
            return;
        }
        let session = &self.clients[client].sessions[part];
        let name = &session.name;
        let what = match message {
            Server::Joined(joined) => format!(
                "is in {name}: run {}, op {}, {} B of state follow",
                joined.incarnation, joined.sequence, joined.state_bytes
            ),
            Server::State { bytes, .. } => format!("gets {} B of the state of {name}", bytes.len()),
            Server::Op { sequence, .. } => format!("is shown op {sequence} of {name}"),
            Server::Ack { counter, sequence, .. } => {
                format!("hears that its ops up to {counter} are safe in {name}, the last as op {sequence}")
            }
            Server::Reject { counter, code, .. } => {
                format!("hears that op {counter} is refused in {name}: {code}")
            }
            Server::Presence { entries, .. } => format!("hears who is in {name}: {} changed", entries.len()),
            Server::Moved { shard, .. } => format!("hears that {name} is on shard {shard}"),
            Server::Advice { shard, .. } => format!("hears that {name} is better asked for on shard {shard}"),
            Server::Error { code, text, .. } => format!("hears of {name}: {code}: {text}"),
            Server::Done { request, .. }
            | Server::Versions { request, .. }
            | Server::PastState { request, .. }
            | Server::Refused { request, .. } => format!("hears of request {request} for {name}"),
            Server::Past(past) => format!("hears of request {} for {name}", past.request),
        };
        self.say_client(client, || what);
    }

    pub(super) fn say_client(&mut self, client: usize, what: impl FnOnce() -> String) {
        self.trace.say(self.now, &format!("client {client}"), what);
    }

    fn guuid(&mut self) -> Guuid {
        let mut entropy = [0; 10];
        entropy.copy_from_slice(&self.random.bytes32()[..10]);
        Guuid::new(unix_ms(self.now), entropy)
    }
}
