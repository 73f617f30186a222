//! How far the log is durable and with which entry it ended there, noted after each batch in a small
//! file of its own (layout: `docs/wal-format.md`). Must not know records, nor what follows from it.
//!
//! The note is written after the sync of what it speaks of, and is not synced itself: it may be
//! behind the log, and is never ahead of it. The death of a process leaves it as it was written, so
//! that it is exact then; after a power cut it may be older, and proves less.

use crate::disk::read_full;
use crate::meta::Meta;
use crate::prefix::{Kind, PREFIX_SIZE};
use crate::{Disk, DiskFile, Identity, WalError};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{LogId, LogIndex, NodeId, Term};
use std::io;
use std::path::{Path, PathBuf};

const KIND: Kind = Kind { magic: *b"QUOR-MRK", version: 1 };

/// The file's name.
pub(crate) const NAME: &str = "mark";
/// The name under which it is made.
pub(crate) const TEMPORARY_NAME: &str = "mark.tmp";

/// The header, and each slot, stands in a block of its own: no torn write touches two of them.
const BLOCK_BYTES: usize = 4096;
const FILE_BYTES: usize = 3 * BLOCK_BYTES;
/// How much of its block the header takes.
const HEADER_BYTES: usize = 512;
/// What is written of a slot: less than a sector, so that it is whole or not there.
const SLOT_BYTES: usize = 64;

/// What a log once was, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// How often it had been opened.
    pub(crate) era: u32,
    /// The generation of the hard state.
    pub(crate) generation: u64,
    /// The number of its last segment.
    pub(crate) segment: u64,
    /// Everything before this position of that segment was durable.
    pub(crate) position: u64,
    /// The entry with which it ended.
    pub(crate) last_log: LogId,
}

impl Watermark {
    /// Whether the log was once further than this hard state knows. Both copies of it were durable
    /// before the watermark was written, so both of them must be from an older time.
    pub(crate) const fn is_beyond(&self, meta: &Meta) -> bool {
        self.era > meta.era || self.generation > meta.generation || self.segment > meta.last_segment
    }

    fn encode(&self, salt: u32, sequence: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(SLOT_BYTES);
        body.put_u32_le(self.era);
        body.put_u64_le(sequence);
        body.put_u64_le(self.segment);
        body.put_u64_le(self.position);
        body.put_u64_le(self.last_log.term.get());
        body.put_u64_le(self.last_log.index.get());
        body.put_u64_le(self.generation);
        body.resize(SLOT_BYTES - 4, 0);
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.put_u32_le(crc32c::crc32c_append(salt, &body));
        slot.put_slice(&body);
        slot
    }

    /// What a slot says, and its sequence number; `None` if it is not whole.
    fn decode(salt: u32, mut slot: Bytes) -> Option<(u64, Self)> {
        slot.truncate(SLOT_BYTES);
        let checksum = slot.try_get_u32_le().ok()?;
        if slot.len() != SLOT_BYTES - 4 || crc32c::crc32c_append(salt, &slot) != checksum {
            return None;
        }
        let era = slot.try_get_u32_le().ok()?;
        let sequence = slot.try_get_u64_le().ok()?;
        let segment = slot.try_get_u64_le().ok()?;
        let position = slot.try_get_u64_le().ok()?;
        let term = Term::new(slot.try_get_u64_le().ok()?);
        let index = LogIndex::new(slot.try_get_u64_le().ok()?);
        let generation = slot.try_get_u64_le().ok()?;
        let last_log = LogId::new(term, index);
        Some((sequence, Self { era, generation, segment, position, last_log }))
    }
}

/// The file, and what was written to it last.
pub(crate) struct MarkFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    salt: u32,
    sequence: u64,
    watermark: Watermark,
    is_synced: bool,
}

