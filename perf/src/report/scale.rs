//! From values to places on a picture.

/// How values are laid out along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Equal differences, equal distances.
    Linear,
    /// Equal ratios, equal distances.
    Log,
}

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Domain {
    pub(crate) kind: Kind,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Where an axis is marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    /// Carries its value in writing.
    pub(crate) labelled: bool,
}

impl Domain {
    /// From zero to a round value at or above the greatest.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let max = values.into_iter().filter(|v| v.is_finite()).fold(0.0_f64, f64::max);
        let max = if max > 0.0 { max } else { 1.0 };
        let step = step(max, 5);
        Self { kind: Kind::Linear, min: 0.0, max: (max / step - 1e-9).ceil() * step }
    }

    /// From a round value at or below the least positive one to a round one at or above the greatest.
    pub(crate) fn log(values: impl IntoIterator<Item = f64>) -> Self {
        let (min, max) = values
            .into_iter()
            .filter(|v| v.is_finite() && *v > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(min, max), v| (min.min(v), max.max(v)));
        if max <= 0.0 {
            return Self { kind: Kind::Log, min: 1.0, max: 10.0 };
        }
        let (min, max) = (round_down(min), round_up(max));
        // A flat line still needs a height.
        let max = if max / min < 2.0 { round_up(max * 1.01) } else { max };
        Self { kind: Kind::Log, min, max }
    }

    /// Where it is marked, from the least to the greatest.
    pub(crate) fn ticks(self) -> Vec<Tick> {
        match self.kind {
            Kind::Linear => {
                let step = step(self.max - self.min, 5);
                let count = ((self.max - self.min) / step + 1e-9).floor().max(0.0) as usize;
                (0..=count).map(|i| Tick { value: self.min + step * i as f64, labelled: true }).collect()
            }
            Kind::Log => self.log_ticks(),
        }
    }

    fn log_ticks(self) -> Vec<Tick> {
        let decades = (self.max / self.min).log10();
        let mut ticks = Vec::new();
        for exponent in self.min.log10().floor() as i32..=self.max.log10().ceil() as i32 {
            for digit in 1..=9 {
                let value = f64::from(digit) * 10f64.powi(exponent);
                if value < self.min * 0.999 || value > self.max * 1.001 {
                    continue;
                }
                let labelled = digit == 1 || (decades < 2.5 && matches!(digit, 2 | 5));
                ticks.push(Tick { value, labelled });
            }
        }
        ticks
    }
}

/// A [`Domain`] laid along a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) domain: Domain,
    /// Where the least value is, pixels.
    pub(crate) from: f64,
    /// Where the greatest is.
    pub(crate) to: f64,
}

impl Scale {
    /// Where a value is; one outside the domain is put at its edge.
    pub(crate) fn at(self, value: f64) -> f64 {
        let Domain { kind, min, max } = self.domain;
        let value = if value.is_nan() { min } else { value.clamp(min, max) };
        let part = match kind {
            Kind::Linear => (value - min) / (max - min),
            Kind::Log => (value / min).ln() / (max / min).ln(),
        };
        self.from + part * (self.to - self.from)
    }

    /// For the script: kind, least, greatest, and where they are.
    pub(crate) fn data(self) -> String {
        let kind = match self.domain.kind {
            Kind::Linear => "linear",
            Kind::Log => "log",
        };
        format!("{kind} {} {} {} {}", self.domain.min, self.domain.max, self.from, self.to)
    }
}

/// A step of 1, 2 or 5 times a power of ten that divides `span` into `count` parts or a few less.
fn step(span: f64, count: u32) -> f64 {
    let rough = span / f64::from(count);
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|n| n * power >= rough * 0.999).unwrap_or(10.0);
    nice * power
}

fn round_down(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0].into_iter().find(|n| n * power <= value * 1.000_001).unwrap_or(1.0) * power
}

fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().find(|n| n * power >= value * 0.999_999).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_values_enclose_what_is_drawn() {
        assert_eq!(Domain::log([3.8, 912.0]), Domain { kind: Kind::Log, min: 2.0, max: 1_000.0 });
        assert_eq!(Domain::from_zero([13.1, 7.1]).max, 15.0);
        assert_eq!(Domain::from_zero([10.0]).max, 10.0);
    }

    #[test]
    fn nothing_to_draw_is_no_division_by_zero() {
        for domain in
            [Domain::log([]), Domain::log([0.0, f64::NAN]), Domain::from_zero([]), Domain::log([7.0])]
        {
            assert!(domain.max > domain.min);
            let scale = Scale { domain, from: 0.0, to: 100.0 };
            for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, 7.0] {
                assert!((0.0..=100.0).contains(&scale.at(value)), "{value} at {}", scale.at(value));
            }
        }
    }

    #[test]
    fn every_axis_has_at_least_two_labels() {
        for domain in [Domain::log([4.0, 5.0]), Domain::log([1.0, 1e6]), Domain::from_zero([0.3])] {
            assert!(domain.ticks().iter().filter(|t| t.labelled).count() >= 2, "{domain:?}");
        }
    }

    #[test]
    fn equal_ratios_are_equal_distances() {
        let scale = Scale { domain: Domain::log([1.0, 1_000.0]), from: 300.0, to: 0.0 };
        assert!((scale.at(10.0) - 200.0).abs() < 1e-6);
        assert!((scale.at(100.0) - 100.0).abs() < 1e-6);
    }
}
