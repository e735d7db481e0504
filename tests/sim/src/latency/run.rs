//! One row, measured.

use std::sync::Arc;

use bytes::Bytes;
use netem::PathSpec;
use quantum::{Config, ConnectionStats};
use serde::Serialize;
use thiserror::Error;
use wire::{Span, Time};

use super::ends::{Ends, Observer, counter};
use super::evidence::Evidence;
use super::rows::{MESSAGE_BYTES, Row};
use super::sample::{Percentiles, Sample};

/// How long a handshake, or the last messages, may take.
const PATIENCE: Span = Span::from_ms(30_000);
/// Where a message says its number.
const NUMBER_BYTES: usize = 8;
/// The only client.
const FLOW: usize = 0;

/// Why a row could not be measured.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LatencyError {
    /// The ends could not be made.
    #[error("the ends could not be made: {0}")]
    Setup(String),
    /// The network is not one.
    #[error("network `{text}`: {error}")]
    Network {
        /// In netem's words.
        text: String,
        /// What is wrong with it.
        error: String,
    },
    /// A connection ended.
    #[error("a connection ended: {0}")]
    Closed(String),
    /// A message could not be sent.
    #[error("message {number} was not taken: {error}")]
    NotTaken {
        /// The message.
        number: u64,
        /// Why.
        error: String,
    },
    /// A message came twice, or before one that was sent earlier.
    #[error("message {expected} was due, message {found} came")]
    Order {
        /// The next in order.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// Nothing came for too long.
    #[error("message {0} did not come in time")]
    Missing(u64),
    /// Timers fire again and again, and time stands still.
    #[error("time stands still at {} us: a timer fires again and again", .0.as_us())]
    Stuck(Time),
}

/// What a row gave.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measured {
    /// Messages sent and delivered.
    pub messages: u64,
    /// From sending to delivery in order.
    pub latency: Percentiles,
    /// From sending to delivery of each message, in order, us.
    #[serde(skip)]
    pub latencies_us: Vec<u32>,
    /// From the first evidence of a loss to the delivery of what was lost, of each message that was, us.
    #[serde(skip)]
    pub evidence_us: Vec<u32>,
    /// From the first evidence of a loss to the delivery of what was lost, however it came.
    pub evidence: Percentiles,
    /// The same of what was brought back out of a repair, us.
    #[serde(skip)]
    pub evidence_fec_us: Vec<u32>,
    /// The same of what was brought back out of a repair.
    pub evidence_fec: Percentiles,
    /// UDP payload that the sender has sent, bytes.
    pub sender_bytes: u64,
    /// The same of both ends.
    pub both_bytes: u64,
    /// Datagrams that the sender has sent.
    pub sender_packets: u64,
    /// Datagrams that the receiver has sent.
    pub receiver_packets: u64,
    /// Bytes of messages that were sent again, in messages.
    pub retransmissions: f64,
    /// What forward error correction did.
    pub fec: FecCounts,
    /// Every counter of the sender's connection.
    pub sender: Vec<(&'static str, u64)>,
    /// Every counter of the receiver's.
    pub receiver: Vec<(&'static str, u64)>,
}

impl Measured {
    /// From the first evidence of a loss to the delivery of what a repair brought back; of all that was lost, where no
    /// repair brought back anything.
    #[must_use]
    pub const fn evidence_by_fec(&self) -> Percentiles {
        if self.evidence_fec.count > 0 { self.evidence_fec } else { self.evidence }
    }
}

/// What forward error correction did, packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct FecCounts {
    /// Repairs sent.
    pub repairs: u64,
    /// Lost packets brought back.
    pub recovered: u64,
    /// Lost packets brought back, or repairs come, after a retransmission had.
    pub late: u64,
    /// Repairs of which nothing was needed.
    pub wasted: u64,
}

struct Onlooker {
    start: Time,
    interval_us: u64,
    next: u64,
    latency: Sample,
    evidence: Evidence,
    after_evidence: Sample,
    /// The part of them that repairs brought back, and those of the datagram that is being read.
    after_evidence_fec: Sample,
    read_now: Vec<Span>,
    wrong: Option<LatencyError>,
}

impl Onlooker {
    fn sent_at(&self, number: u64) -> Time {
        self.start + Span::from_us(number * self.interval_us)
    }
}

impl Observer for Onlooker {
    fn on_client_sent(&mut self, _: usize, datagram: &[u8]) {
        self.evidence.on_sent(datagram);
    }

    fn on_arrived(&mut self, now: Time, _: usize, datagram: &[u8]) {
        self.evidence.on_arrived(now, datagram);
    }

    fn on_read(&mut self, _: usize, recovered: u64) {
        for late in self.read_now.drain(..).filter(|_| recovered > 0) {
            self.after_evidence_fec.push(late);
        }
    }

    fn on_message(&mut self, now: Time, _: usize, message: &[u8]) {
        let found =
            message.first_chunk::<NUMBER_BYTES>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        if found != self.next && self.wrong.is_none() {
            self.wrong = Some(LatencyError::Order { expected: self.next, found });
        }
        self.latency.push(now.since(self.sent_at(self.next)));
        if let Some(late) = self.evidence.on_delivered(now) {
            self.after_evidence.push(late);
            self.read_now.push(late);
        }
        self.next += 1;
    }
}

