//! The root of the folder: whose it is, term and vote, and which segments hold the log. Kept in
//! two copies that are written one after the other; must not know records.
//!
//! Both copies are written each time, the second after the first is durable, and nothing is
//! acknowledged before both are. So whichever copy is lost, the other is at least as new as the
//! last acknowledged state: one unreadable copy is always recoverable, whether it was torn by an
//! unfinished write or rotted later. With both lost the vote is lost, and the node must not guess.

use crate::cuts::Cuts;
use crate::disk::read_full;
use crate::prefix::{Kind, PREFIX_SIZE};
use crate::{Damage, Disk, DiskFile, WalError, codec};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{HardState, LogId, LogIndex, NodeId, ProtocolVersion, SnapshotMeta, Term};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KIND: Kind = Kind { magic: *b"QUOR-MET", version: 4 };
/// What is written of a log that was not cut and has nothing that an older program could not read.
const PLAIN_VERSION: u32 = 2;
/// What is written of a log that was not cut.
const UNCUT_VERSION: u32 = 3;

/// The file names of the two copies.
pub(crate) const COPY_NAMES: [&str; 2] = ["meta-a", "meta-b"];
/// Files are written in whole blocks, so that their length rarely changes.
const BLOCK_BYTES: usize = 4096;
/// No copy is larger; a larger file is not read.
const META_BYTES_MAX: u64 = 16 << 20;

/// Whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node.
    pub node_id: NodeId,
    /// The folder itself: random, minted when it was created. Another folder for the same node is
    /// another storage, with none of its promises.
    pub storage_id: u128,
}

/// Whether a storage may speak for its node. A disk that was put in the place of a lost one has the
/// node's name and none of its promises: it may have voted, and acknowledged entries, without
/// knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has confirmed that no earlier storage of this node made promises.
    Unproven,
    /// Whatever this node has promised is on this storage.
    Proven,
}

/// What a copy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Counts the writes; the newest whole copy wins.
    pub(crate) generation: u64,
    pub(crate) identity: Identity,
    /// How often the log was opened.
    pub(crate) era: u32,
    pub(crate) hard_state: HardState,
    pub(crate) first_segment: u64,
    pub(crate) last_segment: u64,
    /// Everything before this position of the last segment is durable.
    pub(crate) synced_bytes: u64,
    /// Whether this storage may vote by itself.
    pub(crate) standing: Standing,
    /// The last entry that the log held before its end was lost for good: the node answers for it
    /// although it has to fetch it again. [`LogId::ORIGIN`] if nothing was lost.
    pub(crate) horizon: LogId,
    /// Where durable entries were lost, so that the log goes on in another segment.
    pub(crate) cuts: Cuts,
    /// What the log starts after.
    pub(crate) base: SnapshotMeta,
    /// The protocol that a program has to know to read the log and its base. It never falls.
    pub(crate) protocol: ProtocolVersion,
}

impl Meta {
    /// The version of the format that is needed to say this.
    pub(crate) fn version(&self) -> u32 {
        if !self.cuts.is_empty() {
            KIND.version
        } else if self.protocol > ProtocolVersion::UNRECORDED {
            UNCUT_VERSION
        } else {
            PLAIN_VERSION
        }
    }

    /// The segments that hold the log, oldest first.
    pub(crate) fn path(&self) -> Vec<u64> {
        self.cuts.path(self.first_segment, self.last_segment)
    }

