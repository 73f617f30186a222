//! The judges: who looks at every step of every node, and what they call a breach. They believe
//! nothing that a node says of itself where the world can know better.

pub(crate) mod bounds;
#[cfg(test)]
mod by_hand;
mod conduct;
mod content;
mod durable;
mod hearing;
mod kind;
mod last_words;
pub mod linearizable;
mod members;
mod promises;
mod safety;
mod versions;
pub mod watch;

pub(crate) use conduct::{Heard, check_office};
pub(crate) use durable::Found;
pub(crate) use last_words::check_last_words;
pub(crate) use safety::{Asked, Look, Safety};
pub(crate) use versions::check_known;

use crate::application::Complaint;
use quorate_core::{HardState, LogId, LogIndex, NodeId, ProtocolVersion, Role, Term, Time};
use std::time::Duration;

/// A broken promise, with its evidence.
#[derive(Debug, thiserror::Error)]
pub enum Breach {
    /// Election Safety (Figure 3.2).
    #[error("two leaders in term {term}: node {one} and node {two}")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// One leader.
        one: NodeId,
        /// The other.
        two: NodeId,
    },
    /// State Machine Safety (Figure 3.2).
    #[error("node {node} applies {got} where {expected} is committed")]
    CommittedChanged {
        /// Who.
        node: NodeId,
        /// What others applied at this index.
        expected: LogId,
        /// What it applies.
        got: LogId,
    },
    /// The same log id, another content: Log Matching (Figure 3.2).
    #[error("node {node} applies another content for {log_id} than others did")]
    ContentDiffers {
        /// Who.
        node: NodeId,
        /// Where.
        log_id: LogId,
    },
    /// A gap, or an entry applied twice.
    #[error("node {node} should apply entry {expected} next and applies {got}")]
    AppliedOutOfOrder {
        /// Who.
        node: NodeId,
        /// The entry after the last.
        expected: LogIndex,
        /// What it applies.
        got: LogIndex,
    },
    /// Leader Completeness (Figure 3.2).
    #[error("node {node} leads term {term} without the committed entry {missing}")]
    LeaderIncomplete {
        /// The leader.
        node: NodeId,
        /// Its term.
        term: Term,
        /// What it lacks.
        missing: LogId,
    },
    /// An entry was called committed, or applied, although crashes could still take it away.
    #[error(
        "{log_id} is committed on node {node}, durable on {durable_count} of {voter_count} voters"
    )]
    NotOnQuorum {
        /// Who calls it committed.
        node: NodeId,
        /// What.
        log_id: LogId,
        /// How many disks hold it.
        durable_count: usize,
        /// Of how many.
        voter_count: usize,
    },
    /// A committed entry left a disk.
    #[error("node {node} removed the committed entry {log_id} from its log")]
    CommittedRemoved {
        /// Who.
        node: NodeId,
        /// What.
        log_id: LogId,
    },
    /// Something that only grows went back.
    #[error("the {what} of node {node} fell from {from} to {to}")]
    WentBack {
        /// Who.
        node: NodeId,
        /// What.
        what: &'static str,
        /// Before.
        from: u64,
        /// After.
        to: u64,
    },
    /// A vote left the node before it was durable.
    #[error("node {node} granted its vote of term {term} to node {to} before that was durable")]
    VoteNotDurable {
        /// Who.
        node: NodeId,
        /// In which term.
        term: Term,
        /// To whom.
        to: NodeId,
    },
    /// A vote of a node that has lost its disk, and does not know what it has promised.
    #[error("node {node} votes with a disk that no configuration records")]
    VotesWithoutMemory {
        /// Who.
        node: NodeId,
    },
    /// A second vote in one term.
    #[error("node {node} changed its durable vote of term {term} from {first} to {second}")]
    VotedTwice {
        /// Who.
        node: NodeId,
        /// In which term.
        term: Term,
        /// The first vote.
        first: NodeId,
        /// The second.
        second: NodeId,
    },
    /// An acknowledgement left the node before the entries were durable.
    #[error("node {node} acknowledged index {claimed} with a durable log up to {durable}")]
    AckNotDurable {
        /// Who.
        node: NodeId,
        /// What it claimed.
        claimed: LogIndex,
        /// What was durable.
        durable: LogIndex,
    },
    /// An acknowledgement left the node before the term was durable in which it accepted.
    #[error("node {node} acknowledged in term {term} when {durable} was its durable term")]
    TermNotDurable {
        /// Who.
        node: NodeId,
        /// In which term.
        term: Term,
        /// What was durable.
        durable: Term,
    },
    /// A leader is wrong about a follower.
    #[error(
        "leader {leader} believes of {follower} {what}: match index {match_index}, next index \
         {next_index}"
    )]
    FalseBelief {
        /// The leader.
        leader: NodeId,
        /// Of whom.
        follower: NodeId,
        /// What it believes.
        what: &'static str,
        /// Up to where it counts on the follower.
        match_index: LogIndex,
        /// What it sends next.
        next_index: LogIndex,
    },
    /// A learner was elected.
    #[error("node {node} leads term {term} and is no voter")]
    NoVoter {
        /// Who.
        node: NodeId,
        /// Which term.
        term: Term,
    },
    /// Somebody who can never win tries.
    #[error("node {node} campaigns in term {term} and is no voter")]
    NoVoterCampaigns {
        /// Who.
        node: NodeId,
        /// Its term.
        term: Term,
    },
    /// A leader ran against itself.
    #[error("node {node} led the term before and campaigns in term {term}")]
    LeaderCampaigns {
        /// Who.
        node: NodeId,
        /// The term of its campaign.
        term: Term,
    },
    /// A term that was heard of was not taken over (§3.3).
    #[error("node {node} heard of term {heard} and is in term {term}")]
    TermIgnored {
        /// Who.
        node: NodeId,
        /// Of what it heard.
        heard: Term,
        /// Its term after that.
        term: Term,
    },
    /// Somebody asked for votes before a majority had said that it might win (§9.6).
    #[error("node {node} asks for votes of term {term}, and no majority has encouraged it")]
    UnaskedCampaign {
        /// Who.
        node: NodeId,
        /// The term of its campaign.
        term: Term,
    },
    /// Somebody who hears a leader encouraged a campaign against it (§4.2.3).
    #[error("node {node} hears the leader of term {term} and would vote for node {to}")]
    Disloyal {
        /// Who.
        node: NodeId,
        /// The term of its leader.
        term: Term,
        /// For whom.
        to: NodeId,
    },
    /// A linearizable read was served from a state that is too old (§6.4).
    #[error(
        "node {node} serves a read from {shown}; {committed} was committed when the read arrived"
    )]
    StaleRead {
        /// Who.
        node: NodeId,
        /// Up to where it had applied.
        shown: LogIndex,
        /// What somebody had applied when the read arrived.
        committed: LogIndex,
    },
    /// A read of bounded age was served from a state that is too old.
    #[error(
        "node {node} serves a read from {shown}; {committed} was committed {age:?} before the read \
         arrived, by the node's clock"
    )]
    OldRead {
        /// Who.
        node: NodeId,
        /// Up to where it had applied.
        shown: LogIndex,
        /// What it had to show.
        committed: LogIndex,
        /// The bound.
        age: Duration,
    },
    /// A linearizable read was served without a proof of leadership (§6.4).
    #[error("node {node} serves a read of {asked:?}, and no quorum has obeyed a leader since")]
    UnprovenRead {
        /// Who.
        node: NodeId,
        /// When the read arrived.
        asked: Time,
    },
    /// A disk was mounted in the wrong machine, and its node took it for its own.
    #[error("node {node} starts with the disk of node {owner}")]
    ForeignDisk {
        /// Who.
        node: NodeId,
        /// Whose disk it is.
        owner: NodeId,
    },
    /// A read is still open although everything has long been well.
    #[error("a read at node {node} is still open {waited:?} after the cluster came together")]
    ReadHangs {
        /// Who was asked.
        node: NodeId,
        /// For how long all has been well.
        waited: Duration,
    },
    /// A leader that hears no quorum stays in office.
    #[error("node {leader} has heard no quorum since {since:?} and still leads term {term}")]
    DeafLeader {
        /// Who.
        leader: NodeId,
        /// Its term.
        term: Term,
        /// When that was first seen.
        since: Time,
    },
    /// Recovery lost term or vote.
    #[error("node {node} recovered {got:?}; durable was {expected:?}")]
    HardStateLost {
        /// Who.
        node: NodeId,
        /// What was durable.
        expected: HardState,
        /// What was found.
        got: HardState,
    },
    /// Recovery lost an entry.
    #[error("node {node} recovered without the durable entry {expected} (found there: {got:?})")]
    DurableEntryLost {
        /// Who.
        node: NodeId,
        /// What was durable.
        expected: LogId,
        /// The term found at its index.
        got: Option<Term>,
    },
    /// A node could not start from what a crash left.
    #[error("node {node} does not start after a crash: {reason}")]
    DoesNotStart {
        /// Who.
        node: NodeId,
        /// What it says.
        reason: String,
    },
    /// A client was told "applied" of something that is not.
    #[error(
        "a client was told that its command stands at {told}; committed there is {committed:?}"
    )]
    FalseAnswer {
        /// What it was told.
        told: LogId,
        /// What is committed at that index.
        committed: Option<LogId>,
    },
    /// A command took effect more often than it may.
    #[error(
        "a command was proposed {proposed} times, {refused} times its client was told \
         that it has no effect, and it was committed {committed} times"
    )]
    AppliedTwice {
        /// How often it is in the log.
        committed: u32,
        /// How often clients were told that it has no effect.
        refused: u32,
        /// How often clients proposed it.
        proposed: u32,
    },
    /// Heartbeats alone keep a leader in office that cannot write.
    #[error("node {node} leads, and a write of it has not been finished for {waited:?}")]
    LeadsWithoutDisk {
        /// Who.
        node: NodeId,
        /// For how long.
        waited: Duration,
    },
    /// A node whose log has failed takes part in something.
    #[error("node {node} has lost its log, and {what}")]
    SpeaksWithoutDisk {
        /// Who.
        node: NodeId,
        /// What it does.
        what: String,
    },
    /// Committed configurations do not count on from each other.
    #[error("the configuration at {log_id} has version {version}, after version {before}")]
    VersionLeap {
        /// Where it stands.
        log_id: LogId,
        /// The version of the one before.
        before: u64,
        /// Its version.
        version: u64,
    },
    /// A node takes other members for committed than those that are.
    #[error("node {node} has other members in version {version} than those that are committed")]
    WrongMembers {
        /// Who.
        node: NodeId,
        /// The version.
        version: u64,
    },
    /// Somebody was told that the members are as wished, and they are not.
    #[error("the members of version {version} are not those that somebody was told of")]
    FalseMembers {
        /// The version that was told.
        version: u64,
    },
    /// A node's deadline stays in the past.
    #[error("node {node} asks for {deadline:?} again and again, as a {role}")]
    BusyLoop {
        /// Who.
        node: NodeId,
        /// What it is.
        role: Role,
        /// The deadline.
        deadline: Time,
    },
    /// A node holds more than a named limit allows.
    #[error("node {node} holds {held}; {name} allows {limit}")]
    OverLimit {
        /// Who.
        node: NodeId,
        /// The limit's name.
        name: &'static str,
        /// What it holds, in the limit's unit.
        held: usize,
        /// What it may hold.
        limit: usize,
    },
    /// A cluster at rest is not at rest.
    #[error("{sent} messages in {passed:?} at rest, where {limit} are enough")]
    MessageStorm {
        /// Messages sent.
        sent: u64,
        /// How many a quiet cluster needs, generously.
        limit: u64,
        /// In how much virtual time.
        passed: Duration,
    },
    /// The core saw proof of a broken protocol.
    #[error("node {node} poisoned itself: {reason}")]
    Poisoned {
        /// Who.
        node: NodeId,
        /// What it says.
        reason: String,
    },
    /// One of the core's own invariants does not hold.
    #[error("{0}")]
    Invariant(#[from] quorate_core::invariants::Violation),
    /// A message did not survive encoding.
    #[error("a message of node {from} cannot be decoded: {reason}")]
    WireBroken {
        /// The sender.
        from: NodeId,
        /// What the decoder says.
        reason: String,
    },
    /// A node was sent what its program does not know.
    #[error("node {from} says something of kind {kind:#04x} where version {spoken} is spoken")]
    UnknownToPeer {
        /// The sender.
        from: NodeId,
        /// What both programs know.
        spoken: ProtocolVersion,
        /// The message's kind.
        kind: u8,
    },
    /// It was recorded that the cluster speaks what a member does not.
    #[error("the cluster speaks version {version}, and node {member} never did")]
    RisenTooEarly {
        /// What was recorded.
        version: ProtocolVersion,
        /// Whose program is older.
        member: NodeId,
    },
    /// A node started with a program that is older than what its cluster speaks.
    #[error("node {node} starts with a program that is older than what its log says")]
    DowngradeAccepted {
        /// Who.
        node: NodeId,
    },
    /// A connection was read otherwise than it was written.
    #[error("a connection from node {from} is misread: {misread}")]
    Misread {
        /// The sender.
        from: NodeId,
        /// How.
        misread: String,
    },
    /// A node ended because its replies are others than a majority's, and by its log they are not.
    #[error("node {node} says that its replies are wrong from entry {index} on")]
    DivergedByItself {
        /// Who.
        node: NodeId,
        /// From where on.
        index: LogIndex,
    },
    /// A node says that another's replies are others than its own.
    #[error("node {node} says: {differing}")]
    Differs {
        /// Who.
        node: NodeId,
        /// What it says.
        differing: quorate::Differing,
    },
    /// A node whose state is known to be wrong uses it.
    #[error("node {node} has noted that its state is wrong, and starts with it")]
    WrongStateUsed {
        /// Who.
        node: NodeId,
    },
    /// The state machine gave up.
    #[error("node {node} stopped: {reason}")]
    NodeFailed {
        /// Who.
        node: NodeId,
        /// What it says.
        reason: String,
    },
    /// Ever more happens at one and the same moment.
    #[error("{steps} steps, and it is still {at:?}: time does not go on")]
    TimeStandsStill {
        /// The moment.
        at: Time,
        /// What happened in it.
        steps: u64,
    },
    /// A step does not come to an end: something that is called in it never returns.
    #[error("step {step} has not returned for {seconds} s of real time")]
    Hangs {
        /// Which step.
        step: u64,
        /// For how long it was watched.
        seconds: u64,
    },
    /// The code under test panicked.
    #[error("a panic: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The application's judge complains.
    #[error("{0}")]
    Application(#[from] Complaint),
    /// Replicas that applied the same differ.
    #[error(
        "nodes {one} and {two} applied up to {applied} and differ: {first:016x}, {second:016x}"
    )]
    Diverged {
        /// One replica.
        one: NodeId,
        /// The other.
        two: NodeId,
        /// What both applied.
        applied: LogIndex,
        /// The hash of the first.
        first: u64,
        /// The hash of the second.
        second: u64,
    },
    /// After healing, the cluster does not come together.
    #[error("{waited_s} s after healing: {what}")]
    NotConverged {
        /// How long the world waited, in seconds of virtual time.
        waited_s: u64,
        /// What is still missing.
        what: String,
    },
}
