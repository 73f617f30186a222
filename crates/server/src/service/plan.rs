//! What a request to change the members comes to, and etcd's checks of it. Pure: knows the members
//! and who is connected, and asks nobody.

use crate::errors::MembersRejection;
use crate::member::{MemberContext, peer_addresses, peer_urls_of};
use bytes::Bytes;
use quorate::ADDRESS_BYTES_MAX;
use quorate::core::{Configuration, Member, MemberRole, Members, NodeId};
use std::collections::BTreeSet;

/// What is asked of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The members shall be these.
    Set(Members),
    /// The change under way shall be taken back.
    Cancel,
}

/// What the checks need to know beside the members.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances {
    /// This member.
    pub(crate) own_id: NodeId,
    /// Whom it is connected to.
    pub(crate) connected: BTreeSet<NodeId>,
    /// Whether etcd's checks of the quorum are made.
    pub(crate) is_strict: bool,
    /// How many members may be learners.
    pub(crate) learners_count_max: usize,
}

type Planned = Result<Step, MembersRejection>;

/// A member has started once the others know its name.
fn has_started(member: &Member) -> bool {
    MemberContext::from_bytes(&member.context).is_ok_and(|context| !context.name.is_empty())
}

fn voters(members: &Members) -> impl Iterator<Item = (&NodeId, &Member)> {
    members.iter().filter(|(_, member)| member.role == MemberRole::Voter)
}

fn started_voters(members: &Members) -> usize {
    voters(members).filter(|(_, member)| has_started(member)).count()
}

/// Whether another member than `except` is reached by one of these.
fn is_taken(members: &Members, urls: &[String], except: Option<NodeId>) -> bool {
    let others = members.iter().filter(|(id, _)| Some(**id) != except);
    others.flat_map(|(_, member)| peer_urls_of(member)).any(|url| urls.contains(&url))
}

impl Circumstances {
    fn is_active(&self, id: NodeId) -> bool {
        id == self.own_id || self.connected.contains(&id)
    }

    fn active_voters(&self, members: &Members) -> usize {
        voters(members).filter(|(id, _)| self.is_active(**id)).count()
    }

    /// One member more, at `urls`, under the first of these ids that was never used.
    pub(crate) fn add(
        &self,
        configuration: &Configuration,
        ids: impl IntoIterator<Item = NodeId>,
        urls: &[String],
        role: MemberRole,
    ) -> Planned {
        let members = configuration.leads_to();
        if self.is_strict {
            self.check_add(members, role)?;
        }
        if is_taken(members, urls, None) {
            return Err(MembersRejection::UrlExists);
        }
        let learners = members.values().filter(|member| member.role == MemberRole::Learner);
        if role == MemberRole::Learner && learners.count() >= self.learners_count_max {
            return Err(MembersRejection::TooManyLearners);
        }
        let is_fresh = |id: &NodeId| {
            !members.contains_key(id)
                && !configuration.members.contains_key(id)
                && !configuration.removed.contains(id)
        };
        let id = ids.into_iter().find(is_fresh);
        let id = id.ok_or_else(|| MembersRejection::Refused { why: "no id is free".to_owned() })?;
        let mut target = members.clone();
        let context = MemberContext { peer_urls: urls.to_vec(), ..MemberContext::default() };
        target.insert(id, member_at(urls, role, 0, context.to_bytes())?);
        Ok(Step::Set(target))
    }

    /// etcd: the voters that have started must be a quorum of the new voters, unless one becomes
    /// two; and this member must be connected to every voter.
    fn check_add(&self, members: &Members, role: MemberRole) -> Result<(), MembersRejection> {
        let (started, count) = (started_voters(members), voters(members).count());
        let one_becomes_two = started == 1 && count == 1;
        if role == MemberRole::Voter && !one_becomes_two && started < quorum(count + 1) {
            return Err(MembersRejection::NotEnoughStarted);
        }
        if self.active_voters(members) < count {
            return Err(MembersRejection::Unhealthy);
        }
        Ok(())
    }

    /// A member goes. One that has not become a voter yet is taken back with its change.
    pub(crate) fn remove(&self, configuration: &Configuration, id: NodeId) -> Planned {
        let members = configuration.leads_to();
        let member = members.get(&id).ok_or(MembersRejection::NotFound)?;
        let mut target = members.clone();
        target.remove(&id);
        if let Some(change) = &configuration.change
            && change.origin == target
        {
            return Ok(Step::Cancel);
        }
        if self.is_strict && member.role == MemberRole::Voter {
            self.check_remove(members, &target, id)?;
        }
        Ok(Step::Set(target))
    }

