//! Streams of watches, one to each system, and what came on them. A stream's events are complete when
//! those of a marker, a key that is put for this alone, have come on both to every watch that sees it.
//! Must not know what is watched, nor why.

use crate::answer::{self, Answer};
use crate::events::Excess;
use crate::wire::{self, Link};
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The key that is put to mark a moment.
pub(crate) const MARKER: &[u8] = b"marker";
/// The id of each stream's watch of it.
const MARKER_ID: i64 = 1_000_000;
/// What an answer has instead of an id that is about no watch.
const NO_WATCH: i64 = -1;
/// What comes later than this does not come, on a machine however busy.
const PATIENCE: Duration = Duration::from_mins(1);
const PATH: &str = "/etcdserverpb.Watch/Watch";

/// All streams that are open.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) open: Vec<Stream>,
    /// What the last marker said.
    pub(crate) marker: u64,
}

/// A stream to each system.
pub(crate) struct Stream {
    reference: Side,
    ours: Side,
    created_count: u64,
    progress_count: u64,
    /// Whether ours was asked for progress and has not answered, by what it had answered when asked.
    owed_progress: Option<u64>,
    /// What was counted so far.
    pub(crate) counted: Settled,
    /// Watches that are there, by the reference's word.
    pub(crate) watches: BTreeMap<i64, Spec>,
    /// Ids that were used, whether or not they are free now.
    pub(crate) used: BTreeSet<i64>,
    /// Those of watches that are to say how far they are.
    pub(crate) notifying: BTreeSet<i64>,
}

/// What a watch was asked to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
    pub(crate) sees_puts: bool,
    /// The revision that it begins with; 0 is the next.
    pub(crate) start: i64,
    /// It began in the past, and whether it has caught up is not known.
    pub(crate) may_be_behind: bool,
    /// It is to say how far it is when nothing happens.
    pub(crate) wants_notices: bool,
}

impl Spec {
    /// Whether it is told of a marker that is put at `revision`.
    fn sees_marker(&self, revision: i64) -> bool {
        let is_within = match self.range_end.as_slice() {
            [] => self.key == MARKER,
            [0] => self.key.as_slice() <= MARKER,
            end => self.key.as_slice() <= MARKER && MARKER < end,
        };
        is_within && self.sees_puts && self.start <= revision
    }
}

/// How much a stream has told on both sides, and what the one told beyond the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) told: u64,
    pub(crate) excess: Excess,
}

struct Side {
    requests: mpsc::UnboundedSender<Bytes>,
    heard: watch::Receiver<Heard>,
    reader: JoinHandle<()>,
}

/// By watch: that it was created, each event, that it was canceled.
pub(crate) type Told = BTreeMap<i64, Vec<Value>>;

/// What came on one stream.
#[derive(Debug, Default)]
struct Heard {
    by_watch: Told,
    /// The revision of each watch's last event.
    reached: BTreeMap<i64, i64>,
    canceled: BTreeSet<i64>,
    last_created: i64,
    created_count: u64,
    progress_count: u64,
    /// How often each watch said of itself how far it is.
    notices: BTreeMap<i64, u64>,
    marker: u64,
    end: Option<Answer>,
}

impl Heard {
    fn note(&mut self, response: &WatchResponse) {
        let id = response.watch_id;
        if id == MARKER_ID {
            self.created_count += u64::from(response.created);
            let values = response.events.iter().filter_map(|event| event.kv.as_ref());
            for kv in values {
                let number = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
                self.marker = self.marker.max(number.unwrap_or(0));
            }
            return;
        }
        let is_progress = !response.created && !response.canceled && response.events.is_empty();
        if is_progress && !response.fragment {
            if id == NO_WATCH {
                self.progress_count += 1;
            } else {
                *self.notices.entry(id).or_default() += 1;
            }
            return;
        }
        let list = self.by_watch.entry(id).or_default();
        if response.created {
            self.created_count += 1;
            self.last_created = id;
            list.push(json!("created"));
        }
        for event in &response.events {
            list.push(serde_json::to_value(event).unwrap_or_default());
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            self.reached.insert(id, revision);
        }
        if response.canceled {
            self.canceled.insert(id);
            let (reason, revision) = (&response.cancel_reason, response.compact_revision);
            list.push(json!({"canceled": reason, "compact_revision": revision}));
        }
    }

    fn has_reached(&self, watch: i64, revision: i64) -> bool {
        let reached = self.reached.get(&watch).is_some_and(|reached| *reached >= revision);
        reached || self.canceled.contains(&watch)
    }
}

