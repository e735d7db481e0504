//! What was said and what of it the node has acknowledged, document by document. It lives beside the node, not in it: after a
//! kill it is the truth.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aetherflow_client::DocumentKind;

use crate::content::{OpName, Sizes};

/// A document, and what its writers have said in it.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: String,
    /// Its place in the ledger; its content depends on it.
    pub(crate) number: u64,
    pub(crate) kind: DocumentKind,
    pub(crate) sizes: Sizes,
    /// It takes no more ops than this.
    pub(crate) ops_max: u32,
    ops: Cell<u32>,
    writers: RefCell<BTreeMap<u32, WriterAccount>>,
}

#[derive(Default, Debug)]
struct WriterAccount {
    /// Where each op ends in the writer's words.
    ends: Vec<u32>,
    acknowledged: u32,
}

/// How many ops of each writer must be there.
pub(crate) type Marks = BTreeMap<u32, u32>;

impl Account {
    pub(crate) fn is_full(&self) -> bool {
        self.ops.get() >= self.ops_max
    }

    /// A writer says its next op, so many bytes long.
    pub(crate) fn say(&self, writer: u32, bytes: usize) {
        self.ops.set(self.ops.get() + 1);
        let mut writers = self.writers.borrow_mut();
        let ends = &mut writers.entry(writer).or_default().ends;
        ends.push(ends.last().copied().unwrap_or_default() + bytes as u32);
    }

    /// The number of a writer's next op.
    pub(crate) fn next_number(&self, writer: u32) -> u32 {
        self.writers.borrow().get(&writer).map_or(0, |account| account.ends.len() as u32)
    }

    /// All ops of a writer below this number are durable.
    fn acknowledge(&self, writer: u32, below: u32) {
        if let Some(account) = self.writers.borrow_mut().get_mut(&writer) {
            account.acknowledged = account.acknowledged.max(below);
        }
    }

    /// What the node has acknowledged so far.
    pub(crate) fn acknowledged(&self) -> Marks {
        self.writers.borrow().iter().map(|(&writer, account)| (writer, account.acknowledged)).collect()
    }

    /// How many of a writer's ops lie within the first `bytes` of its words.
    pub(crate) fn ops_within(&self, writer: u32, bytes: u32) -> u32 {
        let writers = self.writers.borrow();
        writers.get(&writer).map_or(0, |account| account.ends.partition_point(|&end| end <= bytes) as u32)
    }

    /// Refuses ops that are there twice, out of their writer's order, without those before them, or that nobody has said.
    pub(crate) fn check(&self, found: &[OpName]) -> Result<Marks, String> {
        let mut next = Marks::new();
        for name in found {
            let expected = next.entry(name.writer).or_default();
            if name.number != *expected {
                let OpName { writer, number } = name;
                return Err(format!("{}: op {number} of writer {writer} where {expected} belongs", self.id));
            }
            *expected += 1;
        }
        for (&writer, &count) in &next {
            let said = self.next_number(writer);
            if count > said {
                return Err(format!("{}: {count} ops of writer {writer}, who has said {said}", self.id));
            }
        }
        Ok(next)
    }
}

/// All documents, and what was found to be wrong.
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: RefCell<Vec<Rc<Account>>>,
    problems: RefCell<Vec<String>>,
    applied: Cell<u64>,
    acknowledged: Cell<u64>,
    /// A kill after which nothing has been acknowledged yet.
    killed_at: Cell<Option<Instant>>,
    outages: RefCell<Vec<Duration>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            accounts: RefCell::default(),
            problems: RefCell::default(),
            applied: Cell::new(0),
            acknowledged: Cell::new(0),
            killed_at: Cell::new(None),
            outages: RefCell::default(),
        }
    }

    pub(crate) fn open(&self, name: &str, kind: DocumentKind, sizes: Sizes, ops_max: u32) -> Rc<Account> {
        let mut accounts = self.accounts.borrow_mut();
        let number = accounts.len() as u64;
        let account = Rc::new(Account {
            id: format!("chaos/{name}/{number}"),
            number,
            kind,
            sizes,
            ops_max,
            ops: Cell::new(0),
            writers: RefCell::default(),
        });
        accounts.push(Rc::clone(&account));
        account
    }

    pub(crate) fn documents(&self) -> usize {
        self.accounts.borrow().len()
    }

    pub(crate) fn account(&self, number: usize) -> Rc<Account> {
        Rc::clone(&self.accounts.borrow()[number])
    }

    pub(crate) fn count_applied(&self) {
        self.applied.set(self.applied.get() + 1);
    }

    /// `count` more ops are durable: all of the writer's in this document that are below `below`.
    pub(crate) fn acknowledge(&self, account: &Account, writer: u32, below: u32, count: u64) {
        account.acknowledge(writer, below);
        self.acknowledged.set(self.acknowledged.get() + count);
        if let Some(killed) = self.killed_at.take() {
            self.outages.borrow_mut().push(killed.elapsed());
        }
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied.get()
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.get()
    }

    /// The node that serves now follows one that was killed at this moment.
    pub(crate) fn serves_since(&self, killed: Instant) {
        self.killed_at.set(Some(killed));
    }

    /// From each kill to the next acknowledgement.
    pub(crate) fn outages(&self) -> Vec<Duration> {
        self.outages.borrow().clone()
    }

    /// Something does not hold.
    pub(crate) fn problem(&self, what: String) {
        self.problems.borrow_mut().push(what);
    }

    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub(crate) fn take_problems(&self) -> Vec<String> {
        self.problems.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { min: 8, max: 8 };

    fn op(writer: u32, number: u32) -> OpName {
        OpName { writer, number }
    }

    #[test]
    fn a_document_that_lacks_doubles_or_invents_an_op_is_passed() {
        let ledger = Ledger::new();
        let account = ledger.open("a", DocumentKind::Opaque, SIZES, 10);
        for writer in [1, 2, 1, 1] {
            account.say(writer, 10);
        }
        assert_eq!(account.check(&[op(1, 0), op(2, 0), op(1, 1)]), Ok(Marks::from([(1, 2), (2, 1)])));
        assert!(account.check(&[op(1, 0), op(1, 2)]).is_err(), "a gap");
        assert!(account.check(&[op(1, 0), op(1, 0)]).is_err(), "twice");
        assert!(account.check(&[op(1, 1), op(1, 0)]).is_err(), "out of order");
        assert!(account.check(&[op(2, 0), op(2, 1)]).is_err(), "never said");
    }

    #[test]
    fn an_acknowledgement_is_forgotten() {
        let ledger = Ledger::new();
        let account = ledger.open("a", DocumentKind::Yjs, SIZES, 3);
        (0..3).for_each(|_| account.say(7, 10));
        assert!(account.is_full());
        ledger.acknowledge(&account, 7, 2, 2);
        ledger.acknowledge(&account, 7, 1, 0);
        assert_eq!(account.acknowledged(), Marks::from([(7, 2)]));
        assert_eq!(
            (account.ops_within(7, 29), account.ops_within(7, 30), account.ops_within(8, 90)),
            (2, 3, 0)
        );
        ledger.acknowledge(&account, 7, 3, 1);
        assert_eq!(account.acknowledged(), Marks::from([(7, 3)]));
    }
}
