//! How much redundancy a path needs: the least that brings back what is lost before the deadline.
//!
//! Repairs cover all recent symbols, so symbols that are missing come back together as soon as as many repairs have
//! come as symbols are missing. What counts is therefore how far repairs are behind: each lost symbol adds one, each
//! repair that comes takes one away. That is followed over the states of the path's [`Chain`].

use wire::Span;

use super::estimate::Chain;

/// A symbol is this many units of redundancy: repairs may come after fractions of symbols.
pub(crate) const UNITS_PER_SYMBOL: u32 = 16;
/// The intervals between repairs that are considered, in units, from the least redundancy to the most.
const INTERVALS: [u32; 17] = [160, 128, 112, 96, 88, 80, 72, 64, 56, 48, 44, 40, 36, 32, 28, 24, 16];
/// Repairs further behind than this do not catch up before the deadline.
const BEHIND_MAX: usize = 16;
/// Symbols until the states of the chain are as good as steady.
const WARM_UP_SYMBOLS: usize = 48;
/// Symbols that are followed to their deadline, one after the other, so that all distances to the next repair count.
const FOLLOWED_SYMBOLS: usize = 10;
/// Symbols after which there is no more to come back by: what a repair covers at most.
const HORIZON_SYMBOLS_MAX: usize = 32;
/// Repairs behind the last symbol, at most.
const TAIL_REPAIRS_MAX: u8 = 2;

/// What a plan is made from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Demand {
    pub(crate) chain: Chain,
    /// From one symbol to the next.
    pub(crate) symbol_interval: Span,
    /// Until when what is lost should be back, after it was sent.
    pub(crate) deadline: Span,
    /// How long a symbol waits for the first repair that covers it.
    pub(crate) repair_timer: Span,
    /// The share of what is lost that may come back later.
    pub(crate) unrecovered_max: f64,
    /// What repairs may add, in parts of what they protect.
    pub(crate) overhead_max: f64,
    /// The bytes of a repair in parts of those of a symbol's packet.
    pub(crate) repair_cost: f64,
}

/// When to send repairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Units of symbols between repairs.
    pub(crate) interval_units: u32,
    /// Repairs behind the last symbol when no more come, each a repair timer after the one before.
    pub(crate) tail_repairs: u8,
}

/// The least redundancy that leaves no more than `unrecovered_max`, within `overhead_max`.
pub(crate) fn plan(demand: &Demand) -> Plan {
    let affordable = demand.repair_cost / demand.overhead_max.max(0.01) * f64::from(UNITS_PER_SYMBOL);
    let horizon = demand.deadline.as_us() / demand.symbol_interval.as_us().max(1);
    let horizon = usize::try_from(horizon).unwrap_or(usize::MAX).min(HORIZON_SYMBOLS_MAX);
    let is_affordable = |interval: &&u32| f64::from(**interval) >= affordable;
    let dearest = INTERVALS.iter().rposition(|interval| is_affordable(&interval)).unwrap_or(0);
    let candidates = &INTERVALS[..=dearest];
    // Less redundancy never leaves less unrecovered: the first that is enough can be searched for by halves.
    let enough = candidates
        .partition_point(|&interval| unrecovered(demand.chain, interval, horizon) > demand.unrecovered_max);
    let interval_units = match candidates.get(enough) {
        Some(&interval) => interval,
        // Not to be had: all that may be spent, exactly.
        None => (affordable.ceil() as u32).clamp(UNITS_PER_SYMBOL, INTERVALS[0]),
    };
    Plan { interval_units, tail_repairs: tail_repairs(demand) }
}

/// One copy, or two when one would be lost too often. Copies are dear: twice as much may come late as elsewhere.
fn tail_repairs(demand: &Demand) -> u8 {
    let Chain { loss, stay } = demand.chain;
    let has_time = demand.repair_timer.times(u64::from(TAIL_REPAIRS_MAX)) <= demand.deadline;
    if has_time && loss.max(stay * loss) > 2.0 * demand.unrecovered_max { TAIL_REPAIRS_MAX } else { 1 }
}

/// Likelihoods: by how many repairs are missing, in the chain's good and bad state. What is further behind is left out.
#[derive(Clone, Copy)]
struct Walk {
    good: [f64; BEHIND_MAX + 1],
    bad: [f64; BEHIND_MAX + 1],
}

/// The chances of going from state to state with a packet.
#[derive(Clone, Copy)]
struct Step {
    turns_bad: f64,
    stays_bad: f64,
}

impl Walk {
    const NOWHERE: Self = Self { good: [0.0; BEHIND_MAX + 1], bad: [0.0; BEHIND_MAX + 1] };

