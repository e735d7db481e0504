//! The paths of a connection: who is where, and whether it is true (`PROTOCOL.md`, section "Paths").

use std::net::SocketAddr;

use wire::frame::{self, Frame, PATH_FRAME_BYTES};
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::limits::INITIAL_DATAGRAM_BYTES;
use wire::varint::Writer;
use wire::{Span, Time};

use super::send::{AMPLIFICATION_MAX, DATAGRAM_BYTES_MIN};
use super::{Amplification, Connection, State, congestion_seed};
use crate::congestion::controller;
use crate::pacer::Pacer;
use crate::path::{Challenge, PathModel, Paths, PreviousPath, Response, Validation};
use crate::rtt::RttEstimator;

const _: () = assert!(DATAGRAM_BYTES_MIN >= HEADER_BYTES + 2 * PATH_FRAME_BYTES + TAG_BYTES);

/// What a packet says about paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathFrames {
    /// Whether it says nothing else: such packets do not move a connection (RFC 9000, section 9.1).
    pub(super) is_probing: bool,
    challenge: Option<Challenge>,
    response: Option<Challenge>,
}

impl PathFrames {
    pub(super) const fn new() -> Self {
        Self { is_probing: true, challenge: None, response: None }
    }

    /// Takes up a frame; of several challenges or responses in one packet the last one counts.
    pub(super) fn note(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::PathChallenge(data) => self.challenge = Some(*data),
            Frame::PathResponse(data) => self.response = Some(*data),
            Frame::Padding | Frame::NewConnectionId(_) => {}
            _ => self.is_probing = false,
        }
    }
}

impl Connection {
    /// The client's socket has moved to another address, or will with the next datagram: goes on there with a fresh
    /// connection id, if the node has confirmed one, with a new congestion controller, and proves the path. Nothing
    /// that was queued or is in flight is lost. Only on a client.
    pub fn migrate(&mut self, now: Time) {
        if !self.is_client() || self.state != State::Established {
            return;
        }
        let Some(entropy) = self.rotate_for_migration(now) else { return };
        self.stats.address_changes += 1;
        self.replace_path_model();
        let timeout = self.validation_timeout();
        let validation = Validation::new(now, challenge_of(&entropy, 0), timeout, None);
        self.paths.get_or_insert_default().validation = Some(validation);
        self.ping_due = true;
    }

    /// Where the peer is, on a node.
    pub(crate) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The address of the path in use, as responses name it.
    fn path_remote(&self) -> Option<SocketAddr> {
        (!self.is_client()).then_some(self.remote)
    }

    /// What an authentic packet of `received_bytes` says about paths.
    pub(super) fn handle_path_frames(
        &mut self,
        now: Time,
        from: Option<SocketAddr>,
        received_bytes: usize,
        frames: &PathFrames,
    ) {
        if let Some(data) = frames.challenge {
            self.stats.path_challenges += 1;
            let response = Response { data, to: from, received_bytes };
            self.paths.get_or_insert_default().push_response(response);
        }
        if let Some(data) = frames.response {
            self.handle_path_response(now, from, &data);
        }
    }

    fn handle_path_response(&mut self, now: Time, from: Option<SocketAddr>, data: &Challenge) {
        let is_here = from == self.path_remote();
        let Some(paths) = self.paths.as_mut() else { return };
        if is_here && paths.validation.as_ref().is_some_and(|validation| validation.is_answered_by(data)) {
            paths.validation = None;
            self.amplification.is_validated = true;
            self.stats.paths_validated += 1;
            // What is in flight to where nobody is any more need not wait for its timers.
            self.loss.begin_path(now);
            self.forget_paths();
        }
    }

    /// The newest packet came from elsewhere, or from where nothing is proven yet: goes on there, and proves it. `entropy` is random, and told to nobody.
    pub(crate) fn handle_address_change(
        &mut self,
        now: Time,
        from: SocketAddr,
        received_bytes: usize,
        entropy: &[u8; 32],
    ) {
        let validation = self.paths.as_mut().and_then(|paths| paths.validation.take());
        let was_proven = validation.is_none();
        let previous = validation.and_then(|validation| validation.previous);
        if let Some(previous) = previous {
            if previous.remote == from {
                return self.return_to(now, previous);
            }
            self.leave_for(now, from, received_bytes, entropy, Some(previous));
        } else if was_proven && self.amplification.is_validated {
            let is_rebinding = self.remote.ip() == from.ip();
            let mut previous = PreviousPath {
                remote: self.remote,
                challenge: challenge_of(entropy, 1),
                is_due: true,
                model: None,
            };
            if !is_rebinding {
                previous.model = Some(self.replace_path_model());
            }
            self.leave_for(now, from, received_bytes, entropy, Some(previous));
        } else {
            self.leave_for(now, from, received_bytes, entropy, None);
        }
    }

    fn leave_for(
        &mut self,
        now: Time,
        from: SocketAddr,
        received_bytes: usize,
        entropy: &[u8; 32],
        mut previous: Option<PreviousPath>,
    ) {
        self.stats.address_changes += 1;
        if let Some(previous) = &mut previous {
            previous.is_due = true;
        }
        let timeout = self.validation_timeout();
        let validation = Validation::new(now, challenge_of(entropy, 0), timeout, previous);
        self.remote = from;
        let received_bytes = received_bytes as u64;
        self.amplification = Amplification { is_validated: false, received_bytes, sent_bytes: 0 };
        self.paths.get_or_insert_default().validation = Some(validation);
    }

