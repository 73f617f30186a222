//! Raft's own properties: in a world the core's invariants speak before these judges, so here is
//! each with a history that it must not let pass, and one that it must.
#![allow(clippy::unwrap_used, missing_docs)]

use super::*;
use crate::judge::by_hand::*;
use quorate_core::{HardState, Heartbeat, MemberRole, Persist};

fn founded() -> Safety {
    Safety::founded(&three_voters())
}

/// The entries are asked for and durable on these nodes.
fn write(safety: &mut Safety, nodes: &[u64], entries: &[Entry]) {
    for id in nodes {
        safety.persist_asked(node(*id), &appends(entries));
        safety.persisted(node(*id)).unwrap();
    }
}

/// A node of three, in this term with this log, is given entries to apply.
fn apply(safety: &mut Safety, id: u64, term: u64, entries: &[Entry]) -> Result<(), Breach> {
    safety.applies(&follower(id, term, &three_voters(), &[]), entries)
}

fn start(safety: &mut Safety, id: u64) {
    let found = Found {
        hard_state: HardState::default(),
        base: LogId::ORIGIN,
        terms: std::collections::VecDeque::new(),
    };
    safety.started(node(id), found, LogIndex::ORIGIN).unwrap();
}

/// Three nodes have started, and nodes 1 and 2 have this on their disks.
fn with_log(entries: &[Entry]) -> Safety {
    let mut safety = founded();
    for id in 1..=3 {
        start(&mut safety, id);
    }
    write(&mut safety, &[1, 2], entries);
    safety
}

fn looks(id: u64, role: Role, term: u64, commit: u64, applied: u64) -> Look {
    let [commit, applied] = [commit, applied].map(LogIndex::new);
    Look { node: node(id), role, term: Term::new(term), commit, applied, last_log: LogId::ORIGIN }
}

/// A node is seen with this log.
fn see(safety: &mut Safety, look: Look, log: &[Entry]) -> Result<(), Breach> {
    let find = |index| log.iter().find(|entry| entry.log_id.index == index);
    safety.stepped(look, &three_voters(), |index| find(index).map(|entry| entry.log_id.term))
}

#[test]
fn a_history_as_it_should_be_breaks_nothing() {
    let log = [entry(1, 1), entry(2, 1), entry(3, 2)];
    let mut safety = with_log(&log[..2]);
    see(&mut safety, looks(1, Role::Leader, 1, 0, 0), &log[..2]).unwrap();
    see(&mut safety, looks(1, Role::Leader, 1, 2, 0), &log[..2]).unwrap();
    apply(&mut safety, 1, 1, &log[..2]).unwrap();
    see(&mut safety, looks(1, Role::Leader, 1, 2, 2), &log[..2]).unwrap();
    see(&mut safety, looks(2, Role::Candidate, 2, 1, 0), &log[..2]).unwrap();
    see(&mut safety, looks(2, Role::Leader, 2, 1, 0), &log[..2]).unwrap();
    write(&mut safety, &[2], &log[2..]);
    write(&mut safety, &[3], &log);
    see(&mut safety, looks(2, Role::Leader, 2, 3, 0), &log).unwrap();
    apply(&mut safety, 2, 2, &log).unwrap();
    safety.restored(node(3), log_id(2, 1)).unwrap();
    apply(&mut safety, 3, 2, &log[2..]).unwrap();
    see(&mut safety, looks(1, Role::Follower, 2, 2, 2), &log).unwrap();
    assert_eq!((safety.committed_count(), safety.leader_count()), (3, 2));
}

#[test]
fn a_term_has_one_leader() {
    let mut safety = founded();
    see(&mut safety, looks(1, Role::Leader, 4, 0, 0), &[]).unwrap();
    see(&mut safety, looks(1, Role::Follower, 5, 0, 0), &[]).unwrap();
    see(&mut safety, looks(2, Role::Leader, 5, 0, 0), &[]).unwrap();
    let two = see(&mut safety, looks(3, Role::Leader, 4, 0, 0), &[]);
    let is_said = matches!(two, Err(Breach::TwoLeaders { term, one, two })
        if (term, one, two) == (Term::new(4), node(1), node(3)));
    assert!(is_said, "{two:?}");
}

#[test]
fn term_commit_and_applied_index_only_grow() {
    let log = [entry(1, 1), entry(2, 1)];
    for (what, less) in [
        ("term", looks(1, Role::Follower, 1, 2, 2)),
        ("commit index", looks(1, Role::Follower, 2, 1, 2)),
        ("applied index", looks(1, Role::Follower, 2, 2, 1)),
    ] {
        let mut safety = with_log(&log);
        see(&mut safety, looks(1, Role::Follower, 2, 2, 2), &log).unwrap();
        see(&mut safety, looks(1, Role::Follower, 2, 2, 2), &log).unwrap();
        let fell = see(&mut safety, less, &log);
        assert!(
            matches!(fell, Err(Breach::WentBack { what: said, .. }) if said == what),
            "{fell:?}"
        );
    }
}

