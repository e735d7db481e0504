//! The size of datagrams (`PROTOCOL.md`, section "Datagram sizes").

use wire::Time;
use wire::frame::TYPE_PING;
use wire::header::HEADER_BYTES;

use super::Connection;
use crate::mtu::MtuChange;

impl Connection {
    /// The largest datagram that is known to reach the peer.
    #[must_use]
    pub const fn datagram_bytes(&self) -> usize {
        self.datagram_bytes
    }

    /// Writes a datagram that tries a larger size: PING and PADDING, so that nothing is lost with it.
    pub(super) fn transmit_mtu_probe(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        let length = self.mtu.probe_due()?;
        let has_window = self.sent.in_flight_bytes() + length as u64 <= self.controller.window_bytes();
        if !self.is_established() || !self.amplification.is_validated || !has_window {
            return None;
        }
        let datagram = buffer.get_mut(..length)?;
        datagram.fill(0);
        datagram[HEADER_BYTES] = TYPE_PING;
        let number = self.sent.next_number();
        self.seal(now, datagram)?;
        self.finish_packet(now, length, true);
        self.mtu.on_probe_sent(number);
        self.stats.mtu_probes += 1;
        Some(length)
    }

    /// The loss of a probe is no sign of congestion, and costs nothing.
    pub(super) fn take_lost_probe(&mut self, now: Time, lost: &mut Vec<u64>) {
        lost.retain(|&number| !self.mtu.on_probe_lost(now, number));
    }

    /// Packets were lost at the same time.
    pub(super) fn look_for_black_hole(&mut self, now: Time, lost: &[u64]) {
        let of_path = lost.iter().filter(|&&number| self.sent.is_of_path(number));
        let largest = of_path.filter_map(|&number| self.sent.get(number)).map(|packet| packet.bytes).max();
        if let Some(bytes) = largest {
            let change = self.mtu.on_lost(now, bytes);
            self.on_mtu_change(change);
        }
    }

    /// Another size is in use from now on.
    pub(super) fn on_mtu_change(&mut self, change: Option<MtuChange>) {
        match change {
            Some(MtuChange::Raised) => self.stats.mtu_raises += 1,
            Some(MtuChange::BlackHole) => self.stats.mtu_black_holes += 1,
            None => return,
        }
        self.follow_mtu();
    }

    pub(super) fn follow_mtu(&mut self) {
        self.datagram_bytes = self.mtu.bytes();
        self.controller.on_datagram_bytes(self.datagram_bytes as u64);
    }
}
