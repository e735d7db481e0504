//! The load: which message is due when, and what became of it. No socket, no clock.
//!
//! Instants are nanoseconds since the load began. Call order, each turn of the generator:
//! [`Load::poll_send`] until it gives nothing, each answered by [`Load::handle_sent`] once the transport has taken
//! the message; [`Load::handle_reply`] for whatever came; then sleep until [`Load::poll_timeout`], or not;
//! until [`Load::is_over`].
//!
//! In an open loop message `i` is due at `i / rate`, whatever happened before, and its latency counts from that
//! instant: a generator that is late sends at once, back to back, and a server that stalled is charged with every
//! message that was due meanwhile (no coordinated omission). Warm-up ends by the schedule, not by replies.

use std::collections::{HashSet, VecDeque};

use crate::result::Pace;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Most messages on their way at a time; with more the generator stops, and misses its rate.
pub const OUTSTANDING_MAX: usize = 1 << 20;
/// Most lost messages whose numbers are kept, so that a late reply is told from a duplicate.
pub const LOST_KEPT_MAX: usize = 1 << 16;
/// The last message may be so late without lowering the rate: a stall is judged for itself, wherever it falls.
pub const LATE_END_NS: u64 = 20_000_000;
/// Messages on their way when saturating.
pub const SATURATING_WINDOW: usize = 256;

const _: () = assert!(SATURATING_WINDOW <= OUTSTANDING_MAX);

/// A load, before it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// What sets the pace.
    pub pace: Pace,
    /// Sent, not counted.
    pub warmup_ns: u64,
    /// Sent and counted.
    pub measured_ns: u64,
    /// A reply that takes longer is lost; so long is waited for the last ones.
    pub reply_ns_max: u64,
}

impl Plan {
    /// When the last message is due.
    pub fn end_ns(&self) -> u64 {
        self.warmup_ns + self.measured_ns
    }
}

/// A message to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Counts up from 0.
    pub number: u64,
    /// The instant that its latency counts from.
    pub due_ns: u64,
}

/// A reply that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// When the message was due, since the end of the warm-up.
    pub at_ns: u64,
    /// From then to the reply.
    pub latency_ns: u64,
}

/// What became of the messages that count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Messages a second that the pace asks for; absent in a closed loop.
    pub asked_per_s: Option<f64>,
    /// Messages a second that were sent.
    pub achieved_per_s: f64,
    /// Sent.
    pub sent: u64,
    /// Answered in time.
    pub replies: u64,
    /// Not answered within [`Plan::reply_ns_max`].
    pub lost: u64,
    /// Of those, answered after all.
    pub late: u64,
    /// Answered again; with those of the warm-up.
    pub duplicated: u64,
}

/// An entry of [`Load::outstanding`] whose reply has come.
const ANSWERED: u64 = u64::MAX;

/// The state of a load.
#[derive(Debug)]
pub struct Load {
    plan: Plan,
    next_number: u64,
    /// Number of the first entry of `outstanding`.
    first_outstanding: u64,
    /// When each was due, or [`ANSWERED`]; the first never is.
    outstanding: VecDeque<u64>,
    unanswered: usize,
    lost_numbers: HashSet<u64>,
    last_sent_ns: u64,
    tally: Tally,
}

