//! Writes a snapshot file that becomes visible only when it is whole and durable.
//! Must not know what it writes.

use super::{check_space, format};
use crate::{Disk, DiskFile, WalError, folder};
use quorate_core::SnapshotMeta;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// The file is synced every so many bytes, so that the log's own sync never waits for much of it.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// Takes the body of a snapshot. Dropped before [`SnapshotWriter::finish`], it leaves nothing.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temporary: PathBuf,
    path: PathBuf,
    meta: SnapshotMeta,
    file: Box<dyn DiskFile>,
    /// The body that does not fill a block yet.
    block: Vec<u8>,
    encoded: Vec<u8>,
    checksum: u32,
    position: u64,
    synced: u64,
    body_bytes: u64,
    /// So much of the disk is left free.
    kept_free_bytes: u64,
    is_finished: bool,
}

impl SnapshotWriter {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        temporary: PathBuf,
        path: PathBuf,
        meta: SnapshotMeta,
        kept_free_bytes: u64,
    ) -> Result<Self, WalError> {
        check_space(disk.as_ref(), &dir, kept_free_bytes)
            .map_err(WalError::io("create", &temporary))?;
        let file = disk.create(&temporary).map_err(WalError::io("create", &temporary))?;
        let (header, checksum) = format::encode_header(&meta);
        if let Err(error) = file.write_at(&header, 0) {
            folder::discard(disk.as_ref(), &temporary)?;
            return Err(WalError::io("write", &temporary)(error));
        }
        Ok(Self {
            disk,
            dir,
            temporary,
            path,
            meta,
            file,
            block: Vec::with_capacity(format::BLOCK_BYTES),
            encoded: Vec::with_capacity(format::BLOCK_BYTES + format::BLOCK_HEAD_SIZE),
            checksum,
            position: header.len() as u64,
            synced: 0,
            body_bytes: 0,
            kept_free_bytes,
            is_finished: false,
        })
    }

    /// Ends the file, makes it durable, and gives it its name. Returns its meta.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`]; nothing becomes visible then.
    pub fn finish(mut self) -> Result<SnapshotMeta, WalError> {
        self.write_block().map_err(WalError::io("write", &self.temporary))?;
        format::encode_end(self.checksum, self.body_bytes, &mut self.encoded);
        self.write_encoded().map_err(WalError::io("write", &self.temporary))?;
        self.file.sync().map_err(WalError::io("sync", &self.temporary))?;
        let rename = self.disk.rename(&self.temporary, &self.path);
        rename.map_err(WalError::io("rename to", &self.path))?;
        self.is_finished = true;
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
        Ok(self.meta.clone())
    }

    /// Writes the collected block, if there is one.
    fn write_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.checksum = format::encode_block(self.checksum, &self.block, &mut self.encoded);
        self.body_bytes += self.block.len() as u64;
        self.block.clear();
        self.write_encoded()?;
        if self.position - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync()?;
            self.synced = self.position;
            check_space(self.disk.as_ref(), &self.dir, self.kept_free_bytes)?;
        }
        Ok(())
    }

    fn write_encoded(&mut self) -> io::Result<()> {
        self.file.write_at(&self.encoded, self.position)?;
        self.position += self.encoded.len() as u64;
        self.encoded.clear();
        Ok(())
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = format::BLOCK_BYTES - self.block.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.block.extend_from_slice(taken);
        if self.block.len() == format::BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(taken.len())
    }

    /// Does nothing: only [`SnapshotWriter::finish`] makes anything durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // If this fails the file is removed at the next start.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}
