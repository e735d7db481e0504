//! What each agent will send: a trace, or people typing, turned into Yjs updates, one for each transaction.
//!
//! Every agent edits a document of its own that has seen exactly what the agent had seen when the edit was
//! recorded, so that replaying the updates reproduces the recorded concurrency.

use bytes::Bytes;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, Text, TextRef, Transact, TransactionMut, Update};

use crate::outline::{Outline, UpdateBuilder};
use crate::replica::{ROOT, Replica, client_id, text_doc};
use crate::trace::{Patch, Trace, Transaction};
use crate::typing::{Random, Typist};

/// A typist is at most so many edits of the others behind.
const TYPING_LAG_EDITS_MAX: u64 = 32;
/// One edit in so many is followed by one of another typist.
const TYPING_EDITS_PER_TURN: u64 = 4;

/// Ops to send.
#[derive(Debug)]
pub struct Script {
    /// In an order in which every op comes after those that it builds on.
    pub ops: Vec<Op>,
    /// How many agents send them.
    pub agents: usize,
    /// The text that results from all of them.
    pub text: String,
    /// Whether that is the text that the recording ends with; `None` when it does not say.
    pub equals_recording: Option<bool>,
}

/// One op of a script.
#[derive(Debug)]
pub struct Op {
    /// Who sends it.
    pub agent: usize,
    /// The Yjs update (v1).
    pub payload: Bytes,
    /// What its agent must have before it and did not need for its own op before: how many ops of which
    /// other agent.
    pub needs: Vec<(usize, usize)>,
}

/// Why a trace makes no script.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// An edit lies outside of the text that its agent saw.
    #[error(
        "transaction {transaction} edits {position}..{end} of a text of {length} code points; \
         the trace is damaged, or its positions do not count code points"
    )]
    OutOfRange {
        /// The transaction's index.
        transaction: usize,
        /// Where the edit begins.
        position: usize,
        /// Where what it deletes ends.
        end: usize,
        /// The length of the text.
        length: usize,
    },
    /// An agent's edit does not follow its own edit before.
    #[error(
        "transaction {transaction} of agent {agent} does not build on that agent's transaction before; \
         an agent that is replayed writes one history"
    )]
    Forked {
        /// The transaction's index.
        transaction: usize,
        /// Its agent.
        agent: usize,
    },
    /// The CRDT library did not take an update that was made here.
    #[error("transaction {transaction} made an update that cannot be applied: {reason}")]
    Update {
        /// The transaction's index.
        transaction: usize,
        /// What the library said.
        reason: String,
    },
}

impl Script {
    /// Turns `trace` into ops. `progress` is told of each transaction that is done.
    pub fn prepare(trace: &Trace, mut progress: impl FnMut()) -> Result<Self, ScriptError> {
        let ops = if trace.agents == 1 && trace.is_linear() && trace.is_within_bmp() {
            prepare_sequential(trace, &mut progress)?
        } else {
            prepare_concurrent(trace, &mut progress)?
        };
        Self::merge(ops, trace.agents, trace.end.as_deref())
    }

    /// Has `agents` people make `edits` edits in one text, all at once, each a little behind the others.
    pub fn typed(
        agents: usize,
        edits: usize,
        seed: u64,
        mut progress: impl FnMut(),
    ) -> Result<Self, ScriptError> {
        let mut random = Random::new(seed);
        let mut typists: Vec<Typist> = (0..agents).map(|_| Typist::new(random.number())).collect();
        let mut room = Room::new(agents);
        let mut turn = 0;
        for _ in 0..edits {
            let past = room.past_with_lag(turn, random.below(TYPING_LAG_EDITS_MAX) as usize);
            let needs = room.catch_up(turn, &past)?;
            let patch = typists[turn].edit(room.agents[turn].view().chars().count());
            room.record(turn, needs, &[patch], Units::Convert)?;
            progress();
            if random.below(TYPING_EDITS_PER_TURN) == 0 {
                turn = random.below(agents as u64) as usize;
            }
        }
        Self::merge(room.ops, agents, None)
    }

    fn merge(ops: Vec<Op>, agents: usize, end: Option<&str>) -> Result<Self, ScriptError> {
        let payloads: Vec<&[u8]> = ops.iter().map(|op| op.payload.as_ref()).collect();
        let mut merged = Replica::new();
        merged
            .apply(&payloads)
            .map_err(|(transaction, reason)| ScriptError::Update { transaction, reason })?;
        let text = merged.text();
        let equals_recording = end.map(|end| end == text);
        Ok(Self { ops, agents, text, equals_recording })
    }
}

