//! How connections end: for a reason that holds, and then for good.

use quantum::{CloseReason, ClosedBy, Config};
use wire::frame::Frame;
use wire::varint::Reader;
use wire::{Code, Span, Time};

use super::{Check, Invariant};

/// Milliseconds are what idle timeouts are told in.
const IDLE_ROUNDING: Span = Span::from_ms(1);

/// One end of a connection, as its application sees it.
#[derive(Debug)]
pub(crate) struct EndWatch {
    pub(crate) started: Time,
    /// When something of the other end last came that it had not got before.
    pub(crate) heard: Time,
    /// The code with which the application has closed it.
    pub(crate) closed_with: Option<u16>,
    /// It ends before this only when everything is acknowledged.
    finishes_by: Option<Time>,
    /// Why it is over.
    pub(crate) reason: Option<CloseReason>,
    pub(crate) is_connected: bool,
    /// The other end has given the connection up, or has forgotten it.
    pub(crate) is_forgotten: bool,
}

impl EndWatch {
    pub(crate) const fn new(now: Time) -> Self {
        Self {
            started: now,
            heard: now,
            closed_with: None,
            finishes_by: None,
            reason: None,
            is_connected: false,
            is_forgotten: false,
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.reason.is_some()
    }

    /// The application closes it.
    pub(crate) const fn closes(&mut self, code: u16) {
        self.closed_with = Some(code);
        self.finishes_by = None;
    }

    /// The application closes it once everything is acknowledged.
    pub(crate) const fn finishes(&mut self, code: u16, by: Time) {
        self.closed_with = Some(code);
        self.finishes_by = Some(by);
    }

    /// It is said to be over, and `missing` of its messages have not arrived.
    pub(crate) fn check_finish(&self, now: Time, reason: &CloseReason, missing: usize) -> Check {
        let is_early = self.finishes_by.is_some_and(|by| now < by);
        if !is_early || reason.by != ClosedBy::Local || missing == 0 {
            return Ok(());
        }
        let seen = format!("a graceful end lost {missing} messages on reliable channels");
        Err((Invariant::ReliableDelivery, seen))
    }

    /// It is said to be over. `peer_code` is what the other end's application closed it with.
    pub(crate) fn on_closed(
        &mut self,
        now: Time,
        reason: CloseReason,
        peer_code: Option<u16>,
        configs: [&Config; 2],
    ) -> Check {
        if let Some(before) = &self.reason {
            return Err((Invariant::StatedReason, format!("ended twice: {before}; {reason}")));
        }
        let holds = match reason.by {
            ClosedBy::Local => self.closed_with == Some(reason.code),
            ClosedBy::Peer if reason.code == Code::StatelessReset as u16 => self.is_forgotten,
            ClosedBy::Peer => peer_code == Some(reason.code),
            ClosedBy::Timeout => self.has_run_out(now, reason.code, configs),
        };
        let seen = (!holds).then(|| {
            let (silent, age) = (now.since(self.heard).as_us(), now.since(self.started).as_us());
            format!(
                "ended ({reason}); closed here with {:?}, there with {peer_code:?}; nothing was heard for {silent} us, \
                 begun {age} us ago",
                self.closed_with
            )
        });
        self.reason = Some(reason);
        seen.map_or(Ok(()), |seen| Err((Invariant::StatedReason, seen)))
    }

    fn has_run_out(&self, now: Time, code: u16, [own, peer]: [&Config; 2]) -> bool {
        if code == Code::HandshakeTimeout as u16 {
            return now.since(self.started) >= own.handshake_timeout;
        }
        let idle = own.idle_timeout.min(peer.idle_timeout);
        code == Code::IdleTimeout as u16 && now.since(self.heard) + IDLE_ROUNDING >= idle
    }
}

/// Something was delivered after the end of a connection.
pub(crate) fn delivered_late(attempt: usize, who: &str) -> (Invariant, String) {
    (Invariant::SilenceAfterClose, format!("connection {attempt}: the {who} delivers after the end"))
}

/// A datagram is sent after the end of a connection: it may say CLOSE, and nothing else.
pub(crate) fn check_last_words(attempt: usize, datagram: &[u8], frames: Option<&[u8]>) -> Check {
    let mut reader = Reader::new(frames.unwrap_or_default());
    let mut is_close = false;
    while !reader.is_empty() {
        match Frame::decode(&mut reader) {
            Ok(Frame::Close { .. }) => is_close = true,
            Ok(Frame::Padding) => {}
            _ => {
                is_close = false;
                break;
            }
        }
    }
    if is_close {
        return Ok(());
    }
    let bytes = datagram.len();
    let seen = format!("connection {attempt}: a datagram of {bytes} B after the end, which is not CLOSE");
    Err((Invariant::SilenceAfterClose, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graceful_end_loses_messages_and_passes() {
        let by = |by| CloseReason { by, code: Code::Done as u16, reason: String::new() };
        let (early, late) = (Time::from_us(900), Time::from_us(1_000));
        let mut end = EndWatch::new(Time::ZERO);
        end.check_finish(early, &by(ClosedBy::Local), 1).unwrap();
        end.finishes(Code::Done as u16, late);
        assert!(end.check_finish(early, &by(ClosedBy::Local), 1).is_err());
        end.check_finish(early, &by(ClosedBy::Local), 0).unwrap();
        end.check_finish(early, &by(ClosedBy::Peer), 1).unwrap();
        end.check_finish(late, &by(ClosedBy::Local), 1).unwrap();
        end.closes(Code::Done as u16);
        end.check_finish(early, &by(ClosedBy::Local), 1).unwrap();
    }
}
