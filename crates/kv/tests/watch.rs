//! Watches, one scenario a promise; and one for each bug of etcd's that watches could share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{apply, committed, compact, delete, put, snapshot, tiny_limits};
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_kv::watch::*;
use quorate_kv::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A store with a hub.
struct Node {
    machine: KvStateMachine,
    reader: Reader,
    engine: MemoryEngine,
    hub: WatchHub,
    next_index: u64,
}

impl Node {
    fn new() -> Self {
        Self::with(WatchLimits::default())
    }

    fn with(limits: WatchLimits) -> Self {
        Self::on(MemoryEngine::new(), limits, 1)
    }

    fn on(engine: MemoryEngine, limits: WatchLimits, next_index: u64) -> Self {
        let (machine, reader) =
            open_with(Arc::new(engine.clone()), Arc::new(Inline), tiny_limits()).unwrap();
        let hub = WatchHub::new(&reader, limits, || {});
        Self { machine, reader, engine, hub, next_index }
    }

    /// Applies a command that the store accepts; the hub does not hear of it yet.
    fn apply(&mut self, kind: CommandKind) -> u64 {
        self.try_apply(kind).expect("the store accepts it");
        self.reader.revision().get()
    }

    fn try_apply(&mut self, kind: CommandKind) -> Result<Outcome, OpError> {
        let entry = committed(self.next_index, kind);
        self.next_index += 1;
        apply(&mut self.machine, entry).into_result()
    }

    /// Applies and lets the hub hear of it.
    fn feed(&mut self, kind: CommandKind) -> u64 {
        let revision = self.apply(kind);
        self.advance();
        revision
    }

    fn advance(&self) {
        while self.hub.advance().unwrap() {}
    }

    /// Takes over the state of another store, as from its snapshot.
    fn install(&mut self, other: &Self) {
        let bytes = snapshot(&other.machine);
        let last = LogId::new(Term::new(1), LogIndex::new(other.next_index - 1));
        self.machine.restore(last, &mut bytes.as_slice()).unwrap();
        self.next_index = other.next_index;
        self.advance();
    }

    /// A stream with one watch on these keys, and the answer to its creation taken.
    fn watch(&self, request: &WatchCreateRequest) -> Client {
        let mut client = Client { stream: self.hub.stream(|| {}) };
        client.stream.create(request);
        let created = client.pull().expect("an answer");
        assert!(created.created && !created.canceled, "{created:?}");
        client
    }
}

/// Who reads a stream.
struct Client {
    stream: WatchStream,
}

impl Client {
    /// The next response; none if there is nothing now.
    fn pull(&mut self) -> Option<WatchResponse> {
        loop {
            match self.stream.pull().unwrap() {
                Pulled::Response(response) => return Some(response),
                Pulled::Busy => {}
                Pulled::Idle => return None,
            }
        }
    }

    fn all(&mut self) -> Vec<WatchResponse> {
        std::iter::from_fn(|| self.pull()).collect()
    }

    /// Everything there is now, in short: `k=v@revision`, or `k@revision` for a deletion, one
    /// string a response.
    fn told(&mut self) -> Vec<String> {
        self.all().iter().map(short).collect()
    }

    /// The events of all responses there are now.
    fn events(&mut self) -> Vec<String> {
        self.all().iter().flat_map(|response| response.events.iter().map(short_event)).collect()
    }
}

fn short(response: &WatchResponse) -> String {
    let revision = response.header.unwrap().revision;
    if response.created {
        return format!("created {} {}", response.watch_id, response.cancel_reason);
    }
    if response.compact_revision != 0 {
        return format!("compacted {}", response.compact_revision);
    }
    if response.canceled {
        return format!("canceled {}", response.watch_id);
    }
    if response.events.is_empty() {
        return format!("{}: complete to {revision}", response.watch_id);
    }
    let events: Vec<String> = response.events.iter().map(short_event).collect();
    let more = if response.fragment { " and more" } else { "" };
    format!("{}{more}", events.join(" "))
}

