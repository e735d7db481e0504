//! What every picture with two axes shares: its size, its axes, its lines, and labels that keep out of each other's
//! way.

use super::markup::{Markup, Px};
use super::scale::{Domain, Scale};
use super::subject::Slot;

/// Of a picture that stands beside others, in units of its own; it is scaled to the room that it gets.
pub(crate) const WIDTH: f64 = 520.0;
pub(crate) const HEIGHT: f64 = 330.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 44.0;

/// Room on the right for the names of the lines.
pub(crate) const LABELS: f64 = 128.0;

/// Between the baselines of two labels.
const LABEL_GAP: f64 = 14.0;

/// A picture with two axes.
pub(crate) struct Frame {
    pub(crate) markup: Markup,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    labels: Vec<Label>,
}

struct Label {
    /// Where the line ends.
    end: (f64, f64),
    /// Whose it is, where the picture shows several.
    subject: Option<(Slot, String)>,
    text: String,
}

/// An axis in words.
pub(crate) struct Axis<'a> {
    /// What it measures, with its unit.
    pub(crate) title: &'a str,
    /// Where it is marked, and what is written there.
    pub(crate) marks: Vec<(f64, Option<String>)>,
    /// For the script, how to tell a value: `us`, `per_s`, `s`, `tail`, `plain`.
    pub(crate) unit: &'a str,
}

impl<'a> Axis<'a> {
    /// Marked where the domain is round.
    pub(crate) fn of(domain: Domain, title: &'a str, unit: &'a str, told: impl Fn(f64) -> String) -> Self {
        let marks =
            domain.ticks().into_iter().map(|t| (t.value, t.labelled.then(|| told(t.value)))).collect();
        Self { title, marks, unit }
    }
}

/// Between the lines of a title.
const TITLE_LINE: f64 = 17.0;
/// Of a letter of a title, about.
const TITLE_LETTER: f64 = 8.2;

/// Opens a picture with its title in writing; a title of several lines grows upwards.
pub(crate) fn open_picture(markup: &mut Markup, width: f64, height: f64, title: &str, description: &str) {
    let lines = super::grid::wrap(title, (width / TITLE_LETTER) as usize);
    let above = TITLE_LINE * (lines.len() - 1) as f64;
    let view = format!("0 {} {} {}", Px(-above), Px(width), Px(height + above));
    open(markup, &view, title, description);
    for (i, line) in lines.iter().enumerate() {
        write(markup, "head", "start", 0.0, 14.0 - above + TITLE_LINE * i as f64, line);
    }
}

fn open(markup: &mut Markup, view: &str, title: &str, description: &str) {
    let svg = markup.tag("svg").at("xmlns", "http://www.w3.org/2000/svg").at("viewBox", view);
    svg.at("role", "img").at("class", "chart").open();
    markup.tag("title").text(title);
    markup.tag("desc").text(description);
}

/// A line of text; `anchor` is `start`, `middle` or `end`.
pub(crate) fn write(markup: &mut Markup, class: &str, anchor: &str, x: f64, y: f64, text: &str) {
    markup.tag("text").at("class", class).at("text-anchor", anchor).px(&[("x", x), ("y", y)]).text(text);
}

/// The width that a text takes at the size of labels, about.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().map(|c| if matches!(c, 'i' | 'l' | '.' | ',' | ' ' | '1') { 4.6 } else { 7.2 }).sum()
}