impl MarkFile {
    /// Makes the file anew, in the place of what had its name. It appears whole and durable.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        identity: &Identity,
        watermark: Watermark,
    ) -> Result<Self, WalError> {
        let (path, temporary) = (dir.join(NAME), dir.join(TEMPORARY_NAME));
        let file = disk.create(&temporary).map_err(WalError::io("create", &temporary))?;
        let (salt, sequence) = (salt_of(identity), 1);
        let mut bytes = encode_header(identity);
        bytes.resize(slot_start(sequence), 0);
        bytes.put_slice(&watermark.encode(salt, sequence));
        bytes.resize(FILE_BYTES, 0);
        file.write_at(&bytes, 0).map_err(WalError::io("write", &temporary))?;
        file.sync().map_err(WalError::io("sync", &temporary))?;
        disk.rename(&temporary, &path).map_err(WalError::io("rename to", &path))?;
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
        Ok(Self { file, path, salt, sequence, watermark, is_synced: true })
    }

    /// Opens the file; `None` if there is none, or none of this folder's in which a slot is whole.
    /// It only ever adds proof, so that a log without it is as good as one of format 1.
    ///
    /// # Errors
    ///
    /// [`WalError::UnsupportedVersion`], and [`WalError::Io`]: what cannot be read now may say
    /// something the next time, and nothing may be cut off before it was heard.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        identity: &Identity,
    ) -> Result<Option<Self>, WalError> {
        let path = dir.join(NAME);
        let Some((file, bytes)) = read(disk, &path)? else { return Ok(None) };
        let is_ours = identity_of(&path, bytes.clone())?.is_some_and(|found| found == *identity);
        let salt = salt_of(identity);
        let newest = if is_ours { newest_slot(salt, &bytes) } else { None };
        Ok(newest.map(|(sequence, watermark)| Self {
            file,
            path,
            salt,
            sequence,
            watermark,
            is_synced: false,
        }))
    }

    /// What the file of any folder says of its log; `None` as in [`MarkFile::open`].
    pub(crate) fn watermark_of(disk: &dyn Disk, dir: &Path) -> Result<Option<Watermark>, WalError> {
        let path = dir.join(NAME);
        let Some((_, bytes)) = read(disk, &path)? else { return Ok(None) };
        let identity = identity_of(&path, bytes.clone())?;
        let newest = identity.and_then(|identity| newest_slot(salt_of(&identity), &bytes));
        Ok(newest.map(|(_, watermark)| watermark))
    }

    /// What was written last.
    pub(crate) const fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Notes what is durable by now, if that is news. In place, and without a sync: one slot is whole
    /// at all times.
    pub(crate) fn write(&mut self, watermark: Watermark) -> Result<(), WalError> {
        if watermark == self.watermark {
            return Ok(());
        }
        let sequence = self.sequence.saturating_add(1);
        let slot = watermark.encode(self.salt, sequence);
        let start = slot_start(sequence) as u64;
        self.file.write_at(&slot, start).map_err(WalError::io("write", &self.path))?;
        (self.sequence, self.watermark, self.is_synced) = (sequence, watermark, false);
        Ok(())
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&mut self) -> Result<(), WalError> {
        if !self.is_synced {
            self.file.sync().map_err(WalError::io("sync", &self.path))?;
            self.is_synced = true;
        }
        Ok(())
    }
}

/// The file, and its bytes.
type FileRead = (Box<dyn DiskFile>, Bytes);

/// Reads the file; `None` if there is none.
fn read(disk: &dyn Disk, path: &Path) -> Result<Option<FileRead>, WalError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WalError::io("open", path)(error)),
    };
    let mut bytes = vec![0; FILE_BYTES];
    let count = read_full(file.as_ref(), &mut bytes, 0).map_err(WalError::io("read", path))?;
    bytes.truncate(count);
    Ok(Some((file, Bytes::from(bytes))))
}

