//! A look at packets before they are sealed, for those who tell what two ends say to each other.

use std::fmt;

/// Is shown every packet once it is written, before it is sealed: its header (32 bytes) and its frames. Packets that are
/// repeated byte for byte, and those that hold no frames, are not shown. Simulators and tests set one in
/// [`Config::tap`](crate::Config::tap); where there is none, it costs a comparison a packet.
pub trait PacketTap: fmt::Debug + Send + Sync {
    /// A packet is about to be sealed and sent.
    fn on_packet(&self, header: &[u8], frames: &[u8]);
}
