use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::*;

/// Longer than anything here takes: what has not come by then is lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A relay on a thread of its own, and the server behind it.
struct Setup {
    relay: SocketAddr,
    server: UdpSocket,
    remote: Remote,
    thread: JoinHandle<Summary>,
}

impl Setup {
    fn new(network: &str, adapt: impl FnOnce(RelayOptions) -> RelayOptions) -> Self {
        let server = socket();
        let options = adapt(RelayOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            to: server.local_addr().expect("bound"),
            network: network.parse().expect("a network"),
            seed: 7,
            is_shared: false,
            clients_max: 16,
            rebind_every: None,
        });
        let (mut control, remote) = Control::new().expect("a socket");
        let mut relay = Relay::bind(options).expect("a free port");
        let address = relay.address();
        let thread = std::thread::spawn(move || {
            relay.run(&mut control, None, &mut |_, _| ()).expect("no socket broke");
            relay.summary()
        });
        Self { relay: address, server, remote, thread }
    }

    fn client(&self) -> UdpSocket {
        let client = socket();
        client.connect(self.relay).expect("an address");
        client
    }

    fn end(self) -> Summary {
        self.remote.end();
        self.thread.join().expect("the relay ran")
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_536];
    let (count, from) = socket.recv_from(&mut bytes).expect("it came in time");
    bytes.truncate(count);
    (bytes, from)
}

#[test]
fn a_reply_comes_too_early_or_to_another_client() {
    let setup = Setup::new("delay=20ms", |options| options);
    let clients = [setup.client(), setup.client(), setup.client()];
    let start = Instant::now();
    for (n, client) in (0_u8..).zip(&clients) {
        client.send(&[n; 100]).expect("room");
    }
    for _ in &clients {
        let (bytes, from) = receive(&setup.server);
        setup.server.send_to(&bytes, from).expect("room");
    }
    for (n, client) in (0_u8..).zip(&clients) {
        assert_eq!(receive(client).0, [n; 100]);
    }
    assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
    let summary = setup.end();
    assert_eq!((summary.clients, summary.up.delivered, summary.down.delivered), (3, 3, 3));
    assert_eq!((summary.refused, summary.send_failed), (0, 0));
}

#[test]
fn datagrams_are_glued_together_cut_or_swapped() {
    let setup = Setup::new("delay=5ms", |options| options);
    let client = setup.client();
    let lengths = [1_200, 1_200, 1_200, 600, 1_200, 1_200, 0, 1, 2, 1, 9_000, 9_000, 9_000, 20_000, 300, 300];
    for (n, &length) in (0_u8..).zip(&lengths) {
        client.send(&vec![n; length]).expect("room");
    }
    let mut client_seen = None;
    for (n, &length) in (0_u8..).zip(&lengths) {
        let (bytes, from) = receive(&setup.server);
        assert_eq!(bytes, vec![n; length]);
        setup.server.send_to(&bytes, from).expect("room");
        assert_eq!(*client_seen.get_or_insert(from), from);
    }
    for (n, &length) in (0_u8..).zip(&lengths) {
        assert_eq!(receive(&client).0, vec![n; length]);
    }
    assert_eq!(setup.end().send_failed, 0);
}

#[test]
fn equal_seeds_lose_other_packets() {
    let survivors = |seed| {
        let setup = Setup::new("delay=1ms up.loss=30%", |options| RelayOptions { seed, ..options });
        let client = setup.client();
        for n in 0..200_u8 {
            client.send(&[n]).expect("room");
        }
        client.send(b"end").expect("room");
        // The relay has read everything when it has lost or delivered everything.
        let mut seen = Vec::new();
        setup.server.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let mut bytes = [0; 16];
        while let Ok((count, _)) = setup.server.recv_from(&mut bytes) {
            seen.push(bytes[..count].to_vec());
        }
        let summary = setup.end();
        assert_eq!(summary.up.delivered, seen.len() as u64);
        assert_eq!(summary.up.taken, 201);
        seen
    };
    let first = survivors(3);
    assert_eq!(first, survivors(3));
    assert_ne!(first, survivors(4));
}

#[test]
fn a_client_too_many_is_served_or_dropped_uncounted() {
    let setup = Setup::new("clean", |options| RelayOptions { clients_max: 1, ..options });
    let (first, second) = (setup.client(), setup.client());
    first.send(b"1").expect("room");
    assert_eq!(receive(&setup.server).0, b"1");
    second.send(b"2").expect("room");
    first.send(b"3").expect("room");
    assert_eq!(receive(&setup.server).0, b"3");
    let summary = setup.end();
    assert_eq!((summary.clients, summary.refused, summary.up.taken), (1, 1, 2));
}

#[test]
fn a_rebinding_keeps_the_address_or_cuts_the_client_off() {
    let every = Some(Span::from_ms(1));
    let setup = Setup::new("clean", |options| RelayOptions { rebind_every: every, ..options });
    let client = setup.client();
    client.send(b"a").expect("room");
    let (_, first) = receive(&setup.server);
    let mut second = first;
    let start = Instant::now();
    while second == first && start.elapsed() < TIMEOUT {
        client.send(b"b").expect("room");
        second = receive(&setup.server).1;
    }
    assert_ne!(first, second);
    let summary = setup.end();
    assert_eq!(summary.clients, 1);
}

#[test]
fn a_shared_bottleneck_gives_each_client_all_of_it() {
    // A packet of 972 bytes and its headers takes 10 ms at 800 kbit/s; the queue holds 3.
    let shared =
        Setup::new("rate=800kbit queue=3packets", |options| RelayOptions { is_shared: true, ..options });
    let clients = [shared.client(), shared.client()];
    for client in clients.iter().cycle().take(8) {
        client.send(&[0; 972]).expect("room");
    }
    for _ in 0..3 {
        receive(&shared.server);
    }
    let summary = shared.end();
    assert_eq!((summary.clients, summary.up.taken), (2, 8));
    assert!(summary.up.dropped_queue > 0, "{summary:?}");
}

#[test]
fn the_options_of_the_command_line_describe_another_network() {
    use clap::Parser;
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
    let spec = |words: &[&str]| {
        let words = ["impair", "--to", "127.0.0.1:1"].iter().chain(words);
        Cli::parse_from(words).args.options().map(|options| options.network.to_string())
    };
    let network = spec(&[
        "--preset",
        "lossy",
        "--delay-ms",
        "2.5",
        "--jitter-ms",
        "1",
        "--jitter-reorders",
        "--gilbert-elliott",
        "1%,50%",
        "--reorder",
        "1%",
        "--rate-mbit",
        "8",
        "--queue-kb",
        "64",
        "--blackhole",
        "1s,10ms",
    ]);
    let words = "delay=2500us jitter=1ms jitter-reorders=yes loss=0.01 gilbert-elliott=0.01,0.5,100%,0 \
                 reorder=0.01,5ms rate=8mbit queue=64kb blackhole=1s,10ms";
    assert_eq!(network.expect("a network"), words);
    for wrong in [
        &["--loss", "120%"][..],
        &["--preset", "wify"],
        &["--network", "delays=1ms"],
        &["--trace-up", "/nowhere/a.trace"],
        &["--delay-ms", "1", "--network", "delay=2ms"],
        &["--listen", "[::1]:0"],
    ] {
        assert_eq!(spec(wrong).expect_err("refused").exit_status(), 2, "{wrong:?}");
    }
}
