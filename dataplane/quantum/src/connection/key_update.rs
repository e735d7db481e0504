//! Key updates of a connection (`PROTOCOL.md`, section "Key update").

use wire::{Code, Time};

use super::Connection;
use crate::key_update::{INTEGRITY_LIMIT_PACKETS, Phase, SEALED_PACKETS_MAX};

impl Connection {
    /// Begins the next phase of the keys, in both directions, with the next packet. Returns whether it did: not
    /// before the peer has acknowledged a packet of this phase, and not as long as the keys of the phase before are
    /// kept.
    pub fn update_keys(&mut self) -> bool {
        let number = self.sent.next_number();
        match &mut self.keys {
            Some(keys) if keys.can_update() && self.state == super::State::Established => {
                keys.advance(number);
                self.stats.key_updates += 1;
                true
            }
            _ => false,
        }
    }

    /// Updates the keys when they have sealed their share; ends the connection when they could not be for too long.
    pub(super) fn update_keys_by_count(&mut self, now: Time) {
        let Some(keys) = &self.keys else { return };
        let sealed = keys.sealed_packets(self.sent.next_number());
        if sealed < self.config.key_update_packets || self.update_keys() {
            return;
        }
        if sealed >= SEALED_PACKETS_MAX {
            self.violation(now, Code::KeyLimit, "the keys are used up and the peer follows no update");
        }
    }

    /// Opens a packet in place, and follows the peer into the next phase.
    pub(super) fn open<'a>(
        &mut self,
        now: Time,
        packet: (u64, u8),
        datagram: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let (probe_timeout, next_number) = (self.probe_timeout(), self.sent.next_number());
        let opened = self.keys.as_mut()?.open(now, probe_timeout, packet, next_number, datagram);
        let Some((payload, phase)) = opened else {
            self.stats.forged_packet += 1;
            if self.stats.forged_packet >= INTEGRITY_LIMIT_PACKETS {
                self.violation(now, Code::KeyLimit, "too many forged packets");
            }
            return None;
        };
        match phase {
            Phase::Previous => self.stats.previous_phase += 1,
            Phase::Current => {}
            Phase::Next => self.stats.key_updates += 1,
        }
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use wire::header::{HEADER_BYTES, TAG_BYTES};
    use wire::{Header, PacketType};
    use zerocopy::IntoBytes;

    use super::super::hostile_tests::{Count, accepted};
    use super::*;
    use crate::Event;

    #[test]
    fn forgeries_without_end_are_refused_without_end() {
        let mut node = accepted();
        while node.poll_event().is_some() {}
        let forge = |node: &mut Connection| {
            let mut datagram = [1; HEADER_BYTES + 20 + TAG_BYTES];
            let header = Header::new(PacketType::Data, node.id, 9, 0);
            datagram[..HEADER_BYTES].copy_from_slice(header.as_bytes());
            node.handle_datagram(Time::ZERO, &mut datagram, &mut Count::default());
        };
        forge(&mut node);
        assert!(!node.is_closed());
        node.stats.forged_packet = INTEGRITY_LIMIT_PACKETS - 1;
        forge(&mut node);
        let closed = node.poll_event();
        assert!(matches!(closed, Some(Event::Closed(reason)) if reason.code == Code::KeyLimit as u16));
    }
}
