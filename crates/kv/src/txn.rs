//! Transactions, as etcd carries them out: first every condition, nested ones too, is judged against
//! the state before; then every operation on the chosen path is checked; then all of it happens.

use crate::api::{
    Compare, CompareResult, CompareTarget, CompareUnion, KeyValue, PutRequest, RangeRequest,
    Request, RequestOp, Response, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::engine::EngineError;
use crate::error::{OpError, ReadError};
use crate::range::header;
use crate::revision::{ChangeId, Revision};
use crate::view::{KeyRange, View};
use crate::writer::{Writer, for_each_living};
use std::cmp::Ordering;

/// A transaction whose conditions were judged: the operations to carry out, nested ones in place.
struct Path<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    /// Anything but a transaction; `None` is an empty operation, which answers with nothing.
    Plain(Option<&'a Request>),
    Nested(Path<'a>),
}

impl Path<'_> {
    /// Shows `visit` every operation on the path, in their order.
    fn for_each(
        &self,
        visit: &mut impl FnMut(&Request) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        for step in &self.steps {
            match step {
                Step::Plain(Some(request)) => visit(request)?,
                Step::Plain(None) => {}
                Step::Nested(nested) => nested.for_each(visit)?,
            }
        }
        Ok(())
    }
}

/// Carries out a transaction with `writer`, which has written nothing yet, on top of `view`.
pub(crate) fn execute(
    view: &View,
    writer: &mut Writer<'_>,
    request: &TxnRequest,
) -> Result<TxnResponse, ReadError> {
    let path = judge(view, request)?;
    check(view, &path)?;
    let mut response = run(writer, &path)?;
    response.header = Some(header(writer.now()));
    Ok(response)
}

/// Whether a transaction can write, whichever branches it takes.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        None | Some(Request::Range(_)) => true,
        Some(Request::Put(_) | Request::DeleteRange(_)) => false,
        Some(Request::Txn(nested)) => is_read_only(nested),
    })
}

fn judge<'a>(view: &View, request: &'a TxnRequest) -> Result<Path<'a>, EngineError> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(view, compare)? {
            succeeded = false;
            break;
        }
    }
    let ops = if succeeded { &request.success } else { &request.failure };
    let steps = ops.iter().map(|op| judge_op(view, op)).collect::<Result<_, _>>()?;
    Ok(Path { succeeded, steps })
}

fn judge_op<'a>(view: &View, op: &'a RequestOp) -> Result<Step<'a>, EngineError> {
    Ok(match &op.request {
        Some(Request::Txn(nested)) => Step::Nested(judge(view, nested)?),
        plain => Step::Plain(plain.as_ref()),
    })
}

/// Whether every key of the compare's range satisfies it. A missing key compares as zeros, except
/// that its value equals nothing, not even the empty value.
fn holds(view: &View, compare: &Compare) -> Result<bool, EngineError> {
    let target = CompareTarget::try_from(compare.target).ok();
    let with_value = target == Some(CompareTarget::Value);
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let at = ChangeId::last_of(view.revision);
    let (mut any, mut all) = (false, true);
    for_each_living(view, &range, at, with_value, |kv| {
        any = true;
        all = satisfies(compare, target, kv);
        all
    })?;
    if any {
        return Ok(all);
    }
    Ok(!with_value && satisfies(compare, target, &KeyValue::default()))
}

fn satisfies(compare: &Compare, target: Option<CompareTarget>, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let number = |target| union.and_then(|union| union.number(target)).unwrap_or(0);
    let order = match target {
        Some(CompareTarget::Version) => kv.version.cmp(&number(CompareTarget::Version)),
        Some(CompareTarget::Create) => kv.create_revision.cmp(&number(CompareTarget::Create)),
        Some(CompareTarget::Mod) => kv.mod_revision.cmp(&number(CompareTarget::Mod)),
        Some(CompareTarget::Lease) => kv.lease.cmp(&number(CompareTarget::Lease)),
        Some(CompareTarget::Value) => {
            kv.value.as_ref().cmp(union.and_then(CompareUnion::value).unwrap_or_default())
        }
        // etcd takes a target that it does not know for equal.
        None => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        // And a result that it does not know for true.
        Err(_) => true,
    }
}

/// Refuses the whole transaction before anything is written: for a put at any depth sooner than for
/// a range, as etcd does.
fn check(view: &View, path: &Path<'_>) -> Result<(), ReadError> {
    path.for_each(&mut |request| match request {
        Request::Put(request) => check_put(view, request),
        Request::Range(_) | Request::DeleteRange(_) | Request::Txn(_) => Ok(()),
    })?;
    path.for_each(&mut |request| match request {
        Request::Range(request) => Ok(check_range(view, request)?),
        Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) => Ok(()),
    })
}

fn check_range(view: &View, request: &RangeRequest) -> Result<(), OpError> {
    if request.revision > view.revision.to_wire() {
        return Err(OpError::FutureRevision);
    }
    let first = view.compacted.map_or(-1, Revision::to_wire);
    if request.revision != 0 && request.revision < first {
        return Err(OpError::Compacted);
    }
    Ok(())
}

fn check_put(view: &View, request: &PutRequest) -> Result<(), ReadError> {
    check_key(request)?;
    if request.ignore_value || request.ignore_lease {
        let at = ChangeId::last_of(view.revision);
        if view.living(&request.key, at)?.is_none() {
            return Err(OpError::KeyNotFound.into());
        }
    }
    Ok(check_lease(view, request.lease)?)
}

/// Whoever proposed an empty key did not ask [`crate::validate()`].
pub(crate) const fn check_key(request: &PutRequest) -> Result<(), OpError> {
    if request.key.is_empty() { Err(OpError::MalformedCommand) } else { Ok(()) }
}

/// Keys are attached to leases that exist; 0 is none.
pub(crate) fn check_lease(view: &View, lease: i64) -> Result<(), OpError> {
    if lease == 0 || view.leases.get(lease).is_some() {
        Ok(())
    } else {
        Err(OpError::LeaseNotFound)
    }
}

fn run(writer: &mut Writer<'_>, path: &Path<'_>) -> Result<TxnResponse, ReadError> {
    let mut responses = Vec::with_capacity(path.steps.len());
    for step in &path.steps {
        let response = match step {
            Step::Plain(plain) => run_plain(writer, *plain)?,
            Step::Nested(nested) => Some(Response::Txn(run(writer, nested)?)),
        };
        responses.push(ResponseOp { response });
    }
    // The header of a nested transaction is there, but empty.
    let header = Some(ResponseHeader::default());
    Ok(TxnResponse { header, succeeded: path.succeeded, responses })
}

fn run_plain(
    writer: &mut Writer<'_>,
    request: Option<&Request>,
) -> Result<Option<Response>, ReadError> {
    Ok(match request {
        Some(Request::Range(request)) => Some(Response::Range(writer.range(request)?)),
        Some(Request::Put(request)) => Some(Response::Put(writer.put(request)?)),
        Some(Request::DeleteRange(request)) => {
            Some(Response::DeleteRange(writer.delete_range(request)?))
        }
        // A transaction became a `Step::Nested`.
        Some(Request::Txn(_)) | None => None,
    })
}
