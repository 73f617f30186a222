//! The judge of reads that promise less than linearizability: what they show is some state that the
//! log has gone through, never one that nobody committed, and on one life of one node never an
//! older one than before. Knows revisions, not the log.

use super::codec::Told;
use super::model::{KeyOp, KeyReply, Value};
use crate::application::Complaint;
use bytes::Bytes;
use quorate_core::{LogIndex, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// How many reads of one life are remembered, to compare with those that come late.
const REMEMBERED_COUNT_MAX: usize = 64;

/// Where and when a read was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) node: NodeId,
    pub(super) life: u64,
    /// Rises from one read to the next.
    pub(super) order: u64,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct WeakReads {
    reads: Vec<Shown>,
    /// What each life of each node showed lately: order, revision.
    lives: BTreeMap<(NodeId, u64), BTreeMap<u64, u64>>,
    /// Changes that are known for sure, and whether they are deletions.
    changes: BTreeMap<Bytes, BTreeMap<u64, bool>>,
    /// Values of writes that had no effect.
    refused: BTreeSet<Value>,
    /// The last known place in the log, and the revision there.
    applied: (LogIndex, u64),
}

/// What a read showed of a key.
#[derive(Clone, Debug)]
struct Shown {
    key: Bytes,
    /// The state's revision.
    revision: u64,
    /// The value, and the revision of the key's last change.
    held: Option<(Value, u64)>,
}

impl WeakReads {
    /// A place in the log that is known to be applied somewhere, and the revision that a state has
    /// there at least.
    pub(super) const fn known_place(&self) -> (LogIndex, u64) {
        self.applied
    }

    /// Somebody was told that an operation took effect there.
    pub(super) fn applied(&mut self, index: LogIndex, told: &Told) {
        self.applied = self.applied.max((index, told.revision));
    }

    /// A change is known for sure.
    pub(super) fn changed(&mut self, key: &Bytes, op: KeyOp, told: &Told) {
        let is_deletion = match (op, told.reply) {
            (KeyOp::Put { .. }, _) | (KeyOp::Swap { .. }, KeyReply::Swapped) => false,
            (KeyOp::Delete, KeyReply::Held(Some(_))) => true,
            (KeyOp::Get | KeyOp::Delete | KeyOp::Swap { .. }, _) => return,
        };
        self.changes.entry(key.clone()).or_default().insert(told.revision, is_deletion);
    }

    /// A write had no effect, and never will.
    pub(super) fn refused(&mut self, op: KeyOp) {
        match op {
            KeyOp::Put { value } | KeyOp::Swap { value, .. } => {
                self.refused.insert(value);
            }
            KeyOp::Get | KeyOp::Delete => {}
        }
    }

    /// A read showed this. `floor` is what it promised to show at least.
    pub(super) fn shown(
        &mut self,
        key: &Bytes,
        floor: u64,
        served: Served,
        told: &Told,
    ) -> Result<(), Complaint> {
        let Told { revision, seen, .. } = told;
        let revision = *revision;
        if revision < floor {
            let text = format!("a read at revision {floor} or later shows {revision}");
            return Err(Complaint(text));
        }
        self.never_goes_back(served, revision)?;
        let held = seen.first().copied();
        self.reads.push(Shown { key: key.clone(), revision, held });
        Ok(())
    }

    /// Answers may overtake each other on their way: what counts is the order of serving.
    fn never_goes_back(&mut self, served: Served, revision: u64) -> Result<(), Complaint> {
        let Served { node, life, order } = served;
        let shown = self.lives.entry((node, life)).or_default();
        let before = shown.range(..order).next_back().map_or(0, |(_, revision)| *revision);
        let after = shown.range(order..).next().map_or(u64::MAX, |(_, revision)| *revision);
        if revision < before || revision > after {
            return Err(Complaint(format!(
                "node {node} shows revision {revision} between {before} and {after}"
            )));
        }
        shown.insert(order, revision);
        if shown.len() > REMEMBERED_COUNT_MAX {
            shown.pop_first();
        }
        Ok(())
    }

    /// Everything that will ever be known is known. `is_doubtful` says of which keys a deletion may
    /// have happened that nobody was told of.
    pub(super) fn verdict(&self, is_doubtful: impl Fn(&Bytes) -> bool) -> Result<u64, Complaint> {
        for read in &self.reads {
            self.is_of_history(read, is_doubtful(&read.key))?;
        }
        Ok(u64::try_from(self.reads.len()).unwrap_or(u64::MAX))
    }

    fn is_of_history(&self, read: &Shown, is_doubtful: bool) -> Result<(), Complaint> {
        let Shown { key, revision, held } = read;
        let complain = |what: String| {
            Err(Complaint(format!(
                "a read of {key:?} at revision {revision} shows {held:?}: {what}"
            )))
        };
        let changes = self.changes.get(key);
        let last = changes.and_then(|it| it.range(..=*revision).next_back());
        match (held, last) {
            (Some((value, _)), _) if self.refused.contains(value) => {
                complain("the write of it had no effect".to_owned())
            }
            (Some((_, revision)), Some((last, _))) if revision < last => {
                complain(format!("it was changed at {last}"))
            }
            (None, Some((last, false))) if !is_doubtful => {
                complain(format!("it was written at {last}"))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(revision: u64, reply: KeyReply, seen: &[(Value, u64)]) -> Told {
        Told { revision, reply, seen: seen.to_vec() }
    }

    fn served(life: u64, order: u64) -> Served {
        Served { node: NodeId::new(1), life, order }
    }

    /// Value 7 is written at revision 5, and removed at 9.
    fn judge() -> (WeakReads, Bytes) {
        let (mut judge, key) = (WeakReads::default(), Bytes::from_static(b"k"));
        judge.changed(&key, KeyOp::Put { value: 7 }, &told(5, KeyReply::Done, &[]));
        let removed = told(9, KeyReply::Held(Some(7)), &[(7, 5)]);
        judge.changed(&key, KeyOp::Delete, &removed);
        (judge, key)
    }

    fn verdict_on(revision: u64, held: Option<(Value, u64)>) -> Result<u64, Complaint> {
        let (mut judge, key) = judge();
        let reply = KeyReply::Held(held.map(|(value, _)| value));
        let seen: Vec<_> = held.into_iter().collect();
        judge.shown(&key, 0, served(1, 1), &told(revision, reply, &seen)).unwrap();
        judge.verdict(|_| false)
    }

    #[test]
    fn an_old_state_is_as_good_as_a_new_one() {
        for (revision, held) in [(4, None), (5, Some((7, 5))), (8, Some((7, 5))), (9, None)] {
            assert_eq!(verdict_on(revision, held), Ok(1), "{revision}");
        }
    }

    #[test]
    fn a_state_that_never_was_is_noticed() {
        for (revision, held) in [(6, None), (9, Some((7, 5)))] {
            assert!(verdict_on(revision, held).is_err(), "{revision}");
        }
    }

    #[test]
    fn a_value_whose_write_had_no_effect_is_noticed_whoever_comes_first() {
        let (mut judge, key) = judge();
        judge.shown(&key, 0, served(1, 1), &told(12, KeyReply::Held(Some(8)), &[(8, 11)])).unwrap();
        assert!(judge.verdict(|_| false).is_ok());
        judge.refused(KeyOp::Put { value: 8 });
        assert!(judge.verdict(|_| false).is_err());
    }

    #[test]
    fn one_life_of_a_node_never_goes_back_and_the_next_may() {
        let (mut judge, key) = judge();
        let at = |revision| told(revision, KeyReply::Held(None), &[]);
        judge.shown(&key, 0, served(1, 5), &at(20)).unwrap();
        judge.shown(&key, 0, served(1, 3), &at(19)).unwrap();
        judge.shown(&key, 0, served(2, 6), &at(10)).unwrap();
        assert!(judge.shown(&key, 0, served(1, 7), &at(18)).is_err(), "served later, shows less");
        assert!(judge.shown(&key, 0, served(1, 4), &at(21)).is_err(), "served earlier, shows more");
    }

    #[test]
    fn a_read_at_a_place_shows_at_least_that_place() {
        let (mut judge, key) = judge();
        let shown = told(9, KeyReply::Held(None), &[]);
        assert!(judge.shown(&key, 10, served(1, 1), &shown).is_err());
    }
}
