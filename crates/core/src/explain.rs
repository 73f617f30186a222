//! Why something does not happen yet: what a server waits for, as data and in a line of words, and
//! what an operator may do about it. Knows nothing of how the reasons are found.

use crate::membership::list;
use crate::{ChangeWait, LogId, LogIndex, NodeId, Poison, ProtocolVersion, Term};
use std::time::Duration;

/// One thing that a server waits for ([`crate::Raft::explain`]). The text is one line for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It takes part in nothing until somebody looks at it.
    #[error("it takes part in nothing any more: {0}")]
    Poisoned(Poison),
    /// It was removed.
    #[error("it is no member any more, by version {version} of the configuration")]
    Removed {
        /// That version.
        version: u64,
    },
    /// Its log was damaged where entries may be committed, and they are not there again.
    #[error("its log was damaged and has lost {}: {wait}", range(*first, *last))]
    Lost {
        /// The first.
        first: LogIndex,
        /// The last, as far as is known.
        last: LogIndex,
        /// What may bring them back.
        wait: LostWait,
    },
    /// It knows of no leader of its term.
    #[error("no leader is known: {0}")]
    NoLeader(LeaderWait),
    /// A write has been under way for longer than a leader may need for one.
    #[error("its disk has not finished a write for {}", rounded(*since))]
    DiskStalled {
        /// For how long.
        since: Duration,
    },
    /// A snapshot is to replace its log.
    #[error("node {from} sends it the snapshot {last_included}: {}", match received_bytes {
        Some(bytes) => format!("{bytes} bytes have arrived"),
        None => "it has arrived and is being restored".to_owned(),
    })]
    Installing {
        /// The leader.
        from: NodeId,
        /// What it covers.
        last_included: LogId,
        /// How much of it is there; `None` once it is whole.
        received_bytes: Option<u64>,
    },
    /// Its state was emptied and its log does not begin at the beginning: a leader has to send the rest.
    #[error("it has no state for what its log leaves out, up to {base}, and waits for a snapshot")]
    StateMissing {
        /// What the log begins after.
        base: LogIndex,
    },
    /// A new leader's state machine has yet to apply what earlier leaders committed: reads, and answers
    /// to commands, wait for that.
    #[error(
        "it leads, and its state machine has yet to apply {} that were there before, up to {last}",
        entries(last.distance_from(*applied))
    )]
    NotReady {
        /// How far it is.
        applied: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
    /// A majority of the voters must durably hold an entry before it is committed (§3.5).
    #[error(
        "entry {index} is not committed: durable on {}, not known to be on {}{}; a majority {}is needed",
        list(holders), list(missing), own(*is_on_own_disk), halves(*is_joint)
    )]
    NotCommitted {
        /// The first that is not.
        index: LogIndex,
        /// Voters that are known to hold it.
        holders: Vec<NodeId>,
        /// The other voters, but for the leader.
        missing: Vec<NodeId>,
        /// Whether the leader holds it, or has no vote.
        is_on_own_disk: bool,
        /// Two majorities are needed (§4.3).
        is_joint: bool,
    },
    /// An entry of an earlier term is committed only together with one of the leader's own (§3.6.2).
    #[error(
        "entry {index} is of an earlier term: it is committed with entry {term_start}, which is not \
         known to be on {}{}",
        list(missing), own(*is_on_own_disk)
    )]
    OfEarlierTerm {
        /// The first that is not committed.
        index: LogIndex,
        /// The leader's first entry.
        term_start: LogIndex,
        /// Voters that are not known to hold that one, but for the leader.
        missing: Vec<NodeId>,
        /// Whether the leader holds it, or has no vote.
        is_on_own_disk: bool,
    },
    /// Only the leader knows what is committed, and has not told of this entry.
    #[error("node {leader} leads, and has not told that entry {index} is committed")]
    NotTold {
        /// The first entry here that is not known to be committed.
        index: LogIndex,
        /// Who would know.
        leader: NodeId,
    },
    /// The log does not go that far.
    #[error("there is no entry {index}: the log ends with {last}")]
    NotThere {
        /// What was asked for.
        index: LogIndex,
        /// The last one.
        last: LogIndex,
    },
    /// The state machine is behind.
    #[error("the state machine has applied {applied} of {committed} committed entries")]
    NotApplied {
        /// How far it is.
        applied: LogIndex,
        /// How far it may go.
        committed: LogIndex,
    },
    /// A leader sends a member nothing for now.
    #[error("node {peer} lacks {}: {wait}", entries(*behind_count))]
    Peer {
        /// Who.
        peer: NodeId,
        /// How far it is behind.
        behind_count: u64,
        /// What has to happen first.
        wait: PeerWait,
    },
    /// A change of the members is not finished.
    #[error("the change of the members is not finished: {0}")]
    Change(ChangeWait),
    /// The cluster speaks an older protocol than this leader could ([`crate::ProtocolVersion`]).
    #[error(
        "the cluster speaks protocol version {spoken}: for {own} every member has to know it and to be \
         there; older are {}, not heard of are {}",
        list(older),
        list(silent)
    )]
    OldVersion {
        /// What the cluster speaks.
        spoken: ProtocolVersion,
        /// What this server could.
        own: ProtocolVersion,
        /// Members whose programs are older than this server's.
        older: Vec<NodeId>,
        /// Members of which nothing is known, or that do not answer.
        silent: Vec<NodeId>,
    },
    /// A leader takes no proposals while it hands over (§3.10).
    #[error("leadership is being handed over to node {to}, which lacks {}", entries(*behind_count))]
    Handover {
        /// The successor.
        to: NodeId,
        /// How far it is behind.
        behind_count: u64,
    },
    /// Linearizable reads are not answered yet (§6.4).
    #[error("{}: {wait}", if *count == 1 { "a read waits".to_owned() } else { format!("{count} reads wait") })]
    Reads {
        /// How many.
        count: usize,
        /// What the oldest waits for.
        wait: ReadWait,
    },
}

