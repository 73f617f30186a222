//! Requests about members, on any configuration: what a member says of itself in its context comes
//! from others. A plan changes what was asked for and nothing else; one that is refused is none.

use crate::member::{MemberContext, describe, peer_address, peer_urls, peer_urls_of};
use crate::service::plan::{self, Circumstances, Step};
use bytes::Bytes;
use prost::Message;
use quorate::core::{Configuration, Member, MemberRole, Members, NodeId};
use quorate::wal::codec::decode_configuration;
use quorate_etcd_api::etcdserverpb as pb;
use std::collections::BTreeSet;

/// A byte that says who is connected, one for the method, one for the size of the request, that,
/// and the configuration.
pub(super) fn member_request(data: &[u8]) {
    let &[connected, method, size, ref rest @ ..] = data else { return };
    let (message, rest) = rest.split_at(usize::from(size).min(rest.len()));
    let mut rest = Bytes::copy_from_slice(rest);
    let Ok(configuration) = decode_configuration(&mut rest) else { return };
    for (id, member) in &configuration.members {
        check_context(&member.context);
        let described = describe(*id, member);
        assert_eq!(described.peer_ur_ls, peer_urls_of(member));
        assert_eq!(described.is_learner, member.role == MemberRole::Learner);
    }
    let ids = configuration.members.keys();
    let is_there = |bit: usize| connected >> (bit % 8) & 1 == 1;
    let circumstances = Circumstances {
        own_id: NodeId::new(1),
        connected: ids.enumerate().filter(|(bit, _)| is_there(*bit)).map(|(_, id)| *id).collect(),
        is_strict: method >= 128,
        learners_count_max: 1,
    };
    check_request(&circumstances, &configuration, method, message);
}

/// What can be read of a context is read again from what is written of it.
fn check_context(context: &Bytes) {
    let Ok(read) = MemberContext::from_bytes(context) else { return };
    assert_eq!(MemberContext::from_bytes(&read.to_bytes()), Ok(read));
}

fn check_request(
    circumstances: &Circumstances,
    configuration: &Configuration,
    method: u8,
    message: &[u8],
) {
    match method % 5 {
        0 => check_add(circumstances, configuration, message),
        1 => check_update(configuration, message),
        2 => {
            let Ok(request) = pb::MemberRemoveRequest::decode(message) else { return };
            let id = NodeId::new(request.id);
            match circumstances.remove(configuration, id) {
                Ok(Step::Set(target)) => {
                    assert!(!target.contains_key(&id), "it is gone");
                    same_but(configuration, &target, id);
                }
                Ok(Step::Cancel) => assert!(configuration.change.is_some(), "a change is on"),
                Err(_) => {}
            }
        }
        3 => {
            let Ok(request) = pb::MemberPromoteRequest::decode(message) else { return };
            let id = NodeId::new(request.id);
            let Ok(step) = circumstances.promote(configuration, id) else { return };
            let target = target_of(step);
            same_but(configuration, &target, id);
            let promoted = |member: &Member| Member { role: MemberRole::Voter, ..member.clone() };
            assert_eq!(target.get(&id), configuration.leads_to().get(&id).map(promoted).as_ref());
        }
        _ => {
            let request = pb::MemberListRequest::decode(message);
            let again =
                request.as_ref().map(|it| pb::MemberListRequest::decode(&*it.encode_to_vec()));
            assert!(again.is_err() || again == Ok(request.clone()));
        }
    }
}

fn check_add(circumstances: &Circumstances, configuration: &Configuration, message: &[u8]) {
    let Ok(request) = pb::MemberAddRequest::decode(message) else { return };
    let Some(urls) = urls_of(&request.peer_ur_ls) else { return };
    let role = if request.is_learner { MemberRole::Learner } else { MemberRole::Voter };
    let ids = (1..=8).map(NodeId::new);
    let Ok(step) = circumstances.add(configuration, ids, &urls, role) else { return };
    let target = target_of(step);
    let before = configuration.leads_to();
    let added: Vec<_> = target.iter().filter(|(id, _)| !before.contains_key(id)).collect();
    let [(id, member)] = added.as_slice() else { panic!("one member is added: {added:?}") };
    assert!(!configuration.removed.contains(id), "no name is used again");
    assert_eq!((member.role, peer_urls_of(member)), (role, urls.clone()));
    called_at_all(member, &urls);
    same_but(configuration, &target, **id);
    nobody_else_has(&target, **id, &urls);
}

fn check_update(configuration: &Configuration, message: &[u8]) {
    let Ok(request) = pb::MemberUpdateRequest::decode(message) else { return };
    let Some(urls) = urls_of(&request.peer_ur_ls) else { return };
    let id = NodeId::new(request.id);
    let Ok(step) = plan::update(configuration, id, &urls) else { return };
    let target = target_of(step);
    same_but(configuration, &target, id);
    nobody_else_has(&target, id, &urls);
    let (Some(before), Some(after)) = (configuration.leads_to().get(&id), target.get(&id)) else {
        panic!("it stays a member");
    };
    assert_eq!((after.role, after.rank), (before.role, before.rank));
    assert_eq!(peer_urls_of(after), urls);
    called_at_all(after, &urls);
    let name = |member: &Member| {
        let context = MemberContext::from_bytes(&member.context).unwrap_or_default();
        (context.name, context.client_urls)
    };
    assert_eq!(name(after), name(before), "its name and where clients reach it stay");
}

/// Its address, which is what the others call, says the same as its URLs.
fn called_at_all(member: &Member, urls: &[String]) {
    let nameless = Member { context: Bytes::new(), ..member.clone() };
    assert_eq!(peer_urls_of(&nameless), urls);
}

/// URLs that passed the check: each has an address, and the check finds nothing to change in them.
fn urls_of(given: &[String]) -> Option<Vec<String>> {
    let urls = peer_urls(given)?;
    assert!(urls.iter().all(|url| peer_address(url).is_some()), "{urls:?}");
    assert_eq!(peer_urls(&urls).as_ref(), Some(&urls));
    Some(urls)
}

fn target_of(step: Step) -> Members {
    match step {
        Step::Set(target) => target,
        Step::Cancel => panic!("nothing is to be taken back"),
    }
}

fn same_but(configuration: &Configuration, target: &Members, id: NodeId) {
    let others = |members: &Members| -> Vec<(NodeId, Member)> {
        let others = members.iter().filter(|(other, _)| **other != id);
        others.map(|(other, member)| (*other, member.clone())).collect()
    };
    assert_eq!(others(target), others(configuration.leads_to()), "the others stay as they are");
}

fn nobody_else_has(target: &Members, id: NodeId, urls: &[String]) {
    let others = target.iter().filter(|(other, _)| **other != id);
    let taken: BTreeSet<String> = others.flat_map(|(_, member)| peer_urls_of(member)).collect();
    assert!(!urls.iter().any(|url| taken.contains(url)), "two members share a URL");
}
