//! Histories of one key: what the checker need not look at, and how an illegal one is told. Knows
//! nothing of nodes or time.

use super::model::{KeyOp, KeyReply, Value};
use crate::judge::linearizable::Operation;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Leaves out writes of unknown outcome whose value appears nowhere else: a legal order with such a
/// write is also legal without it, since every answer that depends on a value names it. Without
/// them the search stays short.
pub(super) fn drop_unseen_writes(operations: &mut Vec<Operation<KeyOp, KeyReply>>) {
    let mut named: BTreeSet<Value> = BTreeSet::new();
    for operation in operations.iter() {
        if let KeyOp::Swap { expected: Some(value), .. } = operation.op {
            named.insert(value);
        }
        match operation.returned {
            Some((_, KeyReply::Held(Some(value)) | KeyReply::NotSwapped(Some(value)))) => {
                named.insert(value);
            }
            Some((
                _,
                KeyReply::Held(None)
                | KeyReply::NotSwapped(None)
                | KeyReply::Done
                | KeyReply::Swapped,
            ))
            | None => {}
        }
    }
    operations.retain(|operation| match operation.op {
        KeyOp::Put { value } | KeyOp::Swap { value, .. } => {
            operation.returned.is_some() || named.contains(&value)
        }
        KeyOp::Get | KeyOp::Delete => operation.returned.is_some() || operation.op != KeyOp::Get,
    });
}

pub(super) fn not_linearizable(
    key: &Bytes,
    operations: &[Operation<KeyOp, KeyReply>],
    explained_count: usize,
) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "the history of {key:?} is not linearizable ({explained_count} answers could be explained):"
    );
    let mut sorted: Vec<_> = operations.iter().collect();
    sorted.sort_by_key(|operation| operation.invoked);
    for Operation { invoked, returned, op } in sorted {
        // Writing into a string does not fail.
        let _ = match returned {
            Some((returned, reply)) => {
                write!(text, "\n    {invoked:>7} .. {returned:<7} {op:?} -> {reply:?}")
            }
            None => write!(text, "\n    {invoked:>7} ..         {op:?} -> unknown"),
        };
    }
    text
}
