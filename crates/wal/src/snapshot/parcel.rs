//! A snapshot as it travels to another node: its manifest, then its file. It is packed, and thereby
//! verified, before the first byte of it leaves. Must not know who gets it.

use super::SnapshotReader;
use super::manifest::{ChunkHasher, Manifest};
use super::reader::SnapshotBody;
use crate::WalError;
use bytes::Bytes;
use quorate_core::SnapshotMeta;

/// How much is read at a time.
const READ_BYTES: u64 = 256 << 10;

/// A snapshot whose file is read once, so that its manifest is known and the file is known to be
/// whole.
pub struct Packing {
    reader: SnapshotReader,
    body: SnapshotBody,
    verified_bytes: u64,
    manifest: Manifest,
    hasher: ChunkHasher,
}

impl Packing {
    pub(super) fn new(reader: SnapshotReader, chunk_bytes: u32) -> Self {
        let last_included = reader.meta().last_included;
        let manifest = Manifest::begin(last_included, reader.size_bytes(), chunk_bytes);
        let (body, hasher) = (reader.body(), ChunkHasher::new(&manifest, 0));
        Self { reader, body, verified_bytes: 0, manifest, hasher }
    }

    /// Reads about so many bytes more; gives the parcel once all are read. Then nothing is left here.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] if the file is not what was written, [`WalError::Io`].
    pub fn step(&mut self, max_bytes: u64) -> Result<Option<Parcel>, WalError> {
        let until = self.hasher.at().saturating_add(max_bytes.max(1));
        while self.hasher.lacks() > 0 && self.hasher.at() < until {
            let length = usize::try_from(self.hasher.lacks().min(READ_BYTES)).unwrap_or(usize::MAX);
            let (mut bytes, _) = self.reader.read_chunk(self.hasher.at(), length)?;
            if let Some(hash) = self.hasher.take(&mut bytes) {
                self.manifest.push(hash);
            }
        }
        let is_hashed = self.hasher.lacks() == 0;
        // What was hashed is what was written, by the file's own checksums.
        while is_hashed || self.verified_bytes < self.hasher.at() {
            match self.body.verify_next()? {
                Some(size) => self.verified_bytes += size,
                None => break,
            }
        }
        let parcel = || Parcel { reader: self.reader.clone(), manifest: self.manifest.encode() };
        Ok(is_hashed.then(parcel))
    }
}

/// See the module. It stays readable when the file is removed.
pub struct Parcel {
    reader: SnapshotReader,
    manifest: Bytes,
}

impl Parcel {
    /// What the snapshot stands for.
    #[must_use]
    pub const fn meta(&self) -> &SnapshotMeta {
        self.reader.meta()
    }

    /// The size of the whole, in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.reader.size_bytes() + self.manifest.len() as u64
    }

    /// A piece of it, and whether it is the last. No piece holds both of manifest and file. Empty and
    /// last beyond the end.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::Damaged`] if the file shrank.
    pub fn read_piece(&self, offset: u64, max_bytes: usize) -> Result<(Bytes, bool), WalError> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(self.manifest.len());
        let rest = self.manifest.slice(begin..);
        if rest.is_empty() {
            return self.reader.read_chunk(offset - self.manifest.len() as u64, max_bytes);
        }
        Ok((rest.slice(..rest.len().min(max_bytes)), false))
    }
}
