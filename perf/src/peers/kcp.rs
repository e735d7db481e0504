//! KCP in its fast mode over non-blocking sockets: reliable and in order, in the clear, no congestion control.
//!
//! Fast mode is what its authors name so: no delay, the shortest interval, a packet sent again when two later ones
//! were acknowledged, no congestion window. Besides, what is due leaves at once, not at the next interval, and many
//! packets leave in one call, which the kernel cuts (GSO). They are received by the plainest call there is, without
//! GRO, for echoes and bulk alike: what it would save in bulk, its control messages cost each lone packet, and a server
//! of KCP, which serves both on one socket, has to choose one. It is chosen for what people take KCP for, latency.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ::kcp::{Kcp, get_conv};
use quinn_udp::{Transmit, UdpSocketState};

use super::path::SOCKET_BUFFER_BYTES;
use super::{ClientContext, PACKET_BYTES, Peer, ServerContext, wait_readable};
use crate::peer::{Client, Ready, Responder, Sent};
use crate::result::Waiting;

/// In the registry.
pub const PEER: Peer = Peer {
    name: "kcp",
    encrypted: false,
    reliable: true,
    packet_bytes_max: Some(u16::MAX),
    message_bytes_max,
    serve,
    connect,
    prepare_early: None,
    gather: None,
};

/// Packets under way: enough to fill a path of ours, and few enough for the machine, which looks at each of them
/// whenever it sends.
const WINDOW_PACKETS: u16 = 512;

/// Packets that wait for the window before a client is full.
const QUEUE_PACKETS_MAX: usize = 2 * WINDOW_PACKETS as usize;

/// Packets of one message: the machine refuses 128.
const MESSAGE_PACKETS_MAX: usize = 127;

/// Bytes of one message.
fn message_bytes_max(packet_bytes: u16) -> usize {
    MESSAGE_PACKETS_MAX * (usize::from(packet_bytes) - ::kcp::KCP_OVERHEAD)
}

/// The shortest interval that it takes, milliseconds.
const INTERVAL_MS: i32 = 10;

/// Later packets acknowledged before one is sent again.
const FAST_RESEND: i32 = 2;

/// Packets taken before what they ask for is sent.
const PACKETS_PER_TURN_MAX: usize = 64;

/// Bytes that the kernel cuts at a time.
const BATCH_BYTES_MAX: usize = 65_000;

/// Clients of one server.
const SESSIONS_MAX: usize = 1_024;

/// How long a server sleeps when it has nothing under way.
const SLEEP_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(MESSAGE_PACKETS_MAX < WINDOW_PACKETS as usize);
const _: () = assert!(WINDOW_PACKETS as usize * (PACKET_BYTES as usize) < SOCKET_BUFFER_BYTES);

fn serve(context: &ServerContext<'_>) -> io::Result<()> {
    let link = Link::bind()?;
    (context.ready)(Ready { address: link.socket.local_addr()?, secret: String::new() });
    let started = Instant::now();
    let mut sessions: HashMap<SocketAddr, (Session, Responder)> = HashMap::new();
    let mut buffer = vec![0; usize::from(context.packet_bytes)];
    loop {
        let now = Instant::now();
        if context.waiting == Waiting::Polling {
            context.stalls.turn(now);
        } else {
            let due = sessions.values().filter_map(|(session, _)| session.due(now)).min();
            wait_readable(&link.socket, due.unwrap_or(now + SLEEP_MAX))?;
        }
        for _ in 0..PACKETS_PER_TURN_MAX {
            let Some((length, from)) = link.receive(&mut buffer)? else { break };
            let packet = &buffer[..length];
            if length < ::kcp::KCP_OVERHEAD
                || (sessions.len() == SESSIONS_MAX && !sessions.contains_key(&from))
            {
                continue;
            }
            let new = || {
                (
                    Session::new(get_conv(packet), &link, from, started, context.packet_bytes),
                    Responder::default(),
                )
            };
            let (session, responder) = sessions.entry(from).or_insert_with(new);
            session.update(now)?;
            session.input(packet);
            if session.answer(responder)? {
                session.flush()?;
            }
        }
        for (session, _) in sessions.values_mut() {
            session.update(now)?;
            session.flush()?;
        }
    }
}

