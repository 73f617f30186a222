//! Reads the log back when a node starts, and tells a torn tail from damage (decision table:
//! [`crate::verdict`]). Changes nothing on disk; must not know how the log is written.

use crate::links::{self, Lacking, Link};
use crate::log_map::{Disorder, LogMap};
use crate::mark::Watermark;
use crate::meta::Meta;
use crate::record::{Record, RecordKind};
use crate::scan::{Beyond, Found, SCAN_WINDOW_BYTES, Scanner};
use crate::segment::{RECORDS_START, Segment, SegmentHeader};
use crate::verdict::{Case, Findings, Place, Stop};
use crate::wound::{self, End, Known, Wound};
use crate::{Damage, Disk, WalError, codec};
use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, Payload, Restored, SnapshotMeta, Term,
};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a log holds when it is opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log starts after.
    pub base: SnapshotMeta,
    /// The first index of each run of entries with one term, in order, from after the base on.
    pub term_runs: Vec<(LogIndex, Term)>,
    /// The configurations in the log after the base, in order.
    pub configurations: Vec<(LogIndex, Arc<Configuration>)>,
    /// The last entry; equals `base.last_included` if the log is empty.
    pub last_log: LogId,
    /// The end of the log, without a gap up to `last_log`, within
    /// [`crate::WalOptions::tail_bytes_max`].
    pub tail: Vec<Entry>,
    /// A write that was never acknowledged and of which only parts arrived; it was cut off.
    pub torn_tail: Option<TornTail>,
    /// The file that says how far the log is durable was gone, or not whole, and was made anew: if
    /// the last batch was damaged as well, that cannot be told from a torn write.
    pub is_mark_lost: bool,
    /// Durable entries that the log held behind its last one, and does not hold any more.
    pub lost: Option<Lost>,
}

/// What a wounded log has lost: entries that were durable, of which it is known how far they reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The last entry before the wound.
    pub after: LogId,
    /// The last entry that the log is known to have held: nothing that this node can have acknowledged
    /// is beyond it.
    pub horizon: LogId,
    /// The file in which the log stops.
    pub path: PathBuf,
    /// At which byte of it.
    pub offset_bytes: u64,
    /// What is wrong there; `None` if an earlier start found it and cut the log there.
    pub damage: Option<Damage>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, horizon, path, offset_bytes, damage } = self;
        write!(f, "{} is damaged at byte {offset_bytes}", path.display())?;
        if let Some(damage) = damage {
            write!(f, ": {damage}")?;
        }
        write!(f, "; the log ends with {after}, and is known to have held {horizon}")
    }
}

/// Where an unfinished write was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In which file.
    pub path: PathBuf,
    /// From which byte on.
    pub offset_bytes: u64,
    /// The last entry that was kept.
    pub after: LogId,
}

impl Recovered {
    /// What the core needs to start; `applied` is what the state machine has durably applied.
    #[must_use]
    pub fn into_restored(self, applied: LogIndex) -> Restored {
        Restored {
            hard_state: self.hard_state,
            base: self.base,
            term_runs: self.term_runs,
            configurations: self.configurations,
            last_log: self.last_log,
            tail: self.tail,
            applied,
            lost: self.lost.map(|lost| lost.horizon),
        }
    }
}

/// The log as replayed from its records.
pub(crate) struct Replay {
    pub(crate) map: LogMap,
    pub(crate) configurations: Vec<(LogIndex, Arc<Configuration>)>,
    /// All segments, oldest first, with their ends.
    pub(crate) segments: Vec<Segment>,
    pub(crate) torn_tail: Option<TornTail>,
    /// Durable entries are lost: the log is what can be trusted, and it is known how far it reached.
    pub(crate) wound: Option<Wound>,
    /// Where the last batch of the last segment begins.
    pub(crate) last_batch_bytes: u64,
    pub(crate) era: u32,
    /// How far the log was durable once, if its mark says so.
    pub(crate) mark: Option<Watermark>,
}

/// Hears of what is read on the way.
pub(crate) trait Witness {
    /// A record that continues the log.
    fn record(&mut self, segment: &Segment, position: u64, record: &Record);

    /// A segment was read to its end. Without findings it ended where it should.
    fn segment(&mut self, segment: &Segment, findings: Option<Findings>);
}

/// Nobody.
impl Witness for () {
    fn record(&mut self, _: &Segment, _: u64, _: &Record) {}

    fn segment(&mut self, _: &Segment, _: Option<Findings>) {}
}