    fn turn(&mut self, step: Step) {
        for (good, bad) in self.good.iter_mut().zip(&mut self.bad) {
            let turned = *good * step.turns_bad + *bad * step.stays_bad;
            *good += *bad - turned;
            *bad = turned;
        }
    }

    /// Sends a symbol.
    fn symbol(&mut self, step: Step) {
        self.turn(step);
        let over = self.bad[BEHIND_MAX];
        self.bad.copy_within(..BEHIND_MAX, 1);
        self.bad[0] = 0.0;
        self.bad[BEHIND_MAX] += over;
    }

    /// Sends a repair.
    fn repair(&mut self, step: Step) {
        self.turn(step);
        let caught_up = self.good[0];
        self.good.copy_within(1.., 0);
        self.good[BEHIND_MAX] = 0.0;
        self.good[0] += caught_up;
    }

    /// What is behind nothing is left out.
    fn forget_caught_up(&mut self) {
        (self.good[0], self.bad[0]) = (0.0, 0.0);
    }

    fn total(&self) -> f64 {
        self.good.iter().chain(&self.bad).sum()
    }
}

/// The share of lost symbols that is not back `horizon` symbols later, with a repair each `interval` units.
fn unrecovered(chain: Chain, interval: u32, horizon: usize) -> f64 {
    let loss = chain.loss.clamp(1e-6, 0.999);
    let stays_bad = chain.stay.clamp(loss, 0.999);
    let step = Step { turns_bad: (loss * (1.0 - stays_bad) / (1.0 - loss)).min(1.0), stays_bad };
    let mut walk = Walk::NOWHERE;
    walk.good[0] = 1.0;
    let (mut units, mut lost, mut late) = (0, 0.0, 0.0);
    for symbol in 0..WARM_UP_SYMBOLS + FOLLOWED_SYMBOLS {
        walk.symbol(step);
        if symbol >= WARM_UP_SYMBOLS {
            // Those in which this symbol was lost; they end when the repairs have caught up.
            let followed = Walk { good: [0.0; BEHIND_MAX + 1], bad: walk.bad };
            lost += followed.total();
            late += still_behind(followed, step, units, interval, horizon);
        }
        units += UNITS_PER_SYMBOL;
        while units >= interval {
            units -= interval;
            walk.repair(step);
        }
    }
    late / lost.max(f64::MIN_POSITIVE)
}

fn still_behind(mut walk: Walk, step: Step, mut units: u32, interval: u32, horizon: usize) -> f64 {
    for ahead in 0..=horizon {
        if ahead > 0 {
            walk.symbol(step);
        }
        units += UNITS_PER_SYMBOL;
        while units >= interval {
            units -= interval;
            walk.repair(step);
            walk.forget_caught_up();
        }
    }
    walk.total()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        chain: Chain { loss: 0.01, stay: 0.01 },
        symbol_interval: Span::from_ms(1),
        deadline: Span::from_ms(10),
        repair_timer: Span::from_ms(5),
        unrecovered_max: 0.01,
        overhead_max: 0.5,
        repair_cost: 1.0,
    };

    fn interval(loss: f64, stay: f64, overhead_max: f64) -> f64 {
        let found = plan(&Demand { chain: Chain { loss, stay }, overhead_max, ..DEMAND });
        f64::from(found.interval_units) / f64::from(UNITS_PER_SYMBOL)
    }

    #[test]
    fn the_plan_is_not_the_least_that_is_enough() {
        // Intervals found by playing a million symbols with a decoder that solves all there is to solve.
        assert!((4.5..=6.0).contains(&interval(0.01, 0.01, 0.5)), "{}", interval(0.01, 0.01, 0.5));
        assert!((2.25..=3.0).contains(&interval(0.05, 0.05, 0.5)), "{}", interval(0.05, 0.05, 0.5));
        assert!(interval(0.001, 0.001, 0.5) > interval(0.01, 0.01, 0.5));
    }

    #[test]
    fn long_bursts_cost_more_than_may_be_spent() {
        assert_eq!(interval(0.01, 0.667, 0.34), 48.0 / 16.0);
    }

    #[test]
    fn redundancy_does_not_help() {
        for (loss, stay) in [(0.001, 0.001), (0.01, 0.01), (0.01, 0.667), (0.2, 0.5)] {
            let shares = INTERVALS.map(|interval| unrecovered(Chain { loss, stay }, interval, 10));
            assert!(shares.is_sorted_by(|a, b| *a >= b * 0.999), "{loss} {stay}: {shares:?}");
            assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
        }
    }

    #[test]
    fn a_typist_gets_one_copy_where_one_is_often_lost() {
        let tail = |loss| plan(&Demand { chain: Chain { loss, stay: loss }, ..DEMAND }).tail_repairs;
        assert_eq!((tail(0.001), tail(0.05)), (1, 2));
    }
}
