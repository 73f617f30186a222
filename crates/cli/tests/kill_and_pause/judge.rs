//! Decides whether what clients saw is what one correct copy would have shown. Knows histories
//! only; the search for a legal order is the simulator's.

use crate::history::{Op, Record, Reply, Seen, by_key};
use quorate_sim::judge::linearizable::{self, Model, Operation, Verdict};
use std::collections::BTreeMap;

/// More configurations than a healthy history of one key ever needs.
const VISITS_MAX: usize = 5_000_000;

/// One key of a correct store: its value and its version, or nothing.
struct Key;

impl Model for Key {
    type State = Option<(u64, i64)>;
    type Op = Op;
    type Reply = Answer;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, op: &Op, answer: Option<&Answer>) -> Option<Self::State> {
        let reply = answer.map(|answer| &answer.reply);
        let (after, is_legal) = match *op {
            Op::Read => (*state, matches!(reply, Some(Reply::Read(seen)) if shows(*seen, *state))),
            Op::Put(value) => (Some(written(*state, value)), matches!(reply, Some(Reply::Written))),
            Op::Delete => (None, reply == Some(&Reply::Deleted(state.is_some()))),
            Op::Swap { expected, value, .. } => {
                if state.map(|(value, _)| value) == expected {
                    (Some(written(*state, value)), matches!(reply, Some(Reply::Written)))
                } else {
                    let legal =
                        matches!(reply, Some(Reply::NotSwapped(seen)) if shows(*seen, *state));
                    (*state, legal)
                }
            }
        };
        let version = answer.and_then(|answer| answer.version);
        let fits = version.is_none() || version == after.map(|(_, version)| version);
        (reply.is_none() || (is_legal && fits)).then_some(after)
    }
}

/// What a client was told, and what others saw of it.
struct Answer {
    reply: Reply,
    /// The version that this write made, if anybody saw it. Without it the search would find out
    /// only much later that it let an unknown outcome take effect where it did not.
    version: Option<i64>,
}

fn written(state: Option<(u64, i64)>, value: u64) -> (u64, i64) {
    (value, state.map_or(0, |(_, version)| version) + 1)
}

fn shows(seen: Option<Seen>, state: Option<(u64, i64)>) -> bool {
    seen.map(|seen| (seen.value, seen.version)) == state
}

/// Checks the history of each key.
///
/// # Errors
///
/// The history of a key that no correct store could have shown, for a person.
pub(crate) fn linearizable(records: &[Record]) -> Result<(), String> {
    undecided(records).map(drop)
}

/// As [`linearizable`]; of how many keys it could not be found out.
///
/// # Errors
///
/// As [`linearizable`].
pub(crate) fn undecided(records: &[Record]) -> Result<usize, String> {
    let mut count = 0;
    for (key, records) in by_key(records) {
        let seen = records.iter().filter_map(|record| record.seen());
        let versions: BTreeMap<i64, i64> = seen.map(|it| (it.mod_revision, it.version)).collect();
        let operation = |record: &&Record| Operation {
            invoked: record.invoked,
            returned: record.returned.as_ref().map(|it| {
                let version = record.written_revision().and_then(|at| versions.get(&at).copied());
                (it.moment, Answer { reply: it.reply, version })
            }),
            op: record.op,
        };
        let history: Vec<Operation<Op, Answer>> = records.iter().map(operation).collect();
        match linearizable::check(&Key, &history, VISITS_MAX) {
            Verdict::Linearizable => {}
            // Many unknown outcomes at once can be more than the search can try. That is no
            // evidence of a fault; the judges of losses and revisions have no such limit.
            Verdict::Undecided => {
                println!("{key}: undecided after {VISITS_MAX} configurations");
                count += 1;
            }
            verdict @ Verdict::Illegal { .. } => {
                let picture = picture(&records);
                return Err(format!("{key} is not linearizable: {verdict:?}\n{picture}"));
            }
        }
    }
    Ok(count)
}

fn picture(records: &[&Record]) -> String {
    let line = |record: &&Record| match &record.returned {
        Some(it) => format!(
            "{}..{} server {} {:?} -> {:?} at revision {}\n",
            record.invoked, it.moment, record.server, record.op, it.reply, it.revision
        ),
        None => format!("{}..? server {} {:?}\n", record.invoked, record.server, record.op),
    };
    records.iter().map(line).collect()
}

/// How many keys do not show their last acknowledged write, nor anything that may have come after
/// it. Each history must end with a read. Prints each loss.
pub(crate) fn lost_writes(records: &[Record]) -> usize {
    let keys = by_key(records);
    let lost = keys.iter().filter_map(|(key, records)| Some((key, records, loss(records)?)));
    lost.map(|(key, records, loss)| println!("{key}: LOST {loss}\n{}", picture(records))).count()
}

fn loss(records: &[&Record]) -> Option<String> {
    let last =
        records.iter().filter_map(|it| Some((it.written_revision()?, it))).max_by_key(first)?;
    let (revision, write) = last;
    let end = records.last().expect("the last write is a record");
    assert_eq!(end.op, Op::Read, "a history ends with a read");
    let unknown = || records.iter().filter(|it| it.returned.is_none());
    let is_explained = match end.seen() {
        Some(seen) if seen.mod_revision == revision => write.value() == Some(seen.value),
        Some(seen) => {
            seen.mod_revision > revision && unknown().any(|it| it.value() == Some(seen.value))
        }
        None => write.op == Op::Delete || unknown().any(|it| it.op == Op::Delete),
    };
    (!is_explained)
        .then(|| format!("{:?} of revision {revision}, found {:?}", write.op, end.seen()))
}

