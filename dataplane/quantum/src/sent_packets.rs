//! What was sent and may have to be sent again.

use std::collections::VecDeque;

use wire::sync::Channel;
use wire::{Time, prefetch_front};

use crate::delivery::Snapshot;

/// What a packet carried that must arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SentFrame {
    /// Whole messages `first..first + count`.
    Messages { channel: Channel, first: u64, count: u32 },
    /// A part of one message.
    Fragment { channel: Channel, sequence: u64, offset: u32, bytes: u32 },
    /// A message of a latest-wins channel.
    Latest { channel: Channel, key: u64, sequence: u64 },
    /// An acknowledgement of everything up to the number.
    Ack { largest: u64 },
    /// The connection's credit.
    MaxData,
    /// A channel's credit.
    MaxChannelData(Channel),
    /// The connection id of this number was announced or confirmed.
    NewConnectionId(u64),
    /// The connection id of this number was retired or refused.
    RetireConnectionId(u64),
    /// No new messages will come.
    Finish,
}

/// What has become of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Sent, and nothing heard.
    InFlight,
    /// Declared lost; an acknowledgement may still show that it was not.
    Lost,
    /// Acknowledged, or not worth an acknowledgement.
    Done,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentPacket {
    pub(crate) number: u64,
    pub(crate) sent: Time,
    /// What had been delivered by then.
    pub(crate) delivery: Snapshot,
    /// Modulo 2^32.
    frames_start: u32,
    frames_count: u16,
    pub(crate) bytes: u16,
    pub(crate) fate: Fate,
    /// Whether the congestion window held back the sender about when this was sent.
    pub(crate) window_limited: bool,
}

const _: () = assert!(size_of::<SentPacket>() <= 48, "every packet in flight takes this much");
const _: () = assert!(wire::limits::DATAGRAM_BYTES_MAX <= u16::MAX as usize);

/// What a packet is taken up with, besides its frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) sent: Time,
    pub(crate) bytes: usize,
    pub(crate) is_eliciting: bool,
    pub(crate) window_limited: bool,
    pub(crate) delivery: Snapshot,
}

impl SentPacket {
    const fn frames_end(&self) -> u32 {
        self.frames_start.wrapping_add(self.frames_count as u32)
    }
}

/// Sent packets by number, without gaps, and their frames in one ring: nothing is allocated once warm.
#[derive(Default, Debug)]
pub(crate) struct SentPackets {
    packets: VecDeque<SentPacket>,
    first_number: u64,
    frames: VecDeque<SentFrame>,
    /// The place of the first of `frames`, modulo 2^32.
    frames_base: u32,
    /// Of packets from `path_first` on.
    in_flight_bytes: u64,
    in_flight_count: usize,
    /// The first packet of the path in use: what was sent before says nothing about it.
    path_first: u64,
}

impl SentPackets {
    /// Has the caches fetch the oldest packet and its frames, or where the next will lie.
    pub(crate) fn prefetch(&self) {
        prefetch_front(&self.packets);
        prefetch_front(&self.frames);
    }

    /// The number of the next packet.
    pub(crate) fn next_number(&self) -> u64 {
        self.first_number + self.packets.len() as u64
    }

    /// Skips a number: for the packet whose repetition is not ours to manage.
    pub(crate) fn skip(&mut self) {
        debug_assert!(self.packets.is_empty());
        self.first_number += 1;
    }

    /// What is in flight now does not count as such any more: another path begins.
    pub(crate) fn begin_path(&mut self) {
        self.path_first = self.next_number();
        self.in_flight_bytes = 0;
    }

    /// Whether a packet was sent on the path in use.
    pub(crate) const fn is_of_path(&self, number: u64) -> bool {
        number >= self.path_first
    }

    /// Notes what the packet being written carries; [`finish`](Self::finish) closes the packet.
    pub(crate) fn push_frame(&mut self, frame: SentFrame) {
        self.frames.push_back(frame);
    }