/// One author, whose every code point is a UTF-16 unit: no CRDT is needed to know what the updates are.
fn prepare_sequential(trace: &Trace, progress: &mut impl FnMut()) -> Result<Vec<Op>, ScriptError> {
    let mut outline = Outline::new();
    let client = client_id(0).get();
    let mut ops = Vec::with_capacity(trace.transactions.len());
    for (index, transaction) in trace.transactions.iter().enumerate() {
        let mut update = UpdateBuilder::new(ROOT, client);
        for patch in &transaction.patches {
            let (position, deleted) = in_range(index, patch, outline.length() as usize)?;
            outline.delete(position, deleted, update.deleted());
            let length = patch.inserted.encode_utf16().count() as u32;
            if length > 0 {
                update.insert(outline.insert(position, length), &patch.inserted);
            }
        }
        let payload = Bytes::from(update.encode());
        ops.push(Op { agent: 0, payload, needs: Vec::new() });
        progress();
    }
    Ok(ops)
}

fn prepare_concurrent(trace: &Trace, progress: &mut impl FnMut()) -> Result<Vec<Op>, ScriptError> {
    let mut room = Room::new(trace.agents);
    let units = if trace.is_within_bmp() { Units::Same } else { Units::Convert };
    // For each transaction, how many ops of each agent its own agent had after it.
    let mut seen: Vec<Box<[usize]>> = Vec::with_capacity(trace.transactions.len());
    for (index, transaction) in trace.transactions.iter().enumerate() {
        let agent = transaction.agent;
        let mut past = past_of(transaction, trace.agents, &seen);
        if past[agent] != room.written[agent].len() {
            return Err(ScriptError::Forked { transaction: index, agent });
        }
        let needs = room.catch_up(agent, &past)?;
        room.record(agent, needs, &transaction.patches, units)?;
        past[agent] += 1;
        seen.push(past.into_boxed_slice());
        progress();
    }
    Ok(room.ops)
}

/// How many ops of each agent lie in the past of `transaction`.
fn past_of(transaction: &Transaction, agents: usize, seen: &[Box<[usize]>]) -> Vec<usize> {
    let mut past = vec![0; agents];
    for &parent in &transaction.parents {
        for (count, of_parent) in past.iter_mut().zip(&seen[parent]) {
            *count = (*count).max(*of_parent);
        }
    }
    past
}

/// Whether code points are UTF-16 units throughout.
#[derive(Clone, Copy)]
enum Units {
    Same,
    Convert,
}

/// All agents and what they wrote so far.
struct Room {
    agents: Vec<Agent>,
    ops: Vec<Op>,
    /// The ops of each agent, by index.
    written: Vec<Vec<usize>>,
}

/// One agent's view of the text.
struct Agent {
    doc: Doc,
    text: TextRef,
    /// How many ops of each agent it has.
    known: Vec<usize>,
    /// The text, where code points have to be counted and nothing came from others since.
    view: Option<String>,
}

impl Room {
    fn new(agents: usize) -> Self {
        Self {
            agents: (0..agents).map(|agent| Agent::new(agent, agents)).collect(),
            ops: Vec::new(),
            written: vec![Vec::new(); agents],
        }
    }

    /// All ops but the last `lag`, and what `agent` has already. A past, because each of those ops was
    /// written with a past that lies further back, or is known.
    fn past_with_lag(&self, agent: usize, lag: usize) -> Vec<usize> {
        let first_unseen = self.ops.len().saturating_sub(lag);
        let seen = |written: &Vec<usize>| written.partition_point(|&index| index < first_unseen);
        let known = &self.agents[agent].known;
        self.written.iter().zip(known).map(|(written, known)| seen(written).max(*known)).collect()
    }

    /// Applies what lies in `past` and the agent does not know yet; returns what that was.
    fn catch_up(&mut self, agent: usize, past: &[usize]) -> Result<Vec<(usize, usize)>, ScriptError> {
        let Self { agents, ops, written } = self;
        let Agent { doc, known, view, .. } = &mut agents[agent];
        let mut needs = Vec::new();
        let mut missing = Vec::new();
        for (author, known) in known.iter_mut().enumerate() {
            if past[author] > *known {
                needs.push((author, past[author]));
                missing.extend_from_slice(&written[author][*known..past[author]]);
                *known = past[author];
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            *view = None;
            let mut transaction = doc.transact_mut();
            for index in missing {
                apply(&mut transaction, index, &ops[index].payload)?;
            }
        }
        Ok(needs)
    }

    fn record(
        &mut self,
        agent: usize,
        needs: Vec<(usize, usize)>,
        patches: &[Patch],
        units: Units,
    ) -> Result<(), ScriptError> {
        let index = self.ops.len();
        let author = &mut self.agents[agent];
        let payload = author.edit(index, patches, units)?;
        author.known[agent] += 1;
        self.written[agent].push(index);
        self.ops.push(Op { agent, payload, needs });
        Ok(())
    }
}

impl Agent {
    fn new(agent: usize, agents: usize) -> Self {
        let (doc, text) = text_doc(client_id(agent));
        Self { doc, text, known: vec![0; agents], view: None }
    }