fn connect(context: &ClientContext<'_>) -> io::Result<Box<dyn Client>> {
    let link = Link::bind()?;
    // Any number does: the server tells its clients apart by their addresses.
    let session = Session::new(1, &link, context.ready.address, Instant::now(), context.packet_bytes);
    Ok(Box::new(KcpClient { link, session, buffer: vec![0; usize::from(context.packet_bytes)] }))
}

/// A socket that can send batches.
#[derive(Clone)]
struct Link {
    socket: Rc<UdpSocket>,
    batches: Rc<UdpSocketState>,
}

impl Link {
    fn bind() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        // It turns on GRO and its control messages on the socket that it is made of, which is therefore another.
        let batches = UdpSocketState::new((&UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?).into())?;
        Ok(Self { socket: Rc::new(socket), batches: Rc::new(batches) })
    }

    /// One packet and its sender; nothing when none has come.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        match self.socket.recv_from(buffer) {
            Ok(received) => Ok(Some(received)),
            Err(error) if is_momentary(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Nothing there, no room, or an earlier packet found nobody.
fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}

/// Where the machine's packets go: gathered while they have one size, for the kernel to cut.
struct Outgoing {
    link: Link,
    to: SocketAddr,
    batch: Vec<u8>,
    packet_bytes: usize,
}

impl Outgoing {
    fn takes(&self, packet_bytes: usize) -> bool {
        let count = self.batch.len() / self.packet_bytes.max(1);
        packet_bytes <= self.packet_bytes
            && self.batch.len().is_multiple_of(self.packet_bytes)
            && self.batch.len() + packet_bytes <= BATCH_BYTES_MAX
            && count < self.link.batches.max_gso_segments()
    }

