//! Clients that watch the store: each has a stream on some node, quick or slow, loses it when the
//! node goes away, and resumes on another where it was. What they are told is judged; a deliberate
//! fault between store and client shows that the judge bites.

use super::reference::Reference;
use crate::application::Complaint;
use crate::judge::watch::{Wanted, WatchJudge};
use crate::rng::Rng;
use bytes::Bytes;
use quorate_core::NodeId;
use quorate_kv::Reader;
use quorate_kv::watch::{
    EventKind, Pulled, WatchCreateRequest, WatchFilter, WatchHub, WatchLimits, WatchResponse,
    WatchStream,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a pull may read history in vain before the client has other things to do.
const BUSY_COUNT_MAX: u64 = 1_000;
/// How often for each revision at the end, where history is read in pieces of a single row.
const BUSY_COUNT_PER_REVISION: u64 = 100;

/// What is wrong with what watch clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// Bookmarks overtake the events that they cover.
    ProgressAheadOfEvents,
    /// A deletion at the revision where a watch begins anew is left out.
    LosesFirstDeletion,
    /// The events of one revision come in two responses.
    SplitsRevisions,
    /// After a snapshot was installed, the last events come again.
    ReplaysAfterSnapshot,
    /// A watch that is behind misses an event.
    SlowLosesEvent,
    /// What the key held before is that of the event before.
    WrongPrevious,
}

/// The clients, and the hubs of all nodes.
pub(super) struct Watchers {
    clients: Vec<Client>,
    hubs: BTreeMap<NodeId, Site>,
    limits: WatchLimits,
    pub(super) fault: Option<WatchFault>,
}

/// A node's store, and the watches on it.
struct Site {
    hub: WatchHub,
    reader: Reader,
    life: u64,
}

/// One client, with one stream and some watches on it.
struct Client {
    stream: Option<Attached>,
    watches: Vec<Watch>,
    pace: Duration,
    appetite: u64,
    restored_count: u64,
}

struct Attached {
    node: NodeId,
    life: u64,
    stream: WatchStream,
}

struct Watch {
    judge: WatchJudge,
    request: WatchCreateRequest,
    /// The stream has it; what is said of all watches is said of this one too.
    is_created: bool,
    /// The last events that it was told, for a fault that repeats them.
    last: Option<WatchResponse>,
    /// Nothing but its creation was told since it began anew.
    is_fresh: bool,
}

impl Watchers {
    pub(super) fn draw(count: usize, rng: &mut Rng) -> Self {
        let clients = (0..count).map(|_| Client::draw(rng)).collect();
        Self { clients, hubs: BTreeMap::new(), limits: draw_limits(rng), fault: None }
    }

    pub(super) const fn count(&self) -> usize {
        self.clients.len()
    }

    /// The events that all clients were told.
    pub(super) fn told_count(&self) -> u64 {
        let watches = self.clients.iter().flat_map(|client| &client.watches);
        watches.map(|watch| watch.judge.told_count()).sum()
    }

    /// A node starts with this store: whoever watched the one before lost his stream.
    pub(super) fn started(&mut self, node: NodeId, reader: &Reader) {
        let life = self.hubs.get(&node).map_or(0, |hub| hub.life + 1);
        let hub = WatchHub::new(reader, self.limits, || {});
        self.hubs.insert(node, Site { hub, reader: reader.clone(), life });
    }

    /// A client looks for what it is told; returns how long it waits before it looks again.
    pub(super) fn look(
        &mut self,
        client: usize,
        up: &[NodeId],
        reference: &mut Reference,
        rng: &mut Rng,
    ) -> Result<Duration, Complaint> {
        let Some(client) = self.clients.get_mut(client) else { return Ok(Duration::MAX) };
        client.stay_or_leave(&self.hubs, up, rng);
        client.attach(&self.hubs, up, rng);
        client.route(&self.hubs, rng)?;
        client.ask(rng);
        let appetite = rng.below(client.appetite) + 1;
        client.read(appetite, BUSY_COUNT_MAX, self.fault, reference)?;
        let pace = client.pace;
        let watches = self.clients.iter().flat_map(|client| &client.watches);
        if let Some(lowest) = watches.map(|watch| watch.judge.next()).min() {
            reference.history.forget_before(lowest);
        }
        Ok(pace)
    }

    /// The world is quiet: every client is told everything, by any node that knows everything. A
    /// world without hope may have none.
    pub(super) fn finish(&mut self, reference: &Reference) -> Result<(), Complaint> {
        let newest = reference.history.newest();
        let knows_all = |hub: &Site| hub.reader.revision().get() == newest;
        let hubs = self.hubs.iter().filter(|(_, hub)| knows_all(hub));
        let nodes: Vec<NodeId> = hubs.map(|(node, _)| *node).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let mut rng = Rng::new(0);
        for client in &mut self.clients {
            client.leave_dead(&self.hubs, &nodes);
            client.attach(&self.hubs, &nodes, &mut rng);
            client.catch_up(&self.hubs)?;
            let busy_count_max = BUSY_COUNT_MAX + BUSY_COUNT_PER_REVISION * newest;
            client.read(u64::MAX, busy_count_max, self.fault, reference)?;
            for watch in &client.watches {
                watch.judge.finish(&reference.history)?;
            }
        }
        Ok(())
    }
}

