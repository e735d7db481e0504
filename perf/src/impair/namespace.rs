//! `aether-perf netns`: a command inside network namespaces of its own, where the kernel loses packets (nftables) and
//! slows them down (the token bucket filter). For root; without, and for everything else a network does to packets,
//! there is the relay, which may run inside as well.
//!
//! Without a server command there is one namespace, whose loopback interface is impaired: whatever runs inside and
//! speaks to itself meets it. With one there are two, joined by a pair of virtual Ethernet interfaces: the server at
//! 10.99.0.1, the command at 10.99.0.2. All goes when the command ends, however it ends; what a killed run has left
//! behind goes when the next one starts.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};

use netem::{Capacity, LinkSpec, PathSpec, QueueLimit};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getuid, kill_process, kill_process_group, pidfd_open};

use crate::error::{Error, Result};

/// All namespaces begin with it; the process and the side follow.
const PREFIX: &str = "aether-perf-";
/// Where `ip` keeps names of namespaces.
const NAMES: &str = "/run/netns";
/// The interface at each end of the pair. Each end is in a namespace of its own.
const PAIR: &str = "aether0";
/// The interface of a namespace alone.
const LOOPBACK: &str = "lo";
/// Of the server and of the command.
const ADDRESSES: [&str; 2] = ["10.99.0.1/24", "10.99.0.2/24"];
/// Where a server command can be reached, for the environment of the command.
const SERVER_ADDRESS: (&str, &str) = ("AETHER_PERF_SERVER_ADDRESS", "10.99.0.1");
/// The bucket holds what the rate brings in so many parts of a second…
const BURST_PARTS_OF_A_SECOND: u64 = 250;
/// … and no less than ten full Ethernet frames.
const BURST_BYTES_MIN: u64 = 10 * FRAME_BYTES_MAX;
/// With its header.
const FRAME_BYTES_MAX: u64 = 1_514;
/// The queue holds what passes in so many parts of a second, and no less than the bucket.
const QUEUE_PARTS_OF_A_SECOND: u64 = 10;

const _: () = assert!(QUEUE_PARTS_OF_A_SECOND < BURST_PARTS_OF_A_SECOND);

/// The command line of `netns`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct NamespaceArgs {
    /// What the kernel is to do: loss, rate and queue, such as 'loss=1% rate=50mbit down.queue=200kb'.
    #[arg(long, value_name = "SPEC", default_value = "clean")]
    pub network: String,
    /// A server, run by the shell in a namespace of its own, at 10.99.0.1.
    #[arg(long, value_name = "COMMAND")]
    pub server: Option<String>,
    /// What to run inside; its exit status becomes ours.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

const EXAMPLES: &str = "Examples:\n  \
    aether-perf netns --network 'loss=1% rate=100mbit' -- aether-perf rtt\n  \
    aether-perf netns --network 'loss=1%' --server 'iperf3 -s' -- iperf3 -c 10.99.0.1\n\
\nNeeds root, and the programs ip, tc and nft. This kernel command has no delay: run `aether-perf impair` inside.";

