//! Drivers in virtual time, their disks and state machines instant, their network in our hands.

use super::*;
use crate::{Applier, Committed, Doubt, Fatal, QueryError, Replies, SnapshotView, StateMachine};
use bytes::Bytes;
use quorate_core::{
    Configuration, HardState, Member, MemberRole, Options, PersistSeq, ProtocolVersion, Restored,
    Role, SnapshotMeta,
};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// Replies to each command with how many came before it, and the command.
#[derive(Default)]
struct Journal(Vec<Bytes>);

impl StateMachine for Journal {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }
    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for committed in batch {
            replies.push(format!("{}:{:?}", self.0.len(), committed.command));
            self.0.push(committed.command.clone());
        }
        Ok(())
    }
    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::from(format!("{:?}", self.0)))
    }
    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Err(Fatal::new("no snapshots here"))
    }
    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Err(Fatal::new("no snapshots here"))
    }
}

const OLDEST: ProtocolVersion = ProtocolVersion::OLDEST;

struct World {
    now: Time,
    drivers: Vec<Driver>,
    appliers: Vec<Applier>,
    /// Messages under way: (from, to, what).
    network: VecDeque<(usize, usize, PeerMessage)>,
    fates: Vec<(Ticket, Fate)>,
    barriers: Vec<(Ticket, Result<LogIndex, ReadError>)>,
    /// Nodes that nothing reaches and nothing leaves.
    cut_off: Vec<usize>,
    /// What was cut off is kept here.
    stopped: Vec<(usize, usize, PeerMessage)>,
    /// Nodes that do nothing, not even when their time has come.
    asleep: Vec<usize>,
    /// Whether what is written stays under way, here, until it is taken from here.
    unwritten: Option<Vec<(usize, PersistSeq)>>,
}

fn id(node: usize) -> NodeId {
    NodeId::new(u64::try_from(node).unwrap() + 1)
}

/// The disk that a node has, in worlds whose drivers know theirs.
fn disk(node: usize) -> u128 {
    10 + u128::try_from(node).unwrap()
}

fn configuration(count: usize) -> Arc<Configuration> {
    let member =
        Member { role: MemberRole::Voter, rank: 0, address: String::new(), context: Bytes::new() };
    let members = (0..count).map(|node| (id(node), member.clone())).collect();
    Arc::new(Configuration::new(1, members))
}

impl World {
    fn new(count: usize) -> Self {
        let driver = |node: usize| {
            let base =
                SnapshotMeta { last_included: LogId::ORIGIN, configuration: configuration(count) };
            let restored = Restored {
                hard_state: HardState::default(),
                base,
                term_runs: Vec::new(),
                configurations: Vec::new(),
                last_log: LogId::ORIGIN,
                tail: Vec::new(),
                applied: LogIndex::ORIGIN,
                lost: None,
            };
            let raft = Raft::new(id(node), Options::default(), 7, restored, Time::ZERO).unwrap();
            let origin = LogIndex::ORIGIN;
            Driver::new(raft, DriverOptions::default(), origin, origin, 40 + node as u64)
        };
        let applier = |_| {
            let journal = Box::new(Journal::default());
            Applier::new(journal, LogId::ORIGIN, configuration(count)).unwrap()
        };
        Self {
            now: Time::ZERO,
            drivers: (0..count).map(driver).collect(),
            appliers: (0..count).map(applier).collect(),
            network: VecDeque::new(),
            fates: Vec::new(),
            barriers: Vec::new(),
            cut_off: Vec::new(),
            stopped: Vec::new(),
            asleep: Vec::new(),
            unwritten: None,
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let mut outputs = Vec::new();
        self.drivers[node].turn(self.now, [input], &mut outputs);
        for output in outputs {
            self.output(node, output);
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                let to = usize::try_from(to.get()).unwrap() - 1;
                if self.cut_off.contains(&node) || self.cut_off.contains(&to) {
                    self.stopped.push((node, to, message));
                } else {
                    self.network.push_back((node, to, message));
                }
            }
            Output::Persist(persist) => match &mut self.unwritten {
                Some(unwritten) => unwritten.push((node, persist.seq)),
                None => self.persisted(node, persist.seq),
            },
            Output::Apply(batch) => {
                let outcome = self.appliers[node].apply(&batch).unwrap();
                self.fates.extend(outcome.local);
                self.input(node, Input::Applied(outcome.applied));
            }
            Output::Prove => self.input(node, Input::Proved),
            Output::Answer { ticket, fate } => self.fates.push((ticket, fate)),
            Output::Barrier { ticket, result } => self.barriers.push((ticket, result)),
            other => panic!("not expected in these tests: {other:?}"),
        }
    }

