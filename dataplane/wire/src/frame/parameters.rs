//! PARAMETERS frames: what each side can take, said once.

use super::TYPE_PARAMETERS;
use crate::varint::{Malformed, Reader, Writer, varint_len};

/// The longest PARAMETERS frame's body.
pub const PARAMETERS_BYTES_MAX: usize = 128;

macro_rules! parameters {
    ($($(#[doc = $doc:literal])+ $name:ident = $id:literal;)+) => {
        /// What the sender of a PARAMETERS frame can take, sent once in the handshake.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Parameters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Parameters {
            /// Those that are not zero, which is what is taken for one that is left out.
            fn fields(&self) -> impl Iterator<Item = (u64, u64)> {
                [$(($id, self.$name)),+].into_iter().filter(|(_, value)| *value != 0)
            }

            fn set(&mut self, id: u64, value: u64) {
                match id {
                    $($id => self.$name = value,)+
                    _ => {}
                }
            }
        }
    };
}

parameters! {
    /// The largest datagram.
    datagram_bytes_max = 1;
    /// Silence after which it drops the connection.
    idle_timeout_ms = 2;
    /// The longest that it holds back an acknowledgement.
    max_ack_delay_us = 3;
    /// The first credit of the connection.
    max_data = 4;
    /// The first credit of each reliable channel.
    max_channel_data = 5;
    /// The largest message.
    message_bytes_max = 6;
    /// The first half of the token that resets the connection, from a node (`PROTOCOL.md`, section "Stateless
    /// reset").
    reset_token_high = 7;
    /// Its second half.
    reset_token_low = 8;
    /// How many symbols back it can use repairs; none: it decodes none.
    fec_window = 9;
    /// The node's time when it opened the connection, Unix milliseconds, from a node.
    unix_ms = 10;
    /// The node that a client's first packet is for; none: any.
    audience = 11;
}

impl Parameters {
    pub(super) fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let mut parameters = Self::default();
        while !reader.is_empty() {
            let id = reader.varint("parameter id")?;
            parameters.set(id, reader.varint("parameter value")?);
        }
        Ok(parameters)
    }
}

/// Writes PARAMETERS: at most [`PARAMETERS_BYTES_MAX`] and three bytes.
pub fn put_parameters(out: &mut Writer<'_>, parameters: &Parameters) {
    let bytes: usize = parameters.fields().map(|(id, value)| varint_len(id) + varint_len(value)).sum();
    out.put_u8(TYPE_PARAMETERS);
    out.put_varint(bytes as u64);
    for (id, value) in parameters.fields() {
        out.put_varint(id);
        out.put_varint(value);
    }
}
