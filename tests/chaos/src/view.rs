//! A document as somebody sees it who reads along.

use std::rc::Rc;

use aetherflow_client::{DocumentEvent, DocumentKind};
use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, GetString, ReadTxn, Transact, Update};

use crate::content::{self, OpName, TEXT};
use crate::ledger::{Account, Marks};

/// What somebody has of a document.
pub(crate) struct View {
    pub(crate) account: Rc<Account>,
    content: Content,
}

enum Content {
    Yjs(Doc),
    /// The ops by their sequence, from 1 on, and how many there are of each writer.
    Opaque(Vec<OpName>, Marks),
}

impl View {
    pub(crate) fn new(account: Rc<Account>) -> Self {
        let content = match account.kind {
            DocumentKind::Yjs => Content::Yjs(Doc::new()),
            DocumentKind::Opaque => Content::Opaque(Vec::new(), Marks::new()),
        };
        Self { account, content }
    }

    /// Takes an event. An error: what it says cannot be.
    pub(crate) fn take(&mut self, event: &DocumentEvent) -> Result<(), String> {
        let id = &self.account.id;
        match (&mut self.content, event) {
            (Content::Yjs(doc), DocumentEvent::State(bytes) | DocumentEvent::Op { payload: bytes, .. }) => {
                let update = Update::decode_v1(bytes).map_err(|error| format!("{id}: {error}"))?;
                doc.transact_mut().apply_update(update).map_err(|error| format!("{id}: {error}"))
            }
            (Content::Opaque(ops, _), DocumentEvent::Joined { sequence, .. })
                if *sequence < ops.len() as u64 =>
            {
                Err(format!("{id}: has {sequence} ops and had shown {}", ops.len()))
            }
            (Content::Opaque(..), DocumentEvent::Op { sequence, payload }) => {
                self.take_op(*sequence, payload)
            }
            (_, DocumentEvent::Closed { code, text }) => Err(format!("{id}: closed: {code}: {text}")),
            _ => Ok(()),
        }
    }

    fn take_op(&mut self, sequence: u64, payload: &[u8]) -> Result<(), String> {
        let account = &self.account;
        let Content::Opaque(ops, counts) = &mut self.content else { return Ok(()) };
        let words = std::str::from_utf8(payload).map_err(|error| format!("{}: {error}", account.id))?;
        let name = content::read(account.number, words, account.sizes)
            .map_err(|what| format!("{}: {what}", account.id))?;
        let next = ops.len() as u64 + 1;
        if sequence > next {
            return Err(format!("{}: op {sequence} came where {next} belongs", account.id));
        }
        if sequence < next {
            let before = ops[sequence as usize - 1];
            let is_same = before == name;
            return is_same
                .then_some(())
                .ok_or_else(|| format!("{}: op {sequence} was {before:?} and is {name:?}", account.id));
        }
        ops.push(name);
        *counts.entry(name.writer).or_default() += 1;
        Ok(())
    }

    /// How many of these ops are not there.
    pub(crate) fn lacks(&self, marks: &Marks) -> u32 {
        let missing = |held: &dyn Fn(u32) -> u32| {
            marks.iter().map(|(&writer, &count)| count.saturating_sub(held(writer))).sum()
        };
        match &self.content {
            Content::Yjs(doc) => {
                let vector = doc.transact().state_vector();
                missing(&|writer| {
                    self.account.ops_within(writer, vector.get(&ClientID::new(u64::from(writer))))
                })
            }
            Content::Opaque(_, counts) => missing(&|writer| counts.get(&writer).copied().unwrap_or_default()),
        }
    }

    /// Looks at every op: as it was sent, in its writer's order, none twice and none missing before it.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &self.content {
            Content::Yjs(_) => {
                let account = &self.account;
                let ops = content::read_all(account.number, &self.text(), account.sizes)
                    .map_err(|what| format!("{}: {what}", account.id))?;
                account.check(&ops).map(drop)
            }
            Content::Opaque(ops, _) => self.account.check(ops).map(drop),
        }
    }

    /// Whether two people see the same.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Content::Opaque(one, _), Content::Opaque(two, _)) => one == two,
            _ => self.text() == other.text(),
        }
    }

    fn text(&self) -> String {
        let Content::Yjs(doc) = &self.content else { return String::new() };
        let text = doc.get_or_insert_text(TEXT);
        text.get_string(&doc.transact())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::content::{Sizes, Typist, words};
    use crate::ledger::Ledger;

    const SIZES: Sizes = Sizes { min: 8, max: 30 };

    /// The payloads of a writer's first ops.
    fn said(account: &Account, writer: u32, count: u32) -> Vec<Bytes> {
        let typist = Typist::new(writer);
        let say = |number| {
            let words = words(account.number, OpName { writer, number }, account.sizes);
            account.say(writer, words.len());
            match account.kind {
                DocumentKind::Yjs => typist.type_words(&words),
                DocumentKind::Opaque => words.into(),
            }
        };
        (0..count).map(say).collect()
    }

    #[test]
    fn a_lost_op_is_not_missed() {
        let ledger = Ledger::new();
        for kind in [DocumentKind::Yjs, DocumentKind::Opaque] {
            let account = ledger.open("a", kind, SIZES, 10);
            let payloads = said(&account, 3, 5);
            let mut view = View::new(Rc::clone(&account));
            for (index, payload) in payloads[..4].iter().enumerate() {
                let sequence = index as u64 + 1;
                view.take(&DocumentEvent::Op { sequence, payload: payload.clone() }).unwrap();
            }
            assert_eq!(view.lacks(&Marks::from([(3, 4)])), 0, "{kind:?}");
            assert_eq!(view.lacks(&Marks::from([(3, 5)])), 1, "{kind:?}");
            view.check().unwrap();
            let mut other = View::new(account);
            assert!(!view.equals(&other));
            for (index, payload) in payloads[..4].iter().enumerate() {
                let sequence = index as u64 + 1;
                other.take(&DocumentEvent::Op { sequence, payload: payload.clone() }).unwrap();
            }
            assert!(view.equals(&other));
        }
    }

    #[test]
    fn a_log_that_says_something_else_after_a_kill_is_believed() {
        let ledger = Ledger::new();
        let account = ledger.open("a", DocumentKind::Opaque, SIZES, 10);
        let payloads = said(&account, 1, 3);
        let op = |sequence, at: usize| DocumentEvent::Op { sequence, payload: payloads[at].clone() };
        let joined = |sequence| DocumentEvent::Joined {
            server_state_vector: Bytes::new(),
            sequence,
            state_bytes: 0,
            resumed: false,
            incarnation: 1,
            may_lack: false,
        };
        let mut view = View::new(account);
        view.take(&op(1, 0)).unwrap();
        view.take(&op(2, 1)).unwrap();
        view.take(&op(1, 0)).unwrap();
        assert!(view.take(&op(2, 2)).is_err(), "another op under the same number");
        assert!(view.take(&op(4, 2)).is_err(), "a gap");
        assert!(view.take(&joined(1)).is_err(), "fewer than were shown");
        view.take(&joined(2)).unwrap();
    }
}
