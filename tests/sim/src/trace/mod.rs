//! The story of a world in words: one line for each thing that happens, with when and who.

mod words;

pub(crate) use self::words::name as channel_name;
use std::fmt::Write as _;

use wire::Time;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) at: Time,
    pub(crate) who: String,
    pub(crate) what: String,
}

/// Writes down what happens, if anybody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<Vec<Line>>,
    /// What each datagram is called, by its number.
    names: Vec<String>,
}

impl Trace {
    /// Nobody wants to know.
    pub(crate) const fn off() -> Self {
        Self { lines: None, names: Vec::new() }
    }

    pub(crate) const fn on() -> Self {
        Self { lines: Some(Vec::new()), names: Vec::new() }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn say(&mut self, at: Time, who: &str, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, who: who.to_owned(), what: what() });
        }
    }

    /// A datagram is sent; `frames` is what it says, if that is known.
    pub(crate) fn on_sent(
        &mut self,
        at: Time,
        number: u64,
        sender: &str,
        datagram: &[u8],
        frames: Option<&[u8]>,
    ) {
        if !self.is_on() {
            return;
        }
        let packet = words::packet(datagram);
        let says = frames.map_or_else(|| "as before".to_owned(), words::frames);
        self.say(at, sender, || format!("sends {packet} ({} B): {says}", datagram.len()));
        debug_assert_eq!(self.names.len() as u64, number);
        self.names.push(format!("{sender}'s {packet}"));
    }

    /// What a datagram is called.
    pub(crate) fn name_of(&self, number: u64) -> &str {
        self.names.get(number as usize).map_or("a datagram", String::as_str)
    }

    pub(crate) fn into_lines(self) -> Vec<Line> {
        self.lines.unwrap_or_default()
    }
}

/// All lines, in the order of their times, as text.
pub(crate) fn print(lines: &[Line]) -> String {
    let mut text = String::new();
    for Line { at, who, what } in lines {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{:>14}  {who:<12} {what}", crate::scenario::Ms(at.as_us()));
    }
    text
}
