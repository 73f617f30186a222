//! Reads records from a segment file through a bounded window, and looks beyond a bad place for
//! proof of what was durable. Must not know the log's order.

use crate::record::{RECORD_ALIGNMENT, RECORD_HEADER_SIZE, Record, RecordHeader, Salt};
use crate::{DiskFile, WalError};
use bytes::Bytes;
use std::path::Path;

/// How much recovery reads at a time, unless a record is larger.
pub(crate) const SCAN_WINDOW_BYTES: usize = 1 << 20;
/// How much of a blank file is skipped at a time in the search for records.
const BLANK_STEP_BYTES: usize = 4096;

/// What stands at a position.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A whole record.
    Record(Record),
    /// The end.
    End,
    /// Zeros where a header would be.
    Blank,
    /// Anything else.
    Invalid,
}

/// A window on a file. What it hands out stays valid when the window moves on.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    salt: Salt,
    end_bytes: u64,
    step_bytes: usize,
    window_start: u64,
    window: Bytes,
}

impl<'a> Scanner<'a> {
    /// Reads the segment `file` up to `end_bytes` or its end.
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        salt: Salt,
        end_bytes: u64,
        step_bytes: usize,
    ) -> Result<Self, WalError> {
        let size_bytes = file.size_bytes().map_err(WalError::io("measure", path))?;
        let end_bytes = end_bytes.min(size_bytes);
        let window = Bytes::new();
        Ok(Self { file, path, salt, end_bytes, step_bytes, window_start: 0, window })
    }

    /// The `length` bytes at `position`; `None` if the end comes first.
    fn bytes_at(&mut self, position: u64, length: usize) -> Result<Option<Bytes>, WalError> {
        let left = usize::try_from(self.end_bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        if length > left {
            return Ok(None);
        }
        if let Some(bytes) = self.window_slice(position, length) {
            return Ok(Some(bytes));
        }
        let mut window = vec![0; length.max(self.step_bytes).min(left)];
        let count =
            self.file.read_at(&mut window, position).map_err(WalError::io("read", self.path))?;
        window.truncate(count);
        self.window = Bytes::from(window);
        self.window_start = position;
        Ok(self.window_slice(position, length))
    }

    fn window_slice(&self, position: u64, length: usize) -> Option<Bytes> {
        let start = usize::try_from(position.checked_sub(self.window_start)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }

    /// What stands at `position`. Lengths are believed only as far as the file reaches.
    pub(crate) fn record_at(&mut self, position: u64) -> Result<Found, WalError> {
        let Some(head) = self.bytes_at(position, RECORD_HEADER_SIZE)? else {
            return self.short_rest(position);
        };
        let Some(header) = RecordHeader::parse(&head) else {
            let is_blank = head.iter().all(|&byte| byte == 0);
            return Ok(if is_blank { Found::Blank } else { Found::Invalid });
        };
        let Some(mut record) = self.bytes_at(position, header.record_size())? else {
            return Ok(Found::Invalid);
        };
        if !header.is_valid(self.salt, position, &record) {
            return Ok(Found::Invalid);
        }
        let mut payload = record.split_off(RECORD_HEADER_SIZE);
        payload.truncate(header.payload_size);
        Ok(Found::Record(Record { header, payload }))
    }

    /// The bytes of the whole record at `position`; `None` if there is something else.
    pub(crate) fn whole_record_at(&mut self, position: u64) -> Result<Option<Bytes>, WalError> {
        let Found::Record(record) = self.record_at(position)? else { return Ok(None) };
        // They are still in the window: these bytes were verified, not those of another read.
        self.bytes_at(position, record.header.record_size())
    }

    /// Too few bytes for a header: nothing, zeros, or the beginning of a torn record.
    fn short_rest(&mut self, position: u64) -> Result<Found, WalError> {
        let left = usize::try_from(self.end_bytes.saturating_sub(position)).unwrap_or(0);
        let rest = self.bytes_at(position, left)?.unwrap_or_default();
        let is_blank = rest.iter().all(|&byte| byte == 0);
        Ok(if is_blank { Found::End } else { Found::Invalid })
    }

    /// Whether nothing but zeros stands from `position` to the end.
    pub(crate) fn is_blank_from(&mut self, mut position: u64) -> Result<bool, WalError> {
        while position < self.end_bytes {
            let left = usize::try_from(self.end_bytes - position).unwrap_or(usize::MAX);
            let length = left.min(self.step_bytes);
            let bytes = self.bytes_at(position, length)?;
            if bytes.is_none_or(|bytes| bytes.iter().any(|&byte| byte != 0)) {
                return Ok(false);
            }
            position += length as u64;
        }
        Ok(true)
    }

    /// Looks for whole records from `stop` on, to the end of the file. This costs a pass over the
    /// rest of the file, once per start.
    pub(crate) fn search_beyond(&mut self, stop: u64) -> Result<Beyond, WalError> {
        let mut beyond = Beyond { synced_bytes: stop, survivors: false, first_proof: None };
        let mut position = stop;
        while position < self.end_bytes {
            if let Some(skipped) = self.blank_step(position)? {
                position += skipped;
                continue;
            }
            // A whole record at the stop itself is a ghost or a contradiction, and proves nothing.
            if let Found::Record(record) = self.record_at(position)? {
                beyond.note(stop, &record);
            }
            position += RECORD_ALIGNMENT as u64;
        }
        Ok(beyond)
    }

    /// How far the file is blank from `position` on, if it is so for a whole step. A record that
    /// begins in those zeros would have to begin with zeros, and none does.
    fn blank_step(&mut self, position: u64) -> Result<Option<u64>, WalError> {
        let Some(bytes) = self.bytes_at(position, BLANK_STEP_BYTES)? else {
            return Ok(None);
        };
        let is_blank = bytes.iter().all(|&byte| byte == 0);
        Ok(is_blank.then_some((BLANK_STEP_BYTES - RECORD_HEADER_SIZE) as u64))
    }
}

/// What stands beyond a bad place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beyond {
    /// Everything before this position is proven to have been durable once.
    pub(crate) synced_bytes: u64,
    /// Whether there are whole records that prove nothing: they may be of the torn batch.
    pub(crate) survivors: bool,
    /// The first entry that stands in a batch which proves that the bad place was durable.
    pub(crate) first_proof: Option<quorate_core::LogId>,
}

impl Beyond {
    fn note(&mut self, stop: u64, record: &Record) {
        let synced_bytes = record.header.synced_bytes;
        if synced_bytes > stop {
            self.first_proof = self.first_proof.or(Some(record.header.log_id));
            self.synced_bytes = self.synced_bytes.max(synced_bytes);
        } else {
            self.survivors = true;
        }
    }
}
