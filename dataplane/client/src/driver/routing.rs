//! Which connection serves which document.

use std::cmp::Reverse;

use wire::Time;

use super::Driver;
use super::clock::entropy;
use super::documents::Entry;
use super::link::Link;
use crate::backoff::{Backoff, span};
use crate::placement::Route;
use crate::session::Effect;

/// A document that is sent from shard to shard so often, without being opened, waits before the next try.
const MOVES_MAX: u32 = 4;

impl Driver {
    /// Puts a document on the connection to its owner.
    pub(super) fn attach(&mut self, now: Time, handle: u32) {
        let Some(entry) = self.documents.get(&handle) else { return };
        let owner = || self.tickets.current().map.route(entry.session.id());
        let Some(route) = entry.moved.clone().or_else(owner) else {
            // No node owns it at the moment: the next map may say more.
            self.tickets.want();
            self.alarms.push(Reverse((now + span(self.config.backoff_max), handle)));
            return;
        };
        let index = self.link_to(now, &route);
        if let (Some(link), Some(entry)) = (&mut self.links[index], self.documents.get_mut(&handle)) {
            link.documents.insert(handle);
            entry.link = Some(index);
        }
        self.queue(handle);
    }

    /// Takes a document from its connection.
    pub(super) fn detach(&mut self, handle: u32) {
        let Some(entry) = self.documents.get_mut(&handle) else { return };
        entry.queued = false;
        if let Some(link) = entry.link.take().and_then(|index| self.links[index].as_mut()) {
            link.documents.remove(&handle);
            link.numbers.retain(|_, other| *other != handle);
        }
    }

    /// Marks a document that may have something to send.
    pub(super) fn queue(&mut self, handle: u32) {
        let Some(entry) = self.documents.get_mut(&handle) else { return };
        let Some(link) = entry.link.and_then(|index| self.links[index].as_mut()) else { return };
        if !entry.queued && link.is_open() {
            entry.queued = true;
            link.queued.push_back(handle);
        }
    }

    /// The connection to a shard, made if need be.
    pub(super) fn link_to(&mut self, now: Time, route: &Route) -> usize {
        let found = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.route == *route);
        if let Some(index) = self.links.iter().position(found) {
            return index;
        }
        let backoff = Backoff::new(self.config.backoff_min, self.config.backoff_max);
        let link = Some(Link::new(route.clone(), backoff, now));
        match self.links.iter().position(Option::is_none) {
            Some(index) => {
                self.links[index] = link;
                index
            }
            None => {
                self.links.push(link);
                self.links.len() - 1
            }
        }
    }

    /// Follows the map: documents without a working connection are sought where it says. Those that have
    /// one are told by their node when they move.
    pub(super) fn reroute(&mut self, now: Time, is_newer: bool) {
        if is_newer {
            self.documents.values_mut().for_each(|entry| entry.moved = None);
        }
        let map = &self.tickets.current().map;
        let astray = |&(handle, entry): &(&u32, &Entry)| {
            let Some(link) = entry.link.and_then(|index| self.links[index].as_ref()) else {
                return !self.waiting.contains(handle);
            };
            let owner = || map.route(entry.session.id());
            !link.is_established()
                && entry.moved.clone().or_else(owner).is_some_and(|route| route != link.route)
        };
        let astray: Vec<u32> = self.documents.iter().filter(astray).map(|(&handle, _)| handle).collect();
        for handle in astray {
            self.detach(handle);
            self.attach(now, handle);
        }
    }

    /// Does what messages asked for.
    pub(super) fn take_effects(&mut self, now: Time) {
        let mut effects = std::mem::take(&mut self.effects);
        for (handle, effect) in effects.drain(..) {
            match effect {
                Effect::Joined { .. } => self.handle_joined(handle),
                Effect::PausedUntil(until) => self.alarms.push(Reverse((until, handle))),
                Effect::Moved { shard, address } => self.handle_moved(now, handle, shard, address),
                Effect::Advised { shard } => self.handle_advice(now, handle, shard),
                Effect::Rejoin => {
                    self.detach(handle);
                    self.alarms.push(Reverse((now + self.pause(), handle)));
                }
                Effect::RejoinAfter(after) => {
                    self.detach(handle);
                    self.alarms.push(Reverse((now + after, handle)));
                }
                Effect::PresencePausedUntil(until) => {
                    if let Some(entry) = self.documents.get_mut(&handle) {
                        entry.pause_presence(until);
                        self.alarms.push(Reverse((until, handle)));
                    }
                }
                Effect::Closed { .. } => self.forget(now, handle),
            }
        }
        self.effects = effects;
    }

    fn handle_joined(&mut self, handle: u32) {
        let Some(entry) = self.documents.get(&handle) else { return };
        entry.shared.presence().reannounce();
        if let Some(link) = entry.link.and_then(|index| self.links[index].as_mut()) {
            link.backoff.reset();
        }
        self.queue(handle);
    }

    fn handle_moved(&mut self, now: Time, handle: u32, shard: u32, address: Option<String>) {
        let Some(entry) = self.documents.get_mut(&handle) else { return };
        let here = entry.link.and_then(|index| self.links[index].as_ref());
        let address = address.or_else(|| here.map(|link| link.route.address.clone()));
        entry.moved = match (address, u8::try_from(shard)) {
            (Some(address), Ok(shard)) => Some(Route { address, shard }),
            _ => None,
        };
        entry.moves += 1;
        let astray = entry.moves > MOVES_MAX;
        // Where one document moved, others may have: the next ticket brings the map.
        self.tickets.want();
        self.detach(handle);
        if astray {
            self.alarms.push(Reverse((now + self.pause(), handle)));
        } else {
            self.attach(now, handle);
        }
    }

    /// A while, different for each client.
    fn pause(&self) -> wire::Span {
        let mut backoff = Backoff::new(self.config.backoff_max, self.config.backoff_max);
        backoff.fail(u32::from_ne_bytes(entropy()))
    }
}
