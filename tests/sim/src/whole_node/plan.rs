//! What happens in a world of a whole node: drawn from the seed before it begins.

use netem::{LinkSpec, PathSpec, Probability, Random};
use quantum::Config;
use statesync::{Limits, SyncConfig, WorkerConfig};
use wal::{BLOCK_BYTES, LogConfig};
use wire::sync::DocumentKind;
use wire::{Guuid, Span, Time};

use super::store::StoreFaults;
use crate::disk::DiskFaults;
use crate::draw::Draw;
use crate::scenario::network;

/// Faults end after so long at the latest.
const HEAL_US_MAX: u64 = 2_500_000;
/// Shards of one node at most.
const SHARDS_MAX: u64 = 3;
/// Clients that edit at most.
const CLIENTS_MAX: u64 = 12;
/// Crashes of one world at most.
const CRASHES_MAX: u64 = 24;
/// Worlds of which the node is killed in the middle of nearly every write, percent.
const STORMS: u64 = 15;
/// Clients in them, and ops of each in a document.
const STORM_CLIENTS_MAX: usize = 3;
const STORM_OPS_MAX: u32 = 600;
/// Clients begin, and come back, when the node is there: whoever is not answered waits for long.
const STORM_START_US: u64 = 5_000;
/// The longest that a write takes in them.
const STORM_LATENCY_US_MAX: u64 = 500;
/// More of the log may wait in them: nothing is refused.
const STORM_QUEUE_BLOCKS: usize = 400;
/// From one kill to the next.
const STORM_INTERVAL_US: usize = 25_000;
/// The largest op of an ordinary world, and of one with large ops.
const OP_BYTES_MAX: [u64; 2] = [200, 6_000];
/// A message must hold a piece of a state.
const MESSAGE_BYTES_MAX: usize = wire::limits::STATE_CHUNK_BYTES + 1_024;

/// All of it. Times count from the start of the world.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) shards: usize,
    pub(super) partitions: u32,
    pub(super) documents: Vec<DocumentPlan>,
    /// The last one only reads, from the end of the faults on: what it is told is compared with what others were.
    pub(super) clients: Vec<ClientPlan>,
    pub(super) transport: Config,
    pub(super) sync: SyncConfig,
    pub(super) log: LogConfig,
    pub(super) commit_delay_max: Span,
    pub(super) faults: DiskFaults,
    pub(super) store_faults: StoreFaults,
    pub(super) worker: WorkerConfig,
    pub(super) stops: Vec<(Time, Stop)>,
    /// The node is killed in the middle of nearly every write, and its clients notice at once.
    pub(super) is_storm: bool,
    pub(super) heal_at: Time,
    /// Whether documents are integrated at the end and compared letter by letter.
    pub(super) integrates: bool,
}

#[derive(Clone, Debug)]
pub(super) struct DocumentPlan {
    pub(super) name: String,
    pub(super) kind: DocumentKind,
}

/// What a client does.
#[derive(Clone, Debug)]
pub(super) struct ClientPlan {
    pub(super) start: Time,
    pub(super) network: PathSpec,
    pub(super) parts: Vec<Part>,
    /// Joins, in percent, that go to a shard which does not own the document.
    pub(super) wrong_guesses: u64,
    /// It says what it has when it joins, and sends nothing again that the node says it has.
    pub(super) tells_vector: bool,
    /// Its process dies, and another one takes its place if so.
    pub(super) dies: Option<(Time, bool)>,
    /// From when on, and for how long, it reads nothing.
    pub(super) deaf: Option<(Time, Span)>,
}

/// What a client does in one document.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) document: usize,
    pub(super) role: Role,
    /// Edits, if it writes: so many in all, so many at a time, so often.
    pub(super) ops: u32,
    pub(super) burst: u32,
    pub(super) interval: Span,
    pub(super) op_bytes_max: u64,
    /// Whether others see that it is here.
    pub(super) is_present: bool,
    /// When it names a version, and asks for the past.
    pub(super) asks: Option<Time>,
    /// When it deletes the document.
    pub(super) deletes: Option<Time>,
    /// When it leaves.
    pub(super) leaves: Option<Time>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Writer,
    Reader,
    /// Wants presence alone.
    Watcher,
}

