//! Whatever is said arrives as it was said, and what nobody said harms nobody.

use super::hello::{Hello, LinkFrame, Spoken, put_link_frame, take_link_frame};
use super::{
    Channel, ClusterView, Reject, SpokenRange, WireError, decode_peer_message, encode_peer_message,
};
use crate::{
    Beginning, DigestMessage, DigestNews, DigestRules, Doubt, Fate, Forwarded, Introduction,
    PeerMessage, Proposed, Refusal, Seen, SessionId, SessionKey, SessionRefusal, SessionRequest,
};
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Change, Configuration, ConflictHint,
    Drift, Entry, Heartbeat, HeartbeatResponse, InstallSnapshot, InstallSnapshotResponse, Lent,
    LogId, LogIndex, LostEntries, LostEntriesResponse, Member, MemberRole, Members,
    MembershipCommand, MembershipRefusal, Message, NodeId, NotAMember, Payload, ProtocolVersion,
    ReadId, ReadIndex, ReadIndexResponse, RequestVote, RequestVoteResponse, SnapshotMeta, Term,
    TimeoutNow, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

const NUMBERS: std::ops::Range<u64> = 0..1 << 61;

fn encoded(message: &PeerMessage) -> Bytes {
    let mut out = BytesMut::new();
    encode_peer_message(message, ProtocolVersion::NEWEST, &mut out).unwrap();
    out.freeze()
}

fn decoded(body: Bytes) -> Result<PeerMessage, WireError> {
    decode_peer_message(body, ProtocolVersion::NEWEST)
}

fn term() -> impl Strategy<Value = Term> {
    NUMBERS.prop_map(Term::new)
}

fn index() -> impl Strategy<Value = LogIndex> {
    NUMBERS.prop_map(LogIndex::new)
}

fn log_id() -> impl Strategy<Value = LogId> {
    (term(), index()).prop_map(|(term, index)| LogId::new(term, index))
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from)
}

fn phase() -> impl Strategy<Value = VotePhase> {
    prop_oneof![Just(VotePhase::PreVote), Just(VotePhase::Vote), Just(VotePhase::Transfer)]
}

fn member() -> impl Strategy<Value = Member> {
    let role = prop_oneof![
        Just(MemberRole::Voter),
        Just(MemberRole::Incoming),
        Just(MemberRole::Outgoing),
        Just(MemberRole::Learner),
    ];
    (role, any::<u32>(), "[a-z0-9.:]{0,20}", bytes())
        .prop_map(|(role, rank, address, context)| Member { role, rank, address, context })
}

fn configuration() -> impl Strategy<Value = Arc<Configuration>> {
    let change =
        (members(), members()).prop_map(|(target, origin)| Box::new(Change { target, origin }));
    let removed = prop::collection::vec(any::<u64>().prop_map(NodeId::new), 0..4);
    let storages =
        prop::collection::btree_map(any::<u64>().prop_map(NodeId::new), any::<u128>(), 0..4);
    let spoken = prop_oneof![Just(ProtocolVersion::UNRECORDED), Just(ProtocolVersion::NEWEST)];
    (any::<u64>(), members(), prop::option::of(change), removed, (storages, spoken)).prop_map(
        |(version, members, change, removed, (storages, cluster_version))| {
            let rest = Configuration::new(version, members);
            Arc::new(Configuration { change, removed, storages, cluster_version, ..rest })
        },
    )
}

fn members() -> impl Strategy<Value = Members> {
    prop::collection::btree_map(any::<u64>().prop_map(NodeId::new), member(), 0..4)
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        bytes().prop_map(Payload::Command),
        bytes().prop_map(Payload::Session),
        configuration().prop_map(Payload::Configuration),
    ]
}

/// Entries as a leader sends them: no gap, terms never falling.
fn append_entries() -> impl Strategy<Value = Message> {
    let steps = prop::collection::vec((0..3_u64, payload()), 0..8);
    (log_id(), steps, index()).prop_map(|(prev_log, steps, leader_commit)| {
        let mut log_id = prev_log;
        let mut entries = Vec::new();
        for (newer, payload) in steps {
            log_id = LogId::new(Term::new(log_id.term.get() + newer), log_id.index.next());
            entries.push(Entry { log_id, payload });
        }
        Message::AppendEntries(AppendEntries {
            term: log_id.term,
            prev_log,
            entries,
            leader_commit,
        })
    })
}

fn outcome() -> impl Strategy<Value = AppendOutcome> {
    prop_oneof![
        index().prop_map(|matched| AppendOutcome::Accepted { matched }),
        (index(), log_id()).prop_map(|(prev_index, candidate)| AppendOutcome::Rejected {
            prev_index,
            hint: ConflictHint { candidate },
        }),
        Just(AppendOutcome::StaleTerm),
    ]
}

