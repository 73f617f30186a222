//! Reads records from a segment file through a bounded window, and looks beyond a bad place for
//! proof of what was durable. Must not know the log's order.

use crate::disk::read_full;
use crate::record::{RECORD_ALIGNMENT, RECORD_HEADER_SIZE, Record, RecordHeader, Salts};
use crate::verdict::Later;
use crate::{DiskFile, WalError};
use bytes::Bytes;
use quorate_core::LogId;
use std::io;
use std::ops::Range;
use std::path::Path;

/// How much recovery reads at a time, unless a record is larger.
pub(crate) const SCAN_WINDOW_BYTES: usize = 1 << 20;
/// How much of a blank file is skipped at a time in the search for records.
const BLANK_STEP_BYTES: usize = 4096;
/// What a disk reads whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// What stands at a position.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A whole record.
    Record(Record),
    /// The end.
    End,
    /// Zeros where a header would be.
    Blank,
    /// A whole record of the segment that the file was before it became this one.
    Residue,
    /// Bytes that the disk does not give.
    Unreadable(io::ErrorKind),
    /// Anything else.
    Invalid,
}

/// Why bytes that should be there could not be read.
#[derive(Clone, Copy, Debug)]
struct Unread(io::ErrorKind);

/// A window on a file. What it hands out stays valid when the window moves on.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    salts: Salts,
    end_bytes: u64,
    step_bytes: usize,
    window_start: u64,
    window: Bytes,
    /// The sector that could not be read last.
    bad: Option<(Range<u64>, io::ErrorKind)>,
}

