//! Leases: who lives, which keys go with whom, and that a crash, a snapshot or a renewal at the last
//! moment changes nothing about it. No clock anywhere: expiry is a command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::{
    apply, as_format, committed, compact, delete, everything, put, snapshot, tiny_limits,
};
use proptest::prelude::*;
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_kv::lease::api::{
    LeaseExpireRequest, LeaseGrantRequest, LeaseRenewRequest, LeaseRevokeRequest, Overdue,
};
use quorate_kv::lease::{LeaseFeed, LeaseNews, TTL_SECONDS_MAX};
use quorate_kv::*;
use std::collections::BTreeSet;
use std::sync::Arc;

struct Store {
    machine: KvStateMachine,
    reader: Reader,
    engine: MemoryEngine,
    next_index: u64,
}

impl Store {
    fn new() -> Self {
        Self::on(MemoryEngine::new(), 1)
    }

    fn on(engine: MemoryEngine, next_index: u64) -> Self {
        let (machine, reader) =
            open_with(Arc::new(engine.clone()), Arc::new(Inline), tiny_limits()).unwrap();
        Self { machine, reader, engine, next_index }
    }

    fn apply(&mut self, kind: CommandKind) -> Result<Outcome, OpError> {
        let entry = committed(self.next_index, kind);
        self.next_index += 1;
        apply(&mut self.machine, entry).into_result()
    }

    /// The store after a restart that finds all of it.
    fn restarted(mut self) -> Self {
        self.machine.flush().unwrap();
        Self::on(self.engine.after_crash(), self.next_index)
    }

    /// Another store that took this one over.
    fn copied(&self) -> Self {
        let mut other = Self::new();
        let last_included = LogId::new(Term::new(1), LogIndex::new(self.next_index - 1));
        other.machine.restore(last_included, &mut snapshot(&self.machine).as_slice()).unwrap();
        other.next_index = self.next_index;
        other
    }

    fn keys(&self, lease: i64) -> Vec<Bytes> {
        self.reader.lease_keys(lease).unwrap()
    }

    fn ids(&self) -> Vec<i64> {
        self.reader.leases().into_iter().map(|(id, _)| id).collect()
    }

    fn overdue(&self, id: i64) -> Overdue {
        Overdue { id, renewed_at: self.reader.lease(id).unwrap().renewed_at.get() }
    }

    fn key_names(&self) -> Vec<Bytes> {
        let response = self.reader.range(&everything()).unwrap();
        response.kvs.into_iter().map(|kv| kv.key).collect()
    }
}

fn grant(id: i64, ttl: i64) -> CommandKind {
    CommandKind::LeaseGrant(LeaseGrantRequest { ttl, id })
}

fn revoke(id: i64) -> CommandKind {
    CommandKind::LeaseRevoke(LeaseRevokeRequest { id })
}

fn renew(ids: &[i64]) -> CommandKind {
    CommandKind::LeaseRenew(LeaseRenewRequest { ids: ids.to_vec() })
}

fn expire(leases: Vec<Overdue>) -> CommandKind {
    CommandKind::LeaseExpire(LeaseExpireRequest { leases })
}

fn put_with(key: &str, lease: i64) -> CommandKind {
    CommandKind::Put(put_request(key, lease))
}

fn put_request(key: &str, lease: i64) -> PutRequest {
    let key = Bytes::copy_from_slice(key.as_bytes());
    PutRequest { key, value: "v".into(), lease, ..Default::default() }
}

fn renewed(outcome: Result<Outcome, OpError>) -> Vec<i64> {
    let Ok(Outcome::LeaseRenew(response)) = outcome else { panic!("{outcome:?}") };
    response.ttls
}

fn expired(outcome: &Result<Outcome, OpError>) -> u64 {
    let Ok(Outcome::LeaseExpire(response)) = outcome else { panic!("{outcome:?}") };
    response.expired
}

#[test]
fn a_lease_is_granted_once() {
    let mut store = Store::new();
    let Ok(Outcome::LeaseGrant(response)) = store.apply(grant(7, 10)) else { panic!() };
    assert_eq!((response.id, response.ttl), (7, 10));
    assert_eq!(store.apply(grant(7, 20)), Err(OpError::LeaseExists));
    assert_eq!(store.reader.lease(7).unwrap().ttl, 10);
    assert_eq!(store.reader.revision().get(), 1, "a lease is no change of a key");
}

#[test]
fn a_grant_that_no_server_would_propose_is_refused() {
    let mut store = Store::new();
    for kind in [grant(0, 10), grant(1, 0), grant(1, -1), grant(1, TTL_SECONDS_MAX + 1)] {
        assert_eq!(store.apply(kind), Err(OpError::MalformedCommand));
    }
    assert!(store.apply(grant(-1, TTL_SECONDS_MAX)).is_ok());
    assert_eq!(store.ids(), [-1]);
}

