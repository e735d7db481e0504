//! The events of one document that the application has not taken yet, and the credit held back for them.

use std::collections::VecDeque;

use wire::sync::Channel;

use crate::document::DocumentEvent;

/// What an event costs beside its payload.
const EVENT_OVERHEAD_BYTES: usize = 64;

/// Bounded by credit: nothing is refused, but beyond the limit the bytes of further messages are not given
/// back to the node until the application has caught up with half of what waits.
#[derive(Debug)]
pub(crate) struct EventQueue {
    events: VecDeque<DocumentEvent>,
    bytes: usize,
    bytes_max: usize,
    held: Credit,
    reader_gone: bool,
    ended: bool,
}

/// Bytes per channel.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Credit([usize; Channel::ALL.len()]);

impl Credit {
    pub(crate) fn add(&mut self, channel: Channel, bytes: usize) {
        self.0[channel as usize] += bytes;
    }

    pub(crate) fn add_all(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(bytes, more)| *bytes += more);
    }

    pub(crate) const fn of(&self, channel: Channel) -> usize {
        self.0[channel as usize]
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl EventQueue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            bytes_max,
            held: Credit::default(),
            reader_gone: false,
            ended: false,
        }
    }

    /// Adds an event. One acknowledgement behind another takes its place.
    pub(crate) fn push(&mut self, event: DocumentEvent) {
        if self.reader_gone || self.ended {
            return;
        }
        if let (DocumentEvent::Durable { .. }, Some(last @ DocumentEvent::Durable { .. })) =
            (&event, self.events.back_mut())
        {
            *last = event;
            return;
        }
        self.bytes += cost(&event);
        self.events.push_back(event);
    }

    /// Whether a message that was just taken in must be paid for later.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Keeps credit back until the application has caught up.
    pub(crate) fn hold(&mut self, channel: Channel, bytes: usize) {
        self.held.add(channel, bytes);
    }

    /// All held credit: its connection goes on without the document.
    pub(crate) fn take_held(&mut self) -> Credit {
        std::mem::take(&mut self.held)
    }

    /// Forgets held credit: its connection is gone.
    pub(crate) fn forget_held(&mut self) {
        self.held = Credit::default();
    }

    /// Held credit that can be given back now.
    pub(crate) fn release(&mut self) -> Credit {
        if self.has_release() { std::mem::take(&mut self.held) } else { Credit::default() }
    }

    /// Whether [`Self::release`] would give something.
    pub(crate) fn has_release(&self) -> bool {
        !self.held.is_empty() && self.bytes <= self.bytes_max / 2
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<DocumentEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= cost(&event);
        Some(event)
    }

    /// Takes all events.
    pub(crate) fn drain_into(&mut self, out: &mut Vec<DocumentEvent>) {
        out.extend(self.events.drain(..));
        self.bytes = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// No event will come any more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Nobody will read any more.
    pub(crate) fn abandon(&mut self) {
        self.reader_gone = true;
        self.events.clear();
        self.bytes = 0;
    }
}

fn cost(event: &DocumentEvent) -> usize {
    let payload = match event {
        DocumentEvent::State(bytes) => bytes.len(),
        DocumentEvent::Op { payload, .. } => payload.len(),
        DocumentEvent::Joined { server_state_vector, .. } => server_state_vector.len(),
        DocumentEvent::Presence(entries) => {
            entries.iter().map(|entry| entry.state.len() + EVENT_OVERHEAD_BYTES).sum()
        }
        DocumentEvent::Rejected { text, .. } | DocumentEvent::Closed { text, .. } => text.len(),
        DocumentEvent::CaughtUp
        | DocumentEvent::Durable { .. }
        | DocumentEvent::Disconnected
        | DocumentEvent::Reconnected => 0,
    };
    EVENT_OVERHEAD_BYTES + payload
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(channel: Channel, bytes: usize) -> Credit {
        let mut credit = Credit::default();
        credit.add(channel, bytes);
        credit
    }

    fn op(sequence: u64, bytes: usize) -> DocumentEvent {
        DocumentEvent::Op { sequence, payload: vec![0; bytes].into() }
    }

    #[test]
    fn credit_is_given_back_while_the_application_does_not_read() {
        let mut queue = EventQueue::new(1_000);
        for sequence in 1..=3 {
            queue.push(op(sequence, 500));
            if queue.is_full() {
                queue.hold(Channel::Sync, 510);
            }
        }
        assert!(queue.release().is_empty());
        queue.pop();
        assert!(queue.release().is_empty(), "two of three still wait");
        queue.pop();
        queue.pop();
        assert_eq!(queue.release(), only(Channel::Sync, 1_020));
        assert!(queue.release().is_empty(), "given back twice");
    }

    #[test]
    fn acknowledgements_pile_up() {
        let mut queue = EventQueue::new(1_000);
        for up_to_counter in 1..=10_000 {
            queue.push(DocumentEvent::Durable { up_to_counter, sequence: up_to_counter });
        }
        assert!(!queue.is_full());
        assert_eq!(queue.pop(), Some(DocumentEvent::Durable { up_to_counter: 10_000, sequence: 10_000 }));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn events_for_nobody_take_memory() {
        let mut queue = EventQueue::new(1_000);
        queue.push(op(1, 5_000));
        queue.abandon();
        queue.push(op(2, 5_000));
        assert!(queue.is_empty() && !queue.is_full());
    }
}
