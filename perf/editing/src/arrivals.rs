//! Which ops of a script have come to somebody.
//!
//! What comes from a node is bytes: an op as its writer sent it, or a state that contains many. This finds
//! the ops of the script in them.

use std::collections::HashMap;

use bytes::Bytes;
use yrs::updates::decoder::Decode;
use yrs::{IdSet, Update};

use crate::script::{Op, Script};

/// Where the ops of a script are found.
#[derive(Debug)]
pub struct Catalog {
    /// The ops of each agent, in order, by index.
    pub by_agent: Vec<Vec<usize>>,
    /// The ops with these bytes. Two agents that delete the same send the same bytes.
    by_payload: HashMap<Bytes, Vec<usize>>,
}

/// Which ops have come.
#[derive(Debug)]
pub struct Arrivals {
    arrived: Vec<bool>,
    count: usize,
    /// How many of each agent's ops have come without a gap.
    prefix: Vec<usize>,
}

/// What an op is that has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The op of this index, for the first time.
    New(usize),
    /// One that came before: a node that was killed forgot it, and its writer sent it again.
    Repeated,
    /// None of the script.
    Foreign,
}

/// What a Yjs update contains.
#[derive(Debug)]
pub struct Contents {
    inserted: IdSet,
    deleted: IdSet,
}

impl Catalog {
    /// Of the ops of `script`.
    #[must_use]
    pub fn new(script: &Script) -> Self {
        let mut by_agent = vec![Vec::new(); script.agents];
        let mut by_payload: HashMap<Bytes, Vec<usize>> = HashMap::new();
        for (index, op) in script.ops.iter().enumerate() {
            by_agent[op.agent].push(index);
            // One agent's ops come in order: they are found without a table.
            if script.agents > 1 {
                by_payload.entry(op.payload.clone()).or_default().push(index);
            }
        }
        Self { by_agent, by_payload }
    }
}

impl Contents {
    /// Of an update (v1).
    pub fn read(update: &[u8]) -> Result<Self, String> {
        let update = Update::decode_v1(update).map_err(|error| error.to_string())?;
        Ok(Self::of(&update))
    }

    fn of(update: &Update) -> Self {
        Self { inserted: update.insertions(true), deleted: update.delete_set().clone() }
    }

    /// Whether `op` is part of it, which may be a difference as well as a whole state.
    #[must_use]
    pub fn contains(&self, op: &Op) -> bool {
        // The script was checked when it was merged: its updates decode.
        self.contains_update(&op.payload)
    }

    /// Whether all of an update (v1) is part of it; not when that does not decode.
    #[must_use]
    pub fn contains_update(&self, update: &[u8]) -> bool {
        Update::decode_v1(update).is_ok_and(|update| {
            let part = Self::of(&update);
            is_part(&part.inserted, &self.inserted) && is_part(&part.deleted, &self.deleted)
        })
    }
}

fn is_part(part: &IdSet, whole: &IdSet) -> bool {
    part.client_ids().all(|client| match (part.get(&client), whole.get(&client)) {
        (Some(part), Some(whole)) => part.subset_of(whole),
        _ => false,
    })
}

impl Arrivals {
    /// Nothing has come.
    #[must_use]
    pub fn new(script: &Script) -> Self {
        Self { arrived: vec![false; script.ops.len()], count: 0, prefix: vec![0; script.agents] }
    }

    /// Somebody's op has come: which?
    pub fn take(&mut self, script: &Script, catalog: &Catalog, payload: &Bytes) -> Arrival {
        let is_next = |agent: usize| {
            let index = *catalog.by_agent[agent].get(self.prefix[agent])?;
            (script.ops[index].payload == payload).then_some(index)
        };
        let next = (0..script.agents).find_map(is_next);
        let new = next.or_else(|| {
            let same = catalog.by_payload.get(payload)?;
            same.iter().copied().find(|&index| !self.arrived[index])
        });
        if let Some(index) = new {
            self.mark(script, catalog, index);
            return Arrival::New(index);
        }
        // What comes twice came not long ago.
        let of_agent = |agent: usize| catalog.by_agent[agent][..self.prefix[agent]].iter().rev();
        let mut before = (0..script.agents).flat_map(of_agent);
        if before.any(|&index| script.ops[index].payload == payload) {
            Arrival::Repeated
        } else {
            Arrival::Foreign
        }
    }

    /// A state has come: calls `new` with each op in it that had not come before.
    pub fn take_state(
        &mut self,
        script: &Script,
        catalog: &Catalog,
        state: &Contents,
        mut new: impl FnMut(usize),
    ) {
        for (index, op) in script.ops.iter().enumerate() {
            if !self.arrived[index] && state.contains(op) {
                self.mark(script, catalog, index);
                new(index);
            }
        }
    }

