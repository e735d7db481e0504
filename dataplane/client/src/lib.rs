//! The client library: an application's way to speak with the cores that own its documents.
//!
//! A [`Client`] stands for one writer. It gets tickets from a [`TicketSource`] (usually the control plane),
//! opens one Quantum connection to every shard that owns a document it joined, and keeps them: it reconnects,
//! resumes, follows documents that move, and sends every op again until the node has acknowledged it as
//! durable. A [`Document`] takes ops and gives events; it can be split into a writer and a reader.
//!
//! All connections of a client are driven by one tokio task, which works on a current-thread runtime as
//! well. What it must never do: drop an op that it accepted, or an event that the application has not
//! read. When a budget is exhausted, [`DocumentWriter::apply`] waits, and an application that does not read
//! its events makes the node wait.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use aetherflow_client::{Client, ControlPlane, DocumentEvent, DocumentKind, JoinOptions};
//!
//! let control = ControlPlane::connect("http://127.0.0.1:7401", "the session's token").await?;
//! let client = Client::builder(control).connect().await?;
//! let mut notes = client.join("team/notes", DocumentKind::Opaque, JoinOptions::default())?;
//! notes.apply("hello".into()).await?;
//! while let Some(event) = notes.next_event().await {
//!     if let DocumentEvent::Op { sequence, payload } = event {
//!         println!("{sequence}: {payload:?}");
//!     }
//! }
//! # Ok(()) }
//! ```

mod backoff;
mod client;
mod config;
pub mod control;
mod document;
mod driver;
mod error;
mod event_queue;
mod placement;
mod presence;
mod requests;
mod session;
mod shared;
mod stats;
mod ticket;
mod unacked;

pub use client::{Client, ClientBuilder};
pub use config::ClientConfig;
pub use control::ControlPlane;
pub use document::{
    Document, DocumentEvent, DocumentEvents, DocumentWriter, JoinOptions, OpId, PresenceState,
};
pub use error::ClientError;
pub use placement::{NodePlace, Owner, PlacementMap, Route};
pub use quantum::{Config as TransportConfig, ControllerKind, FecConfig};
pub use requests::{At, PastState, Version};
pub use stats::ClientStats;
pub use ticket::{IssuedTicket, TicketRefusal, TicketSource};
pub use wire::sync::DocumentKind;
