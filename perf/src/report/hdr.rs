//! Histograms as text: HdrHistogram V2, deflated, base64, as the interval-log format has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

/// Bounds of every histogram of times: 1 ns to 1 hour, so that all can be added up.
pub const TIME_NS_MAX: u64 = 3_600_000_000_000;

/// Significant decimal digits of a recorded time.
pub const SIGNIFICANT_DIGITS: u8 = 3;

const _: () = assert!(SIGNIFICANT_DIGITS <= 5 && TIME_NS_MAX >= 2);

/// An empty histogram of times, nanoseconds.
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_NS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are asserted above")
}

/// A histogram as text.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a histogram of counts is written to memory");
    STANDARD.encode(bytes)
}

/// The histogram that a text holds; `None` where the text holds none.
pub fn decode(text: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_being_written() {
        let mut histogram = empty();
        histogram.record_n(4_000, 90).unwrap();
        histogram.record(9_000_000).unwrap();
        let read = decode(&encode(&histogram)).unwrap();
        assert_eq!(read.len(), 91);
        assert_eq!(read.max(), histogram.max());
        assert_eq!(read.value_at_quantile(0.5), histogram.value_at_quantile(0.5));
    }

    #[test]
    fn rubbish_is_no_histogram() {
        assert!(decode("").is_none());
        assert!(decode("rubbish, not base64").is_none());
        assert!(decode("HISTRUBBISH=").is_none());
    }
}
