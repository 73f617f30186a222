//! Draws streams of watches and what is asked on them, and waits until what both told is complete.
//! Must not know what they ought to be told.

use super::kv;
use crate::driver::Driver;
use crate::method;
use crate::watches::{MARKER, Spec, Stream, Told};
use crate::{events, explained};
use anyhow::bail;
use bytes::Bytes;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::watch_create_request::FilterType;
use std::ops::Range;

/// How many streams are open at once.
const STREAM_COUNT_MAX: usize = 4;
/// How many watches a stream has at most.
const WATCH_COUNT_MAX: usize = 12;

pub(super) async fn step(driver: &mut Driver) -> anyhow::Result<()> {
    let open = driver.streams.open.len();
    let place = usize::try_from(driver.chance.below(u64::try_from(open)?))?;
    match driver.chance.below(40) {
        0..=3 if open < STREAM_COUNT_MAX => open_stream(driver).await,
        0..=24 if open > 0 => create(driver, place).await,
        25..=28 if open > 0 => cancel(driver, place).await,
        29..=31 if open > 0 => {
            progress(driver, place);
            Ok(())
        }
        32 if open > 0 => close(driver, place).await,
        33..=36 => settle_all(driver).await,
        37 => probe(driver).await,
        38 if open > 0 => notice(driver, place).await,
        _ if open == 0 => open_stream(driver).await,
        _ => Ok(()),
    }
}

async fn open_stream(driver: &mut Driver) -> anyhow::Result<()> {
    let (_, token) = driver.known.root();
    let ours = token.as_deref().map(|token| driver.twins.ours(token).to_owned());
    let links = [&driver.pair.reference.link, &driver.pair.ours.link];
    match Stream::open(links, [token.as_deref(), ours.as_deref()]).await {
        Ok(stream) => driver.streams.open.push(stream),
        Err(answer) => bail!("a stream of watches could not be opened: {answer}"),
    }
    driver.trace(|| "a stream of watches".to_owned());
    driver.count("Watch/Watch: stream");
    Ok(())
}

fn filters(driver: &mut Driver) -> Vec<i32> {
    let [no_put, no_delete] = [FilterType::Noput, FilterType::Nodelete].map(i32::from);
    match driver.chance.below(12) {
        0 => vec![no_put],
        1 => vec![no_delete],
        2 => vec![no_delete, no_delete],
        3 => vec![no_put, no_delete],
        // A number that means nothing.
        4 => vec![7],
        _ => Vec::new(),
    }
}

fn request(driver: &mut Driver) -> pb::WatchCreateRequest {
    let (chance, known) = (&mut driver.chance, &driver.known);
    let key = kv::key(chance);
    let range_end = kv::range_end(chance, &key);
    // What etcd makes of less than nothing depends on the time: decision 13.
    let start_revision = if chance.one_in(2) { known.revision(chance).max(0) } else { 0 };
    let mut request = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: chance.one_in(5),
        filters: filters(driver),
        prev_kv: driver.chance.one_in(2),
        watch_id: 0,
        fragment: driver.chance.one_in(4),
    };
    if sees_nothing(&request) {
        // Nothing would tell that it has caught up.
        request.start_revision = 0;
    }
    request
}

async fn create(driver: &mut Driver, place: usize) -> anyhow::Result<()> {
    let mut request = request(driver);
    let wanted = i64::try_from(driver.chance.below(20))?;
    let (by_id, again) = (driver.chance.one_in(6), driver.chance.one_in(4));
    let (revision, compacted) = (driver.known.revision, driver.known.compacted);
    let Some(stream) = driver.streams.open.get_mut(place) else { return Ok(()) };
    if stream.watches.len() >= WATCH_COUNT_MAX {
        return Ok(());
    }
    // An id that a compaction has ended is free again here, and is not in etcd.
    let is_taken = stream.watches.contains_key(&wanted);
    let is_meant = if again { is_taken } else { !stream.used.contains(&wanted) };
    if by_id && wanted > 0 && is_meant {
        request.start_revision = 0;
        request.watch_id = if wanted == 19 { -19 } else { wanted };
    }
    // Such a watch ends at once; when etcd says so is a matter of time.
    let is_compacted = (1..compacted).contains(&request.start_revision);
    let spec = spec(&request, revision);
    let is_twice = request.watch_id > 0 && is_taken;
    let shown = format!("watch {request:?} on stream {place}");
    let came = stream.create(request).await;
    if let (Some(id), false) = (came, is_twice) {
        stream.used.insert(id);
        if spec.wants_notices {
            stream.notifying.insert(id);
        }
        if !is_compacted {
            stream.watches.insert(id, spec);
        }
    }
    if by_id {
        stream.say_nothing();
    }
    driver.trace(|| format!("{shown}: {came:?}"));
    driver.count("Watch/Watch: create");
    Ok(())
}

/// What a watch is asked to be, when the store is at `revision`.
fn spec(request: &pb::WatchCreateRequest, revision: i64) -> Spec {
    Spec {
        key: if request.key.is_empty() { vec![0] } else { request.key.to_vec() },
        range_end: request.range_end.to_vec(),
        sees_puts: !request.filters.contains(&i32::from(FilterType::Noput)),
        start: request.start_revision,
        may_be_behind: (1..=revision).contains(&request.start_revision),
        wants_notices: request.progress_notify,
    }
}

fn sees_nothing(request: &pb::WatchCreateRequest) -> bool {
    let filters = [FilterType::Noput, FilterType::Nodelete].map(i32::from);
    filters.iter().all(|filter| request.filters.contains(filter))
}

