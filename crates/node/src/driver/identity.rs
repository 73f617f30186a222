//! Which disk everybody has, on its way through the driver: introductions and answers to them, and
//! what they let in. What follows from them is decided in `standing` and `admission`.

use super::admission::{admits, is_promise, is_vote};
use super::io::Introduction;
use super::standing::{Admission, OwnDisk, Recovering, Standing, Verdict};
use super::{Driver, Output, PeerMessage};
use quorate_core::{Event, LogId, LogIndex, Message, NodeId, NotAMember, ProtocolVersion, Time};
use std::collections::BTreeSet;

impl Driver {
    /// The same driver on this disk. One that is not told its disk asks nobody for theirs.
    #[must_use]
    pub fn on_disk(mut self, own: OwnDisk) -> Self {
        self.standing = Some(Standing::new(own));
        self
    }

    /// The newest protocol that this node speaks.
    #[must_use]
    pub const fn protocol_version(&self) -> ProtocolVersion {
        self.options.protocol_version
    }

    /// Whether this node votes and counts, and if not, why.
    #[must_use]
    pub fn admission(&self) -> Admission {
        let Some(standing) = &self.standing else { return Admission::Admitted };
        let own = standing.own.storage_id;
        if let Some(witness) = standing.older_than {
            return Admission::Recovering(Recovering::OlderDisk { witness });
        }
        match self.recorded() {
            Some(recorded) if recorded == own => return Admission::Admitted,
            Some(recorded) => {
                return Admission::Recovering(Recovering::OtherDisk { recorded, own });
            }
            None => {}
        }
        match self.verdict(standing) {
            Verdict::Admitted => Admission::Admitted,
            Verdict::Prove => Admission::Founding { missing: Vec::new() },
            Verdict::Waits(missing) if standing.unlike.is_empty() => {
                Admission::Founding { missing }
            }
            Verdict::Waits(_) => {
                Admission::Unlike { others: standing.unlike.iter().copied().collect() }
            }
            Verdict::New => Admission::Recovering(Recovering::NewDisk { own }),
        }
    }

    /// As [`Driver::admission`], without the reasons.
    pub(super) fn is_admitted(&self) -> bool {
        let Some(standing) = &self.standing else { return true };
        if standing.older_than.is_some() {
            return false;
        }
        match self.recorded() {
            Some(recorded) => recorded == standing.own.storage_id,
            None => self.verdict(standing) == Verdict::Admitted,
        }
    }

    /// The disk that this node is known with, by the last configuration that says so. A later one of
    /// which it is no member may never be committed, and until it is, the votes of those who leave
    /// can be needed (§4.2.2), a leaver's own for itself among them. No id is given twice.
    fn recorded(&self) -> Option<u128> {
        let id = self.raft.id();
        self.raft
            .configurations()
            .find_map(|configuration| configuration.storages.get(&id))
            .copied()
    }

    fn verdict(&self, standing: &Standing) -> Verdict {
        let first = self.raft.configuration_as_of(LogIndex::ORIGIN);
        standing.verdict(self.raft.id(), self.has_history(), first)
    }

    /// Whether anything came after what the log began with, which is nothing, or a backup.
    fn has_history(&self) -> bool {
        let beginning = self.standing.as_ref().and_then(|standing| standing.own.beginning);
        let LogId { term, index } = beginning.map_or(LogId::ORIGIN, |it| it.last_included);
        self.raft.current_term() > term || self.raft.last_log().index > index
    }

    /// Whether a message of another node is for the core: what is promised by a disk that may not
    /// have kept the earlier promises is not, unless all that it says is that there is a later term.
    /// And a node that is not admitted is not made to campaign.
    pub(super) fn lets_in(&self, from: NodeId, storage_id: u128, message: &Message) -> bool {
        if self.standing.is_none() {
            return true;
        }
        if let Message::TimeoutNow(_) = message {
            return self.is_admitted();
        }
        let is_only_a_term = message.term() > self.raft.current_term() && !is_vote(message);
        let known = self.acquaintances.get(from);
        !is_promise(message)
            || is_only_a_term
            || admits(self.raft.configuration(), from, storage_id, known)
    }

