//! The log: one pre-filled file at a time, one write and one sync per batch (§3.8, §10.2.1).
//! Must not know why the core asks for what it asks.

use crate::log_map::{Disorder, LogMap};
use crate::mark::{MarkFile, Watermark};
use crate::meta::{Meta, MetaFiles, Standing};
use crate::options::WalOptions;
use crate::prepare::{PREPARED_NAME, PrepareJob, Size, Slot};
use crate::record::{Batch, RecordKind, record_size};
use crate::recovery::Recovered;
use crate::segment::{Segment, file_name};
use crate::spares::Spares;
use crate::{Disk, Identity, WalError, codec, folder, mending, reading};
use quorate_core::{Entry, HardState, LogId, LogIndex, NodeId, Payload, Persist, SnapshotMeta};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The encode buffer is given back if a batch made it larger than this.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

/// The durable log, term and vote of one node.
pub struct Wal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: WalOptions,
    pub(crate) meta: MetaFiles,
    pub(crate) mark: MarkFile,
    /// Older segments, oldest first.
    pub(crate) sealed: Vec<Segment>,
    /// The first segment that may have a file: what is before it was removed.
    pub(crate) oldest: u64,
    /// The segment that is written.
    pub(crate) active: Segment,
    pub(crate) map: LogMap,
    pub(crate) buffer: Vec<u8>,
    pub(crate) slot: Slot,
    pub(crate) poison: Option<(&'static str, io::ErrorKind)>,
    pub(crate) read_file: Option<reading::OpenSegment>,
    /// What stands behind the cuts, as long as something is lost.
    pub(crate) spares: Spares,
    pub(crate) lock: Arc<dyn Any + Send + Sync>,
}

