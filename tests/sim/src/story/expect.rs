//! What must have happened, held against what has.

use quantum::Channel;
use wire::Span;

use super::Wrong;
use super::parse::Who;
use super::run::{Happened, Telling, What};
use crate::scenario::Ms;
use crate::trace::channel_name;

/// What happened instead is told with so many lines at most.
const INSTEAD_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    Ever,
    At(Span),
    /// Both included.
    Between(Span, Span),
}

impl When {
    fn holds(self, at: Span) -> bool {
        match self {
            Self::Ever => true,
            Self::At(time) => at == time,
            Self::Between(from, to) => from <= at && at <= to,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    AtLeast,
    AtMost,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sought {
    Delivery { who: Who, channel: Channel, number: u64 },
    Datagram { who: Who, words: Vec<String> },
    Connected { who: Who },
    Closed { who: Who, code: u16 },
    Counter { place: String, counter: String, comparison: Comparison, value: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Expectation {
    pub(super) line: usize,
    /// As written.
    pub(super) said: String,
    pub(super) sought: Sought,
    pub(super) when: When,
    pub(super) is_never: bool,
}

impl Expectation {
    /// None when it is met.
    pub(super) fn check(&self, telling: &Telling) -> Option<Wrong> {
        if let Sought::Counter { place, counter, comparison, value } = &self.sought {
            return self.check_counter(telling, place, counter, *comparison, *value);
        }
        let is_sought = |happened: &&Happened| self.sought.is(happened);
        let hit = telling.happened.iter().filter(is_sought).find(|happened| self.when.holds(happened.at));
        match (hit, self.is_never) {
            (Some(_), false) | (None, true) => None,
            (Some(hit), true) => Some(self.wrong(&hit.to_string())),
            (None, false) => {
                let mut instead: Vec<&Happened> = telling.happened.iter().filter(is_sought).collect();
                let what = if instead.is_empty() {
                    instead =
                        telling.happened.iter().filter(|happened| self.sought.is_like(happened)).collect();
                    "never, but"
                } else {
                    "at another time:"
                };
                Some(self.wrong(&format!("{what} {}", self.told(&instead))))
            }
        }
    }

    /// The nearest in time, where there are too many.
    fn told(&self, instead: &[&Happened]) -> String {
        if instead.is_empty() {
            return "nothing of the kind".to_owned();
        }
        let around = match self.when {
            When::Ever => Span::ZERO,
            When::At(at) | When::Between(at, _) => at,
        };
        let mut nearest = instead.to_vec();
        nearest.sort_by_key(|happened| happened.at.as_us().abs_diff(around.as_us()));
        nearest.truncate(INSTEAD_MAX);
        nearest.sort_by_key(|happened| happened.at);
        let lines: Vec<String> = nearest.iter().map(ToString::to_string).collect();
        let more = instead.len() - nearest.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{more}", lines.join("; "))
    }

    fn check_counter(
        &self,
        telling: &Telling,
        place: &str,
        counter: &str,
        comparison: Comparison,
        value: u64,
    ) -> Option<Wrong> {
        let name = format!("{place}.{counter}");
        let Some(&(_, counted)) = telling.counters.iter().find(|(known, _)| *known == name) else {
            return Some(self.wrong("there is no such counter"));
        };
        let holds = match comparison {
            Comparison::Equal => counted == value,
            Comparison::AtLeast => counted >= value,
            Comparison::AtMost => counted <= value,
        };
        (!holds).then(|| self.wrong(&format!("it is {counted}")))
    }

    fn wrong(&self, instead: &str) -> Wrong {
        (self.line, format!("expected `{}`; instead: {instead}", self.said))
    }
}

impl Sought {
    fn is(&self, happened: &Happened) -> bool {
        match (self, &happened.what) {
            (Self::Delivery { channel, number, .. }, What::Delivered { channel: of, number: which }) => {
                self.is_like(happened) && channel == of && number == which
            }
            (Self::Datagram { words, .. }, What::Sent { text, .. }) => {
                self.is_like(happened) && has_words(text, words)
            }
            (Self::Closed { code, .. }, What::Closed { code: with }) => {
                self.is_like(happened) && code == with
            }
            (Self::Connected { .. }, What::Connected) => self.is_like(happened),
            _ => false,
        }
    }

    /// Whether it is of the same kind, at the same end.
    fn is_like(&self, happened: &Happened) -> bool {
        match (self, &happened.what) {
            (Self::Delivery { who, .. }, What::Delivered { .. })
            | (Self::Datagram { who, .. }, What::Sent { .. })
            | (Self::Connected { who }, What::Connected | What::Closed { .. })
            | (Self::Closed { who, .. }, What::Closed { .. }) => *who == happened.who,
            _ => false,
        }
    }
}

/// Whether the words are there, one behind the other.
pub(super) fn has_words(text: &str, words: &[String]) -> bool {
    let is_mark = |letter: char| matches!(letter, ',' | ':' | '(' | ')' | '"');
    let said: Vec<&str> = text.split_whitespace().map(|word| word.trim_matches(is_mark)).collect();
    said.windows(words.len()).any(|said| said.iter().zip(words).all(|(said, word)| said == word))
}

impl std::fmt::Display for Happened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ", Ms(self.at.as_us()), self.who.name())?;
        match &self.what {
            What::Sent { text, is_dropped } => {
                write!(f, "{text}{}", if *is_dropped { " [dropped]" } else { "" })
            }
            What::Delivered { channel, number } => write!(f, "delivers {} {number}", channel_name(*channel)),
            What::Connected => f.write_str("connects"),
            What::Closed { code } => write!(f, "closed with {code}"),
        }
    }
}
