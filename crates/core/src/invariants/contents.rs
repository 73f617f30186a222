//! Which content was seen under which log id: one log id, one content. Knows no server.

use crate::{LogId, Payload, Term};
use std::collections::BTreeMap;

/// A digest of every entry ever seen. Nearly every index has had one entry: those lie in a row, the
/// few that competed with them in a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// The first entry seen at each index, from 1 on without a gap.
    row: Vec<(Term, u64)>,
    others: BTreeMap<LogId, u64>,
}

impl Contents {
    /// The digest under which this entry was first seen; this one, if it is new.
    pub(super) fn first_seen(&mut self, log_id: LogId, digest: u64) -> u64 {
        let place = usize::try_from(log_id.index.get()).unwrap_or(usize::MAX).saturating_sub(1);
        if place == self.row.len() {
            self.row.push((log_id.term, digest));
            return digest;
        }
        match self.row.get(place) {
            Some((term, known)) if *term == log_id.term => *known,
            Some(_) | None => *self.others.entry(log_id).or_insert(digest),
        }
    }
}

/// FNV-1a over the payload's content; enough to notice a difference.
pub(super) fn digest(payload: &Payload) -> u64 {
    let fold = |kind: u8, bytes: &[u8]| {
        let start = 0xcbf2_9ce4_8422_2325;
        std::iter::once(&kind)
            .chain(bytes)
            .fold(start, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    };
    match payload {
        Payload::Noop => fold(0, &[]),
        Payload::Command(bytes) => fold(1, bytes),
        Payload::Session(bytes) => fold(2, bytes),
        Payload::Configuration(configuration) => fold(3, format!("{configuration:?}").as_bytes()),
    }
}
