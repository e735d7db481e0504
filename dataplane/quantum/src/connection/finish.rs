//! The end of a connection that loses nothing (`PROTOCOL.md`, section "Closing").

use wire::Time;
use wire::frame;
use wire::varint::Writer;

use super::{ClosedBy, Connection, Event, State};
use crate::sent_packets::SentFrame;

/// How often the end is told again, a probe timeout apart.
const CLOSE_REPEATS: u8 = 2;

/// An end that waits for what is queued.
pub(super) struct Finishing {
    code: u16,
    reason: String,
    deadline: Time,
    pub(super) is_frame_due: bool,
}

impl Connection {
    /// Ends the connection once the peer has acknowledged everything that is queued, or at `deadline`. New messages are
    /// not taken any more, the peer is told so ([`Event::Finishing`]); what it sends is still delivered. Then `code` and
    /// `reason` (cut to 256 bytes) end the connection as [`close`](Self::close) does.
    pub fn finish(&mut self, now: Time, code: u16, reason: &str, deadline: Time) {
        if self.is_closed() || self.finishing.is_some() {
            return;
        }
        let reason = reason.to_owned();
        self.finishing = Some(Box::new(Finishing { code, reason, deadline, is_frame_due: true }));
        self.stats.finishes += 1;
        self.end_if_finished(now);
    }

    /// Whether [`finish`](Self::finish) has been called, and the connection is still there for what is queued.
    #[must_use]
    pub const fn is_finishing(&self) -> bool {
        self.finishing.is_some() && !self.is_closed()
    }

    /// Something was acknowledged or sent, or time has passed.
    pub(super) fn end_if_finished(&mut self, now: Time) {
        let Some(finishing) = &self.finishing else { return };
        if self.queued_bytes > 0 && now < finishing.deadline {
            return;
        }
        if let Some(finishing) = self.finishing.take() {
            self.stats.finishes_in_time += u64::from(self.queued_bytes == 0);
            self.end(now, ClosedBy::Local, finishing.code, &finishing.reason);
            self.close_sent = now;
            self.close_repeats = CLOSE_REPEATS;
        }
    }

    pub(super) fn finish_timeout(&self) -> Option<Time> {
        self.finishing.as_ref().map(|finishing| finishing.deadline)
    }

    /// When CLOSE is repeated: who has nothing more to say would not hear of it otherwise, if the first is lost.
    pub(super) fn close_repeat_at(&self) -> Option<Time> {
        (self.close_repeats > 0).then(|| self.close_sent + self.probe_timeout())
    }

    pub(super) fn repeat_close(&mut self, now: Time) {
        if self.close_repeat_at().is_some_and(|at| at <= now) {
            self.close_repeats -= 1;
            self.close_sent = now;
            self.close_due = true;
        }
    }

    /// Whether the peer is to be told.
    pub(super) fn is_finish_due(&self) -> bool {
        self.state == State::Established
            && self.finishing.as_ref().is_some_and(|finishing| finishing.is_frame_due)
    }

    pub(super) fn write_finish(&mut self, out: &mut Writer<'_>) -> bool {
        if !self.is_finish_due() || out.remaining() == 0 {
            return false;
        }
        if let Some(finishing) = &mut self.finishing {
            finishing.is_frame_due = false;
        }
        frame::put_finish(out);
        self.sent.push_frame(SentFrame::Finish);
        true
    }

    /// The peer takes no new messages; tells the application once.
    pub(super) fn handle_finish(&mut self) {
        if !std::mem::replace(&mut self.is_peer_finishing, true) {
            self.events.push_back(Event::Finishing);
        }
    }
}