impl Side {
    /// Opens one, and asks for a first watch: etcd says nothing before it is asked something.
    async fn open(link: &Link, token: Option<&str>, first: &WatchRequest) -> Result<Self, Answer> {
        let (requests, mut queue) = mpsc::unbounded_channel();
        // The queue is there, if only just.
        let _ = requests.send(first.encode_to_vec().into());
        let asked = futures_util::stream::poll_fn(move |context| queue.poll_recv(context));
        let mut messages = link.stream(PATH, token, asked).await?;
        let (tell, heard) = watch::channel(Heard::default());
        let reader = tokio::spawn(async move {
            loop {
                // A stream may be silent for as long as nothing happens.
                let message = match messages.message().await {
                    Ok(Some(message)) => message,
                    Ok(None) => break tell.send_modify(|heard| heard.end = Some(wire::the_end())),
                    Err(status) => {
                        break tell.send_modify(|heard| heard.end = Some(wire::refusal(&status)));
                    }
                };
                if let Ok(response) = WatchResponse::decode(message) {
                    tell.send_modify(|heard| heard.note(&response));
                }
            }
        });
        Ok(Self { requests, heard, reader })
    }

    fn say(&self, request: &WatchRequest) {
        // A stream that has ended shows in what is heard.
        let _ = self.requests.send(request.encode_to_vec().into());
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream {
    /// Opens one to each, with a watch of the marker.
    pub(crate) async fn open(links: [&Link; 2], tokens: [Option<&str>; 2]) -> Result<Self, Answer> {
        let marker = RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::from_static(MARKER),
            watch_id: MARKER_ID,
            ..Default::default()
        });
        let first = WatchRequest { request_union: Some(marker) };
        let (reference, ours) = tokio::join!(
            Side::open(links[0], tokens[0], &first),
            Side::open(links[1], tokens[1], &first)
        );
        let mut stream = Self {
            reference: reference?,
            ours: ours?,
            created_count: 1,
            progress_count: 0,
            owed_progress: None,
            counted: Settled::default(),
            watches: BTreeMap::new(),
            used: BTreeSet::new(),
            notifying: BTreeSet::new(),
        };
        stream.wait(|reference, ours| reference.created_count + ours.created_count == 2).await;
        Ok(stream)
    }

    fn say(&self, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.reference.say(&request);
        self.ours.say(&request);
    }

