//! Reads the log back when a node starts, and tells a torn tail from damage (decision table:
//! [`crate::verdict`]). Changes nothing on disk; must not know how the log is written.

use crate::log_map::{Disorder, LogMap};
use crate::meta::Meta;
use crate::record::{Record, RecordKind};
use crate::scan::{Found, SCAN_WINDOW_BYTES, Scanner};
use crate::segment::{RECORDS_START, Segment, SegmentHeader, file_name};
use crate::verdict::{Findings, Place, Stop, Verdict};
use crate::{Damage, Disk, DiskFile, WalError, codec};
use bytes::Bytes;
use quorate_core::{
    Configuration, Entry, HardState, LogId, LogIndex, Payload, Restored, SnapshotMeta, Term,
};
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
}

/// Whether a record continues the log.
enum Step {
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

/// Reads all segments that `meta` names.
pub(crate) fn replay(disk: &dyn Disk, dir: &Path, meta: &Meta) -> Result<Replay, WalError> {
    let segments = open_segments(disk, dir, meta)?;
    let start = segments.first().map_or(LogId::ORIGIN, |segment| segment.header.last_log);
    let mut replay = Replay {
        map: LogMap::new(start),
        configurations: Vec::new(),
        segments: Vec::new(),
        torn_tail: None,
        last_batch_bytes: RECORDS_START,
        era: 0,
    };
    let mut segments = segments.into_iter().peekable();
    while let Some(segment) = segments.next() {
        let sealed_at = segments.peek().map(|next| next.header.previous_end_bytes);
        replay.read_segment(segment, sealed_at, meta)?;
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
        segments.push(Segment { header, salt, end_bytes: RECORDS_START, path, file: Some(file) });
    }
    Ok(segments)
}

impl Replay {
    /// Reads one segment; `sealed_at` is where the next one says that it ends.
    fn read_segment(
        &mut self,
        mut segment: Segment,
        sealed_at: Option<u64>,
        meta: &Meta,
    ) -> Result<(), WalError> {
        self.check_link(&segment, meta)?;
        let Some(file) = segment.file.clone() else {
            return Err(WalError::damaged(&segment.path, 0, Damage::FileMissing));
        };
        let end_bytes = sealed_at.unwrap_or(u64::MAX);
        let mut scanner =
            Scanner::new(file.as_ref(), &segment.path, segment.salt, end_bytes, SCAN_WINDOW_BYTES)?;
        let (stop_bytes, stop, damage) = self.read_records(&mut scanner, &segment, meta)?;
        segment.end_bytes = stop_bytes;
        let known_synced_bytes = sealed_at.unwrap_or(meta.synced_bytes);
        let place = if sealed_at.is_some() { Place::Sealed } else { Place::Last };
        if stop_bytes != end_bytes || damage.is_some() {
            let beyond = scanner.search_beyond(stop_bytes)?;
            let synced_bytes = beyond.synced_bytes.max(known_synced_bytes);
            let synced_beyond = synced_bytes > stop_bytes;
            let findings = Findings { place, stop, synced_beyond, survivors: beyond.survivors };
            let damage = damage.unwrap_or(Damage::Record { synced_bytes });
            self.judge(&segment, findings, damage, beyond.first_proof)?;
        }
        // Old segments are opened again when somebody reads them.
        segment.file = sealed_at.is_none().then_some(file);
        self.segments.push(segment);
        Ok(())
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
    ) -> Result<(u64, Stop, Option<Damage>), WalError> {
        let mut position = RECORDS_START;
        loop {
            let record = match scanner.record_at(position)? {
                Found::Record(record) => record,
                Found::End => return Ok((position, Stop::End, None)),
                Found::Blank => return Ok((position, Stop::Blank, None)),
                Found::Invalid => return Ok((position, Stop::Invalid, None)),
            };
            match self.take(&record, segment.header.number, position, meta) {
                Step::Taken => {}
                Step::Ghost => return Ok((position, Stop::Ghost, None)),
                Step::Contradiction(damage) => {
                    return Ok((position, Stop::Contradiction, Some(damage)));
                }
            }
            self.last_batch_bytes = record.header.synced_bytes;
            position += record.header.record_size() as u64;
        }
    }

    fn take(&mut self, record: &Record, segment: u64, position: u64, meta: &Meta) -> Step {
        let header = &record.header;
        if header.era < self.era {
            return Step::Ghost;
        }
        if header.era > meta.era {
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
        damage: Damage,
        first_proof: Option<LogId>,
    ) -> Result<(), WalError> {
        let last = self.map.last();
        match findings.verdict() {
            Verdict::Whole => Ok(()),
            Verdict::TornTail => {
                self.torn_tail = Some(TornTail {
                    path: segment.path.clone(),
                    offset_bytes: segment.end_bytes,
                    after: last,
                });
                Ok(())
            }
            Verdict::Damaged => {
                let last_lost = first_proof
                    .and_then(|proof| proof.index.previous())
                    .filter(|&index| index > last.index);
                Err(WalError::Damaged {
                    path: segment.path.clone(),
                    offset_bytes: segment.end_bytes,
                    indexes: Some((last.index.next(), last_lost)),
                    damage,
                })
            }
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