    fn persisted(&mut self, node: usize, seq: PersistSeq) {
        self.input(node, Input::Persisted { seq });
    }

    fn deliver_all(&mut self) {
        while let Some((from, to, message)) = self.network.pop_front() {
            self.input(
                to,
                Input::Peer { from: id(from), storage_id: disk(from), version: OLDEST, message },
            );
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        self.deliver_all();
        loop {
            let due = |d: &Driver| d.next_deadline().filter(|deadline| *deadline <= end);
            let next = (0..self.drivers.len())
                .filter(|node| !self.asleep.contains(node))
                .filter_map(|node| due(&self.drivers[node]).map(|deadline| (deadline, node)))
                .min();
            let Some((deadline, node)) = next else { break };
            self.now = self.now.max(deadline);
            self.input(node, Input::Deadline);
            self.deliver_all();
        }
        self.now = end;
    }

    fn leader(&mut self) -> usize {
        self.run_for(Duration::from_secs(10));
        let live = (0..self.drivers.len()).filter(|node| !self.cut_off.contains(node));
        let raft = |node: usize| self.drivers[node].raft();
        let leads = |node: &usize| raft(*node).role() == Role::Leader;
        live.into_iter().find(leads).expect("ten seconds are enough for an election")
    }

    fn propose(&mut self, node: usize, ticket: u64, command: &'static str) {
        let deadline = self.now.after(Duration::from_secs(7));
        let command = Bytes::from_static(command.as_bytes());
        self.input(node, Input::Propose { ticket: Ticket(ticket), command, deadline });
    }

    fn read(&mut self, node: usize, ticket: u64) {
        let deadline = self.now.after(Duration::from_secs(7));
        let consistency = Consistency::Linearizable;
        self.input(node, Input::Barrier { ticket: Ticket(ticket), consistency, deadline });
    }

    fn state(&self, node: usize) -> Bytes {
        self.appliers[node].machine().query(&[]).unwrap()
    }

    fn fate(&self, ticket: u64) -> Option<&Fate> {
        let mut of_ticket = self.fates.iter().filter(|(owner, _)| *owner == Ticket(ticket));
        let fate = of_ticket.next().map(|(_, fate)| fate);
        assert!(of_ticket.next().is_none(), "a proposal has one fate");
        fate
    }

    fn reply(&self, ticket: u64) -> String {
        match self.fate(ticket) {
            Some(Fate::Applied { reply, .. }) => String::from_utf8(reply.to_vec()).unwrap(),
            other => panic!("expected an applied proposal, found {other:?}"),
        }
    }
}

#[test]
fn a_proposal_on_any_node_is_applied_and_answered_with_the_state_machines_reply() {
    let mut world = World::new(3);
    let leader = world.leader();
    world.propose(leader, 1, "a");
    world.deliver_all();
    world.propose((leader + 1) % 3, 2, "b");
    world.deliver_all();
    assert_eq!(world.reply(1), "0:b\"a\"");
    assert_eq!(world.reply(2), "1:b\"b\"");
}

#[test]
fn a_forwarded_command_that_arrives_twice_is_applied_once() {
    let mut world = World::new(3);
    let leader = world.leader();
    let follower = (leader + 1) % 3;
    world.propose(follower, 1, "once");
    let copy = world.network.front().cloned().expect("the command was forwarded");
    assert!(matches!(copy.2, PeerMessage::Forward { .. }));
    world.network.push_back(copy.clone());
    world.deliver_all();
    world.network.push_back(copy);
    world.deliver_all();
    assert_eq!(world.state(leader), Bytes::from("[b\"once\"]"));
    assert_eq!(world.reply(1), "0:b\"once\"");
}

#[test]
fn a_copy_of_a_forwarded_command_from_an_earlier_term_is_not_appended() {
    let mut world = World::new(3);
    let leader = world.leader();
    let follower = (leader + 1) % 3;
    world.propose(follower, 1, "once");
    let copy = world.network.front().cloned().expect("the command was forwarded");
    world.deliver_all();
    for to in [follower, leader] {
        let successor = Some(id(to));
        let now = world.leader();
        world.input(now, Input::TransferLeadership { to: successor });
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.leader(), leader, "it leads again, in a later term");
    world.network.push_back(copy);
    world.deliver_all();
    assert_eq!(world.state(leader), Bytes::from("[b\"once\"]"));
}

#[test]
fn a_copy_that_reaches_a_former_leader_is_not_called_unappended_while_the_first_may_commit() {
    let mut world = World::new(3);
    let old = world.leader();
    let others = [(old + 1) % 3, (old + 2) % 3];
    world.propose(others[0], 1, "once");
    let forward = world.network.pop_front().expect("the command was forwarded");
    let (from, to, message) = forward.clone();
    world.input(
        to,
        Input::Peer { from: id(from), storage_id: disk(from), version: OLDEST, message },
    );
    // The first copy is in the log, and its answer is lost with the old leader's office.
    let is_reply =
        |item: &(usize, usize, PeerMessage)| matches!(item.2, PeerMessage::ForwardReplies { .. });
    while let Some((from, to, message)) = world.network.pop_front() {
        if !is_reply(&(from, to, message.clone())) {
            world.input(
                to,
                Input::Peer { from: id(from), storage_id: disk(from), version: OLDEST, message },
            );
        }
    }
    world.input(old, Input::TransferLeadership { to: Some(id(others[1])) });
    world.run_for(Duration::from_secs(1));
    world.network.push_back(forward);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.state(others[0]), Bytes::from("[b\"once\"]"));
    assert_eq!(world.fate(1), Some(&Fate::Unknown(Doubt::Deadline)));
}