    /// etcd: the voters that have started must be a quorum of those who stay; and if the one that
    /// goes is alive, those who are alive without it must be a quorum of all.
    fn check_remove(
        &self,
        members: &Members,
        target: &Members,
        id: NodeId,
    ) -> Result<(), MembersRejection> {
        let (started, stay) = (started_voters(target), voters(target).count());
        if stay == 0 || started < quorum(stay) {
            return Err(MembersRejection::NotEnoughStarted);
        }
        let active = self.active_voters(members);
        let needed = 1 + voters(members).count().saturating_sub(1) / 2;
        if self.is_active(id) && active.saturating_sub(1) < needed {
            return Err(MembersRejection::Unhealthy);
        }
        Ok(())
    }

    /// A learner becomes a voter.
    pub(crate) fn promote(&self, configuration: &Configuration, id: NodeId) -> Planned {
        let members = configuration.leads_to();
        let member = members.get(&id).ok_or(MembersRejection::NotFound)?;
        if member.role != MemberRole::Learner {
            return Err(MembersRejection::NotLearner);
        }
        if !self.is_active(id) {
            return Err(MembersRejection::LearnerNotReady);
        }
        // The learner counts as a voter that has started.
        let (started, count) = (started_voters(members) + 1, voters(members).count() + 1);
        if self.is_strict && started < quorum(count) {
            return Err(MembersRejection::NotEnoughStarted);
        }
        let mut target = members.clone();
        target.insert(id, Member { role: MemberRole::Voter, ..member.clone() });
        Ok(Step::Set(target))
    }
}

/// A member is reached at other URLs.
pub(crate) fn update(configuration: &Configuration, id: NodeId, urls: &[String]) -> Planned {
    let members = configuration.leads_to();
    let member = members.get(&id).ok_or(MembersRejection::NotFound)?;
    if is_taken(members, urls, Some(id)) {
        return Err(MembersRejection::UrlExists);
    }
    let known = MemberContext::from_bytes(&member.context).unwrap_or_default();
    let context = MemberContext { peer_urls: urls.to_vec(), ..known };
    let mut target = members.clone();
    target.insert(id, member_at(urls, member.role, member.rank, context.to_bytes())?);
    Ok(Step::Set(target))
}

/// The others call it at each of these in turn.
fn member_at(
    urls: &[String],
    role: MemberRole,
    rank: u32,
    context: Bytes,
) -> Result<Member, MembersRejection> {
    let address = peer_addresses(urls).ok_or(MembersRejection::BadUrls)?;
    if address.len() > ADDRESS_BYTES_MAX {
        let found = address.len();
        let why = format!(
            "expected peer URLs of a member that take {ADDRESS_BYTES_MAX} bytes together, found \
             {found}: name fewer of them"
        );
        return Err(MembersRejection::Refused { why });
    }
    Ok(Member { role, rank, address, context })
}

