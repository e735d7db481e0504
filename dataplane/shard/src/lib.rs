//! One loop that wires transport, state sync and log together.
