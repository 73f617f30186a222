//! A mark beside the snapshots: the state that belongs to this folder must not be used. Whole or not
//! there, and durable when it is written. Must not know who found that out, nor what a state is.

use super::SnapshotStore;
use crate::disk::read_full;
use crate::{Damage, WalError, folder};
use quorate_core::LogIndex;
use std::io;

const NAME: &str = "state-mark";
/// Removed when the folder is opened, as all unfinished files are.
const TEMPORARY_NAME: &str = "state-mark.tmp";
const MAGIC: [u8; 8] = *b"QRTSTMRK";
const DIVERGED: u8 = 1;
const REBUILDING: u8 = 2;
const SIZE_BYTES: usize = 37;

/// Why a state must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateMark {
    /// It is another one than a majority's.
    Diverged {
        /// From which entry on.
        index: LogIndex,
        /// The hash of that entry's window here.
        own: u64,
        /// The majority's.
        others: u64,
    },
    /// It was emptied, and a snapshot is to be fetched unless the log has everything.
    Rebuilding,
}

impl StateMark {
    fn encode(self) -> Vec<u8> {
        let (stage, numbers) = match self {
            Self::Diverged { index, own, others } => (DIVERGED, [index.get(), own, others]),
            Self::Rebuilding => (REBUILDING, [0; 3]),
        };
        let mut bytes = [MAGIC.as_slice(), &[stage]].concat();
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SIZE_BYTES]) -> Option<Self> {
        let (covered, checksum) = bytes.split_last_chunk::<4>()?;
        let (stage, numbers) = covered.strip_prefix(&MAGIC)?.split_first()?;
        if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (numbers, _) = numbers.as_chunks::<8>();
        match (*stage, numbers) {
            (DIVERGED, [index, own, others]) => {
                let [index, own, others] = [index, own, others].map(|it| u64::from_le_bytes(*it));
                Some(Self::Diverged { index: LogIndex::new(index), own, others })
            }
            (REBUILDING, _) => Some(Self::Rebuilding),
            _ => None,
        }
    }
}

impl SnapshotStore {
    /// What is noted about the state; `None` if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]; [`WalError::Damaged`] if there is a mark that says nothing any more.
    pub fn state_mark(&self) -> Result<Option<StateMark>, WalError> {
        let path = self.dir.join(NAME);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WalError::io("open", &path)(error)),
        };
        let mut bytes = [0; SIZE_BYTES];
        let size = file.size_bytes().map_err(WalError::io("measure", &path))?;
        let is_whole = usize::try_from(size).is_ok_and(|size| size == SIZE_BYTES);
        if is_whole {
            read_full(file.as_ref(), &mut bytes, 0).map_err(WalError::io("read", &path))?;
        }
        let mark = StateMark::decode(&bytes).filter(|_| is_whole);
        mark.map(Some).ok_or_else(|| WalError::damaged(&path, 0, Damage::Header))
    }

    /// Notes something about the state; it is durable when this returns.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn mark(&self, mark: StateMark) -> Result<(), WalError> {
        let (path, temporary) = (self.dir.join(NAME), self.dir.join(TEMPORARY_NAME));
        folder::discard(self.disk.as_ref(), &temporary)?;
        let file = self.disk.create(&temporary).map_err(WalError::io("create", &temporary))?;
        file.write_at(&mark.encode(), 0).map_err(WalError::io("write", &temporary))?;
        file.sync().map_err(WalError::io("sync", &temporary))?;
        self.disk.rename(&temporary, &path).map_err(WalError::io("rename to", &path))?;
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))
    }

    /// The state may be used again.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn unmark(&self) -> Result<(), WalError> {
        let path = self.dir.join(NAME);
        match self.disk.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(WalError::io("remove", &path)(error)),
        }
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))
    }

    /// Removes all snapshots, one that is partly here among them.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`], [`WalError::DiskFull`].
    pub fn clear(&mut self) -> Result<(), WalError> {
        for last_included in self.names()? {
            let path = self.path_of(last_included);
            self.disk.remove(&path).map_err(WalError::io("remove", &path))?;
        }
        self.verified.clear();
        self.incoming.discard()?;
        self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))
    }
}
