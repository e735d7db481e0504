//! What the application asks for.

use std::task::Context;

use tokio::sync::oneshot;
use wire::Time;
use wire::sync::{Channel, Client};

use super::Driver;
use super::documents::Entry;
use super::link::Sent;
use crate::error::ClientError;
use crate::session::{DocumentSession, JoinSpec};
use crate::shared::{Command, PingTarget};

/// The client is being closed.
pub(super) struct Closing {
    /// When no longer to wait for acknowledgements.
    pub(super) deadline: Time,
    /// Whom to tell whether all are there.
    pub(super) done: Vec<oneshot::Sender<bool>>,
}

impl Driver {
    /// True: there were some.
    pub(super) fn take_commands(&mut self, cx: &mut Context<'_>, now: Time) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        self.shared.take_commands(&mut commands, cx.waker());
        let some = !commands.is_empty();
        for command in commands.drain(..) {
            self.handle_command(now, command);
        }
        self.commands = commands;
        some
    }

    fn handle_command(&mut self, now: Time, command: Command) {
        match command {
            Command::Op { handle, op } => match self.documents.get_mut(&handle) {
                Some(entry) => {
                    entry.session.push_op(op);
                    self.queue(handle);
                }
                None => self.released += op.cost as usize,
            },
            Command::PushMissing { handle, incarnation, counter, update } => {
                if let Some(entry) = self.documents.get_mut(&handle) {
                    entry.session.push_missing(incarnation, counter, &update);
                    self.queue(handle);
                }
            }
            Command::Presence { handle } => self.queue(handle),
            Command::Request { handle, ask, reply } => {
                // Without a document the reply is dropped, which says so.
                if let Some(entry) = self.documents.get_mut(&handle) {
                    entry.requests.push(ask, reply);
                    self.queue(handle);
                }
            }
            Command::Credit { handle } => self.release_credit(handle),
            Command::ReaderGone { handle } => {
                self.expect_no_answer(handle);
                self.release_credit(handle);
            }
            Command::Join { document, kind, options } => {
                let session = DocumentSession::new(JoinSpec {
                    handle: document.handle,
                    id: document.id.clone(),
                    kind,
                    content: options.content,
                    pushes_missing: options.pushes_missing,
                    state_vector: options.state_vector,
                    state_bytes_max: self.config.state_bytes_max,
                });
                let handle = document.handle;
                self.documents.insert(handle, Entry::new(session, document));
                self.serve(now, handle);
            }
            Command::Leave { handle, done } => match self.documents.get_mut(&handle) {
                Some(entry) => {
                    entry.left.extend(done);
                    self.leaving.push(handle);
                    self.expect_no_answer(handle);
                }
                None => done.into_iter().for_each(tell),
            },
            Command::Ping { target, reply } => self.ping(now, &target, reply),
            Command::Close { deadline, done } => {
                let deadline = self.clock.at(deadline);
                let closing = self.closing.get_or_insert_with(|| Closing { deadline, done: Vec::new() });
                closing.deadline = closing.deadline.min(deadline);
                closing.done.extend(done);
                let handles: Vec<u32> = self.documents.keys().copied().collect();
                handles.into_iter().for_each(|handle| self.expect_no_answer(handle));
            }
        }
    }

    /// Nobody is there any more to say what the node lacks: its ops go without.
    fn expect_no_answer(&mut self, handle: u32) {
        if let Some(entry) = self.documents.get_mut(&handle) {
            entry.session.expect_no_answer();
            self.queue(handle);
        }
    }

    /// Serves a document, unless another one of its id is not left yet.
    fn serve(&mut self, now: Time, handle: u32) {
        let Some(entry) = self.documents.get(&handle) else { return };
        let id = entry.session.id();
        if self.serving.contains_key(id) {
            self.waiting.push(handle);
        } else {
            self.serving.insert(id.to_owned(), handle);
            self.attach(now, handle);
        }
    }

    fn release_credit(&mut self, handle: u32) {
        let Some(entry) = self.documents.get(&handle) else { return };
        let credit = entry.shared.events().release();
        if let Some(link) = entry.link.and_then(|index| self.links[index].as_mut()) {
            link.consume(credit);
        }
    }

    fn ping(&mut self, now: Time, target: &PingTarget, reply: oneshot::Sender<std::time::Duration>) {
        let index = match target {
            PingTarget::Document(handle) => self.documents.get(handle).and_then(|entry| entry.link),
            PingTarget::Shard(route) => Some(self.link_to(now, route)),
        };
        // Without a connection nobody answers, and the one who asks runs into the timeout.
        if let Some(link) = index.and_then(|index| self.links[index].as_mut()) {
            link.ping(now, reply);
        }
    }

    /// Gives budget back, forgets documents that are left, and ends the client when that was asked for.
    pub(super) fn settle(&mut self, now: Time) {
        self.shared.release_budget(std::mem::take(&mut self.released));
        if !self.leaving.is_empty() {
            let leaving = std::mem::take(&mut self.leaving);
            self.leaving = leaving.into_iter().filter(|&handle| !self.try_leave(now, handle)).collect();
        }
        let flushed = || self.documents.values().all(|entry| entry.session.is_flushed());
        if self.closing.as_ref().is_some_and(|closing| closing.deadline <= now || flushed()) {
            self.failure.get_or_insert(ClientError::Closed);
        }
    }

    /// False: ops are not acknowledged, or the transport takes nothing at the moment.
    fn try_leave(&mut self, now: Time, handle: u32) -> bool {
        let Some(entry) = self.documents.get(&handle) else { return true };
        if !entry.session.is_flushed() {
            return false;
        }
        let link = entry.link.and_then(|index| self.links[index].as_mut());
        if let Some(link) = link.filter(|_| !entry.session.is_offline())
            && link.send(Channel::Sync, Client::Leave { handle }.to_vec().into()) == Sent::Full
        {
            return false;
        }
        self.forget(now, handle);
        true
    }

    /// Forgets a document that is left or closed.
    pub(super) fn forget(&mut self, now: Time, handle: u32) {
        self.detach(handle);
        let Some(entry) = self.documents.remove(&handle) else { return };
        entry.end();
        self.shared.release_document();
        entry.left.into_iter().for_each(tell);
        let id = entry.session.id();
        if self.serving.get(id) == Some(&handle) {
            self.serving.remove(id);
            let same = |other: &u32| self.documents.get(other).is_some_and(|entry| entry.session.id() == id);
            if let Some(at) = self.waiting.iter().position(same) {
                let next = self.waiting.remove(at);
                self.serve(now, next);
            }
        } else {
            self.waiting.retain(|&other| other != handle);
        }
    }
}

fn tell(done: oneshot::Sender<()>) {
    // Who asked may have stopped waiting.
    let _unheard = done.send(());
}
