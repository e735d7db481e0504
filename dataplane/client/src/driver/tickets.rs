//! The ticket in use, and the next one while it is asked for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wire::Time;

use super::clock::unix_ms;
use crate::backoff::Backoff;
use crate::ticket::{IssuedTicket, TicketRefusal, TicketSource};

/// A ticket is not used in its last moments: the node's clock may be ahead, the packet takes time.
const EXPIRY_MARGIN_MS: u64 = 5_000;

type Issuing = Pin<Box<dyn Future<Output = Result<IssuedTicket, TicketRefusal>> + Send>>;
type Issue = Box<dyn Fn(Vec<u8>) -> Issuing + Send>;

/// Asks for tickets one at a time.
pub(super) struct Tickets {
    issue: Issue,
    issuing: Option<Issuing>,
    current: IssuedTicket,
    wanted: bool,
    not_before: Time,
    backoff: Backoff,
}

impl Tickets {
    pub(super) fn new(source: impl TicketSource, current: IssuedTicket, backoff: Backoff) -> Self {
        let source = Arc::new(source);
        let issue = move |previous: Vec<u8>| -> Issuing {
            let source = Arc::clone(&source);
            Box::pin(async move { source.ticket(Some(&previous)).await })
        };
        Self {
            issue: Box::new(issue),
            issuing: None,
            current,
            wanted: false,
            not_before: Time::ZERO,
            backoff,
        }
    }

    /// The last ticket issued.
    pub(super) fn current(&self) -> &IssuedTicket {
        &self.current
    }

    /// The ticket, if it is still good for a handshake; else another one is asked for.
    pub(super) fn usable(&mut self) -> Option<&IssuedTicket> {
        if self.current.expires_unix_ms > unix_ms().saturating_add(EXPIRY_MARGIN_MS) {
            return Some(&self.current);
        }
        self.wanted = true;
        None
    }

    /// Asks for another ticket, and the map that comes with it.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// When [`Self::poll`] has something to do without being woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (self.wanted && self.issuing.is_none()).then_some(self.not_before)
    }

    /// Ready: another ticket is here, or none will be issued any more. When the source is not available,
    /// the present one goes on and it is asked again after a pause.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        entropy: u32,
    ) -> Poll<Result<(), TicketRefusal>> {
        if self.issuing.is_none() && self.wanted && now >= self.not_before {
            self.issuing = Some((self.issue)(self.current.ticket.clone()));
        }
        let Some(issuing) = &mut self.issuing else { return Poll::Pending };
        let Poll::Ready(issued) = issuing.as_mut().poll(cx) else { return Poll::Pending };
        self.issuing = None;
        match issued {
            Ok(ticket) => {
                self.current = ticket;
                self.wanted = false;
                self.backoff.reset();
                // However often one is wanted, the control plane is asked with pauses.
                self.not_before = now + self.backoff.fail(entropy);
                self.backoff.reset();
                Poll::Ready(Ok(()))
            }
            Err(TicketRefusal::Unavailable(why)) => {
                tracing::warn!(%why, "no ticket for the moment");
                self.not_before = now + self.backoff.fail(entropy);
                Poll::Pending
            }
            Err(refused @ TicketRefusal::Refused(_)) => Poll::Ready(Err(refused)),
        }
    }
}