#[test]
fn after_a_start_a_term_is_not_below_the_durable_one() {
    let mut safety = founded();
    let voted = Persist { hard_state: Some(hard_state(7, None)), ..Persist::default() };
    safety.persist_asked(node(1), &voted);
    safety.persisted(node(1)).unwrap();
    let fell = see(&mut safety, looks(1, Role::Follower, 6, 0, 0), &[]);
    assert!(matches!(fell, Err(Breach::WentBack { from: 7, to: 6, .. })), "{fell:?}");
    see(&mut safety, looks(2, Role::Follower, 6, 0, 0), &[]).unwrap();
}

#[test]
fn a_leader_has_the_last_committed_entry() {
    let log = [entry(1, 1), entry(2, 3)];
    let is_incomplete = |look: Look, held: &[Entry]| {
        let mut safety = with_log(&log);
        apply(&mut safety, 1, 3, &log).unwrap();
        match see(&mut safety, look, held) {
            Err(Breach::LeaderIncomplete { missing, .. }) => missing == log_id(2, 3),
            other => {
                other.unwrap();
                false
            }
        }
    };
    assert!(is_incomplete(looks(3, Role::Leader, 4, 0, 0), &log[..1]), "a log that is too short");
    assert!(is_incomplete(looks(3, Role::Leader, 4, 0, 0), &[entry(1, 1), entry(2, 2)]));
    assert!(!is_incomplete(looks(3, Role::Leader, 4, 0, 0), &log));
    assert!(!is_incomplete(looks(3, Role::Leader, 4, 2, 2), &[]), "it is in the state");
    assert!(!is_incomplete(looks(3, Role::Leader, 2, 0, 0), &log[..1]), "of a term before");
    assert!(!is_incomplete(looks(3, Role::Candidate, 4, 0, 0), &log[..1]), "it may still lose");
}

#[test]
fn what_is_committed_at_an_index_never_changes() {
    let log = [command(1, 1, "a"), command(2, 1, "b")];
    for text in ["a", "b"] {
        let mut safety = with_log(&log);
        let _of_clients = (safety.proposed(b"a"), safety.proposed(b"b"));
        apply(&mut safety, 1, 1, &log).unwrap();
        apply(&mut safety, 2, 1, &log).unwrap();
        let changed = apply(&mut safety, 3, 2, &[command(1, 2, text)]);
        let is_said = matches!(changed, Err(Breach::CommittedChanged { expected, got, .. })
            if (expected, got) == (log_id(1, 1), log_id(1, 2)));
        assert!(is_said, "{changed:?}");
    }
}

#[test]
fn one_log_id_has_one_content() {
    let mut safety = with_log(&[command(1, 1, "a")]);
    let _of_a_client = safety.proposed(b"a");
    apply(&mut safety, 1, 1, &[command(1, 1, "a")]).unwrap();
    assert!(safety.is_command_at(1, b"a") && !safety.is_command_at(1, b"b"));
    let other = apply(&mut safety, 2, 1, &[command(1, 1, "b")]);
    assert!(matches!(other, Err(Breach::ContentDiffers { .. })), "{other:?}");
}

#[test]
fn entries_are_applied_in_order_each_once() {
    let log = [entry(1, 1), entry(2, 1)];
    for wrong in [&log[1..], &[entry(1, 1), entry(1, 1)][..]] {
        let mut safety = with_log(&log);
        let out_of_order = apply(&mut safety, 1, 1, wrong);
        assert!(matches!(out_of_order, Err(Breach::AppliedOutOfOrder { .. })), "{out_of_order:?}");
    }
}

#[test]
fn a_snapshot_ends_with_the_entry_that_is_committed_there() {
    let mut safety = with_log(&[entry(1, 1)]);
    apply(&mut safety, 1, 1, &[entry(1, 1)]).unwrap();
    safety.restored(node(2), log_id(1, 1)).unwrap();
    let wrong = safety.restored(node(3), log_id(1, 2));
    assert!(matches!(wrong, Err(Breach::CommittedChanged { .. })), "{wrong:?}");
}

#[test]
fn what_is_applied_is_on_a_quorum_of_disks() {
    let log = [entry(1, 1)];
    let mut safety = with_log(&[]);
    write(&mut safety, &[1], &log);
    safety.persist_asked(node(2), &appends(&log));
    let alone = apply(&mut safety, 1, 1, &log);
    assert!(
        matches!(alone, Err(Breach::NotOnQuorum { durable_count: 1, voter_count: 3, .. })),
        "what is on its way to a disk is not on it: {alone:?}"
    );
}

#[test]
fn whoever_first_calls_an_entry_committed_does_so_when_a_quorum_has_it() {
    let log = [entry(1, 1), entry(2, 1)];
    let mut safety = with_log(&log[..1]);
    see(&mut safety, looks(1, Role::Leader, 1, 1, 0), &log).unwrap();
    write(&mut safety, &[3], &log);
    let early = see(&mut safety, looks(1, Role::Leader, 1, 2, 0), &log);
    assert!(matches!(early, Err(Breach::NotOnQuorum { durable_count: 1, .. })), "{early:?}");

    // Another entry at the same index is no copy.
    let mut safety = with_log(&log);
    let other = [entry(1, 1), entry(2, 2)];
    let early = see(&mut safety, looks(3, Role::Leader, 2, 2, 0), &other);
    assert!(matches!(early, Err(Breach::NotOnQuorum { durable_count: 0, .. })), "{early:?}");
}

