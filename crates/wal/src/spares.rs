//! What stands whole behind the cuts of a log: where, with which terms, and which of it followed upon
//! each other. Must not know what it is good for.
//!
//! Only places are kept, so that this takes as much memory as the map of a log does. What a record
//! behind the cut truncates is forgotten, and so is what a later one overwrites: an entry behind a bad
//! place says that the log ended right before it then.

use crate::log_map::LogMap;
use crate::meta::Meta;
use crate::record::{RECORD_ALIGNMENT, Record, RecordKind};
use crate::scan::{Found, SCAN_WINDOW_BYTES, Scanner};
use crate::segment::{RECORDS_START, Segment};
use crate::{Disk, links};
use quorate_core::{LogId, LogIndex, Term};
use std::path::Path;

/// So many stretches are kept at most; a disk with more bad places keeps the others to itself.
const STRETCHES_MAX: usize = 4096;

/// See the module.
#[derive(Default)]
pub(crate) struct Spares {
    /// Layer by layer: in each in the order of their indexes, which is the one in which they stand.
    stretches: Vec<Stretch>,
    /// Where in that list each layer begins. What was written behind a cut is one of its own, and the
    /// later one counts: it may be cut off in its turn before it has all that stands in an earlier one.
    layers: Vec<usize>,
    /// The segments in which they stand, each up to the end of its records.
    segments: Vec<Segment>,
}

/// Entries that followed upon each other.
struct Stretch {
    map: LogMap,
    /// The entry before the first one, if that is known: the map starts after it.
    is_linked: bool,
}

/// What is known while the segments are read.
struct Scan<'a> {
    spares: &'a mut Spares,
    /// The entry behind which the next record stands; `None` behind a bad place.
    last: Option<LogId>,
    /// The next entry belongs to the last stretch.
    goes_on: bool,
    era: u32,
    era_max: u32,
}

impl Spares {
    /// Reads what stands behind the cuts. What cannot be read is no spare.
    pub(crate) fn scan(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Self {
        let mut spares = Self::default();
        let Some(from) = meta.cuts.list().iter().map(|cut| cut.segment).min() else {
            return spares;
        };
        let path = meta.path();
        let mut scan =
            Scan { spares: &mut spares, last: None, goes_on: false, era: 0, era_max: meta.era };
        for number in from.max(meta.first_segment)..=meta.last_segment {
            if scan.spares.layers.is_empty() || meta.cuts.before(number).is_some() {
                scan.spares.layers.push(scan.spares.stretches.len());
            }
            let is_ours = path.contains(&number);
            let cut = meta.cuts.list().iter().rev().find(|cut| cut.segment == number);
            let start = match (is_ours, cut) {
                (true, None) => continue,
                (true, Some(cut)) => cut.bytes.max(RECORDS_START),
                (false, _) => RECORDS_START,
            };
            let Ok(Ok(mut segment)) = links::open_segment(disk, dir, meta, number) else {
                continue;
            };
            segment.end_bytes = end_of(disk, dir, meta, number);
            scan.last = (!is_ours).then_some(segment.header.last_log);
            scan.goes_on = false;
            scan.segment(&segment, start);
            // It is opened again when somebody reads it.
            scan.spares.segments.push(Segment { file: None, ..segment });
        }
        spares
    }

    /// The segment with this number.
    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.header.number == number)
    }

    /// The place of the stretch with the first entry from `first` on, and that entry's index.
    pub(crate) fn next(&self, first: LogIndex) -> Option<(usize, LogIndex)> {
        let found = (0..self.layers.len()).rev().filter_map(|layer| {
            let start = *self.layers.get(layer)?;
            let end = self.layers.get(layer + 1).copied().unwrap_or(self.stretches.len());
            let stretches = self.stretches.get(start..end)?;
            let at = stretches.partition_point(|stretch| stretch.map.last().index < first);
            let index = stretches.get(at)?.map.start().index.next().max(first);
            Some((start + at, index))
        });
        // Of several the first, which is in the latest layer.
        found.min_by_key(|&(_, index)| index)
    }

    /// The map of a stretch.
    pub(crate) fn map(&self, place: usize) -> Option<&LogMap> {
        self.stretches.get(place).map(|stretch| &stretch.map)
    }

    /// Whether a stretch goes on right where the one before it ends: the records say so, or both are of
    /// one term, whose entries are one sequence.
    pub(crate) fn follows(&self, place: usize) -> bool {
        if self.layers.contains(&place) {
            return false;
        }
        let before = place.checked_sub(1).and_then(|before| self.stretches.get(before));
        let (Some(before), Some(stretch)) = (before, self.stretches.get(place)) else {
            return false;
        };
        let (last, start) = (before.map.last(), stretch.map.start());
        let first_term = stretch.map.runs().first().map(|&(_, term)| term);
        let is_known = stretch.is_linked && start == last;
        start.index == last.index && (is_known || first_term == Some(last.term))
    }

    /// The log ended before `first` at this time.
    fn forget_from(&mut self, first: LogIndex) {
        let start = self.layers.last().copied().unwrap_or(0);
        let layer = self.stretches.get(start..).unwrap_or_default();
        let kept = layer.partition_point(|it| it.map.start().index.next() < first);
        self.stretches.truncate(start + kept);
        if let Some(stretch) = self.stretches.get_mut(start..).and_then(<[Stretch]>::last_mut)
            && stretch.map.last().index >= first
            && let Some(last) = first.previous()
            && let Some(term) = stretch.map.term_at(last)
        {
            // It is within the stretch, which therefore holds it.
            let _ = stretch.map.truncate_after(LogId::new(term, last));
        }
    }
}

