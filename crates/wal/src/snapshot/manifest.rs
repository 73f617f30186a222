//! The manifest of a snapshot file: the hashes of its chunks (layout: `docs/wal-format.md`). Two files
//! with equal manifests are equal, whoever has them. Must not know where files are, nor who sends them.

use crate::prefix::{Kind, PREFIX_SIZE};
use crate::{Damage, WalError};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{LogId, LogIndex, Term};
use sha2::{Digest, Sha256};
use std::path::Path;

const KIND: Kind = Kind { magic: *b"QUOR-MAN", version: 1 };
const HASH_SIZE: usize = 32;
/// What precedes the hashes: the prefix, a checksum, a log id, the file's size, the chunks' size.
const FIXED_SIZE: usize = PREFIX_SIZE + 4 + 16 + 8 + 4;
/// Larger files have larger chunks, so that a manifest stays below 2 MiB.
const CHUNK_COUNT_MAX: u64 = 65_536;
const CHUNK_BYTES_MAX: u32 = 1 << 30;

/// The SHA-256 of a chunk.
type Hash = [u8; HASH_SIZE];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) last_included: LogId,
    pub(super) file_bytes: u64,
    chunk_bytes: u32,
    hashes: Vec<Hash>,
}

impl Manifest {
    /// A file without chunks so far, each of which will have this many bytes at least.
    pub(super) fn begin(last_included: LogId, file_bytes: u64, chunk_bytes: u32) -> Self {
        let mut chunk_bytes = chunk_bytes.clamp(1, CHUNK_BYTES_MAX);
        while chunk_count(file_bytes, chunk_bytes) > CHUNK_COUNT_MAX
            && chunk_bytes < CHUNK_BYTES_MAX
        {
            chunk_bytes = chunk_bytes.saturating_mul(2).min(CHUNK_BYTES_MAX);
        }
        Self { last_included, file_bytes, chunk_bytes, hashes: Vec::new() }
    }

    pub(super) fn push(&mut self, hash: Hash) {
        self.hashes.push(hash);
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut body = Vec::with_capacity(FIXED_SIZE + self.hashes.len() * HASH_SIZE);
        body.put_u64_le(self.last_included.term.get());
        body.put_u64_le(self.last_included.index.get());
        body.put_u64_le(self.file_bytes);
        body.put_u32_le(self.chunk_bytes);
        self.hashes.iter().for_each(|hash| body.put_slice(hash));
        let mut bytes = Vec::with_capacity(body.len() + PREFIX_SIZE + 4);
        KIND.encode(&mut bytes);
        bytes.put_u32_le(crc32c::crc32c(&body));
        bytes.put_slice(&body);
        bytes.into()
    }

    /// How long the manifest is that begins so; `None` while too little of it is there to tell.
    pub(super) fn size_of(path: &Path, beginning: &[u8]) -> Result<Option<usize>, WalError> {
        let Some(fixed) = beginning.get(..FIXED_SIZE) else { return Ok(None) };
        let (fixed, _) = Self::decode_fixed(path, &mut Bytes::copy_from_slice(fixed))?;
        let count = usize::try_from(chunk_count(fixed.file_bytes, fixed.chunk_bytes));
        Ok(count.ok().map(|count| FIXED_SIZE + count * HASH_SIZE))
    }

    /// Reads a whole one.
    pub(super) fn decode(path: &Path, mut bytes: Bytes) -> Result<Self, WalError> {
        let damaged = || WalError::damaged(path, PREFIX_SIZE as u64, Damage::Header);
        let body = bytes.slice(bytes.len().min(PREFIX_SIZE + 4)..);
        let (mut manifest, checksum) = Self::decode_fixed(path, &mut bytes)?;
        let (hashes, rest) = bytes.as_chunks::<HASH_SIZE>();
        let count = chunk_count(manifest.file_bytes, manifest.chunk_bytes);
        if crc32c::crc32c(&body) != checksum || hashes.len() as u64 != count || !rest.is_empty() {
            return Err(damaged());
        }
        manifest.hashes = hashes.to_vec();
        Ok(manifest)
    }

    /// Takes off what precedes the hashes; gives the checksum too.
    fn decode_fixed(path: &Path, bytes: &mut Bytes) -> Result<(Self, u32), WalError> {
        let damaged = || WalError::damaged(path, PREFIX_SIZE as u64, Damage::Header);
        KIND.check(path, bytes)?;
        if bytes.len() < FIXED_SIZE - PREFIX_SIZE {
            return Err(damaged());
        }
        let checksum = bytes.get_u32_le();
        let term = Term::new(bytes.get_u64_le());
        let last_included = LogId::new(term, LogIndex::new(bytes.get_u64_le()));
        let (file_bytes, chunk_bytes) = (bytes.get_u64_le(), bytes.get_u32_le());
        let is_possible = file_bytes > 0 && (1..=CHUNK_BYTES_MAX).contains(&chunk_bytes);
        if !is_possible || chunk_count(file_bytes, chunk_bytes) > CHUNK_COUNT_MAX {
            return Err(damaged());
        }
        Ok((Self { last_included, file_bytes, chunk_bytes, hashes: Vec::new() }, checksum))
    }

    /// Whether the chunk that ends at `end` has this hash.
    pub(super) fn has(&self, end: u64, hash: &Hash) -> bool {
        let number = usize::try_from(chunk_count(end, self.chunk_bytes).saturating_sub(1));
        number.is_ok_and(|number| self.hashes.get(number) == Some(hash))
    }
}

fn chunk_count(file_bytes: u64, chunk_bytes: u32) -> u64 {
    file_bytes.div_ceil(u64::from(chunk_bytes.max(1)))
}

/// Hashes a file from its front to its end, chunk by chunk.
pub(super) struct ChunkHasher {
    hasher: Sha256,
    file_bytes: u64,
    chunk_bytes: u64,
    at: u64,
}

impl ChunkHasher {
    /// From `at` on, which is where a chunk begins.
    pub(super) fn new(manifest: &Manifest, at: u64) -> Self {
        let (file_bytes, chunk_bytes) = (manifest.file_bytes, u64::from(manifest.chunk_bytes));
        Self { hasher: Sha256::new(), file_bytes, chunk_bytes, at }
    }

    /// How far it is.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Where the chunk begins that it is in.
    pub(super) const fn chunk_start(&self) -> u64 {
        self.at - self.at % self.chunk_bytes
    }

    /// How many bytes the chunk that it is in lacks.
    pub(super) fn lacks(&self) -> u64 {
        (self.chunk_bytes - self.at % self.chunk_bytes).min(self.file_bytes - self.at)
    }

    /// Takes bytes from the front of `bytes`, up to the end of the chunk; gives its hash there.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Option<Hash> {
        let lacks = usize::try_from(self.lacks()).unwrap_or(usize::MAX);
        let taken = bytes.split_to(lacks.min(bytes.len()));
        self.hasher.update(&taken);
        self.at += taken.len() as u64;
        (lacks == taken.len()).then(|| self.hasher.finalize_reset().into())
    }
}