/// Runs a command inside. Its exit status is ours; 128 and the signal's number where a signal ended it.
///
/// # Errors
/// The network asks for what the kernel cannot do, this is not root, or a program is missing or failed.
pub fn run(args: &NamespaceArgs) -> Result<ExitCode> {
    let network = network(&args.network, args.server.is_some())?;
    if !getuid().is_root() {
        let hint =
            "network namespaces need root: run it with sudo, or use `aether-perf impair`, which does not";
        return Err(Error::Usage(hint.to_owned()));
    }
    // Before there is anything to clean up, so that no signal can prevent that.
    let signals = Signals::watch()?;
    sweep();
    let (inside, server) = match &args.server {
        None => (Namespace::alone(&network.up)?, None),
        Some(server) => {
            let [server_side, inside] = Namespace::pair(&network)?;
            let server = Server::start(server, server_side)?;
            (inside, Some(server))
        }
    };
    let mut command = inside.command(&args.command);
    if server.is_some() {
        command.env(SERVER_ADDRESS.0, SERVER_ADDRESS.1);
    }
    let mut child = command
        .spawn()
        .map_err(|error| Error::doing("the command inside the namespace does not start", error))?;
    let status = signals.wait(&mut child)?;
    drop(server);
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Reads what the kernel is to do; refuses what it cannot.
fn network(text: &str, has_server: bool) -> Result<PathSpec> {
    let network: PathSpec =
        text.parse().map_err(|error: netem::SpecError| Error::Usage(error.to_string()))?;
    for link in [&network.up, &network.down] {
        let LinkSpec { loss, capacity, queue, .. } = link.clone();
        let is_possible = !matches!(queue, Some(QueueLimit::Packets(_)))
            && LinkSpec { loss, capacity, queue, ..LinkSpec::default() } == *link;
        if !is_possible {
            let hint = "the kernel's part is loss, rate and queue (in bytes); run `aether-perf impair` inside for \
                        the rest";
            return Err(Error::Usage(format!("`{link}` asks for more than namespaces can do: {hint}")));
        }
    }
    if !has_server && network.up != network.down {
        let hint = "without --server there is one interface for both directions: they must be alike";
        return Err(Error::Usage(format!("`{network}`: {hint}")));
    }
    Ok(network)
}

/// A network namespace. Dropped, it is removed, and its interfaces with it.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(side: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{side}", std::process::id());
        execute("ip", &["netns", "add", &name], "")?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", LOOPBACK, "up"])?;
        Ok(namespace)
    }

    /// One whose loopback interface is impaired.
    fn alone(link: &LinkSpec) -> Result<Self> {
        let namespace = Self::new("alone")?;
        // Packets of the size that they have between machines.
        namespace.ip(&["link", "set", LOOPBACK, "mtu", "1500"])?;
        namespace.impair(LOOPBACK, link, link)?;
        Ok(namespace)
    }

    /// The server's and the client's, joined.
    fn pair(network: &PathSpec) -> Result<[Self; 2]> {
        let sides = [Self::new("server")?, Self::new("client")?];
        let [server, client] = &sides;
        let add = ["link", "add", PAIR, "netns", &server.name, "type", "veth"];
        let peer = ["peer", "name", PAIR, "netns", &client.name];
        execute("ip", &[&add[..], &peer].concat(), "")?;
        for (side, address) in sides.iter().zip(ADDRESSES) {
            side.ip(&["address", "add", address, "dev", PAIR])?;
            side.ip(&["link", "set", PAIR, "up"])?;
        }
        server.impair(PAIR, &network.down, &network.up)?;
        client.impair(PAIR, &network.up, &network.down)?;
        Ok(sides)
    }

    /// Slows down what leaves, and loses of what comes.
    fn impair(&self, device: &str, leaving: &LinkSpec, coming: &LinkSpec) -> Result<()> {
        // Trains of packets that the kernel keeps together would be lost and queued together, too.
        self.ip(&["link", "set", device, "gso_max_segs", "1"])?;
        if let Capacity::BitsPerS(bits_per_s) = leaving.capacity {
            let burst = (bits_per_s / 8 / BURST_PARTS_OF_A_SECOND).max(BURST_BYTES_MIN);
            let queue = match leaving.queue {
                Some(QueueLimit::Bytes(bytes)) => bytes,
                _ => bits_per_s / 8 / QUEUE_PARTS_OF_A_SECOND,
            };
            let (rate, limit, burst) =
                (format!("{bits_per_s}bit"), queue.max(burst).to_string(), burst.to_string());
            let qdisc = ["-n", &self.name, "qdisc", "add", "dev", device, "root", "tbf"];
            let tbf = ["rate", &rate, "burst", &burst, "limit", &limit];
            execute("tc", &[&qdisc[..], &tbf].concat(), "")?;
        }
        if coming.loss.get() > 0.0 {
            execute("ip", &["netns", "exec", &self.name, "nft", "-f", "-"], &loss_rules(device, coming))?;
        }
        Ok(())
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        execute("ip", &[&["-n", &self.name], arguments].concat(), "")
    }

    /// A command inside.
    fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn remove(name: &str) {
    if let Err(error) = execute("ip", &["netns", "delete", name], "") {
        eprintln!("the namespace {name} stays behind ({error}); remove it with `ip netns delete {name}`");
    }
}

