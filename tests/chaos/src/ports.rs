//! Ports that stay the node's while it is down.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;

/// Below the ports that the kernel hands out by itself (`ip_local_port_range`, ip(7)): one of those could be anybody's by the
/// time a killed node starts again.
const PORTS: Range<u16> = 10_000..32_768;

/// So many ports of 127.0.0.1, free for TCP and UDP. Processes begin to look in different places.
///
/// # Errors
/// All ports of the range are in use.
pub(crate) fn free_ports<const N: usize>(process: u32) -> io::Result<[u16; N]> {
    let count = u32::from(PORTS.end - PORTS.start);
    // A prime, so that processes with numbers close to each other begin far apart.
    let begin = process.wrapping_mul(7_919) % count;
    let candidates = (0..count).map(|at| PORTS.start + ((begin + at) % count) as u16);
    let mut free = candidates.filter(|&port| is_free(port));
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free.next().ok_or(io::ErrorKind::AddrInUse)?;
    }
    Ok(ports)
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_or_one_that_anybody_may_get_is_taken_or_one_twice() {
        let process = std::process::id();
        let [first, second] = free_ports(process).unwrap();
        assert!(first != second && PORTS.contains(&first) && PORTS.contains(&second));
        let _tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let _udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, second)).unwrap();
        let [third, fourth] = free_ports(process).unwrap();
        assert!(![first, second].contains(&third) && ![first, second].contains(&fourth));
    }
}
