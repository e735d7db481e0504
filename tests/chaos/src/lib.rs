//! Kills a serving node with SIGKILL, again and again, on a real disk, while writers and readers go on through the client
//! library, and keeps book of what the node has acknowledged.
//!
//! What must hold, whatever the moment of a kill: the node starts over its data again; every op that was acknowledged is in
//! its document, as it was sent; the ops of a writer are there without a gap and in order; a reader that has lived through all
//! of it has what the node has. In the end bits of its log are changed: it refuses to start, or has lost nothing.
//!
//! The seed decides what is written, where, how much of it, and when the kills come; how threads and processes are scheduled
//! it does not decide.

mod campaign;
mod cli;
mod content;
mod damage;
mod error;
mod figures;
mod ledger;
mod node;
mod people;
mod ports;
mod program;
mod report;
mod view;
mod visit;

pub use campaign::{Campaign, CampaignOptions};
pub use cli::ChaosArgs;
pub use error::ChaosError;
pub use program::Program;
pub use report::Report;
