//! One document's conversation with its node, as a state machine.