/// What may bring entries back that a log has lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostWait {
    /// A leader has them, or decides otherwise.
    #[error("node {leader} leads, and sends what is lacking")]
    Leader {
        /// Who leads.
        leader: NodeId,
    },
    /// Nobody leads.
    #[error(
        "nobody leads, and it asks {} for them{}",
        list(asked),
        if without.is_empty() { String::new() } else { format!("; not there: {}", list(without)) }
    )]
    Others {
        /// Members that may have them.
        asked: Vec<NodeId>,
        /// Members that say that they have not what comes first.
        without: Vec<NodeId>,
    },
    /// No member has what comes first.
    #[error("nobody leads, and none of {} has the first of them", list(without))]
    Nobody {
        /// The other members; all of them have answered.
        without: Vec<NodeId>,
    },
}

/// What has to happen before a server knows of a leader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderWait {
    /// It listens.
    #[error("it asks for votes in {}, if it hears of none until then", rounded(*left))]
    Timeout {
        /// Until it campaigns.
        left: Duration,
    },
    /// It has no vote to win with, or would be no use as a leader.
    #[error("it cannot campaign itself, and waits for one of {}", list(voters))]
    Others {
        /// Who can.
        voters: Vec<NodeId>,
    },
    /// It has asked for votes (§3.4), or whether it would get them (§9.6).
    #[error(
        "it {} term {term}; yes said {}, not {}; a majority {}is needed",
        if *is_certain { "asks for votes of" } else { "asks whether it would win" },
        list(granted), list(missing), halves(*is_joint)
    )]
    Votes {
        /// The term.
        term: Term,
        /// It is a candidate; otherwise it has only asked whether it would win.
        is_certain: bool,
        /// Who said yes; itself included.
        granted: Vec<NodeId>,
        /// Who said no, or nothing.
        missing: Vec<NodeId>,
        /// Two majorities are needed (§4.3).
        is_joint: bool,
    },
    /// Its own vote counts once it is on its disk (§3.8).
    #[error("its own vote of term {term} is not on its disk yet")]
    OwnVote {
        /// The term.
        term: Term,
    },
}

/// What has to happen before a leader sends a member more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerWait {
    /// It has not answered for an election timeout or more.
    #[error("it has not answered for {}", rounded(*since))]
    Silent {
        /// Since its last answer, or since the leader took office.
        since: Duration,
    },
    /// Where its log agrees with the leader's is being found out (§3.5).
    #[error("it was asked whether it has the entry before {next_index}")]
    Probe {
        /// What it would be sent next.
        next_index: LogIndex,
    },
    /// As much is under way to it as may be.
    #[error("as much as may be is under way to it ({bytes} bytes, messages: {count})")]
    Window {
        /// Messages.
        count: usize,
        /// Their entries' bytes.
        bytes: usize,
    },
    /// What it needs is read from the leader's disk.
    #[error("its entries are being read from the leader's disk")]
    Loading,
    /// What it needs is no longer in the log, and a snapshot is being made.
    #[error("what it needs is no longer in the log, and a snapshot is being made")]
    NoSnapshot,
    /// It is sent a snapshot.
    #[error("it has {offset} bytes of the snapshot {last_included}")]
    Snapshot {
        /// What that covers.
        last_included: LogId,
        /// Bytes that have arrived.
        offset: u64,
    },
}

