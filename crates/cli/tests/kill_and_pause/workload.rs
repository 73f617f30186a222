//! Clients that read, write, delete and swap on a few keys, and keep a record of everything.
//! Knows how to ask; never what the answer should have been.

// Each test binary uses its own part.
#![allow(dead_code)]

use crate::harness::{Client, PATIENCE, Rng};
use crate::history::{Op, Record, Reply, Returned, Seen};
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use quorate_etcd_api::mvccpb::KeyValue;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tonic::Status;

const CLIENT_COUNT: usize = 6;
/// Each round has keys of its own, so that histories stay short enough to judge.
const KEY_COUNT: usize = 3;
/// A client that waits longer than this for an answer counts it as unknown and goes elsewhere.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Clients pause between operations, up to so many milliseconds, to leave the machine some air.
const THINK_MS_MAX: usize = 10;

/// What all clients of a run share.
pub(crate) struct Shared {
    clients: Vec<Client>,
    moments: AtomicU64,
    values: AtomicU64,
    /// Values are filled up with zeros to no more than so many digits.
    digits_max: usize,
    acknowledged: watch::Sender<u64>,
}

impl Shared {
    /// For the servers behind these clients.
    pub(crate) fn new(clients: &[Client]) -> Arc<Self> {
        Self::with_values_up_to(0, clients)
    }

    /// The same with values of any length up to this, so that files fill up.
    pub(crate) fn with_values_up_to(digits_max: usize, clients: &[Client]) -> Arc<Self> {
        Arc::new(Self {
            clients: clients.iter().map(|client| client.with_timeout(CLIENT_TIMEOUT)).collect(),
            moments: AtomicU64::new(1),
            values: AtomicU64::new(1),
            digits_max,
            acknowledged: watch::Sender::new(0),
        })
    }

    /// A value as it is stored. Most are short, and each value has one length.
    fn text(&self, value: u64) -> String {
        let (long, short) = (self.digits_max, self.digits_max / 50);
        let bound = if Rng::new(value, 1).below(4) == 0 { long } else { short };
        let width = Rng::new(value, 2).below(bound + 1);
        format!("{value:0width$}")
    }

