//! The peer: three raft-rs nodes with its own storage in memory, and the settings that make it fastest
//! of those that change no promise (`batch_append`, no limit on what is committed at once).

use quorate_peers::COMMAND_BYTES;
use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, NO_LIMIT, RawNode, Storage};
use std::collections::VecDeque;

/// Its storage is shortened to this many entries now and then, so that it does not grow for ever.
const KEPT_COUNT: u64 = 20_000;

/// See the head of the file.
pub struct Trio {
    nodes: Vec<RawNode<MemStorage>>,
    messages: VecDeque<Message>,
    applied: [u64; 3],
    compacted: [u64; 3],
}

impl super::Trio for Trio {
    fn start() -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id| {
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                max_committed_size_per_ready: NO_LIMIT,
                check_quorum: true,
                pre_vote: true,
                batch_append: true,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], Vec::new()));
            RawNode::new(&config, storage, &logger).expect("a node starts")
        };
        let mut trio = Self {
            nodes: [1, 2, 3].map(node).into_iter().collect(),
            messages: VecDeque::new(),
            applied: [0; 3],
            compacted: [0; 3],
        };
        trio.nodes[0].campaign().expect("it campaigns");
        trio.run();
        assert_eq!(trio.nodes[0].raft.leader_id, 1);
        trio
    }

    fn propose(&mut self, count: u64) {
        for _ in 0..count {
            let command = vec![7; COMMAND_BYTES];
            self.nodes[0].propose(Vec::new(), command).expect("the leader takes it");
        }
        self.run();
    }

    fn applied(&self) -> [u64; 3] {
        self.applied
    }
}

impl Trio {
    /// Until nobody has anything to do.
    fn run(&mut self) {
        loop {
            for place in 0..3 {
                while self.nodes[place].has_ready() {
                    self.ready(place);
                }
            }
            if self.messages.is_empty() {
                return;
            }
            while let Some(message) = self.messages.pop_front() {
                let place = (message.to - 1) as usize;
                self.nodes[place].step(message).expect("it takes the message");
            }
        }
    }

    fn ready(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        let store = node.raft.raft_log.store.clone();
        let mut ready = node.ready();
        self.messages.extend(ready.take_messages());
        apply(&mut self.applied[place], &ready.take_committed_entries());
        if !ready.entries().is_empty() {
            store.wl().append(ready.entries()).expect("memory takes it");
        }
        if let Some(hard_state) = ready.hs() {
            store.wl().set_hardstate(hard_state.clone());
        }
        self.messages.extend(ready.take_persisted_messages());
        let mut light = node.advance(ready);
        if let Some(commit) = light.commit_index() {
            store.wl().mut_hard_state().set_commit(commit);
        }
        self.messages.extend(light.take_messages());
        apply(&mut self.applied[place], &light.take_committed_entries());
        node.advance_apply();
        self.shorten(place, &store);
    }

    fn shorten(&mut self, place: usize, store: &MemStorage) {
        let last = store.last_index().expect("memory has a last entry");
        let applied = self.nodes[place].raft.raft_log.applied;
        let to = applied.min(last).saturating_sub(KEPT_COUNT / 2);
        if to > self.compacted[place] + KEPT_COUNT / 2 {
            store.wl().compact(to).expect("what is applied can go");
            self.compacted[place] = to;
        }
    }
}

fn apply(applied: &mut u64, entries: &[Entry]) {
    *applied += entries.iter().filter(|entry| !entry.data.is_empty()).count() as u64;
}
