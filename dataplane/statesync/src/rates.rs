//! How much of something may be done each second, and at once after a pause: token buckets, kept as one number each.

use wire::{Span, Time};

const NS_PER_US: u64 = 1_000;
const NS_PER_S: u128 = 1_000_000_000;
/// What has been taken beyond the rate without being asked for counts up to so many bursts.
const BURSTS_OWED_MAX: u64 = 2;

/// What one session may do on one shard, however many connections it has. A rate of 0: as much as it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionRates {
    /// Ops a second.
    pub ops_per_s: u64,
    /// Bytes of their payloads a second.
    pub op_bytes_per_s: u64,
    /// Joins a second.
    pub joins_per_s: u64,
    /// Presence entries a second.
    pub presence_per_s: u64,
    /// After a pause, as much as otherwise in this time may come at once.
    pub burst: Span,
}

impl Default for SessionRates {
    /// A quarter of what a core can do, since a gateway is one session, too.
    fn default() -> Self {
        Self {
            ops_per_s: 25_000,
            op_bytes_per_s: 32 << 20,
            joins_per_s: 2_000,
            presence_per_s: 20_000,
            burst: Span::from_ms(2_000),
        }
    }
}

impl SessionRates {
    /// No session is held back.
    pub const UNLIMITED: Self = Self {
        ops_per_s: 0,
        op_bytes_per_s: 0,
        joins_per_s: 0,
        presence_per_s: 0,
        burst: Span::from_ms(2_000),
    };
}

/// So much at this rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) amount: u64,
    /// 0: as much as one likes.
    pub(crate) per_s: u64,
    pub(crate) burst: Span,
}

impl Demand {
    fn cost_ns(&self) -> u64 {
        let cost = u128::from(self.amount) * NS_PER_S / u128::from(self.per_s.max(1));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    const fn burst_ns(&self) -> u64 {
        self.burst.as_us().saturating_mul(NS_PER_US)
    }
}

/// What was taken of one rate: the moment at which the rate will have made up for it (the generic cell rate algorithm, ITU-T
/// I.371).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Meter {
    even_at_ns: u64,
}

impl Meter {
    fn debt_ns(self, now: Time) -> u64 {
        self.even_at_ns.saturating_sub(ns(now))
    }

    /// Whether a pause has made up for all that was taken.
    pub(crate) fn is_even(self, now: Time) -> bool {
        self.debt_ns(now) == 0
    }

    /// Whether so much may be taken; else how long to wait: until a quarter of a burst is free, so that who waits does not
    /// come back for each single one.
    pub(crate) fn check(self, now: Time, demand: &Demand) -> Result<(), Span> {
        let (debt, burst) = (self.debt_ns(now), demand.burst_ns());
        let after = debt.saturating_add(demand.cost_ns());
        if demand.per_s == 0 || debt == 0 || after <= burst {
            return Ok(());
        }
        let wait = (after - burst).max(debt.saturating_sub(burst / 4 * 3)).min(debt);
        Err(Span::from_us(wait.div_ceil(NS_PER_US)))
    }

    /// Takes so much, whether or not it may be.
    pub(crate) fn charge(&mut self, now: Time, demand: &Demand) {
        if demand.per_s == 0 {
            return;
        }
        let owed_max = demand.burst_ns().saturating_mul(BURSTS_OWED_MAX).max(demand.cost_ns());
        let debt = self.debt_ns(now).saturating_add(demand.cost_ns()).min(owed_max);
        self.even_at_ns = ns(now).saturating_add(debt);
    }
}

const fn ns(time: Time) -> u64 {
    time.as_us().saturating_mul(NS_PER_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: Span = Span::from_ms(2_000);

    fn demand(amount: u64) -> Demand {
        Demand { amount, per_s: 100, burst: BURST }
    }

    fn at(ms: u64) -> Time {
        Time::from_us(1_000_000 + ms * 1_000)
    }

    fn take(meter: &mut Meter, now: Time, amount: u64) -> Result<(), Span> {
        meter.check(now, &demand(amount)).inspect(|()| meter.charge(now, &demand(amount)))
    }

    #[test]
    fn more_or_less_than_the_rate_is_let_through() {
        let mut meter = Meter::default();
        let mut taken = 0;
        for ms in 0..10_000 {
            while take(&mut meter, at(ms), 1).is_ok() {
                taken += 1;
            }
        }
        // Two seconds' worth at once, then 100 a second.
        assert_eq!(taken, 200 + 999);
    }

    #[test]
    fn who_waits_as_told_is_refused_again_or_waits_for_each_single_one() {
        let mut meter = Meter::default();
        while take(&mut meter, at(0), 1).is_ok() {}
        let wait = take(&mut meter, at(0), 1).unwrap_err();
        assert_eq!(wait, Span::from_ms(500));
        let mut again = 0;
        while take(&mut meter, at(0) + wait, 1).is_ok() {
            again += 1;
        }
        assert_eq!(again, 50);
    }

    #[test]
    fn what_is_larger_than_a_burst_never_gets_through() {
        let mut meter = Meter::default();
        assert_eq!(take(&mut meter, at(0), 1_000), Ok(()));
        assert_eq!(
            take(&mut meter, at(0), 1_000),
            Err(Span::from_ms(10_000)),
            "until all of it is made up for"
        );
        assert_eq!(take(&mut meter, at(10_000), 1_000), Ok(()));
    }

    #[test]
    fn a_repeat_that_must_be_taken_puts_the_sender_off_for_ever() {
        let mut meter = Meter::default();
        (0..100_000).for_each(|_| meter.charge(at(0), &demand(1)));
        assert_eq!(take(&mut meter, at(0), 1), Err(Span::from_ms(2_500)));
        assert!(!meter.is_even(at(3_999)) && meter.is_even(at(4_000)));
    }

    #[test]
    fn a_session_without_a_rate_is_held_back() {
        let mut meter = Meter::default();
        let unlimited = Demand { amount: u64::MAX, per_s: 0, burst: Span::ZERO };
        for _ in 0..10 {
            assert_eq!(meter.check(at(0), &unlimited), Ok(()));
            meter.charge(at(0), &unlimited);
        }
    }
}
