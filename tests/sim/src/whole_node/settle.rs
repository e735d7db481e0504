//! When the faults are over: do all agree, and on what was promised?

use wal::LogConfig;
use wire::Span;
use wire::sync::DocumentKind;

use super::plan::{How, Role};
use super::session::{Phase, Session};
use super::{SETTLE_INTERVAL, Task, World};
use crate::invariants::{Check, Invariant};

/// All must agree so long after the last fault.
pub(super) const SETTLE_SPAN: Span = Span::from_ms(60_000);

impl World {
    /// Asks whether all agree; if so the node is killed once more, and if they do so again it is over.
    pub(super) fn settle(&mut self) -> Check {
        let documents = 0..self.plan.documents.len();
        let unsettled = self
            .find_unsettled()
            .or_else(|| documents.into_iter().find_map(|document| self.check_promises(document).err()));
        match unsettled {
            None => {}
            Some(unsettled) if self.now > self.settle_by => return Err(unsettled),
            Some(_) => {
                self.agenda.add(self.now + SETTLE_INTERVAL, Task::Settle);
                return Ok(());
            }
        }
        self.trace.say(self.now, "world", || "all agree".to_owned());
        if std::mem::replace(&mut self.has_agreed, true) {
            self.is_over = true;
            return Ok(());
        }
        self.settle_by = self.now + SETTLE_SPAN;
        self.stop(How::Kill, Span::from_ms(1), 0);
        self.agenda.add(self.now + SETTLE_INTERVAL, Task::Settle);
        Ok(())
    }

    /// The first thing that is not as it should be in the end.
    fn find_unsettled(&self) -> Option<(Invariant, String)> {
        if !self.node.is_serving() {
            return Some((Invariant::Progress, "the node does not serve".to_owned()));
        }
        for (number, client) in self.clients.iter().enumerate() {
            if let Some(session) = client.sessions.iter().find(|session| !session.is_settled()) {
                let seen = format!(
                    "client {number} is {:?} in {} with {} ops unacknowledged",
                    session.phase,
                    session.name,
                    session.unacked.len()
                );
                return Some((Invariant::Progress, seen));
            }
        }
        let (auditor, _) = self.clients.split_last()?;
        for truth in &auditor.sessions {
            for (number, client) in self.clients.iter().enumerate() {
                let others = client
                    .sessions
                    .iter()
                    .filter(|session| session.document == truth.document && session.phase == Phase::Joined);
                for session in others {
                    if truth.phase == Phase::Left {
                        let seen = format!("client {number} has {} open, which is deleted", session.name);
                        return Some((Invariant::SameForAll, seen));
                    }
                    let differs = self.find_difference(session, truth).or_else(|| self.find_absent(session));
                    if let Some(differs) = differs {
                        let seen = format!("client {number} in {}: {differs}", session.name);
                        return Some((Invariant::SameForAll, seen));
                    }
                }
            }
        }
        None
    }

    /// Where what a client has differs from what one was told who came last.
    fn find_difference(&self, session: &Session, truth: &Session) -> Option<String> {
        if session.role == Role::Watcher {
            return None;
        }
        match session.kind {
            DocumentKind::Opaque => self.find_other_place(session, truth),
            DocumentKind::Yjs => self.find_other_letters(session, truth),
        }
    }

    fn find_other_place(&self, session: &Session, truth: &Session) -> Option<String> {
        let places = truth.view.places.iter().zip(1..);
        for ((&sequence, &content), expected) in places {
            if sequence != expected {
                return Some(format!("op {expected} is missing"));
            }
            let is_own = self.oracle.content(content).op.writer() == session.writer;
            match session.view.places.get(&sequence) {
                None if is_own => {}
                Some(&found) if found == content => {}
                None => return Some(format!("it was not shown op {sequence}")),
                Some(_) => return Some(format!("it was shown another op {sequence}")),
            }
        }
        let last = session.view.places.last_key_value().map_or(0, |(&sequence, _)| sequence);
        (last > truth.view.places.len() as u64)
            .then(|| format!("it was shown op {last}, of {}", truth.view.places.len()))
    }

    fn find_other_letters(&self, session: &Session, truth: &Session) -> Option<String> {
        for (number, content) in self.oracle.contents_of(session.document) {
            let letters = content.letters.expect("a Yjs document");
            match (letters.is_in(&session.view.letters), letters.is_in(&truth.view.letters)) {
                (false, true) => return Some(format!("it lacks {} ({letters:?})", content.op)),
                // Who only reads cannot tell the node what a crash took before it was safe.
                (true, false) if session.role == Role::Writer || self.oracle.is_acknowledged(number) => {
                    return Some(format!("it has {} ({letters:?}), and the node does not", content.op));
                }
                _ => {}
            }
        }
        None
    }

