//! What packets said before they were sealed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use quantum::PacketTap;
use wire::header::HEADER_BYTES;

/// A packet as it was before it was sealed.
#[derive(Debug)]
pub(super) struct Shown {
    header: [u8; HEADER_BYTES],
    pub(super) frames: Vec<u8>,
}

/// Packets that were shown and have not been asked for.
#[derive(Debug, Default)]
pub(super) struct PacketLog(Mutex<VecDeque<Shown>>);

impl PacketLog {
    /// What the packet of this datagram said, if it was shown; one that is repeated byte for byte is not shown again.
    pub(super) fn take(&self, datagram: &[u8]) -> Option<Shown> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let header = datagram.get(..HEADER_BYTES)?;
        // Nearly always the first: packets are written in the order of sending, replies to INITIAL a little before.
        let index = shown.iter().position(|shown| shown.header[..] == *header)?;
        shown.remove(index)
    }

    /// Forgets what nobody has asked for: packets that were written and never sent.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl PacketTap for PacketLog {
    fn on_packet(&self, header: &[u8], frames: &[u8]) {
        let mut shown = Shown { header: [0; HEADER_BYTES], frames: frames.to_vec() };
        shown.header.copy_from_slice(header);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(shown);
    }
}
