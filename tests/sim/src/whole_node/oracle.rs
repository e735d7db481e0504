//! What everybody has said, was told and has been promised: the truth that the node is measured against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use wire::Guuid;

use super::plan::DocumentPlan;
use super::yjs::Letters;
use crate::invariants::{Check, Invariant};

/// What an op says. Two ops may say the same: a Yjs client tells the node what it saw and the node does not know.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) document: usize,
    pub(super) payload: Bytes,
    /// Of a Yjs document: what it brings.
    pub(super) letters: Option<Letters>,
    /// Of an opaque document: who has said it, which is one op.
    pub(super) op: Guuid,
}

/// An op as a shard's log has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Logged {
    pub(super) sequence: u64,
    pub(super) op: Guuid,
    pub(super) content: Option<usize>,
}

#[derive(Clone, Debug)]
struct Truth {
    name: String,
    /// What each op says, acknowledged or not.
    said: BTreeMap<Guuid, usize>,
    acknowledged: BTreeSet<Guuid>,
    /// Of an opaque document: the content that somebody was shown in each place.
    shown: BTreeMap<u64, usize>,
}

/// Knows all of it.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    contents: Vec<Content>,
    by_payload: HashMap<Bytes, usize, BuildHasherDefault<DefaultHasher>>,
    documents: Vec<Truth>,
    /// Those of which the stored head was damaged at some time.
    damaged: BTreeSet<usize>,
    pub(super) acknowledged: u64,
}

impl Oracle {
    pub(super) fn new(documents: &[DocumentPlan]) -> Self {
        let truth = |plan: &DocumentPlan| Truth {
            name: plan.name.clone(),
            said: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            shown: BTreeMap::new(),
        };
        Self {
            contents: Vec::new(),
            by_payload: HashMap::default(),
            documents: documents.iter().map(truth).collect(),
            damaged: BTreeSet::new(),
            acknowledged: 0,
        }
    }

    /// Somebody says something new under this op id.
    pub(super) fn on_said(&mut self, content: Content) -> usize {
        let number = self.contents.len();
        self.documents[content.document].said.insert(content.op, number);
        self.by_payload.insert(content.payload.clone(), number);
        self.contents.push(content);
        number
    }

    /// Somebody says again what somebody has said, under an op id of its own.
    pub(super) fn on_said_again(&mut self, op: Guuid, content: usize) {
        self.documents[self.contents[content].document].said.insert(op, content);
    }

    pub(super) fn content(&self, number: usize) -> &Content {
        &self.contents[number]
    }

    /// All that was said in a document.
    pub(super) fn contents_of(&self, document: usize) -> impl Iterator<Item = (usize, &Content)> {
        self.contents.iter().enumerate().filter(move |(_, content)| content.document == document)
    }

    /// What a payload says that comes from the node.
    pub(super) fn recognise(&self, document: usize, payload: &[u8]) -> Result<usize, (Invariant, String)> {
        let found = self.by_payload.get(payload).copied();
        found.filter(|&number| self.contents[number].document == document).ok_or_else(|| {
            let name = &self.documents[document].name;
            (
                Invariant::ReliableDelivery,
                format!("{name}: {} bytes that nobody has said there", payload.len()),
            )
        })
    }

    /// Somebody is told that its ops up to this one are safe; `mine` are those that it has not heard of before.
    pub(super) fn on_acknowledged(&mut self, document: usize, mine: impl Iterator<Item = Guuid>) {
        for op in mine {
            self.acknowledged += u64::from(self.documents[document].acknowledged.insert(op));
        }
    }

    /// Somebody is shown an op of an opaque document in this place: everybody is shown the same there, for ever.
    pub(super) fn on_shown(&mut self, document: usize, sequence: u64, content: usize) -> Check {
        let truth = &mut self.documents[document];
        let before = *truth.shown.entry(sequence).or_insert(content);
        if before == content {
            return Ok(());
        }
        let seen = format!(
            "{}: op {sequence} is shown as {}, and was shown as {} before",
            truth.name, self.contents[content].op, self.contents[before].op
        );
        Err((Invariant::NothingTakenBack, seen))
    }

