//! The sending side of a latest-wins channel (`PROTOCOL.md`, section "Latest wins").

use std::collections::VecDeque;

use bytes::Bytes;
use wire::Time;
use wire::channel::Channel;
use wire::frame::{self, Latest};

use super::queue::Queued;
use super::{LATEST_KEYS_MAX, Packet, Tally, charge};
use crate::sent_packets::SentFrame;

/// For each key the last message that was sent and is not acknowledged, and the one that will take its place.
#[derive(Debug)]
pub(super) struct LatestSend {
    channel: Channel,
    /// By key.
    slots: Vec<Slot>,
    /// The keys that have something to send, in the order of their turns; each once.
    turns: VecDeque<u64>,
    /// The sequence of the next message that is sent for the first time.
    next: u64,
    /// No message that still matters has a lower sequence.
    oldest: u64,
}

#[derive(Debug)]
struct Slot {
    key: u64,
    queued: Option<Queued>,
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    payload: Bytes,
    sequence: u64,
    is_lost: bool,
}

impl Slot {
    fn is_pending(&self) -> bool {
        self.queued.is_some() || self.is_lost()
    }

    fn is_lost(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.is_lost)
    }
}

impl LatestSend {
    pub(super) const fn new(channel: Channel) -> Self {
        Self { channel, slots: Vec::new(), turns: VecDeque::new(), next: 0, oldest: 0 }
    }

