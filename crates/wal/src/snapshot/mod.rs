//! The snapshot files of one node (§5.1): written, received in pieces, listed and read back.
//! Must not know what a snapshot holds, nor when one is taken.

mod format;
mod incoming;
mod manifest;
mod parcel;
mod reader;
mod state_mark;
mod writer;

pub use parcel::{Packing, Parcel};
pub use reader::{SnapshotBody, SnapshotReader};
pub use state_mark::StateMark;
pub use writer::SnapshotWriter;

use crate::{Damage, Disk, DiskFile, WalError, folder};
use bytes::Bytes;
use incoming::{Incoming, Piece};
use quorate_core::{LogId, LogIndex, SnapshotMeta, Term};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const STEM: &str = "snap-";
const SUFFIX: &str = ".snap";
/// Unfinished files end so; they are removed when the store is opened.
const UNFINISHED_SUFFIX: &str = ".tmp";
/// What a snapshot is checked by, and fetched again, when it travels.
const CHUNK_BYTES: u32 = 1 << 20;

/// A folder of snapshot files. A file has its name only when it is whole and durable.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    writer_count: u64,
    incoming: Incoming,
    /// The size of a chunk in the parcels that are made here.
    chunk_bytes: u32,
    /// So much of the disk is left free, in bytes.
    kept_free_bytes: u64,
    /// Snapshots that were read to their end mark by this process.
    verified: BTreeSet<LogId>,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The offset wanted next, in bytes of the parcel.
    pub next_offset: u64,
    /// Whether the snapshot is whole, verified and durable.
    pub complete: bool,
}

