//! When the transactions of a trace were made: RFC 3339 dates in UTC.

use std::time::Duration;

const DAYS_PER_ERA: i64 = 146_097;
const YEARS_PER_ERA: i64 = 400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// More transactions a second than this, over all of a trace, and its times are those of a conversion: nobody types so.
const TYPED_PER_S_MAX: i64 = 1_000;
/// Fewer transactions than this can come in a moment.
const TYPED_MIN: usize = 1_000;

/// The time of each transaction since the first, with `before` transactions put before it at the same moment;
/// empty when a time is missing, or all are the same or are so close that nobody typed them. Clocks that were set back stand still.
pub(crate) fn since_the_first<'a>(
    times: impl Iterator<Item = Option<&'a str>>,
    before: usize,
) -> Vec<Duration> {
    let Some(times) = times.map(|time| unix_ms(time?)).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let first = times.first().copied().unwrap_or_default();
    let mut latest = 0;
    let mut since = vec![Duration::ZERO; before];
    since.extend(times.into_iter().map(|time| {
        latest = latest.max(time.saturating_sub(first));
        Duration::from_millis(u64::try_from(latest).unwrap_or_default())
    }));
    let is_typed = since.len() < TYPED_MIN || since.len() as i64 <= latest / 1_000 * TYPED_PER_S_MAX;
    if latest == 0 || !is_typed { Vec::new() } else { since }
}

/// `2018-07-31T22:13:47.123Z`, of which the fraction may be left out; none: it is no such date.
fn unix_ms(time: &str) -> Option<i64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    let is_date = (0..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let is_clock = hour < 24 && minute < 60 && second <= 60;
    if !is_date || !is_clock || fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + ms)
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let parts = text.split(between).map(|part| part.parse::<u32>().ok().map(i64::from));
    parts.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Days since 1970-01-01 in the Gregorian calendar; the year begins in March here, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(YEARS_PER_ERA);
    let of_era = year.rem_euclid(YEARS_PER_ERA);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_PER_ERA + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_another_moment() {
        assert_eq!(unix_ms("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(unix_ms("2018-07-31T22:13:47.5Z"), Some(1_533_075_227_500));
        assert_eq!(unix_ms("2024-02-29T23:59:59Z"), Some(1_709_251_199_000));
        for wrong in
            ["x", "2018-07-31", "2018-13-31T22:13:47Z", "2018-07-31T25:13:47Z", "2018-07-31T22:13:47.äZ"]
        {
            assert_eq!(unix_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_that_say_nothing_are_taken_for_a_pace() {
        let same = ["1970-01-01T00:00:00.000Z"; 3].map(Some);
        assert_eq!(since_the_first(same.into_iter(), 0), []);
        assert_eq!(since_the_first([Some("2018-07-31T22:13:47Z"), None].into_iter(), 0), []);
    }

    #[test]
    fn a_clock_that_was_set_back_runs_backwards() {
        let times = ["2018-07-31T22:13:47Z", "2018-07-31T22:13:49Z", "2018-07-31T22:13:48Z"].map(Some);
        let [zero, two] = [0, 2].map(Duration::from_secs);
        assert_eq!(since_the_first(times.into_iter(), 1), [zero, zero, two, two]);
    }

    #[test]
    fn the_moment_of_a_conversion_is_taken_for_typing() {
        let times = |count: usize, ms: usize| -> usize {
            let texts: Vec<String> = (0..count)
                .map(|index| {
                    let ms = index * ms / count;
                    format!("2021-04-19T06:{:02}:{:02}.{:03}Z", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
                })
                .collect();
            since_the_first(texts.iter().map(|text| Some(text.as_str())), 0).len()
        };
        assert_eq!(times(10_000, 294), 0);
        assert_eq!(times(10_000, 600_000), 10_000);
        assert_eq!(times(999, 294), 999, "a few may come in a moment");
    }
}
