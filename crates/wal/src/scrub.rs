//! Reads again, a little at a time, what nobody has had a reason to read: the sealed segments of a log
//! that is in use, and its snapshots, by the code that a start reads them with. Changes nothing; must
//! not know when it is its turn, nor what is done about damage.

use crate::cuts::Cuts;
use crate::meta::MetaFiles;
use crate::record::Record;
use crate::recovery::{Replay, Step};
use crate::scan::{Found, Scanner};
use crate::segment::{RECORDS_START, SegmentHeader, file_name, number_of};
use crate::snapshot::SnapshotBody;
use crate::{Damage, Disk, DiskFile, Identity, SnapshotStore, WalError};
use quorate_core::{LogId, LogIndex};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much is read at a time, unless a record is larger.
const WINDOW_BYTES: usize = 128 << 10;

/// See the module.
pub struct Scrubber {
    disk: Arc<dyn Disk>,
    wal_dir: PathBuf,
    snapshots_dir: PathBuf,
    identity: Identity,
    /// What is left of this round.
    left: VecDeque<Item>,
    at: Option<At>,
    /// Where the log leaves out what was damaged.
    cuts: Cuts,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Segment(u64),
    Snapshot(LogId),
}

/// How far the present one is read.
enum At {
    Segment(Box<SegmentScrub>),
    Snapshot { last_included: LogId, body: SnapshotBody },
}

/// A sealed segment that is read.
struct SegmentScrub {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    /// That of the segment behind it: it says where this one ends, and with which entry.
    next: SegmentHeader,
    position: u64,
    replay: Replay,
}

/// What came of a stretch.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// How much was read.
    pub read_bytes: u64,
    /// What was found to be damaged.
    pub damage: Option<Rotten>,
    /// Everything that there was has been read once more.
    pub is_round_over: bool,
}

/// A file that a start could not use as it is.
#[derive(Debug)]
pub struct Rotten {
    /// Which.
    pub file: RottenFile,
    /// What is wrong, and where.
    pub error: Box<WalError>,
}

/// See [`Rotten`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RottenFile {
    /// A sealed segment of the log.
    Segment {
        /// Its number.
        number: u64,
        /// The last entry that it held.
        last: LogIndex,
    },
    /// A snapshot.
    Snapshot {
        /// Which.
        last_included: LogId,
    },
}

impl Scrubber {
    /// Begins with the oldest segment; nothing is read yet.
    #[must_use]
    pub fn new(
        disk: Arc<dyn Disk>,
        wal_dir: PathBuf,
        snapshots_dir: PathBuf,
        identity: Identity,
    ) -> Self {
        let (left, cuts) = (VecDeque::new(), Cuts::default());
        Self { disk, wal_dir, snapshots_dir, identity, left, at: None, cuts }
    }

    /// Reads on, about `max_bytes`, at least one record or block. A file that was removed meanwhile is
    /// passed over.
    ///
    /// # Errors
    ///
    /// If the folders cannot be listed.
    pub fn step(&mut self, max_bytes: u64) -> Result<Scrubbed, WalError> {
        if self.at.is_none() && self.left.is_empty() {
            self.left = self.items()?;
        }
        let mut scrubbed = Scrubbed::default();
        while scrubbed.read_bytes < max_bytes && scrubbed.damage.is_none() {
            let at = match self.at.take() {
                Some(at) => Ok(Some(at)),
                None => match self.left.pop_front() {
                    Some(item) => self.open(item),
                    None => break,
                },
            };
            self.advance(at, max_bytes, &mut scrubbed);
        }
        scrubbed.is_round_over = self.at.is_none() && self.left.is_empty();
        Ok(scrubbed)
    }

    fn advance(&mut self, at: Result<Option<At>, Rotten>, max_bytes: u64, scrubbed: &mut Scrubbed) {
        let found = at.and_then(|at| match at {
            None => Ok(()),
            Some(At::Segment(mut segment)) => {
                let is_over = segment.read(max_bytes, &mut scrubbed.read_bytes)?;
                self.at = (!is_over).then_some(At::Segment(segment));
                Ok(())
            }
            Some(At::Snapshot { last_included, mut body }) => {
                let is_over = read_snapshot(&mut body, max_bytes, &mut scrubbed.read_bytes);
                let file = RottenFile::Snapshot { last_included };
                let is_over = is_over.map_err(|error| Rotten { file, error: Box::new(error) })?;
                self.at = (!is_over).then_some(At::Snapshot { last_included, body });
                Ok(())
            }
        });
        // What is gone was removed on purpose, and harms nobody.
        scrubbed.damage = found.err().filter(|rotten| self.is_there(rotten.file));
    }

    /// What there is to read. The last segment is written to, and is not among it.
    fn items(&mut self) -> Result<VecDeque<Item>, WalError> {
        let names = self.disk.list(&self.wal_dir).map_err(WalError::io("list", &self.wal_dir))?;
        let numbers: BTreeSet<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        let (first, last) = (numbers.first().copied(), numbers.last().copied());
        self.cuts = self.known_cuts();
        // What stands behind a cut is known to be damaged, and no part of the log.
        let path = self.cuts.path(first.unwrap_or(1), last.unwrap_or(0));
        let is_sealed = |number: &u64| path.contains(number) && Some(*number) != last;
        let sealed = numbers.iter().copied().filter(is_sealed);
        let snapshots = match self.snapshots()? {
            Some(store) => store.names()?,
            None => Vec::new(),
        };
        Ok(sealed.map(Item::Segment).chain(snapshots.into_iter().map(Item::Snapshot)).collect())
    }

