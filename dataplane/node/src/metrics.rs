//! The node's figures in Prometheus' text format.

use std::fmt::Write;

use rt::Histogram;
use shard::Figure;

use crate::state::{NodeState, ShardState};

/// Bounds of a histogram's buckets: powers of two from 256 ns to 1.07 s, in nanoseconds.
const BUCKET_BITS: std::ops::RangeInclusive<u32> = 8..=30;
const NS_PER_S: f64 = 1e9;

/// One line per shard and figure: `aetherflow_NAME{shard="N"} VALUE`; counters end in `_total`. Behind them the
/// histograms of stages and hiccups, in seconds.
pub(crate) fn render(state: &NodeState) -> String {
    let mut names: Vec<(&str, bool, &str)> = state.shards.iter().flat_map(figures).map(described).collect();
    names.sort_unstable();
    names.dedup();
    let mut text = String::new();
    for (name, is_gauge, help) in names {
        let (kind, end) = if is_gauge { ("gauge", "") } else { ("counter", "_total") };
        if !help.is_empty() {
            let _ = writeln!(text, "# HELP aetherflow_{name}{end} {help}");
        }
        let _ = writeln!(text, "# TYPE aetherflow_{name}{end} {kind}");
        for (shard, state) in state.shards.iter().enumerate() {
            for figure in figures(state).filter(|figure| figure.name == name) {
                let _ = writeln!(text, "aetherflow_{name}{end}{{shard=\"{shard}\"}} {}", figure.value);
            }
        }
    }
    features(&mut text, state);
    stages(&mut text, state);
    steps(&mut text, state);
    jobs(&mut text, state);
    hiccups(&mut text, state);
    text
}

fn figures(shard: &ShardState) -> impl Iterator<Item = &Figure> {
    shard.last.figures.iter()
}

const fn described(figure: &Figure) -> (&'static str, bool, &'static str) {
    (figure.name, figure.is_gauge, figure.help)
}

fn features(text: &mut String, state: &NodeState) {
    let known = || state.shards.iter().enumerate().filter(|(_, shard)| !shard.last.features.is_empty());
    if known().next().is_none() {
        return;
    }
    head(
        text,
        "packet_feature_info",
        "gauge",
        "What a shard's packet path has: status in_use, available (the reason says why it is not used) or absent. \
         `aetherflow tune --check` explains each.",
    );
    for (shard, state) in known() {
        for feature in state.last.features.iter() {
            // Label values of the text format.
            let reason = feature.reason.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let (name, status) = (feature.name, feature.status.name());
            let _ = writeln!(
                text,
                "aetherflow_packet_feature_info{{shard=\"{shard}\",feature=\"{name}\",status=\"{status}\",reason=\"{reason}\"}} 1"
            );
        }
    }
}

fn stages(text: &mut String, state: &NodeState) {
    let timings = || state.shards.iter().map(|shard| &shard.last.timings).enumerate();
    if timings().all(|(_, timings)| timings.stages.is_empty()) {
        return;
    }
    head(
        text,
        "stage_sample_turns",
        "gauge",
        "One turn of the shard's loop in so many has its stages timed; 0: none.",
    );
    for (shard, timings) in timings() {
        let _ = writeln!(text, "aetherflow_stage_sample_turns{{shard=\"{shard}\"}} {}", timings.sample_turns);
    }
    head(
        text,
        "stage_seconds",
        "histogram",
        "Time in a stage of a shard's turn without the stages inside it, of the turns that were timed: receive \
         (datagrams taken from the kernel, by turn), open (decrypted and parsed, by datagram), statesync (by \
         message), log (appended, by op), fan_out (handed to connections), seal (framed and encrypted, by \
         datagram), send (datagrams given to the kernel, by turn), commit (a batch of the log given to the kernel), turn (all of it). \
         fsync, from a batch's submission until it is on the disk, is timed for every batch.",
    );
    for (shard, timings) in timings() {
        for (stage, histogram) in &timings.stages {
            let labels = format!("shard=\"{shard}\",stage=\"{}\"", stage.name());
            buckets(text, "stage_seconds", &labels, histogram);
        }
    }
}

