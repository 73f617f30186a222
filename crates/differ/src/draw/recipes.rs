//! Draws locks and elections: calls that are answered at once, and calls that wait for their turn until
//! those in front of them are gone. Must not know what the answers ought to be.

use super::kv;
use crate::answer::number_at;
use crate::driver::{Ask, Driver};
use crate::known::Claim;
use crate::method;
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::{v3electionpb as election, v3lockpb as lock};
use serde_json::Value;

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    match driver.chance.below(20) {
        0..=5 => claim(driver, false).await,
        6..=9 => claim(driver, true).await,
        10..=12 => unlock(driver).await,
        13 => claim_without_lease(driver).await,
        14 => proclaim(driver).await,
        15 => resign(driver).await,
        16 | 17 => {
            let request = election::LeaderRequest { name: name(driver, true).into() };
            driver.ask(&method::LEADER, &request).await.map(drop)
        }
        18 => observe(driver).await,
        _ => nameless(driver).await,
    }
}

fn name(driver: &mut Driver, is_election: bool) -> String {
    let names = if is_election { ["e1", "e2", "e"] } else { ["l1", "l2", "l"] };
    driver.chance.of(&names).to_owned()
}

/// The keys of a lock, or of an election, first come first.
async fn line(driver: &mut Driver, name: &str) -> anyhow::Result<Vec<Value>> {
    let key = Bytes::from(format!("{name}/"));
    let request = pb::RangeRequest {
        range_end: kv::prefix_end(&key),
        key,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    };
    let answer = driver.ask_as_root(&method::RANGE, &request).await?;
    let keys = answer.given().and_then(|given| given.get("kvs")).and_then(Value::as_array);
    Ok(keys.cloned().unwrap_or_default())
}

fn bytes_at(value: &Value, pointer: &str) -> Vec<u8> {
    let text = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    BASE64_STANDARD.decode(text).unwrap_or_default()
}

/// A lock, or a campaign: at once if nobody is in front, else until they are gone.
async fn claim(driver: &mut Driver, is_election: bool) -> anyhow::Result<()> {
    let name = name(driver, is_election);
    let lease = match driver.known.lease(&mut driver.chance) {
        // A lease that the server makes is another matter.
        0 => 999,
        lease => lease,
    };
    driver.known.claimants.insert(lease);
    let line = line(driver, &name).await?;
    let own = key_of(&name, lease).into_bytes();
    let front: Vec<Value> =
        line.into_iter().take_while(|value| bytes_at(value, "/key") != own).collect();
    let is_lease = driver.known.leases.contains(&lease);
    let value = Bytes::from(driver.chance.below(4).to_string());
    let mut ask = if is_election {
        let request = election::CampaignRequest { name: name.clone().into(), lease, value };
        Ask::new(&method::CAMPAIGN, &request)
    } else {
        Ask::new(&method::LOCK, &lock::LockRequest { name: name.clone().into(), lease })
    };
    (ask.user, ask.token) = driver.known.root();
    if driver.known.was_auth && !front.is_empty() {
        // Who waits in etcd has the rights of whoever was first to wait, or waits for ever.
        return Ok(());
    }
    let answer = if front.is_empty() || !is_lease {
        ask.by_gateway = driver.chance.one_in(4);
        if !is_election {
            // A campaign that may put and not look leaves its key in etcd.
            (ask.user, ask.token) = driver.known.speaker(&mut driver.chance);
        }
        driver.carry_out(ask).await?
    } else {
        wait(driver, ask, (&name, lease), &front).await?
    };
    let Some(given) = answer.given() else { return Ok(()) };
    let place = if is_election { "/leader/key" } else { "/key" };
    let key = bytes_at(given, place);
    let revision = number_at(given, "/leader/rev").unwrap_or(0);
    driver.known.claims.push(Claim { name, key, revision, lease, is_election });
    Ok(())
}

/// Asks both, waits until both stand in line, and clears the way.
async fn wait(
    driver: &mut Driver,
    ask: Ask,
    (name, lease): (&str, i64),
    front: &[Value],
) -> anyhow::Result<crate::answer::Answer> {
    let links = [driver.pair.reference.link.clone(), driver.pair.ours.link.clone()];
    let asks = [ask.clone(), ask.to_ours(&driver.twins)?];
    let looks = [
        looks_for(driver, &key_of(name, lease)),
        looks_for(driver, &key_of(name, ours_of(driver, lease))).to_ours(&driver.twins)?,
    ];
    let mut calls = Vec::new();
    for ((ask, link), look) in asks.into_iter().zip(links).zip(looks) {
        let by = link.clone();
        let call = tokio::spawn(async move { ask.of(&by).await });
        // Each look takes as long as an answer does; a call that is over stands in no line.
        while !call.is_finished() && look.of(&link).await.number("/count") == 0 {}
        calls.push(call);
    }
    for value in front {
        clear(driver, value).await?;
    }
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.context("a call that waits")?);
    }
    let ours = answers.pop().context("our answer")?;
    let reference = answers.pop().context("the reference's answer")?;
    driver.judge(&ask, reference, ours).await
}

