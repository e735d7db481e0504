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

/// Writers that are looked for one after the other; more are hashed.
const FEW: usize = 12;

/// The writers of one document. Most documents have few, and many documents are held.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    few: Vec<(Guuid, WriterProgress)>,
    /// All of them, when they are not few. The hasher is a fixed one, so that runs can be repeated.
    many: Option<Box<Many>>,
}

type Many = HashMap<Guuid, WriterProgress, BuildHasherDefault<DefaultHasher>>;

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
        let all = marks.iter().map(|mark| (mark.writer, progress(mark)));
        if marks.len() <= FEW {
            Self { few: all.collect(), many: None }
        } else {
            Self { few: Vec::new(), many: Some(Box::new(all.collect())) }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Guuid, &WriterProgress)> {
        let few = self.few.iter().map(|(writer, progress)| (*writer, progress));
        let many = self.many.iter().flat_map(|many| many.iter());
        few.chain(many.map(|(&writer, progress)| (writer, progress)))
    }

    pub(crate) fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    /// How far each is durable, in the order of their ids.
    pub(crate) fn durable_marks(&self) -> Vec<WriterMark> {
        let mark = |(writer, progress): (Guuid, &WriterProgress)| WriterMark {
            writer,
            counter: progress.durable_counter,
            sequence: progress.durable_sequence,
        };
        let mut marks: Vec<_> =
            self.iter().filter(|(_, progress)| progress.durable_counter > 0).map(mark).collect();
        marks.sort_unstable_by_key(|mark| mark.writer);
        marks
    }

    /// Gives back memory that was kept for more writers.
    pub(crate) fn shrink(&mut self) {
        self.few.shrink_to_fit();
        if let Some(many) = &mut self.many {
            many.shrink_to_fit();
        }
    }

    pub(crate) fn get(&self, writer: Guuid) -> Option<&WriterProgress> {
        match &self.many {
            Some(many) => many.get(&writer),
            None => self.few.iter().find(|(known, _)| *known == writer).map(|(_, progress)| progress),
        }
    }

    pub(crate) fn get_mut(&mut self, writer: Guuid) -> Option<&mut WriterProgress> {
        match &mut self.many {
            Some(many) => many.get_mut(&writer),
            None => self.few.iter_mut().find(|(known, _)| *known == writer).map(|(_, progress)| progress),
        }
    }

    /// The writer's entry, made when new. Answers also how many others were forgotten for it: an eighth of
    /// `writers_max`, those whose last op is oldest.
    pub(crate) fn entry(&mut self, writer: Guuid, writers_max: usize) -> (&mut WriterProgress, usize) {
        let is_full = self.len() >= writers_max.max(8) && self.get(writer).is_none();
        let forgotten = if is_full { self.forget_oldest() } else { 0 };
        if self.many.is_none() {
            let at = self.few.iter().position(|(known, _)| *known == writer);
            let at = at.or_else(|| {
                let is_few = self.few.len() < FEW;
                is_few.then(|| {
                    self.few.push((writer, WriterProgress::default()));
                    self.few.len() - 1
                })
            });
            if let Some(at) = at {
                return (&mut self.few[at].1, forgotten);
            }
        }
        let few = &mut self.few;
        let many = self.many.get_or_insert_with(|| Box::new(std::mem::take(few).into_iter().collect()));
        (many.entry(writer).or_default(), forgotten)
    }

    /// Those with ops on their way to the disk stay.
    fn forget_oldest(&mut self) -> usize {
        let before = self.len();
        let mut ages: Vec<u64> = self.iter().map(|(_, found)| found.logged_sequence).collect();
        let eighth = ages.len() / 8;
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(eighth);
        let is_kept = |found: &WriterProgress| {
            found.logged_sequence >= oldest_kept || found.logged_counter > found.durable_counter
        };
        self.few.retain(|(_, found)| is_kept(found));
        if let Some(many) = &mut self.many {
            many.retain(|_, found| is_kept(found));
        }
        before - self.len()
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
            assert!(writers.len() <= 16);
            assert!(writers.get(Guuid::from_bytes([number; 16])).is_some());
        }
        assert_eq!(forgotten_total + writers.len(), 200);
        assert!(writers.get(Guuid::from_bytes([199; 16])).is_some());
        assert!(writers.get(Guuid::from_bytes([1; 16])).is_none());
    }
}