fn install_snapshot() -> impl Strategy<Value = Message> {
    (term(), log_id(), configuration(), NUMBERS, bytes(), any::<bool>()).prop_map(
        |(term, last_included, configuration, offset, chunk, done)| {
            let meta = SnapshotMeta { last_included, configuration };
            Message::InstallSnapshot(InstallSnapshot { term, meta, offset, chunk, done })
        },
    )
}

fn small_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (term(), log_id(), phase()).prop_map(|(term, last_log, phase)| {
            Message::RequestVote(RequestVote { term, last_log, phase })
        }),
        (term(), phase(), any::<bool>()).prop_map(|(term, phase, granted)| {
            Message::RequestVoteResponse(RequestVoteResponse { term, phase, granted })
        }),
        (term(), outcome()).prop_map(|(term, outcome)| {
            Message::AppendEntriesResponse(AppendEntriesResponse { term, outcome })
        }),
        (term(), index(), prop::option::of(NUMBERS)).prop_map(|(term, leader_commit, round)| {
            Message::Heartbeat(Heartbeat { term, leader_commit, round })
        }),
        (term(), NUMBERS, prop::option::of(1..NUMBERS.end)).prop_map(|(term, round, promise)| {
            let promise = Duration::from_micros(promise.unwrap_or_default());
            Message::HeartbeatResponse(HeartbeatResponse { term, round, promise })
        }),
        (term(), log_id(), NUMBERS, any::<bool>()).prop_map(
            |(term, last_included, next_offset, installed)| {
                let response =
                    InstallSnapshotResponse { term, last_included, next_offset, installed };
                Message::InstallSnapshotResponse(response)
            }
        ),
        term().prop_map(|term| Message::TimeoutNow(TimeoutNow { term })),
        (term(), any::<u64>(), prop::option::of(any::<u32>())).prop_map(|(term, id, max_drift)| {
            let max_drift = max_drift.map(Drift::parts_per_million);
            Message::ReadIndex(ReadIndex { term, id: ReadId::new(id), max_drift })
        }),
        (term(), any::<u64>(), prop::option::of(index())).prop_map(|(term, id, index)| {
            Message::ReadIndexResponse(ReadIndexResponse { term, id: ReadId::new(id), index })
        }),
        (term(), NUMBERS, log_id()).prop_map(|(term, version, position)| {
            Message::NotAMember(NotAMember { term, version, position })
        }),
        (term(), log_id(), log_id()).prop_map(|(term, after, known)| Message::LostEntries(
            LostEntries { term, after, known }
        )),
        (term(), log_id(), prop::option::of(lent())).prop_map(|(term, after, lent)| {
            Message::LostEntriesResponse(LostEntriesResponse { term, after, lent })
        }),
    ]
}

/// One entry, behind the one before it or behind one that is not known.
fn lent() -> impl Strategy<Value = Lent> {
    (1..u64::from(u32::MAX), 0..u64::from(u32::MAX), any::<bool>(), any::<bool>()).prop_map(
        |(term, index, is_known, has_entry)| {
            let at = |index| LogId::new(Term::new(term), LogIndex::new(index));
            let entry = Entry { log_id: at(index + 1), payload: Payload::Noop };
            let previous = is_known.then_some(at(index));
            let entries = has_entry.then_some(entry).into_iter().collect();
            Lent { previous, entries, reaches: at(index + 2) }
        },
    )
}

fn fate() -> impl Strategy<Value = Fate> {
    let node = any::<u64>().prop_map(NodeId::new);
    prop_oneof![
        (log_id(), bytes()).prop_map(|(log_id, reply)| Fate::Applied { log_id, reply }),
        log_id().prop_map(|log_id| Fate::Lost { log_id }),
        Just(Fate::NotAppended(Refusal::NoLeader)),
        Just(Fate::NotAppended(Refusal::Stopped)),
        node.clone().prop_map(|to| Fate::NotAppended(Refusal::Transferring { to })),
        any::<u32>().prop_map(|limit| Fate::NotAppended(Refusal::Overloaded {
            what: "uncommitted proposals",
            limit: limit as usize,
            unit: "bytes",
        })),
        Just(Fate::Unknown(Doubt::Deadline)),
        Just(Fate::Unknown(Doubt::Superseded)),
        Just(Fate::Unknown(Doubt::Stopped)),
        node.prop_map(|leader| Fate::Unknown(Doubt::ConnectionLost { leader })),
        Just(Fate::Refused(SessionRefusal::Expired)),
        log_id().prop_map(|log_id| Fate::Refused(SessionRefusal::Forgotten { log_id })),
        any::<u64>().prop_map(|first_open| Fate::Refused(SessionRefusal::Settled { first_open })),
        any::<u32>()
            .prop_map(|limit_count| Fate::Refused(SessionRefusal::TooFarAhead { limit_count })),
    ]
}