/// The key of who asks with this lease, whose id Go writes with its sign.
fn key_of(name: &str, lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{name}/{sign}{:x}", lease.unsigned_abs())
}

/// Asks whether a key is there.
fn looks_for(driver: &Driver, key: &str) -> Ask {
    let look = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let mut look = Ask::new(&method::RANGE, &look);
    (look.user, look.token) = driver.known.root();
    look
}

/// What we call a lease.
fn ours_of(driver: &Driver, lease: i64) -> i64 {
    driver.twins.ours(&lease.to_string()).parse().unwrap_or(lease)
}

/// Takes who stands there out of the line: with the lease, or as an unlock does.
async fn clear(driver: &mut Driver, value: &Value) -> anyhow::Result<()> {
    let lease = number_at(value, "/lease").unwrap_or(0);
    if lease != 0 && driver.chance.one_in(3) {
        let request = pb::LeaseRevokeRequest { id: lease };
        let answer = driver.ask_as_root(&method::LEASE_REVOKE, &request).await?;
        if answer.given().is_some() {
            driver.known.leases.remove(&lease);
            driver.known.claims.retain(|claim| claim.lease != lease);
        }
        return Ok(());
    }
    let key = bytes_at(value, "/key").into();
    driver.ask_as_root(&method::UNLOCK, &lock::UnlockRequest { key }).await.map(drop)
}

fn some_claim(driver: &mut Driver, is_election: bool) -> Claim {
    let kept = driver.known.claims.iter().filter(|claim| claim.is_election == is_election);
    let claims: Vec<Claim> = kept.rev().take(6).cloned().collect();
    driver.chance.of(&claims)
}

async fn unlock(driver: &mut Driver) -> anyhow::Result<()> {
    let mut key = some_claim(driver, false).key;
    if key.is_empty() || driver.chance.one_in(6) {
        key = driver.chance.of(&[b"l1/77".to_vec(), b"nobody".to_vec(), Vec::new()]);
    }
    driver.ask(&method::UNLOCK, &lock::UnlockRequest { key: key.into() }).await.map(drop)
}

/// The server makes a lease for it, whose end nobody shall wait for.
async fn claim_without_lease(driver: &mut Driver) -> anyhow::Result<()> {
    let answer = if driver.chance.one_in(2) {
        let request = lock::LockRequest { name: "auto".into(), lease: 0 };
        driver.ask_as_root(&method::LOCK, &request).await?
    } else {
        let (name, value) = ("auto-e".into(), "v".into());
        let request = election::CampaignRequest { name, lease: 0, value };
        driver.ask_as_root(&method::CAMPAIGN, &request).await?
    };
    let Some(given) = answer.given() else { return Ok(()) };
    let place = if given.get("leader").is_some() { "/leader/key" } else { "/key" };
    let key = bytes_at(given, place);
    let request = pb::RangeRequest { key: key.into(), ..Default::default() };
    let there = driver.ask_as_root(&method::RANGE, &request).await?;
    let id = there.number("/kvs/0/lease");
    driver.ask_as_root(&method::LEASE_REVOKE, &pb::LeaseRevokeRequest { id }).await.map(drop)
}

/// The key of a leader, at times of nobody.
fn leader_key(driver: &mut Driver) -> Option<election::LeaderKey> {
    let claim = some_claim(driver, true);
    if driver.chance.one_in(12) {
        return None;
    }
    let is_stale = driver.chance.one_in(8);
    Some(election::LeaderKey {
        name: claim.name.into(),
        key: claim.key.into(),
        rev: claim.revision + i64::from(is_stale),
        // Without one, etcd makes a lease that nobody uses.
        lease: if claim.lease == 0 { 999 } else { claim.lease },
    })
}

async fn proclaim(driver: &mut Driver) -> anyhow::Result<()> {
    let leader = leader_key(driver);
    let value = Bytes::from(driver.chance.below(4).to_string());
    driver.ask(&method::PROCLAIM, &election::ProclaimRequest { leader, value }).await.map(drop)
}

async fn resign(driver: &mut Driver) -> anyhow::Result<()> {
    let leader = leader_key(driver);
    driver.ask(&method::RESIGN, &election::ResignRequest { leader }).await.map(drop)
}

/// What an observer is told first, where there is a leader to tell of.
async fn observe(driver: &mut Driver) -> anyhow::Result<()> {
    let name = name(driver, true);
    if line(driver, &name).await?.is_empty() {
        return Ok(());
    }
    driver.ask(&method::OBSERVE, &election::LeaderRequest { name: name.into() }).await.map(drop)
}

/// Names that are none.
async fn nameless(driver: &mut Driver) -> anyhow::Result<()> {
    let request = election::LeaderRequest { name: Bytes::new() };
    driver.ask(&method::LEADER, &request).await.map(drop)
}
