//! The relay's loop: datagrams in, through the links, out again when they are due.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::net::{SocketAddr, UdpSocket};

use hdrhistogram::Histogram;
use netem::{Direction, LinkStats, Path, PathDelivery, PathSpec, Random};
use quinn_udp::EcnCodepoint;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use wire::{Span, Time};

use super::clients::{ClientKey, Clients};
use super::clock::Clock;
use super::control::{Control, Order};
use super::socket::{Batch, Socket, Target, Train, datagrams};
use super::summary::Summary;
use crate::error::{Error, Result};

/// Names the listening socket among epoll's events; clients are named by their slots.
const LISTEN: u64 = u64::MAX;
/// Names the control.
const CONTROL: u64 = u64::MAX - 1;
/// Events of one turn.
const EVENTS_MAX: usize = 64;
/// Reads of one socket in a turn, so that others have theirs.
const READS_MAX: usize = 4;
/// Clients that a relay can be told to take.
pub const CLIENTS_MAX: usize = 65_536;

/// What a relay does.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Where it listens; port 0 for any.
    pub listen: SocketAddr,
    /// The server.
    pub to: SocketAddr,
    /// What lies between.
    pub network: PathSpec,
    /// What fates follow from, with the order in which clients come.
    pub seed: u64,
    /// Whether all clients share one bottleneck and its fates, or each has a network of its own.
    pub is_shared: bool,
    /// Clients at most, up to [`CLIENTS_MAX`].
    pub clients_max: usize,
    /// Gives each client another address towards the server now and then, as a NAT does.
    pub rebind_every: Option<Span>,
}

/// What travels with a datagram.
#[derive(Clone, Copy, Debug)]
struct Tag {
    client: ClientKey,
    ecn: Option<EcnCodepoint>,
}

/// A network, and when the relay will next look at it.
struct Lane {
    path: Path<(Tag, Vec<u8>)>,
    scheduled: Option<Time>,
}

/// A bound relay.
pub struct Relay {
    options: RelayOptions,
    clock: Clock,
    address: SocketAddr,
    listen: Socket,
    epoll: OwnedFd,
    clients: Clients,
    lanes: Vec<Lane>,
    timers: BinaryHeap<Reverse<(Time, usize)>>,
    next_rebind: Option<Time>,
    batch: Batch,
    train: Train,
    /// Of lanes that another client has now.
    retired: [LinkStats; 2],
    refused: u64,
    send_failed: u64,
    late_us: Histogram<u32>,
}

