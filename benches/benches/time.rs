//! How long a step of each workload takes. See the library's documentation.

use std::time::Duration;

use benches::{Stepper, Visitor, Workload, ring, visit_all};
use criterion::{Criterion, Throughput};

/// Enough to see a change of a few percent; all of it in about three minutes.
const SAMPLES: usize = 20;
const WARM_UP: Duration = Duration::from_millis(300);
/// Messages of a batch: a turn's worth under load.
const RING_BATCH: usize = 32;
const MEASUREMENT: Duration = Duration::from_millis(1_500);

struct Timer(Criterion);

impl Visitor for Timer {
    fn visit<W: Workload>(&mut self, name: &str, make: impl Fn() -> W) {
        let mut stepper = Stepper::new(make);
        self.0.bench_function(name, |bencher| bencher.iter_custom(|steps| stepper.run(steps)));
    }
}

/// The workloads that take two threads.
fn time_ring_hops(criterion: &mut Criterion) {
    let cores = match ring::two_cores() {
        Ok(cores) => cores,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    let mut group = criterion.benchmark_group("ring");
    group.bench_function("round_trip_between_cores", |bencher| {
        bencher.iter_custom(|count| ring::round_trips(cores, count));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("stream_between_cores", |bencher| {
        bencher.iter_custom(|count| ring::stream(cores, count));
    });
    group.bench_function("stream_between_cores_in_batches", |bencher| {
        bencher.iter_custom(|count| ring::stream_batched(cores, count, RING_BATCH));
    });
    group.finish();
}

fn main() {
    let criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .without_plots()
        .configure_from_args();
    let mut timer = Timer(criterion);
    visit_all(&mut timer);
    time_ring_hops(&mut timer.0);
    timer.0.final_summary();
}
