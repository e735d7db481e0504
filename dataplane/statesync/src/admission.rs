//! Who does more than its session's rates allow is told when to go on. It is refused before anything is decoded, since
//! nothing has been spent on it by then.

use wire::sync::{PresenceEntry, Server};
use wire::{Code, Span, Time};

use crate::rates::Demand;
use crate::{StateSync, SubscriberKey};

impl StateSync {
    /// Whether an op may come in now. Ops that the document holds already count, and are never refused: their
    /// acknowledgement is all that the client waits for.
    pub(crate) fn admit_op(
        &mut self,
        now: Time,
        key: SubscriberKey,
        (handle, counter): (u32, u64),
        bytes: usize,
    ) -> bool {
        let Some(connection) = self.connections.get(&key) else { return false };
        let open = connection.open.get(&handle).copied();
        let session = connection.session_use;
        let (mut is_held, mut is_behind) = (false, false);
        if let Some(found) = open.map(|subscription| &self.subscriptions[subscription]) {
            let progress = self.documents[found.document].writers.get(found.writer);
            is_held = progress.is_some_and(|progress| counter <= progress.logged_counter);
            is_behind = found.refused_counter.is_some_and(|refused| counter > refused);
        }
        if is_behind {
            // It is refused anyway, and costs as little.
            return true;
        }
        let rates = self.config.session_rates;
        let op = Demand { amount: 1, per_s: rates.ops_per_s, burst: rates.burst };
        let payload = Demand { amount: bytes as u64, per_s: rates.op_bytes_per_s, burst: rates.burst };
        let found = self.sessions.get_mut(session);
        let refused = if is_held {
            None
        } else {
            [found.ops.check(now, &op), found.op_bytes.check(now, &payload)]
                .into_iter()
                .filter_map(Result::err)
                .max()
        };
        let Some(wait) = refused else {
            found.ops.charge(now, &op);
            found.op_bytes.charge(now, &payload);
            return true;
        };
        if let Some(subscription) = open {
            self.subscriptions[subscription].refused_counter = Some(counter);
        } else if let Some(waiting) = self.waiting_join(key, handle) {
            waiting.refused_counter.get_or_insert(counter);
        }
        self.stats.count_op_refused(Code::RateLimited);
        let text = "the session sends more ops than its rate allows: send the op again later";
        let (code, retry_after_ms) = (Code::RateLimited, retry_after_ms(wait));
        self.send_control(key, Server::Reject { handle, counter, code, retry_after_ms, text }.to_vec());
        false
    }

    /// Whether a join may come in now.
    pub(crate) fn admit_join(&mut self, now: Time, key: SubscriberKey, handle: u32) -> bool {
        let Some(connection) = self.connections.get(&key) else { return false };
        let rates = self.config.session_rates;
        let demand = Demand { amount: 1, per_s: rates.joins_per_s, burst: rates.burst };
        let found = self.sessions.get_mut(connection.session_use);
        let Err(wait) = found.joins.check(now, &demand) else {
            found.joins.charge(now, &demand);
            return true;
        };
        self.stats.count_join_refused(Code::RateLimited);
        let text = "the session opens documents faster than its rate allows: join again later";
        self.send_retry(key, handle, wait, text);
        false
    }

    /// Whether a request about a document's past may come in now. It counts as a join does: both make the store read.
    pub(crate) fn admit_request(&mut self, now: Time, key: SubscriberKey, handle: u32, request: u32) -> bool {
        let Some(connection) = self.connections.get(&key) else { return false };
        let rates = self.config.session_rates;
        let demand = Demand { amount: 1, per_s: rates.joins_per_s, burst: rates.burst };
        let found = self.sessions.get_mut(connection.session_use);
        let Err(wait) = found.joins.check(now, &demand) else {
            found.joins.charge(now, &demand);
            return true;
        };
        self.stats.requests_refused += 1;
        let text = "the session asks more than its rate allows: ask again later";
        let (code, retry_after_ms) = (Code::RateLimited, retry_after_ms(wait));
        let refused = Server::Refused { handle, request, code, retry_after_ms, text };
        self.send_control(key, refused.to_vec());
        false
    }

    /// Whether presence may come in now. A subscriber is told once, not for every message that it sends meanwhile.
    pub(crate) fn admit_presence(
        &mut self,
        now: Time,
        key: SubscriberKey,
        handle: u32,
        entries: &[PresenceEntry<'_>],
    ) -> bool {
        let Some(connection) = self.connections.get(&key) else { return false };
        // Under an unknown handle nobody hears of it.
        let Some(&subscription) = connection.open.get(&handle) else { return true };
        let rates = self.config.session_rates;
        let amount = entries.len().max(1) as u64;
        let demand = Demand { amount, per_s: rates.presence_per_s, burst: rates.burst };
        let found = self.sessions.get_mut(connection.session_use);
        let Err(wait) = found.presence.check(now, &demand) else {
            found.presence.charge(now, &demand);
            return true;
        };
        self.stats.presence_rate_limited += amount;
        let subscription = &mut self.subscriptions[subscription];
        if subscription.presence_refused_until <= now {
            subscription.presence_refused_until = now + wait;
            let text =
                "the session tells presence more often than its rate allows: tell all of it again later";
            self.send_retry(key, handle, wait, text);
        }
        false
    }

    fn send_retry(&mut self, key: SubscriberKey, handle: u32, wait: Span, text: &'static str) {
        let (code, retry_after_ms) = (Code::RateLimited, retry_after_ms(wait));
        self.send_control(key, Server::Error { handle, code, retry_after_ms, text }.to_vec());
    }
}

/// Never zero, which would say: never.
fn retry_after_ms(wait: Span) -> u32 {
    u32::try_from(wait.as_us().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}