    /// Takes up the packet that was written, with the frames pushed since the last one.
    pub(crate) fn finish(&mut self, departure: Departure) {
        let Departure { sent, bytes, is_eliciting, window_limited, delivery } = departure;
        let used = self.packets.back().map_or(self.frames_base, SentPacket::frames_end);
        let count = self.frames_base.wrapping_add(self.frames.len() as u32).wrapping_sub(used);
        let fate = if is_eliciting { Fate::InFlight } else { Fate::Done };
        self.packets.push_back(SentPacket {
            number: self.next_number(),
            sent,
            delivery,
            frames_start: used,
            frames_count: count as u16,
            bytes: bytes as u16,
            fate,
            window_limited,
        });
        if is_eliciting {
            self.in_flight_bytes += bytes as u64;
            self.in_flight_count += 1;
        } else {
            self.forget_front(Time::ZERO);
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&SentPacket> {
        let index = number.checked_sub(self.first_number)?;
        self.packets.get(usize::try_from(index).ok()?)
    }

    /// The lowest number still kept.
    pub(crate) const fn first_number(&self) -> u64 {
        self.first_number
    }

    /// Changes a packet's fate; returns the packet as it was.
    pub(crate) fn set_fate(&mut self, number: u64, fate: Fate) -> Option<SentPacket> {
        let index = usize::try_from(number.checked_sub(self.first_number)?).ok()?;
        let packet = self.packets.get_mut(index)?;
        let before = *packet;
        packet.fate = fate;
        if before.fate == Fate::InFlight && fate != Fate::InFlight {
            if number >= self.path_first {
                self.in_flight_bytes -= u64::from(before.bytes);
            }
            self.in_flight_count -= 1;
        }
        Some(before)
    }

    /// The frames of a packet.
    pub(crate) fn frames(&self, packet: &SentPacket) -> impl Iterator<Item = SentFrame> + '_ {
        let start = packet.frames_start.wrapping_sub(self.frames_base) as usize;
        self.frames.range(start..start + usize::from(packet.frames_count)).copied()
    }

    /// Packets in flight, oldest first.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = &SentPacket> {
        self.packets.iter().filter(|packet| packet.fate == Fate::InFlight)
    }

    pub(crate) const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    pub(crate) const fn has_in_flight(&self) -> bool {
        self.in_flight_count > 0
    }

    /// Forgets the oldest packets that are done, and lost ones sent before `lost_before`.
    pub(crate) fn forget_front(&mut self, lost_before: Time) {
        while let Some(front) = self.packets.front() {
            let keep = match front.fate {
                Fate::InFlight => true,
                Fate::Lost => front.sent >= lost_before,
                Fate::Done => false,
            };
            if keep {
                return;
            }
            let end = front.frames_end();
            self.frames.drain(..end.wrapping_sub(self.frames_base) as usize);
            self.frames_base = end;
            self.first_number += 1;
            self.packets.pop_front();
        }
        // The next begin at the start again, in the same cache lines.
        self.packets.clear();
        if self.frames.is_empty() {
            self.frames.clear();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A packet that left at `us`.
    pub(crate) fn departure(us: u64, bytes: usize, is_eliciting: bool) -> Departure {
        let delivery = Snapshot::default();
        Departure { sent: Time::from_us(us), bytes, is_eliciting, window_limited: false, delivery }
    }

    #[test]
    fn frames_are_taken_for_another_packets() {
        let mut sent = SentPackets::default();
        for number in 0..5 {
            for _ in 0..number {
                sent.push_frame(SentFrame::Ack { largest: number });
            }
            sent.finish(departure(number, 100, number > 0));
        }
        assert_eq!((sent.first_number(), sent.next_number(), sent.in_flight_bytes()), (1, 5, 400));
        sent.set_fate(2, Fate::Done);
        sent.set_fate(1, Fate::Lost);
        sent.forget_front(Time::ZERO);
        assert_eq!(sent.first_number(), 1);
        sent.forget_front(Time::from_us(2));
        assert_eq!((sent.first_number(), sent.in_flight_bytes()), (3, 200));
        for number in 3..5 {
            let packet = *sent.get(number).unwrap();
            let frames: Vec<_> = sent.frames(&packet).collect();
            assert_eq!(frames, vec![SentFrame::Ack { largest: number }; number as usize]);
        }
        assert!(sent.get(2).is_none());
    }
}
