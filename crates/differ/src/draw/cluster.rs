//! Draws changes of the members that harm nobody, and what operators ask of one member. A voter is not
//! added: it would leave etcd without a quorum. Must not know what the answers ought to be.

use super::{kv, watch};
use crate::answer::Answer;
use crate::driver::{Ask, Driver};
use crate::method;
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::downgrade_request::DowngradeAction;
use serde_json::json;
use sha2::{Digest, Sha256};

/// A backup comes in pieces of this.
const PIECE_BYTES_MAX: usize = 32 << 10;

/// Asks who they are: the same, by their ids.
pub(super) async fn introduce(driver: &mut Driver) -> anyhow::Result<()> {
    let answer = driver.ask(&method::MEMBER_LIST, &pb::MemberListRequest::default()).await?;
    let id = answer.text("/header/member_id").and_then(|text| text.parse().ok());
    driver.known.member_id = id.unwrap_or(0);
    Ok(())
}

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    let learner = driver.known.learner.unwrap_or(78);
    let id = driver.chance.of(&[0, 77, learner, learner]);
    match driver.chance.below(20) {
        0..=6 => {
            let linearizable = driver.chance.one_in(2);
            driver
                .ask(&method::MEMBER_LIST, &pb::MemberListRequest { linearizable })
                .await
                .map(drop)
        }
        7..=10 => add(driver).await,
        11..=14 => remove(driver, id).await,
        15 => {
            let id = driver.known.member_id;
            driver.ask(&method::MEMBER_PROMOTE, &pb::MemberPromoteRequest { id }).await.map(drop)
        }
        16 => driver.ask(&method::MEMBER_PROMOTE, &pb::MemberPromoteRequest { id }).await.map(drop),
        17 => remove_the_last(driver).await,
        _ => update(driver).await,
    }
}

async fn add(driver: &mut Driver) -> anyhow::Result<()> {
    // Nobody listens there. etcd makes ids of the address and the second: each is asked for once.
    driver.known.added_count += 1;
    let new = format!("http://127.0.0.1:{}", 20_000 + driver.known.added_count);
    let url = if driver.chance.one_in(6) { "http://127.0.0.1:12380" } else { new.as_str() };
    let wrong: [&[&str]; 4] = [&[], &["x"], &["ftp://127.0.0.1:9"], &["http://127.0.0.1"]];
    let is_wrong = driver.chance.one_in(5);
    let urls = if is_wrong { driver.chance.of(&wrong) } else { &[url][..] };
    let request = pb::MemberAddRequest {
        peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner: true,
    };
    let answer = driver.ask(&method::MEMBER_ADD, &request).await?;
    if let Some(id) = answer.text("/member/ID").and_then(|text| text.parse().ok()) {
        driver.known.learner = Some(id);
    }
    Ok(())
}

async fn remove(driver: &mut Driver, id: u64) -> anyhow::Result<()> {
    let answer = driver.ask(&method::MEMBER_REMOVE, &pb::MemberRemoveRequest { id }).await?;
    if answer.given().is_some() {
        driver.known.learner = None;
    }
    Ok(())
}

/// A cluster of nobody is refused.
async fn remove_the_last(driver: &mut Driver) -> anyhow::Result<()> {
    let id = driver.known.member_id;
    driver.ask(&method::MEMBER_REMOVE, &pb::MemberRemoveRequest { id }).await.map(drop)
}

async fn update(driver: &mut Driver) -> anyhow::Result<()> {
    // etcd makes a voter of a learner that is updated.
    let id = driver.chance.of(&[77, driver.known.member_id]);
    let url = "http://127.0.0.1:12380".to_owned();
    let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![url] };
    driver.ask(&method::MEMBER_UPDATE, &request).await.map(drop)
}

pub(super) async fn maintenance(driver: &mut Driver) -> anyhow::Result<()> {
    match driver.chance.below(21) {
        20 => snapshot(driver).await,
        0..=3 => driver.ask(&method::STATUS, &pb::StatusRequest {}).await.map(drop),
        4 => driver.ask(&method::DEFRAGMENT, &pb::DefragmentRequest {}).await.map(drop),
        5 => driver.ask(&method::HASH, &pb::HashRequest {}).await.map(drop),
        6..=8 => {
            let revision = driver.known.revision(&mut driver.chance);
            driver.ask(&method::HASH_KV, &pb::HashKvRequest { revision }).await.map(drop)
        }
        9 | 10 => {
            let target_id = driver.chance.of(&[0, 77, driver.known.member_id]);
            driver.ask(&method::MOVE_LEADER, &pb::MoveLeaderRequest { target_id }).await.map(drop)
        }
        11..=13 => downgrade(driver).await,
        14..=16 => {
            let action = driver.chance.of(&[AlarmAction::Get, AlarmAction::Deactivate]);
            let alarm = i32::try_from(driver.chance.below(3))?;
            let member_id = driver.chance.of(&[0, 77, driver.known.member_id]);
            let request = pb::AlarmRequest { action: action.into(), member_id, alarm };
            driver.ask(&method::ALARM, &request).await.map(drop)
        }
        _ => alarmed(driver).await,
    }
}