    /// The last entry that the log is known to have held, if it has not reached up to there again.
    pub(crate) fn lost(&self) -> Option<LogId> {
        Some(self.horizon).filter(|&horizon| horizon > LogId::ORIGIN)
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        if self.version() > PLAIN_VERSION {
            body.put_u16_le(self.protocol.get());
        }
        body.put_u64_le(self.generation);
        body.put_u64_le(self.identity.cluster_id);
        body.put_u64_le(self.identity.node_id.get());
        body.put_u128_le(self.identity.storage_id);
        body.put_u32_le(self.era);
        body.put_u64_le(self.hard_state.current_term.get());
        body.put_u8(u8::from(self.hard_state.voted_for.is_some()));
        body.put_u64_le(self.hard_state.voted_for.unwrap_or_default().get());
        body.put_u64_le(self.first_segment);
        body.put_u64_le(self.last_segment);
        body.put_u64_le(self.synced_bytes);
        body.put_u8(u8::from(self.standing == Standing::Proven));
        body.put_u64_le(self.horizon.term.get());
        body.put_u64_le(self.horizon.index.get());
        if !self.cuts.is_empty() {
            self.cuts.encode(&mut body);
        }
        codec::encode_snapshot_meta(&self.base, &mut body);
        let mut file = Vec::with_capacity(BLOCK_BYTES);
        Kind { version: self.version(), ..KIND }.encode(&mut file);
        file.put_u32_le(crc32c::crc32c(&body));
        file.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
        file.put_slice(&body);
        file.resize(file.len().next_multiple_of(BLOCK_BYTES), 0);
        file
    }

    /// What a copy says, and in which format version.
    fn decode(path: &Path, mut file: Bytes) -> Result<(Self, u32), WalError> {
        let version = KIND.check(path, &mut file)?;
        let damaged = || WalError::damaged(path, PREFIX_SIZE as u64, Damage::Header);
        let checksum = file.try_get_u32_le().map_err(|_| damaged())?;
        let length = file.try_get_u32_le().ok().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|&length| length <= file.len()).ok_or_else(damaged)?;
        file.truncate(length);
        if crc32c::crc32c(&file) != checksum {
            return Err(damaged());
        }
        let protocol = decode_protocol(&mut file, version).ok_or_else(damaged)?;
        if protocol > ProtocolVersion::NEWEST {
            let (path, found, newest) = (path.to_owned(), protocol, ProtocolVersion::NEWEST);
            return Err(WalError::NewerProtocol { path, found, newest });
        }
        Self::decode_body(file, version, protocol)
            .map(|meta| (meta, version))
            .ok_or_else(|| WalError::damaged(path, PREFIX_SIZE as u64, Damage::Content))
    }

    fn decode_body(mut body: Bytes, version: u32, protocol: ProtocolVersion) -> Option<Self> {
        let generation = body.try_get_u64_le().ok()?;
        let identity = Identity {
            cluster_id: body.try_get_u64_le().ok()?,
            node_id: NodeId::new(body.try_get_u64_le().ok()?),
            storage_id: body.try_get_u128_le().ok()?,
        };
        let era = body.try_get_u32_le().ok()?;
        let hard_state = decode_hard_state(&mut body)?;
        let first_segment = body.try_get_u64_le().ok()?;
        let last_segment = body.try_get_u64_le().ok()?;
        let synced_bytes = body.try_get_u64_le().ok()?;
        let (standing, horizon) = match version {
            // Whoever voted before there was this question goes on voting.
            1 => (Standing::Proven, LogId::ORIGIN),
            _ => decode_standing(&mut body)?,
        };
        let cuts = match version {
            ..=UNCUT_VERSION => Cuts::default(),
            _ => Cuts::decode(&mut body, first_segment, last_segment)?,
        };
        let base = codec::decode_snapshot_meta(&mut body).ok()?;
        codec::expect_end(&body, "meta").ok()?;
        let meta = Self {
            generation,
            identity,
            era,
            hard_state,
            first_segment,
            last_segment,
            synced_bytes,
            standing,
            horizon,
            cuts,
            base,
            protocol,
        };
        (first_segment <= last_segment).then_some(meta)
    }
}

/// At the front: what follows may be said in words of that protocol.
fn decode_protocol(body: &mut Bytes, version: u32) -> Option<ProtocolVersion> {
    match version {
        ..=PLAIN_VERSION => Some(ProtocolVersion::UNRECORDED),
        _ => body.try_get_u16_le().ok().map(ProtocolVersion::new),
    }
}

