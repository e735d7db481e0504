//! Every target: on the inputs that once broke it, then on random ones for as many seconds as `FUZZ_SECONDS`
//! says.

use std::path::Path;
use std::time::Duration;

use bolero::produce;

/// Without a word from the environment: enough to see what is plainly broken.
const SECONDS: u64 = 2;
const INPUT_BYTES_MAX: usize = 1_024;

fn seconds() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("FUZZ_SECONDS is a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(SECONDS))
}

/// What broke a target once must never break it again: the files in `crashes/TARGET`.
fn repeat_crashes(name: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes").join(name);
    for entry in folder.read_dir().into_iter().flatten() {
        let path = entry.expect("a readable folder").path();
        eprintln!("{}", path.display());
        target(&std::fs::read(&path).expect("a readable file"));
    }
}

macro_rules! targets {
    ($($name:ident)+) => {
        #[test]
        fn a_target_is_not_run() {
            let names = [$(stringify!($name)),+];
            assert!(fuzz::TARGETS.iter().map(|(name, _)| *name).eq(names));
        }

        $(#[test]
        fn $name() {
            repeat_crashes(stringify!($name), fuzz::$name);
            bolero::check!()
                .with_test_time(seconds())
                .with_iterations(usize::MAX)
                .with_generator(produce::<Vec<u8>>().with().len(0..=INPUT_BYTES_MAX))
                .for_each(|input| fuzz::$name(input));
        })+
    };
}

targets! {
    header
    varints
    ticket
    frames
    acks
    sync_from_client
    sync_from_node
    yjs_update
    yjs_state_vector
    fec_decoder
    fec_round_trip
    forged_packets
    forged_handshakes
    hostile_client
    hostile_node
}