    /// How many operations have been acknowledged so far.
    pub(crate) fn acknowledged_count(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    fn new_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits until so many more operations have been acknowledged.
    ///
    /// # Panics
    ///
    /// If that does not happen within [`PATIENCE`].
    pub(crate) async fn acknowledged(&self, more: u64) {
        let mut count = self.acknowledged.subscribe();
        let target = *count.borrow_and_update() + more;
        let reached = tokio::time::timeout(PATIENCE, count.wait_for(|count| *count >= target));
        let reached = reached.await.expect("clients are served again in time");
        drop(reached.expect("the sender lives as long as we do"));
    }

    /// Does one operation. `None` if the request surely never left.
    async fn perform(&self, server: usize, key: &str, op: Op) -> Option<Record> {
        let invoked = self.moment();
        let text = |value| self.text(value);
        let outcome = perform(&self.clients[server], key, op, text).await;
        let returned = match outcome {
            Ok((reply, revision)) => {
                self.acknowledged.send_modify(|count| *count += 1);
                Some(Returned { moment: self.moment(), reply, revision })
            }
            Err(status) if op == Op::Read || never_left(&status) => return None,
            Err(_) => None,
        };
        Some(Record { key: key.to_owned(), op, server, invoked, returned })
    }
}

/// Whether no connection could be made, so that no server has seen the request.
fn never_left(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs clients until `faults` is over; returns its result and every record of the round.
pub(crate) async fn round<T>(
    shared: &Arc<Shared>,
    seed: u64,
    number: u64,
    faults: impl Future<Output = T>,
) -> (T, Vec<Record>) {
    let stop = Arc::new(AtomicBool::new(false));
    let keys: Vec<String> = (0..KEY_COUNT).map(|key| format!("round-{number}/{key}")).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for id in 0..CLIENT_COUNT {
        let stream = 1 + number * 1000 + u64::try_from(id).unwrap();
        let session = Session {
            shared: shared.clone(),
            rng: Rng::new(seed, stream),
            server: id % shared.clients.len(),
            keys: keys.clone(),
            seen: BTreeMap::new(),
            records: Vec::new(),
        };
        tasks.spawn(session.run(stop.clone()));
    }
    let result = faults.await;
    stop.store(true, Ordering::SeqCst);
    (result, tasks.join_all().await.into_iter().flatten().collect())
}

/// Reads every key of these records once, linearizably.
pub(crate) async fn read_all(shared: &Shared, records: &[Record]) -> Vec<Record> {
    let keys: BTreeSet<&str> = records.iter().map(|record| record.key.as_str()).collect();
    let mut reads = Vec::new();
    for (turn, key) in keys.into_iter().enumerate() {
        let read = crate::harness::eventually("a read", async || {
            shared.perform(turn % shared.clients.len(), key, Op::Read).await
        });
        reads.push(read.await);
    }
    reads
}

/// One client in one round.
struct Session {
    shared: Arc<Shared>,
    rng: Rng,
    server: usize,
    keys: Vec<String>,
    /// What it last knew of each key: value and revision.
    seen: BTreeMap<String, (u64, i64)>,
    records: Vec<Record>,
}

impl Session {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Record> {
        while !stop.load(Ordering::SeqCst) {
            let key = self.rng.pick(&self.keys).clone();
            let op = self.choose(&key);
            let record = self.shared.perform(self.server, &key, op).await;
            if record.as_ref().is_none_or(|record| record.returned.is_none()) {
                self.server = (self.server + 1) % self.shared.clients.len();
            }
            if let Some(record) = record {
                self.learn(&record);
                self.records.push(record);
            }
            let pause = u64::try_from(self.rng.below(THINK_MS_MAX)).unwrap();
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.records
    }

    fn choose(&mut self, key: &str) -> Op {
        match self.rng.below(10) {
            0..4 => Op::Put(self.shared.new_value()),
            4..6 => Op::Read,
            6..9 => {
                let seen = self.seen.get(key);
                Op::Swap {
                    expected: seen.map(|(value, _)| *value),
                    expected_revision: seen.map_or(0, |(_, revision)| *revision),
                    value: self.shared.new_value(),
                }
            }
            _ => Op::Delete,
        }
    }

    fn learn(&mut self, record: &Record) {
        let Some(returned) = &record.returned else { return };
        let now = match returned.reply {
            Reply::Written => record.value().map(|value| (value, returned.revision)),
            Reply::Read(seen) | Reply::NotSwapped(seen) => {
                seen.map(|seen| (seen.value, seen.mod_revision))
            }
            Reply::Deleted(_) => None,
        };
        match now {
            Some(now) => self.seen.insert(record.key.clone(), now),
            None => self.seen.remove(&record.key),
        };
    }
}

async fn perform(
    client: &Client,
    key: &str,
    op: Op,
    text: impl Fn(u64) -> String,
) -> Result<(Reply, i64), Status> {
    match op {
        Op::Read => {
            let request = RangeRequest { key: key.to_owned().into(), ..Default::default() };
            let answer = client.range(request).await?;
            Ok((Reply::Read(answer.kvs.first().map(seen)), revision(answer.header.as_ref())))
        }
        Op::Put(value) => {
            let answer = client.put(key, text(value)).await?;
            Ok((Reply::Written, revision(answer.header.as_ref())))
        }
        Op::Delete => {
            let answer = client.delete(key).await?;
            Ok((Reply::Deleted(answer.deleted > 0), revision(answer.header.as_ref())))
        }
        Op::Swap { expected_revision, value, .. } => {
            let answer =
                client.txn(swap(key, receipt(key, value), expected_revision, text(value))).await?;
            Ok((swapped(&answer), revision(answer.header.as_ref())))
        }
    }
}

/// The key that a swap writes besides, at the same revision.
pub(crate) fn receipt(key: &str, value: u64) -> String {
    format!("receipts/{key}/{value}")
}

fn swap(key: &str, receipt: String, expected_revision: i64, value: String) -> TxnRequest {
    let key: bytes::Bytes = key.to_owned().into();
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(expected_revision)),
        ..Default::default()
    };
    let value: bytes::Bytes = value.into();
    let put = |key: bytes::Bytes| {
        let put = PutRequest { key, value: value.clone(), ..Default::default() };
        RequestOp { request: Some(Request::RequestPut(put)) }
    };
    let range = RangeRequest { key: key.clone(), ..Default::default() };
    TxnRequest {
        compare: vec![compare],
        success: vec![put(receipt.into()), put(key)],
        failure: vec![RequestOp { request: Some(Request::RequestRange(range)) }],
    }
}

fn swapped(answer: &TxnResponse) -> Reply {
    if answer.succeeded {
        return Reply::Written;
    }
    match answer.responses.first().and_then(|response| response.response.as_ref()) {
        Some(Response::ResponseRange(range)) => Reply::NotSwapped(range.kvs.first().map(seen)),
        other => panic!("the failure branch reads, but the answer is {other:?}"),
    }
}

fn seen(pair: &KeyValue) -> Seen {
    let value = std::str::from_utf8(&pair.value).expect("values are numbers");
    Seen {
        value: value.parse().expect("values are numbers"),
        version: pair.version,
        mod_revision: pair.mod_revision,
    }
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}
