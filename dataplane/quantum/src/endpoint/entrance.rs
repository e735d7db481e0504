//! The way in: what a datagram for no connection is worth, the cheapest question first.

use std::net::SocketAddr;

use wire::limits::TICKET_BYTES_MAX;
use wire::{Guuid, Header, TicketError, Time};

use super::{Endpoint, Slot};
use crate::connection::{AcceptError, Acceptor, Connection, ConnectionKey, Initial, MessageSink, Now};
use crate::cookie::{CookieKeys, write_retry};
use crate::id_hash::IdHashBuilder;
use crate::reset::{RESET_BYTES, reset_packet, reset_token};
use crate::stateless::ReplyKind;
use crate::stats::EndpointStats;
use crate::used_ids::{Freshness, UsedIds};
use crate::versions::write_versions;

/// [`EndpointLimits::unproven_per_tick_max`](super::EndpointLimits) is for spans of this length.
const TICK_US: u64 = 10_000;

/// What an endpoint knows of first packets.
pub(super) struct Entrance {
    cookies: CookieKeys,
    used: UsedIds,
    tick: u64,
    /// Handshakes in this tick with clients that had not shown their address.
    unproven_in_tick: u32,
}

impl Entrance {
    pub(super) fn new(used_ids_max: usize, hash: IdHashBuilder) -> Self {
        let (cookies, used) = (CookieKeys::default(), UsedIds::new(used_ids_max, hash));
        Self { cookies, used, tick: 0, unproven_in_tick: 0 }
    }

    pub(super) fn handle_restart(&mut self, unix_ms: u64) {
        self.used.set_start(unix_ms);
    }

    /// How many handshakes were done in this tick on trust.
    fn unproven(&mut self, now: Time) -> &mut u32 {
        let tick = now.as_us() / TICK_US;
        if tick != self.tick {
            self.tick = tick;
            self.unproven_in_tick = 0;
        }
        &mut self.unproven_in_tick
    }
}

/// Why a first packet opens no connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Malformed,
    CookieInvalid,
    CookieForgotten,
    ClockFarAhead,
    Replayed,
    ConnectionLimit,
    HalfOpenLimit,
    Ticket(TicketError),
    /// It has been asked for again, with a cookie.
    Retry,
    RetrySuppressed,
    Forged,
    WrongAudience,
}

impl Refusal {
    const fn counter(self, stats: &mut EndpointStats) -> &mut u64 {
        match self {
            Self::Malformed => &mut stats.malformed_initial,
            Self::CookieInvalid => &mut stats.cookie_invalid,
            Self::CookieForgotten => &mut stats.cookie_forgotten,
            Self::ClockFarAhead => &mut stats.clock_far_ahead,
            Self::Replayed => &mut stats.replayed_initial,
            Self::ConnectionLimit => &mut stats.connection_limit,
            Self::HalfOpenLimit => &mut stats.half_open_limit,
            Self::Ticket(TicketError::UnknownKey(_)) => &mut stats.ticket_unknown_key,
            Self::Ticket(TicketError::Expired(_)) => &mut stats.ticket_expired,
            Self::Ticket(_) => &mut stats.ticket_forged,
            Self::Retry => &mut stats.retries_sent,
            Self::RetrySuppressed => &mut stats.retries_suppressed,
            Self::Forged => &mut stats.handshake_forged,
            Self::WrongAudience => &mut stats.wrong_audience,
        }
    }
}

impl From<AcceptError> for Refusal {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Ticket(malformed) => Self::Ticket(malformed.into()),
            AcceptError::Forged => Self::Forged,
            AcceptError::Audience => Self::WrongAudience,
        }
    }
}

impl Endpoint {
    /// `PROTOCOL.md`, section "Version negotiation".
    pub(super) fn handle_other_version(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        self.stats.unknown_version += 1;
        if let Some(id) = Header::connection_of_any_version(datagram)
            && self.replies.admit(now, ReplyKind::Versions)
        {
            self.replies.push(from, &write_versions(id));
            self.stats.versions_sent += 1;
        }
    }