#[test]
fn a_put_needs_a_lease_that_exists_also_in_a_transaction() {
    let mut store = Store::new();
    assert_eq!(store.apply(put_with("a", 7)), Err(OpError::LeaseNotFound));
    let op = RequestOp { request: Some(Request::Put(put_request("a", 7))) };
    let txn = CommandKind::Txn(TxnRequest { success: vec![op], ..Default::default() });
    assert_eq!(store.apply(txn.clone()), Err(OpError::LeaseNotFound));
    store.apply(grant(7, 10)).unwrap();
    store.apply(txn).unwrap();
    assert_eq!(store.keys(7), ["a"]);
}

#[test]
fn a_put_moves_the_key_from_its_old_lease_to_the_new_one() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    store.apply(grant(2, 10)).unwrap();
    store.apply(put_with("a", 1)).unwrap();
    store.apply(put_with("a", 2)).unwrap();
    assert_eq!((store.keys(1), store.keys(2)), (vec![], vec!["a".into()]));
    store.apply(put_with("b", 2)).unwrap();
    let keep = PutRequest { ignore_lease: true, ..put_request("b", 0) };
    store.apply(CommandKind::Put(keep)).unwrap();
    store.apply(put("a", "without")).unwrap();
    assert_eq!(store.keys(2), ["b"]);
    store.apply(delete("b")).unwrap();
    assert_eq!(store.keys(2), [""; 0]);
    store.apply(revoke(2)).unwrap();
    assert_eq!(store.key_names(), ["a"]);
}

#[test]
fn a_refused_transaction_attaches_nothing() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    store.apply(put_with("b", 1)).unwrap();
    let delete = DeleteRangeRequest { key: "b".into(), range_end: "\0".into(), prev_kv: false };
    let keep = PutRequest { ignore_value: true, value: Bytes::new(), ..put_request("c", 0) };
    store.apply(put("c", "1")).unwrap();
    // The deletion takes `c` away from under the put that wants to keep its value.
    let requests =
        [Request::Put(put_request("a", 1)), Request::DeleteRange(delete), Request::Put(keep)];
    let success = requests.map(|request| RequestOp { request: Some(request) }).to_vec();
    let txn = CommandKind::Txn(TxnRequest { success, ..Default::default() });
    assert_eq!(store.apply(txn), Err(OpError::KeyNotFound));
    assert_eq!(store.keys(1), ["b"]);
}

#[test]
fn revoking_deletes_all_keys_of_the_lease_at_one_revision() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    for key in ["c", "a", "b"] {
        store.apply(put_with(key, 1)).unwrap();
    }
    store.apply(put("d", "stays")).unwrap();
    let before = store.reader.revision().get();
    let Ok(Outcome::LeaseRevoke(response)) = store.apply(revoke(1)) else { panic!() };
    let header = response.header.unwrap();
    assert_eq!(header.revision, i64::try_from(before + 1).unwrap());
    assert_eq!(store.reader.revision().get(), before + 1);
    assert_eq!(store.key_names(), ["d"]);
    assert_eq!(store.reader.key_count(), 1);
    assert_eq!(store.apply(revoke(1)), Err(OpError::LeaseNotFound));
    assert_eq!(store.apply(put_with("a", 1)), Err(OpError::LeaseNotFound));
}

#[test]
fn revoking_a_lease_without_keys_is_no_change_of_a_key() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    store.apply(revoke(1)).unwrap();
    assert_eq!(store.reader.revision().get(), 1);
}

#[test]
fn renewing_tells_the_time_to_live_and_0_for_a_lease_that_is_not_there() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    store.apply(grant(2, 20)).unwrap();
    assert_eq!(renewed(store.apply(renew(&[2, 3, 1, 2]))), [20, 0, 10, 20]);
    assert_eq!(store.ids(), [1, 2]);
}

#[test]
fn a_lease_that_was_renewed_since_somebody_looked_does_not_expire() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    store.apply(put_with("a", 1)).unwrap();
    let seen = store.overdue(1);
    store.apply(renew(&[1])).unwrap();
    assert_eq!(expired(&store.apply(expire(vec![seen]))), 0);
    assert_eq!(store.keys(1), ["a"]);
    let seen = store.overdue(1);
    assert_eq!(expired(&store.apply(expire(vec![seen, seen]))), 1);
    assert_eq!((store.ids(), store.key_names()), (vec![], vec![]));
}