    /// Goes back to a path that was proven.
    fn return_to(&mut self, now: Time, previous: PreviousPath) {
        self.stats.path_returns += 1;
        self.remote = previous.remote;
        self.amplification.is_validated = true;
        if let Some(model) = previous.model {
            self.rtt = model.rtt;
            self.controller = model.controller;
            self.pacer = model.pacer;
        }
        self.begin_path();
        self.loss.begin_path(now);
        self.ping_due = true;
        self.forget_paths();
    }

    /// A path of another address has its own capacity (RFC 9000, section 9.4); returns what was known of the last.
    fn replace_path_model(&mut self) -> PathModel {
        let controller =
            std::mem::replace(&mut self.controller, controller(&self.config, congestion_seed(self.id)));
        let rtt = std::mem::replace(&mut self.rtt, RttEstimator::new());
        let pacer = std::mem::replace(&mut self.pacer, Pacer::new());
        self.begin_path();
        PathModel { controller, rtt, pacer }
    }

    /// What is in flight was sent on another path: it counts for the controller of this one in no way.
    fn begin_path(&mut self) {
        self.sent.begin_path();
        self.mtu.begin_path();
        self.ecn.begin_path(self.config.ecn, self.sent.next_number());
        self.follow_mtu();
    }

    fn forget_paths(&mut self) {
        if self.paths.as_ref().is_some_and(|paths| paths.is_empty()) {
            self.paths = None;
        }
    }

    /// How long a challenge waits for its response: nothing is known of the path.
    fn validation_timeout(&self) -> Span {
        self.probe_timeout().max(RttEstimator::new().probe_timeout(self.peer_ack_delay))
    }

    pub(super) fn path_timeout(&self) -> Option<Time> {
        self.paths.as_ref().and_then(|paths| paths.timeout())
    }

    pub(super) fn handle_path_timeout(&mut self, now: Time) {
        if !self.paths.as_mut().is_some_and(|paths| paths.handle_timeout(now)) {
            return;
        }
        self.stats.paths_failed += 1;
        let validation = self.paths.as_mut().and_then(|paths| paths.validation.take());
        match validation {
            Some(Validation { previous: Some(previous), .. }) => self.return_to(now, previous),
            // There is nowhere to go back to: unproven for ever, it would be muted for ever.
            Some(Validation { challenge, .. }) => {
                let renewed = Validation::new(now, challenge, self.validation_timeout(), None);
                self.paths.get_or_insert_default().validation = Some(renewed);
            }
            None => {}
        }
        self.forget_paths();
    }

    /// Whether a challenge or a response is to be sent on the path in use.
    pub(super) fn is_path_frame_due(&self) -> bool {
        self.paths.as_ref().is_some_and(|paths| paths.is_due(self.path_remote()))
    }

    /// Writes what is to be said on the path in use; returns whether there was anything.
    pub(super) fn write_path_frames(&mut self, out: &mut Writer<'_>) -> bool {
        let remote = self.path_remote();
        let Some(paths) = self.paths.as_mut() else { return false };
        let mut any = false;
        if out.remaining() >= PATH_FRAME_BYTES
            && let Some(challenge) = paths.validation.as_mut().and_then(Validation::take_challenge)
        {
            frame::put_path_challenge(out, &challenge);
            any = true;
        }
        while out.remaining() >= PATH_FRAME_BYTES
            && let Some(response) = paths.take_response(remote)
        {
            frame::put_path_response(out, &response.data);
            any = true;
        }
        self.forget_paths();
        any
    }

    /// Writes the next datagram for an address that is not the peer's: a challenge to where it was, or the response to
    /// a challenge from elsewhere, which never is more than three times as long. Only on a node.
    pub(crate) fn poll_path_probe(&mut self, now: Time, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        if self.state != State::Established {
            return None;
        }
        let remote = self.remote;
        let paths = self.paths.as_mut()?;
        let previous = paths.validation.as_mut().and_then(|validation| validation.previous.as_mut());
        let mut payload = [0; PATH_FRAME_BYTES];
        let mut out = Writer::new(&mut payload);
        let (to, room) = if let Some((to, challenge)) = previous.and_then(PreviousPath::take_challenge) {
            frame::put_path_challenge(&mut out, &challenge);
            (to, INITIAL_DATAGRAM_BYTES)
        } else {
            let response = paths.take_response_elsewhere(remote)?;
            frame::put_path_response(&mut out, &response.data);
            (response.to?, AMPLIFICATION_MAX as usize * response.received_bytes)
        };
        self.forget_paths();
        let length = INITIAL_DATAGRAM_BYTES.min(room).min(buffer.len());
        if length < DATAGRAM_BYTES_MIN {
            return None;
        }
        let datagram = &mut buffer[..length];
        // What follows the frame is padding.
        datagram.fill(0);
        datagram[HEADER_BYTES..HEADER_BYTES + PATH_FRAME_BYTES].copy_from_slice(&payload);
        self.seal(now, datagram)?;
        self.finish_unmanaged(now, length);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += length as u64;
        Some((to, length))
    }
}

/// The challenge of this number in 32 random bytes.
fn challenge_of(entropy: &[u8; 32], number: usize) -> Challenge {
    let mut challenge = Challenge::default();
    let length = challenge.len();
    challenge.copy_from_slice(&entropy[number * length..][..length]);
    challenge
}

impl std::fmt::Debug for Paths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Paths")
    }
}