#[test]
fn a_proposal_that_reaches_a_former_leader_goes_on_to_the_next_one() {
    let mut world = World::new(3);
    let old = world.leader();
    let others = [(old + 1) % 3, (old + 2) % 3];
    world.propose(others[0], 1, "persistent");
    let forward = world.network.pop_front().expect("the command was forwarded");
    world.input(old, Input::TransferLeadership { to: Some(id(others[1])) });
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.drivers[others[0]].raft().leader(), Some(id(others[1])));
    world.network.push_back(forward);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.reply(1), "0:b\"persistent\"");
}

#[test]
fn without_a_leader_a_proposal_and_a_read_are_refused_and_not_forgotten() {
    let mut world = World::new(3);
    world.cut_off = vec![1, 2];
    world.propose(0, 1, "a");
    world.read(0, 2);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.fate(1), Some(&Fate::NotAppended(Refusal::NoLeader)));
    assert_eq!(world.barriers, [(Ticket(2), Err(ReadError::NoLeader))]);
    assert_eq!(world.drivers[0].pending_count(), 0);
}

#[test]
fn a_proposal_that_another_leaders_entry_replaced_is_lost() {
    let mut world = World::new(3);
    let old = world.leader();
    world.cut_off = vec![old];
    world.propose(old, 1, "lost");
    let new = world.leader();
    world.propose(new, 2, "kept");
    world.run_for(Duration::from_secs(1));
    world.cut_off.clear();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.reply(2), "0:b\"kept\"");
    match world.fate(1) {
        Some(Fate::Lost { .. } | Fate::Unknown(Doubt::Deadline)) => {}
        other => panic!("expected a lost proposal, found {other:?}"),
    }
    assert_eq!(world.state(old), Bytes::from("[b\"kept\"]"));
}

