//! State machines of one's own: a right one survives, and each way of being wrong is noticed by
//! worlds that know nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::{
    Committed, Fatal, LogId, LogIndex, NodeId, QueryError, Replies, SnapshotView, StateMachine,
};
use quorate_sim::{Breach, Case, Home, Request, Rng, Sequential, Subject, Subjects, World};
use std::io::{Read, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A node's count differs from the others'.
    Diverges,
    /// A query is answered from before the last few commands.
    StaleReads,
    /// A snapshot lacks one.
    ForgetsInSnapshots,
    /// All replicas alike, but not as a counter should.
    Miscounts,
}

#[derive(Clone)]
struct Counter {
    node: NodeId,
    wrong: Wrong,
    count: u64,
}

impl StateMachine for Counter {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for _ in batch {
            let skips = match self.wrong {
                Wrong::Diverges => self.node.get() == 1 && self.count % 16 == 9,
                Wrong::Miscounts => self.count == 20,
                Wrong::Nothing | Wrong::StaleReads | Wrong::ForgetsInSnapshots => false,
            };
            self.count += if skips { 2 } else { 1 };
            replies.push(self.count.to_string());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        let late = if self.wrong == Wrong::StaleReads { self.count % 8 } else { 0 };
        Ok((self.count - late).to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(self.clone()))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes).map_err(|error| Fatal::caused_by("too short", error))?;
        self.count = u64::from_le_bytes(bytes);
        Ok(())
    }
}

impl SnapshotView for Counter {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        let lost = u64::from(self.wrong == Wrong::ForgetsInSnapshots);
        target.write_all(&self.count.saturating_sub(lost).to_le_bytes())
    }
}

struct Count(u64);

impl Sequential for Count {
    fn apply(&mut self, _: &Bytes) -> Bytes {
        self.0 += 1;
        self.0.to_string().into()
    }

    fn query(&self, _: &Bytes) -> Bytes {
        self.0.to_string().into()
    }
}

struct CounterTest(Wrong);

impl Subject for CounterTest {
    fn machine(&self, home: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        Ok(Box::new(Counter { node: home.node, wrong: self.0, count: 0 }))
    }

    fn request(&self, _: u64, rng: &mut Rng) -> Request {
        if rng.coin() { Request::Query("?".into()) } else { Request::Command("add".into()) }
    }

    fn model(&self) -> Box<dyn Sequential> {
        Box::new(Count(0))
    }

    fn last_look(&self) -> Vec<Bytes> {
        vec!["?".into()]
    }
}

/// The first breach in twenty worlds.
fn hunt(wrong: Wrong) -> Option<(u64, Breach)> {
    let worlds = Subjects::new("subjects", || CounterTest(wrong));
    (1..=20).find_map(|seed| {
        let case = Case::from(World { seed, node_count: 3, steps: 6_000 });
        case.run(&worlds).err().map(|violation| (seed, violation.breach))
    })
}

#[test]
fn a_right_state_machine_survives() {
    assert!(hunt(Wrong::Nothing).is_none());
}

#[test]
fn a_replica_that_diverges_is_noticed() {
    println!("{:?}", hunt(Wrong::Diverges).expect("no judge noticed"));
}

#[test]
fn stale_reads_are_noticed() {
    println!("{:?}", hunt(Wrong::StaleReads).expect("no judge noticed"));
}

#[test]
fn a_snapshot_that_forgets_is_noticed() {
    println!("{:?}", hunt(Wrong::ForgetsInSnapshots).expect("no judge noticed"));
}

#[test]
fn a_machine_that_is_wrong_on_all_replicas_alike_is_noticed_by_its_model() {
    println!("{:?}", hunt(Wrong::Miscounts).expect("no judge noticed"));
}