impl Frame {
    /// An empty picture; `right` is the room for labels.
    pub(crate) fn new(
        title: &str,
        description: &str,
        x: (Domain, &Axis<'_>),
        y: (Domain, &Axis<'_>),
    ) -> Self {
        let mut markup = Markup::default();
        open_picture(&mut markup, WIDTH, HEIGHT, title, description);
        write(&mut markup, "mute", "start", 0.0, 33.0, y.1.title);
        write(&mut markup, "mute", "end", WIDTH - LABELS, HEIGHT - 4.0, x.1.title);
        let mut frame = Self {
            markup,
            x: Scale { domain: x.0, from: LEFT, to: WIDTH - LABELS },
            y: Scale { domain: y.0, from: HEIGHT - BOTTOM, to: TOP },
            labels: Vec::new(),
        };
        frame.axes(x.1, y.1);
        frame
    }

    fn axes(&mut self, x_axis: &Axis<'_>, y_axis: &Axis<'_>) {
        let (x, y) = (self.x, self.y);
        let markup = &mut self.markup;
        for (value, label) in &y_axis.marks {
            let at = y.at(*value);
            let class = if label.is_some() { "grid" } else { "grid minor" };
            markup
                .tag("line")
                .at("class", class)
                .px(&[("x1", x.from), ("x2", x.to), ("y1", at), ("y2", at)])
                .leaf();
            if let Some(label) = label {
                write(markup, "tick", "end", x.from - 6.0, at + 4.0, label);
            }
        }
        for (value, label) in &x_axis.marks {
            let at = x.at(*value);
            let class = if label.is_some() { "grid" } else { "grid minor" };
            markup
                .tag("line")
                .at("class", class)
                .px(&[("x1", at), ("x2", at), ("y1", y.from), ("y2", y.to)])
                .leaf();
            if let Some(label) = label {
                write(markup, "tick", "middle", at, y.from + 16.0, label);
            }
        }
        markup
            .tag("rect")
            .at("class", "hit")
            .at("data-x", format!("{} {}", x.data(), x_axis.unit))
            .at("data-y", format!("{} {}", y.data(), y_axis.unit))
            .px(&[("x", x.from), ("y", y.to), ("width", x.to - x.from), ("height", y.from - y.to)])
            .leaf();
    }

    /// A line through values, in the colour of a subject. `name` is told where the pointer is.
    pub(crate) fn line(&mut self, line: &Line<'_>, points: &[(f64, f64)]) {
        let places: Vec<String> = points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .map(|(x, y)| format!("{},{}", Px(self.x.at(*x)), Px(self.y.at(*y))))
            .collect();
        if places.is_empty() {
            return;
        }
        self.markup
            .tag("polyline")
            .at("class", format!("line {} {}", line.slot.class(), line.weight))
            .at("stroke-dasharray", line.dashes)
            .at("data-subject", line.subject)
            .at("data-name", line.name)
            .at("points", places.join(" "))
            .leaf();
    }

    /// The mark of a subject at a value, with a word for the pointer.
    pub(crate) fn mark(&mut self, slot: Slot, subject: &str, at: (f64, f64), word: &str) {
        let place = slot.mark(self.x.at(at.0), self.y.at(at.1));
        let class = format!("mark {}", slot.class());
        self.markup.tag("path").at("class", class).at("data-subject", subject).at("d", place).open();
        self.markup.tag("title").text(word);
        self.markup.close();
    }

    /// A name to be written beside a line that ends at these values.
    pub(crate) fn label(&mut self, subject: Option<(Slot, &str)>, end: (f64, f64), text: &str) {
        let subject = subject.map(|(slot, name)| (slot, name.to_owned()));
        let end = (self.x.at(end.0), self.y.at(end.1));
        self.labels.push(Label { end, subject, text: text.to_owned() });
    }

    /// The picture with its labels.
    pub(crate) fn finish(mut self) -> String {
        let mut labels = std::mem::take(&mut self.labels);
        labels.sort_by(|a, b| a.end.1.total_cmp(&b.end.1));
        let wanted: Vec<f64> = labels.iter().map(|label| label.end.1).collect();
        let placed = apart(&wanted, self.y.to, self.y.from);
        for (label, y) in labels.iter().zip(placed) {
            let x = self.x.to;
            let markup = &mut self.markup;
            let class = label.subject.as_ref().map_or_else(|| "mute".to_owned(), |(slot, _)| slot.class());
            let group = markup.tag("g");
            match &label.subject {
                Some((_, subject)) => group.at("data-subject", subject).open(),
                None => group.open(),
            }
            let (end_x, end_y) = (Px(label.end.0 + 2.0), Px(label.end.1));
            let leader = format!("{end_x},{end_y} {},{end_y} {},{}", Px(x + 2.0), Px(x + 9.0), Px(y));
            markup.tag("polyline").at("class", format!("leader {class}")).at("points", leader).leaf();
            if let Some((slot, _)) = &label.subject {
                markup
                    .tag("path")
                    .at("class", format!("mark {class}"))
                    .at("d", slot.mark(x + 15.0, y))
                    .leaf();
            }
            let indent = if label.subject.is_some() { 23.0 } else { 12.0 };
            write(markup, "label", "start", x + indent, y + 4.0, &label.text);
            markup.close();
        }
        self.markup.close();
        self.markup.finish()
    }
}

/// How a line is drawn.
pub(crate) struct Line<'a> {
    pub(crate) slot: Slot,
    pub(crate) subject: &'a str,
    pub(crate) name: &'a str,
    /// `strong`, `plain`, `thin`, `ghost`.
    pub(crate) weight: &'a str,
    pub(crate) dashes: &'a str,
}

/// Moves places, given in rising order, so far apart that labels do not overlap, and no farther than needed: whoever
/// must yield does so as one block, around the middle of what its members wanted.
pub(crate) fn apart(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let gap = if wanted.len() > 1 { LABEL_GAP.min((bottom - top) / (wanted.len() - 1) as f64) } else { 0.0 };
    // A block: the sum of where its members would have it begin, and how many they are.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    let start = |(sum, count): (f64, usize)| {
        let span = gap * (count - 1) as f64;
        (sum / count as f64).clamp(top, (bottom - span).max(top))
    };
    for &want in wanted {
        let mut block = (want, 1);
        while let Some(&above) = blocks.last() {
            if start(above) + gap * above.1 as f64 <= start(block) + 1e-9 {
                break;
            }
            blocks.pop();
            block = (above.0 + block.0 - gap * (above.1 * block.1) as f64, above.1 + block.1);
        }
        blocks.push(block);
    }
    blocks.iter().flat_map(|&block| (0..block.1).map(move |i| start(block) + gap * i as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_close_lines_do_not_overlap() {
        let placed = apart(&[100.0, 101.0, 102.0, 200.0, 290.0, 291.0], 50.0, 286.0);
        for pair in placed.windows(2) {
            assert!(pair[1] - pair[0] >= LABEL_GAP - 1e-6, "{placed:?}");
        }
        assert!(placed.iter().all(|y| (50.0..=286.0 + 1e-6).contains(y)), "{placed:?}");
        assert!((placed[3] - 200.0).abs() < 1e-6, "one with room was moved: {placed:?}");
    }

    #[test]
    fn more_labels_than_room_still_stay_inside() {
        let placed = apart(&[60.0; 40], 50.0, 286.0);
        assert!(placed.iter().all(|y| (49.9..=286.1).contains(y)), "{placed:?}");
        assert!(apart(&[], 50.0, 286.0).is_empty());
    }
}