#[test]
fn a_lease_that_was_granted_anew_is_not_taken_for_the_old_one() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    let seen = store.overdue(1);
    store.apply(revoke(1)).unwrap();
    store.apply(grant(1, 10)).unwrap();
    assert_eq!(expired(&store.apply(expire(vec![seen]))), 0);
    assert_eq!(store.ids(), [1]);
}

#[test]
fn leases_that_expire_together_do_so_at_a_revision_each() {
    let mut store = Store::new();
    for id in [1, 2, 3] {
        store.apply(grant(id, 10)).unwrap();
    }
    for (key, lease) in [("a", 1), ("b", 2), ("c", 2), ("d", 3)] {
        store.apply(put_with(key, lease)).unwrap();
    }
    let before = store.reader.revision().get();
    let overdue = vec![store.overdue(1), store.overdue(2)];
    assert_eq!(expired(&store.apply(expire(overdue))), 2);
    assert_eq!(store.reader.revision().get(), before + 2);
    assert_eq!(store.key_names(), ["d"]);
    let at = |revision| {
        let revision = i64::try_from(revision).unwrap();
        store.reader.range(&RangeRequest { revision, ..everything() }).unwrap().count
    };
    assert_eq!((at(before), at(before + 1), at(before + 2)), (4, 3, 1));
}

#[test]
fn leases_and_their_keys_survive_restarts_and_snapshots() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    store.apply(grant(i64::MIN, 30)).unwrap();
    store.apply(grant(-1, 20)).unwrap();
    for (key, lease) in [("a", 1), ("b", -1), ("c", i64::MIN), ("a", -1), ("d", 1)] {
        store.apply(put_with(key, lease)).unwrap();
    }
    store.apply(delete("b")).unwrap();
    store.apply(renew(&[-1])).unwrap();
    store.apply(grant(5, 10)).unwrap();
    store.apply(revoke(5)).unwrap();
    store.apply(compact(4)).unwrap();
    let (leases, bytes) = (store.reader.leases(), snapshot(&store.machine));
    let store = store.restarted();
    for store in [store.copied(), store.copied().restarted(), store] {
        assert_eq!(store.reader.leases(), leases);
        assert_eq!(store.keys(1), ["d"]);
        assert_eq!(store.keys(-1), ["a"]);
        assert_eq!(store.keys(i64::MIN), ["c"]);
        assert_eq!(snapshot(&store.machine), bytes);
    }
}

/// What the first version would have written of a store without leases: the same without their
/// block, and so with other checksums.
fn as_first_version(snapshot: &[u8]) -> Vec<u8> {
    let mut first = snapshot[..8].to_vec();
    first.extend_from_slice(&1_u32.to_le_bytes());
    let (mut rest, mut chain) = (&snapshot[12..], 0);
    for place in 0.. {
        let Some((size, after)) = rest.split_first_chunk::<4>() else { break };
        let end = 4 + u32::from_le_bytes(*size) as usize;
        if place == 1 || place == 2 {
            assert_eq!(end, 4, "there are no leases and no users");
        } else {
            chain = crc32c::crc32c_append(crc32c::crc32c_append(chain, size), &after[4..end]);
            first.extend_from_slice(size);
            first.extend_from_slice(&chain.to_le_bytes());
            first.extend_from_slice(&after[4..end]);
        }
        rest = &after[end..];
    }
    first
}

/// All that an operator is told.
fn with_sources(error: &dyn std::error::Error) -> String {
    let source = error.source().map_or_else(String::new, with_sources);
    format!("{error}: {source}")
}

fn restored(last_index: u64, snapshot: &[u8]) -> Result<Store, String> {
    let mut store = Store::new();
    let last_included = LogId::new(Term::new(1), LogIndex::new(last_index));
    let outcome = store.machine.restore(last_included, &mut &*snapshot);
    outcome.map_err(|error| with_sources(&error))?;
    store.next_index = last_index + 1;
    Ok(store)
}

#[test]
fn a_snapshot_of_the_first_version_is_taken_over_and_one_of_a_later_version_is_refused() {
    let mut old = Store::new();
    for key in ["a", "b", "c"] {
        old.apply(put(key, "v")).unwrap();
    }
    old.apply(delete("b")).unwrap();
    let bytes = snapshot(&old.machine);
    let mut store = restored(4, &as_first_version(&bytes)).unwrap();
    assert_eq!(store.key_names(), ["a", "c"]);
    assert_eq!(snapshot(&store.machine), bytes);
    store.apply(grant(1, 10)).unwrap();
    store.apply(put_with("a", 1)).unwrap();
    assert_eq!(store.restarted().keys(1), ["a"]);

    for version in [0_u32, 4] {
        let mut unknown = bytes.clone();
        unknown[8..12].copy_from_slice(&version.to_le_bytes());
        let refusal = restored(4, &unknown).err().unwrap();
        let text = format!(
            "snapshot has version {version}, and this program reads none above 3: run the version \
             that wrote it, or a later one"
        );
        assert!(refusal.contains(&text), "{refusal}");
    }
}

