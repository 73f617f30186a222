//! Draws requests about leases: long ones, so that none ends by itself, short ones that are revoked at
//! once, and now and then one whose end is waited for. Must not know what the answers ought to be.

use crate::TooSlow;
use crate::answer;
use crate::driver::{Ask, Driver};
use crate::method::{self, Method};
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use std::time::{Duration, Instant};

/// How many leases there are at most.
const LEASE_COUNT_MAX: usize = 6;
/// What the shortest lease lasts.
const SHORT: Duration = Duration::from_secs(2);
/// The one that is waited for until it ends, and how seldom that is drawn where it may be.
const ENDING_ID: i64 = 6_000;
const ENDING_SHARE: u64 = 8;

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    let id = driver.known.lease(&mut driver.chance);
    match driver.chance.below(40) {
        0..=9 if driver.known.leases.len() < LEASE_COUNT_MAX => grant(driver).await,
        10 => short(driver).await,
        11..=15 => revoke(driver, id).await,
        16..=22 => {
            let request = pb::LeaseKeepAliveRequest { id };
            driver.ask(&method::LEASE_KEEP_ALIVE, &request).await.map(drop)
        }
        23..=33 => {
            let request = pb::LeaseTimeToLiveRequest { id, keys: driver.chance.one_in(2) };
            driver.ask(&method::LEASE_TIME_TO_LIVE, &request).await.map(drop)
        }
        34 => keep_several(driver).await,
        35 | 36 => driver.ask(&method::LEASE_LEASES, &pb::LeaseLeasesRequest {}).await.map(drop),
        39 if driver.chance.one_in(ENDING_SHARE) => ending(driver).await,
        _ => refused(driver).await,
    }
}

/// Several leases on one stream: each request has its answer, in turn.
async fn keep_several(driver: &mut Driver) -> anyhow::Result<()> {
    let requests: Vec<pb::LeaseKeepAliveRequest> = (0..4)
        .map(|_| pb::LeaseKeepAliveRequest { id: driver.known.lease(&mut driver.chance) })
        .collect();
    driver.ask_several(&method::LEASE_KEEP_ALIVE, &requests).await
}

/// A lease that ends by itself, and takes its keys along. The one thing here that takes its time.
async fn ending(driver: &mut Driver) -> anyhow::Result<()> {
    let begun = Instant::now();
    let grant = pb::LeaseGrantRequest { ttl: 1, id: ENDING_ID };
    driver.ask_as_root(&method::LEASE_GRANT, &grant).await?;
    let keys = [&b"ending"[..], b"b"].map(Bytes::from_static);
    for key in keys.clone() {
        let put = pb::PutRequest { key, lease: ENDING_ID, ..Default::default() };
        ask_soon(driver, begun, &method::PUT, &put).await?;
    }
    let [first, _] = keys;
    until_gone(driver, first).await?;
    let request = pb::LeaseTimeToLiveRequest { id: ENDING_ID, keys: true };
    driver.ask_as_root(&method::LEASE_TIME_TO_LIVE, &request).await?;
    driver.ask_as_root(&method::LEASE_REVOKE, &pb::LeaseRevokeRequest { id: ENDING_ID }).await?;
    Ok(())
}

/// Asks both, as root, something of a lease that was asked for at `begun`, and that ends soon; whether it
/// was done.
///
/// # Errors
///
/// If the two differ; [`TooSlow`] if they may because of the time that has gone by.
async fn ask_soon(
    driver: &mut Driver,
    begun: Instant,
    method: &'static Method,
    message: &impl Message,
) -> anyhow::Result<bool> {
    let mut ask = Ask::new(method, message);
    (ask.user, ask.token) = driver.known.root();
    let for_us = ask.to_ours(&driver.twins)?;
    driver.trace(|| ask.shown());
    let links = [&driver.pair.reference.link, &driver.pair.ours.link];
    let (reference, ours) = tokio::join!(ask.of(links[0]), for_us.of(links[1]));
    let is_for_one = reference.given().is_some() != ours.given().is_some();
    if is_for_one && begun.elapsed() > SHORT / 2 {
        return Err(TooSlow.into());
    }
    Ok(driver.judge(&ask, reference, ours).await?.given().is_some())
}

/// A lease whose id is ours, theirs or taken, and that lasts.
async fn grant(driver: &mut Driver) -> anyhow::Result<()> {
    let id = i64::try_from(driver.chance.below(10))?;
    let id = if driver.chance.one_in(12) { chance_id(driver) } else { id };
    let ttl = driver.chance.of(&[100_000, 3_600_000, 9_000_000_000]);
    driver.known.has_named_lease |= id == 0;
    let request = pb::LeaseGrantRequest { ttl, id };
    let answer = driver.ask(&method::LEASE_GRANT, &request).await?;
    if let Some(id) = answer.given().and_then(|given| answer::number_at(given, "/ID")) {
        driver.known.leases.insert(id);
    }
    Ok(())
}

/// Returns when neither has this key any more.
async fn until_gone(driver: &Driver, key: Bytes) -> anyhow::Result<()> {
    let mut look = Ask::new(&method::RANGE, &pb::RangeRequest { key, ..Default::default() });
    (look.user, look.token) = driver.known.root();
    let for_us = look.to_ours(&driver.twins)?;
    // Each look takes as long as an answer does.
    while look.of(&driver.pair.reference.link).await.number("/count") > 0 {}
    while for_us.of(&driver.pair.ours.link).await.number("/count") > 0 {}
    Ok(())
}

fn chance_id(driver: &mut Driver) -> i64 {
    driver.chance.of(&[-1, i64::MAX, i64::MIN, 0])
}

/// What is not granted.
async fn refused(driver: &mut Driver) -> anyhow::Result<()> {
    let leases: Vec<i64> = driver.known.leases.iter().copied().collect();
    let id = if driver.chance.one_in(2) { driver.chance.of(&leases) } else { 55 };
    let ttl = driver.chance.of(&[9_000_000_001, i64::MAX]);
    let request = pb::LeaseGrantRequest { ttl, id };
    driver.ask(&method::LEASE_GRANT, &request).await.map(drop)
}

/// A lease that is too short to outlive what is said of it.
async fn short(driver: &mut Driver) -> anyhow::Result<()> {
    let id = 5_000;
    let ttl = driver.chance.of(&[0, 1, 2, -1, i64::MIN]);
    let begun = Instant::now();
    let granted =
        driver.ask_as_root(&method::LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id }).await?;
    if granted.given().is_none() {
        return Ok(());
    }
    let key = Bytes::from_static(b"c");
    let put = pb::PutRequest { key: key.clone(), lease: id, ..Default::default() };
    if !ask_soon(driver, begun, &method::PUT, &put).await? {
        return Ok(());
    }
    if begun.elapsed() > SHORT / 2 {
        // The machine is too slow for it: it may have ended already.
        return until_gone(driver, key).await;
    }
    let request = pb::LeaseRevokeRequest { id };
    ask_soon(driver, begun, &method::LEASE_REVOKE, &request).await.map(drop)
}

async fn revoke(driver: &mut Driver, id: i64) -> anyhow::Result<()> {
    let answer = driver.ask(&method::LEASE_REVOKE, &pb::LeaseRevokeRequest { id }).await?;
    if answer.given().is_some() {
        driver.known.leases.remove(&id);
        driver.known.claims.retain(|claim| claim.lease != id);
    }
    Ok(())
}
