//! The machine underneath: glommio executors pinned to cores, the packet ring, log files, the data directory.
//!
//! Everything the data plane wants from Linux is here, as mechanisms without policy: a group of UDP sockets on
//! one port steered by the shard byte ([`bind_group`]), one raw io_uring per socket ([`PacketRing`]), a way to
//! wake a sleeping shard ([`Doorbell`]), one executor per core ([`spawn_shard`]), a clock, entropy, the log's
//! files ([`LogDir`], [`LogFile`]) and the directory they live in ([`DataDir`]); and what is needed to see where time
//! goes: [`CycleClock`], [`Histogram`], [`HiccupMeter`], [`CountingAllocator`].
//!
//! What this crate never does: know a protocol, a document or a log record; retry a failed sync; share memory
//! between shards (a doorbell carries no data).
//!
//! How a shard sleeps without losing a wake-up: the socket's receive operation and the doorbell's poll are armed
//! on the same ring whose completion queue the shard sleeps on, so whatever happens between the last look and
//! the sleep leaves a completion, and the kernel does not sleep over a completion.

mod address;
mod allocations;
mod background;
mod clock;
mod cycles;
mod data_dir;
mod doorbell;
mod error;
mod executor;
mod hiccup;
mod histogram;
mod layout;
mod log_files;
mod offloads;
mod packets;
mod pages;
mod slice;
mod socket;

pub use allocations::{CountingAllocator, thread_allocations};
pub use background::step_aside;
pub use clock::{Clock, entropy, unix_ms};
pub use cycles::CycleClock;
pub use data_dir::{DataDir, RESET_KEY_BYTES, shard_dir_name};
pub use doorbell::Doorbell;
pub use error::{Result, RtError};
pub use executor::{
    MEMLOCK_BYTES_MIN, STACK_BYTES, ShardHandle, allowed_cores, pin_current_thread, run_local, spawn_shard,
    yield_now,
};
pub use hiccup::{HICCUP_MIN, Hiccup, HiccupCause, HiccupMeter};
pub use histogram::Histogram;
pub use layout::{LAYOUT_VERSION, Layout};
pub use log_files::{LogBuffer, LogDir, LogFile, LogStorage, SegmentEvent, SegmentFiles, SegmentFilesConfig};
pub use offloads::{Offloads, offloads};
pub use packets::{
    Arrival, Feature, FeatureStatus, Features, Incoming, PacketCounters, PacketRing, PacketRingConfig,
    Polled, Sent, Train, Wake, ZeroCopySend,
};
pub use slice::give_way_to_short_tasks;
pub use socket::{SocketOptions, bind_group};