fn steps(text: &mut String, state: &NodeState) {
    let steps = || {
        let of_shard = |(shard, state): (usize, &ShardState)| (shard, state.last.timings.steps.clone());
        state.shards.iter().enumerate().map(of_shard).filter(|(_, steps)| !steps.is_empty())
    };
    if steps().next().is_none() {
        return;
    }
    head(
        text,
        "turn_step_seconds",
        "histogram",
        "Time in a step of a shard's turn, of all turns in which it had something to do: receive (datagrams taken, \
         opened and done), durable (a batch acknowledged), lanes (messages of sibling shards), jobs (answers of the \
         storage thread), commands (of the agent), timers, status (figures told), log (a batch made and begun), send \
         (datagrams sealed and given to the kernel), background, others (tasks beside the loop; of those only stalls \
         are timed).",
    );
    for (shard, steps) in steps() {
        for step in &steps {
            let labels = format!("shard=\"{shard}\",step=\"{}\"", step.step.name());
            buckets(text, "turn_step_seconds", &labels, &step.times);
        }
    }
    head(
        text,
        "stalls_total",
        "counter",
        "Steps of a shard's turn that took longer than `stall_budget_us` by their own work, the worst of each turn. The \
         log names the document or connection.",
    );
    for (shard, steps) in steps() {
        for step in &steps {
            let name = step.step.name();
            let _ = writeln!(
                text,
                "aetherflow_stalls_total{{shard=\"{shard}\",step=\"{name}\"}} {}",
                step.stalls
            );
        }
    }
}

fn jobs(text: &mut String, state: &NodeState) {
    let jobs = || state.shards.iter().map(|shard| &shard.last.timings.jobs).enumerate();
    if jobs().all(|(_, jobs)| jobs.is_empty()) {
        return;
    }
    head(
        text,
        "store_job_seconds",
        "histogram",
        "Jobs of a shard's storage thread, from the shard's asking to the answer.",
    );
    for (shard, jobs) in jobs() {
        for (kind, histogram) in jobs.iter().filter(|(_, histogram)| histogram.count() > 0) {
            let labels = format!("shard=\"{shard}\",kind=\"{}\"", kind.name());
            buckets(text, "store_job_seconds", &labels, histogram);
        }
    }
}

