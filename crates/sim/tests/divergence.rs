//! State machines that go by something besides their log, on some nodes: the minority ends, names the
//! entry at which it began, and comes back with its state rebuilt; nobody else ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::{Committed, Fatal, QueryError, Replies, SnapshotView, StateMachine};
use quorate_core::{LogId, LogIndex, NodeId};
use quorate_sim::{
    Application, Cluster, ClusterOptions, Complaint, Findings, Home, Machine, OpId, Outcome,
    Request, Rng, seconds,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

/// What the test knows of all machines.
#[derive(Default)]
struct Seen {
    /// Which nodes are wrong, until they have ended for it.
    wrong: BTreeSet<NodeId>,
    /// From which command on.
    from: u64,
    /// What each node replied at last to each entry.
    replies: BTreeMap<NodeId, BTreeMap<LogIndex, Bytes>>,
    /// Who ended, and from where on its replies are said to be wrong; and where they are.
    ended: Vec<(u64, u64, u64)>,
}

impl Seen {
    /// The first entry to which a node replied otherwise than any sound one.
    fn first_difference(&self, node: NodeId) -> Option<LogIndex> {
        let own = self.replies.get(&node)?;
        let sound = self.replies.iter().filter(|(id, _)| !self.wrong.contains(id));
        let first = |replies: &BTreeMap<LogIndex, Bytes>| {
            let mut both = own.iter().filter_map(|(at, own)| Some((*at, own, replies.get(at)?)));
            both.find(|(_, own, theirs)| own != theirs).map(|(at, _, _)| at)
        };
        sound.filter_map(|(_, replies)| first(replies)).min()
    }
}

/// Counts commands, and folds them into a number that shows every difference ever since.
struct Fickle {
    node: NodeId,
    seen: Arc<Mutex<Seen>>,
    /// What it goes by besides the log, if it is wrong.
    mood: Option<u64>,
    count: u64,
    fold: u64,
}

impl StateMachine for Fickle {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        let mut seen = self.seen.lock().unwrap();
        for Committed { log_id, command } in batch {
            self.count += 1;
            let mood = self.mood.filter(|_| self.count >= seen.from).unwrap_or_default();
            let word = command.iter().fold(mood, |sum, byte| sum + u64::from(*byte));
            self.fold = self.fold.rotate_left(5).wrapping_mul(0x9e37_79b9) ^ word;
            let reply = Bytes::from(format!("{} {:x}", self.count, self.fold));
            replies.push(reply.clone());
            seen.replies.entry(self.node).or_default().insert(log_id.index, reply);
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.count.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Copied([self.count, self.fold])))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = [0; 16];
        source.read_exact(&mut bytes).map_err(|error| Fatal::caused_by("too short", error))?;
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        (self.count, self.fold) = (number(0), number(8));
        Ok(())
    }
}

struct Copied([u64; 2]);

impl SnapshotView for Copied {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        self.0.iter().try_for_each(|number| target.write_all(&number.to_le_bytes()))
    }
}

struct Fickles {
    seen: Arc<Mutex<Seen>>,
    may_diverge: bool,
}

impl Application for Fickles {
    fn machine(&mut self, home: &Home) -> Result<Machine, Fatal> {
        let (node, seen) = (home.node, Arc::clone(&self.seen));
        let is_wrong = seen.lock().unwrap().wrong.contains(&node);
        // Two that are wrong are so in different ways.
        let mood = is_wrong.then_some(node.get());
        let machine = Box::new(Fickle { node, seen, mood, count: 0, fold: 0 });
        // The states are compared by what they reply.
        Ok(Machine { machine, digest: Some(Box::new(|| 0)) })
    }

    fn may_diverge(&self) -> bool {
        self.may_diverge
    }

    fn diverged(&mut self, node: NodeId, index: LogIndex) {
        let mut seen = self.seen.lock().unwrap();
        let first = seen.first_difference(node).map_or(0, LogIndex::get);
        seen.ended.push((node.get(), index.get(), first));
        seen.wrong.remove(&node);
    }

    fn request(&mut self, op: OpId, _: u64, _: &mut Rng) -> Request {
        Request::Command(op.0.to_string().into())
    }

    fn answered(&mut self, _: OpId, _: u64, _: Outcome) -> Result<(), Complaint> {
        Ok(())
    }

    fn scan(&mut self, _: &mut dyn FnMut() -> (OpId, u64)) -> Vec<(OpId, Request)> {
        Vec::new()
    }

    fn verdict(&mut self) -> Result<Findings, Complaint> {
        Ok(Findings::default())
    }
}

const WINDOW: u64 = 16;

struct Story {
    cluster: Cluster<Fickles>,
    seen: Arc<Mutex<Seen>>,
}

