//! The command `aether-perf`.

fn main() {}