fn first(pair: &(i64, &&Record)) -> i64 {
    pair.0
}

/// Checks what etcd promises of revisions over all keys: each write has one of its own, readers
/// see it on the value, and revisions never run against time.
///
/// # Errors
///
/// The operations that break the promise, for a person.
pub(crate) fn revisions_in_order(records: &[Record]) -> Result<(), String> {
    let mut written: BTreeMap<i64, &Record> = BTreeMap::new();
    for record in records {
        let Some(revision) = record.written_revision() else { continue };
        if let Some(other) = written.insert(revision, record) {
            return Err(format!("one revision for two writes: {other:?} and {record:?}"));
        }
    }
    for record in records {
        let Some(seen) = record.seen() else { continue };
        if let Some(write) = written.get(&seen.mod_revision)
            && write.value() != Some(seen.value)
        {
            return Err(format!("{record:?} saw another value than was written: {write:?}"));
        }
    }
    revisions_follow_time(records)
}

/// An operation that is called after another returned has a revision at least as high, and a
/// higher one if it made a revision.
fn revisions_follow_time(records: &[Record]) -> Result<(), String> {
    let mut calls: Vec<(&Record, i64)> =
        records.iter().filter_map(|it| Some((it, it.returned.as_ref()?.revision))).collect();
    let mut returns: Vec<(u64, i64)> =
        calls.iter().filter_map(|(it, revision)| Some((it.returned?.moment, *revision))).collect();
    calls.sort_by_key(|(record, _)| record.invoked);
    returns.sort_unstable();
    let mut returns = returns.into_iter().peekable();
    let mut revision_min = 0;
    for (record, revision) in calls {
        while let Some((_, known)) = returns.next_if(|(moment, _)| *moment < record.invoked) {
            revision_min = revision_min.max(known);
        }
        if revision < revision_min + i64::from(record.written_revision().is_some()) {
            return Err(format!("{record:?} came after an answer of revision {revision_min}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Returned;

    /// (invoked, returned, operation, reply, revision); returned 0 means unknown.
    fn history(operations: &[(u64, u64, Op, Reply, i64)]) -> Vec<Record> {
        let record = |&(invoked, moment, op, reply, revision): &(u64, u64, Op, Reply, i64)| {
            let returned = (moment > 0).then_some(Returned { moment, reply, revision });
            Record { key: "k".to_owned(), op, server: 0, invoked, returned }
        };
        operations.iter().map(record).collect()
    }

    fn read(value: u64, version: i64, mod_revision: i64) -> Reply {
        Reply::Read(Some(Seen { value, version, mod_revision }))
    }

    #[test]
    fn a_history_of_one_correct_copy_passes() {
        let swap = Op::Swap { expected: Some(1), expected_revision: 2, value: 2 };
        let records = history(&[
            (1, 2, Op::Put(1), Reply::Written, 2),
            (3, 4, swap, Reply::Written, 3),
            (5, 6, Op::Read, read(2, 2, 3), 3),
            (7, 0, Op::Put(3), Reply::Written, 0),
            (8, 9, Op::Delete, Reply::Deleted(true), 5),
            (10, 11, Op::Read, Reply::Read(None), 5),
        ]);
        assert_eq!(linearizable(&records), Ok(()));
        assert_eq!(revisions_in_order(&records), Ok(()));
        assert_eq!(lost_writes(&records), 0);
    }

    #[test]
    fn a_stale_read_is_found() {
        let records = history(&[
            (1, 2, Op::Put(1), Reply::Written, 2),
            (3, 4, Op::Put(2), Reply::Written, 3),
            (5, 6, Op::Read, read(1, 1, 2), 3),
        ]);
        assert!(linearizable(&records).is_err());
    }

    #[test]
    fn a_write_that_was_carried_out_twice_is_found() {
        let records =
            history(&[(1, 2, Op::Put(1), Reply::Written, 2), (3, 4, Op::Read, read(1, 2, 3), 3)]);
        assert!(linearizable(&records).is_err());
    }

    #[test]
    fn a_lost_write_is_counted_and_one_that_an_unknown_write_replaced_is_not() {
        let lost = [
            (1, 2, Op::Put(1), Reply::Written, 2),
            (3, 4, Op::Put(2), Reply::Written, 3),
            (5, 6, Op::Read, read(1, 1, 2), 3),
        ];
        assert_eq!(lost_writes(&history(&lost)), 1);
        let replaced = [
            (1, 2, Op::Put(1), Reply::Written, 2),
            (3, 0, Op::Put(2), Reply::Written, 0),
            (5, 6, Op::Read, read(2, 2, 3), 3),
        ];
        assert_eq!(lost_writes(&history(&replaced)), 0);
    }

    #[test]
    fn a_revision_that_runs_against_time_is_found() {
        let records =
            history(&[(1, 2, Op::Put(1), Reply::Written, 3), (3, 4, Op::Read, read(1, 1, 3), 2)]);
        assert!(revisions_in_order(&records).is_err());
    }
}
