//! Segment files: their names, and the header block that ties each to its folder and to the
//! segment before it (layout: `docs/wal-format.md`). Must not know records.

use crate::disk::{is_full, read_full};
use crate::prefix::{Kind, PREFIX_SIZE};
use crate::record::{Salt, Salts};
use crate::{Damage, DiskFile, Identity, WalError};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{LogId, LogIndex, NodeId, Term};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The header block's size in bytes: records start here. A block of its own, so that no torn write
/// of a record can touch it.
pub(crate) const SEGMENT_HEADER_SIZE: usize = 4096;
/// The same as a position.
pub(crate) const RECORDS_START: u64 = SEGMENT_HEADER_SIZE as u64;

const KIND: Kind = Kind { magic: *b"QUOR-SEG", version: 2 };

/// The segments' file names end so.
const SUFFIX: &str = ".wal";
const STEM: &str = "log-";

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    /// The segment's number; they follow each other without a gap.
    pub(crate) number: u64,
    /// How often the log had been opened when the segment was created.
    pub(crate) era: u32,
    /// The log's last entry when the segment was created.
    pub(crate) last_log: LogId,
    /// Where the records of the segment before it end; 0 if it follows on none.
    pub(crate) previous_end_bytes: u64,
    /// The size at which the log should go on to the next segment.
    pub(crate) capacity_bytes: u64,
    /// The salt of the segment that the file was before it became this one; 0 if it was filled with
    /// zeros, as all of format 1 were.
    pub(crate) previous_salt: u32,
}

impl SegmentHeader {
    /// The header block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(SEGMENT_HEADER_SIZE);
        body.put_u64_le(self.identity.cluster_id);
        body.put_u64_le(self.identity.node_id.get());
        body.put_u128_le(self.identity.storage_id);
        body.put_u64_le(self.number);
        body.put_u32_le(self.era);
        body.put_u64_le(self.last_log.term.get());
        body.put_u64_le(self.last_log.index.get());
        body.put_u64_le(self.previous_end_bytes);
        body.put_u64_le(self.capacity_bytes);
        body.put_u32_le(self.previous_salt);
        body.resize(SEGMENT_HEADER_SIZE - PREFIX_SIZE - 4, 0);
        let mut block = Vec::with_capacity(SEGMENT_HEADER_SIZE);
        KIND.encode(&mut block);
        block.put_u32_le(crc32c::crc32c(&body));
        block.put_slice(&body);
        block
    }

    /// Reads and checks the header of the file at `path`, which should be segment `number` of
    /// `identity`'s folder.
    pub(crate) fn read(
        file: &dyn DiskFile,
        path: &Path,
        identity: &Identity,
        number: u64,
    ) -> Result<Self, WalError> {
        let header = Self::read_any(file, path)?;
        header.check_place(path, identity, number)?;
        Ok(header)
    }

    /// Reads the header of the segment at `path`, whichever it is.
    pub(crate) fn read_any(file: &dyn DiskFile, path: &Path) -> Result<Self, WalError> {
        let mut block = vec![0; SEGMENT_HEADER_SIZE];
        let count = read_full(file, &mut block, 0).map_err(WalError::io("read", path))?;
        block.truncate(count);
        let mut block = Bytes::from(block);
        let version = KIND.check(path, &mut block)?;
        let checksum = block.try_get_u32_le().unwrap_or_default();
        let is_whole = count == SEGMENT_HEADER_SIZE && checksum == crc32c::crc32c(&block);
        let header = is_whole.then(|| Self::decode(block, version)).flatten();
        header.ok_or_else(|| WalError::damaged(path, 0, Damage::Header))
    }

    fn decode(mut body: Bytes, version: u32) -> Option<Self> {
        let identity = Identity {
            cluster_id: body.try_get_u64_le().ok()?,
            node_id: NodeId::new(body.try_get_u64_le().ok()?),
            storage_id: body.try_get_u128_le().ok()?,
        };
        let number = body.try_get_u64_le().ok()?;
        let era = body.try_get_u32_le().ok()?;
        let term = Term::new(body.try_get_u64_le().ok()?);
        let index = LogIndex::new(body.try_get_u64_le().ok()?);
        let previous_end_bytes = body.try_get_u64_le().ok()?;
        let capacity_bytes = body.try_get_u64_le().ok()?;
        let previous_salt = if version >= 2 { body.try_get_u32_le().ok()? } else { 0 };
        let last_log = LogId::new(term, index);
        Some(Self {
            identity,
            number,
            era,
            last_log,
            previous_end_bytes,
            capacity_bytes,
            previous_salt,
        })
    }

    fn check_place(&self, path: &Path, identity: &Identity, number: u64) -> Result<(), WalError> {
        if self.identity != *identity {
            return Err(WalError::WrongIdentity {
                path: path.to_owned(),
                expected_cluster_id: identity.cluster_id,
                expected_node_id: identity.node_id,
                found: self.identity,
            });
        }
        if self.number != number {
            let damage = Damage::Misplaced { expected: number, found: self.number };
            return Err(WalError::damaged(path, 0, damage));
        }
        Ok(())
    }

    /// What the checksums of the segment's records start from.
    pub(crate) fn salt(&self) -> Salt {
        Salt::new(&self.identity, self.number, self.era)
    }

    /// Those of the records that the file can hold.
    pub(crate) fn salts(&self) -> Salts {
        Salts { own: self.salt(), previous: Salt::from_raw(self.previous_salt) }
    }
}

/// A segment of the log.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) salt: Salt,
    /// Where its records end.
    pub(crate) end_bytes: u64,
    /// No write before this position meets a full disk.
    pub(crate) reserved_bytes: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Option<Arc<dyn DiskFile>>,
}

impl Segment {
    /// Bytes of records in it.
    pub(crate) const fn records_bytes(&self) -> u64 {
        self.end_bytes.saturating_sub(RECORDS_START)
    }

    /// Makes sure that there is room for so many more bytes of records. A log that grows asks the
    /// system once for many batches, as long as there is plenty.
    pub(crate) fn reserve(&mut self, size_bytes: u64) -> Result<(), WalError> {
        let end_bytes = self.end_bytes + size_bytes;
        let Some(file) = self.file.as_ref() else { return Ok(()) };
        if size_bytes == 0 || end_bytes <= self.reserved_bytes {
            return Ok(());
        }
        let start = self.end_bytes;
        let step = (self.header.capacity_bytes / 16).max(RECORDS_START);
        let ahead = end_bytes.next_multiple_of(step);
        let mut reached = ahead;
        let mut taken = file.reserve(start, ahead - start);
        if taken.as_ref().is_err_and(is_full) {
            reached = end_bytes;
            taken = file.reserve(start, size_bytes);
        }
        let can_reserve = taken.map_err(WalError::io("take room in", &self.path))?;
        // A disk that cannot do that is not asked again.
        self.reserved_bytes = if can_reserve { reached } else { u64::MAX };
        Ok(())
    }
}

/// The file name of segment `number`.
pub(crate) fn file_name(number: u64) -> String {
    format!("{STEM}{number:020}{SUFFIX}")
}

/// The number of the segment with this file name; `None` if it is no segment's.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix(STEM)?.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}
