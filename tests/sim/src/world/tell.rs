//! What counters and networks have to say, for the trace.

use netem::DropReason;

use super::World;

/// Counters that grow all the time, and say nothing new.
const DULL: [&str; 6] = [
    "datagrams_sent",
    "bytes_sent",
    "datagrams_received",
    "bytes_received",
    "messages_sent",
    "messages_received",
];

impl World {
    /// Tells which counters of a client have moved.
    pub(super) fn tell_client_counters(&mut self, attempt: usize) {
        let attempt = &mut self.attempts[attempt];
        let Some(connection) = attempt.connection.as_ref().filter(|_| self.trace.is_on()) else { return };
        let before = std::mem::replace(&mut attempt.client_stats, *connection.stats());
        let name = attempt.name();
        for what in moved(before.fields(), attempt.client_stats.fields()) {
            self.trace.say(self.now, &name, || what);
        }
    }

    /// Tells which counters of the node have moved.
    pub(super) fn tell_node_counters(&mut self) {
        if !self.trace.is_on() {
            return;
        }
        let before = std::mem::replace(&mut self.node.stats_told, *self.node.endpoint.stats());
        for what in moved(before.fields(), self.node.stats_told.fields()) {
            self.trace.say(self.now, "node", || what);
        }
        for (&key, &number) in &self.node.by_key {
            let Some(connection) = self.node.endpoint.connection(key) else { continue };
            let attempt = &mut self.attempts[number];
            let before = std::mem::replace(&mut attempt.node_stats, *connection.stats());
            let name = attempt.name();
            for what in moved(before.fields(), attempt.node_stats.fields()) {
                self.trace.say(self.now, "node", || format!("{what} for {name}"));
            }
        }
    }

    /// Tells which datagrams will not arrive.
    pub(super) fn tell_drops(&mut self) {
        let Some(drops) = &self.drops else { return };
        for (number, at, why) in drops.borrow_mut().drain(..) {
            let why = match why {
                DropReason::Lost => "loses",
                DropReason::QueueFull => "has no room in its queue for",
                DropReason::Policed => "polices away",
                DropReason::Blackhole => "is down and loses",
                DropReason::Overflow => "cannot hold",
                DropReason::Unmapped => "knows no receiver any more for",
            };
            let what = format!("{why} {}", self.trace.name_of(number));
            self.trace.say(at, "network", || what);
        }
    }
}

fn moved(
    before: impl Iterator<Item = (&'static str, u64)>,
    after: impl Iterator<Item = (&'static str, u64)>,
) -> Vec<String> {
    let both =
        before.zip(after).filter(|((name, before), (_, after))| before != after && !DULL.contains(name));
    both.map(|((name, before), (_, after))| {
        format!("counts {name} {after} (+{})", after.saturating_sub(before))
    })
    .collect()
}