#[test]
fn a_store_of_the_first_format_opens_and_one_of_a_later_format_is_refused() {
    let with_format = |format: u8| {
        let mut store = Store::new();
        store.apply(put("a", "v")).unwrap();
        store.machine.flush().unwrap();
        as_format(&store.engine, format)
    };
    let mut store = Store::on(with_format(1), 2);
    store.apply(grant(1, 10)).unwrap();
    store.apply(put_with("a", 1)).unwrap();
    let store = store.restarted();
    assert_eq!((store.ids(), store.keys(1)), (vec![1], vec!["a".into()]));
    let format = store.engine.view().unwrap().get(Space::Meta, b"format").unwrap().unwrap();
    assert_eq!(format[..2], [8, 4], "a program that knows no leases is warned");

    let engine = Arc::new(with_format(5));
    let refusal = open_with(engine, Arc::new(Inline), tiny_limits()).err().unwrap().to_string();
    let text = "storage has format 5, and this program reads none above 4: run the version that \
                wrote it, or a later one";
    assert!(refusal.contains(text), "{refusal}");
}

#[test]
fn whoever_times_leases_hears_of_each_that_changed() {
    let mut store = Store::new();
    store.apply(grant(1, 10)).unwrap();
    let signals = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&signals);
    let feed = LeaseFeed::new(&store.reader, move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let lease = |store: &Store, id| LeaseNews { id, lease: store.reader.lease(id) };
    let first = feed.take();
    assert_eq!((first.everything, first.news), (true, vec![lease(&store, 1)]));
    store.apply(put_with("a", 1)).unwrap();
    assert_eq!(feed.take().news, []);
    store.apply(renew(&[1])).unwrap();
    store.apply(renew(&[1])).unwrap();
    store.apply(grant(2, 10)).unwrap();
    store.apply(revoke(2)).unwrap();
    let news = feed.take();
    assert_eq!((news.everything, news.news), (false, vec![lease(&store, 1), lease(&store, 2)]));
    assert_eq!(signals.load(std::sync::atomic::Ordering::Relaxed), 4);

    let mut other = Store::new();
    other.apply(grant(9, 10)).unwrap();
    other.next_index = 20;
    let last_included = LogId::new(Term::new(1), LogIndex::new(19));
    store.machine.restore(last_included, &mut snapshot(&other.machine).as_slice()).unwrap();
    let news = feed.take();
    assert_eq!((news.everything, news.news), (true, vec![lease(&store, 9)]));
    assert_eq!(store.ids(), [9]);
}

#[derive(Clone, Debug)]
enum Step {
    Apply(CommandKind),
    /// Let a lease expire.
    Expire {
        id: i64,
    },
    Restart,
    Copy,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..5_i64;
    let key = || prop::sample::select(vec!["a", "b", "c", "d", "e", "\u{0}", "a\u{0}"]);
    prop_oneof![
        3 => id.clone().prop_map(|id| Step::Apply(grant(id, 10))),
        1 => id.clone().prop_map(|id| Step::Apply(revoke(id))),
        2 => id.clone().prop_map(|id| Step::Apply(renew(&[id]))),
        8 => (key(), 0..5_i64).prop_map(|(key, lease)| Step::Apply(put_with(key, lease))),
        2 => key().prop_map(|key| Step::Apply(delete(key))),
        1 => id.prop_map(|id| Step::Expire { id }),
        1 => Just(Step::Restart),
        1 => Just(Step::Copy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_key_belongs_to_the_lease_that_it_names_and_to_no_other(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut store = Store::new();
        for step in steps {
            match step {
                Step::Apply(kind) => drop(store.apply(kind)),
                Step::Expire { id } => if store.reader.lease(id).is_some() {
                    let overdue = store.overdue(id);
                    store.apply(expire(vec![overdue])).unwrap();
                },
                Step::Restart => store = store.restarted(),
                Step::Copy => store = store.copied(),
            }
            let kvs = store.reader.range(&everything()).unwrap().kvs;
            let named: BTreeSet<_> = kvs.iter().map(|kv| kv.lease).filter(|id| *id != 0).collect();
            let living: BTreeSet<_> = store.ids().into_iter().collect();
            prop_assert!(named.is_subset(&living));
            for id in 1..5 {
                let expected: Vec<_> =
                    kvs.iter().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
                prop_assert_eq!(store.keys(id), expected);
            }
        }
    }
}
