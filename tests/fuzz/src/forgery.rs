//! Somebody between two honest ends who has no keys.

use bytes::Bytes;
use quantum::Channel;

use crate::Source;
use crate::pair::Pair;

/// Milliseconds until a message has arrived at the latest, once nobody interferes.
const HEALED_MS: usize = 60_000;
const MESSAGES_MAX: usize = 20;

/// Datagrams are changed, lost, repeated, kept and made up while a connection carries messages: all arrive,
/// once, in order, and nothing else does.
pub fn forged_packets(input: &[u8]) {
    let mut source = Source::new(input);
    let mut pair = Pair::new();
    assert!(pair.run_until(100, |pair| pair.client.is_established()), "no connection");
    let (mut sent, mut kept) = (Vec::new(), Vec::new());
    while !source.is_empty() && sent.len() < MESSAGES_MAX {
        let message = [&[sent.len() as u8], &source.filler(3_000)[..]].concat();
        let key = pair.at_node.opened[0];
        pair.client.send(Channel::Sync, message.clone().into()).expect("room");
        pair.node.send(key, Channel::Sync, message.clone().into()).expect("room");
        sent.push(message);
        interfere(&mut source, &mut pair, &mut kept);
    }
    let arrived = |pair: &Pair| {
        pair.at_node.messages.len() >= sent.len() && pair.at_client.messages.len() >= sent.len()
    };
    assert!(pair.run_until(HEALED_MS, arrived), "{:?} {:?}", pair.client, pair.node);
    for messages in [&pair.at_node.messages, &pair.at_client.messages] {
        assert!(messages.iter().map(|(_, _, message)| message).eq(&sent));
    }
    assert_eq!((pair.node.connections_count(), pair.at_node.opened.len()), (1, 1));
}

/// The same during a handshake: whatever becomes of it, no end breaks, and no second connection is made.
pub fn forged_handshakes(input: &[u8]) {
    let mut source = Source::new(input);
    let mut pair = Pair::new();
    let message = Bytes::from_static(b"the first op");
    pair.client.send(Channel::Sync, message.clone()).expect("room");
    let mut kept = Vec::new();
    for _ in 0..MESSAGES_MAX {
        interfere(&mut source, &mut pair, &mut kept);
    }
    pair.run_until(HEALED_MS, |pair| pair.client.is_established() || pair.client.is_closed());
    assert!(pair.at_node.opened.len() <= 1);
    let messages = &pair.at_node.messages;
    assert!(messages.len() <= 1 && messages.iter().all(|(_, _, found)| *found == message));
}

/// A millisecond of a network that does what it likes.
fn interfere(source: &mut Source<'_>, pair: &mut Pair, kept: &mut Vec<(bool, Vec<u8>)>) {
    let (to_node, to_client) = pair.take_datagrams();
    let datagrams = to_node.into_iter().map(|datagram| (true, datagram));
    for (to_node, datagram) in datagrams.chain(to_client.into_iter().map(|datagram| (false, datagram))) {
        match source.below(8) {
            0 => {}
            1 => kept.push((to_node, datagram)),
            2 => {
                pair.deliver(to_node, datagram.clone());
                pair.deliver(to_node, datagram);
            }
            3 | 4 => {
                let mut changed = datagram.clone();
                source.mutate(&mut changed);
                // One that is not changed after all, or goes the wrong way, is as good as any.
                pair.deliver(to_node ^ source.once_in(8), changed);
                if source.once_in(2) {
                    pair.deliver(to_node, datagram);
                }
            }
            5 => {
                // Another type, of any version.
                let mut changed = datagram.clone();
                changed[0] = if source.once_in(4) { source.byte() } else { 0x10 | source.below(8) as u8 };
                pair.deliver(to_node, changed);
                pair.deliver(to_node, datagram);
            }
            _ => pair.deliver(to_node, datagram),
        }
    }
    if !kept.is_empty() && source.once_in(3) {
        let (to_node, datagram) = kept.swap_remove(source.below(kept.len()));
        pair.deliver(to_node, datagram);
    }
    if source.once_in(8) {
        let made_up = source.bytes(1_452).to_vec();
        pair.deliver(source.once_in(2), made_up);
    }
    pair.pass();
}