/// A backup to its end: while one is under way whose client takes nothing, etcd answers to no Defragment.
/// Its bytes are each system's own, and how they come is not.
async fn snapshot(driver: &mut Driver) -> anyhow::Result<()> {
    let (mut ask, message) = (Ask::new(&method::SNAPSHOT, &pb::SnapshotRequest {}), Bytes::new());
    (ask.user, ask.token) = driver.known.speaker(&mut driver.chance);
    let for_us = ask.to_ours(&driver.twins)?;
    let (token, our_token) = (ask.token.as_deref(), for_us.token.as_deref());
    let (reference, ours) = tokio::join!(
        driver.pair.reference.link.all(ask.method.grpc, token, message.clone()),
        driver.pair.ours.link.all(ask.method.grpc, our_token, message),
    );
    let [reference, ours] = [reference, ours]
        .map(|pieces| pieces.map_or_else(|answer| answer, |pieces| shape(&pieces)));
    driver.judge(&ask, reference, ours).await.map(drop)
}

/// How a backup came: in what pieces, whether each says what is left, and the last the digest of all.
fn shape(pieces: &[Bytes]) -> Answer {
    let decoded = pieces.iter().map(|piece| pb::SnapshotResponse::decode(piece.clone()));
    let pieces: Vec<pb::SnapshotResponse> = match decoded.collect() {
        Ok(pieces) => pieces,
        Err(error) => return Answer::Silence(format!("not a piece of a backup: {error}")),
    };
    let Some((end, pieces)) = pieces.split_last() else { return Answer::Given(json!([])) };
    let mut digest = Sha256::new();
    let mut left: u64 = pieces.iter().map(|piece| piece.blob.len() as u64).sum();
    let mut says_what_is_left = end.remaining_bytes == 0;
    let mut are_small = true;
    for piece in pieces {
        digest.update(&piece.blob);
        left -= piece.blob.len() as u64;
        says_what_is_left &= piece.remaining_bytes == left;
        are_small &= piece.blob.len() <= PIECE_BYTES_MAX;
    }
    let has_digest = *digest.finalize() == *end.blob;
    Answer::Given(json!({"left": says_what_is_left, "digest": has_digest, "small": are_small}))
}

async fn downgrade(driver: &mut Driver) -> anyhow::Result<()> {
    let actions = [DowngradeAction::Validate, DowngradeAction::Enable, DowngradeAction::Cancel];
    let action = driver.chance.of(&actions);
    // To be downgraded in earnest is nothing that etcd would come back from.
    let versions: &[&str] = match action {
        DowngradeAction::Validate => &["3.4.0", "3.5.0", "3.6.0", "3.3.0", "x", ""],
        DowngradeAction::Enable | DowngradeAction::Cancel => &["3.5.0", "3.6.0", "3.3.0", "x", ""],
    };
    let version = driver.chance.of(versions).to_owned();
    let request = pb::DowngradeRequest { action: action.into(), version };
    driver.ask(&method::DOWNGRADE, &request).await.map(drop)
}

/// Raises an alarm, asks for a few things under it, and takes it back.
async fn alarmed(driver: &mut Driver) -> anyhow::Result<()> {
    // No marker can be put under it.
    watch::settle_all(driver).await?;
    let alarm = pb::AlarmType::Nospace;
    let of = |action: AlarmAction, member_id| pb::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let member_id = driver.chance.of(&[77, driver.known.member_id]);
    driver.ask_as_root(&method::ALARM, &of(AlarmAction::Activate, member_id)).await?;
    driver.known.is_alarmed = true;
    if driver.chance.one_in(3) {
        driver.ask_as_root(&method::ALARM, &of(AlarmAction::Activate, member_id)).await?;
    }
    for _ in 0..driver.chance.below(10) {
        kv::under_alarm(driver).await?;
    }
    let request = pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    driver.ask_as_root(&method::ALARM, &request).await?;
    driver.page("GET", "/health", "").await?;
    driver.page("GET", "/health?exclude=NOSPACE", "").await?;
    driver.ask_as_root(&method::STATUS, &pb::StatusRequest {}).await?;
    driver.ask_as_root(&method::ALARM, &of(AlarmAction::Deactivate, member_id)).await?;
    driver.known.is_alarmed = false;
    Ok(())
}