/// Durable entries are lost.
struct Loss {
    /// What can be trusted ends here.
    segment: u64,
    bytes: u64,
    /// What is wrong, and where.
    path: PathBuf,
    offset_bytes: u64,
    damage: Damage,
    /// The first and the last entry that cannot be trusted, as far as known.
    indexes: Option<(LogIndex, Option<LogIndex>)>,
}

/// Whether a record continues the log.
pub(crate) enum Step {
    Taken,
    Ghost,
    Contradiction(Damage),
}

impl From<Disorder> for Step {
    fn from(disorder: Disorder) -> Self {
        let Disorder { expected, found } = disorder;
        Self::Contradiction(Damage::Order { expected, found })
    }
}

/// Reads all segments that `meta` names. What the mark says was durable must be there, or else the log
/// is wounded ([`Replay::wound`]) and ends where it can be trusted.
pub(crate) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    mark: Option<Watermark>,
    witness: &mut dyn Witness,
) -> Result<Replay, WalError> {
    let links = links::open(disk, dir, meta)?;
    let first = links.first().and_then(|link| link.segment.as_ref().ok());
    let start = first.map_or(meta.base.last_included, |segment| segment.header.last_log);
    let mut replay = Replay {
        map: LogMap::new(start),
        configurations: Vec::new(),
        segments: Vec::new(),
        torn_tail: None,
        wound: None,
        last_batch_bytes: RECORDS_START,
        era: 0,
        mark,
    };
    let mut links = links.as_slice();
    while let Some((link, behind)) = links.split_first() {
        match &link.segment {
            Ok(segment) => replay.read_segment(segment.clone(), behind, meta, witness)?,
            Err(lacking) => replay.lack(lacking, behind, meta)?,
        }
        links = if replay.wound.is_some() { &[] } else { behind };
    }
    replay.start_after(dir, meta)?;
    Ok(replay)
}

impl Replay {
    /// Where the records of one segment begin, the earlier ones left out.
    pub(crate) const fn of_segment(header: &SegmentHeader) -> Self {
        Self {
            map: LogMap::new(header.last_log),
            configurations: Vec::new(),
            segments: Vec::new(),
            torn_tail: None,
            wound: None,
            last_batch_bytes: RECORDS_START,
            era: header.era,
            mark: None,
        }
    }

    /// Reads one segment; those behind it say where it ends, and with which entry.
    fn read_segment(
        &mut self,
        mut segment: Segment,
        behind: &[Link],
        meta: &Meta,
        witness: &mut dyn Witness,
    ) -> Result<(), WalError> {
        self.check_link(&segment, meta)?;
        let Some(file) = segment.file.clone() else {
            return Err(WalError::damaged(&segment.path, 0, Damage::FileMissing));
        };
        let sealed_at = behind.first().and_then(|next| next.previous_end_bytes);
        let end_bytes = sealed_at.unwrap_or(u64::MAX);
        let salts = segment.header.salts();
        let mut scanner =
            Scanner::new(file.as_ref(), &segment.path, salts, end_bytes, SCAN_WINDOW_BYTES)?;
        let (stop_bytes, stop, damage) = self.read_records(&mut scanner, &segment, meta, witness);
        segment.end_bytes = stop_bytes;
        let is_end_unknown = sealed_at.is_none() && !behind.is_empty();
        if is_end_unknown && stop != Stop::Contradiction {
            // What is lost begins at the latest with the segment that should say where this one ends.
            witness.segment(&segment, None);
        } else if stop_bytes != end_bytes || damage.is_some() {
            let beyond =
                scanner.search_beyond(stop_bytes, self.synced_bytes(&segment, behind, meta));
            self.judge(&segment, behind, meta, (stop, damage, beyond), witness)?;
        } else {
            witness.segment(&segment, None);
        }
        // Old segments are opened again when somebody reads them.
        segment.file = behind.is_empty().then_some(file);
        self.segments.push(segment);
        Ok(())
    }

    /// Everything before this position of the segment was durable, as far as others than its records
    /// say so.
    fn synced_bytes(&self, segment: &Segment, behind: &[Link], meta: &Meta) -> u64 {
        let sealed_at = behind.first().and_then(|next| next.previous_end_bytes);
        let mark = self.mark_of(segment).map_or(0, |mark| mark.position);
        sealed_at.unwrap_or(meta.synced_bytes.max(mark))
    }

    /// What the mark says, if it says it of this segment.
    fn mark_of(&self, segment: &Segment) -> Option<Watermark> {
        self.mark.filter(|mark| mark.segment == segment.header.number)
    }

