//! Every interleaving of a small cluster of real cores, to a depth: breadth first, each state once.
//! Knows no seed and no chance; what the cores are given is enumerated, never drawn.
//!
//! # The world that is explored
//!
//! Some voters, each with a disk, and a bag of messages. An action is one of: a server takes a
//! message from the bag, whichever; its clock reaches its deadline; one of its writes becomes
//! durable; it crashes and starts again from what its disk holds (any prefix of the writes under
//! way, the next one perhaps in part); somebody proposes a value to a leader, reads there, or asks
//! it to hand over. A message may be taken twice. What costs little in reality is counted:
//! [`Bounds`] says how often each may happen.
//!
//! # What is abstracted, and why nothing is lost by it
//!
//! - *Time.* Every server has a clock of its own. It moves when the server is told of its deadline,
//!   or, being late, by an election timeout more: enough to forget a leader, or to miss its
//!   followers. Since clocks are independent and speeds arbitrary, every order of deadlines is
//!   there. Two states that differ only in absolute times are one: `Raft::hash_behaviour` says
//!   which times matter, and how. A test computes every step of every state anew and compares
//!   ([`Bounds::audit`]).
//! - *Loss.* A message that is never taken is lost, so every run with losses is among these runs.
//!   A server that is down is one that takes nothing: crash and start are one action.
//! - *No effect.* If a message, or a deadline, changes nothing and causes nothing, the state
//!   without it can do nothing that the state with it could not: it is not followed.
//! - *Dead messages.* An answer of a term below one that its receiver holds durably is thrown away:
//!   terms never fall, so it can never count again.
//! - *Symmetry.* All servers start equal, and the first thing that can happen is a timeout: it is
//!   the first server's.
//! - *The state machine* applies at once. Nothing that leaves a server depends on it as long as no
//!   log is compacted, and none is here: snapshots are the business of the simulator.
//! - *Equality* of states is equality of 64-bit hashes. Among `n` states two are wrongly taken for
//!   one with probability `n² / 2^65`: one in 370,000 for 10 million, one in 3,700 for 100 million.
//!
//! # Why it is fast
//!
//! `Raft::step` is a function. The states of single servers repeat far more often than those of
//! whole clusters, so each (state of a server, event) is computed once, with the real core, and
//! looked up ever after; a state of the cluster is a handful of numbers.

mod action;
mod bounds;
mod history;
mod local;
mod pool;
mod search;
mod tale;
mod world;

pub use bounds::{Bounds, Sabotage};
pub use history::Fault;
pub use search::{Found, Level, Report, explore};
