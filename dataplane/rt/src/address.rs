//! Socket addresses as the kernel writes them (`sockaddr_in`, `sockaddr_in6`), without `unsafe`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either family, bytes. `sockaddr_in6` needs 28; the rest keeps what follows aligned to 16.
pub(crate) const NAME_BYTES: usize = 32;
const IN_BYTES: usize = 16;
const IN6_BYTES: usize = 28;

const _: () = assert!(IN6_BYTES == size_of::<libc::sockaddr_in6>() && IN6_BYTES <= NAME_BYTES);
const _: () = assert!(IN_BYTES == size_of::<libc::sockaddr_in>());

/// A kernel socket address, aligned as the kernel's own.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name(pub(crate) [u8; NAME_BYTES]);

impl Name {
    pub(crate) const EMPTY: Self = Self([0; NAME_BYTES]);

    /// Writes `address` and returns the length of the name.
    pub(crate) fn set(&mut self, address: SocketAddr) -> u32 {
        let name = &mut self.0;
        name[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                name[4..8].copy_from_slice(&v4.ip().octets());
                name[8..IN_BYTES].fill(0);
                IN_BYTES as u32
            }
            SocketAddr::V6(v6) => {
                name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                name[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                name[8..24].copy_from_slice(&v6.ip().octets());
                name[24..IN6_BYTES].copy_from_slice(&v6.scope_id().to_ne_bytes());
                IN6_BYTES as u32
            }
        }
    }
}

/// The address in `name`; `None` for another family or a short name.
pub(crate) fn parse(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(array(name, 0)?));
    let port = u16::from_be_bytes(array(name, 2)?);
    match family {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(array::<4>(name, 4)?), port).into()),
        libc::AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(
            Ipv6Addr::from(array::<16>(name, 8)?),
            port,
            u32::from_ne_bytes(array(name, 4)?),
            u32::from_ne_bytes(array(name, 24)?),
        ))),
        _ => None,
    }
}

/// `address` on another port.
pub(crate) fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_to_the_kernel_and_back() {
        for text in ["127.0.0.1:4433", "255.1.2.3:65535", "[::1]:1", "[fe80::1%7]:4433", "[::ffff:1.2.3.4]:9"]
        {
            let address: SocketAddr = text.parse().expect(text);
            let mut name = Name([0xff; NAME_BYTES]);
            let len = name.set(address) as usize;
            assert_eq!(parse(&name.0[..len]), Some(address), "{text}");
        }
    }

    #[test]
    fn a_short_or_foreign_name_is_refused() {
        let mut name = Name::EMPTY;
        name.set("[::1]:1".parse().expect("address"));
        assert_eq!(parse(&name.0[..IN6_BYTES - 1]), None);
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
