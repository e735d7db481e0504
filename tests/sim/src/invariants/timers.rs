//! A timer that has fired makes something happen, or fires later.

use wire::Time;

use super::{Check, Invariant};

/// Turns at one instant in which nothing arrives and nothing is asked for.
const IDLE_TURNS_MAX: u32 = 64;

/// Counts turns in which only timers were served.
#[derive(Debug, Default)]
pub(crate) struct TimerWatch {
    now: Time,
    idle_turns: u32,
}

impl TimerWatch {
    /// A turn is over.
    pub(crate) fn on_turn(&mut self, now: Time, has_happened: bool) -> Check {
        if now > self.now || has_happened {
            self.now = now;
            self.idle_turns = 0;
            return Ok(());
        }
        self.idle_turns += 1;
        if self.idle_turns <= IDLE_TURNS_MAX {
            return Ok(());
        }
        let seen = format!("timers have fired {IDLE_TURNS_MAX} times at one instant, and are due again");
        Err((Invariant::Timers, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_for_ever_at_one_instant() {
        let mut watch = TimerWatch::default();
        let now = Time::from_us(5);
        let turns = (0..1_000).take_while(|_| watch.on_turn(now, false).is_ok()).count();
        assert_eq!(turns, IDLE_TURNS_MAX as usize + 1);
        watch.on_turn(Time::from_us(6), false).unwrap();
    }
}