const fn quorum(count: usize) -> usize {
    count / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members `1`, `2`, ...: `v` a voter, `l` a learner, in capitals if it has started.
    fn configuration(text: &str) -> Configuration {
        let member = |(number, letter): (u64, char)| {
            let is_voter = letter.eq_ignore_ascii_case(&'v');
            let role = if is_voter { MemberRole::Voter } else { MemberRole::Learner };
            let name = if letter.is_uppercase() { format!("n{number}") } else { String::new() };
            let context =
                MemberContext { name, peer_urls: vec![url(number)], ..Default::default() };
            let address = format!("h:{number}");
            (NodeId::new(number), Member { role, rank: 0, address, context: context.to_bytes() })
        };
        Configuration::new(1, (1..).zip(text.chars()).map(member).collect())
    }

    fn url(number: u64) -> String {
        format!("http://h:{number}")
    }

    /// Seen from member 1.
    fn connected_to(others: &[u64]) -> Circumstances {
        Circumstances {
            own_id: NodeId::new(1),
            connected: others.iter().map(|id| NodeId::new(*id)).collect(),
            is_strict: true,
            learners_count_max: 1,
        }
    }

    fn add(members: &str, others: &[u64], role: MemberRole) -> Result<(), MembersRejection> {
        let ids = [NodeId::new(1), NodeId::new(9)];
        match connected_to(others).add(&configuration(members), ids, &[url(9)], role)? {
            Step::Set(target) => {
                assert_eq!(target[&NodeId::new(9)].address, "h:9");
                assert_eq!(target.len(), members.len() + 1);
                Ok(())
            }
            Step::Cancel => panic!("there is nothing to take back"),
        }
    }

    #[test]
    fn a_voter_is_added_if_enough_have_started_and_all_are_connected() {
        assert_eq!(add("V", &[], MemberRole::Voter), Ok(()), "one becomes two");
        assert_eq!(add("VVV", &[2, 3], MemberRole::Voter), Ok(()));
        assert_eq!(add("Vv", &[2], MemberRole::Voter), Err(MembersRejection::NotEnoughStarted));
        assert_eq!(add("VVV", &[2], MemberRole::Voter), Err(MembersRejection::Unhealthy));
        assert_eq!(add("VVVv", &[2, 3], MemberRole::Voter), Err(MembersRejection::Unhealthy));
    }

    #[test]
    fn a_member_is_called_at_all_its_urls_and_they_must_fit_into_a_handshake() {
        let (configuration, all) = (configuration("VVV"), connected_to(&[2, 3]));
        let address_of = |step: Step, id: u64| match step {
            Step::Set(target) => target[&NodeId::new(id)].address.clone(),
            Step::Cancel => panic!("there is nothing to take back"),
        };
        let two = [url(8), "https://h:9".to_owned()];
        let added = all.add(&configuration, [NodeId::new(9)], &two, MemberRole::Voter).unwrap();
        assert_eq!(address_of(added, 9), "h:8,https://h:9");
        let moved = update(&configuration, NodeId::new(2), &two).unwrap();
        assert_eq!(address_of(moved, 2), "h:8,https://h:9");

        let of_bytes = |bytes: usize| [url(8), format!("http://{}:1", "h".repeat(bytes - 6))];
        let fits = update(&configuration, NodeId::new(2), &of_bytes(ADDRESS_BYTES_MAX)).unwrap();
        assert_eq!(address_of(fits, 2).len(), ADDRESS_BYTES_MAX);
        let refused = update(&configuration, NodeId::new(2), &of_bytes(ADDRESS_BYTES_MAX + 1));
        let Err(MembersRejection::Refused { why }) = refused else { panic!("{refused:?}") };
        assert!(why.contains("512 bytes together, found 513"), "{why}");
    }

    #[test]
    fn learners_are_added_up_to_the_limit() {
        assert_eq!(add("VVV", &[2, 3], MemberRole::Learner), Ok(()));
        let beyond = add("VVVL", &[2, 3], MemberRole::Learner);
        assert_eq!(beyond, Err(MembersRejection::TooManyLearners));
    }

    #[test]
    fn two_members_never_share_a_url() {
        let (configuration, all) = (configuration("VVV"), connected_to(&[2, 3]));
        let added = all.add(&configuration, [NodeId::new(9)], &[url(2)], MemberRole::Voter);
        assert_eq!(added, Err(MembersRejection::UrlExists));
        assert_eq!(
            update(&configuration, NodeId::new(1), &[url(2)]),
            Err(MembersRejection::UrlExists)
        );
        assert!(update(&configuration, NodeId::new(2), &[url(2)]).is_ok(), "its own it may keep");
    }

    #[test]
    fn a_member_is_removed_if_a_quorum_stays() {
        let remove = |members: &str, others: &[u64], id: u64| {
            connected_to(others).remove(&configuration(members), NodeId::new(id)).map(|_| ())
        };
        assert_eq!(remove("VVV", &[2, 3], 3), Ok(()));
        assert_eq!(remove("VVV", &[2], 3), Ok(()), "the dead may go");
        assert_eq!(remove("VVV", &[2], 2), Err(MembersRejection::Unhealthy));
        assert_eq!(remove("V", &[], 1), Err(MembersRejection::NotEnoughStarted));
        assert_eq!(remove("Vv", &[], 1), Err(MembersRejection::NotEnoughStarted));
        assert_eq!(remove("VL", &[], 2), Ok(()), "a learner has no part in the quorum");
        assert_eq!(remove("VVV", &[2, 3], 7), Err(MembersRejection::NotFound));
    }

    #[test]
    fn a_voter_that_never_started_is_taken_back_with_its_change() {
        let (before, after) = (configuration("VVV"), configuration("VVVv"));
        let change =
            quorate::core::Change { target: after.members, origin: before.members.clone() };
        let under_way = Configuration { change: Some(Box::new(change)), ..before };
        let step = connected_to(&[2, 3]).remove(&under_way, NodeId::new(4));
        assert_eq!(step, Ok(Step::Cancel));
    }

    #[test]
    fn a_learner_is_promoted_if_it_is_there_and_one() {
        let promote = |members: &str, others: &[u64], id: u64| {
            connected_to(others).promote(&configuration(members), NodeId::new(id)).map(|_| ())
        };
        assert_eq!(promote("VVVL", &[2, 3, 4], 4), Ok(()));
        assert_eq!(promote("VVVL", &[2, 3], 4), Err(MembersRejection::LearnerNotReady));
        assert_eq!(promote("VVVL", &[2, 3, 4], 3), Err(MembersRejection::NotLearner));
        assert_eq!(promote("VVVL", &[2, 3, 4], 5), Err(MembersRejection::NotFound));
        assert_eq!(promote("VvvL", &[4], 4), Err(MembersRejection::NotEnoughStarted));
    }
}