fn short_event(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let key = String::from_utf8_lossy(&kv.key);
    let revision = kv.mod_revision;
    match EventKind::try_from(event.kind).unwrap() {
        EventKind::Put => format!("{key}={}@{revision}", String::from_utf8_lossy(&kv.value)),
        EventKind::Delete => format!("{key}@{revision}"),
    }
}

fn all_keys() -> WatchCreateRequest {
    let zero = Bytes::from_static(&[0]);
    WatchCreateRequest { key: zero.clone(), range_end: zero, ..Default::default() }
}

fn on(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), ..Default::default() }
}

fn since(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, ..all_keys() }
}

fn put_op(key: &'static str, value: &'static str) -> RequestOp {
    let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    RequestOp { request: Some(Request::Put(put)) }
}

fn txn(success: Vec<RequestOp>) -> CommandKind {
    CommandKind::Txn(TxnRequest { success, ..Default::default() })
}

/// Limits at which everything falls behind and history comes in small pieces.
fn tiny_watch_limits() -> WatchLimits {
    WatchLimits {
        stream_pending_bytes_max: 600,
        pending_bytes_max: 4_000,
        piece_rows_max: 3,
        piece_bytes_max: 500,
        piece_watches_max: 2,
        fragment_bytes_max: 120,
        watches_max: 64,
        keys_bytes_max: 1_000,
    }
}

#[test]
fn a_watch_from_now_on_hears_what_follows_and_nothing_before() {
    let mut node = Node::new();
    node.feed(put("a", "1"));
    let mut client = node.watch(&on("a"));
    assert!(client.told().is_empty());
    node.feed(put("a", "2"));
    node.feed(put("b", "3"));
    node.feed(delete("a"));
    assert_eq!(client.told(), ["a=2@3", "a@5"]);
}

#[test]
fn a_watch_that_begins_before_the_hub_has_heard_of_the_last_write_does_not_hear_of_it() {
    let mut node = Node::new();
    let mut early = node.watch(&all_keys());
    node.apply(put("a", "1"));
    let mut late = node.watch(&all_keys());
    node.advance();
    assert_eq!(early.told(), ["a=1@2"]);
    assert!(late.told().is_empty());
    node.feed(put("a", "2"));
    assert_eq!(late.told(), ["a=2@3"]);
}

#[test]
fn a_watch_from_the_past_reads_history_then_the_present_without_gap_or_repetition() {
    let mut node = Node::with(tiny_watch_limits());
    for value in ["1", "2", "3", "4", "5", "6", "7"] {
        node.feed(put("a", value));
    }
    let mut client = node.watch(&since(3));
    let first = client.pull().unwrap();
    // Written while the client is behind, and again when it has caught up.
    node.feed(put("a", "8"));
    let mut told: Vec<String> = first.events.iter().map(short_event).collect();
    told.extend(client.events());
    node.feed(put("a", "9"));
    told.extend(client.events());
    let expected = ["a=2@3", "a=3@4", "a=4@5", "a=5@6", "a=6@7", "a=7@8", "a=8@9", "a=9@10"];
    assert_eq!(told, expected);
}

#[test]
fn all_changes_of_a_transaction_come_in_one_response() {
    let mut node = Node::with(tiny_watch_limits());
    let mut live = node.watch(&all_keys());
    let ops = vec![put_op("a", "1"), put_op("b", "2"), put_op("c", "3"), put_op("d", "4")];
    node.feed(txn(ops));
    let mut late = node.watch(&since(2));
    let expected = ["a=1@2 b=2@2 c=3@2 d=4@2"];
    assert_eq!(live.told(), expected);
    assert_eq!(late.told(), expected);
}

