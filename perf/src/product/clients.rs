//! Clients of a load.

use std::time::Duration;

use aetherflow_client::{
    Client, ClientConfig, ClientStats, ControlPlane, Document, DocumentEvent, DocumentKind, IssuedTicket,
    JoinOptions, PlacementMap, TicketRefusal, TicketSource,
};
use tokio::time::timeout;

use super::target::DOCUMENT_PREFIX;
use crate::error::{Error, Result};

/// How long a document may take to open.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long clients have to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// So many clients, each with a ticket and connections of its own.
///
/// # Errors
/// One of them got no ticket.
pub async fn connect(tickets: &ControlPlane, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let client = Client::builder(tickets.clone()).config(ClientConfig::default()).connect().await;
        clients.push(client.map_err(|error| Error::doing("connecting a client of the load", error))?);
    }
    Ok(clients)
}

/// As [`connect`], but this share of them takes the next shard of the node for the owner of each document, and does not
/// go to the right one on its advice.
///
/// # Errors
/// One of them got no ticket.
pub async fn connect_astray(tickets: &ControlPlane, count: usize, share: f64) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        // Evenly among the others.
        let is_astray = ((number + 1) as f64 * share).floor() > (number as f64 * share).floor();
        let config = ClientConfig { follow_advice: !is_astray, ..ClientConfig::default() };
        let tickets = Astray { tickets: tickets.clone(), is_astray };
        let client = Client::builder(tickets).config(config).connect().await;
        clients.push(client.map_err(|error| Error::doing("connecting a client of the load", error))?);
    }
    Ok(clients)
}

/// Tickets with a map that sends each document to the next shard of its node.
struct Astray {
    tickets: ControlPlane,
    is_astray: bool,
}

impl TicketSource for Astray {
    async fn ticket(&self, previous: Option<&[u8]>) -> std::result::Result<IssuedTicket, TicketRefusal> {
        let mut issued = self.tickets.ticket(previous).await?;
        if self.is_astray {
            let PlacementMap { nodes, owners, .. } = &mut issued.map;
            for owner in owners {
                let shards =
                    nodes.iter().find(|place| place.node == owner.node).map_or(1, |place| place.shards);
                owner.shard = (owner.shard + 1) % shards.max(1);
            }
        }
        Ok(issued)
    }
}

/// Begins to join a document, for its content or for presence alone.
///
/// # Errors
/// The client refuses.
pub fn join(client: &Client, id: &str, content: bool) -> Result<Document> {
    let joined = client.join(id, DocumentKind::Yjs, JoinOptions { content, ..JoinOptions::default() });
    joined.map_err(|error| Error::doing(format!("joining {id}"), error))
}

/// Waits until the node has opened the document, and sent what is in it; how many bytes its state was.
///
/// # Errors
/// It was refused, or not opened in time.
pub async fn opened(document: &mut Document) -> Result<u64> {
    let id = document.writer().id().to_owned();
    let failed = |what: String| Error::doing(format!("joining {id}"), what);
    let opened = async {
        let mut state_bytes = 0;
        while let Some(event) = document.next_event().await {
            match event {
                DocumentEvent::State(state) => state_bytes = state.len() as u64,
                DocumentEvent::CaughtUp => return Ok(state_bytes),
                DocumentEvent::Closed { code, text } => return Err(failed(format!("{code}: {text}"))),
                _ => {}
            }
        }
        Err(failed("the client was closed".to_owned()))
    };
    let late = |_| failed(format!("it is not open after {} s", JOIN_TIMEOUT.as_secs()));
    timeout(JOIN_TIMEOUT, opened).await.map_err(late)?
}

/// The beginning of the ids of documents that nobody had before.
pub fn fresh_documents(clients: &[Client]) -> String {
    // The ids of writers are given once.
    let writer = clients.first().map(|client| client.writer_id().to_string()).unwrap_or_default();
    format!("{DOCUMENT_PREFIX}/{writer}")
}

/// Closes all of them; the sum of their counters.
pub async fn close(clients: Vec<Client>) -> ClientStats {
    let mut total = ClientStats::default();
    for client in clients {
        let stats = client.stats();
        total.packets_sent += stats.packets_sent;
        total.packets_received += stats.packets_received;
        total.bytes_sent += stats.bytes_sent;
        total.bytes_received += stats.bytes_received;
        total.packets_lost += stats.packets_lost;
        total.reconnects += stats.reconnects;
        total.ops_retried += stats.ops_retried;
        // What is not durable by now was counted as lost.
        let _all_durable = client.close(CLOSE_TIMEOUT).await;
    }
    total
}