    fn check_link(&mut self, segment: &Segment, meta: &Meta) -> Result<(), WalError> {
        let header = &segment.header;
        if header.era > meta.era || header.era < self.era {
            return Err(WalError::damaged(&segment.path, 0, Damage::Unannounced));
        }
        if header.last_log != self.map.last() {
            let damage = Damage::Gap { expected: header.last_log, found: self.map.last() };
            return Err(WalError::damaged(&segment.path, 0, damage));
        }
        self.era = header.era;
        self.last_batch_bytes = RECORDS_START;
        Ok(())
    }

    /// Takes records until they stop; returns where, why, and what is wrong if it is known.
    fn read_records(
        &mut self,
        scanner: &mut Scanner<'_>,
        segment: &Segment,
        meta: &Meta,
        witness: &mut dyn Witness,
    ) -> (u64, Stop, Option<Damage>) {
        let mut position = RECORDS_START;
        loop {
            let record = match scanner.record_at(position) {
                Found::Record(record) => record,
                Found::End => return (position, Stop::End, None),
                Found::Blank => return (position, Stop::Blank, None),
                Found::Residue => return (position, Stop::Residue, None),
                Found::Invalid => return (position, Stop::Invalid, None),
                Found::Unreadable(kind) => {
                    return (position, Stop::Unreadable, Some(Damage::Unreadable { kind }));
                }
            };
            match self.take(&record, segment.header.number, position, meta.era) {
                Step::Taken => witness.record(segment, position, &record),
                Step::Ghost => return (position, Stop::Ghost, None),
                Step::Contradiction(damage) => {
                    return (position, Stop::Contradiction, Some(damage));
                }
            }
            self.last_batch_bytes = record.header.synced_bytes;
            position += record.header.record_size() as u64;
        }
    }

    /// Takes the next record, which is of era `era_max` at the latest.
    pub(crate) fn take(
        &mut self,
        record: &Record,
        segment: u64,
        position: u64,
        era_max: u32,
    ) -> Step {
        let header = &record.header;
        if header.era < self.era {
            return Step::Ghost;
        }
        if header.era > era_max {
            return Step::Contradiction(Damage::Unannounced);
        }
        self.era = header.era;
        let log_id = header.log_id;
        if header.kind == RecordKind::Truncate {
            return match self.map.truncate_after(log_id) {
                Ok(()) => {
                    self.configurations.retain(|&(index, _)| index <= log_id.index);
                    Step::Taken
                }
                Err(disorder) => disorder.into(),
            };
        }
        let size_bytes = header.record_size() as u64;
        if let Err(disorder) = self.map.append(log_id, segment, position, size_bytes) {
            return disorder.into();
        }
        if header.kind == RecordKind::Configuration {
            match decode_entry(record).map(|entry| entry.payload) {
                Some(Payload::Configuration(found)) => {
                    self.configurations.push((log_id.index, found));
                }
                Some(Payload::Noop | Payload::Command(_) | Payload::Session(_)) | None => {
                    return Step::Contradiction(Damage::Content);
                }
            }
        }
        Step::Taken
    }

    /// Decides what follows from where and why the records of a segment stop.
    fn judge(
        &mut self,
        segment: &Segment,
        behind: &[Link],
        meta: &Meta,
        (stop, damage, beyond): (Stop, Option<Damage>, Beyond),
        witness: &mut dyn Witness,
    ) -> Result<(), WalError> {
        let place = if behind.is_empty() { Place::Last } else { Place::Sealed };
        let Beyond { synced_bytes, later, first_proof } = beyond;
        let durable = synced_bytes > segment.end_bytes;
        // Where nothing is lost nobody asks for it, and it would cost another look.
        let is_loss = durable || place == Place::Sealed;
        let end = is_loss.then(|| self.end_of_log(segment, behind, meta)).flatten();
        let findings = Findings { place, stop, durable, later, anchor: end.is_some() };
        witness.segment(segment, Some(findings));
        let last = self.map.last();
        let case = findings.case();
        match (case, end) {
            (Case::Whole, _) => return Ok(()),
            (Case::Torn, _) => {
                self.torn_tail = Some(TornTail {
                    path: segment.path.clone(),
                    offset_bytes: segment.end_bytes,
                    after: last,
                });
                return Ok(());
            }
            (Case::Wounded | Case::Refused, _) => {}
        }
        let end = end.filter(|_| case == Case::Wounded);
        let next = behind.iter().find_map(|link| link.segment.as_ref().ok());
        let known = self.mark_of(segment).filter(|mark| mark.position > segment.end_bytes);
        let known = next.map(|next| next.header.last_log).or(known.map(|mark| mark.last_log));
        let gone = first_proof.and_then(|proof| proof.index.previous());
        let gone = gone.or(known.map(|known| known.index)).filter(|&index| index > last.index);
        let loss = Loss {
            segment: segment.header.number,
            bytes: segment.end_bytes,
            path: segment.path.clone(),
            offset_bytes: segment.end_bytes,
            damage: damage.unwrap_or(Damage::Record { synced_bytes }),
            indexes: Some((last.index.next(), gone)),
        };
        self.lose(end, loss)
    }

