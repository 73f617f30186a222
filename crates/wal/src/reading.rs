//! Reads entries back from the segments, each verified against its checksum and against what the
//! map says of it. Must not know how they are written.

use crate::log_map::Mark;
use crate::recovery::decode_entry;
use crate::scan::{Found, Scanner};
use crate::segment::Segment;
use crate::{Damage, DiskFile, Wal, WalError};
use quorate_core::{Entry, LogId, LogIndex, Term};
use std::sync::Arc;

/// How much is read at a time, unless an entry is larger.
const READ_WINDOW_BYTES: usize = 128 << 10;

/// The older segment that was read last.
pub(crate) struct OpenSegment {
    number: u64,
    file: Arc<dyn DiskFile>,
}

/// What is still to be read: entries from `next` on, within a limit.
struct Want {
    next: LogIndex,
    left_bytes: usize,
    entries: Vec<Entry>,
    is_full: bool,
}

/// See [`Wal::read`].
pub(crate) fn read(
    wal: &mut Wal,
    first: LogIndex,
    last: LogIndex,
    max_bytes: usize,
) -> Result<Vec<Entry>, WalError> {
    let last = last.min(wal.map.last().index);
    let entries = Vec::new();
    if first <= wal.map.start().index {
        return Ok(entries);
    }
    let mut want = Want { next: first, left_bytes: max_bytes, entries, is_full: false };
    while !want.is_full && want.next <= last {
        let Some((mark, next_mark)) = wal.map.mark_before(want.next) else {
            break;
        };
        let run_last = next_mark.and_then(LogIndex::previous).map_or(last, |at| at.min(last));
        read_run(wal, From::Log, mark, run_last, &mut want)?;
    }
    Ok(want.entries)
}

/// Where entries are read from.
#[derive(Clone, Copy)]
enum From {
    /// The log.
    Log,
    /// The stretch at this place of what stands behind the cuts.
    Spare(usize),
}