#[test]
fn a_response_is_split_only_for_clients_that_take_pieces_and_says_so() {
    let limits = WatchLimits { fragment_bytes_max: 60, ..Default::default() };
    let mut node = Node::with(limits);
    let mut whole = node.watch(&all_keys());
    let mut split = node.watch(&WatchCreateRequest { fragment: true, ..all_keys() });
    let ops = vec![put_op("a", "1"), put_op("b", "2"), put_op("c", "3"), put_op("d", "4")];
    node.feed(txn(ops));
    assert_eq!(whole.told(), ["a=1@2 b=2@2 c=3@2 d=4@2"]);
    assert_eq!(split.told(), ["a=1@2 b=2@2 c=3@2 and more", "d=4@2"]);
    assert_eq!(node.hub.figures().pending_bytes, 0);
}

#[test]
fn filters_leave_out_puts_or_deletions() {
    let mut node = Node::new();
    let filtered =
        |filter: WatchFilter| WatchCreateRequest { filters: vec![filter.into(), 77], ..all_keys() };
    let mut no_puts = node.watch(&filtered(WatchFilter::NoPut));
    let mut no_deletions = node.watch(&filtered(WatchFilter::NoDelete));
    node.feed(put("a", "1"));
    node.feed(delete("a"));
    assert_eq!(no_puts.told(), ["a@3"]);
    assert_eq!(no_deletions.told(), ["a=1@2"]);
}

#[test]
fn previous_values_are_told_to_those_who_want_them_alone() {
    let mut node = Node::new();
    let mut plain = node.watch(&all_keys());
    let mut with = node.watch(&WatchCreateRequest { prev_kv: true, ..all_keys() });
    node.feed(put("a", "1"));
    node.feed(put("a", "2"));
    node.feed(delete("a"));
    node.feed(put("a", "3"));
    let previous = |client: &mut Client| -> Vec<Option<Bytes>> {
        let responses = client.all();
        let events = responses.iter().flat_map(|response| &response.events);
        events.map(|event| event.prev_kv.as_ref().map(|kv| kv.value.clone())).collect()
    };
    assert_eq!(previous(&mut plain), [None, None, None, None]);
    let expected = [None, Some("1".into()), Some("2".into()), None];
    assert_eq!(previous(&mut with), expected);
    // History knows the same, until it is compacted.
    let request = WatchCreateRequest { prev_kv: true, ..since(2) };
    assert_eq!(previous(&mut node.watch(&request)), expected);
    node.feed(compact(3));
    let request = WatchCreateRequest { prev_kv: true, ..since(3) };
    assert_eq!(previous(&mut node.watch(&request)), [None, Some("2".into()), None]);
}

#[test]
fn a_live_watch_is_told_the_previous_value_although_a_compaction_follows_at_once() {
    let mut node = Node::new();
    let mut client = node.watch(&WatchCreateRequest { prev_kv: true, ..all_keys() });
    // Nobody lets the hub advance between these.
    node.apply(put("a", "1"));
    node.apply(put("a", "2"));
    node.apply(compact(3));
    let told = client.all();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1].events[0].prev_kv.as_ref().unwrap().value, "1");
}

#[test]
fn ids_are_the_clients_or_the_next_free_ones() {
    let node = Node::new();
    let mut client = Client { stream: node.hub.stream(|| {}) };
    for watch_id in [0, 1, 0, 1, 7, 0, 0] {
        client.stream.create(&WatchCreateRequest { watch_id, ..on("a") });
    }
    client.stream.cancel(1);
    client.stream.cancel(99);
    let duplicate = "mvcc: duplicate watch ID provided on the WatchStream";
    let expected = [
        "created 0 ".to_owned(),
        "created 1 ".to_owned(),
        "created 2 ".to_owned(),
        format!("created -1 {duplicate}"),
        "created 7 ".to_owned(),
        "created 3 ".to_owned(),
        "created 4 ".to_owned(),
        "canceled 1".to_owned(),
    ];
    assert_eq!(client.told(), expected);
}