    /// A leader asks a learner that is not let in which disk it has. The one that is recorded may have
    /// been told of late, after the one that the learner has; and by its own log, where it is behind,
    /// the learner has no reason to say more.
    pub(super) fn ask_for_disk(&self, from: NodeId, storage_id: u128, outputs: &mut Vec<Output>) {
        let configuration = self.raft.configuration();
        let recorded = configuration.storages.get(&from);
        let is_other = recorded.is_some_and(|recorded| *recorded != storage_id);
        let leads = self.raft.leader() == Some(self.raft.id());
        if leads && is_other && !configuration.is_voter(from) {
            self.introduce_to(from, None, outputs);
        }
    }

    /// Whether a message of ours may go out: a node that is not admitted votes for nobody, though its
    /// core may think so; and a disk that was put back from an older copy, which others have
    /// recorded, promises nothing at all.
    pub(super) fn lets_out(&self, message: &Message) -> bool {
        let Some(standing) = &self.standing else { return true };
        if standing.older_than.is_some() && is_promise(message) {
            return false;
        }
        !is_vote(message) || self.is_admitted()
    }

    /// A node speaks this protocol at most; the core is told what is news.
    pub(super) fn note_version(
        &mut self,
        now: Time,
        from: NodeId,
        version: ProtocolVersion,
        outputs: &mut Vec<Output>,
    ) {
        if self.standing.is_some() && self.raft.version_of(from) != Some(version) {
            self.step(now, Event::Speaks { from, version }, outputs);
        }
    }

    /// Another node says which disk it has.
    pub(super) fn introduced(
        &mut self,
        now: Time,
        from: NodeId,
        introduction: Introduction,
        outputs: &mut Vec<Output>,
    ) {
        let seen = self.acquaintances.introduced(from, &introduction);
        let Introduction { storage_id, is_proven, .. } = introduction;
        self.step(now, Event::Introduced { from, storage_id, is_proven }, outputs);
        let Some(standing) = &mut self.standing else { return };
        let is_news = standing.hears(from, &introduction);
        if introduction.answers.is_none() {
            self.introduce_to(from, Some(seen), outputs);
            if is_news && !self.is_admitted() {
                self.introduce_to(from, None, outputs);
            }
            self.dismiss(from, outputs);
        }
        self.prove_if_due(outputs);
    }

    /// Somebody who introduces itself and is no member any more is told so: with an empty disk it
    /// may not know, and never asks for votes.
    fn dismiss(&self, from: NodeId, outputs: &mut Vec<Output>) {
        let (position, committed) = self.raft.committed_configuration();
        if committed.is_tombstoned(from) && !committed.members.contains_key(&from) {
            let (term, version) = (self.raft.current_term(), committed.version);
            let message = Message::NotAMember(NotAMember { term, version, position });
            outputs.push(Output::Send { to: from, message: PeerMessage::Raft(message) });
        }
    }

    fn prove_if_due(&mut self, outputs: &mut Vec<Output>) {
        let Some(standing) = &self.standing else { return };
        let is_recorded = self.recorded().is_some();
        if standing.is_proving || is_recorded || self.verdict(standing) != Verdict::Prove {
            return;
        }
        if let Some(standing) = &mut self.standing {
            standing.is_proving = true;
            outputs.push(Output::Prove);
        }
    }

    /// It is written down that our disk is proven.
    pub(super) fn proved(&mut self, now: Time) {
        if let Some(standing) = &mut self.standing {
            standing.is_proving = false;
            standing.own.is_proven = true;
            standing.tell_all(now);
        }
    }

