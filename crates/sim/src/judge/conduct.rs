//! What a node owes after what it has heard: a term once heard is kept (§3.3), who hears a leader
//! helps nobody against it (§4.2.3) unless it is told that this leader has ended, only voters run for
//! an office that they do not hold, and nobody does before a majority has said that it may (§9.6).
//! Compares what went into a turn with what came out of it; knows nothing of logs.

use super::Breach;
use quorate_core::{
    LogIndex, Message, NodeId, Raft, RequestVote, RequestVoteResponse, Role, Term, Time, VotePhase,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What went into a turn, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// The highest term that its receiver has to take over.
    term: Term,
    /// The highest term of a leader's message.
    leader_term: Option<(Term, NodeId)>,
    /// The terms of heartbeats.
    heartbeats: BTreeSet<Term>,
    /// Who is said to have ended.
    pub(crate) gone: BTreeSet<NodeId>,
    /// Who would vote for it, in which terms.
    encouraged: Vec<(NodeId, Term)>,
    /// Who answered a leader, in which terms.
    pub(super) answers: Vec<(NodeId, Term)>,
}

/// When a node last obeyed a heartbeat of each of the latest terms, in the world's time.
#[derive(Clone, Debug, Default)]
pub(super) struct Obeyed(BTreeMap<Term, Time>);

impl Obeyed {
    /// So many terms are remembered.
    const TERMS_MAX: usize = 16;

    /// A turn at `now`, begun in term `before`, has handled what was heard.
    pub(super) fn note(&mut self, before: Term, heard: &Heard, now: Time) {
        for term in heard.heartbeats.range(before..) {
            self.0.insert(*term, now);
        }
        while self.0.len() > Self::TERMS_MAX {
            self.0.pop_first();
        }
    }

    /// The terms of which it obeyed a heartbeat at this time or later.
    pub(super) fn since(&self, from: Time) -> impl Iterator<Item = Term> {
        self.0.iter().filter(move |(_, at)| **at >= from).map(|(term, _)| *term)
    }
}

/// When a node last heard the leader of a term, on its own clock, before the present turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    term: Term,
    leader: NodeId,
    at: Time,
}

impl Contact {
    /// Whether it was with somebody who is said to have ended.
    pub(super) fn is_over(&self, heard: &Heard) -> bool {
        heard.gone.contains(&self.leader)
    }
}

/// Who would vote for a node, in each of the latest terms that anybody spoke of. An answer to what it
/// asked before it was started may speak of a later term than it knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Encouraged(BTreeMap<Term, BTreeSet<NodeId>>);

impl Encouraged {
    /// So many terms are remembered.
    const TERMS_MAX: usize = 16;

    /// A turn has handled what was heard.
    pub(super) fn note(&mut self, heard: &Heard) {
        for (from, term) in &heard.encouraged {
            self.0.entry(*term).or_default().insert(*from);
        }
        while self.0.len() > Self::TERMS_MAX {
            self.0.pop_first();
        }
    }

    fn by(&self, id: NodeId, term: Term) -> bool {
        self.0.get(&term).is_some_and(|by| by.contains(&id))
    }
}

impl Heard {
    /// One more message.
    pub(crate) fn note(&mut self, from: NodeId, message: &Message) {
        if let Message::Heartbeat(heartbeat) = message {
            self.heartbeats.insert(heartbeat.term);
        }
        match message {
            Message::AppendEntries(_) | Message::Heartbeat(_) | Message::InstallSnapshot(_) => {
                self.leader_term = self.leader_term.max(Some((message.term(), from)));
                self.term = self.term.max(message.term());
            }
            // A candidate may be refused for the sake of a leader, and pre-votes raise no term.
            // Whoever was removed is told so without a term of its own.
            Message::RequestVoteResponse(response) => {
                if response.granted && response.phase == VotePhase::PreVote {
                    self.encouraged.push((from, response.term));
                }
            }
            Message::RequestVote(_)
            | Message::NotAMember(_)
            | Message::LostEntries(_)
            | Message::LostEntriesResponse(_) => {}
            Message::AppendEntriesResponse(_)
            | Message::HeartbeatResponse(_)
            | Message::InstallSnapshotResponse(_) => {
                self.answers.push((from, message.term()));
                self.term = self.term.max(message.term());
            }
            Message::TimeoutNow(_) | Message::ReadIndex(_) | Message::ReadIndexResponse(_) => {
                self.term = self.term.max(message.term());
            }
        }
    }

    /// The contact with a leader that this was, after a turn at `own_now`.
    pub(super) fn contact(&self, raft: &Raft, own_now: Time) -> Option<Contact> {
        let (term, leader) = self.leader_term?;
        let contact = Contact { term, leader, at: own_now };
        // Which of both it was told last is not known here.
        let holds = term == raft.current_term() && !contact.is_over(self);
        (raft.role() == Role::Follower && holds).then_some(contact)
    }
}

