//! Makes repairs for the symbols that were sent.

use super::codec::{BLOCK_BYTES, Block, codec, load_symbol, store};
use super::{ELEMENT_BYTES, LENGTH_BYTES, REPAIR_INDICES, SYMBOL_BYTES_MAX, WINDOW_SYMBOLS_MAX};

/// The last [`WINDOW_SYMBOLS_MAX`] symbols that were sent. It holds the memory of the longest symbols that it
/// has had, at most 1,472 bytes each, until it is dropped.
pub struct Encoder {
    /// The first symbol that was pushed, and the number of the next.
    first: u64,
    next: u64,
    /// By number modulo the window.
    slots: Box<[Slot; WINDOW_SYMBOLS_MAX]>,
    sum: Vec<Block>,
    scratch: Vec<Block>,
}

#[derive(Default)]
struct Slot {
    symbol_bytes: usize,
    blocks: Vec<Block>,
}

impl Encoder {
    /// An encoder whose first symbol has the number `next`.
    #[must_use]
    pub fn new(next: u64) -> Self {
        Self { first: next, next, slots: Box::default(), sum: Vec::new(), scratch: Vec::new() }
    }

    /// Adds the next symbol and forgets that of a window before. Returns its number.
    ///
    /// # Panics
    ///
    /// If the symbol is empty or longer than [`SYMBOL_BYTES_MAX`].
    pub fn push(&mut self, symbol: &[u8]) -> u64 {
        assert!((1..=SYMBOL_BYTES_MAX).contains(&symbol.len()), "a symbol of {} bytes", symbol.len());
        let number = self.next;
        let slot = &mut self.slots[number as usize % WINDOW_SYMBOLS_MAX];
        slot.symbol_bytes = symbol.len();
        load_symbol(symbol, &mut slot.blocks);
        self.next += 1;
        number
    }

    /// The number of the next symbol.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// How many symbols a repair can cover now.
    #[must_use]
    pub fn window_symbols(&self) -> usize {
        (self.next - self.first).min(WINDOW_SYMBOLS_MAX as u64) as usize
    }

    /// The length of a repair of the last `count` symbols, in bytes. 0 if there are no symbols.
    #[must_use]
    pub fn repair_bytes(&self, count: usize) -> usize {
        let longest = self.last(count).map(|number| self.slot(number).symbol_bytes).max();
        longest.map_or(0, |bytes| (LENGTH_BYTES + bytes).next_multiple_of(ELEMENT_BYTES))
    }

    /// Writes repair `index` of the last `count` symbols to the start of `out`; returns its length, 0 if there
    /// are no symbols.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`REPAIR_INDICES`], or `out` is shorter than [`Self::repair_bytes`].
    pub fn repair(&mut self, count: usize, index: u8, out: &mut [u8]) -> usize {
        assert!(usize::from(index) < REPAIR_INDICES, "there is no repair {index}");
        let bytes = self.repair_bytes(count);
        let (mut sum, mut scratch) = (std::mem::take(&mut self.sum), std::mem::take(&mut self.scratch));
        sum.clear();
        sum.resize(bytes.div_ceil(BLOCK_BYTES), [0; BLOCK_BYTES]);
        for number in self.last(count) {
            let factor = codec().coefficient(index, number);
            codec().add_product(&mut sum, &self.slot(number).blocks, factor, &mut scratch);
        }
        store(&sum, &mut out[..bytes]);
        (self.sum, self.scratch) = (sum, scratch);
        bytes
    }

    fn last(&self, count: usize) -> std::ops::Range<u64> {
        self.next - count.min(self.window_symbols()) as u64..self.next
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize % WINDOW_SYMBOLS_MAX]
    }
}