#[test]
fn watches_that_cannot_be_are_refused_in_etcds_words() {
    let node = Node::with(WatchLimits { watches_max: 0, ..Default::default() });
    let mut client = Client { stream: node.hub.stream(|| {}) };
    client.stream.create(&since(-1));
    client.stream.create(&WatchCreateRequest { range_end: "a".into(), ..on("b") });
    client.stream.create(&WatchCreateRequest { range_end: "b".into(), ..on("b") });
    client.stream.create(&on("a"));
    let expected = [
        "created -1 etcdserver: mvcc: required revision has been compacted",
        "created -1 mvcc: watcher range is empty",
        "created -1 mvcc: watcher range is empty",
        "created -1 quorate: too many watches",
    ];
    assert_eq!(client.told(), expected);
}

#[test]
fn the_keys_that_are_watched_are_limited_in_bytes_and_room_returns() {
    let node = Node::with(WatchLimits { keys_bytes_max: 10, ..Default::default() });
    let mut client = Client { stream: node.hub.stream(|| {}) };
    client.stream.create(&on("0123456789"));
    client.stream.create(&on("x"));
    client.stream.cancel(0);
    client.stream.create(&on("x"));
    let expected =
        ["created 0 ", "created -1 quorate: too many watches", "canceled 0", "created 1 "];
    assert_eq!(client.told(), expected);
}

#[test]
fn a_canceled_watch_hears_nothing_more_and_others_go_on() {
    let mut node = Node::new();
    let mut client = node.watch(&on("a"));
    client.stream.create(&on("b"));
    node.feed(put("a", "1"));
    client.stream.cancel(0);
    node.feed(put("a", "2"));
    node.feed(put("b", "3"));
    assert_eq!(client.told(), ["created 1 ", "a=1@2", "canceled 0", "b=3@4"]);
}

#[test]
fn a_watch_from_before_a_compaction_is_created_and_then_canceled() {
    let mut node = Node::new();
    for value in ["1", "2", "3"] {
        node.feed(put("a", value));
    }
    node.feed(compact(3));
    let mut client = node.watch(&since(2));
    let canceled = client.pull().unwrap();
    assert!(canceled.canceled && canceled.compact_revision == 3);
    assert_eq!((canceled.header.unwrap().revision, canceled.cancel_reason.as_str()), (0, ""));
    assert_eq!((client.stream.watch_count(), client.pull()), (0, None));
    assert_eq!(node.watch(&since(3)).told(), ["a=2@3 a=3@4"]);
}

#[test]
fn progress_is_told_to_idle_watches_that_asked_and_at_every_tick() {
    let mut node = Node::new();
    let asked = |key| WatchCreateRequest { progress_notify: true, ..on(key) };
    let mut client = node.watch(&asked("a"));
    client.stream.create(&on("a"));
    client.stream.create(&asked("b"));
    client.all();
    node.feed(put("a", "1"));
    client.stream.tick();
    // The first watch was told of a change; the second never asked.
    assert_eq!(client.told(), ["a=1@2", "a=1@2", "2: complete to 2"]);
    client.stream.tick();
    assert_eq!(client.told(), ["0: complete to 2", "2: complete to 2"]);
}

#[test]
fn a_stream_without_watches_is_complete_to_the_newest_revision() {
    let mut node = Node::new();
    let mut client = Client { stream: node.hub.stream(|| {}) };
    node.apply(put("a", "1"));
    client.stream.request_progress();
    assert_eq!(client.told(), ["-1: complete to 2"]);
}

#[test]
fn a_request_for_progress_tells_what_was_applied_before_it() {
    let mut node = Node::new();
    let mut client = node.watch(&on("a"));
    node.apply(put("a", "1"));
    node.apply(put("b", "2"));
    client.stream.request_progress();
    assert_eq!(client.told(), ["a=1@2", "-1: complete to 3"]);
}

#[test]
fn a_slow_client_costs_bounded_memory_loses_nothing_and_delays_nobody() {
    let limits = tiny_watch_limits();
    let mut node = Node::with(limits);
    let (mut slow, mut quick) = (node.watch(&all_keys()), node.watch(&all_keys()));
    let mut expected = Vec::new();
    for _ in 0..300 {
        let revision = node.feed(put("a", "some value"));
        expected.push(format!("a=some value@{revision}"));
        assert_eq!(quick.events(), expected[expected.len() - 1..]);
        assert!(node.hub.figures().pending_bytes <= limits.stream_pending_bytes_max);
    }
    assert_eq!(node.hub.figures().behind_count, 1);
    assert_eq!(slow.events(), expected);
    assert_eq!((node.hub.figures().behind_count, node.hub.figures().pending_bytes), (0, 0));
}

