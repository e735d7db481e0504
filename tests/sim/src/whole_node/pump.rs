//! What clients have to send, in its order.

use bytes::Bytes;
use wire::sync::{Channel, Client as Message};

use super::World;
use super::session::Phase;
use super::yjs::{self, Letters};

impl World {
    /// Hands the connections of a client what there is to send.
    pub(super) fn pump_client(&mut self, client: usize) {
        if !self.clients[client].is_alive {
            return;
        }
        for part in 0..self.clients[client].sessions.len() {
            self.pump(client, part);
        }
    }

    pub(super) fn pump(&mut self, client: usize, part: usize) {
        let shard = self.clients[client].sessions[part].shard;
        let link = client * self.plan.shards + shard;
        if self.clients[client].sessions[part].phase == Phase::Left || !self.open_link(link) {
            return;
        }
        self.tell_node(client, part);
        let now = self.now;
        let session = &mut self.clients[client].sessions[part];
        let link = &mut self.links[link];
        if let Phase::Offline(until) = session.phase {
            if until > now {
                self.pumps.insert((until, client));
                return;
            }
            let (seen, name) = (session.seen, session.name.clone());
            let join = session.join(&self.oracle);
            if !link.send(Channel::Sync, join.into()) {
                session.phase = Phase::Offline(now);
                return;
            }
            self.trace.say(now, &format!("client {client}"), || {
                format!("joins {name} on shard {shard}, having seen op {seen}")
            });
        }
        while let Some(op) = session.next_op(now) {
            if !link.send(Channel::Sync, op) {
                return;
            }
            session.mark_sent();
        }
        if now < session.paused_until {
            self.pumps.insert((session.paused_until, client));
        }
        if let Some(presence) = session.next_presence()
            && link.send(Channel::Presence, presence.into())
        {
            session.presence.is_sent = true;
        }
        if session.phase == Phase::Joined {
            self.pump_requests(client, part);
        }
    }

    /// What is asked for beside the ops; in the end the client leaves.
    fn pump_requests(&mut self, client: usize, part: usize) {
        let now = self.now;
        let who = format!("client {client}");
        let session = &mut self.clients[client].sessions[part];
        let link = &mut self.links[client * self.plan.shards + session.shard];
        match session.requests.next(now, session.handle()) {
            Ok((request, message)) if link.send(Channel::Sync, message.clone()) => {
                if request == 1 {
                    self.oracle.on_delete_asked(session.document);
                }
                session.requests.mark_sent(request);
                self.pumps.insert((now, client));
                self.trace.say(now, &who, || format!("sends request {request} for {}", session.name));
            }
            Err(Some(at)) => {
                self.pumps.insert((at, client));
            }
            Ok(_) | Err(None) => {}
        }
        let leave = || Message::Leave { handle: session.handle() }.to_vec().into();
        if session.is_leaving
            && session.unacked.is_empty()
            && session.requests.is_done()
            && link.send(Channel::Sync, leave())
        {
            session.phase = Phase::Left;
            self.trace.say(now, &who, || format!("leaves {}", session.name));
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
}