/// How the node goes down, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) how: How,
    pub(super) down: Span,
    /// Kills again before it has come up.
    pub(super) kills_in_recovery: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    /// At this very moment.
    Kill,
    /// As soon as this point is reached.
    KillAt(Point),
    /// It is asked to go.
    Drain,
}

/// Where a kill hurts most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Point {
    /// A write of the log is under way.
    Write,
    /// One of several blocks is.
    LargeWrite,
    /// It is durable, and nobody was told.
    Durable,
    /// So is a snapshot.
    Stored,
    /// So is a trim record, and the segments are still there.
    Trimmed,
    /// A segment is not there any more.
    Removed,
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn draw(seed: u64) -> Self {
        let random = &mut Random::stream(seed, 1_000);
        let heal_us = random.scaled_between(200_000, HEAL_US_MAX);
        let shards = random.pick(&[1, 1, 1, 2, 2, SHARDS_MAX]) as usize;
        let documents: Vec<DocumentPlan> =
            (0..random.between(1, 4)).map(|number| document(random, number)).collect();
        let clients = random.scaled_between(2, CLIENTS_MAX);
        let is_disturbed = random.percent(50);
        let op_bytes_max = OP_BYTES_MAX[usize::from(random.percent(25))];
        let mut clients: Vec<ClientPlan> = (0..clients)
            .map(|_| client(random, heal_us, is_disturbed, documents.len(), op_bytes_max))
            .collect();
        let is_storm = random.percent(STORMS);
        if is_storm {
            clients.truncate(STORM_CLIENTS_MAX);
            clients.iter_mut().for_each(|client| hurry(random, client, heal_us));
        }
        clients.push(auditor(heal_us, documents.len()));
        let mut log = log(random);
        let mut sync = sync(random, &log);
        if is_storm {
            log.queue_bytes_max += STORM_QUEUE_BLOCKS * BLOCK_BYTES;
            sync.limits.unacknowledged_ops_max = Limits::default().unacknowledged_ops_max;
        }
        let mut faults = DiskFaults::draw(random);
        if is_storm {
            faults = DiskFaults {
                latency_us_max: faults.latency_us_max.min(STORM_LATENCY_US_MAX),
                stalls: 0,
                ..faults
            };
        }
        Self {
            seed,
            shards,
            partitions: random.pick(&[8, 64]),
            documents,
            clients,
            transport: transport(random),
            sync,
            log,
            commit_delay_max: Span::from_us(random.pick(&[0, 0, 500, 5_000])),
            faults,
            store_faults: StoreFaults::draw(random),
            worker: worker(random),
            is_storm,
            stops: if is_storm { storm(random, heal_us) } else { stops(random, heal_us) },
            heal_at: Time::from_us(heal_us),
            integrates: random.percent(30),
        }
    }
}

fn document(random: &mut Random, number: u64) -> DocumentPlan {
    let kind = if random.percent(50) { DocumentKind::Yjs } else { DocumentKind::Opaque };
    // Where its hash sends it differs between worlds.
    DocumentPlan { name: format!("document-{number}-{}", random.below(1_000)), kind }
}

fn client(
    random: &mut Random,
    heal_us: u64,
    is_disturbed: bool,
    documents: usize,
    op_bytes_max: u64,
) -> ClientPlan {
    let start = if random.percent(60) { random.below(5_000) } else { random.below(heal_us) };
    let mut parts: Vec<Part> = Vec::new();
    for document in 0..documents {
        if random.percent(70) || (document + 1 == documents && parts.is_empty()) {
            parts.push(part(random, document, heal_us, op_bytes_max));
        }
    }
    ClientPlan {
        start: Time::from_us(start),
        network: if is_disturbed { disturbed(random, heal_us) } else { clean(random) },
        parts,
        wrong_guesses: random.pick(&[0, 0, 10, 50]),
        tells_vector: random.percent(50),
        dies: random.percent(15).then(|| (Time::from_us(random.below(heal_us)), random.percent(70))),
        deaf: random.percent(8).then(|| {
            (Time::from_us(random.below(heal_us)), Span::from_us(random.scaled_between(1_000, 1_000_000)))
        }),
    }
}

