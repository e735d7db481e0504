//! Who speaks through the relay: each client has a socket of its own towards the server, which is how the server tells
//! them apart.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use wire::{Span, Time};

use super::socket::Socket;

/// A client that was silent for so long makes room for another when the table is full.
const IDLE: Span = Span::from_ms(60_000);

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Which of our addresses it speaks to.
    pub(super) local_ip: Option<IpAddr>,
    /// Towards the server.
    pub(super) upstream: Socket,
    /// When it was last heard.
    heard: Time,
}

/// Names a client for as long as it is there: a slot of the table, and how many had it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ClientKey {
    pub(super) slot: usize,
    generation: u64,
}

#[derive(Debug, Default)]
struct Slot {
    client: Option<Client>,
    generation: u64,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    by_address: HashMap<SocketAddr, ClientKey>,
    slots: Vec<Slot>,
    count_max: usize,
    /// How many there ever were.
    pub(super) ever: u64,
    /// Before this instant it is not worth looking for a silent one.
    next_search: Time,
}

impl Clients {
    pub(super) fn new(count_max: usize) -> Self {
        Self { by_address: HashMap::new(), slots: Vec::new(), count_max, ever: 0, next_search: Time::ZERO }
    }

    /// The client at an address, if it is known.
    pub(super) fn find(&mut self, address: SocketAddr, now: Time) -> Option<ClientKey> {
        let key = *self.by_address.get(&address)?;
        if let Some(client) = self.slots[key.slot].client.as_mut() {
            client.heard = now;
        }
        Some(key)
    }

    /// The client of a key, if it is still there.
    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        let slot = self.slots.get(key.slot)?;
        slot.client.as_ref().filter(|_| slot.generation == key.generation)
    }

    /// The client in a slot, if there is one.
    pub(super) fn in_slot(&self, slot: usize) -> Option<(ClientKey, &Client)> {
        let Slot { client, generation } = self.slots.get(slot)?;
        client.as_ref().map(|client| (ClientKey { slot, generation: *generation }, client))
    }

    /// All slots in use.
    pub(super) fn slots(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|&slot| self.slots[slot].client.is_some()).collect()
    }

    /// Gives a new client a socket towards `to`; none when the table is full of clients that are awake.
    pub(super) fn insert(
        &mut self,
        address: SocketAddr,
        local_ip: Option<IpAddr>,
        to: SocketAddr,
        now: Time,
    ) -> io::Result<Option<ClientKey>> {
        let slot = if self.slots.len() < self.count_max {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        } else {
            match self.silent(now) {
                Some(slot) => slot,
                None => return Ok(None),
            }
        };
        let upstream = upstream(to).inspect_err(|_| {
            if slot + 1 == self.slots.len() && self.slots[slot].client.is_none() {
                self.slots.pop();
            }
        })?;
        let Slot { client, generation } = &mut self.slots[slot];
        if let Some(silent) = client.replace(Client { address, local_ip, upstream, heard: now }) {
            self.by_address.remove(&silent.address);
        }
        *generation += 1;
        let key = ClientKey { slot, generation: *generation };
        self.by_address.insert(address, key);
        self.ever += 1;
        Ok(Some(key))
    }

    /// Gives a client another socket, so that the server sees it at another address.
    pub(super) fn rebind(&mut self, slot: usize, to: SocketAddr) -> io::Result<()> {
        if let Some(client) = self.slots.get_mut(slot).and_then(|slot| slot.client.as_mut()) {
            client.upstream = upstream(to)?;
        }
        Ok(())
    }

    /// The slot of a client that has been silent for long.
    fn silent(&mut self, now: Time) -> Option<usize> {
        if now < self.next_search {
            return None;
        }
        let heard = |slot: &Slot| slot.client.as_ref().map(|client| client.heard);
        let longest = (0..self.slots.len()).min_by_key(|&slot| heard(&self.slots[slot]))?;
        let silent_since = heard(&self.slots[longest]).unwrap_or(Time::ZERO);
        self.next_search = silent_since + IDLE;
        (now >= self.next_search).then_some(longest)
    }
}

fn upstream(to: SocketAddr) -> io::Result<Socket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Socket::new(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_takes_a_stranger_or_keeps_the_silent_for_ever() {
        let to: SocketAddr = ([127, 0, 0, 1], 9).into();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let seconds = |s: u64| Time::from_us(s * 1_000_000);
        let mut clients = Clients::new(2);
        let first = clients.insert(at(1), None, to, seconds(0)).expect("a socket").expect("room");
        let second = clients.insert(at(2), None, to, seconds(1)).expect("a socket").expect("room");
        assert!(clients.insert(at(3), None, to, seconds(2)).expect("no socket needed").is_none());
        assert_eq!(clients.find(at(1), seconds(50)), Some(first));
        // The second is silent for the longest, and for long enough now.
        let third = clients.insert(at(3), None, to, seconds(62)).expect("a socket").expect("room");
        assert_eq!(third.slot, second.slot);
        assert!(clients.get(second).is_none() && clients.get(third).is_some());
        assert_eq!(clients.find(at(2), seconds(62)), None);
        assert_eq!(clients.find(at(1), seconds(62)), Some(first));
    }
}
