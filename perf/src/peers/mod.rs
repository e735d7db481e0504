//! The transports that are measured, by name.

#[cfg(feature = "peers")]
mod certificate;
#[cfg(feature = "peers")]
mod driver;
#[cfg(feature = "peers")]
mod framing;
#[cfg(feature = "peers")]
pub mod kcp;
#[cfg(feature = "peers")]
mod path;
pub mod quantum;
#[cfg(feature = "peers")]
pub mod quinn;
#[cfg(feature = "peers")]
mod quinn_polling;
#[cfg(feature = "peers")]
pub mod s2n;
#[cfg(feature = "peers")]
mod stream_client;
pub mod tcp;
pub mod udp;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::error::{Error, Result};
use crate::peer::{Client, Crowd, EarlyConnector, Ready};
use crate::result::Waiting;
use crate::stall::StallMeter;

/// What a server is started with. It runs on the thread that it is called on, which is pinned, and never returns
/// unless it breaks: its process is ended.
pub struct ServerContext<'a> {
    /// How it waits.
    pub waiting: Waiting,
    /// To be called once, when clients may come.
    pub ready: &'a dyn Fn(Ready),
    /// To be told of each turn of a loop that never sleeps.
    pub stalls: &'a StallMeter,
    /// UDP payload of a full packet.
    pub packet_bytes: u16,
}

/// What a client is made with.
pub struct ClientContext<'a> {
    /// What the server said.
    pub ready: &'a Ready,
    /// How it waits.
    pub waiting: Waiting,
    /// UDP payload of a full packet.
    pub packet_bytes: u16,
}

/// UDP payload of a full packet, unless told otherwise: the most that an Ethernet path carries with room for an IPv6
/// header.
pub const PACKET_BYTES: u16 = 1_452;

/// Runs a server.
pub type Serve = fn(&ServerContext<'_>) -> io::Result<()>;
/// Makes a client that is connected: its first message may be sent.
pub type Connect = fn(&ClientContext<'_>) -> io::Result<Box<dyn Client>>;
/// Makes a client of many connections, none of them made yet.
pub type Gather = fn(&ClientContext<'_>) -> io::Result<Box<dyn Crowd>>;

/// Makes a maker of clients whose first message leaves before the server has answered, with whatever that needs to have
/// been agreed on before.
pub type Prepare = fn(&ClientContext<'_>) -> io::Result<Box<dyn EarlyConnector>>;

/// One transport under test.
#[derive(Clone, Copy)]
pub struct Peer {
    /// `raw-udp`, `tcp`, `quantum`, `quinn-stream`, …
    pub name: &'static str,
    /// Whether what it sends can be read on the way.
    pub encrypted: bool,
    /// Whether it sends again what was lost.
    pub reliable: bool,
    /// Largest UDP payload that it can be told to fill; none where it has no packets of its own making.
    pub packet_bytes_max: Option<u16>,
    /// Largest message that it takes, by the UDP payload of a full packet.
    pub message_bytes_max: fn(u16) -> usize,
    /// Runs its server.
    pub serve: Serve,
    /// Makes its client.
    pub connect: Connect,
    /// Makes clients whose first message does not wait for a handshake, where there is one that it could wait for.
    pub prepare_early: Option<Prepare>,
    /// Makes many connections, where that means something.
    pub gather: Option<Gather>,
}

impl Peer {
    /// Whether it speaks in datagrams, which the impairment relay carries.
    pub fn crosses_relay(&self) -> bool {
        self.name != tcp::PEER.name
    }

    /// Whether its packets can be of this size; those that make none of their own do not mind.
    pub fn fills(&self, packet_bytes: u16) -> bool {
        self.packet_bytes_max.is_none_or(|max| packet_bytes <= max)
    }
}

/// The names of those behind the feature `peers`.
const OPTIONAL: [&str; 4] = ["quinn-stream", "quinn-datagram", "s2n-quic", "kcp"];

/// Those of them that are in this program.
#[cfg(feature = "peers")]
fn optional() -> Vec<Peer> {
    vec![quinn::STREAM, quinn::DATAGRAM, s2n::PEER, kcp::PEER]
}

/// Those of them that are in this program.
#[cfg(not(feature = "peers"))]
fn optional() -> Vec<Peer> {
    Vec::new()
}

/// All peers in this program, the floor first.
pub fn all() -> Vec<Peer> {
    [udp::PEER, tcp::PEER, quantum::PEER].into_iter().chain(optional()).collect()
}

/// The peer of a name.
///
/// # Errors
/// [`Error::PeerNotBuilt`], [`Error::UnknownPeer`].
pub fn find(name: &str) -> Result<Peer> {
    let peers = all();
    if let Some(peer) = peers.iter().find(|peer| peer.name == name) {
        return Ok(*peer);
    }
    if OPTIONAL.contains(&name) {
        return Err(Error::PeerNotBuilt { name: name.to_owned() });
    }
    let names = peers.iter().map(|peer| peer.name);
    let names: Vec<&str> = names.chain(missing()).collect();
    Err(Error::UnknownPeer { name: name.to_owned(), known: names.join(", ") })
}

/// Those that this program was built without.
pub fn missing() -> Vec<&'static str> {
    let peers = all();
    OPTIONAL.into_iter().filter(|name| !peers.iter().any(|peer| peer.name == *name)).collect()
}

/// Sleeps until there is something to read or, where that is wanted, room to write, which it says, or the instant
/// has passed.
fn wait_ready(socket: &impl AsFd, for_room: bool, deadline: Instant) -> io::Result<bool> {
    let flags = if for_room { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let left = deadline.saturating_duration_since(Instant::now()).min(WAIT_MAX);
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(socket, flags)], Some(&left)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// [`wait_ready`] for those who only read.
fn wait_readable(socket: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    wait_ready(socket, false, deadline)
}

/// Longest sleep at a time.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_not_built_names_the_remedy() {
        if let Some(name) = missing().first() {
            let error = find(name).err().expect("it is missing");
            assert!(error.to_string().contains("--features peers"), "{error}");
        }
        let error = find("carrier-pigeon").err().expect("nobody has one");
        assert!(error.to_string().contains("raw-udp"), "{error}");
        assert!(error.to_string().contains("kcp"), "{error}");
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names: Vec<&str> = all().iter().map(|peer| peer.name).chain(missing()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
