//! A stream of watches under any requests of its client, among writes and compactions. Each watch is
//! told of what it wants, in order, once, and of nothing else; a history kept beside says what that
//! is.

use super::input::Input;
use super::store::Store;
use bytes::Bytes;
use prost::Message;
use quorate_kv::watch::{
    Event, EventKind, Pulled, WatchCancelRequest, WatchCreateRequest, WatchFilter, WatchHub,
    WatchLimits, WatchProgressRequest, WatchRequest, WatchRequestKind, WatchResponse, WatchStream,
};
use quorate_kv::{Command, CommandTag, CompactionRequest, DeleteRangeRequest, PutRequest};
use std::collections::{BTreeMap, VecDeque};

const STEPS_COUNT_MAX: usize = 120;
const WATCHES_MAX: usize = 8;
/// Pieces and outboxes so small that watches fall behind.
const LIMITS: WatchLimits = WatchLimits {
    stream_pending_bytes_max: 200,
    pending_bytes_max: 300,
    piece_rows_max: 3,
    piece_bytes_max: 200,
    piece_watches_max: 3,
    fragment_bytes_max: 100,
    watches_max: WATCHES_MAX,
    keys_bytes_max: 500,
};

/// Requests, as clients send them or as they should, and everything that a stream sees.
pub(super) fn watch_request(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut bench) = Bench::new() else { return };
    for _ in 0..STEPS_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        bench.step(&mut input);
    }
    bench.drain();
    for watch in bench.watches.values() {
        watch.check_complete(&bench.history);
    }
}

/// A store with one stream, and what was and should be told.
struct Bench {
    store: Store,
    hub: WatchHub,
    stream: WatchStream,
    /// Every change: revision, key, what.
    history: Vec<Change>,
    /// Creations that were not answered.
    asked: VecDeque<WatchCreateRequest>,
    watches: BTreeMap<i64, Watch>,
}

struct Change {
    revision: i64,
    key: Bytes,
    kind: EventKind,
}

struct Watch {
    request: WatchCreateRequest,
    /// The first revision that it wants.
    from: i64,
    told: Vec<(i64, Bytes)>,
}

impl Bench {
    fn new() -> Option<Self> {
        let store = Store::fresh()?;
        let hub = WatchHub::new(&store.reader, LIMITS, || {});
        let stream = hub.stream(|| {});
        let (history, asked, watches) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        Some(Self { store, hub, stream, history, asked, watches })
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(12) {
            0 | 1 => {
                let (key, size) = (key(input), usize::from(input.below(120)));
                let value = Bytes::from(vec![7; size]);
                let put = PutRequest { key: key.clone(), value, ..PutRequest::default() };
                self.change(CommandTag::Put, &put.encode_to_vec(), key, EventKind::Put);
            }
            2 => {
                let key = key(input);
                let request =
                    DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
                let request = request.encode_to_vec();
                self.change(CommandTag::DeleteRange, &request, key, EventKind::Delete);
            }
            3 => {
                let revision = i64::from(input.byte());
                let request = CompactionRequest { revision, ..CompactionRequest::default() };
                let command = Command::wrap(CommandTag::Compact, &request.encode_to_vec());
                let _ = self.store.apply(command);
            }
            4 => {
                let size = usize::from(input.byte());
                // What a client sent is decoded as it came, as the server does it.
                if let Ok(request) = WatchRequest::decode(input.bytes(size)) {
                    self.ask(request.kind);
                }
            }
            5 | 6 => self.ask(Some(WatchRequestKind::Create(create(input)))),
            7 => {
                let watch_id = i64::from(input.below(10)) - 1;
                self.ask(Some(WatchRequestKind::Cancel(WatchCancelRequest { watch_id })));
            }
            8 => self.ask(Some(WatchRequestKind::Progress(WatchProgressRequest {}))),
            9 => assert!(self.hub.advance().is_ok(), "the store can be read"),
            10 => self.stream.tick(),
            _ => drop(self.pull()),
        }
    }

    fn change(&mut self, tag: CommandTag, request: &[u8], key: Bytes, kind: EventKind) {
        let before = self.store.reader.revision();
        let _ = self.store.apply(Command::wrap(tag, request));
        let revision = self.store.reader.revision();
        if revision > before {
            self.history.push(Change { revision: revision.to_wire(), key, kind });
        }
    }