/// Sends `messages` messages as the row says and waits for the last of them. The handshake happens before the first.
pub fn measure(row: &Row, messages: u64, seed: u64, config: &Config) -> Result<Measured, LatencyError> {
    let path: PathSpec = row.network.parse().map_err(|error: netem::SpecError| LatencyError::Network {
        text: row.network.to_owned(),
        error: error.to_string(),
    })?;
    let config = Arc::new(config.clone());
    let mut ends = Ends::new(path, seed, &config);
    ends.connect(&config)?;
    let mut onlooker = Onlooker {
        start: ends.now,
        interval_us: 1_000_000 / row.rate_per_s.max(1),
        next: 0,
        latency: Sample::default(),
        evidence: Evidence::new(MESSAGE_BYTES),
        after_evidence: Sample::default(),
        after_evidence_fec: Sample::default(),
        read_now: Vec::new(),
        wrong: None,
    };
    let deadline = ends.now + PATIENCE;
    ends.flush(&mut onlooker)?;
    while !ends.is_connected(FLOW) {
        let at = ends.next_at().filter(|&at| at <= deadline).ok_or(LatencyError::Missing(0))?;
        ends.advance(at, &mut onlooker)?;
    }
    onlooker.start = ends.now;
    exchange(&mut ends, &mut onlooker, messages)?;
    Ok(summary(&ends, onlooker))
}

fn exchange(ends: &mut Ends, onlooker: &mut Onlooker, messages: u64) -> Result<(), LatencyError> {
    let mut sent = 0;
    while onlooker.next < messages {
        let due = (sent < messages).then(|| onlooker.sent_at(sent));
        let deadline = onlooker.sent_at(sent) + PATIENCE;
        let at = ends.next_at().into_iter().chain(due).min().filter(|&at| at <= deadline);
        let at = at.ok_or(LatencyError::Missing(onlooker.next))?;
        ends.advance(at, onlooker)?;
        if due.is_some_and(|due| due <= ends.now) {
            let mut message = vec![0; MESSAGE_BYTES];
            message[..NUMBER_BYTES].copy_from_slice(&sent.to_be_bytes());
            onlooker.evidence.on_queued();
            ends.send(FLOW, Bytes::from(message))
                .map_err(|error| LatencyError::NotTaken { number: sent, error: error.to_string() })?;
            sent += 1;
            ends.flush(onlooker)?;
        }
        if let Some(wrong) = onlooker.wrong.take() {
            return Err(wrong);
        }
    }
    Ok(())
}

fn summary(ends: &Ends, onlooker: Onlooker) -> Measured {
    let sender = *ends.client(FLOW).stats();
    let receiver = ends.at_node(FLOW).map_or_else(ConnectionStats::default, |node| *node.stats());
    Measured {
        messages: onlooker.next,
        latencies_us: onlooker.latency.as_us().to_vec(),
        evidence_us: onlooker.after_evidence.as_us().to_vec(),
        latency: onlooker.latency.percentiles(),
        evidence: onlooker.after_evidence.percentiles(),
        sender_bytes: sender.bytes_sent,
        both_bytes: sender.bytes_sent + receiver.bytes_sent,
        sender_packets: sender.datagrams_sent,
        receiver_packets: receiver.datagrams_sent,
        retransmissions: sender.bytes_retransmitted as f64 / MESSAGE_BYTES as f64,
        evidence_fec_us: onlooker.after_evidence_fec.as_us().to_vec(),
        evidence_fec: onlooker.after_evidence_fec.percentiles(),
        fec: FecCounts {
            repairs: counter(&sender, "fec_repairs_sent"),
            recovered: counter(&receiver, "fec_recovered"),
            late: counter(&receiver, "fec_late"),
            wasted: counter(&receiver, "fec_wasted"),
        },
        sender: sender.fields().collect(),
        receiver: receiver.fields().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;

    #[test]
    fn a_network_without_loss_takes_longer_than_its_delay() {
        let measured = measure(&ROWS[0], 2_000, 1, &Config::default()).unwrap();
        assert_eq!((measured.latency.p50_ms, measured.latency.max_ms), (10.0, 10.0));
        assert_eq!((measured.latency.count, measured.evidence.count), (2_000, 0));
        assert_eq!(measured.retransmissions, 0.0);
    }

    #[test]
    fn losses_go_without_evidence_or_cost_nothing() {
        let lossy = measure(&ROWS[2], 5_000, 1, &Config::default()).unwrap();
        // 5 % of 5,000; what precedes a handshake's packets does not matter.
        assert!((200..300).contains(&lossy.evidence.count), "{}", lossy.evidence.count);
        assert!(lossy.latency.max_ms > 10.0);
        // Nothing is known of a loss before the next packet, so delivery takes longer by as much.
        assert!(lossy.evidence.max_ms < lossy.latency.max_ms);
    }

    #[test]
    fn the_same_seed_gives_another_story() {
        let once = measure(&ROWS[3], 3_000, 7, &Config::default()).unwrap();
        assert_eq!(once, measure(&ROWS[3], 3_000, 7, &Config::default()).unwrap());
        assert_ne!(once, measure(&ROWS[3], 3_000, 8, &Config::default()).unwrap());
    }
}
