//! The words of the lab's tests of Raft (parts A to D): agreement, leaders, terms, crashes. Knows
//! what they demand of any Raft; each test's own demands are in the rooms beside this one.

use crate::journal::Journal;
use crate::stage::{Stage, World, millis};
use bytes::Bytes;
use quorate_sim::{Chance, ClusterOptions, NetworkFaults, seconds};
use std::rc::Rc;
use std::time::Duration;

/// Agreement on one command takes at most this long, all attempts together...
const AGREEMENT_WITHIN: Duration = Duration::from_secs(10);

/// ...and one attempt at most this.
const ATTEMPT_LASTS: Duration = Duration::from_secs(2);

/// The lab's idea of an election timeout.
pub(crate) const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// A lab with its servers.
pub(crate) type Lab = Stage<Journal>;

/// Before part D nobody takes snapshots.
pub(crate) fn lab(seed: u64, node_count: u64) -> Lab {
    let mut options = ClusterOptions::calm(seed, node_count);
    options.driver.compact_log_count = u64::MAX;
    options.driver.compact_log_bytes = u64::MAX;
    Stage::new(options, Journal::default())
}

/// The network of the lab's long reordering: two answers in three come late.
pub(crate) fn long_reordering() -> NetworkFaults {
    NetworkFaults { late_answers: Chance::per_million(666_667), ..NetworkFaults::unreliable() }
}

