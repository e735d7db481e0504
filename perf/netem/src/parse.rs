//! A network in words: `wifi`, `delay=10ms loss=1%`, `cellular down.loss=2% up.rate=5mbit`.
//!
//! The first word may be a preset; the others are `key=value`, for one direction with `up.` or `down.` before the key.
//! Probabilities are `1%` or `0.01`; times end in `us`, `ms` or `s`; sizes in `b`, `kb`, `mb` (thousands) or `kib`,
//! `mib`, queues also in `packets`; rates in `bit`, `kbit`, `mbit` or `gbit` (a second).

use std::str::FromStr;
use std::sync::Arc;

use wire::Span;

use crate::bottleneck::{QUEUE_BYTES_MAX, QUEUE_PACKETS_MAX};
use crate::error::{SpecError, nearest};
use crate::preset;
use crate::probability::decimal;
use crate::{
    Blackhole, Capacity, CapacityTrace, GilbertElliott, LinkSpec, PRESETS, PathSpec, Policer, Probability,
    QueueLimit, Reorder,
};

/// All keys.
pub const KEYS: &[&str] = &[
    "delay",
    "jitter",
    "jitter-reorders",
    "loss",
    "gilbert-elliott",
    "reorder",
    "duplicate",
    "corrupt",
    "rate",
    "trace",
    "queue",
    "policer",
    "blackhole",
];

/// No time in a specification is longer: an hour.
const SPAN_MAX: Span = Span::from_ms(3_600_000);
/// No rate is higher: a terabit a second.
const RATE_BITS_PER_S_MAX: u64 = 1_000_000_000_000;
/// How much longer a packet takes that is held back, where nothing else is said.
const REORDER_DELAY_DEFAULT: Span = Span::from_ms(5);

/// Gives the text of the file at a path, or says why it cannot: this crate reads no files.
pub type ReadTrace<'r> = &'r mut dyn FnMut(&str) -> Result<String, String>;

impl PathSpec {
    /// Reads a network in words; `trace=FILE` is read by `read_trace`.
    ///
    /// # Errors
    /// The text describes no network.
    pub fn parse(text: &str, read_trace: ReadTrace<'_>) -> Result<Self, SpecError> {
        Self::from_words(text.split_whitespace(), read_trace)
    }

    /// The same from single words, whose values may contain spaces.
    ///
    /// # Errors
    /// The words describe no network.
    pub fn from_words<'w>(
        words: impl IntoIterator<Item = &'w str>,
        read_trace: ReadTrace<'_>,
    ) -> Result<Self, SpecError> {
        let mut spec = Self::default();
        let mut set: Vec<(&'static str, bool)> = Vec::new();
        for (index, word) in words.into_iter().enumerate() {
            let Some((key, value)) = word.split_once('=') else {
                if index > 0 && preset::find(word).is_some() {
                    return Err(SpecError::PresetNotFirst { name: word.to_owned() });
                }
                spec = from_preset(word)?;
                continue;
            };
            let (is_up, is_down, key) = match (key.strip_prefix("up."), key.strip_prefix("down.")) {
                (Some(key), _) => (true, false, key),
                (_, Some(key)) => (false, true, key),
                _ => (true, true, key),
            };
            let key = known_key(key)?;
            let mut apply = |link: &mut LinkSpec, is_up| {
                if set.contains(&(key, is_up)) {
                    return Err(SpecError::Twice { key });
                }
                let rival = (key == "rate").then_some("trace").or_else(|| (key == "trace").then_some("rate"));
                if let Some(other) = rival.filter(|&rival| set.contains(&(rival, is_up))) {
                    return Err(SpecError::Exclusive { key, other });
                }
                set.push((key, is_up));
                set_key(link, key, value, read_trace)
            };
            if is_up {
                apply(&mut spec.up, true)?;
            }
            if is_down {
                apply(&mut spec.down, false)?;
            }
        }
        for link in [&spec.up, &spec.down] {
            check(link)?;
        }
        Ok(spec)
    }
}

/// In words, without traces.
impl FromStr for PathSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text, &mut |_| Err("traces are not read here".to_owned()))
    }
}

/// In words, without traces; the same in both directions.
impl FromStr for LinkSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let PathSpec { up, down } = text.parse()?;
        if up == down { Ok(up) } else { Err(SpecError::TwoDirections { text: text.to_owned() }) }
    }
}

fn from_preset(name: &str) -> Result<PathSpec, SpecError> {
    match preset::find(name) {
        Some(preset) => preset.text.parse(),
        None => Err(SpecError::UnknownPreset {
            name: name.to_owned(),
            nearest: nearest(name, PRESETS.iter().map(|preset| preset.name)),
        }),
    }
}

fn known_key(key: &str) -> Result<&'static str, SpecError> {
    KEYS.iter().copied().find(|known| *known == key).ok_or_else(|| SpecError::UnknownKey {
        key: key.to_owned(),
        nearest: nearest(key, KEYS.iter().copied()),
    })
}

/// What a single key cannot know.
fn check(link: &LinkSpec) -> Result<(), SpecError> {
    if link.queue.is_some() && link.capacity == Capacity::Unlimited {
        return Err(SpecError::Alone { key: "queue", needs: "a bottleneck: `rate` or `trace`" });
    }
    if link.jitter_reorders && link.jitter == Span::ZERO {
        return Err(SpecError::Alone { key: "jitter-reorders", needs: "`jitter`" });
    }
    if link.jitter > link.delay {
        return Err(SpecError::Alone { key: "jitter", needs: "a `delay` that is at least as long" });
    }
    Ok(())
}

