//! Who wrote to a document, and up to which op: by this a repeated op is known.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use wire::Guuid;

use crate::jobs::WriterMark;

/// A writer's ops in one document.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WriterProgress {
    /// The highest counter that is in the log.
    pub(crate) logged_counter: u64,
    /// The highest that is durable.
    pub(crate) durable_counter: u64,
    /// The document's sequence of that op.
    pub(crate) durable_sequence: u64,
    /// The document's sequence of the last op in the log.
    pub(crate) logged_sequence: u64,
    /// Where to acknowledge: the writer's newest subscription.
    pub(crate) subscription: Option<usize>,
}

/// The writers of one document. The hasher is a fixed one, so that runs can be repeated.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    writers: HashMap<Guuid, WriterProgress, BuildHasherDefault<DefaultHasher>>,
}

impl Writers {
    /// As they are stored.
    pub(crate) fn from_marks(marks: &[WriterMark]) -> Self {
        let progress = |mark: &WriterMark| WriterProgress {
            logged_counter: mark.counter,
            durable_counter: mark.counter,
            durable_sequence: mark.sequence,
            logged_sequence: mark.sequence,
            subscription: None,
        };
        Self { writers: marks.iter().map(|mark| (mark.writer, progress(mark))).collect() }
    }

    /// How far each is durable, in the order of their ids.
    pub(crate) fn durable_marks(&self) -> Vec<WriterMark> {
        let mark = |(&writer, progress): (&Guuid, &WriterProgress)| WriterMark {
            writer,
            counter: progress.durable_counter,
            sequence: progress.durable_sequence,
        };
        let durable = self.writers.iter().filter(|(_, progress)| progress.durable_counter > 0);
        let mut marks: Vec<_> = durable.map(mark).collect();
        marks.sort_unstable_by_key(|mark| mark.writer);
        marks
    }

    /// Gives back memory that was kept for more writers.
    pub(crate) fn shrink(&mut self) {
        self.writers.shrink_to_fit();
    }

    pub(crate) fn get(&self, writer: Guuid) -> Option<&WriterProgress> {
        self.writers.get(&writer)
    }

    pub(crate) fn get_mut(&mut self, writer: Guuid) -> Option<&mut WriterProgress> {
        self.writers.get_mut(&writer)
    }

    /// The writer's entry, made when new. Answers also how many others were forgotten for it: an eighth of
    /// `writers_max`, those whose last op is oldest.
    pub(crate) fn entry(&mut self, writer: Guuid, writers_max: usize) -> (&mut WriterProgress, usize) {
        let mut forgotten = 0;
        if self.writers.len() >= writers_max.max(8) && !self.writers.contains_key(&writer) {
            let before = self.writers.len();
            let mut ages: Vec<u64> = self.writers.values().map(|found| found.logged_sequence).collect();
            let eighth = ages.len() / 8;
            let (_, &mut oldest_kept, _) = ages.select_nth_unstable(eighth);
            self.writers.retain(|_, found| {
                found.logged_sequence >= oldest_kept || found.logged_counter > found.durable_counter
            });
            forgotten = before - self.writers.len();
        }
        (self.writers.entry(writer).or_default(), forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_writer_is_forgotten_or_the_table_grows() {
        let mut writers = Writers::default();
        let mut forgotten_total = 0;
        for number in 1..=200_u8 {
            let (progress, forgotten) = writers.entry(Guuid::from_bytes([number; 16]), 16);
            *progress = WriterProgress {
                logged_counter: 1,
                durable_counter: 1,
                logged_sequence: u64::from(number),
                ..WriterProgress::default()
            };
            forgotten_total += forgotten;
            assert!(writers.writers.len() <= 16);
            assert!(writers.get(Guuid::from_bytes([number; 16])).is_some());
        }
        assert_eq!(forgotten_total + writers.writers.len(), 200);
        assert!(writers.get(Guuid::from_bytes([199; 16])).is_some());
        assert!(writers.get(Guuid::from_bytes([1; 16])).is_none());
    }
}
