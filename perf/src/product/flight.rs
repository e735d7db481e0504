//! Which edits of a document are under way: not durable yet, or not with every reader. No clock, no client.

use std::collections::VecDeque;

use bytes::Bytes;

/// The edits of one document that are under way.
#[derive(Debug)]
pub struct Flight {
    authors: Vec<Line>,
}

/// An edit that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its number in the load.
    pub number: u64,
    /// The instant that its latencies count from.
    pub due_ns: u64,
    /// Its op counter.
    pub counter: u64,
    /// The update.
    pub payload: Bytes,
}

/// What an op is that a reader got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// The author's next one.
    Next {
        /// The instant that it was due.
        due_ns: u64,
        /// Whether all other readers have it by now.
        is_last: bool,
    },
    /// One that the reader had.
    Again,
    /// None that is under way, or one that comes before its time.
    Unknown,
}

/// The edits of one author, in order.
#[derive(Debug)]
struct Line {
    edits: VecDeque<Sent>,
    /// Of each of those, how many readers lack it.
    lacking: VecDeque<usize>,
    /// How many were taken off the front.
    gone: u64,
    /// How many are durable.
    durable: u64,
    /// How many each reader has.
    read: Vec<u64>,
}

impl Flight {
    /// Nothing is under way.
    pub fn new(authors: usize, readers: usize) -> Self {
        let line = || Line::new(readers);
        Self { authors: std::iter::repeat_with(line).take(authors).collect() }
    }

    /// An author has sent an edit.
    pub fn handle_sent(&mut self, author: usize, sent: Sent) {
        let line = &mut self.authors[author];
        line.edits.push_back(sent);
        line.lacking.push_back(line.read.len());
    }

    /// All edits of `author` up to a counter are durable: calls `each` with the number of those that were not.
    pub fn handle_durable(&mut self, author: usize, up_to_counter: u64, mut each: impl FnMut(u64)) {
        let line = &mut self.authors[author];
        while let Some(edit) = line.at(line.durable).filter(|edit| edit.counter <= up_to_counter) {
            each(edit.number);
            line.durable += 1;
        }
        line.drop_front();
    }

    /// A reader got an op of `author`.
    pub fn handle_read(&mut self, reader: usize, author: usize, payload: &[u8]) -> Read {
        let Some(line) = self.authors.get_mut(author) else { return Read::Unknown };
        let next = line.read[reader];
        if let Some(edit) = line.at(next).filter(|edit| edit.payload == payload) {
            let due_ns = edit.due_ns;
            return Read::Next { due_ns, is_last: line.advance(reader) };
        }
        let had = usize::try_from(next - line.gone).unwrap_or(usize::MAX);
        if line.edits.iter().take(had).any(|edit| edit.payload == payload) {
            Read::Again
        } else {
            Read::Unknown
        }
    }

    /// A reader got a state: calls `each` with the instant that each edit was due that is in it and that the reader
    /// did not have.
    pub fn handle_state(
        &mut self,
        reader: usize,
        contains: impl Fn(&Bytes) -> bool,
        mut each: impl FnMut(u64),
    ) {
        for line in &mut self.authors {
            while let Some(edit) = line.at(line.read[reader]).filter(|edit| contains(&edit.payload)) {
                each(edit.due_ns);
                line.advance(reader);
            }
        }
    }

    /// Whether nothing is under way.
    pub fn is_over(&self) -> bool {
        self.authors.iter().all(|line| line.edits.is_empty())
    }

    /// How many edits readers still lack, over all readers, of those for which `counts` says so of the instant that
    /// they were due.
    pub fn unread(&self, counts: impl Fn(u64) -> bool) -> u64 {
        let lacking = |line: &Line| -> u64 {
            let edits = line.edits.iter().zip(&line.lacking).filter(|(edit, _)| counts(edit.due_ns));
            edits.map(|(_, &lacking)| lacking as u64).sum()
        };
        self.authors.iter().map(lacking).sum()
    }
}

impl Line {
    fn new(readers: usize) -> Self {
        Self { edits: VecDeque::new(), lacking: VecDeque::new(), gone: 0, durable: 0, read: vec![0; readers] }
    }

    fn at(&self, number: u64) -> Option<&Sent> {
        self.edits.get(usize::try_from(number.checked_sub(self.gone)?).ok()?)
    }

    /// A reader has its next edit; true when it was the last to get it.
    fn advance(&mut self, reader: usize) -> bool {
        let at = (self.read[reader] - self.gone) as usize;
        self.read[reader] += 1;
        self.lacking[at] -= 1;
        let is_last = self.lacking[at] == 0;
        self.drop_front();
        is_last
    }

    /// Forgets what is durable and with everybody.
    fn drop_front(&mut self) {
        while self.gone < self.durable && self.lacking.front() == Some(&0) {
            self.edits.pop_front();
            self.lacking.pop_front();
            self.gone += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u64) -> Sent {
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        Sent { number, due_ns: number * 10, counter: number + 100, payload }
    }

    fn flight(readers: usize) -> Flight {
        let mut flight = Flight::new(2, readers);
        for number in 0..3 {
            flight.handle_sent(0, sent(number));
        }
        flight.handle_sent(1, sent(7));
        flight
    }

    fn durable(flight: &mut Flight, author: usize, counter: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        flight.handle_durable(author, counter, |number| numbers.push(number));
        numbers
    }

    #[test]
    fn an_acknowledgement_that_stands_for_many_counts_once_or_twice() {
        let mut flight = flight(0);
        assert_eq!(durable(&mut flight, 0, 101), [0, 1]);
        assert_eq!(durable(&mut flight, 0, 101), [0; 0]);
        assert_eq!(durable(&mut flight, 0, 102), [2]);
        assert!(!flight.is_over());
        assert_eq!(durable(&mut flight, 1, 200), [7]);
        assert!(flight.is_over());
    }

    #[test]
    fn an_edit_is_forgotten_before_the_last_reader_has_it() {
        let mut flight = flight(2);
        durable(&mut flight, 0, 102);
        let read = |flight: &mut Flight, reader, number| flight.handle_read(reader, 0, &sent(number).payload);
        let next = |due_ns, is_last| Read::Next { due_ns, is_last };
        assert_eq!(read(&mut flight, 0, 0), next(0, false));
        assert_eq!(flight.unread(|_| true), 2 + 3 + 2);
        assert_eq!(flight.unread(|due_ns| due_ns == 0), 1);
        assert_eq!(read(&mut flight, 0, 0), Read::Again);
        assert_eq!(read(&mut flight, 0, 2), Read::Unknown, "one was left out");
        for number in 0..3 {
            assert_eq!(read(&mut flight, 1, number), next(number * 10, number == 0));
        }
        assert_eq!(read(&mut flight, 0, 1), next(10, true));
        assert_eq!(flight.handle_read(0, 5, b""), Read::Unknown);
    }

    #[test]
    fn what_came_in_a_state_is_waited_for() {
        let mut flight = flight(1);
        let mut due = Vec::new();
        flight.handle_state(0, |payload| *payload != sent(2).payload, |due_ns| due.push(due_ns));
        assert_eq!(due, [0, 10, 70]);
        assert_eq!(flight.handle_read(0, 0, &sent(2).payload), Read::Next { due_ns: 20, is_last: true });
        durable(&mut flight, 0, 102);
        durable(&mut flight, 1, 107);
        assert!(flight.is_over());
    }
}
