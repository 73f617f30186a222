//! Draws requests about leases: long ones, so that none ends by itself, and short ones that are
//! revoked at once. Must not know what the answers ought to be.

use crate::answer;
use crate::driver::Driver;
use crate::method;
use quorate_etcd_api::etcdserverpb as pb;

/// How many leases there are at most.
const LEASE_COUNT_MAX: usize = 6;

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
        34..=36 => driver.ask(&method::LEASE_LEASES, &pb::LeaseLeasesRequest {}).await.map(drop),
        _ => refused(driver).await,
    }
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
    let granted =
        driver.ask_as_root(&method::LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id }).await?;
    if granted.given().is_some() {
        let key = super::kv::key(&mut driver.chance);
        let put = pb::PutRequest { key, lease: id, ..Default::default() };
        driver.ask_as_root(&method::PUT, &put).await?;
        driver.ask_as_root(&method::LEASE_REVOKE, &pb::LeaseRevokeRequest { id }).await?;
    }
    Ok(())
}

async fn revoke(driver: &mut Driver, id: i64) -> anyhow::Result<()> {
    let answer = driver.ask(&method::LEASE_REVOKE, &pb::LeaseRevokeRequest { id }).await?;
    if answer.given().is_some() {
        driver.known.leases.remove(&id);
        driver.known.claims.retain(|claim| claim.lease != id);
    }
    Ok(())
}
