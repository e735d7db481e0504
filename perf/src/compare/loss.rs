//! `compare --scenario loss`: messages one way through the relay, losing packets, ours beside others; and ours alone in
//! virtual time, where nothing but the transport and the network takes any.

use std::time::Duration;

use clap::Args as ClapArgs;
use netem::PathSpec;
use sim::latency::{self, Checked, MESSAGE_BYTES, ROWS, Row, measure_rows};

use crate::args::{Defaults, Packets};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::impair::RelayHandle;
use crate::peers::{self, Peer};
use crate::record::{INTERVAL, Recorder, latency, spread};
use crate::result::{Bound, Pace, Repeats, Run, Target, Verdict, Waiting};
use crate::workloads::delivery::{BOTH_BYTES, DELIVERY, Delivery, SENDER_BYTES, parameters};
use crate::workloads::{Measurement, measure_all};

/// Ours, through the relay.
const OURS: &str = "quantum";
/// Ours, in virtual time.
pub const VIRTUAL: &str = "quantum-virtual";
/// Those that it is held against: reliable, in order.
const PEERS: [&str; 3] = [OURS, "quinn-stream", "kcp"];
/// What is timed in virtual time besides: from the first evidence of a loss to the delivery of what repairs brought back;
/// of all that was lost, where they brought back nothing.
const EVIDENCE: &str = "evidence_to_delivery";
/// The relay's core is the server's, and both sleep: a median through it may be that much above that of virtual time, ms.
const RELAY_P50_MS: f64 = 0.45;

/// Enough messages of 1,000 a second for a 99.9th percentile.
pub(super) const DEFAULTS: Defaults =
    Defaults { repeats: 1, seconds: 20.0, warmup_seconds: 1.0, report: Some("report.html") };
/// Briefly: to see that it works.
pub(super) const QUICK: Defaults = Defaults { seconds: 1.0, warmup_seconds: 0.3, ..DEFAULTS };
/// What is random in virtual time follows from it.
const SEED: u64 = 1;
/// Messages of a row in virtual time, briefly.
const QUICK_MESSAGES: u64 = 20_000;

/// Options of the scenario.
#[derive(ClapArgs, Clone, Debug, Default)]
pub struct LossArgs {
    /// Only these rows, by name or part of a name: '0 %', '1 %', '5 %', 'bursts', 'typing' (with --scenario loss).
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Only these transports; 'none' for virtual time alone (with --scenario loss) [default: quantum,quinn-stream,kcp].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub peer: Vec<String>,
    /// Messages of each row in virtual time; 0 for none (with --scenario loss) [default: 1000000; 100000 of the rows at
    /// 50 a second].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub virtual_messages: Option<u64>,
}

impl LossArgs {
    fn rows(&self) -> Result<Vec<Row>> {
        let rows: Vec<Row> = ROWS.into_iter().filter(|row| row.is_meant(&self.rows)).collect();
        if rows.is_empty() {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            let asked = self.rows.join(",");
            return Err(Error::Usage(format!("--rows {asked}: the rows are {}", names.join("; "))));
        }
        Ok(rows)
    }

    fn peers(&self) -> Result<Vec<Peer>> {
        if self.peer == ["none"] {
            return Ok(Vec::new());
        }
        if self.peer.is_empty() {
            let missing = peers::missing();
            return PEERS
                .iter()
                .filter(|name| !missing.contains(name))
                .map(|name| peers::find(name))
                .collect();
        }
        let peers: Vec<Peer> = self.peer.iter().map(|name| peers::find(name)).collect::<Result<_>>()?;
        match peers.iter().find(|peer| !peer.reliable || !peer.crosses_relay()) {
            Some(peer) => Err(Error::Usage(format!(
                "--peer {}: the relay carries datagrams, and what it loses must be sent again",
                peer.name
            ))),
            None => Ok(peers),
        }
    }
}