/// Removes what runs that were killed have left behind.
fn sweep() {
    let Ok(names) = std::fs::read_dir(NAMES) else {
        return;
    };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}

/// Rules that lose packets of IP as they come in: there they are single packets.
fn loss_rules(device: &str, link: &LinkSpec) -> String {
    const PARTS: f64 = 1_000_000_000.0;
    let lost = (link.loss.get() * PARTS).round();
    format!(
        "table netdev aether_perf {{\n chain loss {{\n  type filter hook ingress device {device} priority 0; \
         policy accept;\n  meta protocol {{ ip, ip6 }} numgen random mod {PARTS} < {lost} counter drop\n }}\n}}\n"
    )
}

/// Runs a program of the system with a text as its standard input.
fn execute(program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let command = format!("{program} {}", arguments.join(" "));
    let spawned = Command::new(program)
        .args(arguments)
        // Ctrl-C is for the command inside.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let hint = "it comes with `apt-get install iproute2 nftables`";
    let mut child =
        spawned.map_err(|error| Error::doing(format!("`{program}` does not run ({hint})"), error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read it says why when it ends.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output =
        child.wait_with_output().map_err(|error| Error::doing(format!("`{command}` is lost"), error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Child { command, what: format!("ended ({}): {said} ({hint})", output.status) })
}

/// A server in its namespace. Dropped, it is ended before its namespace goes.
struct Server {
    child: Child,
    _namespace: Namespace,
}

impl Server {
    fn start(server: &str, namespace: Namespace) -> Result<Self> {
        let child = namespace
            .command(&["sh", "-c", server])
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| Error::doing("the server inside its namespace does not start", error))?;
        Ok(Self { child, _namespace: namespace })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The shell and whatever it started. One that has ended already needs no signal.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Signals that would end us before we have cleaned up.
struct Signals(UnixStream);

impl Signals {
    fn watch() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        let watch = || {
            let (ear, mouth) = UnixStream::pair()?;
            ear.set_nonblocking(true)?;
            for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
                signal_hook::low_level::pipe::register(signal, mouth.try_clone()?)?;
            }
            Ok::<_, std::io::Error>(Self(ear))
        };
        watch().map_err(|error| Error::doing("signals cannot be watched", error))
    }

    /// Waits for a child. A signal to us is one to it: the first asks it to end, another makes it.
    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let lost = |error: std::io::Error| Error::doing("the command inside the namespace is lost", error);
        let pid = Pid::from_child(child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| lost(error.into()))?;
        let mut asked = false;
        loop {
            let mut watched =
                [PollFd::new(&pidfd, PollFlags::IN), PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
            match poll(&mut watched, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => (),
                Err(error) => return Err(lost(error.into())),
            }
            if watched[0].revents().contains(PollFlags::IN) {
                return child.wait().map_err(lost);
            }
            let mut bytes = [0; 16];
            if (&self.0).read(&mut bytes).is_ok_and(|count| count > 0) {
                let signal = if asked { Signal::KILL } else { Signal::TERM };
                asked = true;
                // It may have ended just now.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_for_what_it_cannot_do() {
        for (text, has_server) in [
            ("delay=10ms", true),
            ("gilbert-elliott=1%,25%", true),
            ("rate=1mbit queue=10packets", true),
            ("up.loss=1%", false),
            ("los=1%", true),
        ] {
            let error = network(text, has_server).expect_err(text);
            assert_eq!(error.exit_status(), 2, "{text}");
        }
        assert!(network("loss=1% rate=10mbit queue=64kb", false).is_ok());
        assert!(network("up.loss=1% down.rate=10mbit", true).is_ok());
    }

    #[test]
    fn the_rules_lose_another_share() {
        let link: LinkSpec = "loss=1.5%".parse().expect("a link");
        assert!(loss_rules("lo", &link).contains("numgen random mod 1000000000 < 15000000 counter drop"));
        assert!(loss_rules("lo", &link).contains("device lo "));
    }
}
