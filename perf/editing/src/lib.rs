//! Editing to replay: real traces, a typing model, and the Yjs updates that they make.
//!
//! A [`Trace`] is what was recorded, a [`Script`] what its agents send, as Yjs updates; [`Author`] makes edits
//! without end, for a load. [`Catalog`] and [`Arrivals`] find the ops of a script in what comes from a node.
//! Same seed, same bytes. What this crate never does: know a node, a client or a clock.

mod arrivals;
mod author;
mod outline;
mod overwriter;
mod replica;
mod script;
mod times;
mod trace;
mod typing;

pub use arrivals::{Arrival, Arrivals, Catalog, Contents};
pub use author::{Author, author_of};
pub use outline::{Insert, Outline, UpdateBuilder};
pub use overwriter::MAP_ROOT;
pub use replica::{ROOT, Replica, client_id};
pub use script::{Op, Script, ScriptError};
pub use trace::{AGENTS_MAX, Patch, TRACE_BYTES_MAX, Trace, TraceError, Transaction};
pub use typing::{Random, Typist};