    /// Whether somebody else's op was shown in one of these places.
    pub(super) fn shown_between(
        &self,
        document: usize,
        after: u64,
        before: u64,
        writer: Guuid,
    ) -> Option<u64> {
        if after + 1 >= before {
            return None;
        }
        let others = |(_, content): &(&u64, &usize)| self.contents[**content].op.writer() != writer;
        self.documents[document].shown.range(after + 1..before).find(others).map(|(&sequence, _)| sequence)
    }

    /// A node has read its logs back: nothing that was promised may be missing, and nothing twice. `places` are the
    /// ops by document.
    pub(super) fn on_recovered(&self, places: &[Vec<Logged>]) -> Check {
        for (truth, ops) in self.documents.iter().zip(places) {
            self.check_recovered(truth, ops)?;
        }
        Ok(())
    }

    fn check_recovered(&self, truth: &Truth, ops: &[Logged]) -> Check {
        let name = &truth.name;
        let mut once = BTreeSet::new();
        for (place, logged) in ops.iter().enumerate() {
            let Logged { sequence, op, content } = *logged;
            if sequence != place as u64 + 1 {
                let seen = format!("{name}: op {sequence} of the log is in place {}", place + 1);
                return Err((Invariant::OrderedWhole, seen));
            }
            if content.is_none() || truth.said.get(&op) != content.as_ref() {
                let seen = format!("{name}: the log has other bytes than {op} had");
                return Err((Invariant::ReliableDelivery, seen));
            }
            if !once.insert(op) {
                return Err((Invariant::AppliedOnce, format!("{name}: the log has {op} twice")));
            }
        }
        if let Some(lost) = truth.acknowledged.iter().find(|&op| !once.contains(op)) {
            let seen = format!(
                "{name}: the log has {} ops and not {lost} (counter {}), which was acknowledged",
                ops.len(),
                lost.counter()
            );
            return Err((Invariant::AcknowledgedKept, seen));
        }
        for (&sequence, &content) in &truth.shown {
            let logged = ops.get(sequence as usize - 1);
            if logged.and_then(|logged| logged.content) != Some(content) {
                let op = self.contents[content].op;
                let seen =
                    format!("{name}: op {sequence} was shown as {op}, and the log has {logged:?} there");
                return Err((Invariant::NothingTakenBack, seen));
            }
        }
        Ok(())
    }

    /// What is stored of a document is damaged: for some time it may be refused.
    pub(super) fn on_damaged(&mut self, name: &str) {
        self.damaged.extend(self.documents.iter().position(|truth| truth.name == name));
    }

    /// Whether it may.
    pub(super) fn was_damaged(&self, document: usize) -> bool {
        self.damaged.contains(&document)
    }

    /// Whether all that was acknowledged in a document is among what somebody has.
    pub(super) fn check_kept(&self, document: usize, has: impl Fn(&Content) -> bool) -> Check {
        let truth = &self.documents[document];
        for op in &truth.acknowledged {
            let content = &self.contents[truth.said[op]];
            if !has(content) {
                let seen = format!(
                    "{}: {op} (counter {}) was acknowledged and is not in the document",
                    truth.name,
                    op.counter()
                );
                return Err((Invariant::AcknowledgedKept, seen));
            }
        }
        Ok(())
    }

    /// Whether an op with this content was acknowledged.
    pub(super) fn is_acknowledged(&self, content: usize) -> bool {
        let truth = &self.documents[self.contents[content].document];
        let is_said = |op: &Guuid| truth.said.get(op) == Some(&content);
        truth.acknowledged.iter().any(is_said)
    }

    pub(super) fn name(&self, document: usize) -> &str {
        &self.documents[document].name
    }
}