/// Measures all rows, and keeps the targets.
pub(super) fn measure(context: &mut Context, args: &LossArgs, packets: Packets, quick: bool) -> Result<()> {
    let (rows, peers) = (args.rows()?, args.peers()?);
    context.packets = packets;
    let messages = args.virtual_messages.or(quick.then_some(QUICK_MESSAGES));
    let mut outcome = Ok(());
    for row in &rows {
        if !peers.is_empty() && outcome.is_ok() {
            context.network = Some(RelayHandle::network(row.network)?);
            let delivery = |peer: &Peer| -> Result<Box<dyn Measurement>> {
                Ok(Box::new(Delivery::new(*peer, row.rate_per_s as f64, MESSAGE_BYTES, packets)?))
            };
            let measurements = peers.iter().map(delivery).collect::<Result<_>>()?;
            outcome = measure_all(context, measurements);
            context.network = None;
        }
        if messages != Some(0) && outcome.is_ok() {
            context.progress.set_message(format!("{}: virtual time", row.name));
            let table = measure_rows(&[*row], messages, SEED).map_err(|error| Error::Transport {
                subject: VIRTUAL.to_owned(),
                doing: "measuring in virtual time",
                source: std::io::Error::other(error),
            })?;
            for checked in &table.rows {
                context.push(virtual_run(checked));
            }
        }
    }
    let targets: Vec<Target> = rows.iter().flat_map(|row| targets(row, context.runs())).collect();
    for target in targets {
        context.push_target(target);
    }
    outcome
}

/// The network as a run names it.
fn network(row: &Row) -> String {
    row.network.parse::<PathSpec>().map_or_else(|_| row.network.to_owned(), |spec| spec.to_string())
}

fn pace(row: &Row) -> Pace {
    Pace::Open { rate_per_s: row.rate_per_s as f64 }
}

/// A row of virtual time, as if somebody had waited for it.
fn virtual_run(checked: &Checked) -> Run {
    let Checked { row, measured, .. } = checked;
    let interval_ns = 1_000_000_000 / row.rate_per_s;
    let length = Duration::from_nanos(interval_ns * measured.messages);
    let mut delivery = Recorder::new(INTERVAL, length);
    for (number, &us) in (0..).zip(&measured.latencies_us) {
        delivery.record(number * interval_ns, u64::from(us) * 1_000);
    }
    let mut evidence = Recorder::new(INTERVAL, length);
    let by_fec = &measured.evidence_fec_us;
    for &us in if by_fec.is_empty() { &measured.evidence_us } else { by_fec } {
        evidence.record(0, u64::from(us) * 1_000);
    }
    let messages = measured.messages as f64;
    let mut figures = vec![
        (SENDER_BYTES.to_owned(), measured.sender_bytes as f64 / messages),
        (BOTH_BYTES.to_owned(), measured.both_bytes as f64 / messages),
    ];
    let counters = measured.sender.iter().chain(&measured.receiver);
    for (name, _) in counters.clone().filter(|(name, _)| name.starts_with("fec_")) {
        if !figures.iter().any(|(known, _)| known == name) {
            let sum: u64 = counters.clone().filter(|(other, _)| other == name).map(|(_, value)| value).sum();
            figures.push(((*name).to_owned(), sum as f64));
        }
    }
    let mut parameters = parameters(MESSAGE_BYTES);
    parameters.insert("network".to_owned(), network(row).into());
    Run {
        workload: DELIVERY.to_owned(),
        subject: VIRTUAL.to_owned(),
        waiting: Waiting::Blocking,
        pace: pace(row),
        parameters,
        verdict: Verdict::Passed,
        figures: figures.into_iter().filter_map(|(name, value)| Some((name, spread(vec![value])?))).collect(),
        latencies: [(DELIVERY, delivery), (EVIDENCE, evidence)]
            .into_iter()
            .filter_map(|(name, recorder)| Some((name.to_owned(), latency(&[recorder])?)))
            .collect(),
        repeats: Repeats { passed: 1, ..Repeats::default() },
        marks: Vec::new(),
        shards: Vec::new(),
        stages: None,
    }
}