    /// Whether the first `count` ops of `agent` have come.
    #[must_use]
    pub fn has(&self, agent: usize, count: usize) -> bool {
        self.prefix[agent] >= count
    }

    /// How many ops have come.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn mark(&mut self, script: &Script, catalog: &Catalog, index: usize) {
        self.arrived[index] = true;
        self.count += 1;
        let agent = script.ops[index].agent;
        let of_agent = &catalog.by_agent[agent];
        let prefix = &mut self.prefix[agent];
        while of_agent.get(*prefix).is_some_and(|&next| self.arrived[next]) {
            *prefix += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::Replica;
    use crate::trace::{Patch, Trace, Transaction};

    /// Both agents delete the same letter at once, then one goes on.
    fn script() -> (Script, Catalog) {
        let patch = |position, deleted, inserted: &str| {
            vec![Patch { position, deleted, inserted: inserted.to_owned() }]
        };
        let transactions = vec![
            Transaction { agent: 0, parents: vec![], patches: patch(0, 0, "abc") },
            Transaction { agent: 0, parents: vec![0], patches: patch(1, 1, "") },
            Transaction { agent: 1, parents: vec![0], patches: patch(1, 1, "") },
            Transaction { agent: 1, parents: vec![2], patches: patch(2, 0, "d") },
        ];
        let script =
            Script::prepare(&Trace { end: None, agents: 2, transactions, times: Vec::new() }, || {}).unwrap();
        let catalog = Catalog::new(&script);
        (script, catalog)
    }

    #[test]
    fn two_deletes_of_the_same_letter_are_taken_for_one() {
        let (script, catalog) = script();
        assert_eq!(script.ops[1].payload, script.ops[2].payload);
        // Whoever's delete comes first, all four are found and none twice.
        for order in [[0, 1, 2, 3], [0, 2, 3, 1]] {
            let mut arrivals = Arrivals::new(&script);
            let mut take = |index: usize| arrivals.take(&script, &catalog, &script.ops[index].payload);
            let mut found: Vec<_> = order
                .iter()
                .filter_map(|&index| match take(index) {
                    Arrival::New(found) => Some(found),
                    _ => None,
                })
                .collect();
            assert!(arrivals.has(0, 2) && arrivals.has(1, 2));
            assert_eq!(arrivals.take(&script, &catalog, &script.ops[1].payload), Arrival::Repeated);
            found.sort_unstable();
            assert_eq!(found, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_state_is_credited_with_a_delete_that_it_lacks() {
        let (script, catalog) = script();
        let state = |ops: &[usize]| {
            let mut replica = Replica::new();
            let payloads: Vec<_> = ops.iter().map(|&index| script.ops[index].payload.clone()).collect();
            replica.apply(&payloads).unwrap();
            Contents::read(&replica.encode()).unwrap()
        };
        let mut arrivals = Arrivals::new(&script);
        let mut new = Vec::new();
        arrivals.take_state(&script, &catalog, &state(&[0]), |index| new.push(index));
        assert_eq!(new, [0]);
        arrivals.take_state(&script, &catalog, &state(&[0, 1, 2, 3]), |index| new.push(index));
        assert_eq!(new, [0, 1, 2, 3]);
        assert_eq!(arrivals.count(), 4);
    }

    #[test]
    fn a_difference_is_taken_for_nothing() {
        let (script, catalog) = script();
        let mut replica = Replica::new();
        replica.apply(&[script.ops[0].payload.clone()]).unwrap();
        let before = replica.state_vector();
        replica.apply(&[script.ops[2].payload.clone(), script.ops[3].payload.clone()]).unwrap();
        let difference = Contents::read(&replica.encode_since(&before)).unwrap();
        let mut arrivals = Arrivals::new(&script);
        arrivals.take(&script, &catalog, &script.ops[0].payload);
        let mut new = Vec::new();
        arrivals.take_state(&script, &catalog, &difference, |index| new.push(index));
        // The two deletes are the same bytes: whoever's it was, both are done.
        assert_eq!(new, [1, 2, 3]);
    }

    #[test]
    fn a_foreign_op_is_taken_for_one_of_the_script() {
        let (script, catalog) = script();
        let mut arrivals = Arrivals::new(&script);
        assert_eq!(arrivals.take(&script, &catalog, &Bytes::from_static(&[0, 0])), Arrival::Foreign);
        assert_eq!(arrivals.count(), 0);
    }
}
