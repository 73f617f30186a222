//! How much of what was carried out here, by kind, counted as etcd counts: for who measures. Must not
//! know who asks.

use crate::api::{Response, TxnResponse};
use crate::command::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpCounts {
    /// Puts.
    pub puts: u64,
    /// Ranges, however many keys they found.
    pub ranges: u64,
    /// Deletions of a range, and keys that went with their lease.
    pub deletes: u64,
    /// Transactions of more than one operation, nested ones included. One of a single operation is
    /// that operation, as in etcd.
    pub txns: u64,
}

impl OpCounts {
    /// One range.
    pub(crate) const RANGE: Self = Self { puts: 0, ranges: 1, deletes: 0, txns: 0 };

    /// What a transaction did, on the path that it took.
    pub(crate) fn of_txn(txn: &TxnResponse) -> Self {
        let mut counts = Self::default();
        counts.add_ops(txn);
        counts.txns = u64::from(counts.puts + counts.ranges + counts.deletes > 1);
        counts
    }

    /// What a command did, after which there are `gone_count` keys less.
    pub(crate) fn of_outcome(outcome: &Outcome, gone_count: u64) -> Self {
        match outcome {
            Outcome::Put(_) => Self { puts: 1, ..Self::default() },
            Outcome::DeleteRange(_) => Self { deletes: 1, ..Self::default() },
            Outcome::Txn(txn) => Self::of_txn(txn),
            Outcome::LeaseRevoke(_) | Outcome::LeaseExpire(_) => {
                Self { deletes: gone_count, ..Self::default() }
            }
            Outcome::Compact(_)
            | Outcome::Refused(_)
            | Outcome::LeaseGrant(_)
            | Outcome::LeaseRenew(_)
            | Outcome::Auth(_)
            | Outcome::Alarm(_) => Self::default(),
        }
    }

    fn add_ops(&mut self, txn: &TxnResponse) {
        for response in txn.responses.iter().filter_map(|op| op.response.as_ref()) {
            match response {
                Response::Range(_) => self.ranges += 1,
                Response::Put(_) => self.puts += 1,
                Response::DeleteRange(_) => self.deletes += 1,
                Response::Txn(nested) => self.add_ops(nested),
            }
        }
    }

    /// These and others.
    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            puts: self.puts.saturating_add(other.puts),
            ranges: self.ranges.saturating_add(other.ranges),
            deletes: self.deletes.saturating_add(other.deletes),
            txns: self.txns.saturating_add(other.txns),
        }
    }
}

/// The same, counted by several threads.
#[derive(Debug, Default)]
pub(crate) struct OpCounters {
    puts: AtomicU64,
    ranges: AtomicU64,
    deletes: AtomicU64,
    txns: AtomicU64,
}

impl OpCounters {
    fn all(&self) -> [&AtomicU64; 4] {
        [&self.puts, &self.ranges, &self.deletes, &self.txns]
    }

    /// Relaxed: the counters order nothing.
    pub(crate) fn add(&self, counts: OpCounts) {
        let OpCounts { puts, ranges, deletes, txns } = counts;
        for (counter, count) in self.all().into_iter().zip([puts, ranges, deletes, txns]) {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// What was counted until now.
    pub(crate) fn load(&self) -> OpCounts {
        let [puts, ranges, deletes, txns] =
            self.all().map(|counter| counter.load(Ordering::Relaxed));
        OpCounts { puts, ranges, deletes, txns }
    }
}