/// What has to happen before a linearizable read is answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadWait {
    /// A new leader knows what is committed once it has committed an entry of its own.
    #[error("entry {term_start}, the leader's first, has to be committed before them")]
    TermStart {
        /// That entry.
        term_start: LogIndex,
    },
    /// A majority has to obey a heartbeat that was sent after the read arrived.
    #[error("{} have not answered a heartbeat that was sent since", list(missing))]
    Round {
        /// Voters that have not.
        missing: Vec<NodeId>,
    },
    /// The leader was asked.
    #[error("node {leader} leads and has been asked how far they have to see")]
    Leader {
        /// Whom.
        leader: NodeId,
    },
}

impl Reason {
    /// What an operator may do; `None` if it passes by itself.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Poisoned(Poison::DiskFailed) => Some(
                "mend its disk and start it again; what it has acknowledged is in its log".into(),
            ),
            Self::Poisoned(Poison::Diverged { .. }) => Some(
                "find out what its state machine goes by besides its log, and start it again with its \
                 state rebuilt (--rebuild-state)"
                    .into(),
            ),
            Self::Poisoned(Poison::LogUnreadable { .. }) => {
                Some("stop it and let `quorate wal verify` look at its log".into())
            }
            Self::Poisoned(Poison::TwoLeaders { .. } | Poison::CommittedConflict { .. }) => {
                Some("keep its folder, and find out which node has lost its disk".into())
            }
            Self::Removed { .. } => {
                Some("stop it; to come back it needs a new id and an empty folder".into())
            }
            Self::DiskStalled { .. } => Some("look at the disk, and at who else uses it".into()),
            Self::NoLeader(LeaderWait::Votes { missing, .. })
            | Self::NotCommitted { missing, .. }
            | Self::OfEarlierTerm { missing, .. }
            | Self::Reads { wait: ReadWait::Round { missing }, .. }
                if !missing.is_empty() =>
            {
                Some(reach(missing))
            }
            Self::NoLeader(LeaderWait::Others { voters }) => Some(reach(voters)),
            Self::Lost { wait: LostWait::Others { asked, .. }, .. } if !asked.is_empty() => {
                Some(reach(asked))
            }
            Self::Lost { wait: LostWait::Nobody { .. }, .. } => Some(
                "bring back a member that has them, or begin anew with what is left (`quorate recover`)"
                    .into(),
            ),
            Self::Peer { peer, wait: PeerWait::Silent { .. }, .. } => {
                Some(format!("{}; if it is lost, remove it and add another", reach(&[*peer])))
            }
            Self::Change(wait) => change_advice(wait),
            Self::OldVersion { .. } => Some(
                "start the older members with the newer program, one by one; none can go back once the \
                 cluster speaks the newer version"
                    .into(),
            ),
            Self::NoLeader(_)
            | Self::Lost { .. }
            | Self::NotCommitted { .. }
            | Self::OfEarlierTerm { .. }
            | Self::Installing { .. }
            | Self::StateMissing { .. }
            | Self::NotReady { .. }
            | Self::NotTold { .. }
            | Self::NotThere { .. }
            | Self::NotApplied { .. }
            | Self::Peer { .. }
            | Self::Handover { .. }
            | Self::Reads { .. } => None,
        }
    }
}

fn change_advice(wait: &ChangeWait) -> Option<String> {
    match wait {
        ChangeWait::Commit { missing, .. } if !missing.is_empty() => Some(reach(missing)),
        ChangeWait::CatchUp { member, is_reachable: false, .. } => {
            Some(format!("{}, or take the change back", reach(&[*member])))
        }
        ChangeWait::Majority { silent, .. } => {
            Some(format!("{}, or take the change back", reach(silent)))
        }
        ChangeWait::LeaderTooNew { .. }
        | ChangeWait::Commit { .. }
        | ChangeWait::CatchUp { .. }
        | ChangeWait::Handover { .. } => None,
    }
}

fn reach(members: &[NodeId]) -> String {
    match members {
        [one] => format!("see that node {one} runs and can be reached"),
        _ => format!("see that {} run and can be reached", list(members)),
    }
}

fn range(first: LogIndex, last: LogIndex) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

fn entries(count: u64) -> String {
    if count == 1 { "an entry".to_owned() } else { format!("{count} entries") }
}

fn own(is_on_own_disk: bool) -> &'static str {
    if is_on_own_disk { "" } else { ", nor on its own disk yet" }
}

fn halves(is_joint: bool) -> &'static str {
    if is_joint { "before and after the change " } else { "" }
}

/// To the millisecond: more says nothing.
fn rounded(time: Duration) -> String {
    format!("{:?}", Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
}