    fn find(&self, key: u64) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&key, |slot| slot.key)
    }

    /// Whether there is no room for another key.
    pub(super) fn is_full(&self, key: u64) -> bool {
        self.slots.len() >= LATEST_KEYS_MAX && self.find(key).is_err()
    }

    /// Queues a message in the place of the one of its key that waits.
    pub(super) fn push(&mut self, key: u64, message: Queued, tally: &mut Tally) {
        let index = self.find(key).unwrap_or_else(|index| {
            self.slots.insert(index, Slot { key, queued: None, sent: None });
            index
        });
        let slot = &mut self.slots[index];
        let was_pending = slot.is_pending();
        if let Some(overtaken) = slot.queued.replace(message) {
            tally.freed_bytes += overtaken.charge();
            tally.replaced += 1;
        }
        if !was_pending {
            self.turns.push_back(key);
        }
    }

    /// Takes a message back that has not been sent.
    pub(super) fn cancel(&mut self, id: u64, tally: &mut Tally) -> bool {
        let is_it = |slot: &Slot| slot.queued.as_ref().is_some_and(|queued| queued.id == id);
        let Some(index) = self.slots.iter().position(is_it) else { return false };
        if let Some(queued) = self.slots[index].queued.take() {
            tally.cancel(&queued);
        }
        self.settle(index);
        true
    }

    /// Drops what has expired; returns the earliest deadline of what stays.
    pub(super) fn expire(&mut self, now: Time, tally: &mut Tally) -> Time {
        let mut next = Time::NEVER;
        for index in (0..self.slots.len()).rev() {
            let slot = &mut self.slots[index];
            if let Some(expired) = slot.queued.take_if(|queued| queued.is_expired(now)) {
                tally.expire(&expired);
                self.settle(index);
            } else if let Some(queued) = &slot.queued {
                next = next.min(queued.deadline);
            }
        }
        next
    }

    /// After something of a slot has gone: its turn goes when nothing is to be sent, the slot when it is empty.
    fn settle(&mut self, index: usize) {
        let slot = &self.slots[index];
        if slot.is_pending() {
            return;
        }
        self.turns.retain(|key| *key != slot.key);
        if slot.sent.is_none() {
            self.slots.remove(index);
        }
    }

    pub(super) fn has_lost(&self) -> bool {
        self.front().is_some_and(|index| self.slots[index].is_lost())
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.turns.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        self.front().is_some_and(|index| self.slots[index].is_lost() || self.is_newer_allowed(index))
    }

    /// The slot whose turn it is.
    fn front(&self) -> Option<usize> {
        self.turns.front().and_then(|key| self.find(*key).ok())
    }

    /// A receiver knows what is new only among the last [`LATEST_KEYS_MAX`] sequences: nothing that another key waits for
    /// may fall behind them.
    fn is_newer_allowed(&self, index: usize) -> bool {
        self.next - self.oldest < LATEST_KEYS_MAX as u64
            || self.next - self.oldest_besides(Some(index)) < LATEST_KEYS_MAX as u64
    }

    fn oldest_besides(&self, index: Option<usize>) -> u64 {
        let others = self.slots.iter().enumerate().filter(|(at, _)| Some(*at) != index);
        others.filter_map(|(_, slot)| Some(slot.sent.as_ref()?.sequence)).min().unwrap_or(self.next)
    }

    /// Writes what fits, in turn; returns whether anything was written.
    pub(super) fn write(&mut self, packet: &mut Packet<'_, '_>) -> bool {
        let mut any = false;
        while let Some(index) = self.front() {
            if let Some(expired) = self.slots[index].queued.take_if(|queued| queued.is_expired(packet.now)) {
                packet.tally.expire(&expired);
                self.settle(index);
                continue;
            }
            let is_written = if self.slots[index].queued.is_some() && self.is_newer_allowed(index) {
                self.write_newer(index, packet)
            } else {
                self.write_lost(index, packet)
            };
            if !is_written {
                break;
            }
            any = true;
            let turn = self.turns.pop_front();
            self.turns.extend(turn.filter(|_| self.slots[index].is_pending()));
        }
        any
    }

    fn write_newer(&mut self, index: usize, packet: &mut Packet<'_, '_>) -> bool {
        let slot = &mut self.slots[index];
        let sequence = self.next;
        let Some(queued) =
            slot.queued.take_if(|queued| put(self.channel, slot.key, sequence, &queued.payload, packet))
        else {
            return false;
        };
        let overtaken = slot.sent.replace(Sent { payload: queued.payload, sequence, is_lost: false });
        packet.tally.freed_bytes += overtaken.map_or(0, |sent| charge(sent.payload.len()));
        self.next += 1;
        if self.next - self.oldest >= LATEST_KEYS_MAX as u64 {
            self.oldest = self.oldest_besides(None);
        }
        true
    }

    fn write_lost(&mut self, index: usize, packet: &mut Packet<'_, '_>) -> bool {
        let slot = &mut self.slots[index];
        let Some(sent) = slot.sent.as_mut().filter(|sent| sent.is_lost) else { return false };
        if !put(self.channel, slot.key, sent.sequence, &sent.payload, packet) {
            return false;
        }
        sent.is_lost = false;
        packet.tally.retransmitted_bytes += sent.payload.len() as u64;
        true
    }

    /// Returns the charge of the message when it was the last of its key.
    pub(super) fn on_ack(&mut self, key: u64, sequence: u64) -> usize {
        let Ok(index) = self.find(key) else { return 0 };
        let slot = &mut self.slots[index];
        let Some(acked) = slot.sent.take_if(|sent| sent.sequence == sequence) else { return 0 };
        self.settle(index);
        charge(acked.payload.len())
    }

    /// Sends a message again, unless a newer one was sent.
    pub(super) fn on_lost(&mut self, key: u64, sequence: u64) {
        let Ok(index) = self.find(key) else { return };
        let slot = &mut self.slots[index];
        let was_pending = slot.is_pending();
        let Some(sent) = slot.sent.as_mut().filter(|sent| sent.sequence == sequence) else { return };
        sent.is_lost = true;
        if was_pending {
            self.turns.retain(|turn| *turn != key);
        }
        self.turns.push_front(key);
    }
}

/// Returns whether it fits, and is written.
fn put(channel: Channel, key: u64, sequence: u64, payload: &[u8], packet: &mut Packet<'_, '_>) -> bool {
    let fits = frame::latest_bytes(key, sequence, payload.len()) <= packet.out.remaining();
    if fits {
        frame::put_latest(packet.out, &Latest { channel, key, sequence, payload });
        packet.sent.push_frame(SentFrame::Latest { channel, key, sequence });
    }
    fits
}