/// The entries `first` to `last` of a stretch behind the cuts, as many as fit into `max_bytes` and can be
/// read, but at least one.
pub(crate) fn read_spare(
    wal: &mut Wal,
    place: usize,
    (first, last): (LogIndex, LogIndex),
    max_bytes: usize,
) -> Result<Vec<Entry>, WalError> {
    let mut want = Want { next: first, left_bytes: max_bytes, entries: Vec::new(), is_full: false };
    while !want.is_full && want.next <= last {
        let found = wal.spares.map(place).and_then(|map| map.mark_before(want.next));
        let Some((mark, next_mark)) = found else { break };
        let run_last = next_mark.and_then(LogIndex::previous).map_or(last, |at| at.min(last));
        match read_run(wal, From::Spare(place), mark, run_last, &mut want) {
            Ok(()) => {}
            Err(_) if !want.entries.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(want.entries)
}

/// Reads from the mark on, up to entry `run_last`.
fn read_run(
    wal: &mut Wal,
    from: From,
    mark: Mark,
    run_last: LogIndex,
    want: &mut Want,
) -> Result<(), WalError> {
    let (segment, file) = open_segment(wal, from, mark.segment)?;
    let mut scanner = Scanner::new(
        file.as_ref(),
        &segment.path,
        segment.header.salts(),
        segment.end_bytes,
        READ_WINDOW_BYTES,
    )?;
    let mut position = mark.position;
    let mut index = mark.first;
    while index <= run_last && !want.is_full {
        let term = match from {
            From::Log => wal.map.term_at(index),
            From::Spare(place) => wal.spares.map(place).and_then(|map| map.term_at(index)),
        };
        let found = scanner.record_at(position);
        let (entry, size_bytes) = expect_entry(found, index, term)
            .map_err(|damage| damaged_at(&segment, position, (index, run_last), damage))?;
        if index == want.next {
            want.take(entry);
        }
        position += size_bytes;
        index = index.next();
    }
    Ok(())
}

impl Want {
    fn take(&mut self, entry: Entry) {
        let size_bytes = entry.size_bytes();
        if size_bytes > self.left_bytes && !self.entries.is_empty() {
            self.is_full = true;
            return;
        }
        self.left_bytes = self.left_bytes.saturating_sub(size_bytes);
        self.is_full = self.left_bytes == 0;
        self.entries.push(entry);
        self.next = self.next.next();
    }
}

/// The entry that must stand here, and the size of its record. Entries before the base have no
/// known term any more.
fn expect_entry(found: Found, index: LogIndex, term: Option<Term>) -> Result<(Entry, u64), Damage> {
    let record = match found {
        Found::Record(record) => record,
        Found::Unreadable(kind) => return Err(Damage::Unreadable { kind }),
        Found::End | Found::Blank | Found::Residue | Found::Invalid => {
            return Err(Damage::Record { synced_bytes: 0 });
        }
    };
    let log_id = record.header.log_id;
    if log_id.index != index || term.is_some_and(|term| term != log_id.term) {
        let expected = LogId::new(term.unwrap_or(log_id.term), index);
        return Err(Damage::Order { expected, found: log_id });
    }
    let entry = decode_entry(&record).ok_or(Damage::Content)?;
    Ok((entry, record.header.record_size() as u64))
}

fn damaged_at(
    segment: &Segment,
    position: u64,
    (first, last): (LogIndex, LogIndex),
    damage: Damage,
) -> WalError {
    let damage = match damage {
        Damage::Record { .. } => Damage::Record { synced_bytes: segment.end_bytes },
        Damage::NotOurs
        | Damage::Header
        | Damage::Misplaced { .. }
        | Damage::Order { .. }
        | Damage::ReadsDiffer
        | Damage::Content
        | Damage::Unreadable { .. }
        | Damage::FileMissing
        | Damage::BothCopies
        | Damage::CopiesContradict
        | Damage::Gap { .. }
        | Damage::Unannounced
        | Damage::Block
        | Damage::Truncated => damage,
    };
    WalError::Damaged {
        path: segment.path.clone(),
        offset_bytes: position,
        indexes: Some((first, Some(last))),
        anchor: None,
        damage,
    }
}

/// The segment with this number, and its open file. The older segment read last stays open.
fn open_segment(
    wal: &mut Wal,
    from: From,
    number: u64,
) -> Result<(Segment, Arc<dyn DiskFile>), WalError> {
    let found = match from {
        From::Log => wal.sealed.iter().find(|segment| segment.header.number == number),
        From::Spare(_) => wal.spares.segment(number),
    };
    let segment = found.unwrap_or(&wal.active).clone();
    if let Some(file) = &segment.file {
        let file = file.clone();
        return Ok((segment, file));
    }
    if let Some(open) = wal.read_file.as_ref().filter(|open| open.number == number) {
        return Ok((segment, open.file.clone()));
    }
    let opened = wal.disk.open(&segment.path).map_err(WalError::io("open", &segment.path))?;
    let file: Arc<dyn DiskFile> = opened.into();
    wal.read_file = Some(OpenSegment { number, file: file.clone() });
    Ok((segment, file))
}

/// The end of the log, as much of it as fits into `max_bytes`.
pub(crate) fn read_tail(wal: &mut Wal, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
    let mut left_bytes = max_bytes;
    let mut end = wal.map.last().index;
    let mut runs = Vec::new();
    for mark in wal.map.marks().to_vec().into_iter().rev() {
        // The first mark may stand before the base.
        let first = mark.first.max(wal.first_index());
        let mut run = read(wal, first, end, usize::MAX)?;
        let kept = run.iter().rev().take_while(|entry| {
            let fits = entry.size_bytes() <= left_bytes;
            left_bytes = if fits { left_bytes - entry.size_bytes() } else { 0 };
            fits
        });
        let kept_count = kept.count();
        let is_whole = kept_count == run.len();
        let cut = run.len() - kept_count;
        runs.push(run.split_off(cut));
        let Some(before) = first.previous().filter(|_| is_whole) else {
            break;
        };
        end = before;
    }
    Ok(runs.into_iter().rev().flatten().collect())
}
