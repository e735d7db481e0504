//! Every limit of the wire, in one place.

/// The size to which a connection's first datagram is padded, so that an answer amplifies nothing.
pub const INITIAL_DATAGRAM_BYTES: usize = 1_200;
/// The largest datagram that a configuration may ask for: an Ethernet frame less IPv6 and UDP headers.
pub const DATAGRAM_BYTES_MAX: usize = 1_452;
/// The largest sealed ticket. It rides in the first datagram beside the handshake and the first ops.
pub const TICKET_BYTES_MAX: usize = 640;
/// The most grants that one ticket carries.
pub const TICKET_GRANTS_MAX: usize = 32;
/// The longest document id, in bytes of UTF-8.
pub const DOCUMENT_ID_BYTES_MAX: usize = 256;
/// The largest message on a channel.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The largest op: one message less the fields before the payload.
pub const OP_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 64;
/// The piece in which a document's state is sent.
pub const STATE_CHUNK_BYTES: usize = 64 << 10;
/// The largest state vector that a client may send with a join.
pub const STATE_VECTOR_BYTES_MAX: usize = 256 << 10;
/// Shared types in one Yjs document, those that are deleted included. CRDT libraries descend into nested ones
/// without a bound: the stack of a thread that integrates must hold so many levels.
pub const SHARED_TYPES_MAX: u64 = 250_000;
/// How deep arrays and maps in a value of a Yjs update may nest.
pub const VALUE_DEPTH_MAX: usize = 128;
/// The largest state of one presence entry.
pub const PRESENCE_STATE_BYTES_MAX: usize = 4 << 10;
/// The most entries in one presence message.
pub const PRESENCE_ENTRIES_MAX: usize = 10_000;
/// The longest name of a version, in bytes of UTF-8.
pub const VERSION_NAME_BYTES_MAX: usize = 128;
/// The most named versions of a document.
pub const VERSIONS_PER_DOCUMENT_MAX: usize = 1_024;
/// The most partitions of a cluster.
pub const PARTITIONS_MAX: u32 = 1 << 16;
/// The most shards of a node: a byte of the connection id names the shard.
pub const SHARDS_MAX: usize = 256;

const _: () = assert!(INITIAL_DATAGRAM_BYTES <= DATAGRAM_BYTES_MAX);
const _: () = assert!(TICKET_BYTES_MAX < INITIAL_DATAGRAM_BYTES * 3 / 5);
const _: () = assert!(VERSIONS_PER_DOCUMENT_MAX * (VERSION_NAME_BYTES_MAX + 32) < MESSAGE_BYTES_MAX);
const _: () = assert!(STATE_CHUNK_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(STATE_VECTOR_BYTES_MAX + DOCUMENT_ID_BYTES_MAX < MESSAGE_BYTES_MAX);
