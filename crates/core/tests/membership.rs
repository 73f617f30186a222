//! Changes of the members at their edges: limits to the byte, whom a server tells that it is no
//! member, what a server concludes when it is told, and what of it all shows in its behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use bytes::Bytes;
use harness::{Cluster, Disk, configuration, describe, index, log_id, member, node, voters};
use quorate_core::invariants::{ClusterChecker, Violation, check_configurations, check_leaving};
use quorate_core::{
    AppendEntries, ChangeId, ChangeWait, Configuration, Effect, Entry, Event, LogId, MemberRole,
    Members, MembershipCommand, MembershipRefusal, Message, NotAMember, Options, Payload, Raft,
    RequestVote, RequestVoteResponse, Role, Term, Time, VotePhase,
};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

const MEMBER_BYTES_MAX: usize = 4 << 10;

fn set(target: Members) -> MembershipCommand {
    MembershipCommand::Set { target, expected_version: None, force: false }
}

/// A cluster of so many voters, led by 1.
fn led(voter_count: u64) -> Cluster {
    let mut cluster = Cluster::new(&voters(voter_count), Options::default(), 1);
    cluster.elect(1);
    cluster
}

/// What a server would do about an event a minute later, and what it would be then.
fn after(raft: &Raft, event: Event) -> (Raft, Vec<Effect>) {
    let (mut raft, mut effects) = (raft.clone(), Vec::new());
    raft.step(Time::ZERO.after(Duration::from_mins(1)), event, &mut effects);
    (raft, effects)
}

/// Why a wish is refused, or nothing.
fn refusal(raft: &Raft, target: Members) -> Option<MembershipRefusal> {
    let event = Event::ChangeMembership { id: ChangeId::new(1), command: set(target) };
    after(raft, event).1.into_iter().find_map(|effect| match effect {
        Effect::MembershipRefused { reason, .. } => Some(reason),
        _ => None,
    })
}

#[test]
fn members_are_accepted_up_to_the_limits_and_not_beyond() {
    let cluster = led(1);
    let with = |count: u64, address: usize, context: usize| {
        let mut members = voters(1).members;
        let mut newcomer = member(MemberRole::Learner, 0);
        newcomer.address = "a".repeat(address);
        newcomer.context = Bytes::from(vec![0; context]);
        members.extend((2..=count).map(|id| (node(id), newcomer.clone())));
        members
    };
    let raft = cluster.raft(1);
    let at_limit = |count| with(count, 96, MEMBER_BYTES_MAX - 96);
    assert_eq!(refusal(raft, at_limit(64)), None);
    assert_eq!(
        refusal(raft, at_limit(65)),
        Some(MembershipRefusal::TooManyMembers { count: 65, limit_count: 64 })
    );
    assert_eq!(
        refusal(raft, with(2, 97, MEMBER_BYTES_MAX - 96)),
        Some(MembershipRefusal::MemberTooLarge {
            member: node(2),
            bytes: MEMBER_BYTES_MAX + 1,
            limit_bytes: MEMBER_BYTES_MAX
        })
    );
}

