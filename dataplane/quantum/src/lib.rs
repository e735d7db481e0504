//! The Quantum transport as a sans-I/O state machine.
