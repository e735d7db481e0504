//! The way out: whose turn it is to send.

use std::net::SocketAddr;

use wire::{Ecn, Time};

use super::Endpoint;
use crate::connection::Transmit;

/// Datagrams that one connection sends before the next has its turn.
const BURST_DATAGRAMS: usize = 8;
/// Datagrams of connections that leave before an answer to somebody who has none: a flood must not hold them up, and they
/// must not keep a client out.
const REPLY_AFTER_DATAGRAMS: usize = 4;
/// Datagrams and trains in a row that leave before those that can wait have one.
const AHEAD_MAX: u32 = 16;

impl Endpoint {
    /// Writes the next datagram of any connection into `buffer`: its receiver and length, or nothing when
    /// there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Time, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        self.poll_transmit_train(now, buffer, 1).map(|(remote, train)| (remote, train.bytes))
    }

    /// Writes the next datagrams of any connection into `buffer`, at most `datagrams_max`: their receiver and
    /// sizes, or nothing when there is nothing to send now.
    pub fn poll_transmit_train(
        &mut self,
        now: Time,
        buffer: &mut [u8],
        datagrams_max: usize,
    ) -> Option<(SocketAddr, Transmit)> {
        if self.since_reply < REPLY_AFTER_DATAGRAMS
            && let Some((to, train)) = self.poll_connections(now, buffer, datagrams_max)
        {
            self.since_reply += train.datagrams;
            return Some((to, train));
        }
        self.since_reply = 0;
        let Some((to, bytes)) = self.replies.poll(buffer) else {
            return self.poll_connections(now, buffer, datagrams_max);
        };
        self.stats.datagrams_sent += 1;
        Some((to, Transmit { bytes, segment_bytes: bytes, datagrams: 1, ecn: Ecn::NotEct }))
    }

    fn poll_connections(
        &mut self,
        now: Time,
        buffer: &mut [u8],
        datagrams_max: usize,
    ) -> Option<(SocketAddr, Transmit)> {
        loop {
            let is_behind = self.ready.is_empty() || (self.ahead >= AHEAD_MAX && !self.behind.is_empty());
            let list = if is_behind { &mut self.behind } else { &mut self.ready };
            let key = *list.front()?;
            let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.connection.key() == key)
            else {
                list.pop_front();
                continue;
            };
            if let Some((to, bytes)) = slot.connection.poll_path_probe(now, buffer) {
                self.stats.datagrams_sent += 1;
                return Some((to, Transmit { bytes, segment_bytes: bytes, datagrams: 1, ecn: Ecn::NotEct }));
            }
            if let Some(train) = slot.connection.poll_transmit_train(now, buffer, datagrams_max) {
                let remote = slot.connection.remote();
                self.stats.datagrams_sent += train.datagrams as u64;
                self.ahead = if is_behind { 0 } else { self.ahead.saturating_add(1) };
                self.burst += train.datagrams;
                if !slot.connection.may_transmit(now) {
                    // While it is in the caches: it need not be asked again.
                    self.end_turn(is_behind);
                } else if self.burst >= BURST_DATAGRAMS {
                    self.burst = 0;
                    list.rotate_left(1);
                }
                return Some((remote, train));
            }
            self.end_turn(is_behind);
        }
    }

    /// The first connection of a list has nothing more to send.
    fn end_turn(&mut self, is_behind: bool) {
        self.burst = 0;
        let list = if is_behind { &mut self.behind } else { &mut self.ready };
        let Some(key) = list.pop_front() else { return };
        let list = if is_behind { &self.behind } else { &self.ready };
        self.prefetch_next(list);
        if let Some(slot) = self.slot_mut(key) {
            *(if is_behind { &mut slot.is_behind } else { &mut slot.is_ready }) = false;
            self.settle(key);
        }
    }
}
