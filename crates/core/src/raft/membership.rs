//! The members change (§4): the leader takes in what is asked for, and goes the way of the change
//! one committed configuration at a time, so that any successor can go on from where it stands.
//! Which configuration follows which is planned in [`crate::membership`]; here is when.

use super::behaviour::time_left;
use super::common::{Common, Dismissal};
use super::leader::Leader;
use super::storages::Storages;
use super::transfer::is_alive;
use super::{Raft, RoleState};
use crate::membership::{Change, check_target};
use crate::{
    ChangeId, ChangeWait, Configuration, Effect, Entry, LogId, LogIndex, MemberRole, Members,
    MembershipCommand, MembershipRefusal, Message, NodeId, NotAMember, Payload, Role, Time,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// How many election timeouts a removed member is still served, so that it learns of its removal.
const FAREWELL_TIMEOUTS: u32 = 4;

/// What a leader keeps for changes of the members.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// New voters on their way up (§4.2.1).
    rounds: BTreeMap<NodeId, Round>,
    /// Removed members, and until when they are still served.
    departing: BTreeMap<NodeId, Time>,
    /// A leader that is not among the voters to come has tried to hand over.
    has_handed_over: bool,
    /// This leader is no voter any more: it finishes the change, and takes in nothing new.
    pub(crate) is_leaving: bool,
    /// Who has which disk.
    pub(crate) storages: Storages,
}

/// One round of catching up: everything that was in the log when it began (§4.2.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Round {
    goal: LogIndex,
    started: Time,
    /// The last whole round took less than an election timeout.
    was_quick: bool,
}

impl Membership {
    /// See `behaviour.rs`.
    pub(crate) fn hash_behaviour(&self, now: Time, patience: Duration, state: &mut impl Hasher) {
        let Self { rounds, departing, has_handed_over, is_leaving, storages } = self;
        storages.hash_behaviour(state);
        (has_handed_over, is_leaving, rounds.len(), departing.len()).hash(state);
        for (id, Round { goal, started, was_quick }) in rounds {
            (id, goal, time_left(started.after(patience), now), was_quick).hash(state);
        }
        for (id, until) in departing {
            (id, time_left(*until, now)).hash(state);
        }
    }
}

impl Raft {
    /// An operator wants other members, or the old ones back.
    pub(super) fn handle_change_membership(&mut self, id: ChangeId, command: MembershipCommand) {
        let outcome = match &mut self.role {
            RoleState::Leader(leader) => leader.change_membership(&mut self.common, command),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                Err(MembershipRefusal::NotLeader { leader: self.leader() })
            }
        };
        self.common.effects.push(match outcome {
            Ok(log_id) => Effect::MembershipAppended { id, log_id },
            Err(reason) => Effect::MembershipRefused { id, reason },
        });
    }

    /// A candidate that is no member by our committed configuration was probably removed, and is
    /// told so: it would go on asking for ever (§4.2.3). True if that is certain, because it does
    /// not have that configuration; else it may know of a later one, and is treated as a member.
    pub(super) fn is_refused_as_removed(&mut self, from: NodeId, message: &Message) -> bool {
        let Message::RequestVote(request) = message else { return false };
        let common = &mut self.common;
        let (position, committed) = common.committed_configuration();
        if committed.members.is_empty() || committed.members.contains_key(&from) {
            return false;
        }
        let (term, version) = (common.current_term, committed.version);
        common.send(from, Message::NotAMember(NotAMember { term, version, position }));
        request.last_log < position
    }

    /// Somebody says that a configuration is committed which does not have us. If it is in our log
    /// we know no less; if we know a later one it is of no interest. A leader knows what is committed
    /// by its own count alone (§3.6.2), and takes nobody's word for it.
    pub(super) fn handle_not_a_member(&mut self, message: NotAMember) {
        let NotAMember { version, position, .. } = message;
        let dismissal = Dismissal { version, position };
        if self.common.log.contains(position) {
            if self.role() != Role::Leader {
                self.common.commit_through(position.index);
            }
        } else if self.common.is_dismissed_by(dismissal) {
            self.common.dismissed_by = self.common.dismissed_by.max(Some(dismissal));
        }
        if self.role() != Role::Follower && !self.common.is_electable() {
            self.become_follower(None);
        }
    }

    /// The version of the configuration by which this server is no member any more, if it was one
    /// and knows. It campaigns no more, and nobody sends it anything new.
    #[must_use]
    pub fn removed_at(&self) -> Option<u64> {
        self.common.removed_at()
    }

    /// The latest configuration that is known to be committed, and where it stands. Unlike the one
    /// in force it is never taken back.
    #[must_use]
    pub fn committed_configuration(&self) -> (LogId, &Arc<Configuration>) {
        self.common.committed_configuration()
    }

    /// On a leader, what the change of the members under way waits for; empty if there is none, or
    /// if it goes on by itself.
    #[must_use]
    pub fn change_waits(&self) -> Vec<ChangeWait> {
        match &self.role {
            RoleState::Leader(leader) => leader.change_waits(&self.common),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                Vec::new()
            }
        }
    }

    /// The configuration as of `index`, or of the base of the log if that is later.
    #[must_use]
    pub fn configuration_as_of(&self, index: LogIndex) -> &Arc<Configuration> {
        self.common.log.configuration_as_of(index).1
    }

    /// The configurations in the log with the one at its base, the latest first.
    pub fn configurations(&self) -> impl Iterator<Item = &Arc<Configuration>> {
        self.common.log.configurations_from(self.common.log.base_index())
    }

    /// Whom this server still talks to although the configuration in force has them no more.
    pub fn departing(&self) -> impl Iterator<Item = NodeId> + '_ {
        let leader = match &self.role {
            RoleState::Leader(leader) => Some(leader),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        leader.into_iter().flat_map(|leader| leader.membership.departing.keys().copied())
    }
}