/// Ten keys that one transaction wrote and one deletion took.
fn with_a_long_deletion(limits: WatchLimits) -> (Node, Vec<Client>, u64) {
    let mut node = Node::with(limits);
    let keys = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"];
    node.feed(txn(keys.map(|key| put_op(key, "a value of some length")).into()));
    let request = WatchCreateRequest { prev_kv: true, ..all_keys() };
    let clients = (0..3).map(|_| node.watch(&request)).collect();
    let range =
        DeleteRangeRequest { key: "a0".into(), range_end: "b".into(), ..Default::default() };
    let deletion = node.feed(CommandKind::DeleteRange(range));
    (node, clients, deletion)
}

#[test]
fn a_revision_that_nobody_has_room_for_is_read_in_turns_and_told_whole() {
    // Each deleted key with its previous value is half of that.
    let limits = WatchLimits { stream_pending_bytes_max: 100, ..tiny_watch_limits() };
    let (mut node, mut clients, deletion) = with_a_long_deletion(limits);
    assert_eq!(node.hub.figures().pending_bytes, 0, "the hub keeps nothing of it");
    assert_eq!(node.hub.figures().behind_count, clients.len());
    let gone: Vec<String> = (0..10).map(|key| format!("a{key}@{deletion}")).collect();
    for client in &mut clients {
        let mut turns = 0;
        let response = loop {
            match client.stream.pull().unwrap() {
                Pulled::Response(response) => break response,
                Pulled::Busy => turns += 1,
                Pulled::Idle => panic!("there is something to tell"),
            }
            // Nobody else waits for it.
            assert_eq!(node.hub.figures().pending_bytes, 0, "nothing is told in part");
            node.feed(put("z", "v"));
        };
        assert!(turns >= 10 / limits.piece_rows_max, "{turns}");
        assert!(response.events.iter().all(|event| event.prev_kv.is_some()));
        assert_eq!(short(&response), gone.join(" "));
    }
    for mut client in clients {
        let later = client.events();
        assert!(later.len() >= 9 && later.iter().all(|event| event.starts_with("z=v@")));
    }
}

#[test]
fn a_watch_that_ends_while_it_reads_a_long_revision_tells_nothing_of_it() {
    let limits = WatchLimits { stream_pending_bytes_max: 100, ..tiny_watch_limits() };
    let (mut node, mut clients, _) = with_a_long_deletion(limits);
    let client = &mut clients[0];
    assert_eq!(client.stream.pull().unwrap(), Pulled::Busy);
    client.stream.cancel(0);
    client.stream.create(&all_keys());
    let revision = node.feed(put("z", "v"));
    assert_eq!(client.told(), ["canceled 0", "created 1 ", &format!("z=v@{revision}")]);
}

#[test]
fn the_limit_of_all_streams_together_holds() {
    let limits = WatchLimits { pending_bytes_max: 2_000, ..Default::default() };
    let mut node = Node::with(limits);
    let mut clients: Vec<Client> = (0..50).map(|_| node.watch(&all_keys())).collect();
    for _ in 0..10 {
        node.feed(put("a", "v"));
        assert!(node.hub.figures().pending_bytes <= 2_000);
    }
    for client in &mut clients {
        assert_eq!(client.events().len(), 10);
    }
}

#[test]
fn a_stream_that_ends_leaves_nothing_behind() {
    let mut node = Node::new();
    let client = node.watch(&all_keys());
    node.feed(put("a", "1"));
    drop(client);
    node.feed(put("a", "2"));
    let figures = node.hub.figures();
    let expected = WatchFigures { event_count: 1, ..Default::default() };
    assert_eq!(figures, expected);
}

