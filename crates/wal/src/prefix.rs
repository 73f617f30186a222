//! The first sixteen bytes of every file: what kind of file it is, and in which format version.
//! Their place never changes between versions; must not know what follows them.

use crate::{Damage, WalError};
use bytes::{Buf, BufMut, Bytes};
use std::path::Path;

/// How many bytes the prefix takes.
pub(crate) const PREFIX_SIZE: usize = 16;

/// A kind of file: its magic bytes and the newest version of it that this program knows.
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
}

impl Kind {
    /// Appends the prefix.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_slice(&self.magic);
        out.put_u32_le(self.version);
        let checksum = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.put_u32_le(checksum);
    }

    /// Takes the prefix off the front of `input`; returns the format version, from 1 to the newest
    /// known. It has a checksum of its own, so that a destroyed version number is not taken for a
    /// newer program's.
    ///
    /// # Errors
    ///
    /// [`WalError::Damaged`] or [`WalError::UnsupportedVersion`].
    pub(crate) fn check(&self, path: &Path, input: &mut Bytes) -> Result<u32, WalError> {
        let not_ours = || WalError::damaged(path, 0, Damage::NotOurs);
        if input.len() < PREFIX_SIZE {
            return Err(not_ours());
        }
        let mut prefix = input.split_to(PREFIX_SIZE);
        let checksum = crc32c::crc32c(&prefix.slice(..PREFIX_SIZE - 4));
        let magic = prefix.split_to(self.magic.len());
        let version = prefix.get_u32_le();
        if magic != self.magic.as_slice() || prefix.get_u32_le() != checksum {
            return Err(not_ours());
        }
        if version == 0 || version > self.version {
            return Err(WalError::UnsupportedVersion {
                path: path.to_owned(),
                found: version,
                supported: self.version,
            });
        }
        Ok(version)
    }
}
