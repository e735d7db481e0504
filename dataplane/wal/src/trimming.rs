//! Which segments are not needed any more, and from when on they may go.

use std::collections::VecDeque;

use crate::record::SegmentMark;

/// What a writer knows of the segments behind it.
#[derive(Debug, Default)]
pub(crate) struct Trimming {
    /// The segments that are kept and whose beginning is known, in order.
    segments: VecDeque<SegmentMark>,
    /// There are segments of which nothing is known: none goes, for none may be missing between others.
    keeps_all: bool,
    /// Somebody copies the log: nothing is let go meanwhile.
    is_held: bool,
    /// Records below this one are not needed.
    below: u64,
    /// What the last trim record keeps, and its number, while it is not durable.
    pending: Option<(SegmentMark, u64)>,
    /// The first segment that a durable trim record keeps.
    first_kept: u32,
    /// The next segment that has to be taken away, once it is below `first_kept`.
    removed_next: u32,
}

impl Trimming {
    /// Goes on with the segments that were found, of which those before `first_kept` are still to be taken away.
    pub(crate) fn recovered(segments: &[SegmentMark], first_kept: u32) -> Self {
        let removed_next = segments.first().map_or(first_kept, |first| first.segment);
        let kept = segments.iter().copied().filter(|mark| mark.segment >= first_kept);
        Self { segments: kept.collect(), first_kept, removed_next, ..Self::default() }
    }

    /// For a log of which only the end is known.
    pub(crate) fn keep_all() -> Self {
        Self { keeps_all: true, ..Self::default() }
    }

    pub(crate) const fn first_kept(&self) -> u32 {
        self.first_kept
    }

    /// The writer begins a segment.
    pub(crate) fn handle_segment_start(&mut self, mark: SegmentMark) {
        if !self.keeps_all {
            self.segments.push_back(mark);
        }
    }

    pub(crate) fn handle_trim_below(&mut self, lsn: u64) {
        self.below = self.below.max(lsn);
    }

    pub(crate) const fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The first segment that is needed, when there are others before it and no trim record is on its way.
    pub(crate) fn due(&self, durable_lsn: u64) -> Option<SegmentMark> {
        if self.pending.is_some() || self.is_held {
            return None;
        }
        let below = self.below.min(durable_lsn + 1);
        let kept = self.segments.iter().take_while(|mark| mark.first_lsn <= below).last()?;
        self.segments.front().filter(|first| first.segment < kept.segment).map(|_| *kept)
    }

    /// A trim record was appended.
    pub(crate) fn begin(&mut self, kept: SegmentMark, lsn: u64) {
        self.pending = Some((kept, lsn));
    }

    pub(crate) fn handle_durable(&mut self, lsn: u64) {
        let Some((kept, _)) = self.pending.take_if(|(_, trim)| *trim <= lsn) else { return };
        self.first_kept = kept.segment;
        self.segments.retain(|mark| mark.segment >= kept.segment);
    }

    pub(crate) fn poll_removed(&mut self) -> Option<u32> {
        let segment = self.removed_next;
        (segment < self.first_kept).then(|| {
            self.removed_next += 1;
            segment
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_copied_is_trimmed() {
        let mut trimming = Trimming::default();
        for segment in 0..3 {
            let first_lsn = u64::from(segment) * 10 + 1;
            trimming.handle_segment_start(SegmentMark { segment, previous: 0, first_lsn });
        }
        trimming.hold(true);
        trimming.handle_trim_below(15);
        assert!(trimming.due(30).is_none());
        trimming.hold(false);
        assert_eq!(trimming.due(30).map(|kept| kept.segment), Some(1));
    }
}
