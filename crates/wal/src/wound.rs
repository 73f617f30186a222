//! With which entry a log ended that has lost durable ones: it is followed over the bad places of its
//! last segment. Must not know what was lost, nor what is done about it.

use crate::mark::Watermark;
use crate::record::{Record, RecordKind};
use crate::recovery::Lost;
use crate::scan::{Found, SCAN_WINDOW_BYTES, Scanner};
use crate::segment::{RECORDS_START, Segment};
use crate::{Damage, WalError};
use quorate_core::{LogId, LogIndex};
use std::path::PathBuf;

/// Durable entries are lost, and it is known up to which.
#[derive(Debug)]
pub(crate) struct Wound {
    /// The segment in which the trusted log ends, and where; the one before the first if none is left.
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
    pub(crate) end: End,
    /// What is wrong, and where.
    pub(crate) path: PathBuf,
    pub(crate) offset_bytes: u64,
    pub(crate) damage: Damage,
    /// The first and the last entry that cannot be trusted, as far as known.
    pub(crate) indexes: Option<(LogIndex, Option<LogIndex>)>,
}

/// Where a log ended, and with which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) last_log: LogId,
    pub(crate) position: u64,
}

impl Wound {
    /// Whether another look has found the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let place = |wound: &Self| (wound.segment, wound.bytes, wound.end);
        place(self) == place(other)
    }

    /// What is said if it is not mended.
    pub(crate) fn into_error(self) -> WalError {
        let Self { path, offset_bytes, damage, indexes, end, .. } = self;
        let anchor = Some(Box::new(end.last_log));
        WalError::Damaged { path, offset_bytes, indexes, anchor, damage }
    }

    /// That another look has found something else.
    pub(crate) fn differs(&self) -> WalError {
        WalError::damaged(&self.path, self.offset_bytes, Damage::ReadsDiffer)
    }

    /// What is said of it when the log ends with `after`.
    pub(crate) fn lost(&self, after: LogId) -> Lost {
        Lost {
            after,
            horizon: self.end.last_log,
            path: self.path.clone(),
            offset_bytes: self.offset_bytes,
            damage: Some(self.damage),
        }
    }
}

/// What is known of the last segment before it is followed.
pub(crate) struct Known {
    /// The era of the log, as far as it was read.
    pub(crate) era: u32,
    /// No record is of a later one.
    pub(crate) era_max: u32,
    /// Everything before this position was durable.
    pub(crate) synced_bytes: u64,
    /// The mark, if it speaks of this segment.
    pub(crate) mark: Option<Watermark>,
}

/// With which entry the log ended, if its last segment says so; `None` if that is not known for sure.
/// `stop`: it is known to be bad from there on; otherwise it is read from its beginning.
pub(crate) fn end_of_log(segment: &Segment, stop: Option<u64>, known: &Known) -> Option<End> {
    let file = segment.file.as_ref()?;
    let salts = segment.header.salts();
    let scanner =
        Scanner::new(file.as_ref(), &segment.path, salts, u64::MAX, SCAN_WINDOW_BYTES).ok()?;
    let last = stop.is_none().then_some(segment.header.last_log);
    let (position, era) = (stop.unwrap_or(RECORDS_START), known.era.max(segment.header.era));
    let mut walk =
        Walk { scanner, known, position, last, era, is_blind: false, synced_bytes: None };
    if stop.is_some() {
        walk.go_beyond()?;
    }
    while !walk.run()? {
        walk.go_beyond()?;
    }
    Some(End { last_log: walk.last?, position: walk.position })
}

/// A way through a segment, over its bad places.
struct Walk<'a> {
    scanner: Scanner<'a>,
    known: &'a Known,
    position: u64,
    /// The entry with which the log ended here, if that is known.
    last: Option<LogId>,
    era: u32,
    /// Nothing whole was read since the last bad place: only the mark says where the log was.
    is_blind: bool,
    /// Everything before it was durable, by all that there is; found when it is needed.
    synced_bytes: Option<u64>,
}

impl Walk<'_> {
    /// Reads records until they stop. Returns whether the log ends there; `None` if it contradicts
    /// itself, or if it cannot be known what stood there.
    fn run(&mut self) -> Option<bool> {
        loop {
            let found = self.scanner.record_at(self.position);
            let record = match &found {
                Found::Record(record) if record.header.era < self.era => {
                    return self.is_end(&found);
                }
                Found::Record(record) => record,
                Found::End
                | Found::Blank
                | Found::Residue
                | Found::Invalid
                | Found::Unreadable(_) => return self.is_end(&found),
            };
            if record.header.era > self.known.era_max || !self.follows(record) {
                return None;
            }
            self.take(record);
        }
    }

    fn is_end(&mut self, stop: &Found) -> Option<bool> {
        if self.position < self.synced_bytes() {
            return Some(false);
        }
        match stop {
            // A torn write, of which nobody was told: what was read before it was whole.
            Found::Invalid if !self.is_blind => Some(true),
            // The bad place may reach further than the mark knows, and an unreadable sector hide
            // anything.
            Found::Invalid | Found::Unreadable(_) => None,
            // A whole one is a ghost.
            Found::End | Found::Blank | Found::Residue | Found::Record(_) => Some(true),
        }
    }

    fn follows(&self, record: &Record) -> bool {
        let found = record.header.log_id;
        self.last.is_none_or(|last| match record.header.kind {
            RecordKind::Truncate => found.index <= last.index && found.term <= last.term,
            RecordKind::Noop
            | RecordKind::Command
            | RecordKind::Configuration
            | RecordKind::Session => found.index == last.index.next() && found.term >= last.term,
        })
    }

    fn take(&mut self, record: &Record) {
        self.last = Some(record.header.log_id);
        self.era = record.header.era;
        self.is_blind = false;
        self.position += record.header.record_size() as u64;
    }

    fn synced_bytes(&mut self) -> u64 {
        let (position, known) = (self.position, self.known.synced_bytes);
        let scanner = &mut self.scanner;
        *self
            .synced_bytes
            .get_or_insert_with(|| scanner.search_beyond(position, known).synced_bytes)
    }

    /// Goes on behind a bad place, with the first whole record that was durable, or else at the end of
    /// what was; `None` if it is not known how the log went on.
    fn go_beyond(&mut self) -> Option<()> {
        let (from, to, era, era_max) =
            (self.position, self.synced_bytes(), self.era, self.known.era_max);
        let is_ours = |position: u64, record: &Record| {
            let header = &record.header;
            let is_durable = position + header.record_size() as u64 <= to;
            is_durable && (era..=era_max).contains(&header.era)
        };
        if let Some(position) = self.scanner.next_whole(from, to, is_ours) {
            (self.position, self.last) = (position, None);
            return Some(());
        }
        self.position = to;
        if let Some(mark) = self.known.mark.filter(|mark| mark.position == to) {
            // Zeros may reach on over what came after the mark.
            self.last = Some(mark.last_log);
            (self.era, self.is_blind) = (self.era.max(mark.era), true);
            return (!self.scanner.is_blank_before(to, from)).then_some(());
        }
        match self.scanner.record_at(to) {
            Found::Record(record) if is_begun(&record, to, era) => {
                self.last = None;
                Some(())
            }
            Found::Record(_)
            | Found::End
            | Found::Blank
            | Found::Residue
            | Found::Invalid
            | Found::Unreadable(_) => None,
        }
    }
}

/// Whether this record begins the batch that was written when everything before it was durable.
const fn is_begun(record: &Record, position: u64, era: u32) -> bool {
    record.header.synced_bytes == position && record.header.era >= era
}
