//! Lines into steps, drops and expectations.

use netem::PathSpec;
use quantum::{Channel, Config};
use wire::Span;

use super::Wrong;
use super::expect::{Comparison, Expectation, Sought, When};
use crate::trace::channel_name;

/// How long a story is, unless it says so.
const UNTIL_DEFAULT: Span = Span::from_ms(5_000);
/// Messages carry their number.
pub(super) const MESSAGE_BYTES_MIN: usize = 8;
/// The most that one line repeats.
const TIMES_MAX: u64 = 100_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    Client,
    Node,
}

impl Who {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Node => "node",
        }
    }
}

/// What is done to the world.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Connect,
    Send { who: Who, channel: Channel, bytes: usize },
    Close { who: Who, code: u16 },
    Finish { who: Who, code: u16, within: Span },
    Rebind,
    Move,
    UpdateKeys,
    RotateId,
    Restart,
    Network(Box<PathSpec>),
    Knock(u32),
    Drop(Drop),
}

/// A datagram that does not arrive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Drop {
    pub(super) line: usize,
    pub(super) who: Who,
    /// Which, from 0; none: the next.
    pub(super) number: Option<u64>,
    /// Words that it must have.
    pub(super) words: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) at: Span,
    pub(super) act: Act,
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) network: PathSpec,
    pub(super) config: Config,
    pub(super) until: Span,
    /// In the order of their times.
    pub(super) steps: Vec<Step>,
    pub(super) expectations: Vec<Expectation>,
}

pub(super) fn script(text: &str) -> Result<Script, Wrong> {
    let mut script = Script {
        network: PathSpec::default(),
        config: Config { ecn: false, ..Config::default() },
        until: UNTIL_DEFAULT,
        steps: Vec::new(),
        expectations: Vec::new(),
    };
    for (index, written) in text.lines().enumerate() {
        let statement = written.split('#').next().unwrap_or_default();
        let words: Vec<&str> = statement.split_whitespace().collect();
        if !words.is_empty() {
            read(&mut script, index + 1, &words)
                .map_err(|why| (index + 1, format!("`{}`: {why}", words.join(" "))))?;
        }
    }
    // Stable: what is done at one instant is done in the order of the lines.
    script.steps.sort_by_key(|step| step.at);
    if script.expectations.is_empty() {
        return Err((text.lines().count().max(1), "a story that expects nothing".to_owned()));
    }
    Ok(script)
}

fn read(script: &mut Script, line: usize, words: &[&str]) -> Result<(), String> {
    match *words {
        ["network", ref spec @ ..] => script.network = network(spec)?,
        ["set", name, value] => set(&mut script.config, name, value)?,
        ["until", end] => script.until = span(end)?,
        ["drop", ref what @ ..] => {
            let act = Act::Drop(drop_of(line, what)?);
            script.steps.push(Step { line, at: Span::ZERO, act });
        }
        ["at", at, ref sentence @ .., count, "times", "every", every] => {
            let (at, act) = (span(at)?, act(line, sentence)?);
            let (count, every) = (number(count)?, span(every)?);
            if count > TIMES_MAX {
                return Err(format!("at most {TIMES_MAX} times"));
            }
            let times = (0..count).map(|n| Span::from_us(at.as_us() + n * every.as_us()));
            script.steps.extend(times.map(|at| Step { line, at, act: act.clone() }));
        }
        ["at", at, ref sentence @ ..] => {
            script.steps.push(Step { line, at: span(at)?, act: act(line, sentence)? });
        }
        ["expect", ref what @ ..] => script.expectations.push(expectation(line, what)?),
        _ => return Err("no statement of stories".to_owned()),
    }
    Ok(())
}

fn act(line: usize, words: &[&str]) -> Result<Act, String> {
    Ok(match *words {
        ["client", "connects"] => Act::Connect,
        [from, "sends", to, bytes, "bytes"] => {
            let bytes = number(bytes)? as usize;
            if bytes < MESSAGE_BYTES_MIN {
                return Err(format!("a message has at least {MESSAGE_BYTES_MIN} bytes"));
            }
            Act::Send { who: who(from)?, channel: channel(to)?, bytes }
        }
        [end, "closes", "with", code] => Act::Close { who: who(end)?, code: code_of(code)? },
        [end, "finishes", "with", code, "within", time] => {
            Act::Finish { who: who(end)?, code: code_of(code)?, within: span(time)? }
        }
        ["NAT", "rebinds"] => Act::Rebind,
        ["client", "moves"] => Act::Move,
        ["client", "updates", "keys"] => Act::UpdateKeys,
        ["client", "rotates", "its", "id"] => Act::RotateId,
        ["node", "restarts"] => Act::Restart,
        ["network", ref spec @ ..] => Act::Network(Box::new(network(spec)?)),
        [count, "strangers", "knock"] => {
            Act::Knock(u32::try_from(number(count)?).map_err(|error| error.to_string())?)
        }
        ["drop", ref what @ ..] => Act::Drop(drop_of(line, what)?),
        _ => return Err("nothing that can be done".to_owned()),
    })
}