fn decode_hard_state(body: &mut Bytes) -> Option<HardState> {
    let current_term = Term::new(body.try_get_u64_le().ok()?);
    let has_vote = body.try_get_u8().ok()?;
    let candidate = NodeId::new(body.try_get_u64_le().ok()?);
    match has_vote {
        0 => Some(HardState { current_term, voted_for: None }),
        1 => Some(HardState { current_term, voted_for: Some(candidate) }),
        _ => None,
    }
}

fn decode_standing(body: &mut Bytes) -> Option<(Standing, LogId)> {
    let standing = match body.try_get_u8().ok()? {
        0 => Standing::Unproven,
        1 => Standing::Proven,
        _ => return None,
    };
    let term = Term::new(body.try_get_u64_le().ok()?);
    let index = LogIndex::new(body.try_get_u64_le().ok()?);
    Some((standing, LogId::new(term, index)))
}

/// The two copies on disk, and what they say.
pub(crate) struct MetaFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    meta: Meta,
    /// The format of the copy that was taken.
    version: u32,
    copies: [Copy; 2],
}

/// One copy's file; `None` if it has to be made anew.
struct Copy {
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
}

/// What was read from one copy.
struct ReadCopy {
    copy: Copy,
    meta: Result<(Meta, u32), WalError>,
}

