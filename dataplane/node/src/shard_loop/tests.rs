//! What one turn does at the most, of each kind of work: everything else has its turn after that.

use std::net::UdpSocket;

use rings::spsc;
use rt::DataDir;
use shard::Command;
use statesync::{Job, JobId, Placement};
use wire::PacketType;
use wire::header::{HEADER_BYTES, VERSION};

use super::*;
use crate::config::NodeConfig;
use crate::shard_start::ShardPlan;

/// More of each kind than a turn may do.
const MANY: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than what answers it.
const DATAGRAM_BYTES: usize = 120;

struct Rig {
    serving: ShardLoop,
    commands: Producer<Command>,
    _reports: Consumer<LoopReport>,
    client: UdpSocket,
    address: std::net::SocketAddr,
    now: Now,
    _data_dir: DataDir,
    _place: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let loopback = ([127, 0, 0, 1], 0).into();
        let data_dir = DataDir::lock(place.path().join("node"), loopback).expect("a data directory");
        let layout = rt::Layout { shards: 1, log_id: wire::Guuid::new(1, [1; 10]), incarnation_min: 0 };
        let plan = ShardPlan {
            shard: 0,
            core: None,
            data_cores: Vec::new(),
            layout,
            log_dir: data_dir.log_dir(0).expect("a log"),
            reset_key: [1; rt::RESET_KEY_BYTES],
            address: String::new(),
            config: config(place.path().join("node"), loopback),
            siblings: Siblings::default(),
        };
        let (commands, commands_out) = spsc::channel(2 * MANY);
        let (reports, reports_out) = spsc::channel(2 * MANY);
        let link = AgentLink { commands: commands_out, reports, notify: Arc::new(|| ()) };
        let socket = UdpSocket::bind(loopback).expect("a socket");
        let address = socket.local_addr().expect("its address");
        let (mut serving, _) = plan.bring_up(socket, link).expect("a shard");
        serving.make_incarnation_durable().expect("a log");
        let now = serving.clock.now();
        let client = UdpSocket::bind(loopback).expect("a socket");
        Self {
            serving,
            commands,
            _reports: reports_out,
            client,
            address,
            now,
            _data_dir: data_dir,
            _place: place,
        }
    }

    fn command(&mut self, command: Command) {
        assert!(self.commands.try_push(command).is_ok());
    }

    /// Data for connections that the shard does not know: each is answered.
    fn send(&self, count: usize) {
        for number in 0..count {
            let mut datagram = [7; DATAGRAM_BYTES];
            datagram[..HEADER_BYTES].fill(0);
            datagram[0] = VERSION << 4 | PacketType::Data as u8;
            datagram[HEADER_BYTES - 2..HEADER_BYTES].copy_from_slice(&(number as u16 + 1).to_be_bytes());
            self.client.send_to(&datagram, self.address).expect("loopback has room");
        }
    }

    fn take_in(&mut self) {
        self.serving.take_in(self.now).expect("a turn");
    }

    fn datagrams(&self) -> (u64, u64) {
        let counters = self.serving.ring.counters();
        (counters.datagrams_in, counters.datagrams_out)
    }
}

fn config(data_dir: std::path::PathBuf, listen: std::net::SocketAddr) -> NodeConfig {
    NodeConfig {
        node_id: "node-1".to_owned(),
        data_dir,
        listen,
        advertise: None,
        control: String::new(),
        api_key: String::new(),
        shards: Some(1),
        idle_policy: IdlePolicy::Busy,
        transport: quantum::Config::default(),
        receive_buffer_bytes_max: 1 << 20,
        send_buffer_bytes_max: 1 << 20,
        log_segment_bytes: 8 << 20,
        log: crate::NodeLogConfig::default(),
        commit_delay_us_max: crate::COMMIT_DELAY_US_MAX,
        stage_sample_turns: 0,
        admin: None,
        store: crate::NodeStoreConfig::default(),
        core: CoreConfig::default(),
    }
}

#[test]
fn a_flood_of_datagrams_keeps_a_turn_from_ending() {
    let mut rig = Rig::new();
    rig.command(Command::Placement(Placement::single_node(0, 1, 256)));
    rig.command(Command::TicketKeys(vec![(1, [7; 32])]));
    // The receive is armed, too.
    rig.take_in();
    let core = rig.serving.core;
    let (before_in, before_out) = rig.datagrams();
    rig.send(MANY);
    rig.take_in();
    let taken = (rig.datagrams().0 - before_in) as usize;
    assert!((1..=core.datagrams_in_per_turn_max).contains(&taken), "{taken} datagrams in one turn");
    let give_up = std::time::Instant::now() + PATIENCE;
    while rig.datagrams().0 - before_in < MANY as u64 {
        assert!(std::time::Instant::now() < give_up, "datagrams are lost");
        rig.take_in();
    }
    // Each has its answer, and they do not leave at once either.
    rig.serving.put_out(rig.now).expect("a turn");
    let sent = (rig.datagrams().1 - before_out) as usize;
    assert_eq!(sent, core.datagrams_out_per_turn_max, "of {MANY} answers");
    rig.serving.put_out(rig.now).expect("a turn");
    assert_eq!((rig.datagrams().1 - before_out) as usize, 2 * core.datagrams_out_per_turn_max);
}

#[test]
fn a_flood_of_commands_keeps_a_turn_from_ending() {
    let mut rig = Rig::new();
    for _ in 0..MANY {
        rig.command(Command::HoldLog(true));
    }
    rig.take_in();
    assert_eq!(rig.serving.link.commands.len(), MANY - COMMANDS_PER_TURN);
}

#[test]
fn a_flood_of_answers_of_the_storage_thread_keeps_a_turn_from_ending() {
    const JOBS: usize = 4 * ANSWERS_PER_TURN;
    let mut rig = Rig::new();
    for number in 0..JOBS as u64 {
        // Of nobody: the answers are taken, and nothing comes of them.
        let job = Job::Load { document: format!("doc-{number}").into() };
        rig.serving.storage.begin(JobId(u64::MAX - number), job);
    }
    let give_up = std::time::Instant::now() + PATIENCE;
    while rig.serving.storage.waiting() < JOBS {
        assert!(std::time::Instant::now() < give_up, "jobs are not done");
        std::thread::yield_now();
    }
    let before = rig.serving.storage.waiting();
    assert!(rig.serving.take_answers(rig.now));
    let taken = before - rig.serving.storage.waiting();
    // Figures come between them, once a second.
    assert!((ANSWERS_PER_TURN..=ANSWERS_PER_TURN + 2).contains(&taken), "{taken} answers in one turn");
}
