//! The optional transports through real servers in processes of their own.
#![cfg(feature = "peers")]

mod alone;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alone::alone;
use perf::peer::{Client, MESSAGE_HEADER_BYTES, MessageHeader, Ready, Request, Sent, read_total};
use perf::peers::{ClientContext, PACKET_BYTES, Peer, find};
use perf::result::Waiting;

/// How long anything may take on a machine that does other things besides.
const PATIENCE: Duration = Duration::from_secs(30);

const PEERS: [&str; 4] = ["quinn-stream", "quinn-datagram", "s2n-quic", "kcp"];

/// A server that ends with the test: its standard input closes.
struct Server {
    child: Child,
    ready: Ready,
}

impl Server {
    fn start(peer: &str, waiting: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_aether-perf"))
            .args(["serve", "peer", peer, "--waiting", waiting, "--core", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says that it is ready");
        Self { child, ready: serde_json::from_str(&line).expect("in the agreed form") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Calls `test` with each peer in each form of waiting, its server running.
fn with_each(test: impl Fn(Peer, &ClientContext<'_>)) {
    let _alone = alone();
    for name in PEERS {
        for (waiting, text) in [(Waiting::Polling, "polling"), (Waiting::Blocking, "blocking")] {
            let server = Server::start(name, text);
            test(
                find(name).expect("it is built"),
                &ClientContext { ready: &server.ready, waiting, packet_bytes: PACKET_BYTES },
            );
        }
    }
}

fn message(request: Request, number: u64, bytes: usize) -> Vec<u8> {
    let mut message = vec![0xa5; bytes];
    MessageHeader { request, number }.write(&mut message);
    message
}

fn send(client: &mut dyn Client, message: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while client.send(message).expect("it is connected") == Sent::Full {
        assert!(Instant::now() < deadline, "there is never room");
        client.poll(Some(deadline), &mut |_| {}).expect("it is connected");
    }
}

/// The next message; none comes while `client` is in its polling form unless it is asked again.
fn receive(client: &mut dyn Client) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    let mut received = None;
    while received.is_none() {
        assert!(Instant::now() < deadline, "no reply");
        client
            .poll(Some(deadline), &mut |message| received = Some(message.to_vec()))
            .expect("it is connected");
    }
    received.unwrap_or_default()
}

#[test]
fn an_echo_comes_back_as_it_was_sent() {
    with_each(|peer, context| {
        let mut client = (peer.connect)(context).expect("it connects");
        for (number, bytes) in [(0, 64), (1, MESSAGE_HEADER_BYTES), (2, 1_024)] {
            let sent = message(Request::Echo, number, bytes);
            send(&mut *client, &sent);
            assert!(receive(&mut *client) == sent, "{} {:?}: message {number}", peer.name, context.waiting);
        }
    });
}

#[test]
fn the_longest_message_that_a_peer_promises_gets_through() {
    with_each(|peer, context| {
        let mut client = (peer.connect)(context).expect("it connects");
        let sent = message(Request::Echo, 0, (peer.message_bytes_max)(PACKET_BYTES));
        send(&mut *client, &sent);
        assert!(receive(&mut *client) == sent, "{} {:?}", peer.name, context.waiting);
    });
}

#[test]
fn what_a_reliable_peer_took_is_counted_to_the_byte() {
    const MESSAGES: u64 = 500;
    with_each(|peer, context| {
        if !peer.reliable {
            return;
        }
        let mut client = (peer.connect)(context).expect("it connects");
        let bytes = 64 << 10;
        for number in 0..MESSAGES {
            send(&mut *client, &message(Request::Sink, number, bytes));
            client.poll(None, &mut |_| {}).expect("it is connected");
        }
        send(&mut *client, &message(Request::Total, MESSAGES, MESSAGE_HEADER_BYTES));
        let total = read_total(&receive(&mut *client)).expect("a total");
        assert_eq!(total, MESSAGES * bytes as u64, "{} {:?}", peer.name, context.waiting);
    });
}

#[test]
fn a_crowd_is_connected_when_it_has_grown() {
    with_each(|peer, context| {
        if let Some(gather) = peer.gather {
            let mut crowd = gather(context).expect("an endpoint");
            crowd.grow(70).expect("they connect");
            crowd.grow(1).expect("it connects");
            crowd.poll().expect("they stay");
        }
    });
}

#[test]
fn a_deadline_ends_the_wait_where_nothing_comes() {
    with_each(|peer, context| {
        let mut client = (peer.connect)(context).expect("it connects");
        let deadline = Instant::now() + Duration::from_millis(5);
        while Instant::now() < deadline {
            client.poll(Some(deadline), &mut |_| {}).expect("it is connected");
        }
        assert!(deadline.elapsed() < PATIENCE / 2, "{} {:?}", peer.name, context.waiting);
    });
}