impl SnapshotStore {
    /// Opens the folder, creates it if it is missing, and removes unfinished files, but for what has
    /// arrived of a snapshot.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, WalError> {
        folder::make_folder(disk.as_ref(), dir)?;
        for name in disk.list(dir).map_err(WalError::io("list", dir))? {
            if name.ends_with(UNFINISHED_SUFFIX) {
                let path = dir.join(name);
                disk.remove(&path).map_err(WalError::io("remove", &path))?;
            }
        }
        // A process that was killed between giving a snapshot its name and syncing that name leaves
        // a file that is seen and not yet durable; the log must not be released on its word.
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
        let incoming = Incoming::open(Arc::clone(&disk), dir.to_owned())?;
        Ok(Self::new(disk, dir, incoming))
    }

    fn new(disk: Arc<dyn Disk>, dir: &Path, incoming: Incoming) -> Self {
        Self {
            disk,
            dir: dir.to_owned(),
            writer_count: 0,
            incoming,
            chunk_bytes: CHUNK_BYTES,
            kept_free_bytes: 0,
            verified: BTreeSet::new(),
        }
    }

    /// From now on parcels have chunks of this size, or larger ones if the file is huge. Receivers take
    /// any.
    pub const fn set_chunk_bytes(&mut self, bytes: u32) {
        self.chunk_bytes = bytes;
    }

    /// From now on no snapshot is written or received that would leave less of the disk free: a
    /// state can be larger than all that is left, and others need that.
    pub const fn keep_free(&mut self, bytes: u64) {
        self.kept_free_bytes = bytes;
    }

    /// A folder to look at: nothing in it is changed, and [`crate::ReadOnlyDisk`] is enough. One that
    /// is missing has no snapshots.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub fn look(disk: Arc<dyn Disk>, dir: &Path) -> Result<Option<Self>, WalError> {
        match disk.list(dir) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WalError::io("list", dir)(error)),
        }
        let incoming = Incoming::look(Arc::clone(&disk), dir.to_owned());
        Ok(Some(Self::new(disk, dir, incoming)))
    }

    /// The snapshots whose headers and lengths are right, newest first. Their content is verified
    /// when it is read. A damaged file is left out, and left where it is.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::UnsupportedVersion`].
    pub fn list(&self) -> Result<Vec<SnapshotMeta>, WalError> {
        let names = self.disk.list(&self.dir).map_err(WalError::io("list", &self.dir))?;
        let mut metas = Vec::new();
        for last_included in names.iter().filter_map(|name| log_id_of(name)) {
            match self.reader(last_included).and_then(|reader| reader.check_length(reader.meta())) {
                Ok(meta) => metas.push(meta),
                Err(WalError::Damaged { .. } | WalError::NoSnapshot { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        metas.sort_by_key(|meta| std::cmp::Reverse(meta.last_included.index));
        Ok(metas)
    }

    /// The snapshots that there are by their names, the oldest first; nothing is read.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub(crate) fn names(&self) -> Result<Vec<LogId>, WalError> {
        let names = self.disk.list(&self.dir).map_err(WalError::io("list", &self.dir))?;
        Ok(names.iter().filter_map(|name| log_id_of(name)).collect())
    }

    /// Begins a snapshot of the state machine. Nothing is visible before
    /// [`SnapshotWriter::finish`]. The writer may move to another thread.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn create(&mut self, meta: SnapshotMeta) -> Result<SnapshotWriter, WalError> {
        self.writer_count += 1;
        let temporary = self.dir.join(format!("writing-{}{UNFINISHED_SUFFIX}", self.writer_count));
        self.verified.remove(&meta.last_included);
        let path = self.path_of(meta.last_included);
        let kept_free_bytes = self.kept_free_bytes;
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        SnapshotWriter::new(disk, dir, temporary, path, meta, kept_free_bytes)
    }

    /// Stores a piece of a parcel from another node, as [`Parcel::read_piece`] gave it. Offset 0
    /// begins with the manifest; where its file goes on after that depends on what is here of it. Any
    /// other offset than the wanted one stores nothing and answers the wanted one. A chunk that has
    /// not its hash is refused: offset 0 is wanted again. The whole file is verified once more; if it
    /// is not what it should be it is discarded, and offset 0 is wanted.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`]: whoever gives the piece again is told that offset 0
    /// is wanted. On a full disk what has arrived is discarded.
    pub fn receive(
        &mut self,
        meta: &SnapshotMeta,
        offset: u64,
        chunk: &Bytes,
        done: bool,
    ) -> Result<Received, WalError> {
        if let Some(next_offset) = self.size_if_whole(meta)? {
            return Ok(Received { next_offset, complete: true });
        }
        let received = self.receive_piece(meta, offset, chunk, done);
        if let Err(error) = &received {
            self.incoming.forget();
            if matches!(error, WalError::DiskFull { .. }) {
                // Half a snapshot is of no use; the space is.
                self.incoming.discard()?;
            }
        }
        received
    }

    /// How many bytes of snapshots did not have to be sent again, because they were here already.
    #[must_use]
    pub const fn resumed_bytes(&self) -> u64 {
        self.incoming.resumed_bytes
    }

    /// Begins to make a parcel of a snapshot.
    ///
    /// # Errors
    ///
    /// As [`SnapshotStore::reader`].
    pub fn pack(&self, last_included: LogId) -> Result<Packing, WalError> {
        self.reader(last_included).map(|reader| Packing::new(reader, self.chunk_bytes))
    }

    /// Opens a snapshot for reading.
    ///
    /// # Errors
    ///
    /// [`WalError::NoSnapshot`], [`WalError::Damaged`] (header), [`WalError::Io`],
    /// [`WalError::UnsupportedVersion`].
    pub fn reader(&self, last_included: LogId) -> Result<SnapshotReader, WalError> {
        let path = self.path_of(last_included);
        match self.disk.open(&path) {
            Ok(file) => SnapshotReader::new(file.into(), path, last_included),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(WalError::NoSnapshot { path: self.dir.clone(), last_included })
            }
            Err(error) => Err(WalError::io("open", &path)(error)),
        }
    }

    /// Removes the snapshots that end before `keep`, one that is partly here among them.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`].
    pub fn remove_older_than(&mut self, keep: LogId) -> Result<(), WalError> {
        let names = self.disk.list(&self.dir).map_err(WalError::io("list", &self.dir))?;
        for last_included in names.iter().filter_map(|name| log_id_of(name)) {
            if last_included.index < keep.index {
                let path = self.path_of(last_included);
                self.disk.remove(&path).map_err(WalError::io("remove", &path))?;
                self.verified.remove(&last_included);
            }
        }
        self.incoming.discard_older_than(keep.index)
    }

    fn path_of(&self, last_included: LogId) -> PathBuf {
        self.dir.join(file_name(last_included))
    }

    /// The size of the snapshot's file if it is here and whole: then nothing needs to be received.
    /// A damaged one is replaced by what arrives.
    fn size_if_whole(&mut self, meta: &SnapshotMeta) -> Result<Option<u64>, WalError> {
        let reader = match self.reader(meta.last_included) {
            Ok(reader) => reader,
            Err(WalError::NoSnapshot { .. } | WalError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !self.verified.contains(&meta.last_included) {
            match reader.verify() {
                Ok(()) => self.verified.insert(meta.last_included),
                Err(WalError::Damaged { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(reader.size_bytes()))
    }

    fn receive_piece(
        &mut self,
        meta: &SnapshotMeta,
        offset: u64,
        chunk: &Bytes,
        done: bool,
    ) -> Result<Received, WalError> {
        let path = self.incoming.part_path();
        check_space(self.disk.as_ref(), &self.dir, self.kept_free_bytes)
            .map_err(WalError::io("write", &path))?;
        match self.incoming.piece(meta, offset, chunk, done)? {
            Piece::Wants(next_offset) => Ok(Received { next_offset, complete: false }),
            Piece::Whole(meta, file, next_offset) => {
                self.finish_receiving(&path, &meta, &file, next_offset)
            }
        }
    }

    /// The file gets its name once it is durable, and a snapshot by its own checksums too.
    fn finish_receiving(
        &mut self,
        path: &Path,
        meta: &SnapshotMeta,
        file: &Arc<dyn DiskFile>,
        next_offset: u64,
    ) -> Result<Received, WalError> {
        let whole = SnapshotReader::new(Arc::clone(file), path.to_owned(), meta.last_included)
            .and_then(|reader| {
                reader.verify()?;
                if reader.meta() == meta {
                    return Ok(());
                }
                Err(WalError::damaged(path, 0, Damage::Header))
            });
        match whole {
            Ok(()) => {}
            Err(WalError::Damaged { .. } | WalError::UnsupportedVersion { .. }) => {
                self.incoming.discard()?;
                return Ok(Received { next_offset: 0, complete: false });
            }
            Err(error) => return Err(error),
        }
        file.sync().map_err(WalError::io("sync", path))?;
        let visible = self.path_of(meta.last_included);
        self.disk.rename(path, &visible).map_err(WalError::io("rename to", &visible))?;
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
        self.verified.insert(meta.last_included);
        self.incoming.finished()?;
        Ok(Received { next_offset, complete: true })
    }
}

/// Refuses to go on where too little would be left. A disk that does not say finds out by itself.
fn check_space(disk: &dyn Disk, dir: &Path, kept_free_bytes: u64) -> io::Result<()> {
    if kept_free_bytes == 0 {
        return Ok(());
    }
    let is_short = disk.space(dir).is_ok_and(|space| space.free_bytes < kept_free_bytes);
    if is_short { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

fn file_name(last_included: LogId) -> String {
    format!("{STEM}{:020}-{:020}{SUFFIX}", last_included.index.get(), last_included.term.get())
}

/// The snapshot with this file name; `None` if it is no snapshot's.
fn log_id_of(name: &str) -> Option<LogId> {
    let (index, term) = name.strip_prefix(STEM)?.strip_suffix(SUFFIX)?.split_once('-')?;
    let index = LogIndex::new(index.parse().ok()?);
    let log_id = LogId::new(Term::new(term.parse().ok()?), index);
    (file_name(log_id) == name).then_some(log_id)
}