fn encode_header(identity: &Identity) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER_BYTES);
    body.put_u64_le(identity.cluster_id);
    body.put_u64_le(identity.node_id.get());
    body.put_u128_le(identity.storage_id);
    body.resize(HEADER_BYTES - PREFIX_SIZE - 4, 0);
    let mut header = Vec::with_capacity(FILE_BYTES);
    KIND.encode(&mut header);
    header.put_u32_le(crc32c::crc32c(&body));
    header.put_slice(&body);
    header
}

/// Whose file it is; `None` if its header is not whole.
fn identity_of(path: &Path, mut file: Bytes) -> Result<Option<Identity>, WalError> {
    file.truncate(HEADER_BYTES);
    let is_whole = file.len() == HEADER_BYTES;
    match KIND.check(path, &mut file) {
        Ok(_) => {}
        Err(error @ WalError::UnsupportedVersion { .. }) => return Err(error),
        Err(_) => return Ok(None),
    }
    let checksum = file.try_get_u32_le().unwrap_or_default();
    if !is_whole || crc32c::crc32c(&file) != checksum {
        return Ok(None);
    }
    Ok(Some(Identity {
        cluster_id: file.get_u64_le(),
        node_id: NodeId::new(file.get_u64_le()),
        storage_id: file.get_u128_le(),
    }))
}

/// What the checksums of the slots start from.
fn salt_of(identity: &Identity) -> u32 {
    let mut seed = Vec::with_capacity(32);
    seed.put_u64_le(identity.cluster_id);
    seed.put_u64_le(identity.node_id.get());
    seed.put_u128_le(identity.storage_id);
    crc32c::crc32c(&seed)
}

/// Where the slot with this sequence number begins: they take turns.
const fn slot_start(sequence: u64) -> usize {
    if sequence & 1 == 0 { BLOCK_BYTES } else { 2 * BLOCK_BYTES }
}

fn newest_slot(salt: u32, file: &Bytes) -> Option<(u64, Watermark)> {
    let slot = |start: usize| {
        let end = start + SLOT_BYTES;
        (end <= file.len()).then(|| Watermark::decode(salt, file.slice(start..end))).flatten()
    };
    [slot(slot_start(0)), slot(slot_start(1))]
        .into_iter()
        .flatten()
        .max_by_key(|(sequence, _)| *sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_believed_whole_or_not_at_all() {
        let identity = Identity { cluster_id: 1, node_id: NodeId::new(2), storage_id: 3 };
        let header = encode_header(&identity);
        let found = |header: &[u8]| identity_of(Path::new("mark"), Bytes::copy_from_slice(header));
        assert!(matches!(found(&header), Ok(Some(found)) if found == identity));
        // Behind the kind and the version, which say more.
        for place in PREFIX_SIZE..header.len() {
            let mut damaged = header.clone();
            if let Some(byte) = damaged.get_mut(place) {
                *byte ^= 1;
            }
            assert!(matches!(found(&damaged), Ok(None)), "{place}");
            assert!(matches!(found(header.get(..place).unwrap_or_default()), Ok(None)), "{place}");
        }
    }

    #[test]
    fn the_slots_take_turns_where_the_format_has_them() {
        for sequence in [0, 2, 1 << 40] {
            assert_eq!(slot_start(sequence), BLOCK_BYTES);
            assert_eq!(slot_start(sequence + 1), 2 * BLOCK_BYTES);
        }
    }

    #[test]
    fn a_slot_of_another_folder_says_nothing() {
        let salts = [1, 2].map(|storage_id| {
            salt_of(&Identity { cluster_id: 1, node_id: NodeId::new(2), storage_id })
        });
        let last_log = LogId::new(Term::new(3), LogIndex::new(4));
        let watermark = Watermark { era: 1, generation: 2, segment: 1, position: 4096, last_log };
        let slot = Bytes::from(watermark.encode(salts[0], 5));
        assert_eq!(Watermark::decode(salts[0], slot.clone()), Some((5, watermark)));
        assert_eq!(Watermark::decode(salts[1], slot), None);
    }
}
