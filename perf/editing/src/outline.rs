//! The order of one author's characters, deleted ones included: what a Yjs update of a sequential trace is
//! made from.
//!
//! The CRDT library finds a position by walking the text from its start, which over a long trace takes
//! minutes where this takes a second. The updates are the same to the byte.

use yrs::encoding::write::Write;
use yrs::updates::encoder::{Encoder, EncoderV1};

/// A chunk is cut in two beyond so many runs.
const CHUNK_RUNS_MAX: usize = 256;

/// The characters of a text by one author, in order. Lengths and positions count UTF-16 units.
#[derive(Debug)]
pub struct Outline {
    chunks: Vec<Chunk>,
    /// The Yjs clock of the next character.
    clock: u32,
    visible: u32,
}

/// Neighbouring runs.
#[derive(Debug, Default)]
struct Chunk {
    runs: Vec<Run>,
    /// How much of them is not deleted.
    visible: u32,
}

/// Neighbouring characters that were typed one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    clock: u32,
    length: u32,
    deleted: bool,
}

/// Where an insert goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insert {
    /// The clock of its first character.
    pub clock: u32,
    /// The clock of the character to the left.
    pub left: Option<u32>,
    /// The clock of the character to the right.
    pub right: Option<u32>,
}

impl Run {
    fn end(self) -> u32 {
        self.clock + self.length
    }

    fn visible(self) -> u32 {
        if self.deleted { 0 } else { self.length }
    }

    fn part(self, from: u32, to: u32) -> Self {
        Self { clock: self.clock + from, length: to - from, ..self }
    }
}

impl Default for Outline {
    fn default() -> Self {
        Self { chunks: vec![Chunk::default()], clock: 0, visible: 0 }
    }
}

impl Outline {
    /// An empty text.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The length of the text.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.visible
    }

    /// Inserts `length` characters at `position`, which must lie within the text.
    pub fn insert(&mut self, position: u32, length: u32) -> Insert {
        assert!(position <= self.visible && length > 0);
        let (chunk, run, offset) = self.gap(position);
        let runs = &mut self.chunks[chunk].runs;
        let new = Run { clock: self.clock, length, deleted: false };
        let (left, right) = match runs.get(run).copied() {
            Some(inside) if offset > 0 => {
                let pieces = [inside.part(0, offset), new, inside.part(offset, inside.length)];
                runs.splice(run..=run, pieces);
                (Some(inside.clock + offset - 1), Some(inside.clock + offset))
            }
            _ => {
                let right = runs.get(run).map(|run| run.clock);
                let left = self.before(chunk, run);
                self.place(chunk, run, new);
                (left, right)
            }
        };
        self.clock += length;
        self.visible += length;
        self.chunks[chunk].visible += length;
        self.cut(chunk);
        Insert { clock: new.clock, left, right }
    }

    /// Deletes `length` characters from `position`, which must lie within the text. Pushes what went as
    /// ranges of clocks.
    pub fn delete(&mut self, position: u32, mut length: u32, ranges: &mut Vec<(u32, u32)>) {
        assert!(position + length <= self.visible);
        self.visible -= length;
        while length > 0 {
            let (at, run, offset) = self.character(position);
            let chunk = &mut self.chunks[at];
            let whole = chunk.runs[run];
            let gone = length.min(whole.length - offset);
            ranges.push((whole.clock + offset, gone));
            let pieces = [
                whole.part(0, offset),
                Run { deleted: true, ..whole.part(offset, offset + gone) },
                whole.part(offset + gone, whole.length),
            ];
            chunk.runs.splice(run..=run, pieces.into_iter().filter(|piece| piece.length > 0));
            chunk.join_around(run);
            chunk.visible -= gone;
            length -= gone;
            self.cut(at);
        }
    }

    /// The chunk, run and offset of the visible character at `position`.
    fn character(&self, position: u32) -> (usize, usize, u32) {
        let mut rest = position;
        for (at, chunk) in self.chunks.iter().enumerate() {
            if rest >= chunk.visible {
                rest -= chunk.visible;
                continue;
            }
            for (run, candidate) in chunk.runs.iter().enumerate() {
                if rest < candidate.visible() {
                    return (at, run, rest);
                }
                rest -= candidate.visible();
            }
        }
        unreachable!("the position was checked against the length, which is the sum over the chunks")
    }

    /// Where an insert at `position` goes: before the visible character there, after all that is deleted
    /// between it and the one before. With an offset of zero, before the run; the run may be one past the
    /// last of the last chunk.
    fn gap(&self, position: u32) -> (usize, usize, u32) {
        if position < self.visible {
            return self.character(position);
        }
        let last = self.chunks.len() - 1;
        (last, self.chunks[last].runs.len(), 0)
    }

    /// The clock of the character before a run.
    fn before(&self, chunk: usize, run: usize) -> Option<u32> {
        let in_chunk = run.checked_sub(1).map(|before| self.chunks[chunk].runs[before]);
        let before =
            in_chunk.or_else(|| self.chunks[..chunk].iter().rev().find_map(|c| c.runs.last().copied()));
        before.map(|run| run.end() - 1)
    }

    /// Puts `new` before a run, as part of the run to the left if it goes on with it.
    fn place(&mut self, chunk: usize, run: usize, new: Run) {
        let runs = &mut self.chunks[chunk].runs;
        match run.checked_sub(1).map(|before| &mut runs[before]) {
            Some(before) if !before.deleted && before.end() == new.clock => before.length += new.length,
            _ => runs.insert(run, new),
        }
    }

    fn cut(&mut self, at: usize) {
        let chunk = &mut self.chunks[at];
        if chunk.runs.len() > CHUNK_RUNS_MAX {
            let runs = chunk.runs.split_off(CHUNK_RUNS_MAX / 2);
            let visible = runs.iter().map(|run| run.visible()).sum();
            chunk.visible -= visible;
            self.chunks.insert(at + 1, Chunk { runs, visible });
        }
    }
}