/// What a row should reach: in virtual time, and through the relay.
fn targets(row: &Row, runs: &[Run]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (subject, how, slack_ms) in
        [(VIRTUAL, "in virtual time", 0.0), (OURS, "through the relay", RELAY_P50_MS)]
    {
        let run = find(runs, subject, row);
        let at = |timed: &str, key: &str| {
            Some(run?.latencies.get(timed)?.percentiles_us.get(key)?.median / 1_000.0)
        };
        let clean = find(runs, subject, &row.without_loss());
        let bytes = |name: &str| Some(run?.figures.get(name)?.median / clean?.figures.get(name)?.median);
        // Neither end may pay what the other saves.
        let bytes = bytes(SENDER_BYTES).zip(bytes(BOTH_BYTES)).map(|(sender, both)| sender.max(both));
        let latency::Target { p50_ms, p99_ms, p999_ms, evidence_p99_ms, bytes_ratio } = row.target;
        let evidence_ms = evidence_p99_ms.filter(|_| subject == VIRTUAL && row.is_lossy());
        let bounds = [
            ("p50", p50_ms.map(|ms| ms + slack_ms), at(DELIVERY, "p50"), "ms"),
            ("p99", p99_ms, at(DELIVERY, "p99"), "ms"),
            ("p99.9", p999_ms, at(DELIVERY, "p99.9"), "ms"),
            ("evidence to delivery p99", evidence_ms, at(EVIDENCE, "p99"), "ms"),
            ("bytes / those without loss", bytes_ratio.filter(|_| row.is_lossy()), bytes, "x"),
        ];
        for (what, limit, measured, unit) in bounds {
            if let Some(limit) = limit {
                targets.push(Target {
                    name: format!("{}, {}/s, {how}: {what}", row.name, row.rate_per_s),
                    bound: Bound::AtMost,
                    limit,
                    measured,
                    unit: unit.to_owned(),
                });
            }
        }
    }
    targets
}

fn find<'a>(runs: &'a [Run], subject: &str, row: &Row) -> Option<&'a Run> {
    let network = network(row);
    runs.iter().find(|run| {
        run.workload == DELIVERY
            && run.subject == subject
            && run.verdict == Verdict::Passed
            && run.pace == pace(row)
            && run.parameters.get("network").and_then(|value| value.as_str()) == Some(&network)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_virtual_time_is_not_found_or_held_against_another() {
        let table = measure_rows(&[ROWS[0], ROWS[2]], Some(3_000), 1).unwrap();
        let runs: Vec<Run> = table.rows.iter().map(virtual_run).collect();
        let measured = |row: &Row, what: &str| {
            let name = format!("{}, 1000/s, in virtual time: {what}", row.name);
            targets(row, &runs).into_iter().find(|target| target.name == name).unwrap().measured
        };
        assert_eq!(measured(&ROWS[0], "p50").map(f64::round), Some(10.0));
        let ratio = measured(&ROWS[2], "bytes / those without loss").unwrap();
        assert!((ratio - table.rows[1].sender_ratio.max(table.rows[1].both_ratio)).abs() < 1e-9);
        assert!(measured(&ROWS[2], "evidence to delivery p99").is_some());
        // Nothing went through a relay.
        let through = targets(&ROWS[0], &runs).into_iter().find(|target| target.name.contains("relay: p50"));
        assert_eq!(through.unwrap().measured, None);
    }

    #[test]
    fn a_row_that_is_not_there_is_measured_as_nothing() {
        let args = LossArgs { rows: vec!["7 %".to_owned()], ..LossArgs::default() };
        assert!(args.rows().unwrap_err().to_string().contains("typing"));
        let args = LossArgs { peer: vec!["tcp".to_owned()], ..LossArgs::default() };
        assert!(args.peers().is_err());
    }
}
