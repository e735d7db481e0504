//! The connection's timers (`PROTOCOL.md`, section "Timers").

use wire::{Code, Span, Time};

use super::{ClosedBy, Connection, State};
use crate::key_update::PhasedKeys;

/// A connection is kept alive by a PING after this part of the idle timeout, at the latest.
const KEEP_ALIVE_PARTS: u64 = 3;

impl Connection {
    /// When to call [`handle_timeout`](Self::handle_timeout), unless something else comes first.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Drained => None,
            State::Closing | State::Draining => self.deadline.into_iter().chain(self.close_repeat_at()).min(),
            State::Handshaking | State::Established if self.is_muted() => {
                let times = [self.deadline, Some(self.idle_at()), self.path_timeout(), self.finish_timeout()];
                times.into_iter().flatten().min()
            }
            State::Handshaking | State::Established => {
                let probe_timeout = self.probe_timeout();
                let mut first = self.idle_after(probe_timeout);
                let mut limit = |at: Option<Time>| first = at.map_or(first, |at| first.min(at));
                limit(self.loss.timeout(&self.sent, probe_timeout));
                limit(self.acks.deadline());
                limit(self.pacer.resume_at());
                limit(self.fec_timeout());
                limit(self.deadline);
                limit(self.keep_alive_at());
                limit(self.keys.as_ref().and_then(PhasedKeys::timeout));
                limit(self.ids.as_ref().and_then(|ids| ids.timeout()));
                limit(self.path_timeout());
                limit(self.finish_timeout());
                Some(first)
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
                } else {
                    self.repeat_close(now);
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
        self.end_if_finished(now);
        if self.is_muted() || self.is_closed() {
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
            self.stats.keep_alives += 1;
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
        self.stats.ecn_failures += u64::from(self.ecn.on_probe_timeout(self.loss.timeouts_in_row()));
        if let Some(handshake) = &mut self.node_handshake {
            handshake.is_reply_due = true;
        }
        // The oldest packet goes out again, without being given up: its acknowledgement may be on the way.
        let oldest = self.sent.in_flight().next().copied();
        if let Some(oldest) = oldest {
            let scope = self.resend_of_doubtful(oldest.number);
            self.resend(&oldest, scope);
            let change = self.mtu.on_lost(now, oldest.bytes);
            self.on_mtu_change(change);
        }
        self.ping_due = true;
    }

    fn idle_at(&self) -> Time {
        self.idle_after(self.probe_timeout())
    }

    fn idle_after(&self, probe_timeout: Span) -> Time {
        // As long as at least a few probe timeouts, or a path that is slow would count as dead.
        self.last_received + self.idle_timeout.max(probe_timeout.times(3))
    }

    fn keep_alive_at(&self) -> Option<Time> {
        let interval = match self.is_client() {
            true => self.config.keep_alive_interval,
            false => self.config.node_keep_alive_interval,
        }?;
        let interval = interval.min(Span::from_us(self.idle_timeout.as_us() / KEEP_ALIVE_PARTS));
        let is_wanted = self.is_established() && !self.ping_due;
        is_wanted.then(|| self.last_received.max(self.last_eliciting_sent) + interval)
    }
}
