//! A probability that cannot be impossible.

use std::fmt;

/// From 0 to 1, both included.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Probability(f64);

impl Probability {
    /// Never.
    pub const ZERO: Self = Self(0.0);
    /// Always.
    pub const ONE: Self = Self(1.0);

    /// A probability; none when `value` is below 0, above 1 or no number.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero turns the negative zero into the positive one, which prints without a sign.
        (0.0..=1.0).contains(&value).then_some(Self(value + 0.0))
    }

    /// From 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Reads `1%` or `0.01`. A bare 1 is refused: it may mean one percent as well as always.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => Self::new(decimal(percent)? / 100.0),
            None => Self::new(decimal(text)?).filter(|value| value.0 < 1.0),
        }
    }
}

/// A plain decimal number, without the names and exponents that Rust's own parser takes.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads back as the very same number.
impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1.0 { f.write_str("100%") } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_probability_is_taken() {
        for text in ["101%", "-1%", "1.5", "-0.1", "1", "nan", "inf", "", "%", "x%", "1e-3", "1..0"] {
            assert_eq!(Probability::parse(text), None, "{text}");
        }
        assert_eq!(Probability::new(f64::NAN), None);
    }

    #[test]
    fn a_printed_probability_reads_back_as_another() {
        for value in [0.0, 1.0, 0.07, 1.0 / 3.0, 1e-9] {
            let probability = Probability::new(value).expect("possible");
            assert_eq!(Probability::parse(&probability.to_string()), Some(probability));
        }
        assert_eq!(Probability::parse("100%"), Some(Probability::ONE));
        assert_eq!(Probability::parse("7%"), Probability::new(0.07));
    }
}