/// What a server sends to a candidate.
fn answers(raft: &Raft, candidate: u64, last_log: LogId) -> Vec<String> {
    let request = RequestVote { term: Term::new(2), last_log, phase: VotePhase::PreVote };
    let message = Message::RequestVote(request);
    let (_, effects) = after(raft, Event::Message { from: node(candidate), message });
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { to, message } if to == node(candidate) => Some(describe(&message)),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_removed_candidate_is_told_and_is_answered_only_if_it_may_know_of_more() {
    let mut cluster = led(3);
    cluster.isolate(3);
    cluster.change(1, set(voters(2).members));
    cluster.stabilize();
    let raft = cluster.raft(2);
    let (position, committed) = raft.committed_configuration();
    assert_eq!((position, committed.members.len()), (log_id(4, 1), 2));
    let told = "NotAMember version=4".to_owned();
    let granted = "PreVoteResponse term=2 granted=true".to_owned();
    assert_eq!(answers(raft, 3, log_id(3, 1)), std::slice::from_ref(&told));
    assert_eq!(answers(raft, 3, log_id(4, 1)), [told.clone(), granted.clone()]);
    assert_eq!(answers(raft, 3, log_id(1, 2)), [told, granted.clone()]);
    assert_eq!(answers(raft, 1, log_id(4, 1)), [granted], "a member is not told anything");
}

#[test]
fn a_server_without_a_configuration_tells_nobody_that_it_is_no_member() {
    let mut cluster = led(3);
    cluster.add(node(5), Disk::new(Configuration::default()));
    let answered = answers(cluster.raft(5), 3, log_id(1, 1));
    assert!(!answered.iter().any(|answer| answer.starts_with("NotAMember")), "{answered:?}");
}

fn told(raft: &Raft, version: u64, position: LogId) -> Raft {
    // A server hears nothing of itself.
    let from = if raft.id() == node(2) { node(1) } else { node(2) };
    let message = NotAMember { term: raft.current_term(), version, position };
    after(raft, Event::Message { from, message: Message::NotAMember(message) }).0
}

/// 3 holds the first configuration of a change, of version 2, and does not know it committed.
fn one_behind() -> Cluster {
    let mut cluster = led(3);
    cluster.change(1, set(voters(2).members));
    for envelope in std::mem::take(&mut cluster.network) {
        cluster.deliver(envelope);
    }
    let raft = cluster.raft(3);
    assert_eq!((raft.commit_index(), raft.configuration().version), (index(1), 2));
    cluster
}

#[test]
fn a_configuration_that_is_said_to_be_committed_is_so_if_it_is_in_the_log() {
    let cluster = one_behind();
    let raft = told(cluster.raft(3), 2, log_id(2, 1));
    assert_eq!((raft.commit_index(), raft.removed_at()), (index(2), None));
}

/// A leader that holds an entry of an earlier term, and does not know it committed.
fn leader_of_a_later_term() -> Raft {
    let mut raft = one_behind().raft(2).clone();
    let mut now = Time::ZERO;
    let mut step = |raft: &mut Raft, event| {
        let mut effects = Vec::new();
        now = raft.next_deadline().filter(|_| event == Event::Deadline).unwrap_or(now).max(now);
        raft.step(now, event, &mut effects);
        effects
    };
    let granted = |phase| {
        let vote = RequestVoteResponse { term: Term::new(2), phase, granted: true };
        Event::Message { from: node(1), message: Message::RequestVoteResponse(vote) }
    };
    while raft.role() == Role::Follower {
        step(&mut raft, Event::Deadline);
    }
    let effects = step(&mut raft, granted(VotePhase::PreVote));
    let written = effects.iter().find_map(|effect| match effect {
        Effect::Persist(write) => Some(write.seq),
        _ => None,
    });
    step(&mut raft, Event::Persisted { seq: written.unwrap() });
    step(&mut raft, granted(VotePhase::Vote));
    assert_eq!((raft.role(), raft.commit_index()), (Role::Leader, index(1)));
    assert_eq!(raft.last_log(), log_id(3, 2));
    raft
}

/// §3.6.2: what is of an earlier term is committed with something of its own.
#[test]
fn a_leader_takes_nobodys_word_for_what_is_committed() {
    let leader = leader_of_a_later_term();
    let told = told(&leader, 2, log_id(2, 1));
    assert_eq!((told.role(), told.commit_index()), (Role::Leader, index(1)));
}

#[test]
fn a_configuration_later_than_the_committed_one_dismisses_and_no_other_does() {
    let cluster = one_behind();
    let (raft, elsewhere) = (cluster.raft(3), log_id(9, 1));
    assert_eq!(told(raft, 1, elsewhere).removed_at(), None);
    let rival = told(raft, 2, elsewhere).removed_at();
    assert_eq!(rival, Some(2), "ours of that version stands elsewhere, and is not committed");
    let dismissed = told(raft, 5, elsewhere);
    assert_eq!(dismissed.removed_at(), Some(5));
    assert_eq!(told(&dismissed, 3, elsewhere).removed_at(), Some(5), "the latest counts");
    assert_eq!(told(&dismissed, 6, elsewhere).removed_at(), Some(6));
    assert_eq!(dismissed.commit_index(), index(1));
    // By a configuration of our own log, of the same version, we vote no more.
    let mut without = voters(2);
    without.version = 4;
    let payload = Payload::Configuration(Arc::new(without));
    let append = AppendEntries {
        term: Term::new(1),
        prev_log: log_id(2, 1),
        entries: vec![Entry { log_id: log_id(3, 1), payload }],
        leader_commit: index(1),
    };
    let message = Message::AppendEntries(append);
    let (raft, _) = after(raft, Event::Message { from: node(1), message });
    assert_eq!(raft.removed_at(), None, "it is not committed");
    assert_eq!(told(&raft, 3, elsewhere).removed_at(), Some(3));
    assert_eq!(told(&raft, 4, elsewhere).removed_at(), Some(4));
    let found = told(&raft, 4, log_id(3, 1));
    assert_eq!((found.removed_at(), found.commit_index()), (None, index(3)), "it is this one");
}

#[test]
fn a_candidate_that_is_dismissed_stops_and_one_that_is_not_goes_on() {
    let mut cluster = one_behind();
    cluster.time_out(3);
    let raft = cluster.raft(3);
    assert_eq!(raft.role(), Role::PreCandidate);
    assert_eq!(told(raft, 9, log_id(9, 1)).role(), Role::Follower);
    assert_eq!(told(raft, 1, log_id(9, 1)).role(), Role::PreCandidate);
}

#[test]
fn only_the_leader_serves_who_was_removed_and_knows_what_a_change_waits_for() {
    let mut cluster = led(4);
    cluster.isolate(4);
    cluster.change(1, set(voters(3).members));
    cluster.stabilize();
    let departing = |cluster: &Cluster, id| cluster.raft(id).departing().collect::<Vec<_>>();
    assert_eq!(departing(&cluster, 1), [node(4)]);
    assert_eq!(departing(&cluster, 2), []);
    cluster.advance(Duration::from_millis(4100));
    assert_eq!(departing(&cluster, 1), []);
    let mut wider = voters(3).members;
    wider.insert(node(9), member(MemberRole::Voter, 0));
    cluster.change(1, set(wider));
    cluster.stabilize();
    assert_eq!(cluster.raft(1).change_waits().len(), 1);
    assert_eq!(cluster.raft(2).change_waits(), []);
}

#[test]
fn a_joint_configuration_is_left_when_it_is_committed_and_not_before() {
    let mut cluster = led(3);
    cluster.change(1, set(voters(2).members));
    cluster.stabilize_until(|cluster| cluster.raft(1).configuration().is_joint());
    let joint = Arc::clone(cluster.raft(1).configuration());
    cluster.isolate(1);
    cluster.advance(Duration::from_millis(200));
    assert_eq!(*cluster.raft(1).configuration(), joint);
    cluster.heal();
    cluster.advance(Duration::from_millis(200));
    assert_eq!(*cluster.raft(1).configuration().leads_to(), voters(2).members);
    assert_eq!(cluster.raft(1).configuration().version, joint.version + 1);
}

#[test]
fn a_new_leader_without_a_change_under_way_waits_for_nothing() {
    let mut cluster = Cluster::new(&voters(3), Options::default(), 1);
    cluster.time_out(1);
    cluster.stabilize_until(|cluster| cluster.raft(1).role() == Role::Leader);
    assert_eq!(cluster.raft(1).commit_index(), index(0), "its first entry is not committed");
    assert_eq!(cluster.raft(1).change_waits(), []);
}

#[test]
fn the_configuration_as_of_an_entry_is_the_last_at_or_before_it() {
    let mut cluster = led(3);
    cluster.change(1, set(voters(2).members));
    cluster.stabilize();
    let version = |at| cluster.raft(1).configuration_as_of(index(at)).version;
    assert_eq!([0, 1, 2, 3, 4, 9].map(version), [1, 1, 2, 3, 4, 4]);
}

fn behaviour(raft: &Raft) -> u64 {
    let mut state = DefaultHasher::new();
    raft.hash_behaviour(&mut state);
    state.finish()
}

/// The behaviour of a leader at one moment, that set these members so long before.
fn behaviour_after(target: &Members, ago: Duration) -> u64 {
    let roles = [MemberRole::Voter, MemberRole::Voter, MemberRole::Learner];
    let members = (1..).zip(roles).map(|(id, role)| (id, role, 0));
    let mut cluster = Cluster::new(&configuration(members), Options::default(), 1);
    cluster.elect(1);
    let (mut raft, end) = (cluster.raft(1).clone(), cluster.now.after(Duration::from_millis(500)));
    let begun = cluster.now.after(Duration::from_millis(500).checked_sub(ago).unwrap());
    let event = Event::ChangeMembership { id: ChangeId::new(1), command: set(target.clone()) };
    let mut effects = Vec::new();
    raft.step(begun, event, &mut effects);
    for effect in effects {
        if let Effect::Persist(persist) = effect {
            raft.step(begun, Event::Persisted { seq: persist.seq }, &mut Vec::new());
        }
    }
    raft.step(end, Event::Compact { through: index(0) }, &mut Vec::new());
    behaviour(&raft)
}

#[test]
fn how_long_a_removed_member_is_still_served_shows_in_the_behaviour() {
    let ago = Duration::from_millis;
    let removed = voters(2).members;
    assert_ne!(behaviour_after(&removed, ago(200)), behaviour_after(&removed, ago(300)));
    let mut moved = voters(2).members;
    moved.insert(node(3), member(MemberRole::Learner, 7));
    assert_eq!(behaviour_after(&moved, ago(200)), behaviour_after(&moved, ago(300)), "nobody goes");
}

/// A server whose log holds these configurations from 1 on, after one in a snapshot.
fn with_log(base: Configuration, later: &[Configuration]) -> Raft {
    let mut disk = Disk::new(base);
    disk.hard_state.current_term = Term::new(1);
    for (at, configuration) in (1..).zip(later) {
        let payload = Payload::Configuration(Arc::new(configuration.clone()));
        disk.entries.push(Entry { log_id: log_id(at, 1), payload });
    }
    let restored = disk.restored(index(0), usize::MAX);
    Raft::new(node(1), Options::default(), 7, restored, Time::ZERO).unwrap()
}

/// Whether a log with these configurations breaks the rule that each shares a half with the next.
fn leaps(base: Configuration, later: &[Configuration]) -> bool {
    let raft = with_log(base, later);
    let found = check_configurations(&raft);
    assert_eq!(ClusterChecker::new().observe(&raft), found, "whoever watches the cluster sees it");
    match found {
        Ok(()) => false,
        Err(Violation::ConfigurationLeap { .. }) => true,
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn configurations_without_a_half_in_common_are_found_and_a_joint_one_between_them_is_enough() {
    let of = |members: &[(u64, MemberRole)]| {
        configuration(members.iter().map(|(id, role)| (*id, *role, 0)))
    };
    let (before, after) = (of(&[(1, MemberRole::Voter)]), of(&[(2, MemberRole::Voter)]));
    let joint = of(&[(1, MemberRole::Outgoing), (2, MemberRole::Incoming)]);
    assert!(leaps(before.clone(), std::slice::from_ref(&after)));
    assert!(leaps(before.clone(), &[before.clone(), after.clone()]));
    assert!(!leaps(before.clone(), &[joint.clone(), after.clone()]));
    assert!(!leaps(after.clone(), &[joint, before]), "and back");
    assert!(!leaps(Configuration::default(), &[after]), "whoever joins knows nothing");
}

/// The configurations of a change to two voters, or of one that is taken back when it is joint.
fn way_of_a_change(is_taken_back: bool) -> [Configuration; 3] {
    let mut cluster = led(3);
    cluster.change(1, set(voters(2).members));
    cluster.stabilize_until(|cluster| cluster.raft(1).configuration().is_joint());
    if is_taken_back {
        cluster.change(1, MembershipCommand::Cancel);
    }
    cluster.stabilize();
    [2, 3, 4].map(|at| (**cluster.raft(1).configuration_as_of(index(at))).clone())
}

#[test]
fn a_joint_configuration_that_is_left_forwards_too_early_is_found() {
    let check = |way: &[Configuration; 3], commit| {
        let raft = with_log(voters(3), way);
        let append = AppendEntries {
            term: Term::new(1),
            prev_log: log_id(3, 1),
            entries: Vec::new(),
            leader_commit: index(commit),
        };
        let message = Message::AppendEntries(append);
        let (raft, _) = after(&raft, Event::Message { from: node(2), message });
        assert_eq!(raft.commit_index(), index(commit));
        check_leaving(&raft, &Arc::new(way[1].clone()))
    };
    let way = way_of_a_change(false);
    assert!(way[1].is_joint() && way[2].change.is_none(), "{way:?}");
    let (joint, settled) = (Arc::new(way[1].clone()), Arc::new(way[2].clone()));
    let early = Violation::JointLeftEarly { id: node(1), joint, after: settled };
    assert_eq!(check(&way, 1), Err(early));
    assert_eq!(check(&way, 2), Ok(()));
    assert_eq!(check(&way, 3), Ok(()));
    assert_eq!(check(&way_of_a_change(true), 1), Ok(()), "back is another matter");
}

#[test]
fn a_refusal_and_a_wait_name_the_members_that_they_are_about() {
    let silent = vec![node(3), node(4)];
    let refusal = MembershipRefusal::WouldLoseQuorum { silent: silent.clone(), needed_count: 2 };
    assert_eq!(
        refusal.to_string(),
        "2 of the voters asked for make a majority; not heard of: node 3, node 4"
    );
    let wait = ChangeWait::Majority { silent, needed_count: 2 };
    assert_eq!(
        wait.to_string(),
        "2 voters make a majority of the new ones; silent are node 3, node 4"
    );
    let wait = ChangeWait::Commit { index: index(7), missing: Vec::new() };
    assert_eq!(wait.to_string(), "configuration entry 7 is not committed; it is missing on none");
}