/// Looks at a node after a turn; `before` is what it was before, with its term.
///
/// # Errors
///
/// [`Breach::TermIgnored`], [`Breach::NoVoterCampaigns`], [`Breach::LeaderCampaigns`].
pub(super) fn check_turn(
    raft: &Raft,
    heard: &Heard,
    before: Option<(Role, Term)>,
) -> Result<(), Breach> {
    let (node, term, role) = (raft.id(), raft.current_term(), raft.role());
    if term < heard.term {
        return Err(Breach::TermIgnored { node, heard: heard.term, term });
    }
    check_campaign(raft, role, before)
}

fn check_campaign(raft: &Raft, role: Role, before: Option<(Role, Term)>) -> Result<(), Breach> {
    let (node, term) = (raft.id(), raft.current_term());
    if !matches!(role, Role::PreCandidate | Role::Candidate) {
        return Ok(());
    }
    if !may_lead(raft) {
        return Err(Breach::NoVoterCampaigns { node, term });
    }
    // Whoever is asked to by a leader of a later term has given way to that one first. The only
    // voter may give up and run again within one turn.
    let led_before = before.is_some_and(|(role, led)| role == Role::Leader && led.next() == term);
    let is_alone = raft.configuration().has_quorum(|id| id == node);
    if role == Role::Candidate && led_before && !is_alone {
        return Err(Breach::LeaderCampaigns { node, term });
    }
    Ok(())
}

/// Looks at a node that has just taken office, or another `role`.
///
/// # Errors
///
/// [`Breach::NoVoter`] if it leads and may not.
pub(crate) fn check_office(raft: &Raft, role: Role) -> Result<(), Breach> {
    if role == Role::Leader && !may_lead(raft) {
        return Err(Breach::NoVoter { node: raft.id(), term: raft.current_term() });
    }
    Ok(())
}

/// Whether a node votes in its committed configuration or in a later one: a server that is removed
/// may lead as long as that is not committed (§4.2.2).
fn may_lead(raft: &Raft) -> bool {
    let mut places = (raft.commit_index().get()..=raft.last_log().index.get()).rev();
    places.any(|index| raft.configuration_as_of(LogIndex::new(index)).is_voter(raft.id()))
}

/// Looks at a message that a node sends: who asks for votes on its own account has asked before
/// whether it would win, so that who only thinks that there is no leader costs nobody its office.
///
/// # Errors
///
/// [`Breach::UnaskedCampaign`].
pub(super) fn check_asked(
    raft: &Raft,
    message: &Message,
    encouraged: &Encouraged,
) -> Result<(), Breach> {
    let Message::RequestVote(RequestVote { term, phase: VotePhase::Vote, .. }) = message else {
        return Ok(());
    };
    let (node, term) = (raft.id(), *term);
    // One that is none any more may have heard of other members meanwhile.
    if raft.role() != Role::Candidate || raft.current_term() != term {
        return Ok(());
    }
    let says_yes = |id| id == node || encouraged.by(id, term);
    if raft.configuration().has_quorum(says_yes) {
        return Ok(());
    }
    Err(Breach::UnaskedCampaign { node, term })
}