#[test]
fn a_lost_connection_to_the_leader_leaves_a_forwarded_proposal_in_doubt() {
    let mut world = World::new(3);
    let leader = world.leader();
    let follower = (leader + 1) % 3;
    world.propose(follower, 1, "maybe");
    world.input(follower, Input::Disconnected { peer: id(leader) });
    let doubt = Doubt::ConnectionLost { leader: id(leader) };
    assert_eq!(world.fate(1), Some(&Fate::Unknown(doubt)));
    world.deliver_all();
    assert_eq!(world.fate(1), Some(&Fate::Unknown(doubt)), "a late reply changes nothing");
}

#[test]
fn a_command_for_a_leader_that_is_gone_waits_for_its_successor() {
    let mut world = World::new(3);
    let gone = world.leader();
    world.cut_off = vec![gone];
    let others = [(gone + 1) % 3, (gone + 2) % 3];
    for other in others {
        world.input(other, Input::PeerGone { peer: id(gone) });
    }
    world.propose(others[0], 1, "kept");
    world.propose(others[1], 2, "kept, too");
    world.run_for(Options::default().election_timeout / 2);
    world.reply(1);
    world.reply(2);
}

#[test]
fn a_linearizable_read_on_a_follower_waits_until_it_has_applied_what_was_committed() {
    let mut world = World::new(3);
    let leader = world.leader();
    let follower = (leader + 1) % 3;
    world.propose(leader, 1, "a");
    world.deliver_all();
    let committed = world.drivers[leader].raft().commit_index();
    world.read(follower, 2);
    world.run_for(Duration::from_millis(10));
    match world.barriers.as_slice() {
        [(Ticket(2), Ok(applied))] => assert!(*applied >= committed, "{applied} < {committed}"),
        other => panic!("expected one permission to read, found {other:?}"),
    }
}

#[test]
fn a_deposed_leader_answers_no_linearizable_read() {
    let mut world = World::new(3);
    let old = world.leader();
    world.cut_off = vec![old];
    world.read(old, 1);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.barriers, [(Ticket(1), Err(ReadError::NoLeader))]);
}

#[test]
fn proposals_given_in_one_turn_share_one_write_and_one_message_a_follower() {
    let mut world = World::new(3);
    let leader = world.leader();
    let deadline = world.now.after(Duration::from_secs(7));
    let inputs = (0..100).map(|ticket| Input::Propose {
        ticket: Ticket(ticket),
        command: Bytes::from_static(b"x"),
        deadline,
    });
    let mut outputs = Vec::new();
    world.drivers[leader].turn(world.now, inputs, &mut outputs);
    let persists = outputs.iter().filter(|output| matches!(output, Output::Persist(_))).count();
    let sends = outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    assert_eq!((persists, sends), (1, 2));
}

#[test]
fn proposals_beyond_the_byte_limit_are_refused_at_once() {
    let mut world = World::new(3);
    let limit = DriverOptions::default().outstanding_bytes_max;
    let now = world.now;
    let deadline = now.after(Duration::from_secs(7));
    for (ticket, size) in [(1, limit), (2, 1)] {
        let command = Bytes::from(vec![0; size]);
        world.input(0, Input::Propose { ticket: Ticket(ticket), command, deadline });
    }
    assert_eq!(world.fate(1), None, "what is at the limit waits for a leader");
    assert!(matches!(
        world.fate(2),
        Some(Fate::NotAppended(Refusal::Overloaded { limit: found, .. })) if *found == limit
    ));
}

