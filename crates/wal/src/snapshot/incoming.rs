//! A snapshot on its way in: first its manifest, then its file, of which each chunk is known by its
//! hash. What has arrived outlives the connection, the sender and this process; whoever sends a file
//! with the same manifest goes on where it stopped. Must not know which snapshot is wanted.

use super::manifest::{ChunkHasher, Manifest};
use crate::disk::read_full;
use crate::{Disk, DiskFile, WalError, folder};
use bytes::Bytes;
use quorate_core::{LogIndex, SnapshotMeta};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file as far as it is here, and the manifest that it is checked by.
const PART_NAME: &str = "receiving.part";
const MANIFEST_NAME: &str = "receiving.manifest";
/// The file is synced every so many chunks, so that a crash loses little of it, and the log's own
/// sync never waits for much of it.
const SYNC_EVERY_CHUNKS: u64 = 8;
/// How much of it is read at a time.
const READ_BYTES: usize = 256 << 10;

/// See the module.
pub(super) struct Incoming {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// What is being received now.
    under_way: Option<UnderWay>,
    /// The file that was received last, as far as this process knows it.
    partial: Option<Partial>,
    /// What the manifest's file says.
    noted: Option<Manifest>,
    /// Bytes that did not have to be sent again.
    pub(super) resumed_bytes: u64,
}

/// The sender's snapshot, and its manifest as far as it is here.
struct UnderWay {
    meta: SnapshotMeta,
    manifest: Vec<u8>,
    is_manifest_whole: bool,
}

/// A file that is partly here.
struct Partial {
    manifest: Manifest,
    file: Arc<dyn DiskFile>,
    hasher: ChunkHasher,
    unsynced_chunks: u64,
}

/// What came of a piece.
pub(super) enum Piece {
    /// This offset is wanted next.
    Wants(u64),
    /// The file is here, and each chunk has its hash.
    Whole(SnapshotMeta, Arc<dyn DiskFile>, u64),
}

