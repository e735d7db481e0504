//! Forward error correction with the stock Reed-Solomon codec: blocks of packets of 1,200 bytes.
//!
//! The transport has no such codec yet. These figures are what a stock library costs, and what ours has to
//! beat: its decoder evaluates a polynomial over 65,536 points whatever the size of the block.

use std::hint::black_box;

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use crate::{Visitor, Workload};

const PACKET_BYTES: usize = 1_200;
/// Packets of a block, and repairs for it.
const BLOCKS: [(usize, usize); 3] = [(4, 1), (8, 2), (16, 4)];

pub(crate) fn visit(visitor: &mut impl Visitor) {
    for (originals, repairs) in BLOCKS {
        visitor
            .visit(&format!("fec/stock_encode_k{originals}_r{repairs}"), || Encode::new(originals, repairs));
    }
    for (originals, repairs) in BLOCKS {
        visitor
            .visit(&format!("fec/stock_decode_k{originals}_r{repairs}"), || Decode::new(originals, repairs));
    }
}

fn packets(count: usize) -> Vec<Vec<u8>> {
    let packet = |number: usize| (0..PACKET_BYTES).map(|at| (at * 31 + number * 7) as u8).collect();
    (0..count).map(packet).collect()
}

fn encoder(originals: usize, repairs: usize) -> ReedSolomonEncoder {
    ReedSolomonEncoder::new(originals, repairs, PACKET_BYTES).expect("a block that the codec supports")
}

/// All packets put in, all repairs taken out.
struct Encode {
    encoder: ReedSolomonEncoder,
    packets: Vec<Vec<u8>>,
}

impl Encode {
    fn new(originals: usize, repairs: usize) -> Self {
        Self { encoder: encoder(originals, repairs), packets: packets(originals) }
    }

    fn repairs(&mut self, mut take: impl FnMut(&[u8])) {
        for packet in &self.packets {
            self.encoder.add_original_shard(packet).expect("a packet of the right length");
        }
        let encoded = self.encoder.encode().expect("a whole block");
        encoded.recovery_iter().for_each(&mut take);
    }
}

impl Workload for Encode {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.repairs(|repair| _ = black_box(repair));
    }
}

/// As many packets lost as there are repairs, all of them brought back.
struct Decode {
    decoder: ReedSolomonDecoder,
    packets: Vec<Vec<u8>>,
    repairs: Vec<Vec<u8>>,
}

impl Decode {
    fn new(originals: usize, repairs: usize) -> Self {
        let mut encode = Encode::new(originals, repairs);
        let mut made = Vec::new();
        encode.repairs(|repair| made.push(repair.to_vec()));
        let decoder = ReedSolomonDecoder::new(originals, repairs, PACKET_BYTES)
            .expect("a block that the codec supports");
        Self { decoder, packets: encode.packets, repairs: made }
    }

    fn restored(&mut self, mut take: impl FnMut(usize, &[u8])) {
        for (index, packet) in self.packets.iter().enumerate().skip(self.repairs.len()) {
            self.decoder.add_original_shard(index, packet).expect("a packet of the right length");
        }
        for (index, repair) in self.repairs.iter().enumerate() {
            self.decoder.add_recovery_shard(index, repair).expect("a repair of the right length");
        }
        let decoded = self.decoder.decode().expect("enough of a block");
        decoded.restored_original_iter().for_each(|(index, packet)| take(index, packet));
    }
}

impl Workload for Decode {
    const STEPS: u64 = u64::MAX;

    fn step(&mut self) {
        self.restored(|_, packet| _ = black_box(packet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_packet_comes_back_as_another() {
        for (originals, repairs) in BLOCKS {
            let mut decode = Decode::new(originals, repairs);
            let mut restored = Vec::new();
            decode.restored(|index, packet| restored.push((index, packet.to_vec())));
            assert_eq!(restored, packets(repairs).into_iter().enumerate().collect::<Vec<_>>());
        }
    }
}