impl Story {
    /// So many nodes, the first of which are wrong from one command on.
    fn of(node_count: u64, wrong_count: u64, from: u64, may_diverge: bool) -> Self {
        let wrong = (1..=wrong_count).map(NodeId::new).collect();
        let seen = Arc::new(Mutex::new(Seen { wrong, from, ..Seen::default() }));
        let mut options = ClusterOptions::calm(node_count + wrong_count, node_count);
        options.driver.digest_window_count = u32::try_from(WINDOW).unwrap();
        let application = Fickles { seen: Arc::clone(&seen), may_diverge };
        let mut cluster = Cluster::new(options, application);
        cluster.wait_for_leader(seconds(5)).expect("a leader");
        Self { cluster, seen }
    }

    /// The last node, which is sound, is asked for so many commands.
    fn commands(&mut self, count: u64) {
        let sound = self.cluster.node_ids().into_iter().max().unwrap();
        for _ in 0..count {
            // One or the other is lost with a leader that ends.
            self.cluster
                .ask_node(sound, seconds(6), |_, op, _| Request::Command(op.0.to_string().into()));
        }
    }

    /// Who ended, each with where it says that it began; that is where it did.
    fn ended(&self) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        for (node, said, began) in &seen.ended {
            assert_eq!(said, began, "node {node} says where it began");
        }
        let mut ended: Vec<u64> = seen.ended.iter().map(|(node, _, _)| *node).collect();
        ended.sort_unstable();
        ended
    }

    /// All nodes are up and reply alike, and nobody says otherwise.
    fn all_agree(mut self) {
        self.cluster.run_for(seconds(20));
        self.commands(3 * WINDOW);
        self.cluster.run_for(seconds(5));
        let seen = self.seen.lock().unwrap();
        let last: Vec<_> = seen.replies.values().map(|it| it.last_key_value().unwrap()).collect();
        assert_eq!(last.len(), self.cluster.node_ids().len());
        assert!(last.iter().all(|reply| *reply == last[0]), "{last:?}");
        drop(seen);
        for node in self.cluster.node_ids() {
            assert_eq!(self.cluster.differing(node), [], "node {node}");
        }
        self.cluster.finish().unwrap();
    }
}

#[test]
fn one_of_three_that_is_wrong_ends_and_comes_back_from_its_log() {
    let mut story = Story::of(3, 1, 20, true);
    story.commands(3 * WINDOW);
    story.cluster.run_for(seconds(10));
    assert_eq!(story.ended(), [1]);
    assert_eq!(story.cluster.base(1), Some(0), "the log has everything");
    story.all_agree();
}

#[test]
fn one_of_three_whose_log_was_compacted_comes_back_from_a_snapshot() {
    let mut story = Story::of(3, 1, 600, true);
    story.commands(600 + 3 * WINDOW);
    story.cluster.run_for(seconds(10));
    assert_eq!(story.ended(), [1]);
    assert!(story.cluster.base(1).unwrap() > 0, "the log does not begin at the beginning");
    story.all_agree();
}

#[test]
fn a_minority_of_five_ends_whether_it_is_one_or_two() {
    for wrong_count in [1, 2] {
        let mut story = Story::of(5, wrong_count, 30, true);
        story.commands(4 * WINDOW);
        story.cluster.run_for(seconds(10));
        assert_eq!(story.ended(), (1..=wrong_count).collect::<Vec<_>>());
        story.all_agree();
    }
}

#[test]
fn two_of_two_say_that_they_differ_and_from_where_on_and_nobody_ends() {
    let mut story = Story::of(2, 1, 20, true);
    story.commands(4 * WINDOW);
    story.cluster.run_for(seconds(10));
    assert_eq!(story.ended(), [0; 0]);
    let began = story.seen.lock().unwrap().first_difference(NodeId::new(1)).map(LogIndex::get);
    assert!(began.is_some());
    assert_eq!(story.cluster.differing(1), [(2, began)]);
    assert_eq!(story.cluster.differing(2), [(1, began)]);
    story.cluster.finish().unwrap();
}

#[test]
fn two_of_three_that_are_wrong_in_different_ways_end_nobody() {
    let mut story = Story::of(3, 2, 20, true);
    story.commands(4 * WINDOW);
    story.cluster.run_for(seconds(10));
    assert_eq!(story.ended(), [0; 0]);
    assert_eq!(story.cluster.differing(3).len(), 2);
    story.cluster.finish().unwrap();
}

#[test]
fn a_judge_speaks_where_no_machine_may_differ() {
    let mut story = Story::of(3, 1, 20, false);
    story.commands(4 * WINDOW);
    let breach = story.cluster.finish().unwrap_err().to_string();
    assert!(
        breach.contains("reply differently") || breach.contains("replied differently"),
        "{breach}"
    );
}

#[test]
fn sound_machines_are_never_called_wrong_through_crashes_and_snapshots() {
    let mut story = Story::of(3, 0, 0, false);
    for round in 0..6 {
        let node = round % 3 + 1;
        story.cluster.crash(node);
        story.commands(WINDOW * 5 + 3 * round);
        story.cluster.restart(node);
        story.commands(WINDOW * 2);
    }
    story.all_agree();
}
