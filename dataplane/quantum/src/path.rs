//! Validation of a path (`PROTOCOL.md`, section "Paths"; RFC 9000, sections 8.2 and 9).

use std::net::SocketAddr;

use wire::frame::PATH_CHALLENGE_BYTES;
use wire::{Span, Time};

use crate::congestion::CongestionController;
use crate::pacer::Pacer;
use crate::rtt::RttEstimator;

/// Challenges that wait for their response; older ones are forgotten, their sender repeats them.
const RESPONSES_MAX: usize = 2;
/// A path fails after so many probe timeouts without a response (RFC 9000, section 8.2.4).
pub(crate) const VALIDATION_TIMEOUTS: u64 = 3;

pub(crate) type Challenge = [u8; PATH_CHALLENGE_BYTES];

/// What a connection knows of paths while one is in doubt, or a challenge waits for its response.
#[derive(Default)]
pub(crate) struct Paths {
    pub(crate) validation: Option<Validation>,
    responses: [Option<Response>; RESPONSES_MAX],
}

/// The path in use is being proven.
pub(crate) struct Validation {
    pub(crate) challenge: Challenge,
    pub(crate) is_due: bool,
    repeat_at: Time,
    repeat_after: Span,
    deadline: Time,
    /// Where to go back to when it fails; a client has nowhere to go.
    pub(crate) previous: Option<PreviousPath>,
}

/// A path that was proven, and may still be the right one.
pub(crate) struct PreviousPath {
    pub(crate) remote: SocketAddr,
    pub(crate) challenge: Challenge,
    pub(crate) is_due: bool,
    /// None: shared with the path in use.
    pub(crate) model: Option<PathModel>,
}

/// What was learned about a path's capacity.
pub(crate) struct PathModel {
    pub(crate) controller: Box<dyn CongestionController>,
    pub(crate) rtt: RttEstimator,
    pub(crate) pacer: Pacer,
}

/// A challenge that was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Response {
    pub(crate) data: Challenge,
    /// Where it came from, on a node.
    pub(crate) to: Option<SocketAddr>,
    /// The bytes of the datagram that it came in.
    pub(crate) received_bytes: usize,
}

impl Validation {
    /// Begins to prove a path: `probe_timeout` is the one without any samples, or the connection's if that is longer.
    pub(crate) fn new(
        now: Time,
        challenge: Challenge,
        probe_timeout: Span,
        previous: Option<PreviousPath>,
    ) -> Self {
        Self {
            challenge,
            is_due: true,
            repeat_at: now + probe_timeout,
            repeat_after: probe_timeout,
            deadline: now + probe_timeout.times(VALIDATION_TIMEOUTS),
            previous,
        }
    }

    /// Whether a response proves the path.
    pub(crate) fn is_answered_by(&self, data: &Challenge) -> bool {
        self.challenge == *data
    }

    /// The challenge, if it is to be sent now. It is the same each time: only this path has seen it.
    pub(crate) fn take_challenge(&mut self) -> Option<Challenge> {
        std::mem::take(&mut self.is_due).then_some(self.challenge)
    }

    fn timeout(&self) -> Time {
        self.repeat_at.min(self.deadline)
    }

    /// Returns whether the path has failed.
    fn handle_timeout(&mut self, now: Time) -> bool {
        if self.deadline <= now {
            return true;
        }
        if self.repeat_at <= now {
            self.is_due = true;
            if let Some(previous) = &mut self.previous {
                previous.is_due = true;
            }
            self.repeat_at = now + self.repeat_after;
        }
        false
    }
}

impl PreviousPath {
    pub(crate) fn take_challenge(&mut self) -> Option<(SocketAddr, Challenge)> {
        std::mem::take(&mut self.is_due).then_some((self.remote, self.challenge))
    }
}

impl Paths {
    pub(crate) fn is_empty(&self) -> bool {
        self.validation.is_none() && self.responses.iter().all(Option::is_none)
    }

    /// Whether something is to be said on the path to `remote`, the one in use.
    pub(crate) fn is_due(&self, remote: Option<SocketAddr>) -> bool {
        self.validation.as_ref().is_some_and(|validation| validation.is_due)
            || self.responses.iter().flatten().any(|response| response.to == remote)
    }

    /// Takes up a challenge; the oldest gives way.
    pub(crate) fn push_response(&mut self, response: Response) {
        if self.responses.contains(&Some(response)) {
            return;
        }
        self.responses.rotate_right(1);
        self.responses[0] = Some(response);
    }

    /// A response that is to go to `remote`.
    pub(crate) fn take_response(&mut self, remote: Option<SocketAddr>) -> Option<Response> {
        let slot =
            self.responses.iter_mut().find(|slot| slot.is_some_and(|response| response.to == remote))?;
        slot.take()
    }

    /// A response that is to go anywhere but to `remote`.
    pub(crate) fn take_response_elsewhere(&mut self, remote: SocketAddr) -> Option<Response> {
        let is_elsewhere = |response: Response| response.to.is_some_and(|to| to != remote);
        let slot = self.responses.iter_mut().find(|slot| slot.is_some_and(is_elsewhere))?;
        slot.take()
    }

    pub(crate) fn timeout(&self) -> Option<Time> {
        self.validation.as_ref().map(Validation::timeout)
    }

    /// Returns whether the path in use has failed.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        self.validation.as_mut().is_some_and(|validation| validation.handle_timeout(now))
    }
}
