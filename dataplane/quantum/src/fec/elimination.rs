//! Gaussian elimination, one repair at a time: what can be solved is solved as soon as it can be.
//!
//! Each row says that a sum of multiples of lost symbols is a known value. The rows are kept reduced: a row's
//! *pivot* is a symbol with the multiple 1 that no other row contains. A row of its pivot alone is that symbol.

use reed_solomon_simd::engine::GfElement;

use super::codec::{BLOCK_BYTES, Block, codec};
use super::{HELD_REPAIRS_MAX, HISTORY_SYMBOLS};

/// The rows over the symbols of a decoder's history. A symbol's column is its number modulo
/// [`HISTORY_SYMBOLS`].
#[derive(Default)]
pub(super) struct System {
    /// The rows in use, then those whose memory is kept.
    rows: Vec<Row>,
    used: usize,
    /// The column of the oldest symbol of the history.
    oldest: u32,
    scratch: Vec<Block>,
}

pub(super) struct Row {
    /// Which coefficients are not 0.
    columns: u64,
    pivot: u32,
    coefficients: [GfElement; HISTORY_SYMBOLS],
    pub(super) value: Vec<Block>,
}

impl Default for Row {
    fn default() -> Self {
        Self { columns: 0, pivot: 0, coefficients: [0; HISTORY_SYMBOLS], value: Vec::new() }
    }
}

impl Row {
    pub(super) fn set(&mut self, column: u32, coefficient: GfElement) {
        self.coefficients[column as usize] = coefficient;
        let bit = 1 << column;
        self.columns = if coefficient == 0 { self.columns & !bit } else { self.columns | bit };
    }

    fn coefficient(&self, column: u32) -> GfElement {
        self.coefficients[column as usize]
    }

    /// `self += other * factor`.
    fn add(&mut self, other: &Self, factor: GfElement, scratch: &mut Vec<Block>) {
        let mut columns = other.columns;
        while columns != 0 {
            let column = columns.trailing_zeros();
            columns &= columns - 1;
            self.set(column, self.coefficient(column) ^ codec().product(other.coefficient(column), factor));
        }
        self.add_value(&other.value, factor, scratch);
    }

    fn add_value(&mut self, value: &[Block], factor: GfElement, scratch: &mut Vec<Block>) {
        if self.value.len() < value.len() {
            self.value.resize(value.len(), [0; BLOCK_BYTES]);
        }
        codec().add_product(&mut self.value, value, factor, scratch);
    }

    fn is_zero(&self) -> bool {
        self.value.as_flattened().iter().all(|byte| *byte == 0)
    }
}

/// The rows cannot all be true.
pub(super) struct Contradiction;

impl System {
    /// How many rows wait for more.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    pub(super) fn set_oldest(&mut self, column: u32) {
        self.oldest = column;
    }

    /// An empty row to fill, then [`Self::insert`]; its value is left as it was. If the system is full, the row of the oldest symbol
    /// makes room.
    pub(super) fn spare(&mut self) -> &mut Row {
        if self.used == HELD_REPAIRS_MAX {
            let age = |at: &usize| self.rows[*at].pivot.wrapping_sub(self.oldest) % HISTORY_SYMBOLS as u32;
            if let Some(row) = (0..self.used).min_by_key(age) {
                self.remove(row);
            }
        }
        if self.used == self.rows.len() {
            self.rows.push(Row::default());
        }
        let row = &mut self.rows[self.used];
        row.columns = 0;
        row.coefficients = [0; HISTORY_SYMBOLS];
        row
    }

    /// The row that is being filled.
    pub(super) fn filling(&mut self) -> &mut Row {
        &mut self.rows[self.used]
    }

    /// `value += blocks * factor` for the row that is being filled.
    pub(super) fn add_to_filling(&mut self, blocks: &[Block], factor: GfElement) {
        self.rows[self.used].add_value(blocks, factor, &mut self.scratch);
    }

    /// Takes the row that was filled into the system. False: it says nothing new.
    pub(super) fn insert(&mut self) -> Result<bool, Contradiction> {
        let (rows, rest) = self.rows.split_at_mut(self.used);
        let row = &mut rest[0];
        for other in rows {
            let factor = row.coefficient(other.pivot);
            if factor != 0 {
                row.add(other, factor, &mut self.scratch);
            }
        }
        if row.columns == 0 {
            return if row.is_zero() { Ok(false) } else { Err(Contradiction) };
        }
        self.used += 1;
        self.pivot_oldest(self.used - 1);
        Ok(true)
    }

    /// Symbol `column` is known: its multiples go to the other side.
    pub(super) fn substitute(&mut self, column: u32, symbol: &[Block]) -> Result<(), Contradiction> {
        let mut contradiction = false;
        for at in (0..self.used).rev() {
            let row = &mut self.rows[at];
            let factor = row.coefficient(column);
            if factor == 0 {
                continue;
            }
            row.add_value(symbol, factor, &mut self.scratch);
            row.set(column, 0);
            if row.columns == 0 {
                contradiction |= !row.is_zero();
                self.remove(at);
            } else if row.pivot == column {
                self.pivot_oldest(at);
            }
        }
        if contradiction { Err(Contradiction) } else { Ok(()) }
    }

    /// Symbol `column` will not be known any more: one row is given up to free the others of it.
    pub(super) fn forget(&mut self, column: u32) {
        if let Some(at) = (0..self.used).find(|at| self.rows[*at].coefficient(column) != 0) {
            self.set_pivot(at, column);
            self.remove(at);
        }
    }

    /// A symbol that is solved: its column, and the row that it is the value of.
    pub(super) fn solved(&mut self) -> Option<(u32, &mut Row)> {
        let row = self.rows[..self.used].iter_mut().find(|row| row.columns.is_power_of_two())?;
        Some((row.pivot, row))
    }

    /// Removes the row of a solved symbol.
    pub(super) fn remove_solved(&mut self, column: u32) {
        if let Some(at) = (0..self.used).find(|at| self.rows[*at].pivot == column) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        self.used -= 1;
        self.rows.swap(at, self.used);
    }

    /// The oldest symbol makes the best pivot: it is the first that is forgotten, and takes only its row along.
    fn pivot_oldest(&mut self, at: usize) {
        let from_oldest = self.rows[at].columns.rotate_right(self.oldest).trailing_zeros();
        self.set_pivot(at, (self.oldest + from_oldest) % HISTORY_SYMBOLS as u32);
    }

    fn set_pivot(&mut self, at: usize, column: u32) {
        self.scale(at, column);
        for other in 0..self.used {
            let factor = self.rows[other].coefficient(column);
            if other == at || factor == 0 {
                continue;
            }
            if let Ok([row, pivot]) = self.rows.get_disjoint_mut([other, at]) {
                row.add(pivot, factor, &mut self.scratch);
            }
        }
    }

    /// Makes `column` the pivot of a row, with the coefficient 1.
    fn scale(&mut self, at: usize, column: u32) {
        let row = &mut self.rows[at];
        row.pivot = column;
        let factor = codec().inverse(row.coefficient(column));
        if factor == 1 {
            return;
        }
        let mut columns = row.columns;
        while columns != 0 {
            let column = columns.trailing_zeros();
            columns &= columns - 1;
            row.set(column, codec().product(row.coefficient(column), factor));
        }
        codec().multiply(&mut row.value, factor);
    }
}
