//! Frames of a connection's life: its paths, its ids, its end.

use super::Frame;
use crate::guuid::Guuid;
use crate::varint::{Malformed, Reader, Writer};

/// Asks the other end of a path to say the same bytes.
pub const TYPE_PATH_CHALLENGE: u8 = 0x08;
/// The bytes of a challenge.
pub const TYPE_PATH_RESPONSE: u8 = 0x09;
/// One more id of the connection.
pub const TYPE_NEW_CONNECTION_ID: u8 = 0x0a;
/// One id less.
pub const TYPE_RETIRE_CONNECTION_ID: u8 = 0x0b;
/// No new messages will come.
pub const TYPE_FINISH: u8 = 0x40;

/// The bytes of a challenge.
pub const PATH_CHALLENGE_BYTES: usize = 8;
/// The bytes of a token that resets a connection.
pub const RESET_TOKEN_BYTES: usize = 16;
/// What PATH_CHALLENGE and PATH_RESPONSE take.
pub const PATH_FRAME_BYTES: usize = 1 + PATH_CHALLENGE_BYTES;
/// The most that NEW_CONNECTION_ID takes.
pub const NEW_CONNECTION_ID_BYTES_MAX: usize = 1 + 10 + 16 + RESET_TOKEN_BYTES;
/// The most that RETIRE_CONNECTION_ID takes.
pub const RETIRE_CONNECTION_ID_BYTES_MAX: usize = 1 + 10;

/// One more id of a connection, announced by its client and confirmed by its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewConnectionId {
    /// Its number; the first id of a connection has number 0.
    pub sequence: u64,
    /// The id.
    pub id: Guuid,
    /// From a node: what resets the connection under this id. From a client: zero.
    pub reset_token: [u8; RESET_TOKEN_BYTES],
}

/// Reads the body of a frame of this file; none: it is of another.
pub(super) fn decode<'a>(kind: u8, reader: &mut Reader<'a>) -> Option<Result<Frame<'a>, Malformed>> {
    let frame = match kind {
        TYPE_PATH_CHALLENGE => reader.array("PATH_CHALLENGE").map(Frame::PathChallenge),
        TYPE_PATH_RESPONSE => reader.array("PATH_RESPONSE").map(Frame::PathResponse),
        TYPE_NEW_CONNECTION_ID => decode_new_connection_id(reader).map(Frame::NewConnectionId),
        TYPE_RETIRE_CONNECTION_ID => reader.varint("RETIRE_CONNECTION_ID").map(Frame::RetireConnectionId),
        TYPE_FINISH => Ok(Frame::Finish),
        _ => return None,
    };
    Some(frame)
}

fn decode_new_connection_id(reader: &mut Reader<'_>) -> Result<NewConnectionId, Malformed> {
    let sequence = reader.varint("connection id's sequence")?;
    let id = Guuid::from_bytes(reader.array("connection id")?);
    let reset_token = reader.array("reset token")?;
    Ok(NewConnectionId { sequence, id, reset_token })
}

/// Writes PATH_CHALLENGE: [`PATH_FRAME_BYTES`].
pub fn put_path_challenge(out: &mut Writer<'_>, data: &[u8; PATH_CHALLENGE_BYTES]) {
    out.put_u8(TYPE_PATH_CHALLENGE);
    out.put(data);
}

/// Writes PATH_RESPONSE: [`PATH_FRAME_BYTES`].
pub fn put_path_response(out: &mut Writer<'_>, data: &[u8; PATH_CHALLENGE_BYTES]) {
    out.put_u8(TYPE_PATH_RESPONSE);
    out.put(data);
}

/// Writes NEW_CONNECTION_ID: at most [`NEW_CONNECTION_ID_BYTES_MAX`].
pub fn put_new_connection_id(out: &mut Writer<'_>, new: &NewConnectionId) {
    out.put_u8(TYPE_NEW_CONNECTION_ID);
    out.put_varint(new.sequence);
    out.put(new.id.as_bytes());
    out.put(&new.reset_token);
}

/// Writes RETIRE_CONNECTION_ID: at most [`RETIRE_CONNECTION_ID_BYTES_MAX`].
pub fn put_retire_connection_id(out: &mut Writer<'_>, sequence: u64) {
    out.put_u8(TYPE_RETIRE_CONNECTION_ID);
    out.put_varint(sequence);
}

/// Writes FINISH: one byte.
pub fn put_finish(out: &mut Writer<'_>) {
    out.put_u8(TYPE_FINISH);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(write: impl FnOnce(&mut Writer<'_>)) -> (usize, Vec<u8>) {
        let mut buffer = [0; 100];
        let mut writer = Writer::new(&mut buffer);
        write(&mut writer);
        let length = writer.len();
        (length, buffer[..length].to_vec())
    }

    fn assert_reads(expected: Frame<'_>, bytes_max: usize, write: impl FnOnce(&mut Writer<'_>)) {
        let (length, bytes) = read(write);
        assert!(length <= bytes_max);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Frame::decode(&mut reader), Ok(expected));
        assert!(reader.is_empty());
        for cut in 1..length {
            assert!(Frame::decode(&mut Reader::new(&bytes[..cut])).is_err(), "{cut} bytes of {expected:?}");
        }
    }

    #[test]
    fn a_frame_of_a_connections_life_reads_other_than_it_was_written() {
        let data = [9; PATH_CHALLENGE_BYTES];
        assert_reads(Frame::PathChallenge(data), PATH_FRAME_BYTES, |out| put_path_challenge(out, &data));
        assert_reads(Frame::PathResponse(data), PATH_FRAME_BYTES, |out| put_path_response(out, &data));
        let new = NewConnectionId {
            sequence: u64::MAX,
            id: Guuid::new(5, [3; 10]),
            reset_token: [8; RESET_TOKEN_BYTES],
        };
        assert_reads(Frame::NewConnectionId(new), NEW_CONNECTION_ID_BYTES_MAX, |out| {
            put_new_connection_id(out, &new);
        });
        assert_reads(Frame::RetireConnectionId(u64::MAX), RETIRE_CONNECTION_ID_BYTES_MAX, |out| {
            put_retire_connection_id(out, u64::MAX);
        });
        assert_reads(Frame::Finish, 1, put_finish);
    }
}
