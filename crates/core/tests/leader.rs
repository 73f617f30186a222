//! A leader in office: whom it believes to be alive, when it gives up, to whom it hands over, and
//! what it makes of late answers from disks and followers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
// A test looks for one effect among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod harness;

use bytes::Bytes;
use harness::{configuration, index, log_id, node};
use quorate_core::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, ConflictHint, Effect, Entry, Event,
    HardState, HeartbeatResponse, InstallSnapshotResponse, LoadRequest, LogId, LogIndex,
    MemberRole, Message, NodeId, Options, Payload, PeerState, Raft, ReadId, ReadRefusal,
    RequestVoteResponse, Restored, Role, SnapshotMeta, Term, Time, VotePhase,
};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(1);
const BEAT: Duration = Duration::from_millis(100);
/// An election timeout but for a heartbeat.
const ALMOST: Duration = Duration::from_millis(900);
/// An election timeout but for a microsecond.
const NEARLY: Duration = Duration::from_micros(999_999);

fn options() -> Options {
    Options { election_timeout: TIMEOUT, heartbeat_interval: BEAT, ..Options::default() }
}

fn noop(at: u64) -> Entry {
    Entry { log_id: log_id(at, 1), payload: Payload::Noop }
}

/// n1, leader of term 2 since `elected`. Its log starts after `base` and has entries of term 1 up
/// to 3, on the disk only, and its own 4.
struct Office {
    raft: Raft,
    elected: Time,
    now: Time,
    /// Who answers heartbeats, and up to where each holds the log.
    answering: Vec<u64>,
}

impl Office {
    /// n2 has rank `rank`, n1 and n3 have none.
    fn take(base: u64, rank: u32, options: Options) -> Self {
        let voter = |id, rank| (id, MemberRole::Voter, rank);
        let members = configuration([voter(1, 0), voter(2, rank), voter(3, 0)]);
        let last_included = if base == 0 { LogId::ORIGIN } else { log_id(base, 1) };
        let restored = Restored {
            hard_state: HardState { current_term: Term::new(1), voted_for: None },
            base: SnapshotMeta { last_included, configuration: Arc::new(members) },
            term_runs: (base < 3).then(|| (index(base + 1), Term::new(1))).into_iter().collect(),
            configurations: Vec::new(),
            last_log: log_id(3, 1),
            tail: Vec::new(),
            applied: index(base),
            lost: None,
        };
        let raft = Raft::new(node(1), options, 7, restored, Time::ZERO).unwrap();
        let now = raft.next_deadline().unwrap();
        let mut office = Self { raft, elected: now, now, answering: vec![2, 3] };
        office.step(Event::Deadline);
        for phase in [VotePhase::PreVote, VotePhase::Vote] {
            let vote = RequestVoteResponse { term: Term::new(2), phase, granted: true };
            office.receive(3, Message::RequestVoteResponse(vote));
        }
        assert_eq!(office.raft.role(), Role::Leader);
        office
    }

    /// Steps; what is written becomes durable, and who answers heartbeats does so at once.
    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.raft.step(self.now, event, &mut effects);
        let mut answers = Vec::new();
        for effect in &effects {
            match effect {
                Effect::Persist(persist) => answers.push(Event::Persisted { seq: persist.seq }),
                Effect::Send { to, message: Message::Heartbeat(beat) } => {
                    if let (true, Some(round)) = (self.answering.contains(&to.get()), beat.round) {
                        let answer =
                            HeartbeatResponse { term: beat.term, round, promise: Duration::ZERO };
                        let message = Message::HeartbeatResponse(answer);
                        answers.push(Event::Message { from: *to, message });
                    }
                }
                _ => {}
            }
        }
        for answer in answers {
            effects.extend(self.step(answer));
        }
        effects
    }

    fn receive(&mut self, from: u64, message: Message) -> Vec<Effect> {
        self.step(Event::Message { from: node(from), message })
    }

    fn answer(&mut self, from: u64, outcome: AppendOutcome) -> Vec<Effect> {
        let answer = AppendEntriesResponse { term: Term::new(2), outcome };
        self.receive(from, Message::AppendEntriesResponse(answer))
    }

    fn accepted(&mut self, from: u64, matched: u64) -> Vec<Effect> {
        self.answer(from, AppendOutcome::Accepted { matched: index(matched) })
    }

    /// The follower has nothing of the log.
    fn rejected(&mut self, from: u64) -> Vec<Effect> {
        let hint = ConflictHint { candidate: LogId::ORIGIN };
        self.answer(from, AppendOutcome::Rejected { prev_index: index(3), hint })
    }

    /// Lets time pass, with every heartbeat in it, and returns when a transfer started.
    fn serve(&mut self, until: Duration) -> Vec<Duration> {
        let end = self.elected.after(until);
        let mut started = Vec::new();
        let mut was_transferring = self.transferring().is_some();
        while let Some(at) = self.raft.next_deadline().filter(|at| *at <= end) {
            self.now = at;
            self.step(Event::Deadline);
            let is_transferring = self.transferring().is_some();
            if is_transferring && !was_transferring {
                started.push(self.now.since(self.elected));
            }
            was_transferring = is_transferring;
        }
        self.now = end;
        started
    }

    fn transferring(&self) -> Option<NodeId> {
        self.raft.status().transferring
    }

    fn state_of(&self, peer: u64) -> PeerState {
        self.raft.status().progress[&node(peer)].state
    }

    fn is_active(&mut self, peer: u64) -> bool {
        // A step lets it see the time.
        self.step(Event::Compact { through: LogIndex::ORIGIN });
        self.raft.status().progress[&node(peer)].recently_active
    }
}