    /// Makes the edits and returns them as an update.
    fn edit(&mut self, index: usize, patches: &[Patch], units: Units) -> Result<Bytes, ScriptError> {
        if matches!(units, Units::Convert) {
            self.view();
        }
        let mut transaction = self.doc.transact_mut();
        for patch in patches {
            let (position, deleted) = match &mut self.view {
                Some(view) => edit_view(index, patch, view)?,
                None => in_range(index, patch, self.text.len(&transaction) as usize)?,
            };
            if deleted > 0 {
                self.text.remove_range(&mut transaction, position, deleted);
            }
            if !patch.inserted.is_empty() {
                self.text.insert(&mut transaction, position, &patch.inserted);
            }
        }
        Ok(Bytes::from(transaction.encode_update_v1()))
    }

    fn view(&mut self) -> &str {
        self.view.get_or_insert_with(|| self.text.get_string(&self.doc.transact()))
    }
}

fn apply(transaction: &mut TransactionMut<'_>, index: usize, payload: &[u8]) -> Result<(), ScriptError> {
    let failed = |reason: String| ScriptError::Update { transaction: index, reason };
    let update = Update::decode_v1(payload).map_err(|error| failed(error.to_string()))?;
    transaction.apply_update(update).map_err(|error| failed(error.to_string()))
}

/// The patch's place where code points are UTF-16 units: `length` of them.
fn in_range(transaction: usize, patch: &Patch, length: usize) -> Result<(u32, u32), ScriptError> {
    let end = patch.position.saturating_add(patch.deleted);
    let out_of_range = ScriptError::OutOfRange { transaction, position: patch.position, end, length };
    if end > length {
        return Err(out_of_range);
    }
    match (u32::try_from(patch.position), u32::try_from(patch.deleted)) {
        (Ok(position), Ok(deleted)) => Ok((position, deleted)),
        _ => Err(out_of_range),
    }
}

/// Makes the edit in `view`; returns its place in UTF-16 units.
fn edit_view(transaction: usize, patch: &Patch, view: &mut String) -> Result<(u32, u32), ScriptError> {
    in_range(transaction, patch, view.chars().count())?;
    let bytes =
        |text: &str, code_points| text.char_indices().nth(code_points).map_or(text.len(), |(at, _)| at);
    let units = |text: &str| text.encode_utf16().count() as u32;
    let start = bytes(view, patch.position);
    let end = start + bytes(&view[start..], patch.deleted);
    let range = (units(&view[..start]), units(&view[start..end]));
    view.replace_range(start..end, &patch.inserted);
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(position: usize, deleted: usize, inserted: &str) -> Patch {
        Patch { position, deleted, inserted: inserted.to_owned() }
    }

    fn transaction(agent: usize, parents: &[usize], patches: &[Patch]) -> Transaction {
        Transaction { agent, parents: parents.to_vec(), patches: patches.to_vec() }
    }

    fn prepare(agents: usize, transactions: Vec<Transaction>, end: &str) -> Result<Script, ScriptError> {
        Script::prepare(&Trace { end: Some(end.to_owned()), agents, transactions, times: Vec::new() }, || {})
    }

    /// The text when the ops arrive in another order, which still has every op after its past.
    fn text_by_agent(script: &Script) -> String {
        let mut replica = Replica::new();
        let mut known = vec![0; script.agents];
        let mut waiting: Vec<Vec<&Op>> = vec![Vec::new(); script.agents];
        for op in script.ops.iter().rev() {
            waiting[op.agent].push(op);
        }
        while let Some(agent) = (0..script.agents).rev().find(|&agent| {
            let next = waiting[agent].last();
            next.is_some_and(|op| op.needs.iter().all(|&(author, count)| known[author] >= count))
        }) {
            let op = waiting[agent].pop().unwrap();
            replica.apply(&[&op.payload]).unwrap();
            known[agent] += 1;
        }
        assert!(waiting.iter().all(Vec::is_empty), "an op needs what does not come");
        replica.text()
    }

    #[test]
    fn an_agent_edits_a_text_that_it_had_not_seen() {
        let script = prepare(
            2,
            vec![
                transaction(0, &[], &[patch(0, 0, "ac")]),
                // Both at once: each position is relative to "ac" and its agent's own edits.
                transaction(0, &[0], &[patch(1, 0, "b")]),
                transaction(1, &[0], &[patch(2, 0, "x")]),
                transaction(1, &[2], &[patch(2, 1, "d")]),
                transaction(0, &[1, 3], &[patch(4, 0, "e")]),
            ],
            "abcde",
        )
        .unwrap();
        assert_eq!(script.text, "abcde");
        assert_eq!(script.equals_recording, Some(true));
        let needs: Vec<_> = script.ops.iter().map(|op| op.needs.clone()).collect();
        assert_eq!(needs, [vec![], vec![], vec![(0, 1)], vec![], vec![(1, 2)]]);
        assert_eq!(text_by_agent(&script), "abcde");
    }

    #[test]
    fn a_position_counts_utf16_units_or_bytes() {
        for agents in [1, 2] {
            let script = prepare(
                agents,
                vec![
                    transaction(0, &[], &[patch(0, 0, "🙂ü")]),
                    transaction(agents - 1, &[0], &[patch(1, 0, "a")]),
                    transaction(agents - 1, &[1], &[patch(2, 1, "🙂"), patch(3, 0, "b")]),
                    transaction(0, &(0..3).collect::<Vec<_>>(), &[patch(0, 1, "")]),
                ],
                "a🙂b",
            );
            assert_eq!(script.unwrap().text, "a🙂b");
        }
    }

    #[test]
    fn an_edit_outside_of_the_text_panics() {
        for agents in [1, 2] {
            let error =
                prepare(agents, vec![transaction(0, &[], &[patch(1, 0, "a")])], "").unwrap_err().to_string();
            assert!(error.contains("transaction 0 edits 1..1 of a text of 0"), "{error}");
        }
        let error = prepare(1, vec![transaction(0, &[], &[patch(0, usize::MAX, "🙂")])], "").unwrap_err();
        assert!(matches!(error, ScriptError::OutOfRange { .. }));
    }

    #[test]
    fn an_agent_with_two_histories_is_replayed_as_one() {
        let transactions =
            vec![transaction(0, &[], &[patch(0, 0, "a")]), transaction(0, &[], &[patch(0, 0, "b")])];
        let error = prepare(1, transactions, "").unwrap_err();
        assert!(matches!(error, ScriptError::Forked { transaction: 1, agent: 0 }));
    }

    #[test]
    fn typists_diverge() {
        let script = Script::typed(4, 1_500, 42, || {}).unwrap();
        assert_eq!(script.ops.len(), 1_500);
        assert!(
            script.ops.iter().filter(|op| !op.needs.is_empty()).count() > 100,
            "nobody waits for anybody"
        );
        assert_eq!(text_by_agent(&script), script.text);
        assert_eq!(Script::typed(4, 1_500, 42, || {}).unwrap().text, script.text);
    }

    #[test]
    fn the_outline_makes_another_update_than_the_crdt() {
        let mut typist = Typist::new(3);
        let mut length = 0;
        let mut transactions = Vec::new();
        for index in 0..6_000_usize {
            let mut patch = typist.edit(length);
            patch.inserted = patch.inserted.replace('🙂', "ß");
            length = length - patch.deleted + patch.inserted.chars().count();
            let parents: Vec<_> = index.checked_sub(1).into_iter().collect();
            transactions.push(transaction(0, &parents, &[patch]));
        }
        let trace = Trace { end: None, agents: 1, transactions, times: Vec::new() };
        let fast = prepare_sequential(&trace, &mut || {}).unwrap();
        let slow = prepare_concurrent(&trace, &mut || {}).unwrap();
        for (index, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
            assert_eq!(fast.payload, slow.payload, "transaction {index}");
        }
    }

    #[test]
    fn a_transaction_of_several_edits_is_put_together_wrongly() {
        let patches = [
            patch(0, 0, "one three"),
            patch(4, 0, "two "),
            patch(0, 4, ""),
            patch(2, 3, "OTH"),
            patch(0, 1, ""),
        ];
        let script = prepare(1, vec![transaction(0, &[], &patches)], "wOTHhree").unwrap();
        assert_eq!(script.text, "wOTHhree");
    }
}
