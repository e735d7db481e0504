//! How long messages take, exactly: rows of so many messages a second over a network that loses packets, in virtual
//! time.
//!
//! Both ends are driven at the very instants of their timeouts and of their datagrams' arrivals: what is reported is
//! the transport and the network, without a scheduler, a socket or a clock between them.

mod bulk;
mod cli;
mod ends;
mod evidence;
mod first_byte;
mod report;
mod rows;
mod run;
mod sample;

pub use bulk::{BulkArgs, BulkMeasured};
pub use cli::LatencyArgs;
pub use first_byte::{FirstByteArgs, FirstByteMeasured, first_bytes};
pub use report::{Checked, Table, measure_rows};
pub use rows::{MESSAGE_BYTES, ROWS, Row, Target};
pub use run::{FecCounts, LatencyError, Measured, measure};
pub use sample::Percentiles;
