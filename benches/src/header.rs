//! The clear header: 32 bytes read in place and written.

use std::hint::black_box;

use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::{Guuid, Header, PacketType};
use zerocopy::IntoBytes;

use crate::{Visitor, Workload};

/// A data packet of 64 bytes of payload.
const DATAGRAM_BYTES: usize = HEADER_BYTES + 64 + TAG_BYTES;

pub(crate) fn visit(visitor: &mut impl Visitor) {
    visitor.visit("header/parse", || Parse(written()));
    visitor.visit("header/write", || Write { datagram: written(), number: 0 });
}

fn written() -> [u8; DATAGRAM_BYTES] {
    let mut datagram = [0; DATAGRAM_BYTES];
    write(&mut datagram, 7);
    datagram
}

fn write(datagram: &mut [u8], number: u64) {
    let header = Header::new(PacketType::Data, Guuid::from_bytes([9; 16]), number, number as u32);
    datagram[..HEADER_BYTES].copy_from_slice(header.as_bytes());
}

struct Parse([u8; DATAGRAM_BYTES]);

impl Workload for Parse {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        let (header, kind) = Header::parse(black_box(&self.0)).expect("written by us");
        black_box((kind, header.packet_number(), header.connection));
    }
}

struct Write {
    datagram: [u8; DATAGRAM_BYTES],
    number: u64,
}

impl Workload for Write {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.number += 1;
        write(black_box(&mut self.datagram), self.number);
    }
}
