//! The ticket in use, and the next one while it is asked for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wire::{Span, Time};

use super::clock::unix_ms;
use crate::backoff::Backoff;
use crate::ticket::{IssuedTicket, TicketRefusal, TicketSource};

/// A ticket is not used in its last moments: the node's clock may be ahead, the packet takes time.
const EXPIRY_MARGIN_MS: u64 = 5_000;
/// The longest that one ticket is kept while the connections live: the keys that open it do not live for ever.
const RENEW_AFTER_MS_MAX: u64 = 24 * 3_600_000;

type Issuing = Pin<Box<dyn Future<Output = Result<IssuedTicket, TicketRefusal>> + Send>>;
type Issue = Box<dyn Fn(Vec<u8>) -> Issuing + Send>;

/// Asks for tickets one at a time.
pub(super) struct Tickets {
    issue: Issue,
    issuing: Option<Issuing>,
    current: IssuedTicket,
    wanted: bool,
    renew_at: Time,
    not_before: Time,
    backoff: Backoff,
}

impl Tickets {
    pub(super) fn new(source: impl TicketSource, current: IssuedTicket, now: Time, backoff: Backoff) -> Self {
        let source = Arc::new(source);
        let issue = move |previous: Vec<u8>| -> Issuing {
            let source = Arc::clone(&source);
            Box::pin(async move { source.ticket(Some(&previous)).await })
        };
        Self {
            issue: Box::new(issue),
            issuing: None,
            renew_at: renew_at(now, &current),
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
        let due = if self.wanted { self.not_before } else { self.renew_at.max(self.not_before) };
        self.issuing.is_none().then_some(due)
    }

    /// Ready: another ticket is here, or none will be issued any more. When the source is not available,
    /// the present one goes on and it is asked again after a pause.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Time,
        entropy: impl FnOnce() -> u32,
    ) -> Poll<Result<(), TicketRefusal>> {
        if self.issuing.is_none() && self.poll_timeout().is_some_and(|due| due <= now) {
            self.issuing = Some((self.issue)(self.current.ticket.clone()));
        }
        let Some(issuing) = &mut self.issuing else { return Poll::Pending };
        let Poll::Ready(issued) = issuing.as_mut().poll(cx) else { return Poll::Pending };
        self.issuing = None;
        match issued {
            Ok(ticket) => {
                self.renew_at = renew_at(now, &ticket);
                self.current = ticket;
                self.wanted = false;
                self.backoff.reset();
                // However often one is wanted, the control plane is asked with pauses.
                self.not_before = now + self.backoff.fail(entropy());
                self.backoff.reset();
                Poll::Ready(Ok(()))
            }
            Err(TicketRefusal::Unavailable(why)) => {
                tracing::warn!(%why, "no ticket for the moment");
                self.not_before = now + self.backoff.fail(entropy());
                Poll::Pending
            }
            Err(refused @ TicketRefusal::Refused(_)) => Poll::Ready(Err(refused)),
        }
    }
}

/// When half of a ticket's life is over. One that is nearly over is renewed when it is needed.
fn renew_at(now: Time, ticket: &IssuedTicket) -> Time {
    let left_ms = ticket.expires_unix_ms.saturating_sub(unix_ms());
    if left_ms <= 2 * EXPIRY_MARGIN_MS {
        return Time::NEVER;
    }
    now + Span::from_ms((left_ms / 2).min(RENEW_AFTER_MS_MAX))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use wire::Guuid;

    use super::*;
    use crate::placement::PlacementMap;

    struct Hourly;

    impl TicketSource for Hourly {
        async fn ticket(&self, previous: Option<&[u8]>) -> Result<IssuedTicket, TicketRefusal> {
            assert_eq!(previous, Some(&[1][..]), "the ticket that it continues");
            Ok(issued(2))
        }
    }

    fn issued(ticket: u8) -> IssuedTicket {
        IssuedTicket {
            ticket: vec![ticket],
            psk: [0; 32],
            writer_id: Guuid::NIL,
            session_id: Guuid::NIL,
            expires_unix_ms: unix_ms() + 3_600_000,
            map: PlacementMap::default(),
        }
    }

    #[test]
    fn a_ticket_outlives_its_keys_while_the_connection_lasts() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut tickets = Tickets::new(Hourly, issued(1), Time::ZERO, backoff);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(tickets.poll(&mut cx, Time::from_us(1_700_000_000), || 0).is_pending());
        let due = tickets.poll_timeout().unwrap();
        assert!(due <= Time::from_us(1_800_000_000), "{due:?}");
        assert_eq!(tickets.poll(&mut cx, due, || 0), Poll::Ready(Ok(())));
        assert_eq!(tickets.usable().unwrap().ticket, [2]);
        assert!(tickets.poll_timeout().unwrap() > due);
    }
}
