//! What is measured, and what it should reach.

use serde::Serialize;

/// Bytes of each message.
pub const MESSAGE_BYTES: usize = 200;

/// One row: messages at a steady rate from a client to a node, over a network.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Row {
    /// For people, and to choose it by.
    pub name: &'static str,
    /// Messages a second.
    pub rate_per_s: u64,
    /// Messages, unless told otherwise.
    pub messages: u64,
    /// The network in netem's words, both directions.
    pub network: &'static str,
    /// What should be reached, if anything.
    pub target: Target,
}

/// Upper bounds; none: no bound.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Target {
    /// Send to delivery, median.
    pub p50_ms: Option<f64>,
    /// Send to delivery, 99th percentile.
    pub p99_ms: Option<f64>,
    /// Send to delivery, 99.9th percentile.
    pub p999_ms: Option<f64>,
    /// First evidence of a loss to delivery, 99th percentile.
    pub evidence_p99_ms: Option<f64>,
    /// Bytes on the wire, times those of the run without loss.
    pub bytes_ratio: Option<f64>,
}

/// A median of 10.0 ms, as it is printed.
const TEN_MS: Option<f64> = Some(10.05);
/// The bound of every row that loses something.
const EVIDENCE_MS: Option<f64> = Some(10.0);

const fn target(p50_ms: Option<f64>, p99_ms: f64, p999_ms: f64, bytes_ratio: f64) -> Target {
    Target {
        p50_ms,
        p99_ms: Some(p99_ms),
        p999_ms: Some(p999_ms),
        evidence_p99_ms: EVIDENCE_MS,
        bytes_ratio: Some(bytes_ratio),
    }
}

/// A person who types: one way and 10 ms.
const TYPING: Target = Target {
    p50_ms: None,
    p99_ms: Some(20.0),
    p999_ms: None,
    evidence_p99_ms: EVIDENCE_MS,
    bytes_ratio: None,
};

/// All rows. Those without loss come before those that are compared with them.
pub const ROWS: [Row; 7] = [
    Row {
        name: "0 %",
        rate_per_s: 1_000,
        messages: 1_000_000,
        network: "delay=10ms",
        target: target(TEN_MS, 11.0, 12.0, 1.0),
    },
    Row {
        name: "1 %",
        rate_per_s: 1_000,
        messages: 1_000_000,
        network: "delay=10ms loss=1%",
        target: target(TEN_MS, 16.0, 20.0, 1.25),
    },
    Row {
        name: "5 %",
        rate_per_s: 1_000,
        messages: 1_000_000,
        network: "delay=10ms loss=5%",
        target: target(Some(10.5), 20.0, 30.0, 1.5),
    },
    Row {
        name: "1 % in bursts of 3",
        rate_per_s: 1_000,
        messages: 1_000_000,
        // The bad state is left after three packets in the mean, and one packet in a hundred meets it.
        network: "delay=10ms gilbert-elliott=0.3367003%,33.3333333%",
        target: target(TEN_MS, 20.0, 30.0, 1.35),
    },
    Row { name: "typing, 0 %", rate_per_s: 50, messages: 100_000, network: "delay=10ms", target: TYPING },
    Row {
        name: "typing, 1 %",
        rate_per_s: 50,
        messages: 100_000,
        network: "delay=10ms loss=1%",
        target: TYPING,
    },
    Row {
        name: "typing, 5 %",
        rate_per_s: 50,
        messages: 100_000,
        network: "delay=10ms loss=5%",
        target: TYPING,
    },
];

impl Row {
    /// Whether it is one of those that are asked for: by their names, by parts of names, or all when nothing is named.
    #[must_use]
    pub fn is_meant(&self, names: &[String]) -> bool {
        let is_meant = |name: &String| match ROWS.iter().find(|row| row.name == *name) {
            Some(row) => row.name == self.name,
            None => self.name.contains(name.as_str()),
        };
        names.is_empty() || names.iter().any(is_meant)
    }

    /// The row of the same rate that loses nothing.
    #[must_use]
    pub fn without_loss(&self) -> Self {
        Self { network: "delay=10ms", ..*self }
    }

    /// Whether packets are lost in it.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        self.network != self.without_loss().network
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_full_means_others_that_contain_it() {
        let meant = |name: &str| -> Vec<&str> {
            ROWS.iter().filter(|row| row.is_meant(&[name.to_owned()])).map(|row| row.name).collect()
        };
        assert_eq!(meant("1 %"), ["1 %"]);
        assert_eq!(meant("typing"), ["typing, 0 %", "typing, 1 %", "typing, 5 %"]);
        assert!(meant("7 %").is_empty() && ROWS.iter().all(|row| row.is_meant(&[])));
    }

    #[test]
    fn a_row_loses_other_than_its_name_says() {
        for row in ROWS {
            let path: netem::PathSpec = row.network.parse().unwrap();
            let lost = path.up.gilbert_elliott.map_or(path.up.loss.get(), |chain| chain.loss_rate());
            let percent: f64 =
                row.name.trim_start_matches("typing, ").split(' ').next().unwrap().parse().unwrap();
            assert!((lost * 100.0 - percent).abs() < 1e-5, "{}: {lost}", row.name);
            if row.name.contains("bursts of 3") {
                let burst = path.up.gilbert_elliott.unwrap().mean_burst_packets();
                assert!((burst - 3.0).abs() < 1e-5, "{burst}");
            }
            assert_eq!(path.up, path.down);
        }
    }
}