impl Wal {
    /// Creates a log in an empty or missing folder. It starts after `initial`:
    /// [`LogId::ORIGIN`] with the initial configuration.
    ///
    /// # Errors
    ///
    /// [`WalError::AlreadyExists`], [`WalError::Locked`], [`WalError::Damaged`] if the folder
    /// holds a log without its hard state, [`WalError::DiskFull`], [`WalError::Io`].
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        identity: Identity,
        initial: SnapshotMeta,
    ) -> Result<(Self, Recovered), WalError> {
        folder::create(disk, dir, options, identity, initial)
    }

    /// Opens an existing log, which must belong to this cluster and node.
    ///
    /// # Errors
    ///
    /// [`WalError::Missing`], [`WalError::WrongIdentity`], [`WalError::Locked`],
    /// [`WalError::UnsupportedVersion`], [`WalError::Damaged`], [`WalError::DiskFull`],
    /// [`WalError::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        cluster_id: u64,
        node_id: NodeId,
    ) -> Result<(Self, Recovered), WalError> {
        folder::open(disk, dir, options, cluster_id, node_id)
    }

    /// Whether the folder holds a log that can be opened, or should be.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
        MetaFiles::exist(disk, dir)
    }

    /// Whose log the folder holds, and how often it was opened, without a byte of it being changed;
    /// `None` if it holds none.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::Damaged`] if neither copy of the hard state says it.
    pub fn look(disk: &dyn Disk, dir: &Path) -> Result<Option<(Identity, u32)>, WalError> {
        MetaFiles::whose(disk, dir)
    }

    /// Carries out writes in order. On return all of them are durable: one sync of the log for
    /// the whole batch, and one of each copy of the hard state if it changed.
    ///
    /// # Errors
    ///
    /// [`WalError::DiskFull`] if there is no room for it: unless the log is poisoned then, nothing of
    /// the batch was begun, and the same batch, or one that goes on from it, may be given again.
    ///
    /// [`WalError::Io`], [`WalError::OutOfOrder`], [`WalError::TooLarge`]; [`WalError::Poisoned`] ever
    /// after, because what is durable is then unknown: a disk may drop what it failed to sync and
    /// report success the next time.
    pub fn persist(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        // What precedes a reset within the batch is dropped by it.
        let first = batch.iter().rposition(|write| write.reset.is_some()).unwrap_or(0);
        let live = batch.get(first..).unwrap_or_default();
        let base = live.first().and_then(|write| write.reset.as_ref());
        let next = self.find_room(base, live)?;
        self.guarded(|wal| {
            match (base, next) {
                (Some(base), Some(next)) => wal.reset(base, next)?,
                (None, Some(next)) => wal.go_on_in(next)?,
                (_, None) => {}
            }
            wal.note_protocol(live)?;
            wal.append(live)?;
            match batch.iter().rev().find_map(|write| write.hard_state) {
                Some(hard_state) => wal.store_hard_state(hard_state),
                None => Ok(()),
            }?;
            wal.close_if_reached()?;
            wal.write_mark()
        })
    }

    /// The entries from `first` on, without a gap, up to `last`, as many as fit into `max_bytes`
    /// (counted as [`Entry::size_bytes`]) but at least one. Empty if the log does not hold
    /// `first`.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`], [`WalError::Io`], [`WalError::Poisoned`].
    pub fn read(
        &mut self,
        first: LogIndex,
        last: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, WalError> {
        self.check_poison()?;
        reading::read(self, first, last, max_bytes)
    }

    /// Lets the log start after `base`, which it holds: records that durably, then removes the
    /// files that only hold older entries. A base before the present one changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Wal::persist`]; this needs no room.
    pub fn release_prefix(&mut self, base: &SnapshotMeta) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.release(base)?;
            wal.write_mark()
        })
    }

    /// Makes durable the note of how far the log is, so that even after a power cut the last batch
    /// can be told from a torn write. Worth a small sync when the node stops or is idle.
    ///
    /// # Errors
    ///
    /// As [`Wal::persist`].
    pub fn mark_synced(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            if wal.meta.meta().synced_bytes == wal.active.end_bytes {
                return Ok(());
            }
            wal.write_mark()?;
            wal.mark.sync()
        })
    }

    /// Work to do ahead of time, off the hot path, if there is some: zero-filling the next file.
    /// Ask after each batch; run the job on any thread. The log never waits for it.
    pub fn prepare(&mut self) -> Option<PrepareJob> {
        let capacity_bytes = self.active.header.capacity_bytes;
        let is_half_full = self.active.end_bytes > capacity_bytes / 2;
        (is_half_full && self.poison.is_none() && self.slot.begin()).then(|| {
            PrepareJob::new(
                self.disk.clone(),
                self.dir.join(PREPARED_NAME),
                Size {
                    file_bytes: self.options.next_capacity(capacity_bytes),
                    kept_free_bytes: self.options.kept_free_bytes,
                },
                self.slot.clone(),
                self.lock.clone(),
            )
        })
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.meta.meta().identity
    }

    /// Bytes of records in the log's files. What is pre-filled does not count.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.sealed.iter().map(Segment::records_bytes).sum::<u64>() + self.active.records_bytes()
    }

    /// What the log starts after.
    #[must_use]
    pub fn base(&self) -> &SnapshotMeta {
        &self.meta.meta().base
    }

    /// The first index that the log can hold: the one after the base.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        self.map.start().index.next()
    }

    /// The last entry, or the base if the log is empty.
    #[must_use]
    pub fn last_log(&self) -> LogId {
        self.map.last()
    }

    /// The durable term and vote.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.meta.meta().hard_state
    }

    /// Whether this storage may vote by itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.meta.meta().standing
    }

    /// The last entry of what the log held before it lost its end for good;
    /// [`LogId::ORIGIN`] if it never did.
    #[must_use]
    pub fn horizon(&self) -> LogId {
        self.meta.meta().horizon
    }

    /// The last entry of what a wounded log is known to have held; `None` for a sound one, and as
    /// soon as this log reaches up to it again, in the order of the election rule (§3.6.1): after a
    /// [`Wal::persist`] that is durable too.
    #[must_use]
    pub fn lost(&self) -> Option<LogId> {
        self.meta.meta().lost()
    }

    /// Entries that stand whole behind the wound: the stretch that begins with the first one from `first`
    /// on that there is, as much of it as fits into `max_bytes` (counted as [`Entry::size_bytes`]) but at
    /// least one. They followed upon each other in a log that this node had: what records behind the wound
    /// truncate or overwrite is not among them. Empty if there are none, and once the log is closed.
    ///
    /// # Errors
    ///
    /// [`WalError::Poisoned`]. What cannot be read is passed over.
    pub fn spares(&mut self, first: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        self.check_poison()?;
        Ok(self.read_spares(first, max_bytes))
    }

    /// Whether a failure stopped the log for good.
    #[must_use]
    pub const fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    pub(crate) fn check_poison(&self) -> Result<(), WalError> {
        match self.poison {
            Some((op, kind)) => Err(WalError::Poisoned { op, kind }),
            None => Ok(()),
        }
    }

    /// Writes, unless an earlier write failed; a failure is remembered.
    pub(crate) fn guarded(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), WalError>,
    ) -> Result<(), WalError> {
        self.check_poison()?;
        let result = write(self);
        if let Err(error) = &result {
            self.poison = Some(error.poison());
        }
        result
    }

    /// Before a configuration is written that says that the cluster speaks a later protocol, both copies
    /// of the hard state say so: a program that does not know it is told, rather than taking the record
    /// for a damaged one.
    fn note_protocol(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        let entries = batch.iter().flat_map(|write| &write.entries);
        let spoken = entries.filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(configuration.cluster_version),
            Payload::Noop | Payload::Command(_) | Payload::Session(_) => None,
        });
        match spoken.max() {
            Some(protocol) if protocol > self.meta.meta().protocol => {
                self.store_meta(|meta| meta.protocol = protocol)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Writes the batch's records where there is room for them.
    fn append(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        self.encode(batch)?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Segment { path, file, end_bytes, .. } = &mut self.active;
        if let Some(file) = file {
            file.write_at(&self.buffer, *end_bytes).map_err(WalError::io("append to", path))?;
            file.sync().map_err(WalError::io("sync", path))?;
        }
        *end_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Fills the buffer with the batch's records, and the map with what they say.
    fn encode(&mut self, batch: &[Persist]) -> Result<(), WalError> {
        self.buffer.clear();
        let start_bytes = self.active.end_bytes;
        let era = self.meta.meta().era;
        let records = Batch { salt: self.active.salt, era, synced_bytes: start_bytes };
        let mut scratch = Vec::new();
        for write in batch {
            if let Some(index) = write.truncate_after.filter(|&at| at < self.map.last().index) {
                let last = self.truncate(index)?;
                let position = start_bytes + self.buffer.len() as u64;
                records.encode(position, RecordKind::Truncate, last, &[], &mut self.buffer);
            }
            for entry in &write.entries {
                let (kind, payload) = payload_of(entry, &mut scratch);
                let position = start_bytes + self.buffer.len() as u64;
                let size_bytes = record_size(payload.len()) as u64;
                self.map
                    .append(entry.log_id, self.active.header.number, position, size_bytes)
                    .map_err(|disorder| out_of_order("append", disorder))?;
                records.encode(position, kind, entry.log_id, payload, &mut self.buffer);
            }
        }
        Ok(())
    }

    /// Drops the entries after `index` from the map; returns the entry that is the last now.
    fn truncate(&mut self, index: LogIndex) -> Result<LogId, WalError> {
        let start = self.map.start();
        let out_of_order = |disorder| out_of_order("truncate", disorder);
        // Below the base nothing may be dropped: it is committed and applied.
        let Some(term) = self.map.term_at(index) else {
            let found = LogId::new(start.term, index);
            return Err(out_of_order(Disorder { expected: start, found }));
        };
        let last = LogId::new(term, index);
        self.map.truncate_after(last).map_err(out_of_order)?;
        Ok(last)
    }

    /// Goes on to the next segment.
    fn go_on_in(&mut self, next: Segment) -> Result<(), WalError> {
        let sealed = std::mem::replace(&mut self.active, next);
        self.sealed.push(Segment { file: None, ..sealed });
        // Only when both copies know the segment may records be written to it.
        let number = self.active.header.number;
        self.store_meta(|meta| meta.last_segment = number)
    }

    /// Starts the log anew after `base`. The change of both copies of the hard state is the
    /// moment at which the old log ceases to exist; its files are removed afterwards. Those of a log that
    /// does not reach up to what it lost even so are kept, all of them behind a cut.
    fn reset(&mut self, base: &SnapshotMeta, next: Segment) -> Result<(), WalError> {
        let number = next.header.number;
        let old = std::mem::replace(&mut self.active, next);
        let end_bytes = old.end_bytes;
        self.sealed.push(old);
        self.map = LogMap::new(base.last_included);
        self.store_meta(|meta| {
            meta.protocol = meta.protocol.max(base.configuration.cluster_version);
            meta.base = base.clone();
            meta.last_segment = number;
            mending::close(meta, base.last_included);
            mending::start_anew(meta, number, end_bytes);
        })?;
        if self.lost().is_some() {
            self.sealed.clear();
        }
        self.look_for_spares();
        self.remove_before(self.meta.meta().first_segment)
    }

    fn release(&mut self, base: &SnapshotMeta) -> Result<(), WalError> {
        let released = base.last_included;
        if released.index <= self.map.start().index {
            return Ok(());
        }
        if self.map.term_at(released.index) != Some(released.term) {
            let disorder = Disorder { expected: self.map.last(), found: released };
            return Err(out_of_order("release", disorder));
        }
        self.map.release(released);
        let first = self.map.first_segment().unwrap_or(self.active.header.number);
        let first = self.kept_from(first);
        self.store_meta(|meta| {
            meta.base = base.clone();
            meta.first_segment = first;
            meta.cuts.release(first);
        })?;
        self.remove_before(first)
    }

    /// Removes the segments before number `first`, which the hard-state file names no more.
    fn remove_before(&mut self, first: u64) -> Result<(), WalError> {
        self.read_file = None;
        let passed = self.sealed.partition_point(|segment| segment.header.number < first);
        self.sealed.drain(..passed);
        for number in self.oldest..first {
            // What stood behind a cut may be missing.
            folder::discard(self.disk.as_ref(), &self.dir.join(file_name(number)))?;
        }
        self.oldest = first.max(self.oldest);
        Ok(())
    }

    fn store_hard_state(&mut self, hard_state: HardState) -> Result<(), WalError> {
        if hard_state == self.hard_state() {
            return Ok(());
        }
        self.store_meta(|meta| meta.hard_state = hard_state)
    }

    /// Notes that everything up to here is durable. Only after it is: what the mark says is believed.
    fn write_mark(&mut self) -> Result<(), WalError> {
        let Meta { era, generation, .. } = *self.meta.meta();
        self.mark.write(Watermark {
            era,
            generation,
            segment: self.active.header.number,
            position: self.active.end_bytes,
            last_log: self.map.last(),
        })
    }

    pub(crate) fn store_meta(&mut self, change: impl FnOnce(&mut Meta)) -> Result<(), WalError> {
        let mut meta = self.meta.meta().clone();
        change(&mut meta);
        meta.synced_bytes = self.active.end_bytes;
        self.meta.store(meta)
    }
}

fn out_of_order(op: &'static str, Disorder { expected, found }: Disorder) -> WalError {
    WalError::OutOfOrder { op, expected, found }
}

/// The record's kind and payload; configurations are encoded into `scratch`.
pub(crate) fn payload_of<'a>(entry: &'a Entry, scratch: &'a mut Vec<u8>) -> (RecordKind, &'a [u8]) {
    match &entry.payload {
        Payload::Noop => (RecordKind::Noop, &[]),
        Payload::Command(command) => (RecordKind::Command, command),
        Payload::Session(command) => (RecordKind::Session, command),
        Payload::Configuration(configuration) => {
            scratch.clear();
            codec::encode_configuration(configuration, scratch);
            (RecordKind::Configuration, scratch)
        }
    }
}

#[cfg(test)]
mod tests;