fn hiccups(text: &mut String, state: &NodeState) {
    let timings = || state.shards.iter().map(|shard| &shard.last.timings).enumerate();
    if timings().all(|(_, timings)| timings.stages.is_empty()) {
        return;
    }
    head(
        text,
        "hiccup_seconds",
        "histogram",
        "Turns of a shard's loop that took 100 us and more, sleep not counted. Cause stolen: the thread did not \
         have its core; over_budget: the turn's own work.",
    );
    for (shard, timings) in timings() {
        for (cause, histogram) in [("stolen", &timings.stolen), ("over_budget", &timings.over_budget)] {
            let labels = format!("shard=\"{shard}\",cause=\"{cause}\"");
            buckets(text, "hiccup_seconds", &labels, histogram);
        }
    }
    head(text, "hiccup_longest_seconds", "gauge", "The longest turn of a shard's loop since the start.");
    for (shard, timings) in timings() {
        let longest = timings.stolen.max_ns().max(timings.over_budget.max_ns()) as f64 / NS_PER_S;
        let _ = writeln!(text, "aetherflow_hiccup_longest_seconds{{shard=\"{shard}\"}} {longest}");
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP aetherflow_{name} {help}");
    let _ = writeln!(text, "# TYPE aetherflow_{name} {kind}");
}

fn buckets(text: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    for bits in BUCKET_BITS {
        let below = histogram.count_below(1 << bits);
        let bound = (1_u64 << bits) as f64 / NS_PER_S;
        let _ = writeln!(text, "aetherflow_{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
    }
    let (count, sum) = (histogram.count(), histogram.sum_ns() as f64 / NS_PER_S);
    let _ = writeln!(text, "aetherflow_{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "aetherflow_{name}_sum{{{labels}}} {sum}");
    let _ = writeln!(text, "aetherflow_{name}_count{{{labels}}} {count}");
}

#[cfg(test)]
mod tests {
    use shard::Stage;

    use super::*;
    use crate::storage::JobKind;
    use crate::timings::StepTimes;
    use crate::turn_meter::Step;

    #[test]
    fn a_figure_of_the_second_shard_is_missing() {
        let mut state = NodeState::new(2);
        state.shards[0].last.figures =
            vec![Figure::counter("ops_logged", 3).help("Ops."), Figure::gauge("documents", 1)];
        state.shards[1].last.figures = vec![Figure::counter("ops_logged", 4).help("Ops.")];
        let expected = "# TYPE aetherflow_documents gauge\n\
            aetherflow_documents{shard=\"0\"} 1\n\
            # HELP aetherflow_ops_logged_total Ops.\n\
            # TYPE aetherflow_ops_logged_total counter\n\
            aetherflow_ops_logged_total{shard=\"0\"} 3\n\
            aetherflow_ops_logged_total{shard=\"1\"} 4\n";
        assert_eq!(render(&state), expected);
    }

    #[test]
    fn what_the_packet_path_lacks_is_not_told() {
        let mut state = NodeState::new(1);
        let config = rt::PacketRingConfig { zero_copy_send: rt::ZeroCopySend::Off, ..Default::default() };
        state.shards[0].last.features = rt::Features::probe(config).expect("a ring");
        let line = "aetherflow_packet_feature_info{shard=\"0\",feature=\"zero_copy_send\",status=\"available\",\
            reason=\"`zero_copy_send` is off\"} 1";
        let text = render(&state);
        assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
    }

    #[test]
    fn a_stall_is_counted_without_its_step() {
        let mut state = NodeState::new(1);
        let mut times = Histogram::new();
        times.record(2_000_000);
        state.shards[0].last.timings.steps = vec![StepTimes { step: Step::Receive, times, stalls: 1 }];
        let text = render(&state);
        for line in [
            "# TYPE aetherflow_stalls_total counter",
            "aetherflow_stalls_total{shard=\"0\",step=\"receive\"} 1",
            "aetherflow_turn_step_seconds_count{shard=\"0\",step=\"receive\"} 1",
            "aetherflow_turn_step_seconds_sum{shard=\"0\",step=\"receive\"} 0.002",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_stage_is_told_in_another_unit_or_bucket() {
        let mut state = NodeState::new(1);
        let mut sealed = Histogram::new();
        [200, 700, 1_500_000_000].into_iter().for_each(|ns| sealed.record(ns));
        state.shards[0].last.timings.stages = vec![(Stage::Seal, sealed)];
        state.shards[0].last.timings.stolen.record(2_500_000);
        let mut loaded = Histogram::new();
        loaded.record(3_000);
        state.shards[0].last.timings.jobs = vec![(JobKind::Load, loaded)];
        let text = render(&state);
        for line in [
            "# TYPE aetherflow_stage_seconds histogram",
            "aetherflow_stage_seconds_bucket{shard=\"0\",stage=\"seal\",le=\"0.000000256\"} 1",
            "aetherflow_stage_seconds_bucket{shard=\"0\",stage=\"seal\",le=\"0.000001024\"} 2",
            "aetherflow_stage_seconds_bucket{shard=\"0\",stage=\"seal\",le=\"1.073741824\"} 2",
            "aetherflow_stage_seconds_bucket{shard=\"0\",stage=\"seal\",le=\"+Inf\"} 3",
            "aetherflow_stage_seconds_sum{shard=\"0\",stage=\"seal\"} 1.5000009",
            "aetherflow_stage_seconds_count{shard=\"0\",stage=\"seal\"} 3",
            "aetherflow_store_job_seconds_count{shard=\"0\",kind=\"load\"} 1",
            "aetherflow_hiccup_seconds_count{shard=\"0\",cause=\"stolen\"} 1",
            "aetherflow_hiccup_longest_seconds{shard=\"0\"} 0.0025",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing in\n{text}");
        }
    }
}
