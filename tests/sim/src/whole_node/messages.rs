//! What the node says to clients.

use wire::sync::{Channel, Server};

use super::World;
use super::link::BACKOFF_US;
use super::session::Effect;
use crate::invariants::{Check, Invariant};

impl World {
    pub(super) fn on_message(&mut self, number: usize, channel: Channel, message: &[u8]) -> Check {
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
}
