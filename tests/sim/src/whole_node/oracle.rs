//! What everybody has said, was told and has been promised: the truth that the node is measured against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use wire::Guuid;
use yrs::IdSet;

use super::plan::DocumentPlan;
use super::requests::are_all;
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

/// What the past of a document was said to be.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Claim {
    Letters(IdSet),
    Ops(Vec<Bytes>),
}

/// What log and store have of a document.
#[derive(Clone, Default, Debug)]
pub(super) struct Place {
    pub(super) ops: Vec<Logged>,
    pub(super) is_deleted: bool,
    /// Names and the last op in each.
    pub(super) versions: Vec<(String, u64)>,
}

/// How the end of a document stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deletion {
    No,
    Asked,
    /// It was told to somebody, or it was found to be durable.
    Done,
}

#[derive(Clone, Debug)]
struct Truth {
    name: String,
    /// What each op says, acknowledged or not.
    said: BTreeMap<Guuid, usize>,
    acknowledged: BTreeSet<Guuid>,
    /// Of an opaque document: the content that somebody was shown in each place.
    shown: BTreeMap<u64, usize>,
    deletion: Deletion,
    /// Those that somebody was told are kept.
    versions: BTreeMap<String, u64>,
    /// What it was after an op, as somebody was told.
    pasts: Vec<(u64, Claim)>,
}

/// Knows all of it.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    contents: Vec<Content>,
    /// By document.
    by_payload: Vec<HashMap<Bytes, usize, BuildHasherDefault<DefaultHasher>>>,
    documents: Vec<Truth>,
    /// Those of which the stored head was damaged at some time.
    damaged: BTreeSet<usize>,
    pub(super) acknowledged: u64,
    pub(super) deletions: u64,
    pub(super) versions: u64,
    pub(super) pasts: u64,
}

impl Oracle {
    pub(super) fn new(documents: &[DocumentPlan]) -> Self {
        let truth = |plan: &DocumentPlan| Truth {
            name: plan.name.clone(),
            said: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            shown: BTreeMap::new(),
            deletion: Deletion::No,
            versions: BTreeMap::new(),
            pasts: Vec::new(),
        };
        Self {
            contents: Vec::new(),
            by_payload: vec![HashMap::default(); documents.len()],
            documents: documents.iter().map(truth).collect(),
            damaged: BTreeSet::new(),
            acknowledged: 0,
            deletions: 0,
            versions: 0,
            pasts: 0,
        }
    }

    /// Somebody says something new under this op id.
    pub(super) fn on_said(&mut self, content: Content) -> usize {
        let number = self.contents.len();
        self.documents[content.document].said.insert(content.op, number);
        self.by_payload[content.document].insert(content.payload.clone(), number);
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

    /// How much was said.
    pub(super) const fn contents_count(&self) -> u64 {
        self.contents.len() as u64
    }

    /// One thing that was said.
    pub(super) fn any_content(&self, number: u64) -> Option<&Content> {
        self.contents.get(number as usize)
    }

    /// All that was said in a document.
    pub(super) fn contents_of(&self, document: usize) -> impl Iterator<Item = (usize, &Content)> {
        self.contents.iter().enumerate().filter(move |(_, content)| content.document == document)
    }

    /// What a payload says that comes from the node.
    pub(super) fn recognise(&self, document: usize, payload: &[u8]) -> Result<usize, (Invariant, String)> {
        self.by_payload[document].get(payload).copied().ok_or_else(|| {
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
    pub(super) fn on_recovered(&mut self, places: &[Place]) -> Check {
        for (document, place) in places.iter().enumerate() {
            if place.is_deleted {
                self.on_deleted(document)?;
                continue;
            }
            let truth = &self.documents[document];
            if truth.deletion == Deletion::Done {
                let seen = format!("{}: it was deleted, and is there again", truth.name);
                return Err((Invariant::NothingTakenBack, seen));
            }
            self.check_recovered(truth, &place.ops)?;
            self.check_past(truth, place)?;
        }
        Ok(())
    }

    /// What was said of the past is true.
    fn check_past(&self, truth: &Truth, place: &Place) -> Check {
        for (name, sequence) in &truth.versions {
            let found = place.versions.iter().find(|(found, _)| found == name).map(|(_, sequence)| *sequence);
            // It may have been moved since, also back: by a request that came before, and was not answered.
            if found.is_none() {
                let seen = format!("{}: version {name} of op {sequence} is at {found:?}", truth.name);
                return Err((Invariant::AcknowledgedKept, seen));
            }
        }
        for (sequence, claim) in &truth.pasts {
            let ops = place.ops.iter().take(*sequence as usize).filter_map(|op| op.content);
            let contents = ops.map(|content| &self.contents[content]);
            let is_true = match claim {
                Claim::Letters(set) => are_all(contents.filter_map(|content| content.letters), set),
                Claim::Ops(ops) => contents.map(|content| &content.payload).eq(ops),
            };
            if !is_true {
                let seen = format!("{}: its past at op {sequence} was said to be another", truth.name);
                return Err((Invariant::StoredWhole, seen));
            }
        }
        Ok(())
    }

    /// Somebody asks for the end of a document.
    pub(super) fn on_delete_asked(&mut self, document: usize) {
        let deletion = &mut self.documents[document].deletion;
        if *deletion == Deletion::No {
            *deletion = Deletion::Asked;
        }
    }

    /// A document is deleted, for ever.
    pub(super) fn on_deleted(&mut self, document: usize) -> Check {
        self.check_deleted(document)?;
        self.deletions += u64::from(self.documents[document].deletion != Deletion::Done);
        self.documents[document].deletion = Deletion::Done;
        Ok(())
    }

    /// Somebody is told that a document is deleted; a crash may take it back.
    pub(super) fn check_deleted(&self, document: usize) -> Check {
        let truth = &self.documents[document];
        if truth.deletion == Deletion::No {
            let seen = format!("{}: it is deleted, and nobody has asked for that", truth.name);
            return Err((Invariant::AcknowledgedKept, seen));
        }
        Ok(())
    }

    pub(super) fn is_deleted(&self, document: usize) -> bool {
        self.documents[document].deletion == Deletion::Done
    }

    /// Somebody is told that a version is kept.
    pub(super) fn on_version(&mut self, document: usize, name: &str, sequence: u64) {
        self.versions += 1;
        self.documents[document].versions.insert(name.to_owned(), sequence);
    }

    /// Somebody is told what a document was after an op.
    pub(super) fn on_past(&mut self, document: usize, sequence: u64, claim: Claim) {
        self.pasts += 1;
        self.documents[document].pasts.push((sequence, claim));
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
