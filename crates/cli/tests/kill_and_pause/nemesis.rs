//! Does the harm: one server a round is killed or made to stand still, and comes back after its
//! absence has been felt. Knows processes and leaders, nothing of the clients' data.

use crate::harness::{Cluster, Rng, eventually};
use crate::workload::Shared;
use std::fmt;
use std::time::{Duration, Instant};

/// How many operations must be acknowledged before the fault, without the victim, and after it is
/// back.
const OPERATION_COUNT: u64 = 100;

/// What was done.
pub(crate) struct Fault {
    /// Killed, or else paused.
    pub(crate) is_kill: bool,
    /// Whether the victim led.
    pub(crate) of_leader: bool,
    /// How long until a write that was asked for after the fault was acknowledged.
    pub(crate) recovery: Duration,
    victim: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_kill { "killed" } else { "paused" };
        let whom = if self.of_leader { "the leader" } else { "a follower" };
        let recovery_ms = self.recovery.as_millis();
        write!(out, "{what} {whom}, n{}, writes again after {recovery_ms} ms", self.victim + 1)
    }
}

/// Chooses victims and strikes them.
pub(crate) struct Nemesis {
    rng: Rng,
    election_timeout: Duration,
}

impl Nemesis {
    /// One that makes its choices by `rng`.
    pub(crate) fn new(rng: Rng, election_timeout: Duration) -> Self {
        Self { rng, election_timeout }
    }

    /// One round's harm, until the victim serves again.
    pub(crate) async fn strike(&mut self, cluster: &mut Cluster, shared: &Shared) -> Fault {
        let (is_kill, of_leader, which) = (self.rng.coin(), self.rng.coin(), self.rng.below(64));
        shared.acknowledged(OPERATION_COUNT).await;
        let leader = cluster.leader(None).await;
        let followers: Vec<usize> = cluster.indexes().filter(|index| *index != leader).collect();
        let victim = if of_leader { leader } else { followers[which % followers.len()] };

        let begun = Instant::now();
        if is_kill {
            cluster.server(victim).kill();
        } else {
            cluster.server(victim).pause();
        }
        let recovery = recovery(cluster, victim, begun).await;
        cluster.leader(Some(victim)).await;
        shared.acknowledged(OPERATION_COUNT).await;
        if is_kill {
            cluster.server(victim).start();
        } else {
            // How long the fault lasts, not a wait for anything: long enough that the victim's
            // own election timer runs out the moment it wakes.
            tokio::time::sleep_until((begun + self.election_timeout * 2).into()).await;
            cluster.server(victim).resume();
        }
        cluster.ready(victim).await;
        shared.acknowledged(OPERATION_COUNT).await;
        Fault { is_kill, of_leader, recovery, victim }
    }
}

/// Asks the others to write, each time a little more patiently, until one does. A request that was
/// on its way to the victim may hang for long: it says nothing about when the cluster serves again.
async fn recovery(cluster: &Cluster, victim: usize, begun: Instant) -> Duration {
    let others: Vec<usize> = cluster.indexes().filter(|index| *index != victim).collect();
    let mut tries: u16 = 0;
    eventually("a write without the victim", async || {
        tries += 1;
        let patience = Duration::from_millis(100 + 20 * u64::from(tries));
        let client = cluster.client(others[usize::from(tries) % others.len()]);
        client.with_timeout(patience).put("recovery", tries.to_string()).await.ok()
    })
    .await;
    begun.elapsed()
}