impl Common {
    fn committed_configuration(&self) -> (LogId, &Arc<Configuration>) {
        let (index, committed) = self.log.configuration_as_of(self.commit_index);
        (LogId::new(self.log.term_at(index).unwrap_or_default(), index), committed)
    }

    pub(crate) fn removed_at(&self) -> Option<u64> {
        let dismissal = self.dismissed_by.filter(|dismissal| self.is_dismissed_by(*dismissal));
        dismissal.map(|dismissal| dismissal.version).or_else(|| {
            let (_, committed) = self.committed_configuration();
            committed.is_tombstoned(self.id).then_some(committed.version)
        })
    }

    /// Whether this says more than our log does. A log without a committed configuration holds no
    /// committed one that is later: whatever else it holds, of this version or higher, is a rival
    /// that will be truncated.
    fn is_dismissed_by(&self, Dismissal { version, position }: Dismissal) -> bool {
        let (_, committed) = self.committed_configuration();
        version > committed.version && !self.log.contains(position)
    }

    /// Whether this server may be elected: it votes in a configuration that may be in force. One
    /// that is removed by its latest configuration still campaigns while that is not committed:
    /// it may be the only one that has it (§4.2.2).
    pub(crate) fn is_electable(&self) -> bool {
        let mut configurations = self.log.configurations_from(self.commit_index);
        configurations.any(|configuration| configuration.is_voter(self.id))
            && self.removed_at().is_none()
    }
}

impl Leader {
    fn change_membership(
        &mut self,
        common: &mut Common,
        command: MembershipCommand,
    ) -> Result<LogId, MembershipRefusal> {
        if let Some(transfer) = &self.transfer {
            return Err(MembershipRefusal::Transferring { to: transfer.to });
        }
        let configuration = Arc::clone(common.log.configuration());
        match command {
            MembershipCommand::Set { target, expected_version, force } => {
                if configuration.leads_to() == &target {
                    return Ok(position(common));
                }
                self.check_may_begin(common, &configuration, expected_version)?;
                check_target(&target)?;
                configuration.check_newcomers(&target, force)?;
                self.check_majority(common, &target, force)?;
                Ok(self.append_configuration(common, configuration.begin_change(&target)))
            }
            MembershipCommand::Cancel => {
                let Some(change) = &configuration.change else {
                    return Err(MembershipRefusal::NothingToCancel);
                };
                self.check_may_cancel(common)?;
                Ok(self.append_configuration(common, configuration.revert_change(change)))
            }
        }
    }

