//! At most three times what an address sent, until it has proven itself (`PROTOCOL.md`, section "Address validation").

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Check, Invariant};

/// Replies are at most so many times what came.
const AMPLIFICATION_MAX: u64 = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Address {
    received_bytes: u64,
    sent_bytes: u64,
    is_proven: bool,
}

/// What a node received from and sent to every address.
#[derive(Debug, Default)]
pub(crate) struct AmplificationWatch {
    addresses: BTreeMap<SocketAddr, Address>,
}

impl AmplificationWatch {
    /// A datagram came.
    pub(crate) fn on_received(&mut self, from: SocketAddr, bytes: usize) {
        self.addresses.entry(from).or_default().received_bytes += bytes as u64;
    }

    /// A datagram came, from wherever, whose sender had heard from the node at this address.
    pub(crate) fn on_proof(&mut self, of: SocketAddr) {
        self.addresses.entry(of).or_default().is_proven = true;
    }

    /// A datagram goes.
    pub(crate) fn on_sent(&mut self, to: SocketAddr, bytes: usize) -> Check {
        let address = self.addresses.entry(to).or_default();
        address.sent_bytes += bytes as u64;
        if address.is_proven || address.sent_bytes <= AMPLIFICATION_MAX * address.received_bytes {
            return Ok(());
        }
        let seen = format!(
            "{to} has sent {} B, was sent {} B, and has shown nothing that it was sent",
            address.received_bytes, address.sent_bytes
        );
        Err((Invariant::Amplification, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_sent_more_than_three_times_its_bytes() {
        let mut watch = AmplificationWatch::default();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        watch.on_received(address, 100);
        watch.on_sent(address, 300).unwrap();
        assert!(watch.on_sent(address, 1).is_err());
        watch.on_proof(address);
        watch.on_sent(address, 10_000).unwrap();
    }
}
