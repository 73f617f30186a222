//! Reads a snapshot file: raw pieces for another node, or the verified body for the state machine.
//! Must not know what the body means.

use super::format::{self, Block, HeaderStart};
use crate::disk::read_full;
use crate::{Damage, DiskFile, WalError};
use bytes::Bytes;
use quorate_core::{LogId, SnapshotMeta};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One piece is never larger, whatever is asked for.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// An open snapshot file. It stays readable when the file is removed.
#[derive(Clone)]
pub struct SnapshotReader {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    meta: SnapshotMeta,
    size_bytes: u64,
    header_size: u64,
    header_checksum: u32,
}

impl SnapshotReader {
    /// Reads the header, which must be that of the snapshot `last_included`.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        last_included: LogId,
    ) -> Result<Self, WalError> {
        let size_bytes = file.size_bytes().map_err(WalError::io("measure", &path))?;
        let start = read_exactly(file.as_ref(), &path, 0, HeaderStart::SIZE, size_bytes)?;
        let start = HeaderStart::decode(&path, start)?;
        let meta_at = HeaderStart::SIZE as u64;
        let meta = read_exactly(file.as_ref(), &path, meta_at, start.meta_size, size_bytes)?;
        let meta = start.decode_meta(&path, meta)?;
        if meta.last_included != last_included {
            let damage = Damage::Gap { expected: last_included, found: meta.last_included };
            return Err(WalError::damaged(&path, 0, damage));
        }
        let header_size = start.header_size() as u64;
        let header_checksum = start.checksum;
        Ok(Self { file, path, meta, size_bytes, header_size, header_checksum })
    }

    /// What the snapshot stands for.
    #[must_use]
    pub const fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The size of the whole file, in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What the end mark says of the whole file, header included: files that differ are unlikely to
    /// have equal ones. The file itself is not read.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::Damaged`] if the file shrank.
    pub fn checksum(&self) -> Result<u32, WalError> {
        let mark = self.size_bytes.saturating_sub(format::END_MARK_SIZE as u64);
        let length = format::END_MARK_SIZE;
        let bytes = read_exactly(self.file.as_ref(), &self.path, mark, length, self.size_bytes)?;
        let checksum = bytes.get(4..format::BLOCK_HEAD_SIZE).and_then(|it| it.try_into().ok());
        let truncated = || WalError::damaged(&self.path, mark, Damage::Truncated);
        checksum.map(u32::from_le_bytes).ok_or_else(truncated)
    }

    /// A piece of the file as it is, header and checksums included; and whether it is the last. Empty
    /// and last beyond the end.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::Damaged`] if the file shrank.
    pub fn read_chunk(&self, offset: u64, max_bytes: usize) -> Result<(Bytes, bool), WalError> {
        let left = self.size_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX);
        let length = length.min(max_bytes).min(CHUNK_BYTES_MAX);
        let chunk = read_exactly(self.file.as_ref(), &self.path, offset, length, self.size_bytes)?;
        Ok((chunk, left == length as u64))
    }

    /// The body, verified block by block. Damage is an error, never a short read.
    #[must_use]
    pub fn body(&self) -> SnapshotBody {
        SnapshotBody {
            file: self.file.clone(),
            path: self.path.clone(),
            size_bytes: self.size_bytes,
            position: self.header_size,
            checksum: self.header_checksum,
            block: Bytes::new(),
            body_bytes: 0,
            is_at_end: false,
        }
    }

    /// Reads the whole file and checks every checksum.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`], [`WalError::Io`].
    pub fn verify(&self) -> Result<(), WalError> {
        let mut body = self.body();
        while !body.is_at_end {
            body.next_block()?;
        }
        Ok(())
    }

    /// Passes `meta` on if the file is as long as its end mark says.
    pub(super) fn check_length(&self, meta: &SnapshotMeta) -> Result<SnapshotMeta, WalError> {
        let mark = self.size_bytes.saturating_sub(8);
        let bytes = read_exactly(self.file.as_ref(), &self.path, mark, 8, self.size_bytes)?;
        let body_bytes = <[u8; 8]>::try_from(bytes.as_ref()).map_or(0, u64::from_le_bytes);
        if format::file_size(self.header_size, body_bytes) == Some(self.size_bytes) {
            return Ok(meta.clone());
        }
        Err(WalError::damaged(&self.path, mark, Damage::Truncated))
    }
}

/// Reads `length` bytes; a length that the file does not have is damage, and not allocated.
fn read_exactly(
    file: &dyn DiskFile,
    path: &Path,
    offset: u64,
    length: usize,
    size_bytes: u64,
) -> Result<Bytes, WalError> {
    if size_bytes.saturating_sub(offset) < length as u64 {
        return Err(WalError::damaged(path, size_bytes, Damage::Truncated));
    }
    let mut bytes = vec![0; length];
    let count = read_full(file, &mut bytes, offset).map_err(WalError::io("read", path))?;
    if count < length {
        return Err(WalError::damaged(path, offset + count as u64, Damage::Truncated));
    }
    Ok(Bytes::from(bytes))
}

/// The body of a snapshot.
pub struct SnapshotBody {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    size_bytes: u64,
    position: u64,
    checksum: u32,
    /// What was read and verified, and not yet handed out.
    block: Bytes,
    body_bytes: u64,
    is_at_end: bool,
}

impl SnapshotBody {
    /// Reads and checks the next block, and says how large it is; `None` once the end was reached.
    pub(crate) fn verify_next(&mut self) -> Result<Option<u64>, WalError> {
        if self.is_at_end {
            return Ok(None);
        }
        let before = self.position;
        self.next_block()?;
        // The end mark is read too.
        Ok(Some((self.position - before).max(format::END_MARK_SIZE as u64)))
    }

    fn next_block(&mut self) -> Result<(), WalError> {
        // Far more than the end mark takes, so that it shows whether something follows that.
        let left = usize::try_from(self.size_bytes.saturating_sub(self.position));
        let most = format::BLOCK_BYTES + format::BLOCK_HEAD_SIZE;
        let mut bytes = vec![0; left.unwrap_or(usize::MAX).min(most)];
        let count = read_full(self.file.as_ref(), &mut bytes, self.position)
            .map_err(WalError::io("read", &self.path))?;
        bytes.truncate(count);
        let found = format::decode_block(Bytes::from(bytes), self.checksum, self.body_bytes)
            .map_err(|damage| WalError::damaged(&self.path, self.position, damage))?;
        match found {
            Block::Body(block, checksum) => {
                self.position += (format::BLOCK_HEAD_SIZE + block.len()) as u64;
                self.body_bytes += block.len() as u64;
                self.checksum = checksum;
                self.block = block;
            }
            Block::End => self.is_at_end = true,
        }
        Ok(())
    }
}

impl Read for SnapshotBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.block.is_empty() && !self.is_at_end {
            self.next_block().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        let taken = self.block.split_to(buffer.len().min(self.block.len()));
        if let Some(target) = buffer.get_mut(..taken.len()) {
            target.copy_from_slice(&taken);
        }
        Ok(taken.len())
    }
}
