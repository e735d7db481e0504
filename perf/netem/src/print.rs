//! A network back into words: what is printed reads back as the same network.

use std::fmt;

use wire::Span;

use crate::{Capacity, LinkSpec, PathSpec, QueueLimit};

/// What both directions share goes without a prefix.
impl fmt::Display for PathSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (up, down) = (words(&self.up), words(&self.down));
        let shared = up.iter().filter(|word| down.contains(word)).cloned();
        let only = |words: &[String], others: &[String], prefix: &str| {
            let own = words.iter().filter(|word| !others.contains(word));
            own.map(|word| format!("{prefix}{word}")).collect::<Vec<_>>()
        };
        let own_up = only(&up, &down, "up.");
        let own_down = only(&down, &up, "down.");
        print(f, &shared.chain(own_up).chain(own_down).collect::<Vec<_>>())
    }
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, &words(self))
    }
}

fn print(f: &mut fmt::Formatter<'_>, words: &[String]) -> fmt::Result {
    if words.is_empty() { f.write_str("clean") } else { f.write_str(&words.join(" ")) }
}

fn words(link: &LinkSpec) -> Vec<String> {
    let LinkSpec {
        delay,
        jitter,
        jitter_reorders,
        loss,
        gilbert_elliott,
        reorder,
        duplicate,
        corrupt,
        capacity,
        queue,
        policer,
        blackhole,
    } = link;
    let mut words = Vec::new();
    let mut say = |is_said: bool, key: &str, value: &dyn fmt::Display| {
        if is_said {
            words.push(format!("{key}={value}"));
        }
    };
    say(*delay > Span::ZERO, "delay", &span(*delay));
    say(*jitter > Span::ZERO, "jitter", &span(*jitter));
    say(*jitter_reorders, "jitter-reorders", &"yes");
    say(loss.get() > 0.0, "loss", loss);
    if let Some(chain) = gilbert_elliott {
        let chain = [chain.good_to_bad, chain.bad_to_good, chain.loss_in_bad, chain.loss_in_good];
        say(true, "gilbert-elliott", &chain.map(|probability| probability.to_string()).join(","));
    }
    if let Some(reorder) = reorder {
        say(true, "reorder", &format!("{},{}", reorder.probability, span(reorder.delay)));
    }
    say(duplicate.get() > 0.0, "duplicate", duplicate);
    say(corrupt.get() > 0.0, "corrupt", corrupt);
    match capacity {
        Capacity::Unlimited => (),
        Capacity::BitsPerS(bits_per_s) => say(true, "rate", &rate(*bits_per_s)),
        Capacity::Trace(trace) => say(true, "trace", &trace.source()),
    }
    match queue {
        None => (),
        Some(QueueLimit::Bytes(bytes)) => say(true, "queue", &size(*bytes)),
        Some(QueueLimit::Packets(packets)) => say(true, "queue", &format!("{packets}packets")),
    }
    if let Some(policer) = policer {
        say(true, "policer", &format!("{},{}", rate(policer.bits_per_s), size(policer.burst_bytes)));
    }
    if let Some(blackhole) = blackhole {
        let times = [Some(blackhole.after), Some(blackhole.length), blackhole.every];
        let times: Vec<String> = times.into_iter().flatten().map(span).collect();
        say(true, "blackhole", &times.join(","));
    }
    words
}

/// A whole number of the greatest unit that allows one.
fn scaled(number: u64, units: &[(u64, &str)]) -> String {
    let (scale, unit) = units
        .iter()
        .find(|(scale, _)| number >= *scale && number.is_multiple_of(*scale))
        .or(units.last())
        .copied()
        .unwrap_or((1, ""));
    format!("{}{unit}", number / scale)
}

fn span(span: Span) -> String {
    scaled(span.as_us(), &[(1_000_000, "s"), (1_000, "ms"), (1, "us")])
}

fn rate(bits_per_s: u64) -> String {
    scaled(bits_per_s, &[(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit"), (1, "bit")])
}

fn size(bytes: u64) -> String {
    scaled(bytes, &[(1_000_000, "mb"), (1_000, "kb"), (1, "b")])
}
