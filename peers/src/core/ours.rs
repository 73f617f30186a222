//! Our side: three `quorate_core::Raft`s, whose effects are carried out at once.

use bytes::Bytes;
use quorate_core::{
    Configuration, Effect, Entry, Event, HardState, LogId, LogIndex, Member, MemberRole, NodeId,
    Options, Payload, Proposal, ProposalId, Raft, Restored, SnapshotMeta, Time,
};
use quorate_peers::COMMAND_BYTES;
use std::collections::VecDeque;
use std::sync::Arc;

/// How much a server's disk of memory keeps: as much as the peer's, see there.
const KEPT_COUNT: usize = 20_000;

/// See the head of the file.
pub struct Trio {
    rafts: Vec<Raft>,
    disks: Vec<VecDeque<Entry>>,
    events: VecDeque<(usize, Event)>,
    effects: Vec<Effect>,
    applied: [u64; 3],
    next_proposal: u64,
    command: Bytes,
}

fn place(id: NodeId) -> usize {
    (id.get() - 1) as usize
}

impl super::Trio for Trio {
    fn start() -> Self {
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: String::new(),
            context: Bytes::new(),
        };
        let members = (1..=3).map(|id| (NodeId::new(id), member.clone())).collect();
        let configuration = Arc::new(Configuration::new(1, members));
        let restored = Restored {
            hard_state: HardState::default(),
            base: SnapshotMeta { last_included: LogId::ORIGIN, configuration },
            term_runs: Vec::new(),
            configurations: Vec::new(),
            last_log: LogId::ORIGIN,
            tail: Vec::new(),
            applied: LogIndex::ORIGIN,
        };
        let raft = |id| {
            let (id, options) = (NodeId::new(id), Options::default());
            Raft::new(id, options, 1, restored.clone(), Time::ZERO).expect("a server starts")
        };
        let mut trio = Self {
            rafts: (1..=3).map(raft).collect(),
            disks: vec![VecDeque::new(); 3],
            events: VecDeque::new(),
            effects: Vec::new(),
            applied: [0; 3],
            next_proposal: 0,
            command: Bytes::from(vec![7; COMMAND_BYTES]),
        };
        let now = trio.rafts[0].next_deadline().expect("a follower waits");
        trio.rafts[0].step(now, Event::Deadline, &mut trio.effects);
        trio.carry_out(0);
        trio.run();
        assert_eq!(trio.rafts[0].leader(), Some(NodeId::new(1)));
        trio
    }

    fn propose(&mut self, count: u64) {
        let first = self.next_proposal;
        self.next_proposal += count;
        let command = &self.command;
        let proposals =
            (first..first + count).map(|id| Proposal::plain(ProposalId::new(id), command.clone()));
        self.events.push_back((0, Event::Propose(proposals.collect())));
        self.run();
    }

    fn applied(&self) -> [u64; 3] {
        self.applied
    }
}

impl Trio {
    fn run(&mut self) {
        let now = Time::from_micros(2_000_000);
        while let Some((to, event)) = self.events.pop_front() {
            self.rafts[to].step(now, event, &mut self.effects);
            self.carry_out(to);
        }
    }

    fn carry_out(&mut self, from: usize) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, message } => {
                    let from = self.rafts[from].id();
                    self.events.push_back((place(to), Event::Message { from, message }));
                }
                Effect::Persist(persist) => {
                    let disk = &mut self.disks[from];
                    disk.extend(persist.entries);
                    disk.drain(..disk.len().saturating_sub(KEPT_COUNT));
                    self.events.push_back((from, Event::Persisted { seq: persist.seq }));
                }
                Effect::Apply { entries } => {
                    let is_command = |entry: &&Entry| matches!(entry.payload, Payload::Command(_));
                    self.applied[from] += entries.iter().filter(is_command).count() as u64;
                    let index = entries.last().map_or(LogIndex::ORIGIN, |last| last.log_id.index);
                    self.events.push_back((from, Event::Applied { index }));
                }
                Effect::ProposalAppended { .. } => {}
                other => panic!("not in this benchmark: {other:?}"),
            }
        }
    }
}
