//! Leases and their keys as rows of the engine. The layout is drawn in
//! `docs/decisions/0015-leases.md`; nothing here decides which of them there are.

use super::table::{Lease, Leases, TTL_SECONDS_MAX};
use crate::engine::{Direction, EngineError, EngineView, Space, Write};
use bytes::Bytes;
use prost::Message;
use quorate::core::LogIndex;

/// What the rows of leases begin with.
const RECORD: u8 = 0;
/// What the rows of attached keys begin with: the lease's id follows, then the key.
const BOND: u8 = 1;
const AFTER_BONDS: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct RecordMessage {
    #[prost(int64, tag = "1")]
    ttl: i64,
    #[prost(uint64, tag = "2")]
    renewed_at: u64,
}

/// A lease in a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct NamedRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(uint64, tag = "3")]
    renewed_at: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct AllRecords {
    #[prost(message, repeated, tag = "1")]
    leases: Vec<NamedRecord>,
}

/// The write that keeps a lease, or forgets it.
pub(crate) fn write_record(id: i64, lease: Option<Lease>) -> Write {
    let key = with_id(RECORD, id);
    match lease {
        Some(Lease { ttl, renewed_at }) => {
            let value = RecordMessage { ttl, renewed_at: renewed_at.get() }.encode_to_vec();
            Write::Put { space: Space::Leases, key, value }
        }
        None => Write::Delete { space: Space::Leases, key },
    }
}

/// The write that keeps in mind that a key is attached to a lease, or is no more.
pub(crate) fn write_bond(lease: i64, key: &[u8], attached: bool) -> Write {
    let mut row = with_id(BOND, lease);
    row.extend_from_slice(key);
    if attached {
        Write::Put { space: Space::Leases, key: row, value: Vec::new() }
    } else {
        Write::Delete { space: Space::Leases, key: row }
    }
}

/// All leases that the engine holds.
pub(crate) fn read_all(view: &dyn EngineView) -> Result<Leases, EngineError> {
    let mut rows = view.scan(Space::Leases, &[RECORD], Some(&[BOND]), Direction::Forward)?;
    let mut leases = Vec::new();
    while rows.advance()? {
        let row = parse_record(rows.key(), rows.value()).ok_or_else(|| EngineError::Corrupt {
            space: Space::Leases,
            key: rows.key().to_vec(),
            what: "not a lease",
        })?;
        leases.push(row);
    }
    Ok(leases.into_iter().collect())
}

fn parse_record(key: &[u8], value: &[u8]) -> Option<(i64, Lease)> {
    let id = i64::from_be_bytes(key.strip_prefix(&[RECORD])?.try_into().ok()?);
    let RecordMessage { ttl, renewed_at } = RecordMessage::decode(value).ok()?;
    Some((id, Lease { ttl, renewed_at: LogIndex::new(renewed_at) }))
}

/// Calls `visit` with each key that the engine holds as attached to `lease`, in order.
pub(super) fn for_each_bond(
    view: &dyn EngineView,
    lease: i64,
    mut visit: impl FnMut(Bytes),
) -> Result<(), EngineError> {
    let from = with_id(BOND, lease);
    let to = match lease.cast_unsigned().checked_add(1) {
        Some(next) => with_id(BOND, next.cast_signed()),
        None => vec![AFTER_BONDS],
    };
    let mut rows = view.scan(Space::Leases, &from, Some(&to), Direction::Forward)?;
    while rows.advance()? {
        visit(Bytes::copy_from_slice(rows.key().get(from.len()..).unwrap_or_default()));
    }
    Ok(())
}

fn with_id(kind: u8, id: i64) -> Vec<u8> {
    let mut row = Vec::with_capacity(9);
    row.push(kind);
    row.extend_from_slice(&id.to_be_bytes());
    row
}

impl Leases {
    /// As they stand in a snapshot.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let record =
            |(id, Lease { ttl, renewed_at })| NamedRecord { id, ttl, renewed_at: renewed_at.get() };
        AllRecords { leases: self.iter().map(record).collect() }.encode_to_vec()
    }

    /// The inverse of [`Leases::encode`]; `None` if the bytes are something else, or leases that no
    /// state holds which has applied the log up to `applied`.
    pub(crate) fn decode(bytes: Bytes, applied: LogIndex) -> Option<Self> {
        let records = AllRecords::decode(bytes).ok()?.leases;
        let are_in_order = records.is_sorted_by(|one, next| one.id < next.id);
        let leases: Option<Self> =
            records.into_iter().map(|record| record.check(applied)).collect();
        leases.filter(|_| are_in_order)
    }
}

impl NamedRecord {
    fn check(self, applied: LogIndex) -> Option<(i64, Lease)> {
        let Self { id, ttl, renewed_at } = self;
        let renewed_at = LogIndex::new(renewed_at);
        let is_possible = id != 0 && (1..=TTL_SECONDS_MAX).contains(&ttl) && renewed_at <= applied;
        is_possible.then_some((id, Lease { ttl, renewed_at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(records: &[(i64, i64, u64)]) -> Option<Vec<i64>> {
        let record = |&(id, ttl, renewed_at)| NamedRecord { id, ttl, renewed_at };
        let leases = records.iter().map(record).collect();
        let bytes = AllRecords { leases }.encode_to_vec();
        let leases = Leases::decode(bytes.into(), LogIndex::new(9))?;
        Some(leases.iter().map(|(id, _)| id).collect())
    }

    #[test]
    fn leases_that_no_store_holds_are_not_taken_out_of_a_snapshot() {
        assert_eq!(decode(&[(-1, 1, 1), (1, TTL_SECONDS_MAX, 9)]), Some(vec![-1, 1]));
        assert_eq!(decode(&[(0, 1, 1)]), None, "no id");
        assert_eq!(decode(&[(1, 0, 1)]), None, "no time");
        assert_eq!(decode(&[(1, TTL_SECONDS_MAX + 1, 1)]), None, "too much time");
        assert_eq!(decode(&[(1, 1, 10)]), None, "renewed by an entry that is not applied");
        assert_eq!(decode(&[(1, 1, 1), (1, 2, 2)]), None, "twice");
        assert_eq!(decode(&[(2, 1, 1), (1, 1, 1)]), None, "out of order");
        assert_eq!(
            Leases::decode(Bytes::from_static(b"nonsense"), LogIndex::new(9)).map(drop),
            None
        );
    }
}
