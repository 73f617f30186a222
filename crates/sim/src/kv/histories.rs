//! Histories of one key: how they are kept and checked, what the checker need not look at, and how
//! an illegal one is told. Knows nothing of nodes or time.

use super::model::{KeyModel, KeyOp, KeyReply, Value};
use super::{Asked, History, KvApplication, codec};
use crate::application::Complaint;
use crate::judge::linearizable::{Operation, Verdict, check};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Configurations that the linearizability checker may visit for one key.
const VISITS_MAX: usize = 200_000;

impl KvApplication {
    pub(super) fn record(
        &mut self,
        asked: &Asked,
        returned: Option<(u64, KeyReply)>,
    ) -> Result<(), Complaint> {
        let history = self.histories.entry(asked.key.clone()).or_default();
        let operation = Operation { invoked: asked.moment, returned, op: asked.op };
        history.operations.push(operation);
        self.closed(&asked.key)
    }

    /// One request less is open on this key. A history that nobody will add to is checked at once
    /// and forgotten.
    pub(super) fn closed(&mut self, key: &Bytes) -> Result<(), Complaint> {
        let is_over = self.histories.get_mut(key).is_some_and(|history| {
            history.open_count = history.open_count.saturating_sub(1);
            history.open_count == 0 && history.is_past
        });
        if is_over && let Some(history) = self.histories.remove(key) {
            return self.check(key, history);
        }
        Ok(())
    }

    pub(super) fn check(&mut self, key: &Bytes, mut history: History) -> Result<(), Complaint> {
        let has_doubtful_delete = history
            .operations
            .iter()
            .any(|operation| operation.op == KeyOp::Delete && operation.returned.is_none());
        if has_doubtful_delete {
            self.doubtful.insert(key.clone());
        }
        drop_unseen_writes(&mut history.operations);
        self.findings.checked_count += u64::try_from(history.operations.len()).unwrap_or(0);
        match check(&KeyModel, &history.operations, VISITS_MAX) {
            Verdict::Linearizable => Ok(()),
            Verdict::Undecided => {
                self.findings.undecided_count += 1;
                Ok(())
            }
            Verdict::Illegal { explained_count } => {
                Err(Complaint(not_linearizable(key, &history.operations, explained_count)))
            }
        }
    }

    pub(super) fn scanned(&mut self, moment: u64, reply: &[u8]) -> Result<(), Complaint> {
        let scanned = codec::scan_reply(reply)?;
        let rows: BTreeMap<Bytes, (Value, u64)> = scanned
            .rows
            .into_iter()
            .map(|(key, value, revision)| (key, (value, revision)))
            .collect();
        for key in self.revisions.keys() {
            let doubtful_delete = |history: &History| {
                history
                    .operations
                    .iter()
                    .any(|operation| operation.op == KeyOp::Delete && operation.returned.is_none())
            };
            let may_be_deleted = self.doubtful.contains(&key)
                || self.histories.get(&key).is_some_and(doubtful_delete);
            self.revisions.holds(&key, rows.get(&key).copied(), may_be_deleted)?;
        }
        // To each history still open, the scan is one more read.
        for (key, history) in &mut self.histories {
            let held = rows.get(key).map(|(value, _)| *value);
            let returned = Some((moment, KeyReply::Held(held)));
            let invoked = moment.saturating_sub(1);
            history.operations.push(Operation { invoked, returned, op: KeyOp::Get });
        }
        Ok(())
    }
}

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
