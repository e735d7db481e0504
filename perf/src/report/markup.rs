//! Writing elements of HTML and SVG so that whatever is put in comes out as text, never as markup.

use std::fmt::{self, Display, Write as _};

/// Elements, one inside the other.
#[derive(Debug, Default)]
pub(crate) struct Markup {
    out: String,
    open: Vec<&'static str>,
}

impl Markup {
    /// Begins an element.
    pub(crate) fn tag(&mut self, name: &'static str) -> Tag<'_> {
        let _ = write!(self.out, "<{name}");
        Tag { markup: self, name }
    }

    /// Text between elements.
    pub(crate) fn text(&mut self, text: &str) {
        escape(&mut self.out, text);
    }

    /// Markup that another [`Markup`] made, or a style or script of ours: never what came from outside.
    pub(crate) fn trusted(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// Ends the innermost open element.
    pub(crate) fn close(&mut self) {
        debug_assert!(!self.open.is_empty(), "more closed than opened");
        if let Some(name) = self.open.pop() {
            let _ = write!(self.out, "</{name}>");
        }
    }

    /// All of it.
    pub(crate) fn finish(self) -> String {
        debug_assert!(self.open.is_empty(), "left open: {:?}", self.open);
        self.out
    }
}

/// An element whose attributes are being written.
pub(crate) struct Tag<'a> {
    markup: &'a mut Markup,
    name: &'static str,
}

impl Tag<'_> {
    /// An attribute.
    pub(crate) fn at(self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.markup.out, " {name}=\"");
        escape(&mut self.markup.out, &value.to_string());
        self.markup.out.push('"');
        self
    }

    /// Coordinates, each an attribute.
    pub(crate) fn px(mut self, values: &[(&str, f64)]) -> Self {
        for (name, value) in values {
            self = self.at(name, Px(*value));
        }
        self
    }

    /// What follows is inside it, until [`Markup::close`].
    pub(crate) fn open(self) {
        self.markup.out.push('>');
        self.markup.open.push(self.name);
    }

    /// It holds this text.
    pub(crate) fn text(self, text: &str) {
        self.markup.out.push('>');
        escape(&mut self.markup.out, text);
        let _ = write!(self.markup.out, "</{}>", self.name);
    }

    /// It holds nothing: an SVG shape, an HTML `meta`.
    pub(crate) fn leaf(self) {
        self.markup.out.push_str("/>");
    }
}

/// A coordinate, to a tenth of a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Px(pub(crate) f64);

impl Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = if self.0.is_finite() { (self.0 * 10.0).round() } else { 0.0 };
        // Adding zero turns -0 into 0.
        write!(f, "{}", tenths / 10.0 + 0.0)
    }
}

/// Puts a text where markup is read. Control characters, which XML cannot hold, become a replacement character.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_cannot_end_an_element() {
        let mut markup = Markup::default();
        markup.tag("p").at("class", "\"><script>").open();
        markup.text("</p><script>alert('1')&\u{0}");
        markup.close();
        assert_eq!(
            markup.finish(),
            "<p class=\"&quot;&gt;&lt;script&gt;\">&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&amp;\u{fffd}</p>"
        );
    }

    #[test]
    fn a_coordinate_is_never_not_a_number() {
        assert_eq!(Px(f64::NAN).to_string(), "0");
        assert_eq!(Px(f64::INFINITY).to_string(), "0");
        assert_eq!(Px(-0.01).to_string(), "0");
        assert_eq!(Px(12.34).to_string(), "12.3");
    }
}
