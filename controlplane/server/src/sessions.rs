//! Sessions and their tickets.

use std::sync::Arc;

use model::config::ControlConfig;
use model::session::{check, to_hex};
use model::{KeyRing, Session};
use store::{Compare, Entry, MetaStore};
use tokio::sync::watch;
use wire::{Grant, Guuid, Ticket, TicketKeyRing};

use crate::api_key::{same, sha256};
use crate::error::ControlError;
use crate::view::{REVOKED, View, read, write};
use crate::{now_unix_ms, random};

const SESSIONS: &str = "sessions/";
/// How long a session is remembered after its end, so that it can still be told from one that never was.
const REMEMBERED_S: u32 = 24 * 3_600;
/// Attempts at a write that others are making, too.
const ATTEMPTS_MAX: usize = 16;

/// A ticket, and what its client must know of it.
pub(crate) struct Issued {
    pub(crate) sealed: Vec<u8>,
    pub(crate) ticket: Ticket,
}

/// The sessions.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    store: Arc<dyn MetaStore>,
    view: watch::Receiver<View>,
    session_ttl_s: u32,
    ticket_ttl_s: u32,
}

fn key(session_id: Guuid) -> String {
    format!("{SESSIONS}{session_id}")
}

fn ring(keys: &KeyRing, now_unix_s: u64) -> TicketKeyRing {
    TicketKeyRing::new(keys.sealing_order(now_unix_s).map(|key| (key.key_id, key.secret)))
}

impl Sessions {
    pub(crate) fn new(
        store: Arc<dyn MetaStore>,
        view: watch::Receiver<View>,
        config: &ControlConfig,
    ) -> Self {
        Self { store, view, session_ttl_s: config.session_ttl_s, ticket_ttl_s: config.ticket_ttl_s }
    }

    /// Creates a session that lives `ttl_s` (0: the default) and answers it with its token.
    pub(crate) async fn create(
        &self,
        user: String,
        grants: Vec<Grant>,
        ttl_s: u32,
    ) -> Result<(Session, String), ControlError> {
        let ttl_s = if ttl_s == 0 { self.session_ttl_s } else { ttl_s };
        check(&user, &grants, ttl_s)?;
        let now_unix_ms = now_unix_ms();
        let session_id = Guuid::new(now_unix_ms, random()?);
        let token = format!("{session_id}.{}", to_hex(&random::<32>()?));
        let session = Session {
            session_id,
            user,
            grants,
            created_unix_ms: now_unix_ms,
            expires_unix_ms: now_unix_ms + u64::from(ttl_s) * 1_000,
            revoked: false,
            token_sha256: sha256(token.as_bytes()),
        };
        // A session that no ticket can carry is refused now, not when its user connects.
        self.seal(&session, Guuid::new(now_unix_ms, random()?).writer())?;
        let lease = self.store.lease_grant(ttl_s.saturating_add(REMEMBERED_S)).await?;
        write(&*self.store, &key(session_id), &session, Compare::Absent, Some(lease)).await?;
        tracing::info!(%session_id, user = session.user, ttl_s, grants = session.grants.len(), "session created");
        Ok((session, token))
    }

    async fn find(&self, session_id: Guuid) -> Result<(Session, Entry), ControlError> {
        read(&*self.store, &key(session_id)).await?.ok_or(ControlError::UnknownSession)
    }

    /// The session, whatever its state.
    pub(crate) async fn get(&self, session_id: Guuid) -> Result<Session, ControlError> {
        Ok(self.find(session_id).await?.0)
    }

    /// The live session that `token` belongs to.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Session, ControlError> {
        let named = token.split_once('.').and_then(|(session_id, _)| Guuid::parse(session_id));
        let session = self.get(named.ok_or(ControlError::UnknownSession)?).await?;
        if !same(&session.token_sha256, &sha256(token.as_bytes())) {
            return Err(ControlError::UnknownSession);
        }
        if session.revoked {
            return Err(ControlError::SessionRevoked);
        }
        if now_unix_ms() >= session.expires_unix_ms {
            return Err(ControlError::SessionExpired(session.expires_unix_ms));
        }
        Ok(session)
    }

    /// Ends the session for good; the nodes are told.
    pub(crate) async fn revoke(&self, session_id: Guuid) -> Result<(), ControlError> {
        for _ in 0..ATTEMPTS_MAX {
            let (session, entry) = self.find(session_id).await?;
            if !session.revoked {
                let revoked = Session { revoked: true, ..session };
                let compare = Compare::Revision(entry.revision);
                if !write(&*self.store, &entry.key, &revoked, compare, entry.lease).await? {
                    continue;
                }
            }
            // Also when it was revoked before: whoever did that may not have come so far.
            let told = format!("{REVOKED}{session_id}");
            write(&*self.store, &told, &(), Compare::Any, entry.lease).await?;
            tracing::info!(%session_id, "session revoked");
            return Ok(());
        }
        Err(store::StoreError::Overloaded.into())
    }

    /// Issues a ticket. With `previous`, a ticket of the same session, even an expired one, the writer id stays.
    pub(crate) async fn issue(&self, token: &str, previous: &[u8]) -> Result<Issued, ControlError> {
        let session = self.authenticate(token).await?;
        let writer_id = if previous.is_empty() {
            Guuid::new(now_unix_ms(), random()?).writer()
        } else {
            self.writer_of(&session, previous)?
        };
        let issued = self.seal(&session, writer_id)?;
        let (session_id, expires_unix_s) = (session.session_id, issued.ticket.expires_unix_s);
        tracing::info!(%session_id, %writer_id, expires_unix_s, "ticket issued");
        Ok(issued)
    }

    fn writer_of(&self, session: &Session, previous: &[u8]) -> Result<Guuid, ControlError> {
        let keys = Arc::clone(&self.view.borrow().keys);
        let ticket = ring(&keys, now_unix_ms() / 1_000)
            .open_expired(previous)
            .map_err(|error| ControlError::PreviousTicket(error.to_string()))?;
        if ticket.session_id != session.session_id {
            return Err(ControlError::PreviousTicket("it belongs to another session".to_owned()));
        }
        Ok(ticket.writer_id)
    }

    fn seal(&self, session: &Session, writer_id: Guuid) -> Result<Issued, ControlError> {
        let now_unix_s = now_unix_ms() / 1_000;
        let ticket = Ticket {
            session_id: session.session_id,
            writer_id,
            psk: random()?,
            expires_unix_s: (now_unix_s + u64::from(self.ticket_ttl_s)).min(session.expires_unix_ms / 1_000),
            grants: session.grants.clone(),
        };
        let keys = Arc::clone(&self.view.borrow().keys);
        let sealed = ring(&keys, now_unix_s).seal(&ticket, random()?)?;
        Ok(Issued { sealed, ticket })
    }
}