impl Relay {
    /// Binds its socket.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(options: RelayOptions) -> Result<Self> {
        let listen = UdpSocket::bind(options.listen).and_then(Socket::new).map_err(|error| {
            let hint = "name another address with --listen, or port 0 for a free one";
            Error::doing(format!("the relay cannot listen on {} ({hint})", options.listen), error)
        })?;
        let address = listen
            .local_address()
            .map_err(|error| Error::doing("the relay's address is not known", error))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| Error::doing("the relay cannot watch sockets", io::Error::from(error)))?;
        watch(&epoll, &listen, LISTEN)?;
        let clock = Clock::start();
        let mut relay = Self {
            clients: Clients::new(options.clients_max.min(CLIENTS_MAX)),
            next_rebind: options.rebind_every.map(|every| clock.now() + every),
            clock,
            address,
            listen,
            epoll,
            lanes: Vec::new(),
            timers: BinaryHeap::new(),
            batch: Batch::new(),
            train: Train::default(),
            retired: [LinkStats::default(); 2],
            refused: 0,
            send_failed: 0,
            late_us: Histogram::new(3).map_err(|error| Error::doing("no histogram can be made", error))?,
            options,
        };
        if relay.options.is_shared {
            relay.add_lane(0, 0);
        }
        Ok(relay)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What became of the packets so far.
    pub fn summary(&self) -> Summary {
        let sum = |direction| {
            let mut sum = self.retired[direction as usize];
            self.lanes.iter().for_each(|lane| sum += lane.path.stats(direction));
            sum
        };
        Summary {
            clients: self.clients.ever,
            refused: self.refused,
            up: sum(Direction::Up),
            down: sum(Direction::Down),
            send_failed: self.send_failed,
            overrun: self.overrun(),
            late_us: (&self.late_us).into(),
        }
    }

    /// Relays until it is told to end. Every `tick`, if there is one, and when asked for the counters, it shows itself.
    ///
    /// # Errors
    /// A socket broke in a way that is no network's fault.
    pub fn run(
        &mut self,
        control: &mut Control,
        tick: Option<Span>,
        show: &mut dyn FnMut(&Self, Shown),
    ) -> Result<()> {
        watch(&self.epoll, control, CONTROL)?;
        let broken = |error: io::Error| Error::doing("the relay broke", error);
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut next_tick = tick.map(|tick| self.clock.now() + tick);
        loop {
            let timer = self.timers.peek().map(|Reverse((at, _))| *at);
            let until = [timer, self.next_rebind, next_tick].into_iter().flatten().min();
            self.clock.wait(&self.epoll, until, &mut events).map_err(|error| broken(error.into()))?;
            for event in &events {
                match event.data.u64() {
                    LISTEN => self.receive_up().map_err(broken)?,
                    CONTROL => match control.take() {
                        Some(Order::End) => return Ok(()),
                        Some(Order::Summary) => show(self, Shown::Asked),
                        None => (),
                    },
                    slot => self.receive_down(usize::try_from(slot).unwrap_or(usize::MAX)).map_err(broken)?,
                }
            }
            self.deliver();
            let now = self.clock.now();
            if self.next_rebind.is_some_and(|at| at <= now) {
                self.rebind(now)?;
            }
            if next_tick.is_some_and(|at| at <= now) {
                next_tick = tick.map(|tick| now + tick);
                show(self, Shown::Tick);
            }
        }
    }

    /// Takes what clients sent.
    fn receive_up(&mut self) -> io::Result<()> {
        for _ in 0..READS_MAX {
            let count = self.listen.receive(&mut self.batch)?;
            let (now, unix_now) = (self.clock.now(), Clock::unix_now());
            let batch = std::mem::take(&mut self.batch);
            for (meta, train) in batch.trains(count) {
                let at = Clock::of(now, unix_now, meta.timestamp);
                let known = self.clients.find(meta.addr, now);
                let Some(client) = known.or_else(|| self.admit(meta.addr, meta.dst_ip, now)) else {
                    self.refused += datagrams(meta, train).count() as u64;
                    continue;
                };
                let lane = self.lane_of(client.slot);
                for datagram in datagrams(meta, train) {
                    let tag = Tag { client, ecn: meta.ecn };
                    self.lanes[lane].path.handle_up(at, (tag, datagram.to_vec()));
                }
                self.schedule(lane);
            }
            self.batch = batch;
            if count < quinn_udp::BATCH_SIZE {
                break;
            }
        }
        Ok(())
    }

    /// Takes what the server sent to the client in a slot.
    fn receive_down(&mut self, slot: usize) -> io::Result<()> {
        for _ in 0..READS_MAX {
            // Its turn may have come after its client had gone.
            let Some((key, client)) = self.clients.in_slot(slot) else {
                return Ok(());
            };
            let count = client.upstream.receive(&mut self.batch)?;
            let (now, unix_now) = (self.clock.now(), Clock::unix_now());
            let lane = self.lane_of(slot);
            let path = &mut self.lanes[lane].path;
            let mapping = path.mapping();
            for (meta, train) in self.batch.trains(count) {
                let at = Clock::of(now, unix_now, meta.timestamp);
                for datagram in datagrams(meta, train) {
                    let tag = Tag { client: key, ecn: meta.ecn };
                    path.handle_down(at, mapping, (tag, datagram.to_vec()));
                }
            }
            self.schedule(lane);
            if count < quinn_udp::BATCH_SIZE {
                break;
            }
        }
        Ok(())
    }

    /// Makes room for a new client, if there is any.
    fn admit(
        &mut self,
        address: SocketAddr,
        local_ip: Option<std::net::IpAddr>,
        now: Time,
    ) -> Option<ClientKey> {
        // No file descriptor left is no room, either.
        let key = self.clients.insert(address, local_ip, self.options.to, now).ok()??;
        let client = self.clients.get(key)?;
        watch(&self.epoll, &client.upstream, key.slot as u64).ok()?;
        if !self.options.is_shared {
            self.add_lane(key.slot, self.clients.ever);
        }
        Some(key)
    }

    /// A new network for the client in a slot, in place of that of the client before it.
    fn add_lane(&mut self, index: usize, number: u64) {
        let seed = Random::stream(self.options.seed, number).next_u64();
        let lane = Lane { path: Path::new(self.options.network.clone(), seed), scheduled: None };
        match self.lanes.get_mut(index) {
            Some(old) => {
                let old = std::mem::replace(old, lane);
                for direction in [Direction::Up, Direction::Down] {
                    self.retired[direction as usize] += old.path.stats(direction);
                }
            }
            None => self.lanes.push(lane),
        }
    }

    fn lane_of(&self, slot: usize) -> usize {
        if self.options.is_shared { 0 } else { slot }
    }

    /// Looks at a lane again when it has something.
    fn schedule(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if let Some(at) = lane.path.poll_timeout()
            && lane.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            lane.scheduled = Some(at);
            self.timers.push(Reverse((at, index)));
        }
    }

    /// Sends what is due.
    fn deliver(&mut self) {
        // What becomes due meanwhile has to wait for what comes meanwhile.
        let now = self.clock.now();
        while let Some(&Reverse((at, index))) = self.timers.peek().filter(|Reverse((at, _))| *at <= now) {
            self.timers.pop();
            // A timer that an earlier one has replaced.
            if self.lanes[index].scheduled == Some(at) {
                self.lanes[index].scheduled = None;
                self.deliver_lane(index, now);
                self.schedule(index);
            }
        }
    }

    fn deliver_lane(&mut self, index: usize, now: Time) {
        let path = &mut self.lanes[index].path;
        // The socket of the train, by its client; none for the listening one.
        let mut last: Option<Option<ClientKey>> = None;
        while let Some(PathDelivery { direction, due, payload: (tag, datagram), .. }) = path.poll_packet(now)
        {
            // A histogram that grows by itself takes every value.
            let _ = self.late_us.record(now.since(due).as_us());
            let through = (direction == Direction::Up).then_some(tag.client);
            if last.is_some_and(|last| last != through) {
                self.send_failed += flush(&mut self.train, &self.clients, &self.listen, last.flatten());
            }
            last = Some(through);
            let Some(client) = self.clients.get(tag.client) else {
                continue;
            };
            let ecn = tag.ecn;
            let (socket, target) = match direction {
                Direction::Up => (&client.upstream, Target { to: self.options.to, from: None, ecn }),
                Direction::Down => (&self.listen, Target { to: client.address, from: client.local_ip, ecn }),
            };
            self.send_failed += self.train.push(socket, target, &datagram);
        }
        if let Some(through) = last {
            self.send_failed += flush(&mut self.train, &self.clients, &self.listen, through);
        }
    }

    /// Gives every client another address towards the server.
    fn rebind(&mut self, now: Time) -> Result<()> {
        for lane in &mut self.lanes {
            lane.path.rebind();
        }
        for slot in self.clients.slots() {
            self.clients
                .rebind(slot, self.options.to)
                .map_err(|error| Error::doing("a client cannot be given another socket", error))?;
            if let Some((_, client)) = self.clients.in_slot(slot) {
                watch(&self.epoll, &client.upstream, slot as u64)?;
            }
        }
        self.next_rebind = self.options.rebind_every.map(|every| now + every);
        Ok(())
    }

    /// Datagrams that the kernel dropped because we did not read them in time; 0 where there is no procfs.
    fn overrun(&self) -> u64 {
        let slots = self.clients.slots().into_iter();
        let upstreams = slots.filter_map(|slot| self.clients.in_slot(slot)?.1.upstream.local_address().ok());
        let ports: BTreeSet<u16> =
            upstreams.map(|address| address.port()).chain([self.address.port()]).collect();
        let drops_of = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
            fields.last()?.parse::<u64>().ok().filter(|_| ports.contains(&port))
        };
        let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(std::fs::read_to_string);
        tables.iter().flatten().flat_map(|table| table.lines().skip(1).filter_map(drops_of)).sum()
    }
}

/// Why a relay shows itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// It was time.
    Tick,
    /// It was asked for its counters.
    Asked,
}

/// Sends the train through the socket of a client, or to one. A client that has gone takes its train with it.
fn flush(train: &mut Train, clients: &Clients, listen: &Socket, through: Option<ClientKey>) -> u64 {
    match through {
        None => train.flush(listen),
        Some(key) => clients.get(key).map_or(0, |client| train.flush(&client.upstream)),
    }
}

fn watch(epoll: &OwnedFd, source: &impl AsFd, name: u64) -> Result<()> {
    epoll::add(epoll, source, EventData::new_u64(name), EventFlags::IN)
        .map_err(|error| Error::doing("the relay cannot watch a socket", io::Error::from(error)))
}