    /// `PROTOCOL.md`, section "Stateless reset".
    pub(super) fn handle_unknown(&mut self, now: Now, id: Guuid, from: SocketAddr, received_bytes: usize) {
        self.stats.unknown_connection += 1;
        // A client that is sent away before it can be taken in again would wait longer than one that repeats itself.
        let can_serve = !self.ticket_keys.is_empty();
        if received_bytes > RESET_BYTES && can_serve && self.replies.admit(now.mono, ReplyKind::Reset) {
            self.replies.push(from, &reset_packet(&self.reset_key, id, now.unix_ms));
            self.stats.resets_sent += 1;
        }
    }

    /// A first packet: opens a connection, asks for a cookie, or drops it and counts why.
    pub(super) fn handle_initial(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl MessageSink,
    ) {
        if self.is_finishing {
            self.stats.finishing += 1;
            return;
        }
        if let Err(refusal) = self.try_initial(now, from, datagram, sink) {
            *refusal.counter(&mut self.stats) += 1;
        }
    }

    fn try_initial(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        sink: &mut impl MessageSink,
    ) -> Result<(), Refusal> {
        let initial = Initial::parse(datagram).ok_or(Refusal::Malformed)?;
        let cookie_ms = match initial.cookie {
            Some(cookie) => {
                let issued_ms = self.entrance.cookies.check(now.unix_ms, from, &initial.id, cookie);
                Some(issued_ms.ok_or(Refusal::CookieInvalid)?)
            }
            None => None,
        };
        let is_fresh = match self.entrance.used.judge(&initial.id, cookie_ms, now.unix_ms) {
            Freshness::Used => return Err(Refusal::Replayed),
            Freshness::TooFarAhead => return Err(Refusal::ClockFarAhead),
            Freshness::Unknown if cookie_ms.is_some() => return Err(Refusal::CookieForgotten),
            Freshness::Unknown => false,
            Freshness::Fresh => true,
        };
        if self.slots.len() >= self.limits.connections_max {
            return Err(Refusal::ConnectionLimit);
        }
        if self.half_open >= self.limits.half_open_max {
            return Err(Refusal::HalfOpenLimit);
        }
        let mut buffer = [0; TICKET_BYTES_MAX];
        let ticket = self.ticket_keys.open_into(initial.ticket, now.unix_ms / 1_000, &mut buffer);
        let ticket = ticket.map_err(Refusal::Ticket)?;
        if cookie_ms.is_none() {
            if !is_fresh || self.is_loaded(now.mono) {
                return Err(self.ask_again(now, from, &initial, &ticket.psk));
            }
            *self.entrance.unproven(now.mono) += 1;
        }

        let generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let key = ConnectionKey::new(entry.key() as u32, generation);
        let acceptor = Acceptor {
            key,
            config: &self.config,
            reset_token: reset_token(&self.reset_key, &initial.id),
            audience: self.audience,
            entropy: &mut self.entropy,
            from,
        };
        let connection = Connection::accept(acceptor, now, (&initial, &ticket), sink)?;
        self.generation = generation;
        entry.insert(Slot {
            connection,
            is_ready: false,
            is_behind: false,
            is_half_open: true,
            held_bytes: 0,
            queued_bytes: 0,
        });
        self.entrance.used.insert(initial.id, cookie_ms, ticket.expires_unix_s, now.unix_ms);
        self.stats.connections_opened += 1;
        self.half_open += 1;
        self.by_id.insert(initial.id, key);
        self.touch(now.mono, key);
        self.keep_receive_budget(now.mono);
        Ok(())
    }

    /// Whether handshakes are only done with clients that have shown their address (`PROTOCOL.md`, section "Retry").
    fn is_loaded(&mut self, now: Time) -> bool {
        self.half_open >= self.limits.half_open_retry
            || *self.entrance.unproven(now) >= self.limits.unproven_per_tick_max
    }

    fn ask_again(&mut self, now: Now, to: SocketAddr, initial: &Initial<'_>, psk: &[u8; 32]) -> Refusal {
        if !self.replies.admit(now.mono, ReplyKind::Retry) {
            return Refusal::RetrySuppressed;
        }
        let cookie = self.entrance.cookies.issue(&mut self.entropy, now.unix_ms, to, &initial.id);
        self.replies.push(to, &write_retry(initial.id, &cookie, psk, &initial.tag()));
        Refusal::Retry
    }
}