/// Where the records of a segment end that was cut off, as far as that is known.
fn end_of(disk: &dyn Disk, dir: &Path, meta: &Meta, number: u64) -> u64 {
    let next = number.saturating_add(1);
    if let Some(cut) = meta.cuts.before(next) {
        return cut.end_bytes;
    }
    match links::open_segment(disk, dir, meta, next) {
        Ok(Ok(next)) => next.header.previous_end_bytes,
        Ok(Err(_)) | Err(_) => u64::MAX,
    }
}

impl Scan<'_> {
    fn segment(&mut self, segment: &Segment, start: u64) {
        let Some(file) = segment.file.as_ref() else { return };
        let (salts, end_bytes) = (segment.header.salts(), segment.end_bytes);
        let scanner =
            Scanner::new(file.as_ref(), &segment.path, salts, end_bytes, SCAN_WINDOW_BYTES);
        let Ok(mut scanner) = scanner else { return };
        let mut position = start;
        while position < end_bytes {
            match scanner.record_at(position) {
                Found::Record(record) if (self.era..=self.era_max).contains(&record.header.era) => {
                    self.record(segment.header.number, position, &record);
                    position += record.header.record_size() as u64;
                    continue;
                }
                Found::End => return,
                Found::Record(_)
                | Found::Blank
                | Found::Residue
                | Found::Invalid
                | Found::Unreadable(_) => {}
            }
            (self.last, self.goes_on) = (None, false);
            let from = position;
            let era = self.era..=self.era_max;
            let found = scanner.next_whole(from, end_bytes, |_, it| era.contains(&it.header.era));
            let Some(next) = found else { return };
            position = next.max(from + RECORD_ALIGNMENT as u64);
        }
    }

    fn record(&mut self, segment: u64, position: u64, record: &Record) {
        let header = &record.header;
        let log_id = header.log_id;
        self.era = header.era;
        if header.kind == RecordKind::Truncate {
            self.spares.forget_from(log_id.index.next());
            (self.last, self.goes_on) = (Some(log_id), false);
            return;
        }
        let size_bytes = header.record_size() as u64;
        let stretches = &mut self.spares.stretches;
        let is_taken = self.goes_on
            && stretches.last_mut().is_some_and(|stretch| {
                stretch.map.append(log_id, segment, position, size_bytes).is_ok()
            });
        if !is_taken {
            self.begin(segment, position, size_bytes, log_id);
        }
        (self.last, self.goes_on) = (Some(log_id), true);
    }

    /// Begins a stretch with this entry.
    fn begin(&mut self, segment: u64, position: u64, size_bytes: u64, first: LogId) {
        let Some(before) = first.index.previous() else { return };
        self.spares.forget_from(first.index);
        if self.spares.stretches.len() >= STRETCHES_MAX {
            return;
        }
        let known = self.last.filter(|last| last.index == before && last.term <= first.term);
        let mut map = LogMap::new(known.unwrap_or(LogId::new(Term::default(), before)));
        if map.append(first, segment, position, size_bytes).is_ok() {
            self.spares.stretches.push(Stretch { map, is_linked: known.is_some() });
        }
    }
}
