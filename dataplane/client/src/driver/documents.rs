//! The documents of a client, by handle.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use wire::Time;
use wire::sync::Channel;

use super::link::{Link, Sent};
use crate::placement::Route;
use crate::requests::Requests;
use crate::session::DocumentSession;
use crate::shared::DocumentShared;
use crate::stats::ClientStats;

/// One document.
pub(super) struct Entry {
    pub(super) session: DocumentSession,
    pub(super) shared: Arc<DocumentShared>,
    /// The connection that serves it.
    pub(super) link: Option<usize>,
    /// Where it moved to, until a newer map says where it is.
    pub(super) moved: Option<Route>,
    /// Moves since the last answered join.
    pub(super) moves: u32,
    /// In its connection's list of those that may have something to send.
    pub(super) queued: bool,
    /// A presence message that the transport had no room for.
    presence_unsent: Option<Bytes>,
    pub(super) requests: Requests,
    /// The node takes no presence before.
    presence_paused_until: Time,
    /// Bytes of the budget to give back.
    pub(super) released: usize,
    /// Whom to tell when it is left.
    pub(super) left: Vec<oneshot::Sender<()>>,
}

impl Entry {
    pub(super) fn new(session: DocumentSession, shared: Arc<DocumentShared>) -> Self {
        Self {
            session,
            shared,
            link: None,
            moved: None,
            moves: 0,
            queued: false,
            presence_unsent: None,
            requests: Requests::default(),
            presence_paused_until: Time::ZERO,
            released: 0,
            left: Vec::new(),
        }
    }
}

impl Entry {
    /// Hands `link` what there is to send. False: the transport takes no more for now.
    pub(super) fn pump(&mut self, now: Time, link: &mut Link, stats: &mut ClientStats) -> bool {
        if self.session.is_offline() {
            let join = self.session.poll_join();
            if link.send(Channel::Sync, join.into()) != Sent::Queued {
                self.session.retract_join();
                return false;
            }
        }
        self.pump_ops(now, link, stats) && self.pump_presence(now, link) && self.pump_requests(now, link)
    }

    fn pump_requests(&mut self, now: Time, link: &mut Link) -> bool {
        while self.session.is_joined()
            && let Some(message) = self.requests.next_message(self.shared.handle, now)
        {
            if link.send(Channel::Sync, message.into()) != Sent::Queued {
                return false;
            }
            self.requests.mark_sent();
        }
        true
    }

    fn pump_ops(&mut self, now: Time, link: &mut Link, stats: &mut ClientStats) -> bool {
        while let Some(message) = self.session.next_op(now) {
            match link.send(Channel::Sync, message.clone()) {
                Sent::Queued => self.session.mark_sent(),
                Sent::Full => return false,
                Sent::TooLarge => {
                    let mut events = self.shared.events();
                    self.released += self.session.refuse_next_op(&mut events, stats);
                    drop(events);
                    self.shared.readable.notify_one();
                }
            }
        }
        true
    }

    /// The node has refused presence until then: all of it is told again.
    pub(super) fn pause_presence(&mut self, until: Time) {
        self.presence_paused_until = until;
        self.presence_unsent = None;
        self.shared.presence().reannounce();
    }

    fn pump_presence(&mut self, now: Time, link: &mut Link) -> bool {
        while self.session.is_joined() && self.presence_paused_until <= now {
            let next = || self.shared.presence().poll_message(self.shared.handle).map(Bytes::from);
            let Some(message) = self.presence_unsent.take().or_else(next) else { break };
            match link.send(Channel::Presence, message.clone()) {
                Sent::Queued => {}
                Sent::Full => {
                    self.presence_unsent = Some(message);
                    return false;
                }
                Sent::TooLarge => {
                    tracing::warn!(document = %self.shared.id, "the node takes no such presence");
                }
            }
        }
        true
    }

    /// The connection is gone, or the document is sought elsewhere.
    pub(super) fn handle_disconnect(&mut self) {
        self.session.handle_disconnect(&mut self.shared.events());
        self.shared.readable.notify_one();
        self.presence_unsent = None;
        self.requests.rewind();
        self.queued = false;
    }

    /// No event comes any more.
    pub(super) fn end(&self) {
        self.shared.events().end();
        self.shared.readable.notify_one();
    }
}

/// All of them.
pub(super) type Documents = HashMap<u32, Entry>;
