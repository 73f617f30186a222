//! One message of each kind, and of each form that a kind may have, with a name. What version 5 of
//! the protocol made of them is in `protocol-5.txt`, byte by byte; a later program reads and writes
//! the same as long as it speaks that version.

use super::hello::{Channel, ClusterView, Hello, LinkFrame, Reject};
use crate::{
    Beginning, DigestMessage, DigestNews, DigestRules, Doubt, Fate, Forwarded, Introduction,
    PeerMessage, Proposed, Refusal, Seen, SessionId, SessionKey, SessionRefusal, SessionRequest,
};
use bytes::Bytes;
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Change, Configuration, ConflictHint,
    Drift, Entry, Heartbeat, HeartbeatResponse, InstallSnapshot, InstallSnapshotResponse, LogId,
    LogIndex, Member, MemberRole, Members, MembershipCommand, MembershipRefusal, Message, NodeId,
    NotAMember, Payload, ProtocolVersion, ReadId, ReadIndex, ReadIndexResponse, RequestVote,
    RequestVoteResponse, SnapshotMeta, Term, TimeoutNow, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

pub(super) type Named<T> = (&'static str, T);

/// The version that said them first.
pub(super) const FIVE: ProtocolVersion = ProtocolVersion::new(5);
const TERM: Term = Term::new(7);

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

fn members(roles: &[(u64, MemberRole)]) -> Members {
    let member = |(id, role): &(u64, MemberRole)| {
        let (address, context) = (format!("10.0.0.{id}:2380"), Bytes::from(format!("n{id}")));
        let rank = u32::try_from(*id).unwrap();
        (NodeId::new(*id), Member { role: *role, rank, address, context })
    };
    roles.iter().map(member).collect()
}

/// A change under way, somebody removed, disks known.
pub(super) fn configuration() -> Configuration {
    use MemberRole::{Incoming, Learner, Outgoing, Voter};
    Configuration {
        version: 300,
        change: Some(Box::new(Change {
            target: members(&[(1, Voter), (3, Voter)]),
            origin: members(&[(1, Voter), (2, Voter), (4, Learner)]),
        })),
        removed: vec![NodeId::new(9), NodeId::new(200)],
        storages: [(NodeId::new(1), 1 << 100), (NodeId::new(2), 5)].into(),
        ..Configuration::new(
            300,
            members(&[(1, Voter), (2, Outgoing), (3, Incoming), (4, Learner)]),
        )
    }
}

pub(super) fn messages() -> Vec<Named<PeerMessage>> {
    let raft = elections().into_iter().chain(replication()).chain(reads());
    let raft = raft.map(|(name, message)| (name, PeerMessage::Raft(message)));
    raft.chain(forwarded())
        .chain(fates())
        .chain(changes())
        .chain(refusals())
        .chain(others())
        .collect()
}

fn elections() -> Vec<Named<Message>> {
    let vote =
        |phase| Message::RequestVote(RequestVote { term: TERM, last_log: log_id(6, 999), phase });
    let answer = |phase, granted| {
        Message::RequestVoteResponse(RequestVoteResponse { term: TERM, phase, granted })
    };
    vec![
        ("RequestVote, pre-vote", vote(VotePhase::PreVote)),
        ("RequestVote, vote", vote(VotePhase::Vote)),
        ("RequestVote, transfer", vote(VotePhase::Transfer)),
        ("RequestVoteResponse, granted", answer(VotePhase::Vote, true)),
        ("RequestVoteResponse, refused", answer(VotePhase::PreVote, false)),
        ("TimeoutNow", Message::TimeoutNow(TimeoutNow { term: TERM })),
        (
            "NotAMember",
            Message::NotAMember(NotAMember { term: TERM, version: 12, position: log_id(5, 44) }),
        ),
    ]
}

fn replication() -> Vec<Named<Message>> {
    let payloads = [
        Payload::Noop,
        Payload::Command(Bytes::from_static(b"a command")),
        Payload::Session(Bytes::from_static(b"of a session")),
        Payload::Configuration(Arc::new(configuration())),
    ];
    let entry = |(index, payload)| Entry { log_id: log_id(6, index), payload };
    let entries: Vec<Entry> = (1000..).zip(payloads).map(entry).collect();
    let append = |entries| {
        let (prev_log, leader_commit) = (log_id(6, 999), LogIndex::new(998));
        Message::AppendEntries(AppendEntries { term: TERM, prev_log, entries, leader_commit })
    };
    let answer =
        |outcome| Message::AppendEntriesResponse(AppendEntriesResponse { term: TERM, outcome });
    let rejected = AppendOutcome::Rejected {
        prev_index: LogIndex::new(999),
        hint: ConflictHint { candidate: log_id(4, 80) },
    };
    let meta =
        SnapshotMeta { last_included: log_id(6, 990), configuration: Arc::new(configuration()) };
    let chunk = Bytes::from_static(b"a piece");
    vec![
        ("AppendEntries, empty", append(Vec::new())),
        ("AppendEntries, one of each", append(entries)),
        (
            "AppendEntriesResponse, accepted",
            answer(AppendOutcome::Accepted { matched: LogIndex::new(1003) }),
        ),
        ("AppendEntriesResponse, rejected", answer(rejected)),
        ("AppendEntriesResponse, stale", answer(AppendOutcome::StaleTerm)),
        (
            "InstallSnapshot",
            Message::InstallSnapshot(InstallSnapshot {
                term: TERM,
                meta,
                offset: 4096,
                chunk,
                done: true,
            }),
        ),
        (
            "InstallSnapshotResponse",
            Message::InstallSnapshotResponse(InstallSnapshotResponse {
                term: TERM,
                last_included: log_id(6, 990),
                next_offset: 4103,
                installed: false,
            }),
        ),
    ]
}

fn reads() -> Vec<Named<Message>> {
    let beat = |round| {
        Message::Heartbeat(Heartbeat { term: TERM, leader_commit: LogIndex::new(998), round })
    };
    let answer = |micros| {
        let promise = Duration::from_micros(micros);
        Message::HeartbeatResponse(HeartbeatResponse { term: TERM, round: 31, promise })
    };
    let ask =
        |max_drift| Message::ReadIndex(ReadIndex { term: TERM, id: ReadId::new(77), max_drift });
    let told = |index| {
        Message::ReadIndexResponse(ReadIndexResponse { term: TERM, id: ReadId::new(77), index })
    };
    vec![
        ("Heartbeat", beat(None)),
        ("Heartbeat, of a round", beat(Some(31))),
        ("HeartbeatResponse", answer(0)),
        ("HeartbeatResponse, with a promise", answer(1_000_000)),
        ("ReadIndex", ask(None)),
        ("ReadIndex, by lease", ask(Some(Drift::parts_per_million(200)))),
        ("ReadIndexResponse", told(Some(LogIndex::new(998)))),
        ("ReadIndexResponse, none", told(None)),
    ]
}

fn forwarded() -> Vec<Named<PeerMessage>> {
    let session = SessionKey { id: SessionId::new(55), secret: 66 };
    let command = Bytes::from_static(b"once");
    let requests = [
        SessionRequest::Open { secret: 66 },
        SessionRequest::Command { session, number: 9, first_open: 8, command },
        SessionRequest::KeepAlive { session },
        SessionRequest::Close { session },
    ];
    let of_session = requests.into_iter().map(|request| Proposed::Session(Box::new(request)));
    let plain = Proposed::Command(Bytes::from_static(b"put"));
    let proposed = std::iter::once(plain).chain(of_session);
    let requests = (500..).zip(proposed).map(|(request, proposed)| Forwarded { request, proposed });
    vec![(
        "Forward, one of each",
        PeerMessage::Forward { term: TERM, incarnation: 3, requests: requests.collect() },
    )]
}

fn fates() -> Vec<Named<PeerMessage>> {
    let overloaded =
        Refusal::Overloaded { what: "uncommitted proposals", limit: 1 << 20, unit: "bytes" };
    let node = NodeId::new(2);
    let fates = [
        Fate::Applied { log_id: log_id(6, 1001), reply: Bytes::from_static(b"ok") },
        Fate::NotAppended(Refusal::NoLeader),
        Fate::NotAppended(Refusal::Transferring { to: node }),
        Fate::NotAppended(overloaded),
        Fate::NotAppended(Refusal::Stopped),
        Fate::Lost { log_id: log_id(6, 1002) },
        Fate::Unknown(Doubt::Deadline),
        Fate::Unknown(Doubt::ConnectionLost { leader: node }),
        Fate::Unknown(Doubt::Superseded),
        Fate::Unknown(Doubt::Stopped),
        Fate::Refused(SessionRefusal::Expired),
        Fate::Refused(SessionRefusal::Forgotten { log_id: log_id(6, 1003) }),
        Fate::Refused(SessionRefusal::Settled { first_open: 10 }),
        Fate::Refused(SessionRefusal::TooFarAhead { limit_count: 64 }),
    ];
    let replies = (500..).zip(fates).collect();
    vec![("ForwardReplies, one of each", PeerMessage::ForwardReplies { incarnation: 3, replies })]
}

fn changes() -> Vec<Named<PeerMessage>> {
    let target = members(&[(1, MemberRole::Voter), (5, MemberRole::Learner)]);
    let set = |expected_version, force| MembershipCommand::Set {
        target: target.clone(),
        expected_version,
        force,
    };
    let wish =
        |command| PeerMessage::ChangeMembership { term: TERM, incarnation: 3, request: 8, command };
    vec![
        ("ChangeMembership, set", wish(set(Some(300), false))),
        ("ChangeMembership, forced", wish(set(None, true))),
        ("ChangeMembership, cancel", wish(MembershipCommand::Cancel)),
    ]
}

fn refusals() -> Vec<Named<PeerMessage>> {
    use MembershipRefusal as R;
    let (node, ids) = (NodeId::new(4), vec![NodeId::new(4), NodeId::new(5)]);
    let outcomes = [
        ("MembershipReply", Ok(log_id(6, 1004))),
        ("MembershipReply, no leader", Err(R::NotLeader { leader: Some(node) })),
        ("MembershipReply, new leader", Err(R::LeaderTooNew { term_start: LogIndex::new(3) })),
        ("MembershipReply, transferring", Err(R::Transferring { to: node })),
        ("MembershipReply, under way", Err(R::UnderWay { version: 300 })),
        ("MembershipReply, other version", Err(R::VersionMismatch { expected: 299, actual: 300 })),
        ("MembershipReply, no voters", Err(R::NoVoters)),
        ("MembershipReply, not a role", Err(R::NotARole { member: node })),
        ("MembershipReply, tombstoned", Err(R::Tombstoned { member: node })),
        (
            "MembershipReply, strangers",
            Err(R::Strangers { strangers: ids.clone(), known_count: 1 }),
        ),
        ("MembershipReply, quorum", Err(R::WouldLoseQuorum { silent: ids, needed_count: 2 })),
        ("MembershipReply, too many", Err(R::TooManyMembers { count: 65, limit_count: 64 })),
        (
            "MembershipReply, too large",
            Err(R::MemberTooLarge {
                member: node,
                bytes: 5000,
                limit_bytes: quorate_core::MEMBER_BYTES_MAX,
            }),
        ),
        ("MembershipReply, nothing to cancel", Err(R::NothingToCancel)),
        ("MembershipReply, not yet", Err(R::CannotCancelYet { index: LogIndex::new(1005) })),
        ("MembershipReply, poisoned", Err(R::Poisoned)),
    ];
    let reply = |(name, outcome)| {
        (name, PeerMessage::MembershipReply { incarnation: 3, request: 8, outcome })
    };
    outcomes.into_iter().map(reply).collect()
}

fn others() -> Vec<Named<PeerMessage>> {
    let plain = Introduction {
        storage_id: 1 << 90,
        era: 4,
        is_proven: true,
        has_history: false,
        beginning: None,
        answers: None,
    };
    let full = Introduction {
        has_history: true,
        beginning: Some(Beginning { last_included: log_id(2, 30), checksum: 0xfeed }),
        answers: Some(Seen { storage_id: 6, era: 5 }),
        ..plain
    };
    let rules = DigestRules { window_count: 1024, version: 2 };
    let digest = |news| {
        PeerMessage::Digest(DigestMessage {
            rules,
            incarnation: 3,
            last: LogIndex::new(2047),
            news,
        })
    };
    vec![
        ("Introduce", PeerMessage::Introduce(plain)),
        ("Introduce, with all there is", PeerMessage::Introduce(full)),
        ("Digest, a hash", digest(DigestNews::Hash(0x1234_5678))),
        ("Digest, a question", digest(DigestNews::ListWanted)),
        ("Digest, a list", digest(DigestNews::List(vec![1, 2, 3]))),
        ("StateWanted", PeerMessage::StateWanted { at_least: LogIndex::new(1000) }),
    ]
}

/// The connection's own, as a program of version 5 says them.
pub(super) fn link_frames() -> Vec<Named<LinkFrame>> {
    let node = NodeId::new(2);
    let hello = |channel| {
        LinkFrame::Hello(Hello {
            version: FIVE,
            cluster_id: 0x51,
            from: NodeId::new(1),
            to: node,
            storage_id: 1 << 100,
            channel,
            configuration_version: 300,
            address: "https://10.0.0.1:2380".to_owned(),
        })
    };
    let view = ClusterView { cluster_id: 0x51, node_id: node, configuration: configuration() };
    let removed = Reject::Removed { from: node, version: 300, position: log_id(6, 1000) };
    vec![
        ("Hello, control", hello(Channel::Control)),
        ("Hello, bulk", hello(Channel::Bulk)),
        ("Welcome", welcome()),
        ("Reject, version", LinkFrame::Reject(reject_of_version())),
        ("Reject, cluster", LinkFrame::Reject(Reject::Cluster { expected: 0x51, got: 0x52 })),
        (
            "Reject, target",
            LinkFrame::Reject(Reject::Target { expected: node, got: NodeId::new(3) }),
        ),
        (
            "Reject, sender",
            LinkFrame::Reject(Reject::Sender { from: node, configuration_version: 300 }),
        ),
        ("Reject, same node", LinkFrame::Reject(Reject::SameNode { node })),
        ("Reject, removed", LinkFrame::Reject(removed)),
        ("Ping", LinkFrame::Ping { token: 70 }),
        ("Pong", LinkFrame::Pong { token: 70 }),
        ("Ask", LinkFrame::Ask { version: FIVE }),
        ("View", LinkFrame::View(Box::new(view))),
    ]
}

fn welcome() -> LinkFrame {
    LinkFrame::Welcome { storage_id: 1 << 101, spoken: None }
}

fn reject_of_version() -> Reject {
    Reject::Version { expected: FIVE, got: ProtocolVersion::new(4), range: None }
}
