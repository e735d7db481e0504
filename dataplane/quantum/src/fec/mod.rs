//! Forward error correction: lost packets come back out of repairs, without a round trip (`PROTOCOL.md`,
//! section "Repair code").
//!
//! A *symbol* is what is protected of one packet; symbols are numbered from 0 by their sender. A *repair*
//! covers a run of recent symbols and stands for any one of them that is lost; as many repairs as symbols are
//! lost bring all of them back. [`Encoder`] makes repairs, [`Decoder`] uses them.

mod codec;
mod decoder;
mod elimination;
mod encoder;
mod engine;
mod estimate;
mod loss_runs;
mod policy;
mod receiver;
mod recovery_times;
mod sender;

pub use decoder::{Decoder, Outcome};
pub use encoder::Encoder;
pub use engine::Engine;
pub(crate) use receiver::FecReceiver;
pub use recovery_times::RecoveryTimes;
pub(crate) use sender::{FecSender, Verdict};

use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::limits::DATAGRAM_BYTES_MAX;

/// The most symbols that one repair covers, and the positions of the code: a symbol's is its number modulo
/// this.
pub const WINDOW_SYMBOLS_MAX: usize = 32;
/// The repairs that differ over the same symbols.
pub const REPAIR_INDICES: usize = 16;
/// The longest symbol: all that fits a packet.
pub const SYMBOL_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES;
/// The longest repair: the length of a symbol and the symbol, whole elements.
pub const REPAIR_BYTES_MAX: usize = (LENGTH_BYTES + SYMBOL_BYTES_MAX).next_multiple_of(ELEMENT_BYTES);
/// The symbols that a decoder remembers: a repair may come so much later than the symbols behind its own.
pub const HISTORY_SYMBOLS: usize = 2 * WINDOW_SYMBOLS_MAX;
/// How far ahead of the last symbol the next may be.
pub const SYMBOLS_AHEAD_MAX: u64 = 1 << 16;
/// Symbol numbers stay below this.
pub const SYMBOL_NUMBER_END: u64 = 1 << 62;
/// The repairs that a decoder holds until there are enough of them. One more drops that for the oldest symbol.
pub const HELD_REPAIRS_MAX: usize = 16;

/// In front of a symbol, in the code: its length, big endian.
const LENGTH_BYTES: usize = 2;
/// An element of the field.
const ELEMENT_BYTES: usize = 2;

const _: () = assert!(HISTORY_SYMBOLS == u64::BITS as usize);
const _: () = assert!(HISTORY_SYMBOLS.is_multiple_of(WINDOW_SYMBOLS_MAX));
const _: () = assert!(SYMBOL_BYTES_MAX <= u16::MAX as usize);

/// Computes the code's tables: 8 MiB and some 13 ms, once in a process. Whoever must not stall when the first packet
/// is lost calls this before it serves.
pub fn prepare() {
    codec::codec();
}

/// What a repair covers: symbols `last + 1 - count ..= last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepairHeader {
    /// The last symbol covered.
    pub last: u64,
    /// How many symbols are covered: 1 to [`WINDOW_SYMBOLS_MAX`].
    pub count: u8,
    /// Which of the [`REPAIR_INDICES`] repairs over these symbols this is.
    pub index: u8,
}

/// A symbol or a repair that no sender that keeps the rules has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FecError {
    /// Covers no symbol, more than a window, or symbols before the first.
    #[error("a repair of {count} symbols up to number {last}")]
    Covers {
        /// The symbols that it claims to cover.
        count: u8,
        /// The last of them.
        last: u64,
    },
    /// Not an index of the code.
    #[error("a repair with index {0}: the largest is 15")]
    Index(u8),
    /// Further ahead of the last symbol than [`SYMBOLS_AHEAD_MAX`], or not below [`SYMBOL_NUMBER_END`].
    #[error("symbol {number} after {newest}")]
    Ahead {
        /// The number that came.
        number: u64,
        /// The largest before it.
        newest: u64,
    },
    /// Empty, or longer than [`SYMBOL_BYTES_MAX`].
    #[error("a symbol of {0} bytes")]
    SymbolBytes(usize),
    /// Not whole elements, longer than [`REPAIR_BYTES_MAX`], or shorter than a symbol that it covers.
    #[error("a repair of {0} bytes")]
    RepairBytes(usize),
    /// Symbols and repairs contradict each other.
    #[error("a repair that contradicts the symbols it covers")]
    Contradiction,
}
