//! Room for a batch, found before anything of it is begun: a full disk then leaves the log as it was,
//! and the batch may be given again. Must not know what is written where there is room.

use crate::record::{PAYLOAD_BYTES_MAX, record_size};
use crate::segment::{RECORDS_START, Segment};
use crate::wal::payload_of;
use crate::{Wal, WalError, folder};
use quorate_core::{LogId, Persist, SnapshotMeta};

impl Wal {
    /// Makes sure that a batch fits into the segment that is written, or makes the next one with room
    /// for it: one that resets the log to `base` needs that, and one that is too large for what is left.
    ///
    /// # Errors
    ///
    /// [`WalError::DiskFull`], with which nothing has happened. Others poison, as those of a write do.
    pub(crate) fn find_room(
        &mut self,
        base: Option<&SnapshotMeta>,
        batch: &[Persist],
    ) -> Result<Option<Segment>, WalError> {
        self.check_poison()?;
        let found = self.room_for(base, batch);
        if let Err(error) = &found
            && !matches!(error, WalError::DiskFull { .. })
        {
            self.poison = Some(error.poison());
        }
        found
    }

    fn room_for(
        &mut self,
        base: Option<&SnapshotMeta>,
        batch: &[Persist],
    ) -> Result<Option<Segment>, WalError> {
        let size_bytes = size_bound(batch)?;
        let end_bytes = self.active.end_bytes;
        if let Some(base) = base {
            return self.next_segment(base.last_included, 0, size_bytes).map(Some);
        }
        let is_within = end_bytes + size_bytes <= self.active.header.capacity_bytes;
        if size_bytes == 0 || end_bytes == RECORDS_START || is_within {
            return self.active.reserve(size_bytes).map(|()| None);
        }
        self.next_segment(self.map.last(), end_bytes, size_bytes).map(Some)
    }

    fn next_segment(
        &mut self,
        last_log: LogId,
        previous_end_bytes: u64,
        size_bytes: u64,
    ) -> Result<Segment, WalError> {
        let mut header = self.active.header;
        header.number += 1;
        header.era = self.meta.meta().era;
        header.last_log = last_log;
        header.previous_end_bytes = previous_end_bytes;
        header.capacity_bytes = self.options.next_capacity(header.capacity_bytes);
        header.previous_salt = 0;
        let prepared = self.slot.take();
        folder::make_segment(self.disk.as_ref(), &self.dir, header, prepared, size_bytes)
    }
}

/// What the batch's records take at most.
fn size_bound(batch: &[Persist]) -> Result<u64, WalError> {
    let mut scratch = Vec::new();
    let mut size_bytes = 0;
    for write in batch {
        if write.truncate_after.is_some() {
            size_bytes += record_size(0) as u64;
        }
        for entry in &write.entries {
            let length = payload_of(entry, &mut scratch).1.len();
            if length > PAYLOAD_BYTES_MAX {
                return Err(WalError::TooLarge {
                    log_id: entry.log_id,
                    size_bytes: length,
                    limit_bytes: PAYLOAD_BYTES_MAX,
                });
            }
            size_bytes += record_size(length) as u64;
        }
    }
    Ok(size_bytes)
}
