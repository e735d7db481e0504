//! Figures in words.

use crate::result::{Pace, Waiting};

/// A figure to three significant digits, thousands apart: `0.123`, `4.03`, `12.6`, `1,234`.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || m >= 99.95 => 0,
        m if m >= 9.995 => 1,
        m if m >= 0.9995 => 2,
        m if m >= 0.001 => 3,
        _ => return format!("{value:.1e}"),
    };
    let text = format!("{magnitude:.decimals$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(w, f)| (w, f));
    let mut out = String::new();
    if value < 0.0 {
        out.push('-');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// A value at a mark of an axis: as short as it can be told.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Microseconds at a mark of an axis: `200 ns`, `5 µs`, `10 ms`, `2 s`.
pub(crate) fn duration(us: f64) -> String {
    match us {
        _ if us == 0.0 => "0".to_owned(),
        _ if us < 0.9999 => format!("{} ns", short((us * 1e3).round())),
        _ if us < 999.9 => format!("{} µs", short(us)),
        _ if us < 999_900.0 => format!("{} ms", short(us / 1e3)),
        _ => format!("{} s", short(us / 1e6)),
    }
}

/// A count at a mark of an axis: `500`, `20k`, `1.5M`.
pub(crate) fn count(value: f64) -> String {
    match value.abs() {
        m if m >= 999_999.0 => format!("{}M", short(value / 1e6)),
        m if m >= 9_999.0 => format!("{}k", short(value / 1e3)),
        _ => short(value),
    }
}

/// A size: `64 B`, `1.5 KiB`.
pub(crate) fn bytes(value: f64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if value.abs() < 1024.0 {
        return format!("{} B", short(value));
    }
    let mut scaled = value / 1024.0;
    let mut unit = 0;
    while scaled.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let text = if scaled.fract() == 0.0 { short(scaled) } else { number(scaled) };
    format!("{text} {}", UNITS[unit])
}

/// A unit in which values up to this one are short, and what they are multiplied with: bytes become KiB or MiB.
pub(crate) fn scaled(unit: &str, most: f64) -> (String, f64) {
    let Some(rest) = unit.strip_prefix('B').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return (unit.to_owned(), 1.0);
    };
    let (unit, factor) = match most.abs() {
        most if most >= 1_048_576.0 => ("MiB", 1_048_576.0),
        most if most >= 2_048.0 => ("KiB", 1_024.0),
        _ => ("B", 1.0),
    };
    (format!("{unit}{rest}"), 1.0 / factor)
}

/// What is measured and in what: `goodput_gbit_per_s` is "goodput" in "Gbit/s".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) what: String,
    pub(crate) unit: String,
}

/// Takes a name with its unit last apart.
pub(crate) fn name(name: &str) -> Name {
    let (head, per) = name.split_once("_per_").map_or((name, None), |(head, per)| (head, Some(per)));
    let mut words: Vec<&str> = head.split('_').collect();
    let suffix = match words.last() {
        Some(&last @ ("max" | "min" | "mean" | "total")) if words.len() > 1 => {
            words.pop();
            Some(last)
        }
        _ => None,
    };
    let mut unit = String::new();
    if let Some(known) = words.last().and_then(|last| unit_of(last)) {
        words.pop();
        known.clone_into(&mut unit);
    }
    if let Some(per) = per {
        unit.push('/');
        unit.push_str(unit_of(per).unwrap_or(&per.replace('_', " ")));
    }
    words.extend(suffix);
    let words: Vec<&str> = words.into_iter().map(spelled).collect();
    Name { what: words.join(" "), unit }
}

fn unit_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "gbit" => "Gbit",
        "mbit" => "Mbit",
        "gb" => "GB",
        "bytes" => "B",
        "kib" => "KiB",
        "mib" => "MiB",
        "s" => "s",
        "ms" => "ms",
        "us" => "us",
        "ns" => "ns",
        "percent" => "%",
        "hour" => "h",
        _ => return None,
    })
}

fn spelled(word: &str) -> &str {
    match word {
        "cpu" => "CPU",
        "rss" => "RSS",
        "rtt" => "RTT",
        word => word,
    }
}