impl Incoming {
    /// Nothing is under way. What an earlier life left may be gone on with.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, WalError> {
        let mut incoming = Self::look(disk, dir);
        // What cannot be read, or is damaged, can be sent again.
        incoming.noted = incoming.read_manifest();
        if incoming.noted.is_none() {
            incoming.discard()?;
        }
        Ok(incoming)
    }

    /// The same, where nothing is received.
    pub(super) const fn look(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, under_way: None, partial: None, noted: None, resumed_bytes: 0 }
    }

    pub(super) fn part_path(&self) -> PathBuf {
        self.dir.join(PART_NAME)
    }

    fn manifest_path(&self) -> PathBuf {
        self.dir.join(MANIFEST_NAME)
    }

    fn read_manifest(&self) -> Option<Manifest> {
        let path = self.manifest_path();
        let file = self.disk.open(&path).ok()?;
        let size = usize::try_from(file.size_bytes().ok()?).ok()?;
        let mut beginning = vec![0; size.min(READ_BYTES)];
        read_full(file.as_ref(), &mut beginning, 0).ok()?;
        if Manifest::size_of(&path, &beginning).ok()?? != size {
            return None;
        }
        let mut bytes = vec![0; size];
        read_full(file.as_ref(), &mut bytes, 0).ok()?;
        Manifest::decode(&path, bytes.into()).ok()
    }

    /// Stores a piece. Offset 0 begins with the manifest again; what is here of its file stays.
    pub(super) fn piece(
        &mut self,
        meta: &SnapshotMeta,
        offset: u64,
        piece: &Bytes,
        done: bool,
    ) -> Result<Piece, WalError> {
        if offset == 0 {
            let (meta, manifest) = (meta.clone(), Vec::new());
            self.under_way = Some(UnderWay { meta, manifest, is_manifest_whole: false });
        }
        let Some(under_way) = self.under_way.as_mut().filter(|under_way| under_way.meta == *meta)
        else {
            return Ok(Piece::Wants(0));
        };
        let manifest_bytes = under_way.manifest.len() as u64;
        let partial = self.partial.as_mut().filter(|_| under_way.is_manifest_whole);
        let next_offset = manifest_bytes + partial.as_ref().map_or(0, |it| it.hasher.at());
        if offset != next_offset {
            return Ok(Piece::Wants(next_offset));
        }
        let Some(partial) = partial else { return self.take_manifest(piece, done) };
        let path = self.dir.join(PART_NAME);
        if !partial.write(&path, piece)? {
            // Either it changed on the way, or the sender's file is not what its manifest says: the
            // manifest is wanted again, and with it another look of the sender at its file.
            self.under_way = None;
            return Ok(Piece::Wants(0));
        }
        Ok(self.next(done))
    }

    /// What is wanted behind what is here.
    fn next(&mut self, done: bool) -> Piece {
        let (Some(under_way), Some(partial)) = (&self.under_way, &self.partial) else {
            return Piece::Wants(0);
        };
        let next_offset = under_way.manifest.len() as u64 + partial.hasher.at();
        if partial.hasher.lacks() == 0 {
            return Piece::Whole(under_way.meta.clone(), Arc::clone(&partial.file), next_offset);
        }
        if done {
            self.under_way = None;
            return Piece::Wants(0);
        }
        Piece::Wants(next_offset)
    }

    fn take_manifest(&mut self, piece: &Bytes, done: bool) -> Result<Piece, WalError> {
        let path = self.manifest_path();
        let Some(under_way) = &mut self.under_way else { return Ok(Piece::Wants(0)) };
        under_way.manifest.extend_from_slice(piece);
        let here = under_way.manifest.len();
        let manifest = match Manifest::size_of(&path, &under_way.manifest) {
            Ok(size) if !done && size.is_none_or(|size| here < size) => {
                return Ok(Piece::Wants(here as u64));
            }
            Ok(_) => Manifest::decode(&path, Bytes::copy_from_slice(&under_way.manifest)),
            Err(error) => Err(error),
        };
        let fits = |it: &Manifest| it.last_included == under_way.meta.last_included;
        let Some(manifest) = manifest.ok().filter(fits) else {
            self.under_way = None;
            return Ok(Piece::Wants(0));
        };
        under_way.is_manifest_whole = true;
        if self.partial.as_ref().is_none_or(|partial| partial.manifest != manifest) {
            self.partial = None;
            self.partial = Some(self.resume(manifest)?);
        }
        self.resumed_bytes += self.partial.as_ref().map_or(0, |partial| partial.hasher.at());
        Ok(self.next(false))
    }

    /// What an earlier life left of this file, as far as its chunks have their hashes; else a new
    /// file.
    fn resume(&mut self, manifest: Manifest) -> Result<Partial, WalError> {
        let path = self.part_path();
        if self.noted.as_ref() == Some(&manifest)
            && let Ok(file) = self.disk.open(&path)
        {
            let at = whole_chunks(file.as_ref(), &manifest);
            file.set_size(at).map_err(WalError::io("cut", &path))?;
            let hasher = ChunkHasher::new(&manifest, at);
            return Ok(Partial { manifest, file: file.into(), hasher, unsynced_chunks: 0 });
        }
        self.noted = None;
        folder::discard(self.disk.as_ref(), &path)?;
        let noted = self.manifest_path();
        folder::discard(self.disk.as_ref(), &noted)?;
        let file = self.disk.create(&noted).map_err(WalError::io("create", &noted))?;
        file.write_at(&manifest.encode(), 0).map_err(WalError::io("write", &noted))?;
        file.sync().map_err(WalError::io("sync", &noted))?;
        let file = self.disk.create(&path).map_err(WalError::io("create", &path))?;
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
        self.noted = Some(manifest.clone());
        let hasher = ChunkHasher::new(&manifest, 0);
        Ok(Partial { manifest, file: file.into(), hasher, unsynced_chunks: 0 })
    }

    /// The connection to what was received is given up; what is on the disk stays.
    pub(super) fn forget(&mut self) {
        self.under_way = None;
        self.partial = None;
    }

    /// Nothing of what is here is of use to anybody; the room is.
    pub(super) fn discard(&mut self) -> Result<(), WalError> {
        self.forget();
        self.noted = None;
        folder::discard(self.disk.as_ref(), &self.part_path())?;
        folder::discard(self.disk.as_ref(), &self.manifest_path())
    }

    /// The file has another name now.
    pub(super) fn finished(&mut self) -> Result<(), WalError> {
        self.forget();
        self.noted = None;
        folder::discard(self.disk.as_ref(), &self.manifest_path())
    }

    /// Discards what ends before `keep`: nobody will send more of it.
    pub(super) fn discard_older_than(&mut self, keep: LogIndex) -> Result<(), WalError> {
        let is_old = |noted: &Manifest| noted.last_included.index < keep;
        if self.noted.as_ref().is_some_and(is_old) { self.discard() } else { Ok(()) }
    }
}

impl Partial {
    /// Writes what follows; false if a chunk that ends in it has not its hash, or nothing follows.
    /// Then the file ends where that chunk begins.
    fn write(&mut self, path: &Path, piece: &Bytes) -> Result<bool, WalError> {
        let left = self.manifest.file_bytes - self.hasher.at();
        if piece.len() as u64 > left {
            return Ok(false);
        }
        self.file.write_at(piece, self.hasher.at()).map_err(WalError::io("write", path))?;
        let mut rest = piece.clone();
        while !rest.is_empty() {
            let start = self.hasher.chunk_start();
            let Some(hash) = self.hasher.take(&mut rest) else { break };
            if !self.manifest.has(self.hasher.at(), &hash) {
                self.hasher = ChunkHasher::new(&self.manifest, start);
                return Ok(false);
            }
            self.unsynced_chunks += 1;
        }
        if self.unsynced_chunks >= SYNC_EVERY_CHUNKS {
            self.file.sync().map_err(WalError::io("sync", path))?;
            self.unsynced_chunks = 0;
        }
        Ok(true)
    }
}

/// How much of the file consists of chunks that have their hashes. What cannot be read has not.
fn whole_chunks(file: &dyn DiskFile, manifest: &Manifest) -> u64 {
    let mut hasher = ChunkHasher::new(manifest, 0);
    let mut whole = 0;
    while hasher.lacks() > 0 {
        let length = usize::try_from(hasher.lacks()).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut bytes = vec![0; length];
        if read_full(file, &mut bytes, hasher.at()).ok() != Some(length) {
            break;
        }
        match hasher.take(&mut Bytes::from(bytes)) {
            Some(hash) if manifest.has(hasher.at(), &hash) => whole = hasher.at(),
            Some(_) => break,
            None => {}
        }
    }
    whole
}