impl Load {
    /// A load that begins at 0.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            next_number: 0,
            first_outstanding: 0,
            outstanding: VecDeque::with_capacity(SATURATING_WINDOW),
            unanswered: 0,
            lost_numbers: HashSet::new(),
            last_sent_ns: 0,
            tally: Tally::default(),
        }
    }

    /// The message to send now, if any; the same again until [`Self::handle_sent`].
    pub fn poll_send(&mut self, now_ns: u64) -> Option<Due> {
        self.give_up_on_the_late(now_ns);
        let due_ns = match self.plan.pace {
            Pace::Open { rate_per_s } => due_ns(self.next_number, rate_per_s),
            Pace::Closed | Pace::Saturating => now_ns,
        };
        // A generator that is late has as long as a reply has, then it must own up to its rate.
        let open = now_ns >= due_ns
            && due_ns < self.plan.end_ns()
            && now_ns < self.plan.end_ns() + self.plan.reply_ns_max
            && self.unanswered < self.window()
            && self.outstanding.len() < OUTSTANDING_MAX;
        open.then_some(Due { number: self.next_number, due_ns })
    }

    /// The transport has taken the message.
    pub fn handle_sent(&mut self, due: Due, now_ns: u64) {
        assert_eq!(due.number, self.next_number, "messages leave in their order, each once");
        self.next_number += 1;
        self.outstanding.push_back(due.due_ns);
        self.unanswered += 1;
        self.last_sent_ns = now_ns;
        self.tally.sent += u64::from(self.counts(due.due_ns));
    }

    /// A reply has come; what it adds to the figures, if anything.
    pub fn handle_reply(&mut self, number: u64, now_ns: u64) -> Option<Timed> {
        let Some(index) = number.checked_sub(self.first_outstanding) else {
            if self.lost_numbers.remove(&number) {
                self.tally.late += 1;
            } else {
                self.tally.duplicated += 1;
            }
            return None;
        };
        // A number that was never sent is nobody's reply; the caller has compared the bytes.
        let entry = usize::try_from(index).ok().and_then(|index| self.outstanding.get_mut(index))?;
        if *entry == ANSWERED {
            self.tally.duplicated += 1;
            return None;
        }
        let due_ns = std::mem::replace(entry, ANSWERED);
        self.unanswered -= 1;
        self.drop_answered();
        if !self.counts(due_ns) {
            return None;
        }
        self.tally.replies += 1;
        Some(Timed { at_ns: due_ns - self.plan.warmup_ns, latency_ns: now_ns.saturating_sub(due_ns) })
    }

    /// When to look again even if nothing comes. At or before `now_ns`: at once.
    pub fn poll_timeout(&self, now_ns: u64) -> u64 {
        let give_up_ns = self.outstanding.front().map_or(u64::MAX, |due_ns| due_ns + self.plan.reply_ns_max);
        let send_ns = match self.plan.pace {
            _ if self.unanswered >= self.window() || self.outstanding.len() >= OUTSTANDING_MAX => u64::MAX,
            Pace::Open { rate_per_s } => due_ns(self.next_number, rate_per_s),
            Pace::Closed | Pace::Saturating => now_ns,
        };
        let send_ns = if send_ns < self.plan.end_ns() { send_ns } else { u64::MAX };
        give_up_ns.min(send_ns).min(self.plan.end_ns() + self.plan.reply_ns_max)
    }

    /// Whether everything was sent and answered, or given up on.
    pub fn is_over(&mut self, now_ns: u64) -> bool {
        self.give_up_on_the_late(now_ns);
        let all_due = match self.plan.pace {
            Pace::Open { rate_per_s } => due_ns(self.next_number, rate_per_s) >= self.plan.end_ns(),
            Pace::Closed | Pace::Saturating => now_ns >= self.plan.end_ns(),
        };
        let out_of_time = now_ns >= self.plan.end_ns() + self.plan.reply_ns_max;
        (all_due && self.unanswered == 0) || out_of_time
    }

    /// Ends the load: whatever is still unanswered is lost.
    pub fn into_tally(mut self) -> Tally {
        while let Some(due_ns) = self.outstanding.pop_front() {
            if due_ns != ANSWERED {
                self.tally.lost += u64::from(self.counts(due_ns));
            }
        }
        let late_end_ns = self.last_sent_ns.saturating_sub(self.plan.warmup_ns + LATE_END_NS);
        let sending_ns = late_end_ns.max(self.plan.measured_ns);
        self.tally.achieved_per_s = if self.tally.sent > 0 {
            self.tally.sent as f64 * SECOND_NS as f64 / sending_ns.max(1) as f64
        } else {
            // Not even the warm-up was sent in time: what was sent of it tells what is possible.
            self.next_number as f64 * SECOND_NS as f64 / self.last_sent_ns.max(1) as f64
        };
        if let Pace::Open { rate_per_s } = self.plan.pace {
            self.tally.asked_per_s = Some(rate_per_s);
        }
        self.tally
    }

    fn window(&self) -> usize {
        match self.plan.pace {
            Pace::Closed => 1,
            Pace::Open { .. } => usize::MAX,
            Pace::Saturating => SATURATING_WINDOW,
        }
    }

    /// Whether a message belongs to the figures.
    fn counts(&self, due_ns: u64) -> bool {
        (self.plan.warmup_ns..self.plan.end_ns()).contains(&due_ns)
    }

    fn drop_answered(&mut self) {
        while self.outstanding.front() == Some(&ANSWERED) {
            self.outstanding.pop_front();
            self.first_outstanding += 1;
        }
    }

    fn give_up_on_the_late(&mut self, now_ns: u64) {
        while let Some(&due_ns) = self.outstanding.front()
            && due_ns + self.plan.reply_ns_max <= now_ns
        {
            if self.counts(due_ns) {
                self.tally.lost += 1;
            }
            if self.lost_numbers.len() < LOST_KEPT_MAX {
                self.lost_numbers.insert(self.first_outstanding);
            }
            self.outstanding.pop_front();
            self.first_outstanding += 1;
            self.unanswered -= 1;
            self.drop_answered();
        }
    }
}

/// When a message of an open loop is due. Computed from its number, so that no error adds up.
fn due_ns(number: u64, rate_per_s: f64) -> u64 {
    (number as f64 * SECOND_NS as f64 / rate_per_s) as u64
}

#[cfg(test)]
mod tests;