    fn ask(&mut self, kind: Option<WatchRequestKind>) {
        if let Some(WatchRequestKind::Create(create)) = &kind {
            self.asked.push_back(create.clone());
        }
        self.stream.request(WatchRequest { kind });
        assert!(self.stream.watch_count() <= WATCHES_MAX, "no more watches than there may be");
    }

    fn drain(&mut self) {
        while matches!(self.hub.advance(), Ok(true)) {}
        while self.pull() {}
        assert_eq!(self.asked.len(), 0, "each creation is answered");
        assert_eq!(self.stream.behind_count(), 0, "nobody stays behind");
        assert_eq!(self.hub.figures().pending_bytes, 0, "what was taken is not counted");
    }

    /// Takes what the client is told next; says whether there was anything.
    fn pull(&mut self) -> bool {
        match self.stream.pull() {
            Ok(Pulled::Response(response)) => self.hear(response),
            Ok(Pulled::Busy) => {}
            Ok(Pulled::Idle) => return false,
            Err(error) => panic!("the store can be read: {error}"),
        }
        true
    }

    fn hear(&mut self, response: WatchResponse) {
        assert_eq!(
            WatchResponse::decode(response.encode_to_vec().as_slice()).as_ref(),
            Ok(&response)
        );
        let WatchResponse { watch_id, created, canceled, .. } = response;
        let revision = response.header.map_or(0, |header| header.revision);
        if created {
            let request = self.asked.pop_front();
            let Some(request) = request else { panic!("an answer that nobody asked for") };
            if !canceled {
                let start = request.start_revision;
                let from = if start == 0 { revision + 1 } else { start };
                let watch = Watch { request, from, told: Vec::new() };
                let earlier = self.watches.insert(watch_id, watch);
                assert!(earlier.is_none(), "two watches have one name");
            }
            return;
        }
        if canceled {
            assert!(self.watches.remove(&watch_id).is_some(), "a watch ends once");
            return;
        }
        for event in response.events {
            let watch = self.watches.get_mut(&watch_id);
            let Some(watch) = watch else { panic!("an event for no watch") };
            watch.hear(event);
        }
    }
}

impl Watch {
    fn hear(&mut self, event: Event) {
        let kv = event.kv.unwrap_or_default();
        assert!(self.request.prev_kv || event.prev_kv.is_none(), "nobody asked for it");
        self.told.push((kv.mod_revision, kv.key));
    }

    fn wants(&self, change: &Change) -> bool {
        let WatchCreateRequest { key, range_end, filters, .. } = &self.request;
        let from: &[u8] = if key.is_empty() { &[0] } else { key };
        let is_within = match range_end.as_ref() {
            [] => change.key == from,
            [0] => change.key >= from,
            end => change.key >= from && change.key < end,
        };
        let unwanted = match change.kind {
            EventKind::Put => WatchFilter::NoPut,
            EventKind::Delete => WatchFilter::NoDelete,
        };
        is_within && change.revision >= self.from && !filters.contains(&i32::from(unwanted))
    }

    fn check_complete(&self, history: &[Change]) {
        let wanted = history.iter().filter(|change| self.wants(change));
        let expected: Vec<_> = wanted.map(|change| (change.revision, change.key.clone())).collect();
        assert_eq!(self.told, expected, "told of all that it wants, in order, once");
    }
}

/// One of a few keys.
fn key(input: &mut Input<'_>) -> Bytes {
    Bytes::copy_from_slice(&[b'a' + input.below(6)])
}

fn create(input: &mut Input<'_>) -> WatchCreateRequest {
    let range_end = match input.below(4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => key(input),
    };
    let filters = (0..2).filter(|_| input.below(4) == 0).collect();
    WatchCreateRequest {
        key: if input.below(8) == 0 { Bytes::new() } else { key(input) },
        range_end,
        start_revision: i64::from(input.below(24)),
        progress_notify: input.flag(),
        filters,
        prev_kv: input.flag(),
        watch_id: i64::from(input.below(6)),
        fragment: input.flag(),
    }
}