fn proposed() -> impl Strategy<Value = Proposed> {
    let key = || {
        (any::<u64>(), any::<u64>())
            .prop_map(|(id, secret)| SessionKey { id: SessionId::new(id), secret })
    };
    let request = prop_oneof![
        any::<u64>().prop_map(|secret| SessionRequest::Open { secret }),
        (key(), any::<u64>(), any::<u64>(), bytes()).prop_map(|(session, one, two, command)| {
            let (number, first_open) = (one.max(two), one.min(two));
            SessionRequest::Command { session, number, first_open, command }
        }),
        key().prop_map(|session| SessionRequest::KeepAlive { session }),
        key().prop_map(|session| SessionRequest::Close { session }),
    ];
    prop_oneof![
        bytes().prop_map(Proposed::Command),
        request.prop_map(|request| Proposed::Session(Box::new(request))),
    ]
}

fn forward() -> impl Strategy<Value = PeerMessage> {
    let request =
        (any::<u64>(), proposed()).prop_map(|(request, proposed)| Forwarded { request, proposed });
    (term(), any::<u64>(), prop::collection::vec(request, 0..5)).prop_map(
        |(term, incarnation, requests)| PeerMessage::Forward { term, incarnation, requests },
    )
}

fn peer_message() -> impl Strategy<Value = PeerMessage> {
    let replies = prop::collection::vec((any::<u64>(), fate()), 0..5);
    prop_oneof![
        small_message().prop_map(PeerMessage::Raft),
        append_entries().prop_map(PeerMessage::Raft),
        install_snapshot().prop_map(PeerMessage::Raft),
        forward(),
        (any::<u64>(), replies).prop_map(|(incarnation, replies)| {
            PeerMessage::ForwardReplies { incarnation, replies }
        }),
        (term(), any::<(u64, u64)>(), membership_command()).prop_map(
            |(term, (incarnation, request), command)| {
                PeerMessage::ChangeMembership { term, incarnation, request, command }
            }
        ),
        (any::<(u64, u64)>(), prop_oneof![log_id().prop_map(Ok), refusal().prop_map(Err)])
            .prop_map(|((incarnation, request), outcome)| {
                PeerMessage::MembershipReply { incarnation, request, outcome }
            }),
        introduction().prop_map(PeerMessage::Introduce),
        digest().prop_map(PeerMessage::Digest),
        index().prop_map(|at_least| PeerMessage::StateWanted { at_least }),
    ]
}

fn digest() -> impl Strategy<Value = DigestMessage> {
    let news = prop_oneof![
        any::<u64>().prop_map(DigestNews::Hash),
        Just(DigestNews::ListWanted),
        prop::collection::vec(any::<u64>(), 0..5).prop_map(DigestNews::List),
    ];
    (any::<(u32, u32, u64)>(), index(), news).prop_map(
        |((window_count, version, incarnation), last, news)| {
            let rules = DigestRules { window_count, version };
            DigestMessage { rules, incarnation, last, news }
        },
    )
}

fn introduction() -> impl Strategy<Value = Introduction> {
    let seen = any::<(u128, u32)>().prop_map(|(storage_id, era)| Seen { storage_id, era });
    let beginning = (log_id(), any::<u32>())
        .prop_map(|(last_included, checksum)| Beginning { last_included, checksum });
    let known = (prop::option::of(beginning), prop::option::of(seen));
    (any::<(u128, u32, bool, bool)>(), known).prop_map(
        |((storage_id, era, is_proven, has_history), (beginning, answers))| Introduction {
            storage_id,
            era,
            is_proven,
            has_history,
            beginning,
            answers,
        },
    )
}

fn membership_command() -> impl Strategy<Value = MembershipCommand> {
    prop_oneof![
        Just(MembershipCommand::Cancel),
        (members(), prop::option::of(NUMBERS), any::<bool>()).prop_map(
            |(target, expected_version, force)| {
                MembershipCommand::Set { target, expected_version, force }
            }
        ),
    ]
}

