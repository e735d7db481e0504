//! The gateway's own client: one writer that carries the ops of all browsers to the nodes.

use std::time::Duration;

use aetherflow_client::{
    Client, ClientConfig, ClientError, ControlPlane, Document, DocumentKind, JoinOptions, TicketRefusal,
    TransportConfig,
};
use tokio::sync::Mutex;
use wire::{Access, Grant};

use crate::refusal::Refusal;

/// The gateway's session lives this long; a new one is made when it is over.
const SESSION_TTL_S: u32 = 30 * 24 * 3_600;
/// While a document of before is being left, how often the join is tried again.
const REJOIN_AFTER: Duration = Duration::from_millis(20);

/// Makes the client when first needed, and anew when its session is over.
#[derive(Debug)]
pub(crate) struct Upstream {
    control_url: String,
    api_key: Option<String>,
    transport: TransportConfig,
    client: Mutex<Option<Client>>,
}

impl Upstream {
    pub(crate) fn new(control_url: String, api_key: Option<String>, transport: TransportConfig) -> Self {
        Self { control_url, api_key, transport, client: Mutex::new(None) }
    }

    /// Whether the client has its ticket, or gets one now.
    pub(crate) async fn ready(&self) -> Result<(), Refusal> {
        self.client().await.map(drop)
    }

    /// Opens a document.
    pub(crate) async fn join(&self, document: &str) -> Result<Document, Refusal> {
        let options = JoinOptions { pushes_missing: true, ..JoinOptions::default() };
        loop {
            let client = self.client().await?;
            match client.join(document, DocumentKind::Yjs, options.clone()) {
                Ok(joined) => return Ok(joined),
                Err(ClientError::AlreadyJoined(_)) => tokio::time::sleep(REJOIN_AFTER).await,
                Err(ClientError::Closed | ClientError::Refused(_) | ClientError::WriterChanged) => {
                    self.discard(&client).await;
                    return Err(Refusal::Unavailable("the gateway's session is being renewed".to_owned()));
                }
                Err(error) => return Err(Refusal::Unavailable(error.to_string())),
            }
        }
    }

    /// Waits until everything is durable, then closes the connections; false: something was not.
    pub(crate) async fn close(&self, timeout: Duration) -> bool {
        match self.client.lock().await.take() {
            Some(client) => client.close(timeout).await,
            None => true,
        }
    }

    async fn client(&self) -> Result<Client, Refusal> {
        let mut current = self.client.lock().await;
        if let Some(client) = &*current {
            return Ok(client.clone());
        }
        let client = self.connect().await?;
        Ok(current.insert(client).clone())
    }

    async fn connect(&self) -> Result<Client, Refusal> {
        let refused = |refusal: TicketRefusal| Refusal::Unavailable(format!("control plane: {refusal}"));
        let grants = [Grant { pattern: "*".to_owned(), access: Access::Admin }];
        let api_key = self.api_key.as_deref();
        let session =
            ControlPlane::create_session(&self.control_url, "gateway", &grants, api_key, SESSION_TTL_S);
        let session = session.await.map_err(refused)?;
        let tickets = ControlPlane::connect(&self.control_url, session.token).await.map_err(refused)?;
        let config = ClientConfig { transport: self.transport.clone(), ..ClientConfig::default() };
        let client = Client::builder(tickets).config(config).connect().await;
        client.map_err(|error| Refusal::Unavailable(error.to_string()))
    }

    async fn discard(&self, over: &Client) {
        let mut current = self.client.lock().await;
        if current.as_ref().is_some_and(|client| client.writer_id() == over.writer_id()) {
            *current = None;
        }
    }
}