#[test]
fn the_signal_comes_once_for_each_time_that_nothing_was_left() {
    let mut node = Node::new();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let stream = node.hub.stream(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut client = Client { stream };
    client.stream.create(&all_keys());
    client.all();
    for expected in 1..4 {
        node.feed(put("a", "1"));
        node.feed(put("a", "2"));
        assert_eq!(count.load(Ordering::Relaxed), expected);
        assert_eq!(client.all().len(), 2);
    }
}

#[test]
fn ten_thousand_watches_of_other_keys_cost_a_write_nothing() {
    let mut node = Node::new();
    let mut client = Client { stream: node.hub.stream(|| {}) };
    for number in 0..10_000_u32 {
        let key = Bytes::from(format!("key{number:05}"));
        let range_end = Bytes::from(format!("key{:05}", number + 1));
        let range_end = if number % 2 == 0 { Bytes::new() } else { range_end };
        client.stream.create(&WatchCreateRequest { key, range_end, ..Default::default() });
    }
    assert_eq!(client.all().len(), 10_000);
    node.feed(put("key07001", "odd"));
    node.feed(put("key07002", "even"));
    node.feed(put("other", "nobody"));
    assert_eq!(client.told(), ["key07001=odd@2", "key07002=even@3"]);
    assert_eq!(node.hub.figures().event_count, 2);
}

// One scenario for each bug of etcd's, by its number there.

/// Reported progress overtook events that were still waiting in the stream.
#[test]
fn etcd_15220_progress_never_overtakes_events() {
    let mut node = Node::with(tiny_watch_limits());
    let progress = WatchCreateRequest { progress_notify: true, ..all_keys() };
    let mut client = node.watch(&progress);
    for _ in 0..40 {
        node.feed(put("a", "some value"));
        client.stream.request_progress();
        client.stream.tick();
    }
    let mut last = 1;
    for response in client.all() {
        let revision = response.header.unwrap().revision;
        for event in &response.events {
            let at = event.kv.as_ref().unwrap().mod_revision;
            assert_eq!(at, last + 1, "no event may follow its own bookmark");
            last = at;
        }
        assert!(revision <= last, "complete to {revision}, but told only up to {last}");
    }
    assert_eq!(last, 41);
}

/// After a snapshot, watchers that were up to date were told again what they had heard.
#[test]
fn etcd_15271_a_snapshot_under_a_watch_repeats_nothing_and_leaves_nothing_out() {
    let (mut leader, mut follower) = (Node::new(), Node::new());
    let mut client = follower.watch(&all_keys());
    for value in ["1", "2", "3"] {
        leader.feed(put("a", value));
        follower.feed(put("a", value));
    }
    assert_eq!(client.events(), ["a=1@2", "a=2@3", "a=3@4"]);
    for value in ["4", "5"] {
        leader.feed(put("a", value));
    }
    follower.install(&leader);
    follower.feed(put("a", "6"));
    assert_eq!(client.events(), ["a=4@5", "a=5@6", "a=6@7"]);
}

/// The same, with the missing part compacted before: the watch must say so.
#[test]
fn etcd_15271_a_snapshot_whose_history_is_gone_cancels_the_watch() {
    let (mut leader, mut follower) = (Node::new(), Node::new());
    let mut client = follower.watch(&all_keys());
    let mut future = follower.watch(&since(9));
    for value in ["1", "2", "3", "4", "5"] {
        leader.feed(put("a", value));
    }
    leader.feed(compact(6));
    follower.install(&leader);
    assert_eq!(client.told(), ["compacted 6"]);
    // One who wants nothing of what is gone goes on.
    for value in ["6", "7", "8"] {
        follower.feed(put("a", value));
    }
    assert_eq!(future.told(), ["a=8@9"]);
}

/// A cache of a transaction's writes made its events appear twice.
#[test]
fn etcd_17247_a_transaction_is_told_once_and_a_refused_one_never() {
    let mut node = Node::new();
    let mut client = node.watch(&all_keys());
    let read = RequestOp { request: Some(Request::Range(common::get("a"))) };
    let nested = RequestOp {
        request: Some(Request::Txn(TxnRequest {
            success: vec![put_op("b", "2"), read.clone()],
            ..Default::default()
        })),
    };
    node.feed(txn(vec![put_op("a", "1"), read, nested]));
    // Deletes a key, then wants to keep its value: refused half-way, with nothing left of it.
    let keep = PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
    let remove = DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let refused = txn(vec![
        put_op("c", "3"),
        RequestOp { request: Some(Request::DeleteRange(remove)) },
        RequestOp { request: Some(Request::Put(keep)) },
    ]);
    assert!(node.try_apply(refused).is_err());
    node.advance();
    node.feed(put("a", "4"));
    assert_eq!(client.told(), ["a=1@2 b=2@2", "a=4@3"]);
}

/// Watchers of a starved stream were overtaken by compaction, lost events and were not told.
#[test]
fn etcd_17529_a_watch_overtaken_by_compaction_is_told_so_and_loses_nothing_silently() {
    let mut node = Node::with(tiny_watch_limits());
    let mut client = node.watch(&all_keys());
    for _ in 0..50 {
        node.feed(put("a", "some value"));
    }
    node.feed(compact(40));
    node.feed(put("a", "some value"));
    let told = client.told();
    // What waited for the client comes, without a gap; then the end.
    let (last, events) = told.split_last().unwrap();
    let revisions: Vec<u64> = (2..).take(events.len()).collect();
    let expected: Vec<String> =
        revisions.iter().map(|revision| format!("a=some value@{revision}")).collect();
    assert_eq!((last.as_str(), events), ("compacted 40", expected.as_slice()));
}

/// A crash during compaction made the revision fall, and watches resumed into a void.
#[test]
fn etcd_17780_a_restart_within_a_compaction_keeps_the_revision_and_the_watch() {
    let mut node = Node::new();
    for key in ["a", "b", "c"] {
        node.feed(put(key, "1"));
    }
    for key in ["a", "b", "c"] {
        node.feed(delete(key));
    }
    let at = node.reader.revision();
    // Everything is deleted and compacted: no row of the newest revision need be left.
    node.feed(compact(7));
    node.machine.flush().unwrap();
    let mut again = Node::on(node.engine.after_crash(), WatchLimits::default(), node.next_index);
    assert_eq!(again.reader.revision(), at);
    let mut client = again.watch(&since(7));
    assert_eq!(client.told(), ["c@7"]);
    assert_eq!(again.feed(put("a", "2")), 8);
    assert_eq!(client.told(), ["a=2@8"]);
}

/// A deletion at the compacted revision was dropped from a watch that begins there.
#[test]
fn etcd_18089_a_deletion_at_the_compacted_revision_is_told() {
    let mut node = Node::new();
    for value in ["2", "3", "4"] {
        node.feed(put("k", value));
    }
    node.feed(delete("k"));
    node.feed(put("k", "6"));
    node.feed(compact(5));
    node.machine.flush().unwrap();
    assert_eq!(node.watch(&since(5)).events(), ["k@5", "k=6@6"]);
}

/// The same after a restart, after a snapshot, and when the deletion is the newest change.
#[test]
fn etcd_19179_a_deletion_at_the_compacted_revision_survives_restarts_and_snapshots() {
    let mut node = Node::new();
    node.feed(put("k", "2"));
    node.feed(put("l", "3"));
    node.feed(delete("k"));
    node.feed(delete("l"));
    node.feed(compact(4));
    node.machine.flush().unwrap();
    let mut other = Node::new();
    other.install(&node);
    let again = Node::on(node.engine.after_crash(), WatchLimits::default(), node.next_index);
    for node in [&node, &again, &other] {
        assert_eq!(node.watch(&since(4)).events(), ["k@4", "l@5"]);
        assert_eq!(node.watch(&since(3)).told(), ["compacted 4"]);
    }
}

/// Two snapshots in a row made a member panic.
#[test]
fn etcd_18055_two_snapshots_in_a_row_leave_watches_whole() {
    let (mut leader, mut follower) = (Node::new(), Node::new());
    let mut client = follower.watch(&all_keys());
    leader.feed(put("a", "1"));
    follower.install(&leader);
    leader.feed(put("a", "2"));
    follower.install(&leader);
    follower.feed(put("a", "3"));
    assert_eq!(client.events(), ["a=1@2", "a=2@3", "a=3@4"]);
}

/// A read of a compacted revision failed a transaction on some members only.
#[test]
fn etcd_18667_a_transaction_that_reads_what_is_compacted_is_no_event_anywhere() {
    let (mut one, mut two) = (Node::new(), Node::new());
    let mut clients = [one.watch(&all_keys()), two.watch(&all_keys())];
    let past = RangeRequest { revision: 2, ..common::get("a") };
    for node in [&mut one, &mut two] {
        node.feed(put("a", "1"));
        node.feed(put("a", "2"));
        node.apply(compact(3));
    }
    // The second has compacted for good; the first may not have.
    two.machine.flush().unwrap();
    for node in [&mut one, &mut two] {
        let read = RequestOp { request: Some(Request::Range(past.clone())) };
        let refused = node.try_apply(txn(vec![put_op("b", "3"), read]));
        assert_eq!(refused.unwrap_err(), OpError::Compacted);
        node.feed(put("a", "4"));
    }
    for client in &mut clients {
        assert_eq!(client.events(), ["a=1@2", "a=2@3", "a=4@4"]);
    }
}

/// A watch on a member that has not heard of the revision yet was told of progress below it.
#[test]
fn etcd_20221_a_watch_of_the_future_is_told_no_earlier_progress() {
    let mut node = Node::new();
    let future = WatchCreateRequest { progress_notify: true, ..since(5) };
    let mut client = node.watch(&future);
    for _ in 0..2 {
        node.feed(put("a", "early"));
        client.stream.tick();
        client.stream.request_progress();
        assert!(client.told().is_empty());
    }
    // At revision 4 it is complete to 4, and the request is answered.
    node.feed(put("a", "early"));
    assert_eq!(client.told(), ["-1: complete to 4"]);
    node.feed(put("a", "due"));
    assert_eq!(client.told(), ["a=due@5"]);
}

/// A watch of the future was told older events once a snapshot arrived.
#[test]
fn etcd_20221_a_watch_of_the_future_is_told_no_earlier_events_after_a_snapshot() {
    let (mut leader, mut follower) = (Node::new(), Node::new());
    let mut client = follower.watch(&since(5));
    for value in ["1", "2"] {
        leader.feed(put("a", value));
    }
    follower.install(&leader);
    client.stream.request_progress();
    assert!(client.told().is_empty());
    for value in ["3", "4", "5"] {
        follower.feed(put("a", value));
    }
    assert_eq!(client.told(), ["-1: complete to 4", "a=4@5", "a=5@6"]);
}

/// A crash that lost the last writes of a store, though the log still holds them: the watch of a
/// client that had heard of them goes on where it was (#13766).
#[test]
fn etcd_13766_a_store_that_lost_its_tail_in_a_crash_tells_a_resumed_watch_no_revision_twice() {
    let mut node = Node::new();
    let mut client = node.watch(&all_keys());
    node.feed(put("a", "1"));
    node.machine.flush().unwrap();
    let stored = node.next_index;
    node.feed(put("a", "2"));
    node.feed(put("a", "3"));
    assert_eq!(client.events(), ["a=1@2", "a=2@3", "a=3@4"]);
    let mut again = Node::on(node.engine.after_crash(), WatchLimits::default(), stored);
    assert_eq!(again.reader.revision().get(), 2);
    let mut client = again.watch(&since(5));
    // The log is replayed, and goes on.
    for value in ["2", "3", "4"] {
        again.feed(put("a", value));
    }
    assert_eq!(client.events(), ["a=4@5"]);
}