impl MetaFiles {
    /// Whether the folder has a copy.
    pub(crate) fn exist(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
        match disk.list(dir) {
            Ok(names) => Ok(names.iter().any(|name| COPY_NAMES.contains(&name.as_str()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What each copy says by itself, and in which format version.
    pub(crate) fn each(disk: &dyn Disk, dir: &Path) -> [Result<(Meta, u32), WalError>; 2] {
        COPY_NAMES.map(|name| read_copy(disk, &dir.join(name)).and_then(|read| read.meta))
    }

    /// What [`crate::Wal::look`] says.
    pub(crate) fn whose(disk: &dyn Disk, dir: &Path) -> Result<Option<(Identity, u32)>, WalError> {
        if !Self::exist(disk, dir).map_err(WalError::io("list", dir))? {
            return Ok(None);
        }
        let whole = Self::each(disk, dir).into_iter().flatten();
        let newest = whole.map(|(meta, _)| meta).max_by_key(|meta| meta.generation);
        let meta = newest.ok_or_else(|| WalError::damaged(dir, 0, Damage::BothCopies))?;
        Ok(Some((meta.identity, meta.era)))
    }

    /// Makes both copies. Their names appear only when their content is durable.
    pub(crate) fn create(disk: Arc<dyn Disk>, dir: &Path, meta: Meta) -> Result<Self, WalError> {
        let bytes = meta.encode();
        let mut copies = Vec::new();
        for name in COPY_NAMES {
            let (path, temporary) = (dir.join(name), dir.join(format!("{name}.tmp")));
            let file = disk.create(&temporary).map_err(WalError::io("create", &temporary))?;
            file.write_at(&bytes, 0).map_err(WalError::io("write", &temporary))?;
            file.sync().map_err(WalError::io("sync", &temporary))?;
            disk.rename(&temporary, &path).map_err(WalError::io("rename to", &path))?;
            copies.push(Copy { path, file: Some(file) });
        }
        disk.sync_dir(dir).map_err(WalError::io("sync", dir))?;
        let copies = <[Copy; 2]>::try_from(copies)
            .map_err(|_| WalError::damaged(dir, 0, Damage::FileMissing))?;
        let version = meta.version();
        Ok(Self { disk, dir: dir.to_owned(), meta, version, copies })
    }

    /// Reads both copies and takes the newest whole one.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, WalError> {
        let [a, b] = COPY_NAMES.map(|name| read_copy(disk.as_ref(), &dir.join(name)));
        let (a, b) = (a?, b?);
        // A copy of a newer version may be the newer copy: it must not be overruled.
        for read in [&a, &b] {
            if let Err(WalError::UnsupportedVersion { path, found, supported }) = &read.meta {
                let (path, found, supported) = (path.clone(), *found, *supported);
                return Err(WalError::UnsupportedVersion { path, found, supported });
            }
            if let Err(WalError::NewerProtocol { path, found, newest }) = &read.meta {
                let (path, found, newest) = (path.clone(), *found, *newest);
                return Err(WalError::NewerProtocol { path, found, newest });
            }
        }
        // The copy to be written first is the one that is worth less.
        let ((meta, version), copies) = match (a.meta, b.meta) {
            (Ok((a_meta, a_version)), Ok((b_meta, b_version))) => {
                check_agreement(dir, &a_meta, &b_meta)?;
                if a_meta.generation > b_meta.generation {
                    ((a_meta, a_version), [b.copy, a.copy])
                } else {
                    ((b_meta, b_version), [a.copy, b.copy])
                }
            }
            (Ok(meta), Err(_)) => (meta, [b.copy, a.copy]),
            (Err(_), Ok(meta)) => (meta, [a.copy, b.copy]),
            (Err(_), Err(_)) => return Err(WalError::damaged(dir, 0, Damage::BothCopies)),
        };
        Ok(Self { disk, dir: dir.to_owned(), meta, version, copies })
    }

    /// The format version of the copy that was read, until the first [`MetaFiles::store`].
    pub(crate) const fn version(&self) -> u32 {
        self.version
    }

    /// What both copies say, or the newer one before the first [`MetaFiles::store`].
    pub(crate) const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Makes `meta` durable in both copies, as the next generation.
    pub(crate) fn store(&mut self, mut meta: Meta) -> Result<(), WalError> {
        meta.generation = self.meta.generation + 1;
        let bytes = meta.encode();
        for copy in &mut self.copies {
            if let Some(file) = &copy.file {
                file.write_at(&bytes, 0).map_err(WalError::io("write", &copy.path))?;
                file.sync().map_err(WalError::io("sync", &copy.path))?;
            } else {
                let file =
                    self.disk.create(&copy.path).map_err(WalError::io("create", &copy.path))?;
                file.write_at(&bytes, 0).map_err(WalError::io("write", &copy.path))?;
                file.sync().map_err(WalError::io("sync", &copy.path))?;
                self.disk.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
                copy.file = Some(file);
            }
        }
        self.version = meta.version();
        self.meta = meta;
        Ok(())
    }
}

/// Reads one copy. A copy that cannot be read is a finding; a disk that fails is an error.
fn read_copy(disk: &dyn Disk, path: &Path) -> Result<ReadCopy, WalError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let meta = Err(WalError::damaged(path, 0, Damage::FileMissing));
            return Ok(ReadCopy { copy: Copy { path: path.to_owned(), file: None }, meta });
        }
        Err(error) => return Err(WalError::io("open", path)(error)),
    };
    let size_bytes = file.size_bytes().map_err(WalError::io("measure", path))?;
    let size = usize::try_from(size_bytes.min(META_BYTES_MAX)).unwrap_or(0);
    let mut bytes = vec![0; size];
    // An unreadable sector is as good as a bad checksum: the other copy stands in.
    let meta = match read_full(file.as_ref(), &mut bytes, 0) {
        Ok(count) => {
            bytes.truncate(count);
            Meta::decode(path, Bytes::from(bytes))
        }
        Err(error) => Err(WalError::io("read", path)(error)),
    };
    Ok(ReadCopy { copy: Copy { path: path.to_owned(), file: Some(file) }, meta })
}

/// Two whole copies are of one folder, and the same if of one generation. They may be any number
/// of generations apart: a sync that failed can leave one of them behind, start after start.
fn check_agreement(dir: &Path, a: &Meta, b: &Meta) -> Result<(), WalError> {
    let is_same_folder = a.identity == b.identity;
    if is_same_folder && (a.generation != b.generation || a == b) {
        Ok(())
    } else {
        Err(WalError::damaged(dir, 0, Damage::CopiesContradict))
    }
}