/// Looks at a message that a node sends at `own_now`.
///
/// # Errors
///
/// [`Breach::Disloyal`] if it encourages a campaign although it hears a leader.
pub(super) fn check_sent(
    raft: &Raft,
    to: NodeId,
    message: &Message,
    contact: Option<Contact>,
    own_now: Time,
    election_timeout: Duration,
) -> Result<(), Breach> {
    let Message::RequestVoteResponse(RequestVoteResponse { phase, granted: true, .. }) = message
    else {
        return Ok(());
    };
    let Some(contact) = contact.filter(|contact| contact.term == raft.current_term()) else {
        return Ok(());
    };
    if *phase != VotePhase::PreVote || contact.at.after(election_timeout) <= own_now {
        return Ok(());
    }
    Err(Breach::Disloyal { node: raft.id(), term: contact.term, to })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::judge::by_hand::{
        candidate, follower, leader, node, three_voters, two_voters_and_a_learner,
    };
    use quorate_core::{AppendEntriesResponse, AppendOutcome, Heartbeat};

    const TIMEOUT: Duration = Duration::from_millis(100);

    fn heartbeat(term: u64) -> Message {
        let (term, leader_commit) = (Term::new(term), LogIndex::ORIGIN);
        Message::Heartbeat(Heartbeat { term, leader_commit, round: None })
    }

    fn heard(message: &Message) -> Heard {
        let mut heard = Heard::default();
        heard.note(node(2), message);
        heard
    }

    #[test]
    fn a_term_that_was_heard_of_is_taken_over() {
        let raft = follower(1, 3, &three_voters(), &[]);
        check_turn(&raft, &heard(&heartbeat(3)), None).unwrap();
        let (term, outcome) = (Term::new(4), AppendOutcome::StaleTerm);
        let answer = Message::AppendEntriesResponse(AppendEntriesResponse { term, outcome });
        for message in [heartbeat(4), answer] {
            let ignored = check_turn(&raft, &heard(&message), None);
            assert!(matches!(ignored, Err(Breach::TermIgnored { .. })), "{ignored:?}");
        }
    }

    #[test]
    fn only_voters_campaign_and_lead() {
        let learner = follower(3, 3, &two_voters_and_a_learner(), &[]);
        let voter = follower(2, 3, &two_voters_and_a_learner(), &[]);
        for role in [Role::PreCandidate, Role::Candidate] {
            check_campaign(&voter, role, None).unwrap();
            let runs = check_campaign(&learner, role, None);
            assert!(matches!(runs, Err(Breach::NoVoterCampaigns { .. })), "{runs:?}");
        }
        check_office(&voter, Role::Leader).unwrap();
        check_office(&learner, Role::Follower).unwrap();
        let leads = check_office(&learner, Role::Leader);
        assert!(matches!(leads, Err(Breach::NoVoter { .. })), "{leads:?}");
    }

    #[test]
    fn a_leader_does_not_run_against_itself() {
        let (raft, nothing) = (candidate(3), Heard::default());
        assert_eq!((raft.role(), raft.current_term()), (Role::Candidate, Term::new(4)));
        check_turn(&raft, &nothing, Some((Role::Follower, Term::new(3)))).unwrap();
        check_turn(&raft, &nothing, Some((Role::Leader, Term::new(2)))).unwrap();
        let again = check_turn(&raft, &nothing, Some((Role::Leader, Term::new(3))));
        assert!(matches!(again, Err(Breach::LeaderCampaigns { .. })), "{again:?}");
    }

    #[test]
    fn who_hears_a_leader_encourages_nobody_for_an_election_timeout() {
        let raft = follower(1, 3, &three_voters(), &[]);
        let contact = heard(&heartbeat(3)).contact(&raft, Time::from_micros(5));
        assert!(contact.is_some() && heard(&heartbeat(2)).contact(&raft, Time::ZERO).is_none());
        assert!(heard(&heartbeat(4)).contact(&leader(3), Time::ZERO).is_none(), "it leads itself");
        let says = |phase, granted, at| {
            let response = RequestVoteResponse { term: Term::new(4), phase, granted };
            let message = Message::RequestVoteResponse(response);
            let own_now = Time::from_micros(5).after(at);
            check_sent(&raft, node(2), &message, contact, own_now, TIMEOUT)
        };
        let disloyal = says(VotePhase::PreVote, true, Duration::from_micros(99_999));
        assert!(matches!(disloyal, Err(Breach::Disloyal { .. })), "{disloyal:?}");
        says(VotePhase::PreVote, true, TIMEOUT).unwrap();
        says(VotePhase::PreVote, false, Duration::ZERO).unwrap();
        says(VotePhase::Transfer, true, Duration::ZERO).unwrap();
    }

    #[test]
    fn who_is_told_that_its_leader_has_ended_hears_no_leader_and_who_is_told_of_others_does() {
        let raft = follower(1, 3, &three_voters(), &[]);
        let contact = heard(&heartbeat(3)).contact(&raft, Time::ZERO).unwrap();
        for (gone, is_over) in [(node(2), true), (node(3), false)] {
            let told = Heard { gone: [gone].into(), ..heard(&heartbeat(3)) };
            assert_eq!(contact.is_over(&told), is_over);
            assert_eq!(told.contact(&raft, Time::ZERO).is_none(), is_over, "in the same turn");
        }
    }

    #[test]
    fn who_asks_for_votes_has_been_told_by_a_majority_that_it_may() {
        let raft = candidate(3);
        let last_log = raft.last_log();
        let asks = |phase, encouraged: &Encouraged| {
            let request = RequestVote { term: Term::new(4), last_log, phase };
            check_asked(&raft, &Message::RequestVote(request), encouraged)
        };
        let mut encouraged = Encouraged::default();
        let says = |phase, granted, term| {
            let response = RequestVoteResponse { term: Term::new(term), phase, granted };
            heard(&Message::RequestVoteResponse(response))
        };
        let others = [
            says(VotePhase::PreVote, true, 3),
            says(VotePhase::PreVote, false, 4),
            says(VotePhase::Vote, true, 4),
        ];
        for heard in others {
            encouraged.note(&heard);
            let unasked = asks(VotePhase::Vote, &encouraged);
            assert!(matches!(unasked, Err(Breach::UnaskedCampaign { .. })), "{unasked:?}");
        }
        asks(VotePhase::PreVote, &encouraged).unwrap();
        asks(VotePhase::Transfer, &encouraged).unwrap();
        encouraged.note(&says(VotePhase::PreVote, true, 4));
        asks(VotePhase::Vote, &encouraged).unwrap();
    }

    #[test]
    fn only_heartbeats_of_ones_own_term_or_a_later_one_are_obeyed() {
        let mut obeyed = Obeyed::default();
        obeyed.note(Term::new(3), &heard(&heartbeat(2)), Time::from_micros(8));
        obeyed.note(Term::new(3), &heard(&heartbeat(3)), Time::from_micros(9));
        assert_eq!(obeyed.since(Time::from_micros(9)).collect::<Vec<_>>(), [Term::new(3)]);
        assert_eq!(obeyed.since(Time::from_micros(10)).count(), 0);
        assert_eq!(obeyed.since(Time::ZERO).count(), 1, "a stale heartbeat proves nothing");
    }
}
