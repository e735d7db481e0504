//! What a node has after it was started over its own log.

use std::time::Duration;

use aetherflow_client::{Client, ClientError, DocumentEvent, DocumentKind, JoinOptions};
use editing::{Contents, Replica, Script};
use tokio::time::timeout;

use super::load::LoadError;

/// How long a node may take to send a document.
const STATE_TIMEOUT: Duration = Duration::from_secs(30);

/// A document as somebody sees it who joins only now.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Its text.
    pub(crate) text: String,
    /// How many ops of the script it lacks.
    pub(crate) ops_missing: usize,
}

/// Joins the document and looks for every op of `script` in it.
pub(crate) async fn recovered(client: &Client, id: &str, script: &Script) -> Result<Recovered, LoadError> {
    let replica = timeout(STATE_TIMEOUT, replica(client, id)).await;
    let replica = replica.map_err(|_| LoadError::NotJoined { document: id.to_owned() })??;
    let contents = Contents::read(&replica.encode()).map_err(LoadError::State)?;
    let ops_missing = script.ops.iter().filter(|op| !contents.contains(op)).count();
    Ok(Recovered { text: replica.text(), ops_missing })
}

/// The whole document.
async fn replica(client: &Client, id: &str) -> Result<Replica, LoadError> {
    let mut replica = Replica::new();
    let mut document = client.join(id, DocumentKind::Yjs, JoinOptions::default())?;
    while let Some(event) = document.next_event().await {
        match event {
            DocumentEvent::State(update) | DocumentEvent::Op { payload: update, .. } => {
                replica.apply(&[update]).map_err(|(_, reason)| LoadError::State(reason))?;
            }
            DocumentEvent::CaughtUp => return Ok(replica),
            DocumentEvent::Closed { code, text } => return Err(LoadError::Closed { code, text }),
            _ => {}
        }
    }
    Err(LoadError::Client(ClientError::Closed))
}