async fn cancel(driver: &mut Driver, place: usize) -> anyhow::Result<()> {
    let unknown = driver.chance.one_in(5);
    if !unknown {
        // Whether an event still comes in front of the end is a matter of time.
        settle(driver, place..place + 1).await?;
    }
    let Some(stream) = driver.streams.open.get_mut(place) else { return Ok(()) };
    let ids: Vec<i64> = stream.watches.keys().copied().collect();
    let id = if unknown { 777 } else { driver.chance.of(&ids) };
    if unknown || !ids.is_empty() {
        stream.cancel(id).await;
    }
    driver.trace(|| format!("the end of watch {id} on stream {place}"));
    driver.count("Watch/Watch: cancel");
    Ok(())
}

/// Asks how far a stream is.
fn progress(driver: &mut Driver, place: usize) {
    if let Some(stream) = driver.streams.open.get_mut(place) {
        stream.progress();
    }
    driver.trace(|| format!("progress of stream {place}"));
    driver.count("Watch/Watch: progress");
}

/// Waits until a watch says of itself how far it is.
async fn notice(driver: &mut Driver, place: usize) -> anyhow::Result<()> {
    // Whoever is behind says nothing.
    settle(driver, place..place + 1).await?;
    let now = driver.known.revision;
    let Some(stream) = driver.streams.open.get_mut(place) else { return Ok(()) };
    let Some(id) = stream.notifier(now) else { return Ok(()) };
    let told = stream.notice(id).await;
    driver.trace(|| format!("a notice of watch {id} on stream {place}"));
    driver.count("Watch/Watch: notice");
    match told {
        Ok(()) => Ok(()),
        Err(texts) => driver.differ("how far a watch is", &texts),
    }
}

async fn close(driver: &mut Driver, place: usize) -> anyhow::Result<()> {
    settle(driver, place..place + 1).await?;
    driver.trace(|| format!("the end of stream {place}"));
    if place < driver.streams.open.len() {
        driver.streams.open.remove(place);
    }
    Ok(())
}

/// Makes the streams end, when all that they ought to tell was told.
pub(super) async fn close_all(driver: &mut Driver) -> anyhow::Result<()> {
    settle_all(driver).await?;
    driver.streams.open.clear();
    Ok(())
}

/// Waits until each stream has told everything.
pub(super) async fn settle_all(driver: &mut Driver) -> anyhow::Result<()> {
    settle(driver, 0..driver.streams.open.len()).await
}

/// Puts, and deletes where only that is seen, what watches that may be behind see, and marks the moment;
/// then waits until both have told all of it on all these streams. One moment for all: what is put for
/// one stream is seen by the others.
async fn settle(driver: &mut Driver, places: Range<usize>) -> anyhow::Result<()> {
    let mut reached = Vec::new();
    for place in places.clone() {
        reached.push(show_those_behind(driver, place).await?);
    }
    if places.is_empty() {
        return Ok(());
    }
    driver.streams.marker += 1;
    let marker = driver.streams.marker;
    let put = pb::PutRequest {
        key: Bytes::from_static(MARKER),
        value: marker.to_string().into(),
        ..Default::default()
    };
    driver.ask_as_root(&method::PUT, &put).await?;
    // From behind: one that differs is taken out.
    for (place, reached) in places.zip(reached).rev() {
        settle_one(driver, place, &reached).await?;
    }
    Ok(())
}

/// Does something that each watch of a stream which may be behind is told of: each with its revision.
async fn show_those_behind(driver: &mut Driver, place: usize) -> anyhow::Result<Vec<(i64, i64)>> {
    let Some(stream) = driver.streams.open.get(place) else { return Ok(Vec::new()) };
    let behind: Vec<(i64, Spec)> = stream
        .watches
        .iter()
        .filter(|(_, spec)| spec.may_be_behind)
        .map(|(id, spec)| (*id, spec.clone()))
        .collect();
    let mut reached = Vec::new();
    for (id, spec) in behind {
        let key = Bytes::from(spec.key);
        let put = pb::PutRequest { key: key.clone(), ..Default::default() };
        driver.ask_as_root(&method::PUT, &put).await?;
        if !spec.sees_puts {
            let deletion = pb::DeleteRangeRequest { key, ..Default::default() };
            driver.ask_as_root(&method::DELETE_RANGE, &deletion).await?;
        }
        reached.push((id, driver.known.revision));
    }
    Ok(reached)
}

/// Waits until both have told everything on a stream, the last marker included.
async fn settle_one(
    driver: &mut Driver,
    place: usize,
    reached: &[(i64, i64)],
) -> anyhow::Result<()> {
    let marker = driver.streams.marker;
    let Some(stream) = driver.streams.open.get_mut(place) else { return Ok(()) };
    let (twins, known) = (&driver.twins, &driver.known);
    let same = |reference: &Told, ours: &Told| events::compare(twins, known, reference, ours);
    match stream.settle((marker, known.revision), reached, same).await {
        Ok(settled) => {
            driver.report.event_count += settled.told.saturating_sub(stream.counted.told);
            let excess = settled.excess - stream.counted.excess;
            stream.counted = settled;
            driver.report.explain_events(explained::LOST_DELETIONS, excess.deletions);
            driver.report.explain_events(explained::LATE_PREVIOUS, excess.previous);
            Ok(())
        }
        Err(texts) => {
            driver.streams.open.remove(place);
            driver.differ(&format!("what watches tell on stream {place}"), &texts)
        }
    }
}

/// One watch as somebody who is drawn: what is said first of it.
async fn probe(driver: &mut Driver) -> anyhow::Result<()> {
    let create = request(driver);
    let create_request = pb::watch_request::RequestUnion::CreateRequest(create);
    let message = pb::WatchRequest { request_union: Some(create_request) };
    driver.ask(&method::WATCH, &message).await.map(drop)
}