/// Mostly small: watchers fall behind, history comes in pieces.
fn draw_limits(rng: &mut Rng) -> WatchLimits {
    WatchLimits {
        stream_pending_bytes_max: rng.index(4_000),
        pending_bytes_max: rng.index(20_000),
        piece_rows_max: rng.index(40) + 1,
        piece_bytes_max: rng.index(4_000) + 1,
        piece_watches_max: rng.index(4) + 1,
        fragment_bytes_max: rng.index(1_000) + 1,
        watches_max: 1_000,
        keys_bytes_max: 1 << 20,
    }
}

impl Client {
    fn draw(rng: &mut Rng) -> Self {
        let pace_max_ms = rng.pick(&[20, 200, 5_000]).copied().unwrap_or(200);
        let pace = rng.duration(Duration::from_millis(1), Duration::from_millis(pace_max_ms));
        let watch_count = rng.between(1, 3);
        Self {
            stream: None,
            watches: (0..watch_count).map(|_| Watch::draw(rng)).collect(),
            pace,
            appetite: rng.pick(&[1, 5, 100]).copied().unwrap_or(5),
            restored_count: 0,
        }
    }

    fn stay_or_leave(&mut self, hubs: &BTreeMap<NodeId, Site>, up: &[NodeId], rng: &mut Rng) {
        self.leave_dead(hubs, up);
        if rng.below(100) == 0 {
            self.leave();
        }
    }