/// A parameter of a load: `64 B`, `10 clients`, `ramp 5 s`.
pub(crate) fn parameter(key: &str, value: &serde_json::Value) -> String {
    if key == "message_bytes"
        && let Some(size) = value.as_f64()
    {
        return bytes(size);
    }
    let Name { what, unit } = name(key);
    match value {
        serde_json::Value::Number(n) => {
            let n = n.as_f64().unwrap_or(f64::NAN);
            match unit.as_str() {
                "B" => format!("{what} {}", bytes(n)),
                "" if what.ends_with('s') => {
                    let what = if n == 1.0 { what.trim_end_matches('s') } else { &what };
                    format!("{} {what}", grouped(n))
                }
                "" => format!("{what} {}", grouped(n)),
                unit if unit.starts_with('/') => format!("{} {what}{unit}", grouped(n)),
                unit => format!("{what} {} {unit}", grouped(n)),
            }
        }
        serde_json::Value::String(text) => format!("{what} {text}"),
        serde_json::Value::Bool(true) => what,
        serde_json::Value::Bool(false) => format!("no {what}"),
        other => format!("{what} {other}"),
    }
}

/// A whole number as it is, thousands apart; any other as [`number`].
fn grouped(value: f64) -> String {
    if value.abs() >= 100.0 { number(value) } else { short(value) }
}

/// What sets the pace, in words.
pub(crate) fn pace(pace: Pace) -> String {
    match pace {
        Pace::Closed => "closed loop".to_owned(),
        Pace::Open { rate_per_s } => format!("{}/s", grouped(rate_per_s)),
        Pace::Saturating => "as fast as it goes".to_owned(),
    }
}

/// How both ends wait, in words.
pub(crate) fn waiting(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::Polling => "polling",
        Waiting::Blocking => "blocking",
    }
}

/// A change to a first value, percent with its sign.
pub(crate) fn change(from: f64, to: f64) -> String {
    if from == 0.0 || !from.is_finite() || !to.is_finite() {
        return "-".to_owned();
    }
    let percent = (to - from) / from.abs() * 100.0;
    let decimals = usize::from(percent.abs() < 9.95);
    format!("{percent:+.decimals$} %")
}

/// An instant, UTC, to the minute. The civil date from the days since 1970 by era arithmetic on the proleptic
/// Gregorian calendar, years beginning in March.
pub(crate) fn utc(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (day_minutes, days) = (minutes % 1_440, minutes / 1_440 + 719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", day_minutes / 60, day_minutes % 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn three_digits_tell_a_figure() {
        let told: Vec<String> =
            [0.0, 0.1234, 4.03, 9.996, 12.64, 99.96, 1_234_567.8, -2.5].into_iter().map(number).collect();
        assert_eq!(told, ["0", "0.123", "4.03", "10.0", "12.6", "100", "1,234,568", "-2.50"]);
        assert_eq!(number(f64::NAN), "-");
    }

    #[test]
    fn a_unit_is_told_from_a_name() {
        let told = |n: &str| {
            let Name { what, unit } = name(n);
            format!("{what} [{unit}]")
        };
        assert_eq!(told("goodput_gbit_per_s"), "goodput [Gbit/s]");
        assert_eq!(told("sender_cpu_s_per_gb"), "sender CPU [s/GB]");
        assert_eq!(told("durable_ops_per_s"), "durable ops [/s]");
        assert_eq!(told("server_bytes_per_connection"), "server [B/connection]");
        assert_eq!(told("hiccup_us_max"), "hiccup max [us]");
        assert_eq!(told("s"), " [s]");
    }

    #[test]
    fn a_parameter_reads_like_a_sentence() {
        assert_eq!(parameter("message_bytes", &json!(1024)), "1 KiB");
        assert_eq!(parameter("clients", &json!(5000)), "5,000 clients");
        assert_eq!(parameter("clients", &json!(1)), "1 client");
        assert_eq!(parameter("readers_per_document", &json!(3)), "3 readers/document");
        assert_eq!(parameter("zipf_exponent", &json!(0.99)), "zipf exponent 0.99");
        assert_eq!(parameter("network", &json!("delay=10ms loss=1%")), "network delay=10ms loss=1%");
    }

    #[test]
    fn a_leap_day_is_a_day() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400_000 + 61_000), "2000-02-29 00:01 UTC");
        assert_eq!(utc(1_795_405_550_000), "2026-11-23 03:45 UTC");
    }

    #[test]
    fn an_axis_says_its_unit() {
        let told: Vec<String> = [0.5, 5.0, 10_000.0, 2e6].into_iter().map(duration).collect();
        assert_eq!(told, ["500 ns", "5 µs", "10 ms", "2 s"]);
        assert_eq!(count(20_000.0), "20k");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(scaled("B/connection", 21_504.0), ("KiB/connection".to_owned(), 1.0 / 1_024.0));
        assert_eq!(scaled("Bit/s", 1e9), ("Bit/s".to_owned(), 1.0));
    }
}