/// A command of eight bytes.
pub(crate) fn command(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

impl Stage<Journal> {
    pub(crate) fn nodes(&self) -> Vec<u64> {
        self.cluster().node_ids()
    }

    /// The node so many steps after this one, in a circle.
    pub(crate) fn after(&self, node: u64, steps: u64) -> u64 {
        let count = self.nodes().len() as u64;
        (node - 1 + steps) % count + 1
    }

    pub(crate) fn disconnect(&self, nodes: impl IntoIterator<Item = u64>) {
        nodes.into_iter().for_each(|node| self.cluster().disconnect(node));
    }

    pub(crate) fn reconnect(&self, nodes: impl IntoIterator<Item = u64>) {
        nodes.into_iter().for_each(|node| self.cluster().reconnect(node));
    }

    pub(crate) fn is_up(&self, node: u64) -> bool {
        self.cluster().is_up(node)
    }

    /// Nodes lose power and are cut off.
    pub(crate) fn crash(&self, nodes: impl IntoIterator<Item = u64>) {
        for node in nodes {
            self.cluster().disconnect(node);
            self.cluster().crash(node);
        }
    }

    /// Nodes start from their disks, after a crash if they were up, and are connected.
    pub(crate) fn start(&self, nodes: impl IntoIterator<Item = u64>) {
        for node in nodes {
            if self.is_up(node) {
                self.cluster().crash(node);
            }
            self.cluster().restart(node);
            self.cluster().reconnect(node);
        }
    }

    /// Everybody loses power; everybody starts.
    pub(crate) fn restart_everybody(&self) {
        self.crash(self.nodes());
        self.start(self.nodes());
    }

    pub(crate) fn set_network(&self, faults: NetworkFaults) {
        self.cluster().set_network(faults);
    }

    /// Proposes at a node that must lead; returns the index.
    pub(crate) fn propose(&self, node: u64, command: &Bytes) -> u64 {
        let started = self.cluster().propose(node, command.clone());
        started.expect("the leader takes the command").index.get()
    }

    /// A command that nobody has used yet.
    pub(crate) fn any_command(&self) -> Bytes {
        command(self.random(u64::MAX))
    }

    /// Exactly one leader in the latest term, within ten looks of about 500 ms.
    pub(crate) fn check_one_leader(&mut self) -> u64 {
        for _ in 0..10 {
            let pause = millis(450 + self.random(100));
            self.run_for(pause);
            let leaders = self.cluster().leaders();
            for (term, leaders) in &leaders {
                assert_eq!(leaders.len(), 1, "term {term} has the leaders {leaders:?}");
            }
            if let Some((_, leaders)) = leaders.last_key_value() {
                return leaders[0];
            }
        }
        panic!("no leader within five seconds");
    }

    /// The term on which all connected nodes agree.
    pub(crate) fn check_terms(&self) -> u64 {
        let cluster = self.cluster();
        let nodes = cluster.node_ids().into_iter().filter(|node| cluster.is_connected(*node));
        let terms: Vec<Option<u64>> = nodes.map(|node| cluster.term(node)).collect();
        assert!(terms.iter().all(|term| *term == terms[0]), "terms differ: {terms:?}");
        terms[0].expect("a node that is up")
    }

    pub(crate) fn check_no_leader(&self) {
        let leaders = self.cluster().leaders();
        assert!(leaders.is_empty(), "nobody can lead, and these do: {leaders:?}");
    }

    /// How many nodes have applied this index.
    pub(crate) fn applied_count(&self, index: u64) -> usize {
        self.cluster().applied_count(index)
    }

    /// The place of a command among all that were applied.
    pub(crate) fn place_of(&self, command: &Bytes) -> Option<usize> {
        self.cluster().application().place_of(command)
    }

    /// How many commands were applied.
    pub(crate) fn applied_commands(&self) -> usize {
        self.cluster().application().commands().len()
    }

    /// Agreement on a command by at least so many nodes; only one attempt if not `retry`. Returns
    /// the index at which it stands.
    pub(crate) fn one(&mut self, command: &Bytes, expected_count: usize, retry: bool) -> u64 {
        let world = self.world();
        self.run(agreement(world, command.clone(), expected_count, retry))
    }

    /// Agreement on any new command, with retries.
    pub(crate) fn agree(&mut self, expected_count: usize) -> u64 {
        let command = self.any_command();
        self.one(&command, expected_count, true)
    }

    /// Runs until everybody has applied this index.
    pub(crate) fn wait_for_all(&mut self, index: u64) {
        let count = self.nodes().len();
        for _ in 0..200 {
            if self.applied_count(index) == count {
                return;
            }
            self.run_for(millis(20));
        }
        panic!("index {index} is not applied everywhere");
    }
}

/// The lab's `one`: whoever leads is given the command; if it is not committed there within two
/// seconds, the next leader is. Panics after ten seconds.
pub(crate) async fn agreement(
    world: Rc<World<Journal>>,
    command: Bytes,
    expected_count: usize,
    retry: bool,
) -> u64 {
    let give_up_at = world.now().after(AGREEMENT_WITHIN);
    while world.now() < give_up_at {
        let Some(index) = propose_somewhere(&world, &command) else {
            world.sleep(millis(50)).await;
            continue;
        };
        let next_attempt_at = world.now().after(ATTEMPT_LASTS);
        while world.now() < next_attempt_at {
            let is_applied = world.cluster().applied_count(index) >= expected_count;
            if is_applied && world.cluster().is_committed(index, &command) {
                return index;
            }
            world.sleep(millis(20)).await;
        }
        assert!(retry, "{command:?} is not committed at {index} within {ATTEMPT_LASTS:?}");
    }
    panic!("no agreement on {command:?} within {AGREEMENT_WITHIN:?}");
}

/// The connected nodes are asked one after the other, until one leads.
fn propose_somewhere(world: &World<Journal>, command: &Bytes) -> Option<u64> {
    let nodes = world.cluster().node_ids();
    let first = usize::try_from(world.random(nodes.len() as u64)).unwrap();
    let order = nodes.iter().cycle().skip(first).take(nodes.len());
    order.copied().find_map(|node| {
        let mut cluster = world.cluster();
        let log_id = cluster.is_connected(node).then(|| cluster.propose(node, command.clone()));
        log_id.flatten().map(|log_id| log_id.index.get())
    })
}

/// One second, the lab's usual pause.
pub(crate) const fn a_second() -> Duration {
    seconds(1)
}
