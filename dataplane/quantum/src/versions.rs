//! What a node says to a version that it does not speak (`PROTOCOL.md`, section "Version negotiation").

use wire::header::{HEADER_BYTES, TAG_BYTES, VERSION, VERSIONS_GREASE};
use wire::{Guuid, Header};
use zerocopy::IntoBytes;

/// The length of a VERSIONS packet: that of the shortest packet.
pub(crate) const VERSIONS_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Tells the client of the connection `id` which versions there are.
pub(crate) fn write_versions(id: Guuid) -> [u8; VERSIONS_BYTES] {
    let mut packet = [0; VERSIONS_BYTES];
    packet[..HEADER_BYTES].copy_from_slice(Header::versions(id).as_bytes());
    // One that nobody knows is always among them, and not in the same place as what is looked for.
    packet[HEADER_BYTES] = VERSIONS_GREASE[0];
    packet[HEADER_BYTES + 1] = VERSION;
    packet
}

/// The versions that a VERSIONS packet lists, in words; none when `ours` is among them: then it is no answer to us.
pub(crate) fn versions_without(ours: u8, datagram: &[u8]) -> Option<String> {
    let list = datagram.get(HEADER_BYTES..).unwrap_or_default();
    let listed = |version: u8| list.contains(&version);
    if listed(ours) {
        return None;
    }
    // A version is four bits; zero fills the packet.
    let known = (1..=0x0f).filter(|version| listed(*version) && !VERSIONS_GREASE.contains(version));
    let known: Vec<_> = known.map(|version| version.to_string()).collect();
    Some(if known.is_empty() { "none that has a number".to_owned() } else { known.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_version_is_refused_or_grease_is_taken_for_one() {
        let list = write_versions(Guuid::NIL);
        assert_eq!(versions_without(VERSION, &list), None);
        assert_eq!(versions_without(3, &list), Some("1".to_owned()));
        let later = [&list[..HEADER_BYTES], &[2, 0x0f, 0x0a, 200, 5, 0, 0]].concat();
        assert_eq!(versions_without(VERSION, &later), Some("2, 5".to_owned()));
        assert_eq!(
            versions_without(VERSION, &list[..HEADER_BYTES]),
            Some("none that has a number".to_owned())
        );
    }
}
