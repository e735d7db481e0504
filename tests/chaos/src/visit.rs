//! Somebody who comes anew, and must find everything that was acknowledged before.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use aetherflow_client::{Client, ClientError, DocumentEvent, JoinOptions};
use tokio::time::{Instant, timeout_at};

use crate::ledger::{Account, Ledger, Marks};
use crate::view::View;

/// How long a visitor waits for what was acknowledged, the time between a kill and the next start included.
/// Long: a campaign may run beside whatever else keeps the machine busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Visits documents, each for itself, many at a time.
pub(crate) struct Visitor {
    client: Client,
    ledger: Rc<Ledger>,
    /// A client joins a document once.
    under_way: RefCell<BTreeSet<u64>>,
}

/// What a visit came to.
pub(crate) struct Visit {
    pub(crate) view: View,
    /// Acknowledged ops that are not there.
    pub(crate) lost: u32,
}

impl Visitor {
    pub(crate) fn new(client: Client, ledger: Rc<Ledger>) -> Self {
        Self { client, ledger, under_way: RefCell::default() }
    }

    /// Joins a document and waits for what has been acknowledged by now. None: somebody is there already.
    pub(crate) async fn visit(&self, account: Rc<Account>) -> Option<Visit> {
        let number = account.number;
        if !self.under_way.borrow_mut().insert(number) {
            return None;
        }
        let marks = account.acknowledged();
        let mut view = View::new(account);
        let result = self.look(&mut view, &marks).await;
        self.under_way.borrow_mut().remove(&number);
        let lost = view.lacks(&marks);
        let id = view.account.id.clone();
        match result {
            Err(error) => self.ledger.problem(format!("{id}: {error}")),
            Ok(Err(what)) => self.ledger.problem(what),
            Ok(Ok(())) if lost > 0 => {
                self.ledger.problem(format!("{id}: {lost} acknowledged ops are not there: {marks:?}"));
            }
            Ok(Ok(())) => {
                if let Err(what) = view.check() {
                    self.ledger.problem(what);
                }
            }
        }
        Some(Visit { view, lost })
    }

    async fn look(&self, view: &mut View, marks: &Marks) -> Result<Result<(), String>, ClientError> {
        let deadline = Instant::now() + PATIENCE;
        let account = &view.account;
        let mut document = self.client.join(&account.id, account.kind, JoinOptions::default())?;
        let mut is_joined = false;
        while !is_joined || view.lacks(marks) > 0 {
            match timeout_at(deadline, document.next_event()).await {
                Ok(Some(event)) => {
                    is_joined |= matches!(event, DocumentEvent::Joined { .. });
                    if let Err(what) = view.take(&event) {
                        return Ok(Err(what));
                    }
                }
                Ok(None) => return Err(ClientError::Closed),
                Err(_) if is_joined => break,
                Err(_) => return Err(ClientError::Timeout),
            }
        }
        // The next may come while the node is down.
        document.leave().await?;
        Ok(Ok(()))
    }
}
