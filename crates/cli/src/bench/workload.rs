//! Which requests the clients make: random keys, random values, one kind of operation. Knows
//! nothing of time.

use super::Operation;
use super::wire::{CallError, Rpc, Wire, framed};
use anyhow::Context;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use std::num::NonZeroUsize;
use std::time::Duration;

/// Keys are stored in transactions of this many: etcd's limit is 128.
const FILL_BATCH_COUNT: usize = 100;
/// So many leases are granted at a time.
const FILL_CALLS_COUNT: usize = 256;
/// Far longer than any measurement.
const LEASE_TTL_SECONDS: i64 = 24 * 3600;
/// One transaction, or one grant, may take this long.
const FILL_TIMEOUT: Duration = Duration::from_secs(10);

/// What the clients do.
pub(super) struct Workload {
    operation: Operation,
    keys: Vec<Bytes>,
    value_size: usize,
    /// Random bytes; a value is a piece of it, so that none is made or copied per operation.
    pool: Bytes,
}

impl Workload {
    pub(super) fn new(operation: Operation, key_count: NonZeroUsize, value_size: usize) -> Self {
        let keys = (0..key_count.get()).map(|n| Bytes::from(format!("bench/{n:08}"))).collect();
        let mut random = Random::new(0);
        let pool_size = super::VALUE_SIZE_MAX + value_size;
        let words = std::iter::repeat_with(|| random.next().to_le_bytes());
        let pool: Vec<u8> = words.flatten().take(pool_size).collect();
        Self { operation, keys, value_size, pool: pool.into() }
    }

    /// Whether it needs keys or leases that exist.
    pub(super) fn needs_filling(&self) -> bool {
        match self.operation {
            Operation::Put | Operation::Txn => false,
            Operation::Get
            | Operation::SerializableGet
            | Operation::Mixed
            | Operation::LeaseKeepAlive => true,
        }
    }

    /// Stores a value under every key, or grants every lease.
    pub(super) async fn fill(&self, wires: &[Wire]) -> anyhow::Result<()> {
        match self.operation {
            Operation::LeaseKeepAlive => self.grant_all(wires).await,
            Operation::Put
            | Operation::Txn
            | Operation::Get
            | Operation::SerializableGet
            | Operation::Mixed => self.store_all(wires).await,
        }
    }

    /// Grants as many leases as there are keys, with the ids from 1 on. Those of an earlier run
    /// stay.
    async fn grant_all(&self, wires: &[Wire]) -> anyhow::Result<()> {
        let calls = self.lease_ids().zip(wires.iter().cycle().cloned()).map(|(id, mut wire)| {
            let grant = framed(&LeaseGrantRequest { id, ttl: LEASE_TTL_SECONDS });
            async move {
                let call = wire.call(Rpc::LeaseGrant, grant);
                match tokio::time::timeout(FILL_TIMEOUT, call).await? {
                    Err(error) if !error.is_because("lease already exists") => Err(error.into()),
                    Ok(()) | Err(_) => anyhow::Ok(()),
                }
            }
        });
        stream::iter(calls).buffer_unordered(FILL_CALLS_COUNT).try_collect().await
    }

    fn lease_ids(&self) -> std::ops::RangeInclusive<i64> {
        1..=i64::try_from(self.keys.len()).unwrap_or(i64::MAX)
    }

    async fn store_all(&self, wires: &[Wire]) -> anyhow::Result<()> {
        let mut random = Random::new(1);
        let mut wire = wires.first().context("there is no connection")?.clone();
        for keys in self.keys.chunks(FILL_BATCH_COUNT) {
            let mut success = Vec::new();
            for key in keys {
                let put = self.put(key.clone(), &mut random);
                success.push(RequestOp { request: Some(Request::RequestPut(put)) });
            }
            let txn = TxnRequest { success, ..TxnRequest::default() };
            let call = wire.call(Rpc::Txn, framed(&txn));
            tokio::time::timeout(FILL_TIMEOUT, call).await??;
        }
        Ok(())
    }

    /// Carries out one operation.
    pub(super) async fn run(&self, wire: &mut Wire, random: &mut Random) -> Result<(), CallError> {
        let (rpc, message) = self.operation(random);
        wire.call(rpc, message).await
    }

    fn operation(&self, random: &mut Random) -> (Rpc, Bytes) {
        let key = self.key(random);
        match self.operation {
            Operation::Put => (Rpc::Put, framed(&self.put(key, random))),
            Operation::Mixed if random.next().is_multiple_of(2) => {
                (Rpc::Put, framed(&self.put(key, random)))
            }
            Operation::Get | Operation::Mixed => (Rpc::Range, framed(&get(key, false))),
            Operation::SerializableGet => (Rpc::Range, framed(&get(key, true))),
            Operation::Txn => (Rpc::Txn, framed(&self.txn(key, random))),
            Operation::LeaseKeepAlive => {
                let id = i64::try_from(random.below(self.keys.len())).unwrap_or(0) + 1;
                (Rpc::LeaseKeepAlive, framed(&LeaseKeepAliveRequest { id }))
            }
        }
    }

    fn key(&self, random: &mut Random) -> Bytes {
        self.keys.get(random.below(self.keys.len())).cloned().unwrap_or_default()
    }

    fn put(&self, key: Bytes, random: &mut Random) -> PutRequest {
        let from = random.below(super::VALUE_SIZE_MAX);
        let value = self.pool.slice(from..from + self.value_size);
        PutRequest { key, value, ..PutRequest::default() }
    }

    /// Puts if the key's revision is what it always is: not negative.
    fn txn(&self, key: Bytes, random: &mut Random) -> TxnRequest {
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(-1)),
            range_end: Bytes::new(),
        };
        let put = RequestOp { request: Some(Request::RequestPut(self.put(key, random))) };
        TxnRequest { compare: vec![compare], success: vec![put], failure: Vec::new() }
    }
}

fn get(key: Bytes, serializable: bool) -> RangeRequest {
    RangeRequest { key, serializable, ..RangeRequest::default() }
}

/// `SplitMix64`: enough chance for picking keys, at no cost.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, not including, `end`; 0 if `end` is.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(end).unwrap_or(0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_asked_for_wherever_in_the_pool_they_start() {
        let count = NonZeroUsize::new(3).unwrap();
        let workload = Workload::new(Operation::Put, count, 300);
        let mut random = Random::new(7);
        for _ in 0..1000 {
            let key = workload.key(&mut random);
            let put = workload.put(key, &mut random);
            assert_eq!(put.value.len(), 300);
            assert!(put.key.starts_with(b"bench/0000000"));
        }
    }
}