    /// Where the log leaves out what was damaged, as the newest whole copy of the hard state says.
    fn known_cuts(&self) -> Cuts {
        let copies = MetaFiles::each(self.disk.as_ref(), &self.wal_dir);
        let whole = copies.into_iter().flatten().map(|(meta, _)| meta);
        whole.max_by_key(|meta| meta.generation).map(|meta| meta.cuts).unwrap_or_default()
    }

    fn snapshots(&self) -> Result<Option<SnapshotStore>, WalError> {
        SnapshotStore::look(Arc::clone(&self.disk), &self.snapshots_dir)
    }

    /// Begins with a file; `None` if it is not there any more.
    fn open(&self, item: Item) -> Result<Option<At>, Rotten> {
        match item {
            Item::Segment(number) => {
                let segment = self.open_segment(number);
                Ok(segment?.map(|segment| At::Segment(Box::new(segment))))
            }
            Item::Snapshot(last_included) => {
                let file = RottenFile::Snapshot { last_included };
                let rotten = |error| Rotten { file, error: Box::new(error) };
                let Some(store) = self.snapshots().map_err(rotten)? else { return Ok(None) };
                match store.reader(last_included) {
                    Ok(reader) => Ok(Some(At::Snapshot { last_included, body: reader.body() })),
                    Err(WalError::NoSnapshot { .. }) => Ok(None),
                    Err(error) => Err(rotten(error)),
                }
            }
        }
    }

    fn open_segment(&self, number: u64) -> Result<Option<SegmentScrub>, Rotten> {
        let rotten = |number, last| {
            let file = RottenFile::Segment { number, last };
            move |error| Rotten { file, error: Box::new(error) }
        };
        let unknown = LogIndex::ORIGIN;
        let Some(next) = self.cuts.after(number) else { return Ok(None) };
        let (next, _, _) = self.header(next).map_err(rotten(next, unknown))?;
        let last = next.last_log.index;
        let (header, path, file) = self.header(number).map_err(rotten(number, last))?;
        let replay = Replay::of_segment(&header);
        let position = RECORDS_START;
        Ok(Some(SegmentScrub { path, file, header, next, position, replay }))
    }

    fn header(&self, number: u64) -> Result<(SegmentHeader, PathBuf, Arc<dyn DiskFile>), WalError> {
        let path = self.wal_dir.join(file_name(number));
        let file: Arc<dyn DiskFile> =
            self.disk.open(&path).map_err(WalError::io("open", &path))?.into();
        let header = SegmentHeader::read(file.as_ref(), &path, &self.identity, number)?;
        Ok((header, path, file))
    }

    fn is_there(&self, file: RottenFile) -> bool {
        let is_gone = |path: &Path| {
            let opened = self.disk.open(path);
            opened.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        match file {
            RottenFile::Segment { number, .. } => !is_gone(&self.wal_dir.join(file_name(number))),
            RottenFile::Snapshot { last_included } => {
                let names = self.snapshots().ok().flatten().and_then(|store| store.names().ok());
                names.is_none_or(|names| names.contains(&last_included))
            }
        }
    }
}

/// Reads on until the budget is spent; whether that was all of it.
fn read_snapshot(
    body: &mut SnapshotBody,
    max_bytes: u64,
    read_bytes: &mut u64,
) -> Result<bool, WalError> {
    while *read_bytes < max_bytes {
        match body.verify_next()? {
            Some(count) => *read_bytes += count,
            None => return Ok(true),
        }
    }
    Ok(false)
}

impl SegmentScrub {
    /// Reads on until the budget is spent; whether that was all of it.
    fn read(&mut self, max_bytes: u64, read_bytes: &mut u64) -> Result<bool, Rotten> {
        let (file, end_bytes) = (Arc::clone(&self.file), self.next.previous_end_bytes);
        let path = self.path.clone();
        let scanner =
            Scanner::new(file.as_ref(), &path, self.header.salts(), end_bytes, WINDOW_BYTES);
        let mut scanner = scanner.map_err(|error| self.rotten(error))?;
        while self.position < end_bytes {
            if *read_bytes >= max_bytes {
                return Ok(false);
            }
            let record = match scanner.record_at(self.position) {
                Found::Record(record) => record,
                Found::Unreadable(kind) => return Err(self.damaged(Damage::Unreadable { kind })),
                Found::End | Found::Blank | Found::Residue | Found::Invalid => {
                    return Err(self.damaged(Damage::Record { synced_bytes: end_bytes }));
                }
            };
            self.take(&record)?;
            let size_bytes = record.header.record_size() as u64;
            self.position += size_bytes;
            *read_bytes += size_bytes;
        }
        let (expected, found) = (self.next.last_log, self.replay.map.last());
        if found != expected {
            return Err(self.damaged(Damage::Gap { expected, found }));
        }
        Ok(true)
    }

    fn take(&mut self, record: &Record) -> Result<(), Rotten> {
        let (number, era_max) = (self.header.number, self.next.era);
        match self.replay.take(record, number, self.position, era_max) {
            Step::Taken => Ok(()),
            Step::Ghost => {
                Err(self.damaged(Damage::Record { synced_bytes: self.next.previous_end_bytes }))
            }
            Step::Contradiction(damage) => Err(self.damaged(damage)),
        }
    }

    fn damaged(&self, damage: Damage) -> Rotten {
        let last = self.replay.map.last().index;
        let (first, end) = (last.next(), self.next.last_log);
        self.rotten(WalError::Damaged {
            path: self.path.clone(),
            offset_bytes: self.position,
            indexes: Some((first, Some(end.index).filter(|end| *end >= first))),
            anchor: Some(Box::new(end)),
            damage,
        })
    }

    fn rotten(&self, error: WalError) -> Rotten {
        let (number, last) = (self.header.number, self.next.last_log.index);
        Rotten { file: RottenFile::Segment { number, last }, error: Box::new(error) }
    }
}
