//! What a request must satisfy before anything is proposed for it: pure, the same on every node.
//! Must not look at the store.

use crate::api::{
    DeleteRangeRequest, PutRequest, RangeRequest, Request, RequestOp, SortOrder, SortTarget,
    TxnRequest,
};
use crate::error::RequestError;
use bytes::Bytes;
use std::collections::BTreeSet;

/// etcd's default for how many compares, and operations per branch, a transaction may have.
pub const TXN_OPS_COUNT_MAX: usize = 128;

/// Judges a request, with at most [`TXN_OPS_COUNT_MAX`] operations in a transaction.
///
/// # Errors
///
/// The first [`RequestError`] that etcd would give.
pub fn validate(request: &Request) -> Result<(), RequestError> {
    validate_with(request, TXN_OPS_COUNT_MAX)
}

/// Judges a request, with at most `txn_ops_count_max` operations in a transaction.
///
/// # Errors
///
/// The first [`RequestError`] that etcd would give.
pub fn validate_with(request: &Request, txn_ops_count_max: usize) -> Result<(), RequestError> {
    check_request(request, txn_ops_count_max)?;
    if let Request::Txn(txn) = request {
        // After the limits, so that the work stays bounded.
        Written::by(&txn.success)?;
        Written::by(&txn.failure)?;
    }
    Ok(())
}

fn check_request(request: &Request, txn_ops_count_max: usize) -> Result<(), RequestError> {
    match request {
        Request::Range(request) => check_range(request),
        Request::Put(request) => check_put(request),
        Request::DeleteRange(request) => check_delete_range(request),
        Request::Txn(request) => check_txn(request, txn_ops_count_max),
    }
}

fn check_range(request: &RangeRequest) -> Result<(), RequestError> {
    check_key(&request.key)?;
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

fn check_put(request: &PutRequest) -> Result<(), RequestError> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    check_key(&request.key)
}

const fn check_key(key: &Bytes) -> Result<(), RequestError> {
    if key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// The budget of operations shrinks from level to level by the longest list of each.
fn check_txn(request: &TxnRequest, ops_count_max: usize) -> Result<(), RequestError> {
    let ops_count = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = ops_count_max.checked_sub(ops_count).ok_or(RequestError::TooManyOps)?;
    for compare in &request.compare {
        check_key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        let request = op.request.as_ref().ok_or(RequestError::EmptyOperation)?;
        check_request(request, left)?;
    }
    Ok(())
}

/// What the operations of a branch may write.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a DeleteRangeRequest>,
}

impl<'a> Written<'a> {
    /// Collects what `ops` may write, and refuses a key that they may write twice.
    fn by(ops: &'a [RequestOp]) -> Result<Self, RequestError> {
        let mut written = Self::default();
        for op in ops {
            if let Some(Request::DeleteRange(request)) = &op.request {
                written.deletes.push(request);
            }
        }
        for op in ops {
            if let Some(Request::Txn(nested)) = &op.request {
                written.add_nested(nested)?;
            }
        }
        for op in ops {
            if let Some(Request::Put(request)) = &op.request {
                written.add_put(&request.key)?;
            }
        }
        Ok(written)
    }

    /// Adds both branches of a nested transaction. They may write the same keys, since only one
    /// of them happens. Its deletions count only for what follows it, as in etcd.
    fn add_nested(&mut self, nested: &'a TxnRequest) -> Result<(), RequestError> {
        let success = Self::by(&nested.success)?;
        let failure = Self::by(&nested.failure)?;
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in &failure.puts {
            if success.puts.contains(*key) {
                continue;
            }
            self.add_put(key)?;
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &'a Bytes) -> Result<(), RequestError> {
        let deleted = self.deletes.iter().any(|request| may_delete(request, key));
        if deleted || !self.puts.insert(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// Whether a deletion counts as one of `key`. A range without an end (`\0`), or with one before its
/// beginning, counts as one of no key: etcd overlooks it, so that clients may rely on it.
fn may_delete(request: &DeleteRangeRequest, key: &Bytes) -> bool {
    if request.range_end.is_empty() {
        return request.key == *key;
    }
    request.key <= *key && *key < request.range_end
}
