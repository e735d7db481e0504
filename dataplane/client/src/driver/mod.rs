//! The task that drives all connections of a client.

use std::sync::Arc;

use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::shared::Shared;
use crate::ticket::{IssuedTicket, TicketSource};

/// Starts the task.
pub(crate) fn spawn<T: TicketSource>(
    shared: Arc<Shared>,
    config: ClientConfig,
    tickets: T,
    ticket: IssuedTicket,
) {
    tokio::spawn(async move {
        drop((config, tickets, ticket));
        shared.close(ClientError::Closed);
    });
}