    /// Waits until this holds of both; says whether it came to that.
    async fn wait(&mut self, mut holds: impl FnMut(&Heard, &Heard) -> bool) -> bool {
        let waiting = async {
            loop {
                // What comes from here on wakes us.
                let is_so = {
                    let reference = self.reference.heard.borrow_and_update();
                    holds(&reference, &self.ours.heard.borrow_and_update())
                };
                if is_so || self.has_ended() {
                    return is_so;
                }
                tokio::select! {
                    changed = self.reference.heard.changed() => if changed.is_err() { return false },
                    changed = self.ours.heard.changed() => if changed.is_err() { return false },
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or(false)
    }

    /// Whether one of the two streams has ended.
    pub(crate) fn has_ended(&self) -> bool {
        [&self.reference, &self.ours].iter().any(|side| side.heard.borrow().end.is_some())
    }

    /// Asks for a watch, and waits until both have said something about it; its id by the reference,
    /// be it that the watch ends at once because of a compaction: when that is told is a matter of time.
    pub(crate) async fn create(&mut self, request: WatchCreateRequest) -> Option<i64> {
        self.created_count += 1;
        let count = self.created_count;
        self.say(RequestUnion::CreateRequest(request));
        let came = self
            .wait(|reference, ours| reference.created_count >= count && ours.created_count >= count)
            .await;
        let id = self.reference.heard.borrow().last_created;
        (came && id != NO_WATCH).then_some(id)
    }

    /// Says nothing in particular, which nobody answers.
    pub(crate) fn say_nothing(&self) {
        let request = WatchRequest::default();
        self.reference.say(&request);
        self.ours.say(&request);
    }

    /// A watch that says of itself how far it is, and is so far already.
    pub(crate) fn notifier(&self, now: i64) -> Option<i64> {
        let mut watches = self.watches.iter();
        watches.find(|(_, spec)| spec.wants_notices && spec.start <= now).map(|(id, _)| *id)
    }

    /// Waits until a watch has said of itself how far it is, in both. What each said, if not.
    pub(crate) async fn notice(&mut self, id: i64) -> Result<(), [String; 2]> {
        let count = |heard: &Heard| heard.notices.get(&id).copied().unwrap_or(0);
        let before = [count(&self.reference.heard.borrow()), count(&self.ours.heard.borrow())];
        let is_more = |reference: &Heard, ours: &Heard| {
            count(reference) > before[0] && count(ours) > before[1]
        };
        if self.wait(is_more).await {
            return Ok(());
        }
        let heard = [&self.reference, &self.ours].map(|side| count(&side.heard.borrow()));
        Err(heard.map(|count| format!("notices of watch {id}: {count}, before {before:?}")))
    }

    /// Watches that say how far they are, and were not asked to.
    fn has_strange_notices(&self, heard: &Heard) -> bool {
        let is_asked = |id: &i64| self.notifying.contains(id);
        heard.notices.keys().any(|id| !is_asked(id))
    }

    /// Asks for the end of a watch, and waits for it if there is such a watch.
    pub(crate) async fn cancel(&mut self, id: i64) {
        self.say(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id }));
        if self.watches.remove(&id).is_some() {
            self.wait(|reference, ours| {
                reference.canceled.contains(&id) && ours.canceled.contains(&id)
            })
            .await;
        }
    }

    /// Asks how far it is.
    pub(crate) fn progress(&mut self) {
        self.progress_count += 1;
        let answered = self.ours.heard.borrow().progress_count;
        self.owed_progress.get_or_insert(answered);
        self.say(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// Waits until both have told the same, and everything up to the marker, which is at `now`;
    /// `behind` names watches with the revision that each has to reach. `same` says what the one told
    /// beyond the other, if they told the same but for that. What each told, as far as they differ; or
    /// how much.
    pub(crate) async fn settle(
        &mut self,
        (marker, now): (u64, i64),
        behind: &[(i64, i64)],
        same: impl Fn(&Told, &Told) -> Option<Excess>,
    ) -> Result<Settled, [String; 2]> {
        let progress = self.progress_count;
        // Ours answers when every watch is as far, be it to come, and several requests at once.
        let is_to_come = self.watches.values().any(|spec| spec.start > now + 1);
        let owed = self.owed_progress.filter(|_| !is_to_come);
        // etcd tells the watches of one event in any order.
        let seers = self.watches.iter().filter(|(_, spec)| spec.sees_marker(now));
        let mut reached: Vec<(i64, i64)> = seers.map(|(id, _)| (*id, now)).collect();
        reached.extend(behind);
        let is_whole = |heard: &Heard| {
            heard.marker >= marker
                && reached.iter().all(|(watch, revision)| heard.has_reached(*watch, *revision))
        };
        let mut excess = None;
        let came = self
            .wait(|reference, ours| {
                excess = None;
                if is_whole(reference)
                    && is_whole(ours)
                    && reference.progress_count >= progress
                    && owed.is_none_or(|answered| ours.progress_count > answered)
                {
                    excess = same(&reference.by_watch, &ours.by_watch);
                }
                excess.is_some()
            })
            .await;
        let answered = self.ours.heard.borrow().progress_count;
        self.owed_progress = self.owed_progress.filter(|before| *before == answered);
        let (reference, ours) = (self.reference.heard.borrow(), self.ours.heard.borrow());
        for id in &reference.canceled {
            self.watches.remove(id);
        }
        for (id, spec) in &mut self.watches {
            spec.may_be_behind &= !behind.iter().any(|(watch, _)| watch == id);
        }
        let is_strange = self.has_strange_notices(&reference) || self.has_strange_notices(&ours);
        if let (true, Some(excess), false) = (came, excess, is_strange) {
            let told = reference.by_watch.values().map(Vec::len).sum::<usize>();
            return Ok(Settled { told: u64::try_from(told).unwrap_or(0), excess });
        }
        Err([(&reference, &ours), (&ours, &reference)].map(|(heard, other)| {
            let Heard { marker, progress_count, notices, end, .. } = &**heard;
            let told = difference(&heard.by_watch, &other.by_watch);
            let missing: Vec<_> = reached
                .iter()
                .filter(|(id, revision)| !heard.has_reached(*id, *revision))
                .collect();
            format!(
                "marker {marker}, progress {progress_count}, notices {notices:?}, end {end:?}, \
                 not reached {missing:?}, of watches {told}"
            )
        }))
    }
}

/// What the one told and not the other, from the first thing on that differs.
fn difference(one: &Told, other: &Told) -> String {
    let mut parts = Vec::new();
    let ids: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let none = Vec::new();
    for id in ids {
        let mine = one.get(id).unwrap_or(&none);
        let theirs = other.get(id).unwrap_or(&none);
        if mine != theirs {
            // Leases that each has named itself are not what differs.
            let of = |event: &Value| {
                let mut event = event.clone();
                answer::without(&mut event, "lease");
                event
            };
            let pairs = mine.iter().zip(theirs);
            let same = pairs.take_while(|(mine, theirs)| of(mine) == of(theirs)).count();
            let rest = mine.get(same..).unwrap_or_default();
            let shown: Vec<String> = rest.iter().take(4).map(ToString::to_string).collect();
            parts.push(format!("{id} from {same} on of {}: {shown:?}", mine.len()));
        }
    }
    parts.join("; ")
}