#[test]
fn a_joint_configuration_needs_a_majority_of_either_half() {
    use MemberRole::{Incoming, Learner, Outgoing, Voter};
    let joint = configuration(&[(1, Voter), (2, Outgoing), (3, Incoming), (4, Learner)]);
    let mut safety = Safety::founded(&joint);
    write(&mut safety, &[1, 2, 4], &[entry(1, 1)]);
    let missing = safety.missing_quorum(log_id(1, 1), &joint);
    assert_eq!(missing, Some((1, 2)), "of the incoming half; learners do not count");
    write(&mut safety, &[3], &[entry(1, 1)]);
    assert_eq!(safety.missing_quorum(log_id(1, 1), &joint), None);
}

#[test]
fn nothing_committed_leaves_a_disk() {
    let log = [entry(1, 1), entry(2, 1)];
    let cut = Persist { truncate_after: Some(LogIndex::new(1)), ..Persist::default() };
    let mut safety = with_log(&log);
    apply(&mut safety, 1, 1, &log[..1]).unwrap();
    safety.persist_asked(node(1), &cut);
    safety.persisted(node(1)).unwrap();

    let mut safety = with_log(&log);
    apply(&mut safety, 1, 1, &log).unwrap();
    let later = Persist { hard_state: Some(hard_state(1, None)), ..Persist::default() };
    safety.persist_asked(node(1), &later);
    safety.persist_asked(node(1), &cut);
    safety.persisted(node(1)).unwrap();
    let removed = safety.persisted(node(1));
    let is_said = matches!(removed, Err(Breach::CommittedRemoved { log_id: gone, .. })
        if gone == log_id(2, 1));
    assert!(is_said, "{removed:?}");
}

#[test]
fn a_durable_vote_does_not_change_within_its_term_nor_a_durable_term_fall() {
    let mut safety = founded();
    let mut store = |term, vote| {
        let hard_state = Some(hard_state(term, vote));
        safety.persist_asked(node(1), &Persist { hard_state, ..Persist::default() });
        safety.persisted(node(1))
    };
    store(3, None).unwrap();
    store(3, Some(2)).unwrap();
    store(4, Some(3)).unwrap();
    let twice = store(4, Some(2));
    assert!(matches!(twice, Err(Breach::VotedTwice { .. })), "{twice:?}");
    let fell = store(3, None);
    assert!(matches!(fell, Err(Breach::WentBack { from: 4, to: 3, .. })), "{fell:?}");
}

#[test]
fn clients_are_told_of_what_is_committed_and_no_command_is_there_too_often() {
    let mut safety = with_log(&[command(1, 1, "a"), command(2, 1, "a")]);
    let a = safety.proposed(b"a");
    let early = safety.told_applied(log_id(1, 1));
    assert!(matches!(early, Err(Breach::FalseAnswer { committed: None, .. })), "{early:?}");
    apply(&mut safety, 1, 1, &[command(1, 1, "a")]).unwrap();
    safety.told_applied(log_id(1, 1)).unwrap();
    let refused = safety.told_no_effect(a);
    assert!(matches!(refused, Err(Breach::AppliedTwice { refused: 1, .. })), "{refused:?}");
    let twice = apply(&mut safety, 1, 1, &[command(2, 1, "a")]);
    assert!(matches!(twice, Err(Breach::AppliedTwice { committed: 2, .. })), "{twice:?}");
}

#[test]
fn a_read_shows_what_was_committed_and_has_a_proof_that_is_younger_than_itself() {
    let asked = Asked { at: Time::from_micros(50), committed: LogIndex::new(4), by_lease: false };
    let mut safety = founded();
    let reader = follower(2, 1, &three_voters(), &[]);
    let stale = safety.reads(&reader, LogIndex::new(3), asked);
    assert!(matches!(stale, Err(Breach::StaleRead { .. })), "{stale:?}");

    see(&mut safety, looks(1, Role::Leader, 1, 0, 0), &[]).unwrap();
    let mut obeys_at = |micros| {
        let (term, leader_commit) = (Term::new(1), LogIndex::ORIGIN);
        let mut heard = Heard::default();
        let round = Some(1);
        heard.note(node(1), &Message::Heartbeat(Heartbeat { term, leader_commit, round }));
        let (now, timeout) = (Time::from_micros(micros), Duration::from_secs(1));
        safety.conducts(&reader, &heard, now, timeout).unwrap();
        safety.reads(&reader, LogIndex::new(4), asked)
    };
    let unproven = obeys_at(49);
    assert!(matches!(unproven, Err(Breach::UnprovenRead { .. })), "{unproven:?}");
    obeys_at(50).unwrap();
}
