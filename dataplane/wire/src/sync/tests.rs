//! Sync messages: what was written is what is read, and nothing else is.

use super::*;
use crate::limits::{DOCUMENT_ID_BYTES_MAX, PRESENCE_STATE_BYTES_MAX};

fn entries() -> Vec<PresenceEntry<'static>> {
    vec![
        PresenceEntry { client: u64::MAX, clock: 7, state: b"{}" },
        PresenceEntry { client: 1, clock: 0, state: b"" },
    ]
}

fn client_messages() -> Vec<Client<'static>> {
    let join = Join {
        handle: 3,
        kind: DocumentKind::Yjs,
        content: true,
        document: "notes/ü",
        resume: Some(ResumePoint { incarnation: 2, sequence: 1 << 40 }),
        state_vector: &[1, 2],
    };
    let fresh = Join { resume: None, state_vector: &[], content: false, ..join.clone() };
    vec![
        Client::Join(join),
        Client::Join(fresh),
        Client::Leave { handle: 9 },
        Client::Op { handle: 3, counter: 300, payload: b"update" },
        Client::Presence { handle: 3, entries: entries() },
        Client::Delete { handle: 3, request: 70_000 },
        Client::CreateVersion { handle: 3, request: 1, name: "before the ü" },
        Client::ListVersions { handle: 3, request: u32::MAX },
        Client::ReadAt { handle: 3, request: 2, at: At::Sequence(1 << 40) },
        Client::ReadAt { handle: 3, request: 3, at: At::UnixMs(1_700_000_000_000) },
        Client::ReadAt { handle: 3, request: 4, at: At::Version("v1") },
    ]
}

fn server_messages() -> Vec<Server<'static>> {
    vec![
        Server::Joined(Joined {
            handle: 3,
            document: 8,
            incarnation: 2,
            sequence: 5,
            state_sequence: 4,
            writer_counter: 4,
            state_bytes: 1 << 33,
            state_vector: &[0],
        }),
        Server::State { document: 8, bytes: b"state" },
        Server::Op { document: 8, sequence: 6, payload: b"" },
        Server::Ack { handle: 3, counter: 300, sequence: 6 },
        Server::Reject { handle: 3, counter: 1, code: Code::OpTooLarge, retry_after_ms: 0, text: "why" },
        Server::Presence { document: 8, entries: entries() },
        Server::Moved { handle: 3, epoch: 2, shard: 1, address: "10.0.0.1:4433" },
        Server::Advice { handle: 3, epoch: 2, shard: 255 },
        Server::Error { handle: 3, code: Code::Forbidden, retry_after_ms: 0, text: "" },
        Server::Error { handle: 3, code: Code::RateLimited, retry_after_ms: 300, text: "why" },
        Server::Done { handle: 3, request: 70_000, sequence: 9 },
        Server::Versions { handle: 3, request: 2, versions: vec![] },
        Server::Versions {
            handle: 3,
            request: 2,
            versions: vec![
                VersionEntry { name: "v1", sequence: 3, unix_ms: 1_700_000_000_000 },
                VersionEntry { name: "ü", sequence: 300, unix_ms: 0 },
            ],
        },
        Server::Past(Past { handle: 3, request: 2, sequence: 5, state_bytes: 1 << 33, state_vector: &[0] }),
        Server::PastState { handle: 3, request: 2, bytes: b"state" },
        Server::Refused { handle: 3, request: 2, code: Code::DocumentBusy, retry_after_ms: 20, text: "why" },
    ]
}

#[test]
fn a_message_changes_on_its_way() {
    for message in client_messages() {
        assert_eq!(Client::decode(&message.to_vec()).as_ref(), Ok(&message));
    }
    for message in server_messages() {
        assert_eq!(Server::decode(&message.to_vec()).as_ref(), Ok(&message));
    }
}

#[test]
fn a_message_with_bytes_behind_it_is_taken() {
    let mut message = Client::Leave { handle: 9 }.to_vec();
    message.push(0);
    assert_eq!(Client::decode(&message), Err(Malformed { what: "end of message", offset: 2 }));
}

#[test]
fn a_cut_or_changed_message_panics() {
    let mut all: Vec<_> = client_messages().iter().map(Client::to_vec).collect();
    all.extend(server_messages().iter().map(Server::to_vec));
    for message in all {
        for at in 0..message.len() {
            for value in 0..=255 {
                let mut changed = message.clone();
                changed[at] = value;
                let _ = (Client::decode(&changed), Server::decode(&changed));
            }
            let _ = (Client::decode(&message[..at]), Server::decode(&message[..at]));
        }
    }
}

#[test]
fn a_presence_count_takes_memory_before_it_is_true() {
    let message = [tag::PRESENCE, 0, 0x8f, 0x4e];
    assert!(Client::decode(&message).is_err());
}

#[test]
fn a_version_count_takes_memory_before_it_is_true() {
    assert!(Server::decode(&[tag::VERSIONS, 0, 0, 0xff, 0x07, 1, b'a', 0, 0]).is_err());
    assert!(Server::decode(&[tag::VERSIONS, 0, 0, 1, 1, b'a', 0, 0]).is_ok());
}

#[test]
fn a_version_without_or_with_an_overlong_name_is_taken() {
    for name in ["", &"x".repeat(crate::limits::VERSION_NAME_BYTES_MAX + 1)] {
        let named = Client::CreateVersion { handle: 1, request: 1, name };
        assert_eq!(Client::decode(&named.to_vec()).unwrap_err().what, "version name");
        let read = Client::ReadAt { handle: 1, request: 1, at: At::Version(name) };
        assert!(Client::decode(&read.to_vec()).is_err());
    }
}

#[test]
fn an_overlong_document_id_or_state_is_taken() {
    let long = "x".repeat(DOCUMENT_ID_BYTES_MAX + 1);
    let join = Join {
        handle: 0,
        kind: DocumentKind::Opaque,
        content: true,
        document: &long,
        resume: None,
        state_vector: &[],
    };
    assert_eq!(Client::decode(&Client::Join(join).to_vec()).unwrap_err().what, "document id");
    let state = vec![0; PRESENCE_STATE_BYTES_MAX + 1];
    let entries = vec![PresenceEntry { client: 1, clock: 1, state: &state }];
    assert!(Client::decode(&Client::Presence { handle: 0, entries }.to_vec()).is_err());
}