/// Busy writers close by: as good as every write has several blocks.
fn hurry(random: &mut Random, client: &mut ClientPlan, heal_us: u64) {
    client.start = Time::from_us(STORM_START_US);
    client.tells_vector = true;
    client.network = LinkSpec { delay: Span::from_us(50), ..LinkSpec::default() }.into();
    for part in &mut client.parts {
        part.role = Role::Writer;
        (part.ops, part.burst) = (STORM_OPS_MAX, random.between(10, 40) as u32);
        part.op_bytes_max = OP_BYTES_MAX[0];
        // They last until the end of the faults.
        part.interval = Span::from_us(heal_us / u64::from(part.ops / part.burst));
        (part.deletes, part.leaves) = (None, None);
    }
}

/// Kills in the middle of writes, one after the other.
fn storm(random: &mut Random, heal_us: u64) -> Vec<(Time, Stop)> {
    let stop = |at: u64, down: u64| {
        let stop =
            Stop { how: How::KillAt(Point::LargeWrite), down: Span::from_us(down), kills_in_recovery: 0 };
        (Time::from_us(at), stop)
    };
    let stops = (0..heal_us).step_by(STORM_INTERVAL_US);
    stops.map(|at| stop(at + random.below(STORM_INTERVAL_US as u64), random.between(200, 1_000))).collect()
}

fn auditor(heal_us: u64, documents: usize) -> ClientPlan {
    let part = |document| Part {
        document,
        role: Role::Reader,
        ops: 0,
        burst: 0,
        interval: Span::ZERO,
        op_bytes_max: 0,
        is_present: false,
        asks: None,
        deletes: None,
        leaves: None,
    };
    let link = LinkSpec { delay: Span::from_us(500), ..LinkSpec::default() };
    ClientPlan {
        start: Time::from_us(heal_us),
        network: link.into(),
        parts: (0..documents).map(part).collect(),
        wrong_guesses: 0,
        tells_vector: false,
        dies: None,
        deaf: None,
    }
}

fn part(random: &mut Random, document: usize, heal_us: u64, op_bytes_max: u64) -> Part {
    let role = match random.below(100) {
        0..75 => Role::Writer,
        75..95 => Role::Reader,
        _ => Role::Watcher,
    };
    let ops = random.scaled_between(1, 60) as u32;
    let burst = random.pick(&[1, 1, 1, 2, 5, 20]);
    let ticks = u64::from(ops / burst + 1);
    Part {
        document,
        role,
        ops,
        burst,
        interval: Span::from_us(random.scaled_between(200, (heal_us / ticks).max(201))),
        op_bytes_max,
        is_present: random.percent(40),
        asks: (role == Role::Writer && random.percent(25)).then(|| Time::from_us(random.below(heal_us))),
        deletes: (role == Role::Writer && random.percent(2)).then(|| Time::from_us(random.below(heal_us))),
        leaves: random.percent(8).then(|| Time::from_us(random.below(heal_us))),
    }
}

fn clean(random: &mut Random) -> PathSpec {
    LinkSpec { delay: Span::from_us(random.scaled_between(50, 20_000)), ..LinkSpec::default() }.into()
}

fn disturbed(random: &mut Random, heal_us: u64) -> PathSpec {
    if random.percent(15) {
        return network::disturbed(random, heal_us);
    }
    let delay_us = random.scaled_between(50, 30_000);
    let percent = |random: &mut Random, most: u64| {
        let value = random.below(most + 1);
        Probability::new(value as f64 / 100.0).expect("at most one")
    };
    LinkSpec {
        delay: Span::from_us(delay_us),
        jitter: Span::from_us(random.below(delay_us)),
        loss: percent(random, 10),
        duplicate: percent(random, 3),
        corrupt: percent(random, 2),
        ..LinkSpec::default()
    }
    .into()
}

