//! The command `aetherflow`.
fn main() {}
