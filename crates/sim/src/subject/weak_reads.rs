//! The judge of reads that promise less than linearizability, along the log: what they show is some
//! state that the log has gone through, no older than they promised, and on one life of one node
//! never older than what it showed before. Knows nothing of what is in a state.

use super::Sequential;
use crate::application::Complaint;
use bytes::Bytes;
use quorate_core::{LogIndex, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// An answer to such a read.
#[derive(Clone, Debug)]
pub(super) struct WeakRead {
    pub(super) node: NodeId,
    pub(super) life: u64,
    /// Rises from one read that is served to the next.
    pub(super) order: u64,
    pub(super) asked: Bytes,
    pub(super) reply: Bytes,
    /// It promised to show this much at least...
    pub(super) floor: LogIndex,
    /// ...and nobody had applied more when it was answered.
    pub(super) before: LogIndex,
}

/// The reads that have no place in the log yet: of each life of a node, in the order of serving.
pub(super) struct WeakReads<'a>(Vec<VecDeque<&'a WeakRead>>);

impl<'a> WeakReads<'a> {
    pub(super) fn new(reads: &'a [WeakRead]) -> Self {
        let mut lives: BTreeMap<(NodeId, u64), BTreeMap<u64, &WeakRead>> = BTreeMap::new();
        for read in reads {
            lives.entry((read.node, read.life)).or_default().insert(read.order, read);
        }
        Self(lives.into_values().map(|life| life.into_values().collect()).collect())
    }

    /// The state is that of `index`, and remains so until `next`. Each life takes the first place
    /// that fits: that leaves the most room to its later reads.
    pub(super) fn settle(
        &mut self,
        model: &dyn Sequential,
        index: LogIndex,
        next: Option<LogIndex>,
    ) {
        for life in &mut self.0 {
            while let Some(read) = life.front() {
                let is_new_enough = next.is_none_or(|next| read.floor < next);
                let fits = is_new_enough && index <= read.before;
                if !fits || model.query(&read.asked) != read.reply {
                    break;
                }
                life.pop_front();
            }
        }
        self.0.retain(|life| !life.is_empty());
    }

    /// The log goes on to this command; what cannot have seen it has to have its place.
    pub(super) fn overtaken(&self, index: LogIndex) -> Result<(), Complaint> {
        let late = self.fronts().find(|read| read.before < index);
        late.map_or(Ok(()), |read| Err(read.wrong()))
    }

    /// The log is at its end.
    pub(super) fn end(&self) -> Result<(), Complaint> {
        self.fronts().next().map_or(Ok(()), |read| Err(read.wrong()))
    }

    fn fronts(&self) -> impl Iterator<Item = &WeakRead> {
        self.0.iter().filter_map(|life| life.front().copied())
    }
}

impl WeakRead {
    fn wrong(&self) -> Complaint {
        let Self { node, life, asked, reply, floor, before, .. } = self;
        Complaint(format!(
            "{asked:?}, a weaker read, was answered by {reply:?} on node {node} in its life {life}: \
             right nowhere from {floor} to {before}, or only in states older than one that it had \
             shown before"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts commands; every query asks how many.
    struct Count(u64);

    impl Sequential for Count {
        fn apply(&mut self, _: &Bytes) -> Bytes {
            self.0 += 1;
            Bytes::new()
        }

        fn query(&self, _: &Bytes) -> Bytes {
            self.0.to_string().into()
        }
    }

    fn read(life: u64, order: u64, reply: u64, floor: u64, before: u64) -> WeakRead {
        let (floor, before) = (LogIndex::new(floor), LogIndex::new(before));
        let (asked, reply) = (Bytes::from_static(b"?"), reply.to_string().into());
        WeakRead { node: NodeId::new(1), life, order, asked, reply, floor, before }
    }

    /// Three commands in the log at 2, 3 and 5.
    fn is_right(reads: &[WeakRead]) -> bool {
        let (mut model, mut open) = (Count(0), WeakReads::new(reads));
        let places = [0, 2, 3, 5].map(LogIndex::new);
        for (at, index) in places.into_iter().enumerate() {
            if at > 0 {
                if open.overtaken(index).is_err() {
                    return false;
                }
                model.apply(&Bytes::new());
            }
            open.settle(&model, index, places.get(at + 1).copied());
        }
        open.end().is_ok()
    }

    #[test]
    fn any_state_of_the_log_will_do_if_nothing_else_was_promised() {
        for reply in 0..=3 {
            assert!(is_right(&[read(1, 1, reply, 0, 5)]), "{reply}");
        }
        assert!(!is_right(&[read(1, 1, 4, 0, 5)]), "a state that never was");
    }

    #[test]
    fn a_read_at_a_place_shows_that_place_or_more() {
        assert!(is_right(&[read(1, 1, 2, 3, 5)]));
        // Where no command stands, the state is still that of the last one before.
        assert!(is_right(&[read(1, 1, 2, 4, 5)]));
        assert!(!is_right(&[read(1, 1, 1, 3, 5)]), "less than promised");
        assert!(!is_right(&[read(1, 1, 2, 5, 5)]), "less than promised");
    }

    #[test]
    fn nothing_is_shown_that_nobody_had_applied() {
        assert!(is_right(&[read(1, 1, 2, 0, 3)]));
        assert!(!is_right(&[read(1, 1, 3, 0, 3)]));
        assert!(!is_right(&[read(1, 1, 2, 0, 5), read(1, 2, 1, 0, 2)]), "after one that was later");
    }

    #[test]
    fn one_life_of_a_node_never_goes_back_and_another_may() {
        assert!(is_right(&[read(1, 1, 1, 0, 5), read(1, 2, 1, 0, 5), read(1, 3, 3, 0, 5)]));
        assert!(!is_right(&[read(1, 1, 2, 0, 5), read(1, 2, 1, 0, 5)]));
        assert!(is_right(&[read(1, 1, 2, 0, 5), read(2, 2, 1, 0, 5)]));
        // Answers may overtake each other on their way: what counts is the order of serving.
        assert!(is_right(&[read(1, 2, 2, 0, 5), read(1, 1, 1, 0, 5)]));
    }
}
