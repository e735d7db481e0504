//! One UDP port for all shards: a reuseport group steered by the shard byte of the connection id.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Result, RtError, address};

use wire::header::SHARD_BYTE_OFFSET;
use wire::limits::SHARDS_MAX;

// The shard's number is one byte of the connection GUUID in the Quantum header.
const _: () = assert!(SHARDS_MAX <= 1 << u8::BITS);

const BUFFER_BYTES_DEFAULT: usize = 4 << 20;
const RELEASE_WAIT_DEFAULT: Duration = Duration::from_secs(1);
const RELEASE_POLL: Duration = Duration::from_millis(5);

/// How the sockets of a group are set up.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Kernel receive buffer of each socket, bytes. Over `net.core.rmem_max` only with CAP_NET_ADMIN.
    pub receive_buffer_bytes: usize,
    /// Kernel send buffer of each socket, bytes. Over `net.core.wmem_max` only with CAP_NET_ADMIN.
    pub send_buffer_bytes: usize,
    /// Set the don't-fragment bit and leave the path's size to the transport.
    pub dont_fragment: bool,
    /// How long a port that is in use may stay so before that is an error.
    pub release_wait: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: BUFFER_BYTES_DEFAULT,
            send_buffer_bytes: BUFFER_BYTES_DEFAULT,
            dont_fragment: true,
            release_wait: RELEASE_WAIT_DEFAULT,
        }
    }
}

/// Binds `shards` sockets to one UDP `address` (port 0: the kernel picks one port for all). A datagram goes to
/// the socket whose index is its byte [`wire::header::SHARD_BYTE_OFFSET`] modulo `shards`.
///
/// The order of binding is the order of indices in the group, which is why one thread binds them all.
///
/// # Errors
/// [`RtError::PortInUse`] when another process (even one that would share the port) has it, [`RtError::Bind`],
/// [`RtError::ShardCount`], [`RtError::Socket`].
pub fn bind_group(address: SocketAddr, shards: usize, options: &SocketOptions) -> Result<Vec<UdpSocket>> {
    if !(1..=SHARDS_MAX).contains(&shards) {
        return Err(RtError::ShardCount { shards, max: SHARDS_MAX });
    }
    if address.port() != 0 {
        refuse_a_shared_port(address, options.release_wait)?;
    }
    let mut group: Vec<UdpSocket> = Vec::with_capacity(shards);
    let mut shared = address;
    for _ in 0..shards {
        let socket = open(address)?;
        socket.set_reuse_port(true).map_err(failed("setsockopt SO_REUSEPORT"))?;
        configure(&socket, address, options)?;
        socket.bind(&shared.into()).map_err(|source| bind_error(shared, source))?;
        let socket = UdpSocket::from(socket);
        let bound = socket.local_addr().map_err(failed("getsockname"))?;
        shared = address::with_port(address, bound.port());
        group.push(socket);
    }
    // The program belongs to the whole group, whichever member it is attached through.
    if shards > 1 {
        steer(group[0].as_raw_fd(), shards)?;
    }
    Ok(group)
}

/// SO_REUSEPORT would let us share the port silently with another process of the same user: ask without it
/// first. The kernel releases the sockets of a killed io_uring process a moment after the process is gone, so
/// a port that is in use gets that moment.
fn refuse_a_shared_port(address: SocketAddr, release_wait: Duration) -> Result<()> {
    let give_up = Instant::now() + release_wait;
    loop {
        let bound = open(address)?.bind(&address.into());
        match bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                std::thread::sleep(RELEASE_POLL);
            }
            bound => return bound.map_err(|source| bind_error(address, source)),
        }
    }
}

fn open(address: SocketAddr) -> Result<Socket> {
    Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(failed("socket"))
}