fn appends(effects: &[Effect]) -> Vec<&AppendEntries> {
    let appends = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: Message::AppendEntries(request), .. } => Some(request),
        _ => None,
    });
    appends.collect()
}

fn load_of(effects: &[Effect]) -> LoadRequest {
    let load = effects.iter().find_map(|effect| match effect {
        Effect::Load(request) => Some(*request),
        _ => None,
    });
    load.expect("entries are read back")
}

fn takes_snapshot(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::TakeSnapshot { .. }))
}

fn reads_piece(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::ReadSnapshotChunk { .. }))
}

#[test]
fn a_leader_that_heard_nobody_for_an_election_timeout_gives_up_then_and_not_before() {
    let mut office = Office::take(0, 0, options());
    office.answering.clear();
    office.serve(ALMOST);
    assert_eq!(office.raft.role(), Role::Leader);
    office.now = office.elected.after(TIMEOUT);
    office.step(Event::Deadline);
    assert_eq!(office.raft.role(), Role::Follower);
}

#[test]
fn a_leader_that_was_stopped_looks_whether_it_is_heard_before_it_serves_readers() {
    let mut office = Office::take(0, 0, options());
    office.serve(BEAT);
    office.answering.clear();
    office.now = office.now.after(2 * TIMEOUT);
    let beats = |effects: &[Effect]| {
        let is_beat = |effect: &&Effect| {
            matches!(effect, Effect::Send { message: Message::Heartbeat(_), .. })
        };
        effects.iter().filter(is_beat).count()
    };
    let read = office.step(Event::Read { id: ReadId::new(1) });
    assert_eq!(beats(&read), 0, "a round for readers would put off the look");
    let looked = office.step(Event::Deadline);
    assert_eq!(office.raft.role(), Role::Follower);
    let (id, reason) = (ReadId::new(1), ReadRefusal::LeaderChanged);
    assert!(looked.contains(&Effect::ReadRefused { id, reason }), "{looked:?}");
}

#[test]
fn a_reader_that_comes_at_the_moment_when_the_look_is_due_waits_for_it() {
    let mut office = Office::take(0, 0, options());
    office.accepted(2, 4);
    office.serve(BEAT / 2);
    let due = office.raft.next_deadline().unwrap();
    let beats = |effects: &[Effect]| {
        effects.iter().any(|it| matches!(it, Effect::Send { message: Message::Heartbeat(_), .. }))
    };
    office.now = due;
    let early = office.step(Event::Read { id: ReadId::new(1) });
    assert!(!beats(&early), "its round would put the look off: {early:?}");
    let looked = office.step(Event::Deadline);
    assert!(beats(&looked) && looked.iter().any(|it| matches!(it, Effect::ReadReady { .. })));
    office.now = Time::from_micros(office.raft.next_deadline().unwrap().as_micros() - 1);
    let in_time = office.step(Event::Read { id: ReadId::new(2) });
    assert!(beats(&in_time), "before that it has a round of its own: {in_time:?}");
}