    /// Sends what was gathered. What finds no room is lost as on the way, and sent again like that.
    fn transmit(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let is_one = self.batch.len() <= self.packet_bytes;
        let sent = if is_one {
            self.link.socket.send_to(&self.batch, self.to).map(drop)
        } else {
            let transmit = Transmit {
                destination: self.to,
                ecn: None,
                contents: &self.batch,
                segment_size: Some(self.packet_bytes),
                src_ip: None,
            };
            self.link.batches.try_send((&*self.link.socket).into(), &transmit)
        };
        self.batch.clear();
        match sent {
            Err(error) if !is_momentary(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// What the machine writes its packets to.
struct Output(Rc<RefCell<Outgoing>>);

impl Write for Output {
    fn write(&mut self, packet: &[u8]) -> io::Result<usize> {
        let mut outgoing = self.0.borrow_mut();
        if !outgoing.batch.is_empty() && !outgoing.takes(packet.len()) {
            outgoing.transmit()?;
        }
        if outgoing.batch.is_empty() {
            outgoing.packet_bytes = packet.len();
        }
        outgoing.batch.extend_from_slice(packet);
        Ok(packet.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end of an association.
struct Session {
    kcp: Kcp<Output>,
    outgoing: Rc<RefCell<Outgoing>>,
    started: Instant,
    updated_ms: u32,
    /// There are messages or acknowledgements to send.
    is_flush_due: bool,
    message: Vec<u8>,
}

impl Session {
    fn new(number: u32, link: &Link, to: SocketAddr, started: Instant, packet_bytes: u16) -> Self {
        let outgoing = Outgoing { link: link.clone(), to, batch: Vec::new(), packet_bytes: 0 };
        let outgoing = Rc::new(RefCell::new(outgoing));
        let mut kcp = Kcp::new(number, Output(outgoing.clone()));
        kcp.set_nodelay(true, INTERVAL_MS, FAST_RESEND, true);
        kcp.set_wndsize(WINDOW_PACKETS, WINDOW_PACKETS);
        // It refuses less than its own header.
        let _ = kcp.set_mtu(usize::from(packet_bytes));
        Self {
            kcp,
            outgoing,
            started,
            updated_ms: u32::MAX,
            is_flush_due: false,
            message: vec![0; message_bytes_max(packet_bytes)],
        }
    }

    /// Tells the machine the time, in its unit.
    fn update(&mut self, now: Instant) -> io::Result<()> {
        let now_ms = self.ms(now);
        if now_ms != self.updated_ms {
            self.updated_ms = now_ms;
            self.kcp.update(now_ms).map_err(io::Error::from)?;
            self.outgoing.borrow_mut().transmit()?;
        }
        if self.kcp.is_dead_link() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the other end of a KCP association is gone"));
        }
        Ok(())
    }

    /// When the machine has to be told again; none while nothing is under way.
    fn due(&self, now: Instant) -> Option<Instant> {
        let is_idle = self.kcp.wait_snd() == 0;
        (!is_idle).then(|| now + Duration::from_millis(u64::from(self.kcp.check(self.ms(now)).max(1))))
    }

    fn ms(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.started).as_millis() as u32
    }

    /// Takes a packet. One that is none of this association is dropped.
    fn input(&mut self, packet: &[u8]) {
        let _ = self.kcp.input(packet);
        self.is_flush_due = true;
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.is_flush_due = true;
        self.kcp.send(message).map(drop).map_err(io::Error::from)
    }

    /// Sends what is due: messages, acknowledgements, packets again.
    fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_flush_due) {
            return Ok(());
        }
        self.kcp.flush().map_err(io::Error::from)?;
        self.outgoing.borrow_mut().transmit()
    }

    /// The next message that is whole.
    fn receive(&mut self) -> Option<&[u8]> {
        let length = self.kcp.recv(&mut self.message).ok()?;
        Some(&self.message[..length])
    }

    /// Whether there was something to answer.
    fn answer(&mut self, responder: &mut Responder) -> io::Result<bool> {
        let mut any = false;
        while let Ok(length) = self.kcp.recv(&mut self.message) {
            if let Some(reply) = responder.handle_message(&self.message[..length]) {
                self.kcp.send(reply).map_err(io::Error::from)?;
                any = true;
            }
        }
        Ok(any)
    }
}

struct KcpClient {
    link: Link,
    session: Session,
    buffer: Vec<u8>,
}

impl KcpClient {
    /// Takes packets until a message is whole; says whether one was.
    fn receive(&mut self, on_message: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
        for _ in 0..PACKETS_PER_TURN_MAX {
            let Some((length, _)) = self.link.receive(&mut self.buffer)? else { break };
            self.session.input(&self.buffer[..length]);
            let mut any = false;
            while let Some(message) = self.session.receive() {
                on_message(message);
                any = true;
            }
            if any {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Client for KcpClient {
    fn send(&mut self, message: &[u8]) -> io::Result<Sent> {
        if self.session.kcp.wait_snd() >= QUEUE_PACKETS_MAX {
            return Ok(Sent::Full);
        }
        self.session.send(message)?;
        Ok(Sent::Taken)
    }

    fn poll(&mut self, wait_until: Option<Instant>, on_message: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let was_full = self.session.kcp.wait_snd() >= QUEUE_PACKETS_MAX;
        loop {
            let now = Instant::now();
            self.session.update(now)?;
            // Not when it falls due: the acknowledgement of a message leaves with the next one.
            self.session.flush()?;
            if let Some(deadline) = wait_until {
                let wake_at = self.session.due(now).map_or(deadline, |due| due.min(deadline));
                wait_readable(&self.link.socket, wake_at)?;
            }
            let received = self.receive(on_message)?;
            let has_room = was_full && self.session.kcp.wait_snd() < QUEUE_PACKETS_MAX;
            match wait_until {
                Some(deadline) if !received && !has_room && Instant::now() < deadline => {}
                _ => return Ok(()),
            }
        }
    }
}