    /// Introduces this node to whoever needs it, if it is time.
    pub(super) fn tend_introductions(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let Some(standing) = &mut self.standing else { return };
        if standing.next_at.is_none_or(|next_at| next_at > now) {
            return;
        }
        standing.next_at = None;
        let is_first = !std::mem::replace(&mut standing.has_begun, true);
        let OwnDisk { storage_id, is_proven, .. } = standing.own;
        if is_first {
            let from = self.raft.id();
            self.step(now, Event::Introduced { from, storage_id, is_proven }, outputs);
            self.note_version(now, from, self.options.protocol_version, outputs);
        }
        for to in self.strangers(is_first) {
            self.introduce_to(to, None, outputs);
        }
        self.prove_if_due(outputs);
    }

    /// Plans the next introduction, if somebody needs one.
    pub(super) fn plan_introductions(&mut self, now: Time) {
        if self.standing.as_ref().is_none_or(|standing| standing.next_at.is_some())
            || self.strangers(false).is_empty()
        {
            return;
        }
        if let Some(standing) = &mut self.standing {
            standing.rest(now, self.options.sweep_interval);
        }
    }

    /// Whom this node should introduce itself to: all members and the leader, as long as its own disk
    /// is not recorded or not the one that is; after that voters of whose disks nothing is known.
    /// Who is no member, as far as it knows, says so once: nobody will record it.
    fn strangers(&self, is_first: bool) -> BTreeSet<NodeId> {
        let Some(standing) = &self.standing else { return BTreeSet::new() };
        let (own, id) = (standing.own.storage_id, self.raft.id());
        let configuration = self.raft.configuration();
        let is_recorded = configuration.storages.get(&id) == Some(&own);
        let members = &configuration.members;
        let may_be_member = members.is_empty() || members.contains_key(&id);
        let wants_all = is_first || (may_be_member && (!is_recorded || !self.is_admitted()));
        let is_unknown = |other: &NodeId| {
            let is_recorded = configuration.storages.contains_key(other);
            !is_recorded
                && configuration.is_voter(*other)
                && may_be_member
                && self.acquaintances.get(*other).is_none()
        };
        if self.raft.removed_at().is_some() {
            return BTreeSet::new();
        }
        let others = configuration.members.keys().copied().chain(self.raft.leader());
        others.filter(|other| *other != id && (wants_all || is_unknown(other))).collect()
    }

