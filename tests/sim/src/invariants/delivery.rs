//! What was sent is what arrives, as its channel promises it.

use std::collections::{BTreeMap, VecDeque};

use wire::channel::{Channel, ChannelKind};

use super::{Check, Invariant};
use crate::content::{Place, index_of};

/// A message that a connection took.
#[derive(Clone, Copy, Debug)]
struct Record {
    bytes: u32,
    /// On a latest-wins channel.
    key: u64,
    /// It need not arrive: it had a deadline.
    may_expire: bool,
    /// It must not arrive: nothing of it had been sent when it was taken back.
    is_cancelled: bool,
    is_heard: bool,
}

/// A message that the connection could not take yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) bytes: u32,
    pub(crate) key: u64,
}

/// One direction of one channel of a connection: what was said, and what has been heard.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    sent: Vec<Record>,
    /// Where an ordered receiver is.
    next: u32,
    /// Messages on a reliable channel that must arrive and have not.
    owed: usize,
    /// By key: the last index that was sent, and the last that was heard.
    latest_sent: BTreeMap<u64, u32>,
    latest_heard: BTreeMap<u64, u32>,
    sent_bytes: u64,
    /// What the connection could not take yet, in order.
    pub(crate) waiting: VecDeque<Waiting>,
    /// Delivered and not yet taken by the application, bytes.
    pub(crate) uneaten: usize,
}

impl Stream {
    /// The index of the next message.
    pub(crate) const fn next_index(&self) -> u32 {
        self.sent.len() as u32
    }

    /// The connection has taken a message.
    pub(crate) fn on_sent(&mut self, channel: Channel, message: Waiting, may_expire: bool) {
        let Waiting { bytes, key } = message;
        self.latest_sent.insert(key, self.next_index());
        self.sent.push(Record { bytes, key, may_expire, is_cancelled: false, is_heard: false });
        self.sent_bytes += u64::from(bytes);
        self.owed += usize::from(channel.is_reliable() && !may_expire);
    }

    /// The connection has taken a message back, and nothing of it has been sent.
    pub(crate) fn on_cancelled(&mut self, channel: Channel, index: u32) {
        let record = &mut self.sent[index as usize];
        record.is_cancelled = true;
        self.owed -= usize::from(channel.is_reliable() && !record.may_expire);
    }

    /// Messages on a reliable channel that must arrive and have not.
    pub(crate) const fn owed(&self) -> usize {
        self.owed
    }

    pub(crate) const fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// The receiver has forgotten everything.
    pub(crate) fn restart_receiver(&mut self, channel: Channel) {
        self.next = 0;
        self.owed = 0;
        for record in &mut self.sent {
            record.is_heard = false;
            self.owed += usize::from(channel.is_reliable() && !record.may_expire && !record.is_cancelled);
        }
        self.latest_heard.clear();
        self.uneaten = 0;
    }

    /// Messages that must arrive and have not, and such as wait to be taken by the connection.
    pub(crate) fn missing(&self, channel: Channel) -> usize {
        let stale = match channel.kind() {
            ChannelKind::LatestWins => {
                self.latest_sent.iter().filter(|(key, index)| self.is_stale(**key, **index)).count()
            }
            ChannelKind::ReliableOrdered | ChannelKind::ReliableUnordered | ChannelKind::Unreliable => 0,
        };
        self.owed + stale + self.waiting.len()
    }

    /// Whether the last value of a key must arrive and has not.
    fn is_stale(&self, key: u64, index: u32) -> bool {
        let record = &self.sent[index as usize];
        !record.may_expire && !record.is_cancelled && self.latest_heard.get(&key) != Some(&index)
    }

    /// Takes what was delivered; `place` names the stream, whatever its index. `key` is what a latest-wins channel said.
    pub(crate) fn on_message(&mut self, place: Place, key: u64, message: &[u8]) -> Check {
        match place.channel.kind() {
            ChannelKind::ReliableOrdered => self.on_ordered(place, message),
            ChannelKind::ReliableUnordered => {
                self.on_loose(Invariant::ReliableDelivery, place, message).map(drop)
            }
            ChannelKind::Unreliable => self.on_loose(Invariant::UnreliableDelivery, place, message).map(drop),
            ChannelKind::LatestWins => self.on_latest(place, key, message),
        }
    }

    fn on_ordered(&mut self, place: Place, message: &[u8]) -> Check {
        while self.sent.get(self.next as usize).is_some_and(|record| record.is_cancelled) {
            self.next += 1;
        }
        let place = Place { index: self.next, ..place };
        let Some(&Record { bytes, .. }) = self.sent.get(self.next as usize) else {
            return Err(fail(Invariant::ReliableDelivery, place, message, "a message that was never sent"));
        };
        if bytes as usize != message.len() || !place.is_message(message) {
            let expected = format!("another than the next, number {} of {bytes} B", self.next);
            return Err(fail(Invariant::ReliableDelivery, place, message, &expected));
        }
        self.note(place.channel, self.next);
        self.next += 1;
        Ok(())
    }

