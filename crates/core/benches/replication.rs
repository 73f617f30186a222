//! How many entries three cores in one thread commit and apply per second, in memory, without
//! serialisation: the figure of `docs/performance.md`. `cargo bench -p quorate-core`. Where the
//! system tells it, CPU time is what counts, so that a busy machine does not spoil the figure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark reads clocks")]

use bytes::Bytes;
use quorate_core::{
    Configuration, Effect, Event, HardState, LogId, LogIndex, Member, MemberRole, NodeId, Options,
    Proposal, ProposalId, Raft, Restored, SnapshotMeta, Time,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Three cores, whose every effect is carried out at once.
struct Trio {
    rafts: Vec<Raft>,
    events: VecDeque<(usize, Event)>,
    effects: Vec<Effect>,
    applied: [LogIndex; 3],
    next_proposal: u64,
}

fn place(id: NodeId) -> usize {
    usize::try_from(id.get() - 1).unwrap()
}

impl Trio {
    fn new() -> Self {
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: String::new(),
            context: Bytes::new(),
        };
        let members = (1..=3).map(|id| (NodeId::new(id), member.clone())).collect();
        let configuration = Arc::new(Configuration::new(1, members));
        let base = SnapshotMeta { last_included: LogId::ORIGIN, configuration };
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
        let start = |id| {
            let id = NodeId::new(id);
            Raft::new(id, Options::default(), 1, restored.clone(), Time::ZERO).unwrap()
        };
        let mut trio = Self {
            rafts: (1..=3).map(start).collect(),
            events: VecDeque::new(),
            effects: Vec::new(),
            applied: [LogIndex::ORIGIN; 3],
            next_proposal: 0,
        };
        let now = trio.rafts[0].next_deadline().unwrap();
        trio.rafts[0].step(now, Event::Deadline, &mut trio.effects);
        trio.carry_out(0);
        trio.run();
        assert_eq!(trio.rafts[0].leader(), Some(NodeId::new(1)));
        trio
    }

    fn carry_out(&mut self, from: usize) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, message } => {
                    let from = self.rafts[from].id();
                    self.events.push_back((place(to), Event::Message { from, message }));
                }
                Effect::Persist(persist) => {
                    self.events.push_back((from, Event::Persisted { seq: persist.seq }));
                }
                Effect::Apply { entries } => {
                    let index = entries.last().unwrap().log_id.index;
                    self.applied[from] = index;
                    self.events.push_back((from, Event::Applied { index }));
                }
                Effect::ProposalRefused { reason, .. } => panic!("{reason:?}"),
                Effect::ProposalAppended { .. } => {}
                Effect::ReadReady { .. }
                | Effect::ReadRefused { .. }
                | Effect::MembershipAppended { .. }
                | Effect::MembershipRefused { .. }
                | Effect::Load(_)
                | Effect::LoadSpares { .. }
                | Effect::TakeSnapshot { .. }
                | Effect::ReadSnapshotChunk { .. }
                | Effect::WriteSnapshotChunk { .. }
                | Effect::RestoreSnapshot { .. }
                | Effect::ReleasePrefix { .. } => panic!("not in this benchmark"),
            }
        }
    }

    fn run(&mut self) {
        let now = Time::from_micros(2_000_000);
        while let Some((to, event)) = self.events.pop_front() {
            self.rafts[to].step(now, event, &mut self.effects);
            self.carry_out(to);
        }
    }

    fn propose(&mut self, count: u64, command: &Bytes) {
        let first = self.next_proposal;
        self.next_proposal += count;
        let proposals =
            (first..first + count).map(|id| Proposal::plain(ProposalId::new(id), command.clone()));
        self.events.push_back((0, Event::Propose(proposals.collect())));
        self.run();
    }
}

/// CPU time of this process in nanoseconds, as Linux tells it.
fn cpu_nanos() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok()
}

fn measure(work: impl FnOnce()) -> u64 {
    let (start, cpu_start) = (Instant::now(), cpu_nanos());
    work();
    match (cpu_start, cpu_nanos()) {
        (Some(before), Some(after)) => after - before,
        (Some(_) | None, _) => u64::try_from(start.elapsed().as_nanos()).unwrap(),
    }
}

fn main() {
    let command = Bytes::from(vec![7_u8; 256]);
    for batch in [1, 64, 1024] {
        let mut rates: Vec<u64> = (0..5)
            .map(|_| {
                let mut trio = Trio::new();
                let total = 1_000_000;
                let nanos = measure(|| {
                    for _ in 0..total / batch {
                        trio.propose(batch, &command);
                    }
                });
                assert_eq!(trio.applied[0], trio.applied[2]);
                total * 1_000_000_000 / nanos
            })
            .collect();
        rates.sort_unstable();
        println!("batch {batch}: {} entries per CPU-second (of 5 runs: {rates:?})", rates[2]);
    }
}
