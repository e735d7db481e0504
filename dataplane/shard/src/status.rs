//! A shard's figures by name, for metrics and the control plane.

use quantum::{Connection, Endpoint};
use statesync::SyncStats;
use wal::{AlignedBuffer, LogWriter};

use crate::lanes::Lanes;
use wire::CounterField;

/// One figure of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figure {
    /// Its name, the same in metrics and in `aetherflow` commands.
    pub name: &'static str,
    /// Since the start for a counter, now for a gauge.
    pub value: u64,
    /// Whether it may fall.
    pub is_gauge: bool,
    /// What it says, in a line; empty: the name says it all.
    pub help: &'static str,
}

impl From<CounterField> for Figure {
    fn from(field: CounterField) -> Self {
        Self { name: field.name, value: field.value, is_gauge: field.is_gauge, help: field.help }
    }
}

impl Figure {
    /// Something that only grows.
    #[must_use]
    pub const fn counter(name: &'static str, value: u64) -> Self {
        Self { name, value, is_gauge: false, help: "" }
    }

    /// The same, with what it says in a line.
    #[must_use]
    pub const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// Something that is as it is now.
    #[must_use]
    pub const fn gauge(name: &'static str, value: u64) -> Self {
        Self { name, value, is_gauge: true, help: "" }
    }
}

/// All figures of the three machines.
pub(crate) fn collect<B: AlignedBuffer>(
    endpoint: &Endpoint,
    sync: &SyncStats,
    log: &LogWriter<B>,
    lanes: &Lanes,
) -> Vec<Figure> {
    let mut figures = Vec::with_capacity(112);
    figures.extend(endpoint.stats().described().map(Figure::from));
    // The endpoint counts datagrams of all kinds; these are the ones of its connections.
    let connections = endpoint.connection_stats();
    let own = |name: &str| !matches!(name, "datagrams_sent" | "datagrams_received");
    let fields = connections.described().filter(|field| own(field.name));
    figures.extend(fields.map(Figure::from));
    figures.extend(path_figures(endpoint));
    figures.extend(sync.described().map(Figure::from));
    let stats = log.stats();
    figures.extend(stats.described().map(Figure::from));
    figures.extend([
        Figure::gauge("send_queued_bytes", endpoint.queued_bytes())
            .help("Bytes of messages to be sent, or sent and not acknowledged, over all connections."),
        Figure::gauge("log_queue_bytes", log.queue_bytes() as u64)
            .help("Bytes appended to the log that are not on the disk yet."),
        Figure::gauge("log_bytes", log.log_bytes())
            .help("Bytes of the log's segments that are kept, as far as they are used."),
    ]);
    figures.extend(lanes.figures());
    figures
}

/// How the paths to the connected clients are: of each figure the median and the 99th percentile, and sums.
fn path_figures(endpoint: &Endpoint) -> Vec<Figure> {
    let open = || endpoint.connections().map(|(connection, _)| connection).filter(|found| !found.is_closed());
    let spread = |names: [&'static str; 2], mut values: Vec<u64>| {
        names.into_iter().zip([50, 99]).map(move |(name, percent)| {
            let rank = values.len().saturating_sub(1) * percent / 100;
            let value = if values.is_empty() { 0 } else { *values.select_nth_unstable(rank).1 };
            Figure::gauge(name, value)
        })
    };
    let sum = |of: fn(&Connection) -> u64| open().map(of).sum();
    let round_trips = open().filter_map(Connection::rtt_us).collect();
    let windows = open().map(Connection::congestion_window_bytes).collect();
    let recoveries = open().filter_map(|found| found.fec_recovery_times()?.percentile_us(0.99)).collect();
    let mut figures = Vec::with_capacity(8);
    figures.extend(spread(["rtt_us_p50", "rtt_us_p99"], round_trips));
    figures.extend(spread(["congestion_window_bytes_p50", "congestion_window_bytes_p99"], windows));
    figures.extend(spread(["fec_recovery_p99_us_p50", "fec_recovery_p99_us_p99"], recoveries));
    figures.push(Figure::gauge("in_flight_bytes", sum(Connection::in_flight_bytes)));
    figures.push(Figure::gauge("receive_held_bytes", sum(|found| found.footprint().held_bytes as u64)));
    figures
}
