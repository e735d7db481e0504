//! The target that has the name of this program.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| fuzz::target(env!("CARGO_BIN_NAME")));

libfuzzer_sys::fuzz_target!(|input: &[u8]| TARGET(input));