/// etcd's leader of one counted itself before its disk had the entry: a crash took back what a
/// client had been told.
#[test]
fn etcd_14370_a_single_node_commits_and_answers_nothing_before_its_disk_has_it() {
    let mut world = World::new(1);
    let leader = world.leader();
    world.unwritten = Some(Vec::new());
    let committed = world.drivers[leader].raft().commit_index();
    world.propose(leader, 1, "a");
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.fate(1), None, "a crash would take it back");
    assert_eq!(world.drivers[leader].raft().commit_index(), committed, "nobody else has it");
    assert_eq!(world.state(leader), Bytes::from("[]"), "and whoever reads or watches had seen it");
    let unwritten = world.unwritten.take().unwrap();
    assert!(!unwritten.is_empty());
    for (node, seq) in unwritten {
        world.persisted(node, seq);
    }
    assert_eq!(world.reply(1), "0:b\"a\"");
}

/// etcd's node took an answer to an earlier question for the answer to its read, after it had been
/// paused. Here the leader sleeps, even its clock does, while the answers to its first read are
/// under way; when it wakes up it has a successor.
#[test]
fn etcd_20418_what_arrives_for_an_earlier_read_proves_nothing_for_a_later_one() {
    let mut world = World::new(3);
    let old = world.leader();
    world.read(old, 1);
    let mut answers = Vec::new();
    while let Some((from, to, message)) = world.network.pop_front() {
        if to == old {
            answers.push((from, message));
        } else {
            world.input(
                to,
                Input::Peer { from: id(from), storage_id: disk(from), version: OLDEST, message },
            );
        }
    }
    assert_eq!(answers.len(), 2, "both followers confirm that it leads");
    let asleep_since = world.now;
    (world.cut_off, world.asleep) = (vec![old], vec![old]);
    let new = world.leader();
    world.propose(new, 2, "a");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.reply(2), "0:b\"a\"");

    let awake = std::mem::replace(&mut world.now, asleep_since);
    world.read(old, 3);
    for (from, message) in answers {
        world.input(
            old,
            Input::Peer { from: id(from), storage_id: disk(from), version: OLDEST, message },
        );
    }
    assert!(matches!(world.barriers[..], [(Ticket(1), Ok(_))]), "{:?}", world.barriers);
    world.now = awake;
    (world.cut_off, world.asleep) = (Vec::new(), Vec::new());
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.state(old), Bytes::from("[b\"a\"]"));
    let committed = world.drivers[new].raft().commit_index();
    match world.barriers[..] {
        [_, (Ticket(3), Ok(applied))] => assert!(applied >= committed, "{applied} < {committed}"),
        [_, (Ticket(3), Err(_))] => {}
        ref other => panic!("the second read is answered once, late or not at all: {other:?}"),
    }
}

#[test]
fn founders_wait_for_each_other_and_have_their_disks_recorded() {
    let mut world = World::new(3);
    let drivers = std::mem::take(&mut world.drivers).into_iter().enumerate();
    let on_disk = |(node, driver): (usize, Driver)| {
        driver.on_disk(OwnDisk {
            storage_id: disk(node),
            era: 1,
            is_proven: false,
            beginning: None,
        })
    };
    world.drivers = drivers.map(on_disk).collect();
    (world.cut_off, world.asleep) = (vec![2], vec![2]);
    world.run_for(Duration::from_secs(20));
    let missing = Admission::Founding { missing: vec![id(2)] };
    for node in [0, 1] {
        assert_eq!(world.drivers[node].admission(), missing);
        assert_eq!(world.drivers[node].raft().current_term(), Term::default());
    }
    (world.cut_off, world.asleep) = (Vec::new(), Vec::new());
    world.run_for(Duration::from_secs(10));
    let leader = world.leader();
    let recorded = world.drivers[leader].raft().configuration().storages.clone();
    assert_eq!(recorded, (0..3).map(|node| (id(node), disk(node))).collect());
    world.propose(leader, 1, "founded");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.state(leader), Bytes::from("[b\"founded\"]"));
}