fn drop_of(line: usize, words: &[&str]) -> Result<Drop, String> {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match *words {
        [from, "datagram", which] => {
            Ok(Drop { line, who: who(from)?, number: Some(number(which)?), words: Vec::new() })
        }
        ["the", "next", from, "datagram"] => {
            Ok(Drop { line, who: who(from)?, number: None, words: Vec::new() })
        }
        ["the", "next", from, "datagram", "with", ref words @ ..] if !words.is_empty() => {
            Ok(Drop { line, who: who(from)?, number: None, words: owned(words) })
        }
        _ => Err("`drop WHO datagram N` or `drop the next WHO datagram [with WORDS]`".to_owned()),
    }
}

fn expectation(line: usize, words: &[&str]) -> Result<Expectation, String> {
    let said = words.join(" ");
    if let ["counter", name, comparison, value] = *words {
        let (place, counter) = name.split_once('.').ok_or("a counter is WHERE.NAME")?;
        let comparison = match comparison {
            "=" => Comparison::Equal,
            ">=" => Comparison::AtLeast,
            "<=" => Comparison::AtMost,
            _ => return Err("`=`, `>=` or `<=`".to_owned()),
        };
        let (place, counter) = (place.to_owned(), counter.to_owned());
        let sought = Sought::Counter { place, counter, comparison, value: number(value)? };
        return Ok(Expectation { line, said, sought, when: When::Ever, is_never: false });
    }
    let (words, when) = match *words {
        [ref rest @ .., "at", at] => (rest, When::At(span(at)?)),
        [ref rest @ .., "by", by] => (rest, When::Between(Span::ZERO, span(by)?)),
        [ref rest @ .., "from", from, "to", to] => (rest, When::Between(span(from)?, span(to)?)),
        _ => (words, When::Ever),
    };
    let (end, is_never, words) = match *words {
        [end, "never", ref rest @ ..] => (end, true, rest),
        [end, ref rest @ ..] => (end, false, rest),
        [] => return Err("expects nothing".to_owned()),
    };
    let end = who(end)?;
    let sought = match *words {
        ["delivers" | "deliver", to, which] => {
            Sought::Delivery { who: end, channel: channel(to)?, number: number(which)? }
        }
        ["sends" | "send", ref words @ ..] if !words.is_empty() => {
            Sought::Datagram { who: end, words: words.iter().map(|&word| word.to_owned()).collect() }
        }
        ["connects"] => Sought::Connected { who: end },
        ["closed", "with", code] => Sought::Closed { who: end, code: code_of(code)? },
        _ => return Err("nothing that can be expected".to_owned()),
    };
    Ok(Expectation { line, said, sought, when, is_never })
}

fn set(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
    let switch = |value| match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("`on` or `off`".to_owned()),
    };
    match name {
        "fec" => config.fec.enabled = switch(value)?,
        "idle_timeout" => config.idle_timeout = span(value)?,
        "keep_alive" if value == "off" => config.keep_alive_interval = None,
        "keep_alive" => config.keep_alive_interval = Some(span(value)?),
        _ => return Err("no such setting".to_owned()),
    }
    config.validate().map_err(|error| error.to_string())
}

fn network(words: &[&str]) -> Result<PathSpec, String> {
    let mut no_files = |_: &str| Err("stories read no files".to_owned());
    PathSpec::from_words(words.iter().copied(), &mut no_files).map_err(|error| error.to_string())
}

fn who(word: &str) -> Result<Who, String> {
    match word {
        "client" => Ok(Who::Client),
        "node" => Ok(Who::Node),
        _ => Err(format!("`{word}` is neither client nor node")),
    }
}

fn channel(word: &str) -> Result<Channel, String> {
    let found = Channel::ALL.into_iter().find(|&channel| channel_name(channel) == word);
    found.ok_or_else(|| format!("no channel `{word}`"))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

fn code_of(word: &str) -> Result<u16, String> {
    word.parse().map_err(|_| format!("`{word}` is no code"))
}

/// `10ms`, `1.5s`, `250us`.
fn span(word: &str) -> Result<Span, String> {
    let units = [("us", 1.0), ("ms", 1_000.0), ("s", 1_000_000.0)];
    let read = |(unit, us): (&str, f64)| Some(word.strip_suffix(unit)?.parse::<f64>().ok()? * us);
    let us = units.into_iter().find_map(read).filter(|us| (0.0..1e12).contains(us));
    us.map(|us| Span::from_us(us.round() as u64)).ok_or_else(|| format!("`{word}` is no time"))
}