fn set_key(
    link: &mut LinkSpec,
    key: &'static str,
    value: &str,
    read_trace: ReadTrace<'_>,
) -> Result<(), SpecError> {
    let expect = |expected| move || SpecError::Value { key, value: value.to_owned(), expected };
    let probability =
        || Probability::parse(value).ok_or_else(expect("a probability such as 1% or 0.01, not above 100%"));
    let time = || span(value).ok_or_else(expect("a time such as 250us, 10ms or 1.5s, not above 3600s"));
    match key {
        "delay" => link.delay = time()?,
        "jitter" => link.jitter = time()?,
        "jitter-reorders" => {
            link.jitter_reorders = match value {
                "yes" => true,
                "no" => false,
                _ => return Err(expect("yes or no")()),
            }
        }
        "loss" => link.loss = probability()?,
        "gilbert-elliott" => {
            let chain = gilbert_elliott(value).ok_or_else(expect(
                "GOOD_TO_BAD,BAD_TO_GOOD[,LOSS_IN_BAD[,LOSS_IN_GOOD]], probabilities such as 0.25%,25%,100%,0%, \
                 where the bad state is left again",
            ))?;
            link.gilbert_elliott = Some(chain);
        }
        "reorder" => {
            link.reorder = Some(
                reorder(value)
                    .ok_or_else(expect("PROBABILITY[,TIME], how many are held back and how long: 1%,5ms"))?,
            );
        }
        "duplicate" => link.duplicate = probability()?,
        "corrupt" => link.corrupt = probability()?,
        "rate" => {
            let rate = rate(value).ok_or_else(expect("a rate such as 500kbit, 10mbit or 1gbit, above 0"))?;
            link.capacity = Capacity::BitsPerS(rate);
        }
        "trace" => {
            let path = || value.to_owned();
            let text =
                read_trace(value).map_err(|message| SpecError::TraceUnreadable { path: path(), message })?;
            let trace = CapacityTrace::parse(value, &text)
                .map_err(|error| SpecError::Trace { path: path(), error })?;
            link.capacity = Capacity::Trace(Arc::new(trace));
        }
        "queue" => {
            link.queue = Some(queue(value).ok_or_else(expect(
                "a size such as 64kb or 100packets, above 0, not above 256mb or 100000packets",
            ))?);
        }
        "policer" => {
            link.policer =
                Some(policer(value).ok_or_else(expect("RATE,BURST, such as 5mbit,32kb, both above 0"))?);
        }
        "blackhole" => {
            link.blackhole = Some(blackhole(value).ok_or_else(expect(
                "AFTER,LENGTH[,EVERY], times such as 2s,500ms or 2s,500ms,10s, the last one longest",
            ))?);
        }
        _ => unreachable!("every key of KEYS has an arm"),
    }
    Ok(())
}

/// A number and its unit.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    if unit.is_empty() && number == "0" {
        return Some(0);
    }
    let scale = units.iter().find(|(known, _)| *known == unit)?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    #[expect(clippy::cast_precision_loss, reason = "units are small numbers")]
    let value = (decimal(number)? * scale as f64).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (0.0..1e15).contains(&value).then_some(value as u64)
}

fn span(text: &str) -> Option<Span> {
    let us = measure(text, &[("us", 1), ("ms", 1_000), ("s", 1_000_000)])?;
    Some(Span::from_us(us)).filter(|&span| span <= SPAN_MAX)
}

fn bytes(text: &str) -> Option<u64> {
    let units = [("b", 1), ("kb", 1_000), ("mb", 1_000_000), ("kib", 1_024), ("mib", 1_048_576)];
    measure(text, &units).filter(|bytes| (1..=QUEUE_BYTES_MAX).contains(bytes))
}

fn rate(text: &str) -> Option<u64> {
    let units = [("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
    measure(text, &units).filter(|rate| (1..=RATE_BITS_PER_S_MAX).contains(rate))
}

fn queue(text: &str) -> Option<QueueLimit> {
    let packets = measure(text, &[("packets", 1), ("packet", 1)]).filter(|&packets| packets > 0);
    match packets {
        Some(packets) => (packets <= QUEUE_PACKETS_MAX).then_some(QueueLimit::Packets(packets)),
        None => bytes(text).map(QueueLimit::Bytes),
    }
}

fn gilbert_elliott(text: &str) -> Option<GilbertElliott> {
    let parts = text.split(',').map(Probability::parse).collect::<Option<Vec<_>>>()?;
    let (&[good_to_bad, bad_to_good], losses) = parts.split_first_chunk()?;
    let (loss_in_bad, loss_in_good) = match *losses {
        [] => (Probability::ONE, Probability::ZERO),
        [bad] => (bad, Probability::ZERO),
        [bad, good] => (bad, good),
        _ => return None,
    };
    let is_left = good_to_bad == Probability::ZERO || bad_to_good > Probability::ZERO;
    is_left.then_some(GilbertElliott { good_to_bad, bad_to_good, loss_in_bad, loss_in_good })
}

fn reorder(text: &str) -> Option<Reorder> {
    let (probability, delay) = match text.split_once(',') {
        Some((probability, delay)) => (probability, span(delay)?),
        None => (text, REORDER_DELAY_DEFAULT),
    };
    Some(Reorder { probability: Probability::parse(probability)?, delay })
}

fn policer(text: &str) -> Option<Policer> {
    let (fill, burst) = text.split_once(',')?;
    Some(Policer { bits_per_s: rate(fill)?, burst_bytes: bytes(burst)? })
}

fn blackhole(text: &str) -> Option<Blackhole> {
    let spans = text.split(',').map(span).collect::<Option<Vec<_>>>()?;
    match *spans {
        [after, length] => Some(Blackhole { after, length, every: None }),
        [after, length, every] if every > length => Some(Blackhole { after, length, every: Some(every) }),
        _ => None,
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