fn transport(random: &mut Random) -> Config {
    let common = Config {
        idle_timeout: Span::from_us(random.scaled_between(500_000, 3_000_000)),
        handshake_timeout: Span::from_ms(1_000),
        ..Config::default()
    };
    if random.percent(70) {
        return common;
    }
    // So small that readers who do not keep up are noticed.
    Config {
        message_bytes_max: MESSAGE_BYTES_MAX,
        channel_window_bytes: MESSAGE_BYTES_MAX as u64,
        receive_window_bytes: MESSAGE_BYTES_MAX as u64 + 4_096,
        send_buffer_bytes_max: MESSAGE_BYTES_MAX + 64,
        ..common
    }
}

fn sync(random: &mut Random, log: &LogConfig) -> SyncConfig {
    let limits = Limits {
        op_bytes_max: 8_000,
        tail_bytes_max: random.pick(&[500, 5_000, 1 << 20]),
        unacknowledged_ops_max: random.pick(&[20, 1 << 18]),
        snapshot_tail_bytes: random.pick(&[200, 5_000, 256 << 10]),
        waiting_joins_max: random.pick(&[2, 1 << 14]),
        jobs_queued_max: random.pick(&[1, 1 << 14]),
        jobs_in_flight_max: random.pick(&[1, 2, 8]),
        ..Limits::default()
    };
    // What takes minutes outside happens many times in the seconds of a world.
    SyncConfig {
        snapshot_after: Span::from_us(random.scaled_between(5_000, 1_000_000)),
        unload_after: Span::from_us(random.scaled_between(5_000, 1_000_000)),
        store_retry_after: Span::from_ms(random.pick(&[1, 20, 100])),
        log_bytes_max: log.segment_bytes * random.pick(&[1, 2, 100]),
        limits,
        ..SyncConfig::default()
    }
}

fn worker(random: &mut Random) -> WorkerConfig {
    WorkerConfig {
        materialized_bytes_max: random.pick(&[0, 32 << 10, 256 << 20]),
        history_base_bytes: random.pick(&[500, 4 << 20]),
    }
}

fn log(random: &mut Random) -> LogConfig {
    let batch_blocks = random.pick(&[4, 8, 16]);
    let record_body_bytes_max = 3 * BLOCK_BYTES;
    let batch_bytes_max = batch_blocks * BLOCK_BYTES;
    let least = batch_bytes_max.max(record_body_bytes_max + BLOCK_BYTES);
    let mut entropy = [0; 10];
    entropy.copy_from_slice(&random.bytes32()[..10]);
    LogConfig {
        log_id: Guuid::new(1, entropy),
        segment_bytes: (least + random.pick(&[0, 4, 40]) * BLOCK_BYTES) as u64,
        batch_bytes_max,
        record_body_bytes_max,
        queue_bytes_max: least + batch_bytes_max + random.pick(&[0, 4, 400]) * BLOCK_BYTES,
    }
}

fn stops(random: &mut Random, heal_us: u64) -> Vec<(Time, Stop)> {
    let stops = random.scaled_between(1, CRASHES_MAX);
    let mut stops: Vec<(Time, Stop)> = (0..stops)
        .map(|_| {
            let how = match random.below(20) {
                0 => How::Drain,
                1..=2 => How::Kill,
                3 => How::KillAt(Point::Durable),
                4..=5 => How::KillAt(Point::Stored),
                6..=7 => How::KillAt(Point::Trimmed),
                8 => How::KillAt(Point::Removed),
                9..=12 => How::KillAt(Point::Write),
                _ => How::KillAt(Point::LargeWrite),
            };
            let kills_in_recovery = random.pick(&[0, 0, 0, 1, 3]);
            let down = Span::from_us(random.scaled_between(500, 50_000));
            (Time::from_us(random.below(heal_us)), Stop { how, down, kills_in_recovery })
        })
        .collect();
    stops.sort_by_key(|(at, _)| *at);
    stops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_an_invalid_configuration() {
        for seed in 0..2_000 {
            let plan = Plan::draw(seed);
            plan.transport.validate().unwrap();
            plan.log.validate().unwrap();
            assert!(plan.clients.iter().all(|client| !client.parts.is_empty()));
        }
    }
}