#[test]
fn a_follower_is_active_until_it_was_not_heard_for_an_election_timeout() {
    let mut office = Office::take(0, 0, options());
    office.accepted(2, 3);
    let heard_at = office.now;
    office.now = heard_at.after(NEARLY);
    assert!(office.is_active(2));
    office.now = heard_at.after(TIMEOUT);
    assert!(!office.is_active(2));
}

#[test]
fn a_transfer_outlasts_heartbeats_and_is_given_up_after_an_election_timeout() {
    let mut office = Office::take(0, 0, options());
    office.step(Event::TransferLeadership { to: Some(node(2)) });
    office.serve(ALMOST);
    assert_eq!(office.transferring(), Some(node(2)));
    office.serve(TIMEOUT);
    assert_eq!((office.transferring(), office.raft.role()), (None, Role::Leader));
}

#[test]
fn handovers_to_a_higher_rank_come_after_two_timeouts_and_then_ever_more_rarely() {
    let mut office = Office::take(0, 9, options());
    office.accepted(2, 4);
    office.accepted(3, 4);
    // n2 is told to campaign and never does.
    let seconds = [2, 12, 32, 72].map(Duration::from_secs);
    assert_eq!(office.serve(Duration::from_secs(100)), seconds);
}

#[test]
fn there_is_no_handover_to_a_follower_without_what_is_committed() {
    let mut office = Office::take(0, 9, options());
    office.accepted(3, 4);
    office.accepted(2, 3);
    assert_eq!((office.raft.commit_index(), office.state_of(2)), (index(4), PeerState::Replicate));
    assert_eq!(office.serve(3 * TIMEOUT), []);
    office.accepted(2, 4);
    assert_eq!(office.serve(4 * TIMEOUT).len(), 1);
}

#[test]
fn there_is_no_handover_to_a_follower_that_is_silent() {
    let mut office = Office::take(0, 9, options());
    office.accepted(2, 4);
    office.accepted(3, 4);
    office.answering = vec![3];
    assert_eq!(office.serve(3 * TIMEOUT), []);
}

/// n2 lacks everything; its window is open, and what it needs is being read.
fn loading(options: Options) -> (Office, LoadRequest) {
    let mut office = Office::take(0, 0, options);
    office.rejected(2);
    let request = load_of(&office.accepted(2, 0));
    assert_eq!(request.first, index(1));
    (office, request)
}

#[test]
fn entries_read_back_that_are_not_those_asked_for_or_not_ours_are_not_sent() {
    let foreign = Entry { log_id: log_id(2, 9), payload: Payload::Noop };
    for entries in [vec![noop(2), noop(3)], vec![noop(1), foreign], Vec::new()] {
        let (mut office, request) = loading(options());
        let effects = office.step(Event::Loaded { request, entries });
        assert!(appends(&effects).is_empty(), "{effects:?}");
        assert_eq!(office.state_of(2), PeerState::Probe);
    }
}

#[test]
fn entries_read_back_go_out_in_messages_filled_to_the_limit() {
    // An entry counts 48 bytes.
    let (mut office, request) = loading(Options { append_bytes_max: 96, ..options() });
    let effects = office.step(Event::Loaded { request, entries: (1..=3).map(noop).collect() });
    let counts: Vec<usize> = appends(&effects).iter().map(|sent| sent.entries.len()).collect();
    assert_eq!(counts[..2], [2, 1]);
}

/// n2 lacks what the log, which starts after 3, does not hold; `effects` say so.
fn lacking() -> (Office, Vec<Effect>) {
    let mut office = Office::take(3, 0, options());
    let effects = office.rejected(2);
    assert_eq!(office.state_of(2), PeerState::Snapshot { offset: 0 });
    (office, effects)
}

fn ready(office: &mut Office) -> Vec<Effect> {
    let meta = office.raft.base().clone();
    office.step(Event::SnapshotReady { meta })
}

#[test]
fn a_follower_that_proves_to_hold_the_base_needs_no_snapshot() {
    let (mut office, _) = lacking();
    office.accepted(2, 2);
    assert_eq!(office.state_of(2), PeerState::Snapshot { offset: 0 });
    office.accepted(2, 3);
    assert_eq!(office.state_of(2), PeerState::Replicate);
}

