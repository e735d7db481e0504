//! What is measured, and how it is told apart on every picture: one colour, one mark, one kind of line.

use std::fmt::Write as _;

use super::Source;

/// Subjects that are the floor: the least that the machine allows.
const FLOORS: [&str; 2] = ["raw-udp", "udp"];

/// A slot of the palette: `raw-udp` has the first, ours the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(usize);

/// On white and on near-black. Chosen by search so that any two are at least 20 apart (CIE76) for full colour vision,
/// protanopia, deuteranopia and tritanopia (Machado et al. 2009), with a contrast of at least 3 to the ground.
const COLOURS: [(&str, &str); 9] = [
    ("#6b7280", "#9aa4b2"),
    ("#0b57d0", "#6aa6ff"),
    ("#d76a64", "#c97d01"),
    ("#6f0c81", "#bf3cac"),
    ("#69183e", "#7359e7"),
    ("#076616", "#07845d"),
    ("#8c9b1a", "#f8d414"),
    ("#1698eb", "#42f6bd"),
    ("#3504dd", "#b3f277"),
];

/// Slots that no known subject has.
const FREE: [usize; 2] = [7, 8];

/// Whether a subject is the floor that others are held against.
pub(crate) fn is_floor(subject: &str) -> bool {
    FLOORS.contains(&subject)
}

fn known(subject: &str) -> Option<usize> {
    Some(match subject {
        subject if is_floor(subject) => 0,
        "quantum" | "node" => 1,
        "tcp" => 2,
        "quinn-stream" | "quinn" => 3,
        "quinn-datagram" => 4,
        "s2n-quic" => 5,
        "kcp" => 6,
        _ => return None,
    })
}

/// Which subject has which slot, the same on all pictures of a page.
#[derive(Debug, Default)]
pub(crate) struct Palette {
    others: Vec<String>,
}

impl Palette {
    /// For all subjects of these reports.
    pub(crate) fn of(sources: &[Source<'_>]) -> Self {
        let mut palette = Self::default();
        for run in sources.iter().flat_map(|source| &source.report.runs) {
            if known(&run.subject).is_none() && !palette.others.contains(&run.subject) {
                palette.others.push(run.subject.clone());
            }
        }
        palette
    }

    /// The slot of a subject.
    pub(crate) fn slot(&self, subject: &str) -> Slot {
        Slot(known(subject).unwrap_or_else(|| {
            let index = self.others.iter().position(|other| other == subject).unwrap_or(0);
            // The free ones first; with more subjects than slots, marks and labels tell them apart.
            *FREE.get(index).unwrap_or(&(2 + index % (COLOURS.len() - 2)))
        }))
    }
}

impl Slot {
    /// The class that gives an element its `currentColor`.
    pub(crate) fn class(self) -> String {
        format!("c{}", self.0)
    }

    /// The dashes of its lines.
    pub(crate) fn dashes(self) -> &'static str {
        match self.0 {
            0 => "5 3",
            2 => "9 3",
            4 => "2 2.5",
            6 => "9 3 2 3",
            8 => "4 2",
            _ => "none",
        }
    }

    /// A mark around a place, about 8 pixels wide, as the data of an SVG path.
    pub(crate) fn mark(self, x: f64, y: f64) -> String {
        let relative = match self.0 {
            0 => "m-4 0h8m-4 -4v8",
            2 => "m-3.5 -3.5h7v7h-7z",
            3 => "m0 -4.5l4.5 8h-9z",
            4 => "m0 4.5l4.5 -8h-9z",
            5 => "m0 -4.8l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
            6 => "m-3.5 -3.5l7 7m0 -7l-7 7",
            7 => "m-4.5 -2.5h9v5h-9z",
            8 => "m-2.5 -4.5h5v9h-5z",
            _ => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        };
        format!("M{x:.1} {y:.1}{relative}")
    }
}

/// The rules of the palette: plain, for a dark ground, and for a page whose `light-dark()` decides.
pub(crate) fn rules(page: bool) -> String {
    let mut light = String::new();
    let mut dark = String::new();
    for (i, (on_white, on_black)) in COLOURS.iter().enumerate() {
        if page {
            let _ = write!(light, ".c{i}{{color:light-dark({on_white},{on_black})}}");
        } else {
            let _ = write!(light, ".c{i}{{color:{on_white}}}");
            let _ = write!(dark, ".c{i}{{color:{on_black}}}");
        }
    }
    if !page {
        let _ = write!(light, "@media (prefers-color-scheme:dark){{{dark}}}");
    }
    light
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_that_nobody_knew_are_told_apart() {
        let palette = Palette { others: vec!["aeron".to_owned(), "msquic".to_owned()] };
        let slots = ["raw-udp", "quantum", "tcp", "aeron", "msquic"].map(|s| palette.slot(s).0);
        for (i, slot) in slots.iter().enumerate() {
            assert!(!slots[..i].contains(slot), "{slots:?}");
        }
    }

    #[test]
    fn more_subjects_than_colours_are_still_drawn() {
        let palette = Palette { others: (0..40).map(|i| i.to_string()).collect() };
        assert!(palette.others.iter().all(|s| palette.slot(s).0 < COLOURS.len()));
    }
}
