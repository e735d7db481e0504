//! For which node a first packet is meant (`PROTOCOL.md`, section "Single use").

use aws_lc_rs::digest;

const LABEL: &[u8] = b"aetherflow quantum 1 audience";

/// A node's number as an audience, from the address under which the cluster knows it. Never zero, which is everybody.
#[must_use]
pub fn audience(address: &str) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(LABEL);
    context.update(address.as_bytes());
    let digest = context.finish();
    let number = digest.as_ref().iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte));
    number.max(1)
}
