//! Documents that are served by another shard than their owner go to it, unnoticed by the application.
//!
//! The new connection is made first; then the document joins there from where it stands, with all that is not acknowledged,
//! and is left here a little later, so that its presence is never gone. What the old connection still brings is ignored:
//! the new one brings it, too.

use wire::sync::{Channel, Client};
use wire::{Span, Time};

use super::Driver;
use super::link::{Link, Sent};
use crate::placement::Route;

/// How long a document stays open where it was: its presence must have come to its owner by the new way.
const LEAVE_AFTER: Span = Span::from_ms(1_000);
/// How soon a full connection is tried again.
const LEAVE_RETRY: Span = Span::from_ms(20);

/// A document to be left on the connection that it was on.
pub(super) struct Parting {
    pub(super) due: Time,
    handle: u32,
    link: usize,
    route: Route,
}

impl Driver {
    /// A document would be better off at another shard of its node.
    pub(super) fn handle_advice(&mut self, now: Time, handle: u32, shard: u32) {
        let Some(entry) = self.documents.get(&handle) else { return };
        let here = entry.link.and_then(|index| self.links[index].as_ref());
        let (Some(here), Ok(shard)) = (here, u8::try_from(shard)) else { return };
        let route = Route { address: here.route.address.clone(), shard };
        if !self.config.follow_advice || route == here.route {
            return;
        }
        // Where one document is served by another than its owner, others may be: the next ticket brings the map.
        self.tickets.want();
        let index = self.link_to(now, &route);
        if let Some(link) = &mut self.links[index] {
            link.expected.insert(handle);
        }
        self.advised.retain(|(other, _)| *other != handle);
        self.advised.push((handle, route));
    }

    /// Moves the documents whose new connection is there.
    pub(super) fn follow_advice(&mut self, now: Time) {
        if !self.advised.is_empty() {
            let advised = std::mem::take(&mut self.advised);
            let waits = advised.into_iter().filter(|(handle, route)| !self.try_move(now, *handle, route));
            let waits: Vec<_> = waits.collect();
            self.advised = waits;
        }
        while let Some(parting) = self.partings.pop_front_if(|parting| parting.due <= now) {
            self.part(now, parting);
        }
    }

    /// False: not yet.
    fn try_move(&mut self, now: Time, handle: u32, route: &Route) -> bool {
        let is_there = |link: &Option<Link>| link.as_ref().is_some_and(|link| link.route == *route);
        let Some(there) = self.links.iter().position(is_there) else { return true };
        let Some(link) = &mut self.links[there] else { return true };
        let entry = self.documents.get_mut(&handle).filter(|entry| entry.link.is_some_and(|at| at != there));
        let Some(entry) = entry else {
            link.expected.remove(&handle);
            return true;
        };
        if !link.is_established() || !(entry.session.is_settled() || entry.session.is_offline()) {
            return false;
        }
        link.expected.remove(&handle);
        entry.moved = Some(route.clone());
        if entry.session.is_settled() {
            entry.session.handle_move();
            entry.requests.rewind();
            let credit = entry.shared.events().take_held();
            if let Some(at) = entry.link
                && let Some(old) = &mut self.links[at]
            {
                old.consume(credit);
                let route = old.route.clone();
                self.partings.push_back(Parting { due: now + LEAVE_AFTER, handle, link: at, route });
            }
        }
        self.stats.advised_moves += 1;
        self.detach(handle);
        self.attach(now, handle);
        true
    }

    /// Leaves a document where it is not served any more.
    fn part(&mut self, now: Time, parting: Parting) {
        let is_back =
            self.documents.get(&parting.handle).is_some_and(|entry| entry.link == Some(parting.link));
        let link = self.links[parting.link].as_mut().filter(|link| link.route == parting.route);
        let Some(link) = link.filter(|link| !is_back && link.is_established()) else { return };
        let leave = Client::Leave { handle: parting.handle }.to_vec();
        if link.send(Channel::Sync, leave.into()) == Sent::Full {
            // Behind those that come later: one that is late keeps no other waiting.
            self.partings.push_back(Parting { due: now + LEAVE_RETRY, ..parting });
        }
    }
}