impl<'a> Scanner<'a> {
    /// Reads the segment `file` up to `end_bytes` or its end.
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        salts: Salts,
        end_bytes: u64,
        step_bytes: usize,
    ) -> Result<Self, WalError> {
        let size_bytes = file.size_bytes().map_err(WalError::io("measure", path))?;
        let end_bytes = end_bytes.min(size_bytes);
        let window = Bytes::new();
        let bad = None;
        Ok(Self { file, path, salts, end_bytes, step_bytes, window_start: 0, window, bad })
    }

    /// The `length` bytes at `position`; `None` if the end comes first.
    fn bytes_at(&mut self, position: u64, length: usize) -> Result<Option<Bytes>, Unread> {
        let left = usize::try_from(self.end_bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        if length > left {
            return Ok(None);
        }
        if let Some(bytes) = self.window_slice(position, length) {
            return Ok(Some(bytes));
        }
        let left = self.clear_bytes(position, length, left)?;
        let mut window = vec![0; length.max(self.step_bytes).min(left)];
        let count = self.read(&mut window, position);
        window.truncate(count);
        self.window = Bytes::from(window);
        self.window_start = position;
        match self.window_slice(position, length) {
            Some(bytes) => Ok(Some(bytes)),
            // A file that gives less than it has is as good as unreadable.
            None => {
                Err(Unread(self.bad.as_ref().map_or(io::ErrorKind::UnexpectedEof, |bad| bad.1)))
            }
        }
    }

    /// How many of `left` bytes can be asked for without meeting the sector known to be bad; an error
    /// if it is among the first `length`.
    fn clear_bytes(&self, position: u64, length: usize, left: usize) -> Result<usize, Unread> {
        match &self.bad {
            Some((bad, kind)) if position < bad.end => {
                let clear = bad.start.saturating_sub(position);
                let clear = usize::try_from(clear).unwrap_or(usize::MAX);
                if length > clear { Err(Unread(*kind)) } else { Ok(left.min(clear)) }
            }
            Some(_) | None => Ok(left),
        }
    }

    /// Fills the window as far as the disk gives it; returns how far. A read of much may fail for a
    /// sector that nobody needs, or for a moment only.
    fn read(&mut self, window: &mut [u8], position: u64) -> usize {
        if let Ok(count) = read_full(self.file, window, position) {
            return count;
        }
        let mut done = 0;
        while let Some(rest) = window.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = position + done as u64;
            let start = at - at % SECTOR_BYTES;
            let end = start + SECTOR_BYTES;
            let step = usize::try_from(end - at).unwrap_or(0).min(rest.len());
            let Some(piece) = rest.get_mut(..step) else { break };
            match read_full(self.file, piece, at) {
                Ok(count) if count == step => done += count,
                Ok(count) => return done + count,
                Err(error) => {
                    self.bad = Some((start..end, error.kind()));
                    break;
                }
            }
        }
        done
    }

    fn window_slice(&self, position: u64, length: usize) -> Option<Bytes> {
        let start = usize::try_from(position.checked_sub(self.window_start)?).ok()?;
        let end = start.checked_add(length)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }

    /// What stands at `position`. Lengths are believed only as far as the file reaches.
    pub(crate) fn record_at(&mut self, position: u64) -> Found {
        self.try_record_at(position).unwrap_or_else(|Unread(kind)| Found::Unreadable(kind))
    }

    fn try_record_at(&mut self, position: u64) -> Result<Found, Unread> {
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
        if !header.is_valid(self.salts.own, position, &record) {
            let is_residue = |salt| header.is_valid(salt, position, &record);
            let is_residue = self.salts.previous.is_some_and(is_residue);
            return Ok(if is_residue { Found::Residue } else { Found::Invalid });
        }
        let mut payload = record.split_off(RECORD_HEADER_SIZE);
        payload.truncate(header.payload_size);
        Ok(Found::Record(Record { header, payload }))
    }

    /// The bytes of the whole record at `position`; `None` if there is something else.
    pub(crate) fn whole_record_at(&mut self, position: u64) -> Option<Bytes> {
        let Found::Record(record) = self.record_at(position) else { return None };
        // They are still in the window: these bytes were verified, not those of another read.
        self.bytes_at(position, record.header.record_size()).ok().flatten()
    }

    /// Too few bytes for a header: nothing, zeros, or the beginning of a torn record.
    fn short_rest(&mut self, position: u64) -> Result<Found, Unread> {
        let left = usize::try_from(self.end_bytes.saturating_sub(position)).unwrap_or(0);
        if left == 0 {
            return Ok(Found::End);
        }
        let rest = self.bytes_at(position, left)?.unwrap_or_default();
        let is_blank = rest.iter().all(|&byte| byte == 0);
        Ok(if is_blank { Found::End } else { Found::Invalid })
    }

    /// Whether nothing but zeros stands from `position` to the end.
    pub(crate) fn is_blank_from(&mut self, mut position: u64) -> Result<bool, WalError> {
        while position < self.end_bytes {
            let left = usize::try_from(self.end_bytes - position).unwrap_or(usize::MAX);
            let length = left.min(self.step_bytes);
            let bytes = self
                .bytes_at(position, length)
                .map_err(|Unread(kind)| WalError::io("read", self.path)(kind.into()))?;
            if bytes.is_none_or(|bytes| bytes.iter().any(|&byte| byte != 0)) {
                return Ok(false);
            }
            position += length as u64;
        }
        Ok(true)
    }

    /// Looks for whole records behind `stop`, to the end of the file; everything before
    /// `known_synced` is known to have been durable. This costs a pass over the rest of the file,
    /// once per start. Where the disk gives nothing, nothing is found.
    pub(crate) fn search_beyond(&mut self, stop: u64, known_synced: u64) -> Beyond {
        let synced_bytes = stop.max(known_synced);
        let mut beyond = Beyond { synced_bytes, later: Later::None, first_proof: None };
        // A whole record at the stop itself is a ghost or a contradiction, and proves nothing.
        let mut position = stop + RECORD_ALIGNMENT as u64;
        while position < self.end_bytes {
            if let Some(skipped) = self.blank_step(position) {
                position += skipped;
                continue;
            }
            if let Found::Record(record) = self.record_at(position) {
                beyond.note(stop, &record);
            }
            position += RECORD_ALIGNMENT as u64;
        }
        beyond
    }

    /// Where the first whole record stands behind a bad place at `from`, in front of `to`, that `is_it`.
    pub(crate) fn next_whole(
        &mut self,
        from: u64,
        to: u64,
        is_it: impl Fn(u64, &Record) -> bool,
    ) -> Option<u64> {
        let end = to.min(self.end_bytes);
        let mut position = from + RECORD_ALIGNMENT as u64;
        while position < end {
            if let Some(skipped) = self.blank_step(position) {
                position += skipped;
                continue;
            }
            if let Found::Record(record) = self.record_at(position)
                && is_it(position, &record)
            {
                return Some(position);
            }
            position += RECORD_ALIGNMENT as u64;
        }
        None
    }

    /// Whether nothing but zeros stands in the sector that ends there, from `from` on, or nothing at all.
    pub(crate) fn is_blank_before(&mut self, position: u64, from: u64) -> bool {
        let start = position.saturating_sub(1) / SECTOR_BYTES * SECTOR_BYTES;
        let start = start.max(from.min(position));
        let length = usize::try_from(position - start).unwrap_or(0);
        let bytes = self.bytes_at(start, length).ok().flatten();
        bytes.is_none_or(|bytes| bytes.iter().all(|&byte| byte == 0))
    }

    /// How far the file is blank from `position` on, if it is so for a whole step. A record that
    /// begins in those zeros would have to begin with zeros, and none does.
    fn blank_step(&mut self, position: u64) -> Option<u64> {
        let bytes = self.bytes_at(position, BLANK_STEP_BYTES).ok().flatten()?;
        let is_blank = bytes.iter().all(|&byte| byte == 0);
        is_blank.then_some((BLANK_STEP_BYTES - RECORD_HEADER_SIZE) as u64)
    }
}

/// What stands beyond a bad place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beyond {
    /// Everything before this position is proven to have been durable once.
    pub(crate) synced_bytes: u64,
    /// Which whole records there are.
    pub(crate) later: Later,
    /// The first entry that stands in a batch which proves that the bad place was durable.
    pub(crate) first_proof: Option<LogId>,
}

impl Beyond {
    fn note(&mut self, stop: u64, record: &Record) {
        let header = &record.header;
        if header.synced_bytes > stop {
            self.later = Later::Proven;
            self.first_proof = self.first_proof.or(Some(header.log_id));
            self.synced_bytes = self.synced_bytes.max(header.synced_bytes);
        } else if self.later == Later::None {
            // It may be of the torn batch, or of one that was cut off.
            self.later = Later::Unproven;
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
