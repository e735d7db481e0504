//! The connection's timers (`PROTOCOL.md`, section "Timers").

use wire::{Code, Time};

use super::{ClosedBy, Connection, Side, State};
use crate::key_update::PhasedKeys;

/// A client keeps its connection alive by a PING after this part of the idle timeout.
const KEEP_ALIVE_PARTS: u64 = 3;

impl Connection {
    /// When to call [`handle_timeout`](Self::handle_timeout), unless something else comes first.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Drained => None,
            State::Closing | State::Draining => self.deadline,
            State::Handshaking | State::Established if self.is_muted() => {
                [self.deadline, Some(self.idle_at()), self.path_timeout()].into_iter().flatten().min()
            }
            State::Handshaking | State::Established => {
                let loss = self.loss.timeout(&self.sent, self.probe_timeout());
                let keys = self.keys.as_ref().and_then(PhasedKeys::timeout);
                let acks = self.acks.deadline();
                let pacer = self.pacer.resume_at();
                let idle = Some(self.idle_at());
                let ids = self.ids.as_ref().and_then(|ids| ids.timeout());
                let life = [self.deadline, idle, self.keep_alive_at(), self.path_timeout(), keys, ids];
                [loss, acks, pacer, self.fec_timeout()].into_iter().chain(life).flatten().min()
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= now);
        match self.state {
            State::Drained => return,
            State::Closing | State::Draining => {
                if is_over {
                    self.state = State::Drained;
                }
                return;
            }
            State::Handshaking | State::Established => {}
        }
        if is_over {
            self.end(
                now,
                ClosedBy::Timeout,
                Code::HandshakeTimeout as u16,
                "the handshake was not completed in time",
            );
            return;
        }
        if self.idle_at() <= now {
            self.end(now, ClosedBy::Timeout, Code::IdleTimeout as u16, "nothing was heard from the peer");
            return;
        }
        self.handle_path_timeout(now);
        if self.is_muted() {
            return;
        }
        self.handle_id_timeout(now);
        if let Some(keys) = &mut self.keys {
            keys.handle_timeout(now);
        }
        self.check_application_limited();
        self.pacer.on_timeout(now);
        self.handle_fec_timeout(now);
        if self.keep_alive_at().is_some_and(|at| at <= now) {
            self.ping_due = true;
        }
        if self.loss.is_loss_due(now) {
            self.detect_losses(now);
        } else if self.loss.timeout(&self.sent, self.probe_timeout()).is_some_and(|at| at <= now) {
            self.handle_probe_timeout(now);
        }
    }

    fn handle_probe_timeout(&mut self, now: Time) {
        self.stats.probe_timeouts += 1;
        self.loss.on_probe_timeout(now);
        if self.state == State::Handshaking {
            return;
        }
        if let Some(handshake) = &mut self.node_handshake {
            handshake.is_reply_due = true;
        }
        // The oldest packet goes out again, without being given up: its acknowledgement may be on the way.
        let oldest = self.sent.in_flight().next().copied();
        if let Some(oldest) = oldest {
            let scope = self.resend_of_doubtful(oldest.number);
            self.resend(&oldest, scope);
        }
        self.ping_due = true;
    }

    fn idle_at(&self) -> Time {
        // As long as at least a few probe timeouts, or a path that is slow would count as dead.
        let timeout = self.idle_timeout.max(self.probe_timeout().times(3));
        self.last_received + timeout
    }

    fn keep_alive_at(&self) -> Option<Time> {
        let is_wanted = self.side == Side::Client && self.state == State::Established && !self.ping_due;
        let interval = wire::Span::from_us(self.idle_timeout.as_us() / KEEP_ALIVE_PARTS);
        is_wanted.then(|| self.last_received.max(self.last_eliciting_sent) + interval)
    }
}