fn bind_error(address: SocketAddr, source: io::Error) -> RtError {
    match source.kind() {
        io::ErrorKind::AddrInUse => RtError::PortInUse { address },
        _ => RtError::Bind { address, source },
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> RtError {
    move |source| RtError::Socket { what, source }
}

fn configure(socket: &Socket, address: SocketAddr, options: &SocketOptions) -> Result<()> {
    let fd = socket.as_raw_fd();
    let forced = |option, bytes: usize| set_int(fd, libc::SOL_SOCKET, option, clamp_int(bytes)).is_ok();
    // The forced forms pass the system's limit and need a privilege; the plain ones are cut to the limit.
    if !forced(libc::SO_RCVBUFFORCE, options.receive_buffer_bytes) {
        socket.set_recv_buffer_size(options.receive_buffer_bytes).map_err(failed("setsockopt SO_RCVBUF"))?;
    }
    if !forced(libc::SO_SNDBUFFORCE, options.send_buffer_bytes) {
        socket.set_send_buffer_size(options.send_buffer_bytes).map_err(failed("setsockopt SO_SNDBUF"))?;
    }
    if options.dont_fragment {
        let (level, option, probe) = match address {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        };
        set_int(fd, level, option, probe).map_err(failed("setsockopt IP_MTU_DISCOVER"))?;
        if address.is_ipv6() {
            // A socket that takes IPv4 as well has this one besides.
            let _ = set_int(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
        }
    }
    Ok(())
}

/// One classic BPF instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    operand: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

/// `return payload[31] % shards`. The kernel sees the UDP payload from offset 0; a load past the end returns 0.
fn steering_program(shards: usize) -> [Instruction; 3] {
    let instruction =
        |code: u32, operand| Instruction { code: code as u16, jump_true: 0, jump_false: 0, operand };
    [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, SHARD_BYTE_OFFSET as u32),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, shards as u32),
        instruction(libc::BPF_RET | libc::BPF_A, 0),
    ]
}

/// Attaches the program to the group that `fd` belongs to.
fn steer(fd: RawFd, shards: usize) -> Result<()> {
    let mut program = steering_program(shards);
    let filter: &mut [Instruction] = &mut program;
    let header = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr().cast() };
    // SAFETY: `header` points at `len` instructions laid out as `sock_filter` (asserted above) that live across
    // the call; the kernel copies and verifies them.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const header).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(failed("setsockopt SO_ATTACH_REUSEPORT_CBPF")(io::Error::last_os_error()));
    }
    Ok(())
}

fn clamp_int(bytes: usize) -> i32 {
    // The kernel doubles what it is given.
    i32::try_from(bytes).unwrap_or(i32::MAX).min(i32::MAX / 2)
}

/// An option of a socket that is an int.
pub(crate) fn get_int(fd: RawFd, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` and `length` are writable, and `length` says how much of `value` there is.
    let result = unsafe { libc::getsockopt(fd, level, option, (&raw mut value).cast(), &raw mut length) };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn set_int(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let bytes = bytemuck::bytes_of(&value);
    // SAFETY: the option takes an int, and `bytes` is one that lives across the call.
    let result =
        unsafe { libc::setsockopt(fd, level, option, bytes.as_ptr().cast(), bytes.len() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn a_datagram_reaches_the_shard_that_its_byte_names() {
        const SHARDS: usize = 3;
        let group = bind_group(loopback(0), SHARDS, &SocketOptions::default()).expect("group");
        let to = group[0].local_addr().expect("address");
        let sender = UdpSocket::bind(loopback(0)).expect("sender");
        let mut received = [0u8; 64];
        for socket in &group {
            assert_eq!(socket.local_addr().expect("address"), to);
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        }
        for byte in 0..=u8::MAX {
            let mut datagram = [byte.wrapping_add(1); 48];
            datagram[SHARD_BYTE_OFFSET] = byte;
            sender.send_to(&datagram, to).expect("send");
            let shard = usize::from(byte) % SHARDS;
            let (len, _) = group[shard].recv_from(&mut received).expect("the datagram at its shard");
            assert_eq!(received[..len], datagram, "shard {shard}");
        }
        // Too short to name a shard: the first one.
        sender.send_to(&[0xff; 31], to).expect("send");
        assert_eq!(group[0].recv_from(&mut received).expect("the short datagram").0, 31);
    }

    #[test]
    fn a_port_in_use_is_an_error_even_if_it_could_be_shared() {
        let holder = bind_group(loopback(0), 1, &SocketOptions::default()).expect("holder");
        let address = holder[0].local_addr().expect("address");
        let error = bind_group(address, 2, &SocketOptions::default()).expect_err("a shared port");
        assert!(matches!(error, RtError::PortInUse { .. }), "{error}");
        assert!(error.to_string().contains(&address.port().to_string()), "{error}");
    }

    #[test]
    fn a_foreign_address_is_named_in_the_error() {
        let address: SocketAddr = "192.0.2.1:4433".parse().expect("address");
        let error = bind_group(address, 1, &SocketOptions::default()).expect_err("a foreign address");
        assert!(error.to_string().contains("192.0.2.1:4433"), "{error}");
    }

    #[test]
    fn a_shard_count_beyond_the_byte_is_refused() {
        for shards in [0, SHARDS_MAX + 1] {
            let error = bind_group(loopback(0), shards, &SocketOptions::default()).expect_err("shards");
            assert!(matches!(error, RtError::ShardCount { .. }), "{error}");
        }
    }
}
