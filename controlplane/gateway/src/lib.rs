//! WebSocket and REST for browsers and Yjs editors.
//!
//! The gateway lets editors in that know nothing of Quantum: it speaks the y-websocket dialect with them and
//! is itself one client of the nodes, with one subscription for each open document. It holds no state that
//! anybody would miss: what an editor sent is passed on at once and confirmed when a node has made it
//! durable; what a gateway loses when it ends, the editors bring again.
//!
//! It must never show an empty document in place of one whose state has not arrived, never drop a frame
//! silently, and never pass on what it could not decode.
//!
//! | route | what |
//! |---|---|
//! | `GET /y/{document}` | a WebSocket in the y-websocket dialect; `?token=` or a bearer token |
//! | `POST /v1/sessions` | creates a session from `{user, grants?, ttl_s?}`: API key |
//! | `GET`, `DELETE /v1/sessions/{id}` | shows, revokes it: API key |
//! | `GET /v1/documents/{id}` | `?format=text` (`&name=`, else `content`), `json` (`&name=`), `update` (`&since=`), `state-vector`; as it was with `&at=sequence:N`, `ms:N` or `version:NAME`; `versions` lists their names |
//! | `POST /v1/documents/{id}` | applies a Yjs update (v1), or names the document as it is by `?version=NAME`; answers when that is durable |
//! | `DELETE /v1/documents/{id}` | deletes it for everybody: access `admin`; answers when that is durable |
//! | `GET /healthz`, `/readyz`, `/metrics` | alive; can open documents; Prometheus text |
//! | `GET /` | the playground |
//!
//! Errors are problem documents (RFC 9457) with a stable `code`; sockets are closed with a code from 4400 to
//! 4499 when trying again is of no use.

mod assets;
mod config;
mod control;
mod documents;
mod gateway;
mod metrics;
mod outbox;
mod presence;
mod refusal;
mod replica;
mod rest;
mod socket;
mod upstream;
mod yproto;

pub use config::GatewayConfig;
pub use gateway::{Gateway, StartError};