    /// A segment is missing, or has no header.
    fn lack(&mut self, lacking: &Lacking, behind: &[Link], meta: &Meta) -> Result<(), WalError> {
        let end = behind.last().and_then(|last| self.end_of_last(last, meta));
        let last = self.map.last();
        let next = behind.iter().find_map(|link| link.segment.as_ref().ok());
        let gone = next.map(|next| next.header.last_log.index).filter(|&index| index > last.index);
        let before = (meta.first_segment.saturating_sub(1), RECORDS_START);
        let (segment, bytes) = self
            .segments
            .last()
            .map_or(before, |segment| (segment.header.number, segment.end_bytes));
        let indexes = gone.map(|gone| (last.index.next(), Some(gone)));
        let Lacking { path, damage } = lacking.clone();
        self.lose(end, Loss { segment, bytes, path, offset_bytes: 0, damage, indexes })
    }

    /// Durable entries are lost behind a place: a wound, if it is known with which the log ended.
    fn lose(&mut self, end: Option<End>, loss: Loss) -> Result<(), WalError> {
        let Loss { segment, bytes, path, offset_bytes, damage, indexes } = loss;
        let Some(end) = end else {
            return Err(WalError::Damaged { path, offset_bytes, indexes, anchor: None, damage });
        };
        self.wound = Some(Wound { segment, bytes, end, path, offset_bytes, damage, indexes });
        Ok(())
    }

    /// With which entry the log ended, if a segment is bad from its end on.
    fn end_of_log(&self, segment: &Segment, behind: &[Link], meta: &Meta) -> Option<End> {
        match behind.last() {
            Some(last) => self.end_of_last(last, meta),
            None => self.end_in(segment, Some(segment.end_bytes), meta),
        }
    }

    fn end_of_last(&self, last: &Link, meta: &Meta) -> Option<End> {
        let segment = last.segment.as_ref().ok()?;
        if segment.header.era > meta.era { None } else { self.end_in(segment, None, meta) }
    }

    fn end_in(&self, segment: &Segment, stop: Option<u64>, meta: &Meta) -> Option<End> {
        let known = Known {
            era: self.era,
            era_max: meta.era,
            synced_bytes: self.synced_bytes(segment, &[], meta),
            mark: self.mark_of(segment),
        };
        wound::end_of_log(segment, stop, &known)
    }

    /// Checks that the records reach over the base, and lets the log start there. If what can be trusted
    /// does not reach so far, nothing of it is needed.
    fn start_after(&mut self, dir: &Path, meta: &Meta) -> Result<(), WalError> {
        let base = meta.base.last_included;
        let (start, last) = (self.map.start(), self.map.last());
        if start.index > base.index {
            return Err(WalError::damaged(dir, 0, Damage::Gap { expected: base, found: start }));
        }
        if let Some(wound) = self.wound.as_mut().filter(|_| last.index < base.index) {
            (wound.segment, wound.bytes) = (meta.first_segment.saturating_sub(1), RECORDS_START);
            self.segments.clear();
            self.configurations.clear();
            self.map = LogMap::new(base);
            return Ok(());
        }
        if self.map.term_at(base.index) != Some(base.term) {
            return Err(WalError::damaged(dir, 0, Damage::Gap { expected: base, found: last }));
        }
        self.map.release(base);
        self.configurations.retain(|&(index, _)| index > base.index);
        Ok(())
    }
}

/// The entry that a record holds; `None` if it holds none, or does not decode.
pub(crate) fn decode_entry(record: &Record) -> Option<Entry> {
    let payload = match record.header.kind {
        RecordKind::Noop => record.payload.is_empty().then_some(Payload::Noop)?,
        RecordKind::Command => Payload::Command(record.payload.clone()),
        RecordKind::Session => Payload::Session(record.payload.clone()),
        RecordKind::Configuration => {
            // A copy, so that a few contexts do not keep a whole window alive.
            let mut bytes = Bytes::copy_from_slice(&record.payload);
            let configuration = codec::decode_configuration(&mut bytes).ok()?;
            codec::expect_end(&bytes, "configuration").ok()?;
            Payload::Configuration(Arc::new(configuration))
        }
        RecordKind::Truncate => return None,
    };
    Some(Entry { log_id: record.header.log_id, payload })
}