#[test]
fn a_piece_of_another_snapshot_is_not_sent_as_one_of_this() {
    let (mut office, effects) = lacking();
    assert!(takes_snapshot(&effects));
    assert!(reads_piece(&ready(&mut office)));
    let piece = |last_included| Event::SnapshotChunk {
        peer: node(2),
        last_included,
        offset: 0,
        chunk: Bytes::from_static(b"state"),
        done: true,
    };
    let sends = |effects: &[Effect]| {
        let install = |effect: &Effect| {
            matches!(effect, Effect::Send { message: Message::InstallSnapshot(_), .. })
        };
        effects.iter().any(install)
    };
    assert!(!sends(&office.step(piece(log_id(2, 1)))));
    assert!(sends(&office.step(piece(log_id(3, 1)))));
}

/// The snapshot that ends at `at` cannot be read any more.
fn gone(office: &mut Office, at: u64) -> Vec<Effect> {
    let (peer, last_included) = (node(2), log_id(at, 1));
    office.step(Event::SnapshotGone { peer, last_included })
}

#[test]
fn a_snapshot_that_is_gone_is_replaced_by_a_new_one() {
    let (mut office, _) = lacking();
    ready(&mut office);
    let effects = gone(&mut office, 3);
    assert!(takes_snapshot(&effects) && !reads_piece(&effects), "{effects:?}");
    assert!(reads_piece(&ready(&mut office)));
}

#[test]
fn the_snapshot_at_hand_serves_the_next_follower_too_whichever_other_one_is_gone() {
    let (mut office, _) = lacking();
    ready(&mut office);
    assert_eq!(gone(&mut office, 2), []);
    let effects = office.rejected(3);
    assert!(reads_piece(&effects) && !takes_snapshot(&effects), "{effects:?}");
}

fn installed(office: &mut Office, next_offset: u64, installed: bool) -> Vec<Effect> {
    let (term, last_included) = (Term::new(2), log_id(3, 1));
    let answer = InstallSnapshotResponse { term, last_included, next_offset, installed };
    office.receive(2, Message::InstallSnapshotResponse(answer))
}

#[test]
fn what_a_follower_will_need_after_its_snapshot_is_held_until_it_has_caught_up() {
    let mut office = Office::take(3, 0, options());
    assert_eq!(office.raft.log_held_after(), None);
    office.rejected(2);
    assert_eq!(office.raft.log_held_after(), Some(index(3)), "where it will end is not known");
    ready(&mut office);
    assert_eq!(office.raft.log_held_after(), Some(index(3)));
    installed(&mut office, 0, true);
    assert_eq!(office.raft.log_held_after(), Some(index(3)), "entry 4 came meanwhile");
    office.accepted(2, 4);
    assert_eq!(office.raft.log_held_after(), None);
}

#[test]
fn the_log_is_not_held_for_a_follower_that_is_gone() {
    let (mut office, _) = lacking();
    ready(&mut office);
    office.answering = vec![3];
    office.serve(Duration::from_secs(9));
    assert_eq!(office.raft.log_held_after(), Some(index(3)), "it may only have restarted");
    office.serve(Duration::from_secs(11));
    assert_eq!(office.raft.log_held_after(), None);
}

/// Reads a piece whenever it is asked for; when it was asked for again, in seconds since `since`.
fn read_again(office: &mut Office, offset: u64, count: usize) -> Vec<u64> {
    let chunk = Event::SnapshotChunk {
        peer: node(2),
        last_included: log_id(3, 1),
        offset,
        chunk: Bytes::from_static(b"state"),
        done: false,
    };
    office.step(chunk.clone());
    let (since, mut seconds) = (office.now, Vec::new());
    while seconds.len() < count {
        office.now = office.raft.next_deadline().unwrap();
        if reads_piece(&office.step(Event::Deadline)) {
            seconds.push(office.now.since(since).as_secs());
            office.step(chunk.clone());
        }
    }
    seconds
}

#[test]
fn a_piece_that_is_not_answered_is_sent_again_ever_more_patiently() {
    let (mut office, _) = lacking();
    ready(&mut office);
    assert_eq!(read_again(&mut office, 0, 8), [1, 2, 4, 8, 16, 32, 64, 96]);
    assert!(reads_piece(&installed(&mut office, 5, false)));
    assert_eq!(read_again(&mut office, 5, 3), [1, 2, 4], "an answer makes it good");
}
