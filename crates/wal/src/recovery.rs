//! Reads the log back when a node starts, and tells a torn tail from damage (decision table:
//! [`crate::verdict`]). Changes nothing on disk; must not know how the log is written.

use crate::log_map::{Disorder, LogMap};
use crate::mark::Watermark;
use crate::meta::Meta;
use crate::record::{Record, RecordKind};
use crate::scan::{Beyond, Found, SCAN_WINDOW_BYTES, Scanner};
use crate::segment::{RECORDS_START, Segment, SegmentHeader, file_name};
use crate::verdict::{Case, Findings, Place, Stop};
use crate::{Damage, Disk, DiskFile, WalError, codec};
use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, Payload, Restored, SnapshotMeta, Term,
};
use std::fmt;
use std::io;
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

/// What is known of what a segment has lost.
struct Loss {
    damage: Damage,
    /// The first entry in a batch that was written when the lost one was durable.
    first_proof: Option<LogId>,
    /// With which entry the log ended, at the end of the segment or further on.
    end: Option<LogId>,
    /// The first entry known to have followed.
    anchor: Option<LogId>,
}

impl Loss {
    /// The last entry that cannot be trusted, if `last` is the last one that can.
    fn last_after(&self, last: LogId) -> Option<LogIndex> {
        let index = match self.first_proof {
            Some(proof) => proof.index.previous(),
            None => self.end.map(|end| end.index),
        };
        index.filter(|&index| index > last.index)
    }
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

/// Reads all segments that `meta` names. What the mark says was durable must be there.
pub(crate) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    meta: &Meta,
    mark: Option<Watermark>,
    witness: &mut dyn Witness,
) -> Result<Replay, WalError> {
    let segments = open_segments(disk, dir, meta)?;
    let start = segments.first().map_or(LogId::ORIGIN, |segment| segment.header.last_log);
    let mut replay = Replay {
        map: LogMap::new(start),
        configurations: Vec::new(),
        segments: Vec::new(),
        torn_tail: None,
        last_batch_bytes: RECORDS_START,
        era: 0,
        mark,
    };
    let mut segments = segments.into_iter().peekable();
    while let Some(segment) = segments.next() {
        let next = segments.peek().map(|next| next.header);
        replay.read_segment(segment, next, meta, witness)?;
    }
    replay.start_after(dir, meta)?;
    Ok(replay)
}

fn open_segments(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<Vec<Segment>, WalError> {
    let mut segments = Vec::new();
    // The numbers are our own, under a checksum; a missing file ends the loop at once.
    for number in meta.first_segment..=meta.last_segment {
        let path = dir.join(file_name(number));
        let file: Arc<dyn DiskFile> = match disk.open(&path) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(WalError::damaged(&path, 0, Damage::FileMissing));
            }
            Err(error) => return Err(WalError::io("open", &path)(error)),
        };
        let header = SegmentHeader::read(file.as_ref(), &path, &meta.identity, number)?;
        let salt = header.salt();
        segments.push(Segment {
            header,
            salt,
            end_bytes: RECORDS_START,
            reserved_bytes: 0,
            path,
            file: Some(file),
        });
    }
    Ok(segments)
}

impl Replay {
    /// Where the records of one segment begin, the earlier ones left out.
    pub(crate) const fn of_segment(header: &SegmentHeader) -> Self {
        Self {
            map: LogMap::new(header.last_log),
            configurations: Vec::new(),
            segments: Vec::new(),
            torn_tail: None,
            last_batch_bytes: RECORDS_START,
            era: header.era,
            mark: None,
        }
    }

    /// Reads one segment; the header of the next one says where it ends, and with which entry.
    fn read_segment(
        &mut self,
        mut segment: Segment,
        next: Option<SegmentHeader>,
        meta: &Meta,
        witness: &mut dyn Witness,
    ) -> Result<(), WalError> {
        self.check_link(&segment, meta)?;
        let Some(file) = segment.file.clone() else {
            return Err(WalError::damaged(&segment.path, 0, Damage::FileMissing));
        };
        let sealed_at = next.map(|next| next.previous_end_bytes);
        let end_bytes = sealed_at.unwrap_or(u64::MAX);
        let salts = segment.header.salts();
        let mut scanner =
            Scanner::new(file.as_ref(), &segment.path, salts, end_bytes, SCAN_WINDOW_BYTES)?;
        let (stop_bytes, stop, damage) = self.read_records(&mut scanner, &segment, meta, witness);
        segment.end_bytes = stop_bytes;
        let mark = self.mark_of(&segment);
        let mark_bytes = mark.map_or(0, |mark| mark.position);
        let known_synced_bytes = sealed_at.unwrap_or(meta.synced_bytes.max(mark_bytes));
        let place = if sealed_at.is_some() { Place::Sealed } else { Place::Last };
        if stop_bytes != end_bytes || damage.is_some() {
            let beyond = scanner.search_beyond(stop_bytes, known_synced_bytes);
            let Beyond { synced_bytes, later, first_known, .. } = beyond;
            // The entry with which the log went on to end, or on the way there.
            let end = match next {
                Some(next) => Some(next.last_log),
                None => mark.filter(|_| mark_bytes > stop_bytes).map(|mark| mark.last_log),
            };
            let anchor = first_known.or(end);
            let durable = synced_bytes > stop_bytes;
            let findings = Findings { place, stop, durable, later, anchor: anchor.is_some() };
            witness.segment(&segment, Some(findings));
            let damage = damage.unwrap_or(Damage::Record { synced_bytes });
            let loss = Loss { damage, first_proof: beyond.first_proof, end, anchor };
            self.judge(&segment, findings, &loss)?;
        } else {
            witness.segment(&segment, None);
        }
        // Old segments are opened again when somebody reads them.
        segment.file = sealed_at.is_none().then_some(file);
        self.segments.push(segment);
        Ok(())
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

    fn judge(
        &mut self,
        segment: &Segment,
        findings: Findings,
        loss: &Loss,
    ) -> Result<(), WalError> {
        let last = self.map.last();
        match findings.case() {
            Case::Whole => Ok(()),
            Case::Torn => {
                self.torn_tail = Some(TornTail {
                    path: segment.path.clone(),
                    offset_bytes: segment.end_bytes,
                    after: last,
                });
                Ok(())
            }
            case @ (Case::Wounded | Case::Refused) => Err(WalError::Damaged {
                path: segment.path.clone(),
                offset_bytes: segment.end_bytes,
                indexes: Some((last.index.next(), loss.last_after(last))),
                anchor: loss.anchor.filter(|_| case == Case::Wounded).map(Box::new),
                damage: loss.damage,
            }),
        }
    }

    /// Checks that the records reach over the base, and lets the log start there.
    fn start_after(&mut self, dir: &Path, meta: &Meta) -> Result<(), WalError> {
        let base = meta.base.last_included;
        let (start, last) = (self.map.start(), self.map.last());
        if start.index > base.index {
            return Err(WalError::damaged(dir, 0, Damage::Gap { expected: base, found: start }));
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