    /// One change at a time, and none before this term has committed something: an earlier leader
    /// may have begun one that is not known here.
    fn check_may_begin(
        &self,
        common: &Common,
        configuration: &Configuration,
        expected_version: Option<u64>,
    ) -> Result<(), MembershipRefusal> {
        let version = configuration.version;
        if common.commit_index < self.term_start {
            return Err(MembershipRefusal::LeaderTooNew { term_start: self.term_start });
        }
        let is_settled = configuration.change.is_none() && !configuration.is_joint();
        let is_record = self.membership.storages.is_only_a_record(self.configuration_index);
        if !is_settled || (self.configuration_index > common.commit_index && !is_record) {
            return Err(MembershipRefusal::UnderWay { version });
        }
        match expected_version {
            Some(expected)
                if expected != version
                    && !self.membership.storages.differ_only_in_records(expected, version) =>
            {
                Err(MembershipRefusal::VersionMismatch { expected, actual: version })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Back from the joint configuration is safe as long as nobody can have left it forwards. That
    /// takes its commitment: by us, who would know, or by an earlier leader, whose entry loses to
    /// one of our term that both halves hold.
    fn check_may_cancel(&self, common: &Common) -> Result<(), MembershipRefusal> {
        let index = self.configuration_index.max(self.term_start);
        if common.commit_index >= index || self.began_this_step(common) {
            return Ok(());
        }
        Err(MembershipRefusal::CannotCancelYet { index })
    }

    /// Whether the configuration in force was appended by this leader in this term.
    fn began_this_step(&self, common: &Common) -> bool {
        common.log.term_at(self.configuration_index) == Some(common.current_term)
    }

    /// Enough of the voters asked for answer, as far as they are known here.
    fn check_majority(
        &self,
        common: &Common,
        target: &Members,
        force: bool,
    ) -> Result<(), MembershipRefusal> {
        match self.missing_majority(common, target) {
            Some((silent, needed_count)) if !force => {
                Err(MembershipRefusal::WouldLoseQuorum { silent, needed_count })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The voters of `target` that do not answer, and how many would have to, if that is too few.
    /// Nodes that are new here are not known to be silent.
    fn missing_majority(&self, common: &Common, target: &Members) -> Option<(Vec<NodeId>, usize)> {
        let voters = target.iter().filter(|(_, member)| member.role == MemberRole::Voter);
        let voters: Vec<NodeId> = voters.map(|(id, _)| *id).collect();
        let needed_count = voters.len() / 2 + 1;
        let is_silent = |id: &&NodeId| {
            self.progress.get(id).is_some_and(|progress| !is_alive(progress, common))
        };
        let silent: Vec<NodeId> = voters.iter().filter(is_silent).copied().collect();
        (voters.len() - silent.len() < needed_count).then_some((silent, needed_count))
    }

    /// A configuration is in force from the moment it is appended (§4.1).
    pub(super) fn append_configuration(
        &mut self,
        common: &mut Common,
        configuration: Configuration,
    ) -> LogId {
        let log_id = LogId::new(common.current_term, common.log.last().index.next());
        let payload = Payload::Configuration(Arc::new(configuration));
        common.append(vec![Entry { log_id, payload }]);
        self.follow_configuration(common, log_id.index);
        log_id
    }

    /// Serves exactly the members of the configuration in force (§4.1), and for a while those who
    /// have just been removed: whoever gets the entry knows, and does not campaign.
    pub(crate) fn follow_configuration(&mut self, common: &Common, next_index: LogIndex) {
        let configuration = Arc::clone(common.log.configuration());
        self.configuration_index = common.log.configuration_index();
        for id in configuration.members.keys().filter(|id| **id != common.id) {
            let progress = || crate::progress::Progress::new(next_index, common.now);
            self.progress.entry(*id).or_insert_with(progress);
        }
        self.forget_replaced_storages(common, &configuration, next_index);
        let farewell = common.now.after(common.options.election_timeout * FAREWELL_TIMEOUTS);
        let is_member = |id: &NodeId| configuration.members.contains_key(id);
        let departing = &mut self.membership.departing;
        departing.retain(|id, _| !is_member(id));
        for id in self.progress.keys().filter(|id| !is_member(id)) {
            departing.entry(*id).or_insert(farewell);
        }
        self.membership.rounds.clear();
        self.membership.is_leaving = !configuration.is_voter(common.id);
    }

    /// Goes on with the change that the log says is under way, if the next step is safe.
    pub(crate) fn tend_membership(&mut self, common: &mut Common) {
        self.let_go_of_departed(common);
        self.record_members(common);
        let configuration = Arc::clone(common.log.configuration());
        let Some(change) = &configuration.change else { return };
        if !configuration.is_joint() {
            self.advance_rounds(common, change);
        }
        let is_committed = common.commit_index >= self.configuration_index.max(self.term_start);
        if !is_committed || self.transfer.is_some() {
            return;
        }
        if configuration.is_joint() {
            if !self.hands_over_first(common, change) {
                self.append_configuration(common, configuration.leave_joint(change));
            }
        } else if self.is_ready_for_joint(common, change) {
            self.append_configuration(common, configuration.enter_joint(change));
        }
    }

    /// Removed members are served until they had their time, or need what the log has no more.
    fn let_go_of_departed(&mut self, common: &Common) {
        if self.membership.departing.is_empty() {
            return;
        }
        let base_index = common.log.base_index();
        let progress = &mut self.progress;
        self.membership.departing.retain(|id, until| {
            let is_served = *until > common.now
                && progress.get(id).is_some_and(|progress| !progress.needs_snapshot(base_index));
            if !is_served {
                progress.remove(id);
            }
            is_served
        });
    }

    /// §4.2.1: new voters catch up in rounds. What is acknowledged is durable.
    fn advance_rounds(&mut self, common: &Common, change: &Change) {
        let (now, last) = (common.now, common.log.last().index);
        let patience = common.options.election_timeout;
        let configuration = common.log.configuration();
        for id in change.new_voters(configuration) {
            let Some(progress) = self.progress.get(&id) else { continue };
            let fresh = || Round { goal: last, started: now, was_quick: false };
            let round = self.membership.rounds.entry(id).or_insert_with(fresh);
            let is_late = now.since(round.started) >= patience;
            if progress.match_index >= round.goal {
                *round = Round { goal: last, started: now, was_quick: !is_late };
            } else if is_late {
                round.was_quick = false;
            }
        }
    }

    /// Every new voter keeps up, and enough voters answer that the joint configuration can be
    /// committed and left.
    fn is_ready_for_joint(&self, common: &Common, change: &Change) -> bool {
        let configuration = common.log.configuration();
        change.new_voters(configuration).all(|id| self.keeps_up(common, id))
            && self.missing_majority(common, &change.target).is_none()
    }

    fn keeps_up(&self, common: &Common, id: NodeId) -> bool {
        let is_here = |progress| is_alive(progress, common) && progress.is_replicating();
        self.progress.get(&id).is_some_and(is_here)
            && Self::has_known_storage(common, id)
            && self.membership.rounds.get(&id).is_some_and(|round| round.was_quick)
    }

    /// A leader that will be no voter hands over while it can (§3.10); the successor leaves the
    /// joint configuration. If nobody takes over, this leader finishes the change itself (§4.2.2).
    fn hands_over_first(&mut self, common: &Common, change: &Change) -> bool {
        if change.is_to_vote(common.id) || self.membership.has_handed_over {
            return false;
        }
        self.membership.has_handed_over = true;
        let Some(successor) = self.best_successor(common) else { return false };
        self.start_transfer(common, successor);
        self.transfer.is_some()
    }

    /// The new half is not heard of, and the joint configuration is not committed: rather than lose
    /// its office, and leave a cluster that cannot elect anybody, the leader takes the change back.
    /// Returns whether it did.
    pub(crate) fn retreats_from_joint(&mut self, common: &mut Common) -> bool {
        let configuration = Arc::clone(common.log.configuration());
        let Some(change) = configuration.change.as_ref().filter(|_| configuration.is_joint())
        else {
            return false;
        };
        let is_ours_alone =
            self.configuration_index > common.commit_index && self.began_this_step(common);
        if !is_ours_alone || self.missing_majority(common, &change.origin).is_some() {
            return false;
        }
        self.append_configuration(common, configuration.revert_change(change));
        true
    }

    /// What the change under way waits for; empty if nothing, or if there is none.
    pub(crate) fn change_waits(&self, common: &Common) -> Vec<ChangeWait> {
        let configuration = common.log.configuration();
        let is_done = configuration.change.is_none() && !configuration.is_joint();
        if is_done && self.configuration_index <= common.commit_index {
            return Vec::new();
        }
        if common.commit_index < self.term_start {
            return vec![ChangeWait::LeaderTooNew { index: self.term_start }];
        }
        if self.configuration_index > common.commit_index {
            let (index, missing) = (self.configuration_index, self.missing_on(common));
            return vec![ChangeWait::Commit { index, missing }];
        }
        let Some(change) = &configuration.change else { return Vec::new() };
        if let Some(transfer) = &self.transfer {
            return vec![ChangeWait::Handover { to: transfer.to }];
        }
        if configuration.is_joint() {
            return Vec::new();
        }
        let majority = self.missing_majority(common, &change.target);
        let majority =
            majority.map(|(silent, needed_count)| ChangeWait::Majority { silent, needed_count });
        let behind = change.new_voters(configuration).filter(|id| !self.keeps_up(common, *id));
        behind.map(|id| self.catch_up_wait(common, id)).chain(majority).collect()
    }

    fn catch_up_wait(&self, common: &Common, member: NodeId) -> ChangeWait {
        let progress = self.progress.get(&member);
        let matched = progress.map_or(LogIndex::ORIGIN, |progress| progress.match_index);
        let behind_count = common.log.last().index.distance_from(matched);
        let is_reachable = progress.is_some_and(|progress| is_alive(progress, common));
        ChangeWait::CatchUp { member, behind_count, is_reachable }
    }

    fn missing_on(&self, common: &Common) -> Vec<NodeId> {
        let holds = |id: &NodeId| match self.progress.get(id) {
            Some(progress) => progress.match_index >= self.configuration_index,
            None => common.persistence.durable_index() >= self.configuration_index,
        };
        common.log.configuration().voters().filter(|id| !holds(id)).collect()
    }
}

/// Where the configuration in force stands.
fn position(common: &Common) -> LogId {
    let index = common.log.configuration_index();
    LogId::new(common.log.term_at(index).unwrap_or_default(), index)
}
