//! Clients: who they are, and what they do in their documents.

use bytes::Bytes;
use wire::sync::DocumentKind;
use wire::{Access, Grant, Guuid, Span, Ticket, partition_of};

use super::oracle::Content;
use super::plan::Role;
use super::session::{SPARE_COUNTERS, Session};
use super::yjs::{self, Letters};
use super::{Task, World, unix_ms};
use crate::draw::Draw;

/// Tickets of a world are good for all of it, seconds.
const TICKET_LIFE_S: u64 = 3_600;
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
    pub(super) writer: Guuid,
    pub(super) ticket: Vec<u8>,
    pub(super) psk: [u8; 32],
    pub(super) counter: u64,
    pub(super) sessions: Vec<Session>,
    /// Letters written, by part.
    clocks: Vec<u32>,
    /// It reads nothing.
    pub(super) is_deaf: bool,
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

    pub(super) fn say_client(&mut self, client: usize, what: impl FnOnce() -> String) {
        self.trace.say(self.now, &format!("client {client}"), what);
    }

    pub(super) fn guuid(&mut self) -> Guuid {
        let mut entropy = [0; 10];
        entropy.copy_from_slice(&self.random.bytes32()[..10]);
        Guuid::new(unix_ms(self.now), entropy)
    }
}
