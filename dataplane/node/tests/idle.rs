//! What a node takes of its cores when nobody talks to it. In a program of its own: the threads of other tests have the
//! same names.

use std::fs;
use std::time::{Duration, Instant};

use model::Config;
use node::{IdlePolicy, Node, NodeConfig};

/// The most of a core that a shard that sleeps may take.
const CORE_SHARE_MAX: f64 = 0.03;
/// How long it is watched: figures are told once in it.
const WATCHED: Duration = Duration::from_millis(1_200);

fn node_config(data_dir: std::path::PathBuf, idle_policy: IdlePolicy) -> NodeConfig {
    let config = Config::default().node;
    NodeConfig {
        node_id: config.id,
        data_dir,
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        // Nobody: the shards wait for keys.
        control: "http://127.0.0.1:9".to_owned(),
        api_key: String::new(),
        shards: Some(1),
        idle_policy,
        admin: None,
        transport: node::TransportConfig::default(),
        receive_buffer_bytes_max: config.receive_buffer_bytes_max,
        send_buffer_bytes_max: config.send_buffer_bytes_max,
        log_segment_bytes: 32 << 20,
        commit_delay_us_max: node::COMMIT_DELAY_US_MAX,
        stage_sample_turns: node::STAGE_SAMPLE_TURNS,
        core: node::CoreConfig::default(),
        log: node::NodeLogConfig::default(),
        store: node::NodeStoreConfig::default(),
    }
}

/// Time that the shard's thread has had a core.
fn shard_time() -> Duration {
    let of = |task: fs::DirEntry| -> Option<Duration> {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let ns = times.split(' ').next()?.parse().ok()?;
        (name.trim() == "shard-0").then_some(Duration::from_nanos(ns))
    };
    let tasks = fs::read_dir("/proc/self/task").expect("threads");
    tasks.filter_map(|task| of(task.ok()?)).sum()
}

/// One that never sleeps is held to that where the packet ring is tested.
#[test]
fn an_idle_shard_that_may_sleep_burns_its_core() {
    for policy in [IdlePolicy::Saver, IdlePolicy::Adaptive] {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on a disk");
        let node = Node::start(node_config(place.path().join("node"), policy)).expect("a node");
        let (before, begun) = (shard_time(), Instant::now());
        std::thread::sleep(WATCHED);
        let share = (shard_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
        assert!(share < CORE_SHARE_MAX, "{policy:?} took {share:.3} of a core");
        println!("{policy:?}: {share:.4} of a core");
        drop(node);
    }
}
