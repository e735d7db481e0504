//! Brings lost symbols back.

use super::codec::{BLOCK_BYTES, Block, codec, load_repair, load_symbol, store};
use super::elimination::{Contradiction, System};
use super::{
    ELEMENT_BYTES, FecError, HISTORY_SYMBOLS, LENGTH_BYTES, REPAIR_BYTES_MAX, REPAIR_INDICES, RepairHeader,
    SYMBOL_BYTES_MAX, SYMBOL_NUMBER_END, SYMBOLS_AHEAD_MAX, WINDOW_SYMBOLS_MAX,
};

/// The last [`HISTORY_SYMBOLS`] symbols, and the repairs that wait for more. It holds the memory of the
/// longest symbols and repairs that it has had, at most 1,472 bytes each, until it is dropped.
pub struct Decoder {
    /// The largest number that was heard of.
    newest: Option<u64>,
    /// By number modulo the history: which symbols are known, and which of them nobody has been told.
    known: u64,
    untold: u64,
    slots: Box<[Slot; HISTORY_SYMBOLS]>,
    system: System,
    symbol: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    symbol_bytes: usize,
    blocks: Vec<Block>,
}

/// What became of a repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing that it covers is missing, or it says nothing that others have not said.
    Unneeded,
    /// It covers symbols that are older than the history.
    Late,
    /// It waits for more repairs or symbols.
    Held,
    /// So many symbols have come back.
    Recovered(usize),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that has heard of no symbol.
    #[must_use]
    pub fn new() -> Self {
        Self {
            newest: None,
            known: 0,
            untold: 0,
            slots: Box::new(std::array::from_fn(|_| Slot::default())),
            system: System::default(),
            symbol: Vec::new(),
        }
    }

    /// Takes a symbol as it came. Returns how many others have come back by it.
    ///
    /// # Errors
    ///
    /// When the peer breaks the rules of the code.
    pub fn handle_symbol(&mut self, number: u64, symbol: &[u8]) -> Result<usize, FecError> {
        if !(1..=SYMBOL_BYTES_MAX).contains(&symbol.len()) {
            return Err(FecError::SymbolBytes(symbol.len()));
        }
        self.advance(number)?;
        if number < self.floor() || self.is_known(number) {
            return Ok(0);
        }
        let slot = &mut self.slots[column(number) as usize];
        slot.symbol_bytes = symbol.len();
        load_symbol(symbol, &mut slot.blocks);
        self.known |= 1 << column(number);
        if self.system.len() == 0 {
            return Ok(0);
        }
        let substituted = self.system.substitute(column(number), &slot.blocks);
        let recovered = self.take_solved()?;
        substituted.map(|()| recovered).map_err(|Contradiction| FecError::Contradiction)
    }

    /// Takes a repair.
    ///
    /// # Errors
    ///
    /// When the peer breaks the rules of the code.
    pub fn handle_repair(&mut self, header: RepairHeader, repair: &[u8]) -> Result<Outcome, FecError> {
        let RepairHeader { last, count, index } = header;
        let covers_window = (1..=WINDOW_SYMBOLS_MAX).contains(&usize::from(count));
        if !covers_window || u64::from(count) > last.saturating_add(1) {
            return Err(FecError::Covers { count, last });
        }
        if usize::from(index) >= REPAIR_INDICES {
            return Err(FecError::Index(index));
        }
        let whole = repair.len().is_multiple_of(ELEMENT_BYTES);
        if !whole || !(LENGTH_BYTES + 1..=REPAIR_BYTES_MAX).contains(&repair.len()) {
            return Err(FecError::RepairBytes(repair.len()));
        }
        self.advance(last)?;
        let first = last + 1 - u64::from(count);
        if first < self.floor() {
            return Ok(Outcome::Late);
        }
        let covered = ((1_u64 << count) - 1).rotate_left(column(first));
        if covered & !self.known == 0 {
            return Ok(Outcome::Unneeded);
        }
        let fits = |number| {
            !self.is_known(number)
                || LENGTH_BYTES + self.slots[column(number) as usize].symbol_bytes <= repair.len()
        };
        if !(first..=last).all(fits) {
            return Err(FecError::RepairBytes(repair.len()));
        }
        self.add_row(first..=last, index, repair);
        if !self.system.insert().map_err(|Contradiction| FecError::Contradiction)? {
            return Ok(Outcome::Unneeded);
        }
        match self.take_solved()? {
            0 => Ok(Outcome::Held),
            count => Ok(Outcome::Recovered(count)),
        }
    }

    /// The next symbol that has come back and was not polled yet, with its number: the oldest first.
    pub fn poll_recovered(&mut self) -> Option<(u64, &[u8])> {
        let floor = self.floor();
        let offset = self.untold.rotate_right(column(floor)).trailing_zeros();
        if self.untold == 0 {
            return None;
        }
        let number = floor + u64::from(offset);
        self.untold &= !(1 << column(number));
        let slot = &self.slots[column(number) as usize];
        self.symbol.resize(LENGTH_BYTES + slot.symbol_bytes, 0);
        store(&slot.blocks, &mut self.symbol);
        Some((number, &self.symbol[LENGTH_BYTES..]))
    }

    /// The oldest symbol of the history. Repairs that cover older ones are of no use.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.newest.map_or(0, |newest| newest.saturating_sub(HISTORY_SYMBOLS as u64 - 1))
    }

    /// How many repairs wait for more, at most [`HELD_REPAIRS_MAX`](super::HELD_REPAIRS_MAX).
    #[must_use]
    pub fn held_repairs(&self) -> usize {
        self.system.len()
    }

    /// Moves the history on so that it ends at or behind `number`.
    fn advance(&mut self, number: u64) -> Result<(), FecError> {
        let newest = self.newest.unwrap_or(number);
        if number >= SYMBOL_NUMBER_END || number.saturating_sub(newest) > SYMBOLS_AHEAD_MAX {
            return Err(FecError::Ahead { number, newest });
        }
        self.newest = Some(newest.max(number));
        self.system.set_oldest(column(self.floor()));
        if number.saturating_sub(newest) >= HISTORY_SYMBOLS as u64 {
            self.known = 0;
            self.untold = 0;
            self.system.clear();
            return Ok(());
        }
        for entering in newest + 1..=number {
            let bit = 1 << column(entering);
            if self.known & bit == 0 {
                self.system.forget(column(entering));
            }
            self.known &= !bit;
            self.untold &= !bit;
        }
        Ok(())
    }

    /// Makes a row of the system of a repair: what is known is taken away from it.
    fn add_row(&mut self, covered: std::ops::RangeInclusive<u64>, index: u8, repair: &[u8]) {
        load_repair(repair, &mut self.system.spare().value);
        for number in covered {
            let factor = codec().coefficient(index, number);
            if self.known & (1 << column(number)) == 0 {
                self.system.filling().set(column(number), factor);
            } else {
                self.system.add_to_filling(&self.slots[column(number) as usize].blocks, factor);
            }
        }
    }

    /// Moves solved symbols from the system to the history; returns how many.
    fn take_solved(&mut self) -> Result<usize, FecError> {
        let (mut count, mut contradiction) = (0, false);
        while let Some((column, row)) = self.system.solved() {
            if let Some(symbol_bytes) = symbol_bytes(&row.value, &mut self.symbol) {
                let slot = &mut self.slots[column as usize];
                std::mem::swap(&mut slot.blocks, &mut row.value);
                slot.blocks.truncate((LENGTH_BYTES + symbol_bytes).div_ceil(BLOCK_BYTES));
                slot.symbol_bytes = symbol_bytes;
                self.known |= 1 << column;
                self.untold |= 1 << column;
                count += 1;
            } else {
                contradiction = true;
            }
            self.system.remove_solved(column);
        }
        if contradiction { Err(FecError::Contradiction) } else { Ok(count) }
    }

    fn is_known(&self, number: u64) -> bool {
        self.known & (1 << column(number)) != 0
    }
}

/// Where a symbol stands in the history and in the system.
fn column(number: u64) -> u32 {
    (number % HISTORY_SYMBOLS as u64) as u32
}

/// The length of the symbol that a solved value holds, if it is one: a length, so many bytes, zeros.
fn symbol_bytes(value: &[Block], bytes: &mut Vec<u8>) -> Option<usize> {
    bytes.resize(value.len() * BLOCK_BYTES, 0);
    store(value, bytes);
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let symbol_bytes = usize::from(u16::from_be_bytes(*length));
    let valid = (1..=SYMBOL_BYTES_MAX).contains(&symbol_bytes);
    let zeros = rest.get(symbol_bytes..)?.iter().all(|byte| *byte == 0);
    (valid && zeros).then_some(symbol_bytes)
}

#[cfg(test)]
mod tests;