impl Chunk {
    /// Joins the runs about `run`, of which up to three are new, where they continue each other.
    fn join_around(&mut self, run: usize) {
        let first = run.saturating_sub(1);
        for left in (first..(run + 3).min(self.runs.len() - 1)).rev() {
            let (a, b) = (self.runs[left], self.runs[left + 1]);
            if a.deleted == b.deleted && a.end() == b.clock {
                self.runs[left].length += b.length;
                self.runs.remove(left + 1);
            }
        }
    }
}

/// Gathers the edits of one transaction and encodes them as a Yjs update (v1).
#[derive(Debug)]
pub struct UpdateBuilder<'a> {
    root: &'a str,
    client: u64,
    inserts: Vec<(Insert, &'a str)>,
    deleted: Vec<(u32, u32)>,
}

/// The content type "string" of a Yjs item.
const CONTENT_STRING: u8 = 4;
/// The item says what it was put to the right of.
pub(crate) const HAS_LEFT: u8 = 0x80;
/// The item says what it was put to the left of.
const HAS_RIGHT: u8 = 0x40;

impl<'a> UpdateBuilder<'a> {
    /// An update by `client` of the text at `root`.
    #[must_use]
    pub fn new(root: &'a str, client: u64) -> Self {
        Self { root, client, inserts: Vec::new(), deleted: Vec::new() }
    }

    /// Adds an insert.
    pub fn insert(&mut self, insert: Insert, text: &'a str) {
        self.inserts.push((insert, text));
    }

    /// Where deleted ranges go.
    pub fn deleted(&mut self) -> &mut Vec<(u32, u32)> {
        &mut self.deleted
    }

    /// The update.
    #[must_use]
    pub fn encode(mut self) -> Vec<u8> {
        let mut encoder = EncoderV1::new();
        self.encode_inserts(&mut encoder);
        self.encode_deleted(&mut encoder);
        encoder.to_vec()
    }

    fn encode_inserts(&self, encoder: &mut EncoderV1) {
        let Some((first, _)) = self.inserts.first() else {
            encoder.write_var(0_u32);
            return;
        };
        encoder.write_var(1_u32);
        encoder.write_var(self.inserts.len() as u32);
        encoder.write_var(self.client);
        encoder.write_var(first.clock);
        for (insert, text) in &self.inserts {
            let left = if insert.left.is_some() { HAS_LEFT } else { 0 };
            let right = if insert.right.is_some() { HAS_RIGHT } else { 0 };
            encoder.write_u8(CONTENT_STRING | left | right);
            for clock in insert.left.iter().chain(&insert.right) {
                encoder.write_var(self.client);
                encoder.write_var(*clock);
            }
            if insert.left.is_none() && insert.right.is_none() {
                // The parent is a root type, by name.
                encoder.write_var(1_u32);
                encoder.write_string(self.root);
            }
            encoder.write_string(text);
        }
    }

    fn encode_deleted(&mut self, encoder: &mut EncoderV1) {
        self.deleted.sort_unstable();
        self.deleted.dedup_by(|next, range| {
            let continues = range.0 + range.1 == next.0;
            if continues {
                range.1 += next.1;
            }
            continues
        });
        if self.deleted.is_empty() {
            encoder.write_var(0_u32);
            return;
        }
        encoder.write_var(1_u32);
        encoder.write_var(self.client);
        encoder.write_var(self.deleted.len() as u32);
        for (clock, length) in &self.deleted {
            encoder.write_var(*clock);
            encoder.write_var(*length);
        }
    }
}
