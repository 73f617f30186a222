//! A digest of what a store holds, to compare replicas by. Must not depend on where changes are
//! kept, nor on how far a compaction got.

use crate::error::{OpError, ReadError};
use crate::revision::Revision;
use crate::row;
use crate::rows::LiveRows;
use crate::view::View;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreHash {
    /// As of which revision.
    pub revision: Revision,
    /// The compaction that the digest presupposes.
    pub compacted: Option<Revision>,
    /// How many changes it covers.
    pub change_count: u64,
    /// CRC32C over all of them.
    pub digest: u32,
}

/// The digest of `view` as of `revision`, or of all of it.
pub(crate) fn hash(view: &View, revision: Option<Revision>) -> Result<StoreHash, ReadError> {
    let revision = revision.unwrap_or(view.revision);
    if revision > view.revision {
        return Err(OpError::FutureRevision.into());
    }
    if view.compacted.is_some_and(|compacted| revision < compacted) {
        return Err(OpError::Compacted.into());
    }
    let mut hash = StoreHash { revision, compacted: view.compacted, change_count: 0, digest: 0 };
    let view = View { revision, ..view.clone() };
    let mut rows = LiveRows::new(view, None)?;
    while let Some(row) = rows.next()? {
        hash.change_count += 1;
        hash.digest = crc32c::crc32c_append(hash.digest, &row::row_key(row.id));
        hash.digest = crc32c::crc32c_append(hash.digest, &row.value);
    }
    Ok(hash)
}