    /// Who is here and is not known to be, or the other way round.
    fn find_absent(&self, session: &Session) -> Option<String> {
        let announced = self.clients.iter().flat_map(|client| &client.sessions).filter(|other| {
            other.document == session.document && other.phase == Phase::Joined && other.presence.clock > 0
        });
        let mut here = 0;
        for other in announced.filter(|other| other.writer != session.writer) {
            here += 1;
            let known = session.others.get(&other.presence.client);
            if known != Some(&(other.presence.clock, other.presence.state())) {
                let clock = known.map(|(clock, _)| clock);
                let presence = other.presence;
                return Some(format!(
                    "it knows {} at {clock:?} instead of {}",
                    presence.client, presence.clock
                ));
            }
        }
        let known = session.others.keys().filter(|&&client| client != session.presence.client).count();
        (known != here).then(|| format!("{known} others seem to be here instead of {here}"))
    }

    /// Whether all that was promised is in a document.
    fn check_promises(&self, document: usize) -> Check {
        let Some(truth) = self
            .clients
            .last()
            .and_then(|auditor| auditor.sessions.iter().find(|session| session.document == document))
        else {
            return Ok(());
        };
        // Whoever wanted its end may have gone before that was answered: who came last knows.
        if self.oracle.is_deleted(document) || truth.phase == Phase::Left {
            return Ok(());
        }
        match truth.kind {
            DocumentKind::Opaque => {
                let has: std::collections::BTreeSet<usize> = truth.view.places.values().copied().collect();
                if has.len() != truth.view.places.len() {
                    let seen = format!("{}: an op is in two places", truth.name);
                    return Err((Invariant::AppliedOnce, seen));
                }
                let has: std::collections::BTreeSet<_> =
                    has.into_iter().map(|content| self.oracle.content(content).op).collect();
                self.oracle.check_kept(document, |content| has.contains(&content.op))
            }
            DocumentKind::Yjs => {
                let letters = &truth.view.letters;
                self.oracle.check_kept(document, |content| {
                    content.letters.is_some_and(|found| found.is_in(letters))
                })?;
                self.check_texts(truth)
            }
        }
    }

    /// What all who write have integrates whole, into the same letters.
    fn check_texts(&self, truth: &Session) -> Check {
        if !self.plan.integrates || self.has_agreed {
            return Ok(());
        }
        let text = |session: &Session| super::yjs::integrate(session.view.updates.iter().map(AsRef::as_ref));
        let expected = text(truth);
        if let Err(reason) = &expected {
            let seen = format!("{}: the state does not integrate: {reason:?}", truth.name);
            return Err((Invariant::SameForAll, seen));
        }
        for (number, client) in self.clients.iter().enumerate() {
            let of_writer = client.sessions.iter().find(|session| {
                session.document == truth.document
                    && session.phase == Phase::Joined
                    && session.role == Role::Writer
            });
            if let Some(found) = of_writer.map(text).filter(|found| *found != expected) {
                let letters =
                    |text: &Result<String, super::yjs::Unmerged>| text.as_ref().ok().map(String::len);
                let (found, expected) = (letters(&found), letters(&expected));
                let seen = format!(
                    "client {number} has other letters in {}: {found:?} letters instead of {expected:?}",
                    truth.name
                );
                return Err((Invariant::SameForAll, seen));
            }
        }
        Ok(())
    }

    /// What the shards hold stays under its limits.
    pub(super) fn inspect(&self) -> Check {
        let LogConfig { queue_bytes_max, .. } = self.plan.log;
        let limits = &self.plan.sync.limits;
        // Connections of dead clients live on until they have been silent for long enough.
        for host in self.node.shards.iter().flatten() {
            for figure in host.shard.status() {
                let most = match figure.name {
                    "log_queue_bytes" => queue_bytes_max as u64,
                    "ops_unacknowledged" => limits.unacknowledged_ops_max as u64,
                    "documents" => self.plan.documents.len() as u64,
                    _ => continue,
                };
                if figure.value > most {
                    let seen = format!("{} is {}, over its limit of {most}", figure.name, figure.value);
                    return Err((Invariant::Memory, seen));
                }
            }
        }
        Ok(())
    }
}