    fn on_loose(
        &mut self,
        invariant: Invariant,
        place: Place,
        message: &[u8],
    ) -> Result<u32, (Invariant, String)> {
        let known = index_of(message).and_then(|index| Some((index, *self.sent.get(index as usize)?)));
        let Some((index, record)) = known else {
            return Err(fail(invariant, place, message, "a message that was never sent"));
        };
        let is_it = record.bytes as usize == message.len() && (Place { index, ..place }).is_message(message);
        let wrong = if !is_it {
            "a message that was changed"
        } else if record.is_heard {
            "a message for the second time"
        } else if record.is_cancelled {
            "a message that was taken back before it was sent"
        } else {
            self.note(place.channel, index);
            return Ok(index);
        };
        Err(fail(invariant, place, message, wrong))
    }

    fn on_latest(&mut self, place: Place, key: u64, message: &[u8]) -> Check {
        let index = self.on_loose(Invariant::LatestWins, place, message)?;
        if self.sent[index as usize].key != key {
            return Err(fail(Invariant::LatestWins, place, message, "a value under another key"));
        }
        if self.latest_heard.get(&key).is_some_and(|&heard| heard > index) {
            return Err(fail(Invariant::LatestWins, place, message, "an older value after a newer one"));
        }
        self.latest_heard.insert(key, index);
        Ok(())
    }

    fn note(&mut self, channel: Channel, index: u32) {
        let record = &mut self.sent[index as usize];
        record.is_heard = true;
        self.owed -= usize::from(channel.is_reliable() && !record.may_expire);
    }
}

fn fail(invariant: Invariant, place: Place, message: &[u8], what: &str) -> (Invariant, String) {
    let Place { attempt, direction, channel, .. } = place;
    let carried = index_of(message).map_or_else(|| "none".to_owned(), |index| index.to_string());
    let seen = format!(
        "connection {attempt}, {direction:?}, {channel:?}: {what}; it has {} B and carries the number {carried}",
        message.len()
    );
    (invariant, seen)
}

#[cfg(test)]
mod tests {
    use netem::Direction;

    use super::*;

    fn place(channel: Channel, index: u32) -> Place {
        Place { seed: 1, attempt: 0, direction: Direction::Up, channel, index }
    }

    fn stream(channel: Channel, lengths: &[u32]) -> Stream {
        let mut stream = Stream::default();
        lengths.iter().for_each(|&bytes| stream.on_sent(channel, Waiting { bytes, key: 7 }, false));
        stream
    }

    #[test]
    fn a_swapped_a_second_or_an_invented_message_passes() {
        let of = |index, bytes| place(Channel::Sync, index).message(bytes);
        let any = place(Channel::Sync, 0);
        let mut ordered = stream(Channel::Sync, &[5, 9, 0, 4]);
        assert!(ordered.on_message(any, 0, &of(1, 9)).is_err(), "swapped");
        ordered.on_message(any, 0, &of(0, 5)).unwrap();
        assert!(ordered.on_message(any, 0, &of(0, 5)).is_err(), "twice");
        assert!(ordered.on_message(any, 0, &of(1, 8)).is_err(), "cut");
        ordered.on_cancelled(Channel::Sync, 1);
        ordered.on_message(any, 0, &[]).unwrap();
        assert_eq!(ordered.missing(Channel::Sync), 1);
        ordered.on_message(any, 0, &of(3, 4)).unwrap();
        assert_eq!(ordered.missing(Channel::Sync), 0);
        assert!(ordered.on_message(any, 0, &of(4, 9)).is_err(), "invented");
    }

    #[test]
    fn an_unordered_message_passes_twice() {
        for channel in [Channel::Probe, Channel::Bulk] {
            let of = |index, bytes| place(channel, index).message(bytes);
            let any = place(channel, 0);
            let mut loose = stream(channel, &[8, 9, 10]);
            loose.on_message(any, 0, &of(1, 9)).unwrap();
            assert!(loose.on_message(any, 0, &of(1, 9)).is_err(), "twice");
            assert!(loose.on_message(any, 0, &of(0, 9)).is_err(), "changed");
            loose.on_message(any, 0, &of(0, 8)).unwrap();
            assert_eq!(loose.missing(channel), usize::from(channel.is_reliable()));
            loose.on_cancelled(channel, 2);
            assert!(loose.on_message(any, 0, &of(2, 10)).is_err(), "taken back");
        }
    }

    #[test]
    fn an_older_value_passes_for_the_latest() {
        let of = |index, bytes| place(Channel::Latest, index).message(bytes);
        let any = place(Channel::Latest, 0);
        let mut latest = stream(Channel::Latest, &[8, 9, 10]);
        latest.on_message(any, 7, &of(1, 9)).unwrap();
        assert!(latest.on_message(any, 7, &of(0, 8)).is_err(), "older");
        assert_eq!(latest.missing(Channel::Latest), 1);
        assert!(latest.on_message(any, 6, &of(2, 10)).is_err(), "another key");
        let mut latest = stream(Channel::Latest, &[8]);
        latest.on_message(any, 7, &of(0, 8)).unwrap();
        assert_eq!(latest.missing(Channel::Latest), 0);
    }
}
