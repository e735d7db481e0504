use super::*;

const MS: u64 = 1_000_000;

fn recorder() -> Recorder {
    Recorder::new(INTERVAL, Duration::from_secs(1))
}

#[test]
fn a_latency_lands_in_the_wrong_interval() {
    let mut recorder = recorder();
    recorder.record(99 * MS, 1_000);
    recorder.record(100 * MS, 2_000);
    recorder.record(2_950 * MS, 3_000);
    let latency = latency(&[recorder]).unwrap();
    let seen: Vec<_> =
        latency.intervals.iter().map(|interval| (interval.at_ms, interval.max_us.round())).collect();
    assert_eq!(seen, [(0, 1.0), (100, 2.0), (2_900, 3.0)]);
    assert_eq!(latency.count, 3);
}

#[test]
fn repeats_are_averaged_rather_than_ranked() {
    let repeats: Vec<Recorder> = [10_000, 1_000_000, 20_000]
        .into_iter()
        .map(|latency_ns| {
            let mut recorder = recorder();
            (0..100).for_each(|at| recorder.record(at * MS, latency_ns));
            recorder
        })
        .collect();
    let latency = latency(&repeats).unwrap();
    let p50 = latency.percentiles_us["p50"];
    assert_eq!((p50.min.round(), p50.median.round(), p50.max.round()), (10.0, 20.0, 1_000.0));
    assert_eq!(latency.count, 300);
    let all = hdr::decode(&latency.histogram).unwrap();
    assert_eq!(all.len(), 300);
    assert_eq!((all.value_at_quantile(1.0) as f64 / 1e6).round(), 1.0);
}

#[test]
fn repeats_overlap_in_the_course_of_time() {
    let mut repeat = recorder();
    repeat.record(0, 1_000);
    let latency = latency(&[repeat.clone(), repeat]).unwrap();
    assert!(latency.intervals[1].at_ms >= 1_000, "{:?}", latency.intervals[1].at_ms);
}

#[test]
fn a_run_of_hours_fills_the_memory() {
    let mut recorder = Recorder::new(INTERVAL, Duration::from_secs(1));
    let mut count = 0;
    for second in 0..7_200 {
        recorder.record(second * 1_000 * MS, 5_000);
        count += 1;
    }
    assert!(recorder.intervals.len() <= INTERVALS_MAX);
    assert_eq!(recorder.count(), count);
    let latency = latency(&[recorder]).unwrap();
    let last = latency.intervals.last().unwrap();
    assert!(
        (last.at_ms..last.at_ms + last.length_ms).contains(&7_199_000),
        "{} {}",
        last.at_ms,
        last.length_ms
    );
}

#[test]
fn another_generators_figures_are_lost() {
    let (mut one, mut other) = (recorder(), recorder());
    one.record(0, 1_000);
    other.record(500 * MS, 9_000);
    one.absorb(&other);
    assert_eq!(one.count(), 2);
    assert!(one.total().max() >= 9_000);
}

#[test]
fn nothing_timed_is_drawn_as_zero() {
    assert!(latency(&[recorder()]).is_none());
    assert_eq!(spread(Vec::new()), None);
    assert_eq!(spread(vec![4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
}

#[test]
fn a_time_beyond_the_bounds_panics() {
    let mut recorder = recorder();
    recorder.record(0, u64::MAX);
    recorder.record(0, 0);
    assert_eq!(recorder.count(), 2);
    assert_eq!(recorder.total().len(), 2);
}
