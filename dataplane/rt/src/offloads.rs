//! What a network device does in the processor's place, asked of its driver (SIOCETHTOOL); reading needs no privilege.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Commands of linux/ethtool.h that read one number.
const GET_RX_CHECKSUM: u32 = 0x14;
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_SCATTER_GATHER: u32 = 0x18;
const GET_GSO: u32 = 0x23;
const GET_GRO: u32 = 0x2b;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq` with the pointer that SIOCETHTOOL reads, padded to the size of its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: *mut Value,
    rest: [u8; 16],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

/// A device's offloads; none: its driver does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// It sums up what is received.
    pub rx_checksum: Option<bool>,
    /// It sums up what is sent.
    pub tx_checksum: Option<bool>,
    /// It sends from several pages: needed to send without a copy.
    pub scatter_gather: Option<bool>,
    /// Trains are cut after the network stack has dealt with them.
    pub gso: Option<bool>,
    /// Trains are put together before the network stack deals with them.
    pub gro: Option<bool>,
}

/// Asks the driver of `interface`.
///
/// # Errors
/// The kernel's, for want of a socket, or when there is no such interface.
pub fn offloads(interface: &str) -> io::Result<Offloads> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let ask = |command| get(&socket, interface, command);
    let found = Offloads {
        rx_checksum: ask(GET_RX_CHECKSUM)?,
        tx_checksum: ask(GET_TX_CHECKSUM)?,
        scatter_gather: ask(GET_SCATTER_GATHER)?,
        gso: ask(GET_GSO)?,
        gro: ask(GET_GRO)?,
    };
    Ok(found)
}

/// One number; none when the driver does not know the command.
fn get(socket: &UdpSocket, interface: &str, command: u32) -> io::Result<Option<bool>> {
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut value = Value { command, data: 0 };
    let mut request = Request { name: [0; libc::IFNAMSIZ], value: &raw mut value, rest: [0; 16] };
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    // SAFETY: the request has the size and the layout of the kernel's, its name ends in a zero, and the value that it
    // points at lives through the call and is what these commands read and write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == 0 {
        return Ok(Some(value.data != 0));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPERM | libc::ENOTTY) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_cannot_be_asked() {
        let found = offloads("lo").expect("every machine has it");
        assert_eq!(found.gso, Some(true), "{found:?}");
        assert!(offloads("no-such-device").is_err());
        assert!(offloads("a-name-that-is-too-long").is_err());
    }
}
