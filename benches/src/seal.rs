//! Packet protection: AES-128-GCM over the payload, the header as associated data.

use std::hint::black_box;

use quantum::PacketKeys;
use wire::header::{HEADER_BYTES, TAG_BYTES};

use crate::{Visitor, Workload};

/// An edit, a chat line, a full packet.
const PAYLOAD_BYTES: [usize; 3] = [64, 200, 1_400];
/// Datagrams sealed in advance: opening is in place, so each opens once.
const SEALED_DATAGRAMS: usize = 64;

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for bytes in PAYLOAD_BYTES {
        visitor.visit(&format!("seal/{bytes}_bytes"), || Seal::new(bytes));
    }
    for bytes in PAYLOAD_BYTES {
        visitor.visit(&format!("open/{bytes}_bytes"), || Open::new(bytes));
    }
}

fn keys(is_client: bool) -> PacketKeys {
    PacketKeys::new(([1; 32], [2; 32]), is_client)
}

fn datagram(payload_bytes: usize) -> Vec<u8> {
    vec![7; HEADER_BYTES + payload_bytes + TAG_BYTES]
}

struct Seal {
    keys: PacketKeys,
    datagram: Vec<u8>,
    number: u64,
}

impl Seal {
    fn new(payload_bytes: usize) -> Self {
        Self { keys: keys(true), datagram: datagram(payload_bytes), number: 0 }
    }
}

impl Workload for Seal {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.keys.seal(self.number, black_box(&mut self.datagram));
        self.number += 1;
    }
}

struct Open {
    keys: PacketKeys,
    sealed: Vec<Vec<u8>>,
    number: usize,
}

impl Open {
    fn new(payload_bytes: usize) -> Self {
        let client = keys(true);
        let mut sealed = vec![datagram(payload_bytes); SEALED_DATAGRAMS];
        for (number, datagram) in (0..).zip(&mut sealed) {
            client.seal(number, datagram);
        }
        Self { keys: keys(false), sealed, number: 0 }
    }
}

impl Workload for Open {
    const STEPS: u64 = SEALED_DATAGRAMS as u64;

    fn step(&mut self) {
        let datagram = black_box(&mut self.sealed[self.number]);
        let payload = self.keys.open(self.number as u64, datagram);
        assert!(payload.is_some(), "a datagram that was sealed does not open");
        self.number += 1;
    }
}
