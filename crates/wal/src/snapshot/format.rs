//! The bytes of a snapshot file: header, blocks, end mark (layout: `docs/wal-format.md`).
//! Each checksum continues the one before it, so the end mark vouches for the whole file.

use crate::codec;
use crate::prefix::{Kind, PREFIX_SIZE};
use crate::{Damage, WalError};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::SnapshotMeta;
use std::path::Path;

const KIND: Kind = Kind { magic: *b"QUOR-SNP", version: 1 };

/// Bytes of the body in one block; only the last block is smaller.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;
/// The size of a block's head in bytes: length and checksum.
pub(crate) const BLOCK_HEAD_SIZE: usize = 8;
/// The size of the end mark in bytes: a block of length zero, then the body's length.
pub(crate) const END_MARK_SIZE: usize = 16;
/// What precedes the meta in the header.
const HEADER_FIXED_SIZE: usize = PREFIX_SIZE + 8;
/// A larger meta is not read.
const META_BYTES_MAX: usize = 16 << 20;

/// The header, and the checksum that the first block continues.
pub(crate) fn encode_header(meta: &SnapshotMeta) -> (Vec<u8>, u32) {
    let mut body = Vec::new();
    codec::encode_snapshot_meta(meta, &mut body);
    let checksum = crc32c::crc32c(&body);
    let mut header = Vec::with_capacity(HEADER_FIXED_SIZE + body.len());
    KIND.encode(&mut header);
    header.put_u32_le(checksum);
    header.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    header.put_slice(&body);
    (header, checksum)
}

/// What the fixed part of a header says.
pub(crate) struct HeaderStart {
    pub(crate) checksum: u32,
    pub(crate) meta_size: usize,
}

impl HeaderStart {
    /// The size of this part.
    pub(crate) const SIZE: usize = HEADER_FIXED_SIZE;

    /// Reads the fixed part.
    pub(crate) fn decode(path: &Path, mut bytes: Bytes) -> Result<Self, WalError> {
        KIND.check(path, &mut bytes)?;
        let damaged = || WalError::damaged(path, PREFIX_SIZE as u64, Damage::Header);
        let checksum = bytes.try_get_u32_le().map_err(|_| damaged())?;
        let size = bytes.try_get_u32_le().map_err(|_| damaged())?;
        let meta_size = usize::try_from(size).map_err(|_| damaged())?;
        if meta_size > META_BYTES_MAX {
            return Err(damaged());
        }
        Ok(Self { checksum, meta_size })
    }

    /// The size of the whole header.
    pub(crate) const fn header_size(&self) -> usize {
        HEADER_FIXED_SIZE + self.meta_size
    }

    /// Reads the meta that follows.
    pub(crate) fn decode_meta(
        &self,
        path: &Path,
        mut bytes: Bytes,
    ) -> Result<SnapshotMeta, WalError> {
        let damaged = |damage| WalError::damaged(path, HEADER_FIXED_SIZE as u64, damage);
        if bytes.len() != self.meta_size || crc32c::crc32c(&bytes) != self.checksum {
            return Err(damaged(Damage::Header));
        }
        let meta = codec::decode_snapshot_meta(&mut bytes);
        let is_whole = codec::expect_end(&bytes, "snapshot header").is_ok();
        meta.ok().filter(|_| is_whole).ok_or_else(|| damaged(Damage::Content))
    }
}

/// Appends a block; returns the checksum that the next one continues.
pub(crate) fn encode_block(checksum: u32, body: &[u8], out: &mut Vec<u8>) -> u32 {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let checksum = block_checksum(checksum, length, body);
    out.put_u32_le(length);
    out.put_u32_le(checksum);
    out.put_slice(body);
    checksum
}

/// Appends the end mark.
pub(crate) fn encode_end(checksum: u32, body_bytes: u64, out: &mut Vec<u8>) {
    out.put_u32_le(0);
    out.put_u32_le(block_checksum(checksum, 0, &body_bytes.to_le_bytes()));
    out.put_u64_le(body_bytes);
}

fn block_checksum(checksum: u32, length: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(checksum, &length.to_le_bytes()), body)
}

/// What stands after a block.
pub(crate) enum Block {
    /// A block, and the checksum that the next one continues.
    Body(Bytes, u32),
    /// The end mark.
    End,
}

/// Reads the block at the front of `bytes`, which hold it whole if the file does; `body_bytes` is
/// how much of the body came before it.
pub(crate) fn decode_block(
    mut bytes: Bytes,
    checksum: u32,
    body_bytes: u64,
) -> Result<Block, Damage> {
    let length = bytes.try_get_u32_le().map_err(|_| Damage::Truncated)?;
    let expected = bytes.try_get_u32_le().map_err(|_| Damage::Truncated)?;
    let size = usize::try_from(length).map_err(|_| Damage::Block)?;
    if size > BLOCK_BYTES {
        return Err(Damage::Block);
    }
    let size = if size == 0 { END_MARK_SIZE - BLOCK_HEAD_SIZE } else { size };
    if bytes.len() < size {
        return Err(Damage::Truncated);
    }
    let rest_size = bytes.len() - size;
    bytes.truncate(size);
    let checksum = block_checksum(checksum, length, &bytes);
    if checksum != expected {
        return Err(Damage::Block);
    }
    if length > 0 {
        return Ok(Block::Body(bytes, checksum));
    }
    // The mark is the last thing in the file, and knows how much came before it.
    if rest_size == 0 && bytes.as_ref() == body_bytes.to_le_bytes() {
        Ok(Block::End)
    } else {
        Err(Damage::Content)
    }
}

/// The size of a snapshot file with such a header and body.
pub(crate) fn file_size(header_size: u64, body_bytes: u64) -> Option<u64> {
    let block_count = body_bytes.div_ceil(BLOCK_BYTES as u64);
    let heads = block_count.checked_mul(BLOCK_HEAD_SIZE as u64)?;
    header_size.checked_add(body_bytes)?.checked_add(heads)?.checked_add(END_MARK_SIZE as u64)
}
