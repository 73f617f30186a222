//! Wishes for other members on their way through the driver: to the core if it leads, to the leader
//! if not, and back. What becomes of them is in `wishes`.

use super::wishes::{Asker, Committed, WISHES_COUNT_MAX, Wish};
use super::{Driver, Output, PeerMessage};
use crate::MembershipError;
use quorate_core::{
    ChangeId, Event, LogId, MembershipCommand, MembershipRefusal, NodeId, Term, Time,
};

impl Driver {
    /// A local caller wants other members.
    pub(super) fn wish(&mut self, now: Time, wish: Wish, outputs: &mut Vec<Output>) {
        if self.wishes.count() >= WISHES_COUNT_MAX {
            let fate = Err(MembershipError::Overloaded { limit_count: WISHES_COUNT_MAX });
            self.turn.membership_fates.push((wish.ticket, fate));
            return;
        }
        self.wishes.hold(wish);
        self.pass_on_wishes(now, outputs);
    }

    /// Tries again what is held, and tells those whose time is up.
    pub(super) fn tend_wishes(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let raft = &self.raft;
        let waits = || raft.change_waits();
        self.wishes.expire(now, waits, &mut self.turn.membership_fates);
        if let Some(version) = raft.removed_at() {
            let known = raft.configuration_as_of(self.handed);
            self.wishes.removed(raft.id(), version, known, &mut self.turn.membership_fates);
        }
        self.pass_on_wishes(now, outputs);
    }

    fn pass_on_wishes(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let Some(leader) = self.raft.leader() else { return };
        for wish in self.wishes.take_held() {
            let command = wish.command.clone();
            if leader == self.raft.id() {
                self.ask_core(now, Asker::Local(wish), command, outputs);
                continue;
            }
            let message = PeerMessage::ChangeMembership {
                term: self.raft.current_term(),
                incarnation: self.proposals.incarnation(),
                request: self.wishes.ask_leader(now, leader, wish),
                command,
            };
            outputs.push(Output::Send { to: leader, message });
        }
    }

    fn ask_core(
        &mut self,
        now: Time,
        asker: Asker,
        command: MembershipCommand,
        outputs: &mut Vec<Output>,
    ) {
        let id = self.wishes.ask_core(asker);
        self.step(now, Event::ChangeMembership { id, command }, outputs);
    }

    /// Another node's wish, meant for the leader of `term`.
    pub(super) fn wish_of_peer(
        &mut self,
        now: Time,
        node: NodeId,
        (term, incarnation, request): (Term, u64, u64),
        command: MembershipCommand,
        outputs: &mut Vec<Output>,
    ) {
        let leader = self.raft.leader();
        let asker = Asker::Remote { node, incarnation, request };
        if leader != Some(self.raft.id()) || term != self.raft.current_term() {
            let outcome = Err(MembershipRefusal::NotLeader { leader });
            self.answer_wish(asker, outcome, outputs);
        } else if self.wishes.is_new(term, node, incarnation, request) {
            self.ask_core(now, asker, command, outputs);
        }
    }

    /// The core has appended the wish, or will not.
    pub(super) fn core_decided(
        &mut self,
        id: ChangeId,
        outcome: Result<LogId, MembershipRefusal>,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(asker) = self.wishes.answered_by_core(id) {
            self.answer_wish(asker, outcome, outputs);
        }
    }

    /// The leader's answer to our wish.
    pub(super) fn wish_answered(
        &mut self,
        request: u64,
        outcome: Result<LogId, MembershipRefusal>,
    ) {
        if let Some(wish) = self.wishes.answered_by_leader(request) {
            self.settle_wish(wish, outcome);
        }
    }

    fn answer_wish(
        &mut self,
        asker: Asker,
        outcome: Result<LogId, MembershipRefusal>,
        outputs: &mut Vec<Output>,
    ) {
        match asker {
            Asker::Local(wish) => self.settle_wish(wish, outcome),
            Asker::Remote { node, incarnation, request } => {
                let message = PeerMessage::MembershipReply { incarnation, request, outcome };
                outputs.push(Output::Send { to: node, message });
            }
        }
    }

    fn settle_wish(&mut self, wish: Wish, outcome: Result<LogId, MembershipRefusal>) {
        let fates = &mut self.turn.membership_fates;
        match outcome {
            Ok(log_id) => {
                let committed = Committed {
                    through: self.handed,
                    term: self.raft.term_at(log_id.index),
                    configuration: self.raft.configuration_as_of(self.handed),
                };
                self.wishes.appended(log_id, wish, committed, fates);
            }
            Err(reason) => self.wishes.refused(wish, reason, fates),
        }
    }
}
