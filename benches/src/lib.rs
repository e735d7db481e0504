//! Micro-benchmarks of the hot paths.
