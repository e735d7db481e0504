//! Whether a process takes more and more memory.

use std::time::Duration;

use crate::node_child::Usage;
use crate::workloads::Repeat;

const MB: f64 = 1e6;
/// Memory that comes and goes: less is no growth, however short the time.
const NOISE_MB: f64 = 16.0;

/// Puts the memory of the node into the figures, and says so when the second half of the time added more than
/// `mb_per_h_max` allows.
pub(super) fn judge(repeat: &mut Repeat, usage: &[(Duration, Usage)], mb_per_h_max: f64) {
    let (Some((_, first)), Some((_, last))) = (usage.first(), usage.last()) else { return };
    let mb = |usage: &Usage| usage.rss_bytes as f64 / MB;
    // A node fills its buffers and caches first.
    let settled = &usage[usage.len() / 2..];
    let (per_h, hours) = (slope_mb_per_h(settled), span_h(settled));
    let grown = per_h * hours;
    let figures = [("rss_mb_begin", mb(first)), ("rss_mb_end", mb(last)), ("rss_growth_mb_per_h", per_h)];
    repeat.figures.extend(figures.map(|(name, figure)| (name.to_owned(), figure)));
    if grown > NOISE_MB && per_h > mb_per_h_max {
        repeat.findings.reasons.push(format!(
            "the node's memory grew by {per_h:.0} MB an hour ({grown:.0} MB in the second half of the time; at most \
             {mb_per_h_max:.0} MB an hour allowed)"
        ));
    }
}

fn span_h(usage: &[(Duration, Usage)]) -> f64 {
    match (usage.first(), usage.last()) {
        (Some((first, _)), Some((last, _))) => (*last - *first).as_secs_f64() / 3_600.0,
        _ => 0.0,
    }
}

/// By least squares; 0 of fewer than two.
fn slope_mb_per_h(usage: &[(Duration, Usage)]) -> f64 {
    let points = usage.iter().map(|(at, usage)| (at.as_secs_f64() / 3_600.0, usage.rss_bytes as f64 / MB));
    let count = usage.len().max(1) as f64;
    let (sum_x, sum_y) = points.clone().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (cov, var) = points.fold((0.0, 0.0), |(cov, var), (x, y)| {
        (cov + (x - mean_x) * (y - mean_y), var + (x - mean_x).powi(2))
    });
    if var > 0.0 { cov / var } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(mb_at: impl Fn(u64) -> u64) -> Vec<String> {
        let usage: Vec<_> = (0..600)
            .map(|at| {
                (Duration::from_secs(at), Usage { rss_bytes: mb_at(at) * 1_000_000, ..Usage::default() })
            })
            .collect();
        let mut repeat = Repeat::default();
        judge(&mut repeat, &usage, 64.0);
        assert!(repeat.figures.contains_key("rss_growth_mb_per_h"));
        repeat.findings.reasons
    }

    #[test]
    fn a_leak_is_not_found() {
        let reasons = judged(|at| 100 + at / 10);
        assert!(reasons[0].contains("360 MB an hour"), "{reasons:?}");
    }

    #[test]
    fn memory_that_is_taken_once_is_taken_for_a_leak() {
        assert_eq!(judged(|at| 100 + at.min(200)), [""; 0]);
        assert_eq!(judged(|at| 100 + at % 5), [""; 0]);
    }
}
