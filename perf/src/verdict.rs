//! Whether a repeat may be believed, and what that makes of its run.

use crate::load::Tally;
use crate::result::{Repeats, Verdict};

/// A repeat below this part of the rate that was asked for has failed.
pub const RATE_RATIO_MIN: f64 = 0.99;
/// The generator may be away for this part of the measured time between two turns of its loop, unless told otherwise:
/// what is due meanwhile is late by its fault, and 99th percentiles must not be its own.
pub const STALL_PART_MAX: f64 = 0.005;
/// For so long it may be away in any case, microseconds.
pub const STALL_US_MAX: u64 = 2_000;
/// The kernel tells of stolen time in steps of this, microseconds: less than one is not seen.
const STEAL_TICK_US: f64 = 10_000.0;
/// A run tries at most so many times as many repeats as are wanted, when some were thrown away.
pub const ATTEMPTS_PER_REPEAT_MAX: u32 = 3;

const _: () = assert!(RATE_RATIO_MIN > 0.5 && RATE_RATIO_MIN < 1.0);

/// What a repeat saw, besides its figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// What became of its messages.
    pub tally: Tally,
    /// The longest that the generator was away between two turns, microseconds.
    pub generator_stall_us: f64,
    /// How long the hypervisor gave the generator's core to others, microseconds; 0 where it does not say.
    pub generator_steal_us: f64,
    /// The longest that the server was away between two turns, microseconds; 0 where that is not known.
    pub server_stall_us: f64,
    /// Replies that were not the bytes that were sent.
    pub damaged: u64,
    /// What else of the machine held it up, each in one sentence: it is to be done again.
    pub held_up: Vec<String>,
    /// Whatever else makes it void, each in one sentence.
    pub reasons: Vec<String>,
}

/// What a repeat is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It counts.
    Passed,
    /// The machine held up the measurement: to be done again.
    Stalled(Vec<String>),
    /// It is void.
    Failed(Vec<String>),
}

/// Judges one repeat.
pub fn judge(findings: &Findings, stall_us_max: u64) -> Judgement {
    let tally = &findings.tally;
    let mut reasons = findings.reasons.clone();
    if let Some(asked) = tally.asked_per_s
        && tally.achieved_per_s < asked * RATE_RATIO_MIN
    {
        let achieved = tally.achieved_per_s;
        reasons.push(format!(
            "asked for {asked:.0} messages/s and sent {achieved:.0}/s ({:.1} %; at least {:.0} % needed)",
            achieved / asked * 100.0,
            RATE_RATIO_MIN * 100.0
        ));
    }
    if tally.lost > 0 {
        reasons.push(format!(
            "{} of {} replies were lost ({} of them came too late)",
            tally.lost, tally.sent, tally.late
        ));
    }
    if tally.duplicated > 0 {
        reasons.push(format!("{} replies came more than once", tally.duplicated));
    }
    if findings.damaged > 0 {
        reasons.push(format!("{} replies were not what was sent", findings.damaged));
    }
    let limit_us = stall_us_max as f64;
    if findings.generator_stall_us > limit_us {
        let stall_us = findings.generator_stall_us;
        reasons.push(format!(
            "the generator was held up for {stall_us:.0} us (at most {limit_us:.0} us allowed)"
        ));
        return Judgement::Stalled(reasons);
    }
    if findings.generator_steal_us > limit_us.max(STEAL_TICK_US) {
        let steal_us = findings.generator_steal_us;
        reasons.push(format!(
            "the hypervisor took the generator's core away for {steal_us:.0} us (at most {limit_us:.0} us allowed)"
        ));
        return Judgement::Stalled(reasons);
    }
    if !findings.held_up.is_empty() {
        reasons.extend(findings.held_up.iter().cloned());
        return Judgement::Stalled(reasons);
    }
    if reasons.is_empty() {
        return Judgement::Passed;
    }
    // A held-up server alone is not excused, it is what tails show. But messages that a datagram socket dropped
    // meanwhile say nothing about the transport.
    if findings.reasons.is_empty() && findings.server_stall_us > limit_us {
        let stall_us = findings.server_stall_us;
        reasons.push(format!("the server was held up for {stall_us:.0} us meanwhile"));
        return Judgement::Stalled(reasons);
    }
    Judgement::Failed(reasons)
}

/// Judges a run by its repeats: one that failed, or none that passed, and there are no figures.
///
/// `reasons`: of the repeats that did not pass, the latest last.
pub fn judge_run(repeats: Repeats, reasons: &[String]) -> Verdict {
    if repeats.failed == 0 && repeats.passed > 0 {
        return Verdict::Passed;
    }
    let mut said: Vec<String> = Vec::new();
    for reason in reasons {
        if !said.contains(reason) {
            said.push(reason.clone());
        }
    }
    if said.is_empty() {
        said.push("no repeat was finished".to_owned());
    }
    Verdict::Failed { reasons: said }
}

#[cfg(test)]
mod tests;
