//! What can go wrong between us and the machine, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// This crate's result.
pub type Result<T> = std::result::Result<T, RtError>;

/// What was wrong, with what, and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RtError {
    /// Another process holds the UDP port.
    #[error("UDP port {port} on {ip} is in use by another process; stop it (find it with `ss -lunp 'sport = :{port}'`) or choose another address", ip = address.ip(), port = address.port())]
    PortInUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address is not one of this machine's, or its port may not be bound by this user.
    #[error(
        "cannot bind UDP {address}: {source}; choose an address of this machine and a port of 1024 or above"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// More sockets were asked for than one byte can steer to.
    #[error("{shards} shards asked for, 1 to {max} are possible; lower the shard count")]
    ShardCount {
        /// What was asked for.
        shards: usize,
        /// The most there can be.
        max: usize,
    },
    /// A socket option or registration failed that should not.
    #[error("{what} failed: {source}")]
    Socket {
        /// The call.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// io_uring cannot be used here.
    #[error(
        "io_uring is not available ({source}; /proc/sys/kernel/io_uring_disabled is {sysctl}); set it with `sysctl kernel.io_uring_disabled=0`, use kernel 6.1 or later, and in a container allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"
    )]
    IoUringDisabled {
        /// What the sysctl says, or `absent`.
        sysctl: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel would not give memory for even the smallest ring.
    #[error(
        "not enough locked memory for an io_uring of {entries} entries ({source}); raise the memlock limit (`ulimit -l`, LimitMEMLOCK= in systemd)"
    )]
    RingMemory {
        /// The smallest size tried.
        entries: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A ring size that cannot work.
    #[error("packet ring: {what}")]
    RingConfig {
        /// What is wrong and what would be right.
        what: &'static str,
    },
    /// The ring itself failed; the shard cannot go on.
    #[error("io_uring {what} failed: {source}; the shard cannot receive, restart the node")]
    Ring {
        /// The operation.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// memlock is under what the executors need.
    #[error(
        "the memlock limit is {limit} bytes, a shard needs {needed}; raise it (`ulimit -l {needed_kib}`, LimitMEMLOCK= in systemd, or add CAP_IPC_LOCK in the container)", needed_kib = needed / 1024
    )]
    Memlock {
        /// The limit in force.
        limit: u64,
        /// The least that works.
        needed: u64,
    },
    /// The core is not one that this process may run on.
    #[error(
        "core {core} is not allowed to this process (allowed: {allowed:?}); choose an allowed core or widen its cpuset"
    )]
    CoreNotAllowed {
        /// The core that was asked for.
        core: usize,
        /// The cores of the process's affinity mask.
        allowed: Vec<usize>,
    },
    /// The executor of a shard could not start.
    #[error("shard {name} could not start: {reason}")]
    Executor {
        /// The shard's thread name.
        name: String,
        /// What glommio or the system said.
        reason: String,
    },
    /// A shard's task panicked.
    #[error("shard {name} panicked: {message}; this is a defect, please report it with the log")]
    ShardPanicked {
        /// The shard's thread name.
        name: String,
        /// The panic's message.
        message: String,
    },
    /// The kernel's random source failed.
    #[error("getrandom failed: {source}")]
    Entropy {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file operation failed. On the log it is final: a sync is never retried.
    #[error("{what} {path} failed: {source}", path = path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file of the reset key does not hold one.
    #[error("{} is not a key of 32 bytes; delete it, and the node makes a new one", path.display())]
    ResetKeyCorrupt {
        /// The file.
        path: PathBuf,
    },
    /// Fewer bytes were written than asked for: the device is full or failing.
    #[error("wrote {written} of {len} bytes to {path} at {offset}; the device is full or failing", path = path.display())]
    ShortWrite {
        /// The file.
        path: PathBuf,
        /// Where in the file, bytes.
        offset: u64,
        /// What was asked for, bytes.
        len: usize,
        /// What was done, bytes.
        written: usize,
    },
    /// A write that direct I/O cannot do.
    #[error("write of {len} bytes at {offset} to {path} is not a multiple of {align} or passes the segment's end", path = path.display())]
    Misaligned {
        /// The file.
        path: PathBuf,
        /// Where in the file, bytes.
        offset: u64,
        /// How much, bytes.
        len: usize,
        /// The alignment, bytes.
        align: usize,
    },
    /// Another process owns the data directory.
    #[error("data directory {path} is in use by {holder}; stop that node or choose another directory", path = path.display())]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it: process id and address.
        holder: String,
    },
    /// The data directory was written by a later version.
    #[error("data directory {path} has layout version {found}, this program knows up to {known}; run the version that wrote it, or a later one", path = path.display())]
    LayoutTooNew {
        /// The layout file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The latest version known.
        known: u32,
    },
    /// The layout file cannot be read as one.
    #[error("layout file {path}, line {line}: {what}; restore it from a backup", path = path.display())]
    LayoutCorrupt {
        /// The layout file.
        path: PathBuf,
        /// The line, from 1; 0 when something is missing.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl RtError {
    /// A [`RtError::File`], for `map_err`.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RtError {
        let path = path.into();
        move |source| RtError::File { what, path, source }
    }
}