fn refusal() -> impl Strategy<Value = MembershipRefusal> {
    use MembershipRefusal as R;
    let ids = || prop::collection::vec(any::<u64>().prop_map(NodeId::new), 0..5);
    let node = || any::<u64>().prop_map(NodeId::new);
    prop_oneof![
        prop::option::of(node()).prop_map(|leader| R::NotLeader { leader }),
        index().prop_map(|term_start| R::LeaderTooNew { term_start }),
        node().prop_map(|to| R::Transferring { to }),
        any::<u64>().prop_map(|version| R::UnderWay { version }),
        any::<(u64, u64)>().prop_map(|(e, actual)| R::VersionMismatch { expected: e, actual }),
        Just(R::NoVoters),
        node().prop_map(|member| R::NotARole { member }),
        node().prop_map(|member| R::Tombstoned { member }),
        (ids(), any::<usize>())
            .prop_map(|(ids, n)| R::Strangers { strangers: ids, known_count: n }),
        (ids(), any::<usize>())
            .prop_map(|(silent, n)| R::WouldLoseQuorum { silent, needed_count: n }),
        any::<(usize, usize)>().prop_map(|(n, m)| R::TooManyMembers { count: n, limit_count: m }),
        (node(), any::<usize>()).prop_map(|(member, bytes)| {
            R::MemberTooLarge { member, bytes, limit_bytes: quorate_core::MEMBER_BYTES_MAX }
        }),
        Just(R::NothingToCancel),
        index().prop_map(|index| R::CannotCancelYet { index }),
        Just(R::Poisoned),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let channel = prop_oneof![Just(Channel::Control), Just(Channel::Bulk)];
    (any::<(u16, u64, u64, u64, u128, u64)>(), channel, ".{0,40}").prop_map(
        |((version, cluster_id, from, to, storage_id, configuration_version), channel, address)| {
            Hello {
                version: ProtocolVersion::new(version.min(6)),
                cluster_id,
                from: NodeId::new(from),
                to: NodeId::new(to),
                storage_id,
                channel,
                configuration_version,
                address,
            }
        },
    )
}

proptest! {
    #[test]
    fn every_message_arrives_as_it_was_sent(message in peer_message()) {
        prop_assert_eq!(decoded(encoded(&message)), Ok(message));
    }

    #[test]
    fn a_message_cut_short_is_refused(message in peer_message(), at in any::<prop::sample::Index>()) {
        let whole = encoded(&message);
        let part = whole.slice(..at.index(whole.len()));
        // What stands at their end may be left out, and then it is another message.
        let may_end_earlier = match &message {
            PeerMessage::Raft(Message::HeartbeatResponse(response)) => !response.promise.is_zero(),
            PeerMessage::Raft(Message::ReadIndex(request)) => request.max_drift.is_some(),
            _ => false,
        };
        let got = decoded(part);
        let is_other = got.as_ref().is_ok_and(|got| may_end_earlier && *got != message);
        prop_assert!(got.is_err() || is_other, "a part passed for the whole");
    }

    #[test]
    fn a_message_with_a_byte_too_many_is_refused(message in peer_message(), byte in any::<u8>()) {
        let mut body = BytesMut::from(&encoded(&message)[..]);
        body.put_u8(byte);
        prop_assert!(decoded(body.freeze()).is_err(), "trailing bytes passed");
    }

    #[test]
    fn random_bytes_are_never_worse_than_an_error(
        kind in 0..0x40_u8,
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut body = vec![kind];
        body.extend(rest);
        let _ = decoded(Bytes::from(body));
    }

    #[test]
    fn a_damaged_message_is_never_worse_than_an_error(
        message in peer_message(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = BytesMut::from(&encoded(&message)[..]);
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decoded(body.freeze());
    }

    #[test]
    fn a_handshake_arrives_as_it_was_sent(hello in hello()) {
        let mut out = BytesMut::new();
        put_link_frame(&LinkFrame::Hello(hello.clone()), &mut out);
        prop_assert_eq!(take_link_frame(out.freeze()), Ok(LinkFrame::Hello(hello)));
    }

    #[test]
    fn random_handshakes_are_never_worse_than_an_error(
        kind in 0x60..0x66_u8,
        rest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut body = vec![kind];
        body.extend(rest);
        let _ = take_link_frame(Bytes::from(body));
    }
}

#[test]
fn every_reject_arrives_as_it_was_sent() {
    let (node, protocol) = (NodeId::new, ProtocolVersion::new);
    let range = Some(SpokenRange { newest: protocol(6), is_cluster: true });
    let spoken = Some(Spoken { version: protocol(5), newest: protocol(6) });
    let rejects = [
        Reject::Version { expected: protocol(1), got: protocol(2), range: None },
        Reject::Version { expected: protocol(6), got: protocol(5), range },
        Reject::Cluster { expected: 7, got: u64::MAX },
        Reject::Target { expected: node(1), got: node(2) },
        Reject::Sender { from: node(3), configuration_version: 4 },
        Reject::SameNode { node: node(5) },
        Reject::Removed {
            from: node(6),
            version: 7,
            position: LogId::new(Term::new(8), LogIndex::new(9)),
        },
    ];
    let frames = rejects.map(LinkFrame::Reject).into_iter().chain([
        LinkFrame::Welcome { storage_id: 9, spoken: None },
        LinkFrame::Welcome { storage_id: 9, spoken },
        LinkFrame::Ping { token: 1 },
        LinkFrame::Pong { token: 1 },
        LinkFrame::Ask { version: protocol(2) },
        LinkFrame::View(Box::new(view())),
    ]);
    for frame in frames {
        let mut out = BytesMut::new();
        put_link_frame(&frame, &mut out);
        assert_eq!(take_link_frame(out.freeze()), Ok(frame));
    }
}

#[test]
fn entries_with_a_gap_are_refused_at_the_gate() {
    let entry = |index| Entry {
        log_id: LogId::new(Term::new(1), LogIndex::new(index)),
        payload: Payload::Noop,
    };
    let message = PeerMessage::Raft(Message::AppendEntries(AppendEntries {
        term: Term::new(1),
        prev_log: LogId::ORIGIN,
        entries: vec![entry(1), entry(3)],
        leader_commit: LogIndex::ORIGIN,
    }));
    let refused = decoded(encoded(&message));
    let (previous, got) = (entry(1).log_id, entry(3).log_id);
    assert_eq!(refused, Err(WireError::Gap { previous, got }));
}

#[test]
fn entries_from_after_the_message_s_term_are_refused_at_the_gate() {
    let log_id = LogId::new(Term::new(2), LogIndex::new(1));
    let message = PeerMessage::Raft(Message::AppendEntries(AppendEntries {
        term: Term::new(1),
        prev_log: LogId::ORIGIN,
        entries: vec![Entry { log_id, payload: Payload::Noop }],
        leader_commit: LogIndex::ORIGIN,
    }));
    let refused = decoded(encoded(&message));
    let expected = WireError::EntryFromTheFuture { term: Term::new(1), got: Term::new(2) };
    assert_eq!(refused, Err(expected));
}

#[test]
fn an_index_near_the_end_of_numbers_is_refused_at_the_gate() {
    let message = PeerMessage::Raft(Message::Heartbeat(Heartbeat {
        term: Term::new(1),
        leader_commit: LogIndex::new(u64::MAX),
        round: None,
    }));
    assert!(matches!(decoded(encoded(&message)), Err(WireError::TooLarge { .. })));
}

#[test]
fn a_claim_of_four_billion_entries_sets_no_memory_aside() {
    let mut body = BytesMut::new();
    body.put_u8(0x03);
    for _ in 0..4 {
        body.put_u64_le(1);
    }
    body.put_u32_le(u32::MAX);
    assert!(matches!(decoded(body.freeze()), Err(WireError::Entry(_))));
}

fn view() -> ClusterView {
    let member = Member {
        role: MemberRole::Learner,
        rank: 1,
        address: "h:1".to_owned(),
        context: Bytes::from_static(b"n1"),
    };
    let members = [(NodeId::new(1), member)].into();
    ClusterView {
        cluster_id: 7,
        node_id: NodeId::new(1),
        configuration: Configuration::new(3, members),
    }
}

#[test]
fn what_is_lent_with_a_gap_or_from_a_later_term_than_it_leads_to_is_no_message() {
    let at = |term, index| LogId::new(Term::new(term), LogIndex::new(index));
    let entry = |log_id| Entry { log_id, payload: Payload::Noop };
    let decoded = |entries: Vec<Entry>| {
        let lent = Some(Lent { previous: Some(at(1, 4)), entries, reaches: at(2, 9) });
        let response = LostEntriesResponse { term: Term::new(3), after: at(1, 4), lent };
        let message = PeerMessage::Raft(Message::LostEntriesResponse(response));
        let mut out = BytesMut::new();
        encode_peer_message(&message, ProtocolVersion::NEWEST, &mut out).unwrap();
        decode_peer_message(out.freeze(), ProtocolVersion::NEWEST)
    };
    assert!(decoded(vec![entry(at(1, 5)), entry(at(2, 6))]).is_ok());
    let gap = decoded(vec![entry(at(1, 6))]);
    assert!(matches!(gap, Err(WireError::Gap { .. })), "{gap:?}");
    let future = decoded(vec![entry(at(3, 5))]);
    assert!(matches!(future, Err(WireError::EntryFromTheFuture { .. })), "{future:?}");
}
