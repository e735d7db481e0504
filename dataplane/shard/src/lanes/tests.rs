//! Two shards, joined by lanes of few slots, and clients that ask the one for what the other owns.

mod flow;
mod world;