    fn introduce_to(
        &self,
        to: NodeId,
        answers: Option<super::io::Seen>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(standing) = &self.standing else { return };
        let OwnDisk { storage_id, era, is_proven, beginning } = standing.own;
        let has_history = self.has_history();
        let introduction =
            Introduction { storage_id, era, is_proven, has_history, beginning, answers };
        outputs.push(Output::Send { to, message: PeerMessage::Introduce(introduction) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::io::Seen;
    use crate::driver::{DriverOptions, Input};
    use bytes::Bytes;
    use quorate_core::{
        Configuration, HardState, HeartbeatResponse, Member, MemberRole, Options, Raft, Restored,
        SnapshotMeta, Term,
    };
    use std::sync::Arc;
    use std::time::Duration;

    const OWN: u128 = 30;

    /// Node 1, started again with these configurations one after the other, the first one at the base
    /// of its log. Which of them are committed is not known.
    fn started(configurations: Vec<Arc<Configuration>>) -> Driver {
        let mut configurations = configurations.into_iter();
        let base = SnapshotMeta {
            last_included: LogId::ORIGIN,
            configuration: configurations.next().unwrap(),
        };
        let later: Vec<_> = (1..).map(LogIndex::new).zip(configurations).collect();
        let last = later.last().map_or(LogIndex::ORIGIN, |(index, _)| *index);
        let is_empty = later.is_empty();
        let term = if is_empty { Term::default() } else { Term::new(1) };
        let restored = Restored {
            hard_state: HardState { current_term: term, voted_for: None },
            base,
            term_runs: if is_empty { Vec::new() } else { vec![(LogIndex::new(1), term)] },
            configurations: later,
            last_log: LogId::new(term, last),
            tail: Vec::new(),
            applied: LogIndex::ORIGIN,
            lost: None,
        };
        let raft = Raft::new(NodeId::new(1), Options::default(), 7, restored, Time::ZERO).unwrap();
        let origin = LogIndex::ORIGIN;
        let driver = Driver::new(raft, DriverOptions::default(), origin, origin, 7);
        driver.on_disk(OwnDisk { storage_id: OWN, era: 2, is_proven: false, beginning: None })
    }

    /// A voter whose disk was recorded, and whose log ends with a configuration without it.
    fn leaver(recorded: u128) -> Driver {
        let (id, other) = (NodeId::new(1), NodeId::new(2));
        let (role, context) = (MemberRole::Voter, Bytes::new());
        let voter = Member { role, rank: 0, address: String::new(), context };
        let first = Configuration::new(1, [(id, voter.clone()), (other, voter.clone())].into());
        let storages = [(id, recorded)].into();
        let second = Configuration { version: 2, storages, ..first.clone() };
        let third = Configuration::new(3, [(other, voter)].into());
        started([first, second, third].map(Arc::new).into())
    }

    /// What the driver puts out, what is written being written at once.
    fn turn(driver: &mut Driver, now: Time, input: Input) -> Vec<Output> {
        let (mut due, mut all) = (vec![input], Vec::new());
        while let Some(input) = due.pop() {
            let mut outputs = Vec::new();
            driver.turn(now, [input], &mut outputs);
            let written = outputs.iter().filter_map(|output| match output {
                Output::Persist(persist) => Some(Input::Persisted { seq: persist.seq }),
                _ => None,
            });
            due.extend(written);
            all.extend(outputs);
        }
        all
    }

    #[test]
    fn a_learner_that_is_known_with_another_disk_than_it_has_is_asked_and_believed() {
        let (id, learner) = (NodeId::new(1), NodeId::new(2));
        let member = |role| {
            let context = Bytes::new();
            Member { role, rank: 0, address: String::new(), context }
        };
        let members = [(id, member(MemberRole::Voter)), (learner, member(MemberRole::Learner))];
        let storages = [(id, OWN), (learner, 20)].into();
        let configuration = Configuration { storages, ..Configuration::new(1, members.into()) };
        let mut driver = started(vec![Arc::new(configuration)]);
        let now = driver.next_deadline().unwrap_or(Time::ZERO).after(Duration::from_mins(1));
        turn(&mut driver, now, Input::Deadline);
        assert_eq!(driver.raft().leader(), Some(id));

        let term = driver.raft().current_term();
        let response = Message::HeartbeatResponse(HeartbeatResponse {
            term,
            round: 0,
            promise: Duration::ZERO,
        });
        let version = ProtocolVersion::OLDEST;
        let says =
            |storage_id, message| Input::Peer { from: learner, storage_id, version, message };
        let heard = |driver: &mut Driver, storage_id| {
            let outputs = turn(driver, now, says(storage_id, PeerMessage::Raft(response.clone())));
            outputs.into_iter().any(|output| {
                let Output::Send { to, message: PeerMessage::Introduce(said) } = output else {
                    return false;
                };
                to == learner && said.answers.is_none()
            })
        };
        assert!(!heard(&mut driver, 20));
        assert!(heard(&mut driver, 21), "which disk has it?");
        let introduction = Introduction {
            storage_id: 21,
            era: 1,
            is_proven: false,
            has_history: true,
            beginning: None,
            answers: Some(Seen { storage_id: OWN, era: 2 }),
        };
        turn(&mut driver, now, says(21, PeerMessage::Introduce(introduction)));
        assert_eq!(driver.raft().configuration().storages.get(&learner), Some(&21));
        assert!(!heard(&mut driver, 21));
    }

    #[test]
    fn who_leaves_counts_with_the_disk_it_was_last_known_with_until_it_is_gone() {
        let own = leaver(OWN);
        assert_eq!(own.admission(), Admission::Admitted);
        assert!(own.is_admitted());
        let other = leaver(OWN + 1);
        let is_another = Recovering::OtherDisk { recorded: OWN + 1, own: OWN };
        assert_eq!(other.admission(), Admission::Recovering(is_another));
        assert!(!other.is_admitted());
    }
}
