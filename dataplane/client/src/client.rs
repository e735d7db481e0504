//! The client as the application holds it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::Guuid;
use wire::sync::DocumentKind;

use crate::config::ClientConfig;
use crate::document::{Document, JoinOptions};
use crate::driver;
use crate::error::ClientError;
use crate::placement::Route;
use crate::shared::{Command, PingTarget, Shared};
use crate::stats::ClientStats;
use crate::ticket::{TicketRefusal, TicketSource};

/// One writer's connection to the cluster; clones stand for the same one.
///
/// When the last clone and the last document are dropped, what was applied is still sent, for at most
/// [`ClientConfig::drop_timeout`], as long as the runtime lives; [`Client::close`] waits for it.
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What keeps the driving task alive.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    drop_timeout: Duration,
    session_id: Guuid,
    writer_id: Guuid,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.command(Command::Close { deadline: Instant::now() + self.drop_timeout, done: None });
    }
}

/// Makes a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder<T> {
    tickets: T,
    config: ClientConfig,
}

impl<T: TicketSource> ClientBuilder<T> {
    /// Replaces the default settings.
    #[must_use]
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Gets the first ticket and starts the driving task on the current tokio runtime. Connections are
    /// opened when documents are joined.
    pub async fn connect(self) -> Result<Client, ClientError> {
        self.config.validate()?;
        let transport = self.config.transport.clone();
        let ticket = self.tickets.ticket(None).await.map_err(|refusal| match refusal {
            TicketRefusal::Refused(why) => ClientError::Refused(why),
            TicketRefusal::Unavailable(why) => ClientError::TicketUnavailable(why),
        })?;
        let (session_id, writer_id) = (ticket.session_id, ticket.writer_id);
        let shared = Arc::new(Shared::new(&self.config, writer_id));
        let drop_timeout = self.config.drop_timeout;
        driver::spawn(Arc::clone(&shared), self.config, transport, self.tickets, ticket);
        Ok(Client { handle: Arc::new(Handle { shared, drop_timeout, session_id, writer_id }) })
    }
}

impl Client {
    /// Begins to make a client of one session, whose tickets `tickets` issues.
    pub fn builder<T: TicketSource>(tickets: T) -> ClientBuilder<T> {
        ClientBuilder { tickets, config: ClientConfig::default() }
    }

    /// Opens a document. Returns at once; [`crate::DocumentEvent::Joined`] or
    /// [`crate::DocumentEvent::Closed`] tells what came of it. Ops can be applied right away.
    pub fn join(
        &self,
        document: &str,
        kind: DocumentKind,
        options: JoinOptions,
    ) -> Result<Document, ClientError> {
        let document = self.handle.shared.join(document, kind, options)?;
        Ok(Document::new(document, Arc::clone(&self.handle)))
    }

    /// The session of the tickets.
    #[must_use]
    pub fn session_id(&self) -> Guuid {
        self.handle.session_id
    }

    /// The writer: op ids are this plus a counter.
    #[must_use]
    pub fn writer_id(&self) -> Guuid {
        self.handle.writer_id
    }

    /// Measures the round trip to a shard of the node at `address` (HOST:PORT), through the node's loop and
    /// back; connects if there is no connection yet.
    pub async fn ping(&self, address: &str, shard: u8, timeout: Duration) -> Result<Duration, ClientError> {
        let route = Route { address: address.to_owned(), shard };
        self.handle.shared.ping(PingTarget::Shard(route), timeout).await
    }

    /// Counters over all connections.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        self.handle.shared.stats()
    }

    /// Waits until all ops are durable, at most for `timeout`, then closes all documents and connections.
    /// True: nothing is left unacknowledged.
    pub async fn close(self, timeout: Duration) -> bool {
        let (done, closed) = oneshot::channel();
        let command = Command::Close { deadline: Instant::now() + timeout, done: Some(done) };
        self.handle.shared.command(command) && closed.await.unwrap_or(false)
    }
}