    fn leave_dead(&mut self, hubs: &BTreeMap<NodeId, Site>, up: &[NodeId]) {
        let is_alive = self.stream.as_ref().is_some_and(|at| {
            up.contains(&at.node) && hubs.get(&at.node).is_some_and(|hub| hub.life == at.life)
        });
        if !is_alive {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.stream = None;
        self.watches.iter_mut().for_each(|watch| watch.judge.lose_stream());
    }

    /// Without a stream, takes one on a node that is up, and resumes every watch where it was.
    fn attach(&mut self, hubs: &BTreeMap<NodeId, Site>, up: &[NodeId], rng: &mut Rng) {
        if self.stream.is_some() {
            return;
        }
        let Some(node) = rng.pick(up).copied() else { return };
        let Some(hub) = hubs.get(&node) else { return };
        let mut stream = hub.hub.stream(|| {});
        for (id, watch) in (1..).zip(&mut self.watches) {
            stream.create(&watch.resumed(id));
        }
        self.stream = Some(Attached { node, life: hub.life, stream });
    }

    /// The hub of the client's node goes on, mostly.
    fn route(&self, hubs: &BTreeMap<NodeId, Site>, rng: &mut Rng) -> Result<(), Complaint> {
        if rng.below(4) == 0 {
            return Ok(());
        }
        self.hub(hubs).map_or(Ok(()), |hub| hub.advance().map(drop).map_err(broken))
    }

    fn catch_up(&self, hubs: &BTreeMap<NodeId, Site>) -> Result<(), Complaint> {
        let Some(hub) = self.hub(hubs) else { return Ok(()) };
        while hub.advance().map_err(broken)? {}
        Ok(())
    }

    fn hub<'a>(&self, hubs: &'a BTreeMap<NodeId, Site>) -> Option<&'a WatchHub> {
        hubs.get(&self.stream.as_ref()?.node).map(|hub| &hub.hub)
    }

    /// Asks for progress now and then.
    fn ask(&mut self, rng: &mut Rng) {
        let Some(at) = &mut self.stream else { return };
        match rng.below(20) {
            0 => at.stream.tick(),
            1 => at.stream.request_progress(),
            _ => {}
        }
    }

    /// Takes so many responses at most.
    fn read(
        &mut self,
        count_max: u64,
        busy_count_max: u64,
        fault: Option<WatchFault>,
        reference: &Reference,
    ) -> Result<(), Complaint> {
        let (mut count, mut busy_count) = (0, 0);
        while count < count_max && busy_count < busy_count_max {
            let Some(at) = &mut self.stream else { return Ok(()) };
            match at.stream.pull().map_err(broken)? {
                Pulled::Response(response) => {
                    count += 1;
                    for response in self.distort(fault, response, reference) {
                        self.take(&response, reference)?;
                    }
                }
                Pulled::Busy => busy_count += 1,
                Pulled::Idle => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(&mut self, response: &WatchResponse, reference: &Reference) -> Result<(), Complaint> {
        let id = response.watch_id;
        if response.created && response.canceled {
            return Err(Complaint(format!("a watch is refused: {}", response.cancel_reason)));
        }
        for (own, watch) in (1..).zip(&mut self.watches) {
            // What is said of all was said before a watch that is asked for anew was there.
            if own != id && !(id == -1 && watch.is_created) {
                continue;
            }
            watch.is_created |= response.created;
            watch.judge.told(&reference.history, response)?;
            watch.is_fresh &= response.events.is_empty();
            if response.canceled
                && let Some(at) = &mut self.stream
            {
                at.stream.create(&watch.resumed(own));
            }
        }
        Ok(())
    }

    /// What a client is told through this fault.
    fn distort(
        &mut self,
        fault: Option<WatchFault>,
        mut response: WatchResponse,
        reference: &Reference,
    ) -> Vec<WatchResponse> {
        let Some(fault) = fault else { return vec![response] };
        let is_behind = self.stream.as_ref().is_some_and(|at| at.stream.behind_count() > 0);
        let has_restored = std::mem::replace(&mut self.restored_count, reference.restored_count)
            != reference.restored_count;
        let place = usize::try_from(response.watch_id - 1).unwrap_or(usize::MAX);
        let Some(watch) = self.watches.get_mut(place) else { return vec![response] };
        let last = watch.last.clone();
        if !response.events.is_empty() {
            watch.last = Some(response.clone());
        }
        match fault {
            WatchFault::ProgressAheadOfEvents if !response.events.is_empty() => {
                let bookmark = WatchResponse { events: Vec::new(), ..response.clone() };
                return vec![bookmark, response];
            }
            WatchFault::LosesFirstDeletion if watch.is_fresh => {
                let (next, deletion) = (watch.judge.next(), i32::from(EventKind::Delete));
                response.events.retain(|event| {
                    let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                    event.kind != deletion || u64::try_from(at) != Ok(next)
                });
            }
            WatchFault::SplitsRevisions if response.events.len() > 1 => {
                let events = response.events.split_off(1);
                return vec![response.clone(), WatchResponse { events, ..response }];
            }
            WatchFault::ReplaysAfterSnapshot if has_restored => {
                return last.into_iter().chain([response]).collect();
            }
            WatchFault::SlowLosesEvent if is_behind => drop(response.events.pop()),
            WatchFault::WrongPrevious => {
                for event in &mut response.events {
                    event.prev_kv = event.prev_kv.take().and(event.kv.clone());
                }
            }
            WatchFault::ProgressAheadOfEvents
            | WatchFault::LosesFirstDeletion
            | WatchFault::SplitsRevisions
            | WatchFault::ReplaysAfterSnapshot
            | WatchFault::SlowLosesEvent => {}
        }
        vec![response]
    }
}

impl Watch {
    fn draw(rng: &mut Rng) -> Self {
        let lowest = Bytes::from_static(&[0]);
        // The keys of histories begin with `k`, those of odd requests with `x`, those of sessions
        // with `session`.
        let (key, range_end): (Bytes, Bytes) = match rng.below(5) {
            0 => (lowest.clone(), lowest),
            1 => ("k".into(), "l".into()),
            2 => ("s".into(), lowest),
            3 => ("x".into(), "y".into()),
            _ => ("last".into(), Bytes::new()),
        };
        let filters = match rng.below(8) {
            0 => vec![i32::from(WatchFilter::NoPut)],
            1 => vec![i32::from(WatchFilter::NoDelete)],
            _ => Vec::new(),
        };
        let request = WatchCreateRequest {
            key,
            range_end,
            filters,
            prev_kv: rng.coin(),
            fragment: rng.coin(),
            progress_notify: rng.coin(),
            ..WatchCreateRequest::default()
        };
        let judge = WatchJudge::new(wanted(&request), 2);
        Self { judge, request, is_created: false, last: None, is_fresh: true }
    }

    /// The request that goes on where the watch was.
    fn resumed(&mut self, id: i64) -> WatchCreateRequest {
        self.is_fresh = true;
        self.is_created = false;
        let start_revision = i64::try_from(self.judge.next()).unwrap_or(i64::MAX);
        WatchCreateRequest { start_revision, watch_id: id, ..self.request.clone() }
    }
}

/// What a request wants, in the judge's words.
fn wanted(request: &WatchCreateRequest) -> Wanted {
    let to = match request.range_end.as_ref() {
        [] => {
            let mut next = request.key.to_vec();
            next.push(0);
            Some(next.into())
        }
        [0] => None,
        _ => Some(request.range_end.clone()),
    };
    let is_unwanted = |filter: WatchFilter| request.filters.contains(&i32::from(filter));
    Wanted {
        from: request.key.clone(),
        to,
        puts: !is_unwanted(WatchFilter::NoPut),
        deletions: !is_unwanted(WatchFilter::NoDelete),
        previous: request.prev_kv,
    }
}

fn broken(error: impl std::fmt::Display) -> Complaint {
    Complaint(format!("a watch stream fails: {error}"))
}
