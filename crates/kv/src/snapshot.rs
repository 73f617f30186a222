//! A whole store as a stream of bytes, and back. The stream is the same on every replica for the
//! same applied entry; its layout is drawn in `docs/decisions/0002-storage-engine.md`. What comes
//! in is not trusted.

use crate::auth::{self, AuthState};
use crate::engine::{Engine, EngineError, Feed, Space, Write};
use crate::lease::{self, Leases};
use crate::meta::{self, Progress, Scrub};
use crate::notes;
use crate::revision::{ChangeId, Revision};
use crate::row;
use crate::rows::{LiveRow, LiveRows};
use crate::store::Shared;
use crate::view::View;
use bytes::Bytes;
use quorate::SnapshotView;
use quorate::core::{LogId, LogIndex};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write as _};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"QRKVSNAP";
const VERSION: u32 = 3;
/// The first version, which knew no leases, and the second, which knew no users. Such snapshots are
/// still taken over.
const VERSION_WITHOUT_LEASES: u32 = 1;
const VERSION_WITHOUT_USERS: u32 = 2;
/// A block ends after the row that exceeds this.
const BLOCK_SIZE_BYTES: usize = 256 * 1024;

/// Why a snapshot was not taken over. The old content remains, in every case.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The stream cannot be read, or ends too early.
    #[error("snapshot stream: {0}")]
    Io(#[from] io::Error),
    /// It is no snapshot of a store.
    #[error("not a snapshot of a key-value store: starts with {got:02x?}")]
    Magic {
        /// How it starts.
        got: [u8; 8],
    },
    /// It is of a version that we do not know.
    #[error(
        "snapshot has version {got}, and this program reads none above {newest}: run the version \
         that wrote it, or a later one"
    )]
    Version {
        /// The newest that we know.
        newest: u32,
        /// What it says.
        got: u32,
    },
    /// Its bytes are not those that were written.
    #[error("snapshot is damaged: checksum {got:08x}, expected {expected:08x}, in {place}")]
    Checksum {
        /// What the stream says.
        expected: u32,
        /// What its content gives.
        got: u32,
        /// Where.
        place: &'static str,
    },
    /// Its bytes are whole, but make no sense.
    #[error("snapshot makes no sense: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// It covers less than what was applied already, or more than it should.
    #[error("snapshot covers the log up to {got}, expected {applied} to {last_included}")]
    Coverage {
        /// What was applied already.
        applied: LogIndex,
        /// What it should cover.
        last_included: LogIndex,
        /// What it says.
        got: LogIndex,
    },
    /// Only an empty store can begin with another one's content.
    #[error("the store holds something already, up to entry {applied} of its log: expected none")]
    NotEmpty {
        /// What was applied already.
        applied: LogIndex,
    },
    /// A store that counts on from there could not count far.
    #[error(
        "the snapshot is at revision {revision}, and {bump} more lead beyond the last possible one, \
         {most}: choose fewer"
    )]
    Bump {
        /// Where it stands.
        revision: Revision,
        /// What was to be added.
        bump: u64,
        /// The most that it may be then.
        most: u64,
    },
    /// The engine failed, or holds a damaged row.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A state, frozen, ready to be written out.
#[derive(Clone)]
pub(crate) struct StoreView {
    /// Fails if a row is damaged.
    shared: Arc<Shared>,
    view: View,
    progress: Progress,
    cleaned: Option<Revision>,
}

impl StoreView {
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        let state = shared.lock();
        let (view, progress) = (state.view.clone(), state.progress.clone());
        let cleaned = state.stored.scrub.done;
        Self { shared: Arc::clone(shared), view, progress, cleaned }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.view.revision
    }

    fn write(self, target: &mut dyn io::Write) -> Result<(), SnapshotError> {
        let header = self.progress.encode();
        target.write_all(&MAGIC)?;
        target.write_all(&VERSION.to_le_bytes())?;
        let mut chain = write_block(target, 0, &header)?;
        chain = write_block(target, chain, &self.view.leases.encode())?;
        chain = write_block(target, chain, &self.view.auth.encode())?;
        let mut rows = LiveRows::new(self.view, self.cleaned)?;
        let mut block = Vec::with_capacity(BLOCK_SIZE_BYTES);
        let mut row_count: u64 = 0;
        while let Some(row) = rows.next()? {
            row_count += 1;
            push_row(&mut block, &row)?;
            if block.len() >= BLOCK_SIZE_BYTES {
                chain = write_block(target, chain, &block)?;
                block.clear();
            }
        }
        if !block.is_empty() {
            chain = write_block(target, chain, &block)?;
        }
        chain = write_block(target, chain, &[])?;
        write_block(target, chain, &row_count.to_le_bytes())?;
        Ok(())
    }
}

impl SnapshotView for StoreView {
    fn write_to(self: Box<Self>, target: &mut dyn io::Write) -> io::Result<()> {
        let mut target = io::BufWriter::new(target);
        let shared = Arc::clone(&self.shared);
        self.write(&mut target).map_err(|error| {
            if let SnapshotError::Engine(error) = &error {
                shared.fail(error);
            }
            if let SnapshotError::Io(error) = error { error } else { io::Error::other(error) }
        })?;
        target.flush()
    }
}

fn push_row(block: &mut Vec<u8>, row: &LiveRow) -> Result<(), SnapshotError> {
    block.extend_from_slice(&row::row_key(row.id));
    block.extend_from_slice(&size(&row.value)?.to_le_bytes());
    block.extend_from_slice(&row.value);
    Ok(())
}

/// Writes size, checksum, content. The checksum goes over all content up to here, so that a block
/// that is missing, doubled or out of place shows. Returns the checksum.
fn write_block(target: &mut dyn io::Write, chain: u32, block: &[u8]) -> Result<u32, SnapshotError> {
    let size = size(block)?.to_le_bytes();
    let chain = crc32c::crc32c_append(crc32c::crc32c_append(chain, &size), block);
    target.write_all(&size)?;
    target.write_all(&chain.to_le_bytes())?;
    target.write_all(block)?;
    Ok(chain)
}

fn size(bytes: &[u8]) -> Result<u32, SnapshotError> {
    u32::try_from(bytes.len()).map_err(|_| SnapshotError::Malformed { what: "a row above 4 GiB" })
}

/// Replaces the whole store by what `source` holds.
pub(crate) fn restore(
    shared: &Arc<Shared>,
    last_included: LogId,
    source: &mut dyn Read,
    notes: Vec<(Bytes, Bytes)>,
) -> Result<(), SnapshotError> {
    let mut incoming = Incoming::open(source)?;
    incoming.notes = notes;
    shared.replace(|engine, applied| {
        let got = incoming.progress.applied.index;
        let last_included = last_included.index;
        if last_included < applied || got > last_included {
            return Err(SnapshotError::Coverage { applied, last_included, got });
        }
        // What follows up to `last_included` changed nothing: no-ops, configurations.
        incoming.becomes.covered = last_included;
        incoming.replace(engine)
    })
}

/// A snapshot that is being read, checked row by row.
pub(crate) struct Incoming<'a> {
    blocks: Blocks<'a>,
    /// What the writer said of itself.
    pub(crate) progress: Progress,
    /// What the store says of itself that takes it over.
    pub(crate) becomes: Progress,
    leases: Leases,
    auth: AuthState,
    /// The keys that are attached to a lease as of the last row, each with its lease.
    attached: BTreeMap<Bytes, i64>,
    block: Bytes,
    last: ChangeId,
    row_count: u64,
    stored_bytes: u64,
    /// Writes that come next.
    queue: VecDeque<Write>,
    /// The node's notes, which come with the snapshot and not in it.
    notes: Vec<(Bytes, Bytes)>,
    /// All rows were read.
    ended: bool,
    failure: Option<SnapshotError>,
}

impl<'a> Incoming<'a> {
    pub(crate) fn open(source: &'a mut dyn Read) -> Result<Self, SnapshotError> {
        let mut blocks = Blocks { source: io::BufReader::new(source), chain: 0 };
        let version = blocks.read_head()?;
        let progress = Progress::decode(blocks.next("header")?)
            .ok_or(SnapshotError::Malformed { what: "header" })?;
        let leases = if version == VERSION_WITHOUT_LEASES {
            Leases::default()
        } else {
            let leases = Leases::decode(blocks.next("leases")?, progress.applied.index);
            leases.ok_or(SnapshotError::Malformed { what: "leases" })?
        };
        let auth = if version <= VERSION_WITHOUT_USERS {
            AuthState::default()
        } else {
            let auth = AuthState::decode(blocks.next("users")?);
            auth.ok_or(SnapshotError::Malformed { what: "users" })?
        };
        Ok(Self {
            blocks,
            becomes: progress.clone(),
            progress,
            leases,
            auth,
            attached: BTreeMap::new(),
            block: Bytes::new(),
            last: ChangeId::default(),
            row_count: 0,
            stored_bytes: 0,
            queue: VecDeque::new(),
            notes: Vec::new(),
            ended: false,
            failure: None,
        })
    }

    /// Puts all of it into the place of what the engine holds.
    pub(crate) fn replace(&mut self, engine: &dyn Engine) -> Result<(), SnapshotError> {
        let outcome = engine.replace(&mut || self.feed());
        match (self.failure.take(), outcome) {
            (Some(failure), _) => Err(failure),
            (None, outcome) => Ok(outcome?),
        }
    }

    fn feed(&mut self) -> Feed {
        loop {
            if let Some(write) = self.queue.pop_front() {
                return Feed::Write(write);
            }
            if self.ended {
                return Feed::End;
            }
            if let Err(failure) = self.read_more() {
                self.failure = Some(failure);
                return Feed::Abort;
            }
        }
    }

    fn read_more(&mut self) -> Result<(), SnapshotError> {
        if self.block.is_empty() {
            self.block = self.blocks.next("rows")?;
            if self.block.is_empty() {
                return self.finish();
            }
        }
        self.read_row()
    }

    fn read_row(&mut self) -> Result<(), SnapshotError> {
        const MALFORMED: SnapshotError = SnapshotError::Malformed { what: "row" };
        const HEAD_BYTES: usize = 16;
        let head = (self.block.len() >= HEAD_BYTES).then(|| self.block.split_to(HEAD_BYTES));
        let head = head.ok_or(MALFORMED)?;
        let (key, size) = head.split_first_chunk::<12>().ok_or(MALFORMED)?;
        let size: [u8; 4] = size.try_into().map_err(|_| MALFORMED)?;
        let size = usize::try_from(u32::from_le_bytes(size)).map_err(|_| MALFORMED)?;
        let value = (self.block.len() >= size).then(|| self.block.split_to(size));
        let value = value.ok_or(MALFORMED)?;
        let row = row::parse_row(key, value.clone()).map_err(|_| MALFORMED)?;
        let id = row.version.id;
        // Readers look for the key where we write it.
        let readable = row::key_of_row(key, &value).is_ok_and(|found| found == row.key);
        let leased_and_gone = row.version.tombstone && row.version.lease != 0;
        if row.key.is_empty() || !readable || leased_and_gone {
            return Err(MALFORMED);
        }
        if id <= self.last || id.main > self.progress.revision {
            return Err(SnapshotError::Malformed { what: "rows out of order" });
        }
        self.last = id;
        self.row_count += 1;
        if row.version.lease == 0 {
            self.attached.remove(&row.key);
        } else {
            self.attached.insert(Bytes::copy_from_slice(&row.key), row.version.lease);
        }
        let index_key = row::index_key(&row.key, id);
        let row_size_bytes = (key.len() + value.len()) as u64;
        let entry = row::index_value(&row.version, row_size_bytes);
        self.enqueue(Space::Rows, key.to_vec(), value.to_vec());
        self.enqueue(Space::Index, index_key, entry);
        Ok(())
    }

    fn enqueue(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.stored_bytes += (key.len() + value.len()) as u64;
        self.queue.push_back(Write::Put { space, key, value });
    }

    /// All rows are there: what is left is the store's knowledge of itself.
    fn finish(&mut self) -> Result<(), SnapshotError> {
        let trailer = self.blocks.next("trailer")?;
        if trailer.as_ref() != self.row_count.to_le_bytes() {
            return Err(SnapshotError::Malformed { what: "row count" });
        }
        self.ended = true;
        self.finish_leases()?;
        self.queue.extend(auth::write(&self.auth));
        // The writer left superfluous changes out.
        let done = self.progress.compacted;
        let next = done.map_or_else(ChangeId::default, |done| ChangeId::new(done, 0));
        self.queue.push_back(meta::write_format());
        self.queue.push_back(self.becomes.write());
        self.queue.push_back(Scrub { next, done }.write());
        self.queue.push_back(meta::write_stored_bytes(self.stored_bytes));
        let notes = std::mem::take(&mut self.notes).into_iter();
        self.queue.extend(notes::writes(notes.map(|(key, value)| (key, Some(value)))));
        Ok(())
    }

    fn finish_leases(&mut self) -> Result<(), SnapshotError> {
        for (id, lease) in self.leases.iter() {
            self.queue.push_back(lease::write_record(id, Some(lease)));
        }
        for (key, id) in std::mem::take(&mut self.attached) {
            if self.leases.get(id).is_none() {
                return Err(SnapshotError::Malformed {
                    what: "a key of a lease that is not there",
                });
            }
            self.queue.push_back(lease::write_bond(id, &key, true));
        }
        Ok(())
    }
}

struct Blocks<'a> {
    source: io::BufReader<&'a mut dyn Read>,
    chain: u32,
}

impl Blocks<'_> {
    /// The version, which is one that we know.
    fn read_head(&mut self) -> Result<u32, SnapshotError> {
        let got: [u8; 8] = self.read_array()?;
        if got != MAGIC {
            return Err(SnapshotError::Magic { got });
        }
        let got = u32::from_le_bytes(self.read_array()?);
        if !(VERSION_WITHOUT_LEASES..=VERSION).contains(&got) {
            return Err(SnapshotError::Version { newest: VERSION, got });
        }
        Ok(got)
    }

    fn next(&mut self, place: &'static str) -> Result<Bytes, SnapshotError> {
        let size: [u8; 4] = self.read_array()?;
        let expected = u32::from_le_bytes(self.read_array()?);
        let wanted = u64::from(u32::from_le_bytes(size));
        // Memory grows with what really arrives, not with what the stream claims.
        let mut block = Vec::new();
        let got = (&mut self.source).take(wanted).read_to_end(&mut block)?;
        if got as u64 != wanted {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let got = crc32c::crc32c_append(crc32c::crc32c_append(self.chain, &size), &block);
        if got != expected {
            return Err(SnapshotError::Checksum { expected, got, place });
        }
        self.chain = got;
        Ok(block.into())
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut array = [0; N];
        self.source.read_exact(&mut array)?;
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inline, MemoryEngine};

    fn store() -> crate::KvStateMachine {
        crate::open(Arc::new(MemoryEngine::new()), Arc::new(Inline)).unwrap().0
    }

    /// What a fresh store makes of a snapshot of a fresh store that says this of itself.
    fn restored(change: impl FnOnce(&mut Progress)) -> Result<(), SnapshotError> {
        let mut view = StoreView::of(&store().shared);
        change(&mut view.progress);
        let mut written = Vec::new();
        view.write(&mut written).unwrap();
        let last_included = LogId::new(quorate::core::Term::new(1), LogIndex::new(9));
        restore(&store().shared, last_included, &mut written.as_slice(), Vec::new())
    }

    /// What a fresh store makes of a snapshot with this row alone.
    fn restored_row(value: &[u8]) -> Result<(), SnapshotError> {
        let mut written = MAGIC.to_vec();
        written.extend_from_slice(&VERSION.to_le_bytes());
        let mut row = row::row_key(ChangeId::new(Revision::FIRST, 0)).to_vec();
        row.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        row.extend_from_slice(value);
        let mut chain = 0;
        for block in [&Progress::default().encode()[..], &[], &[], &row, &[], &1_u64.to_le_bytes()]
        {
            chain = write_block(&mut written, chain, block).unwrap();
        }
        let last_included = LogId::new(quorate::core::Term::new(1), LogIndex::new(9));
        restore(&store().shared, last_included, &mut written.as_slice(), Vec::new())
    }

    #[test]
    fn a_row_that_no_store_writes_is_not_taken_out_of_a_snapshot() {
        let (key, create_revision) = ([0x0a, 1, b'k'], [0x10, 1]);
        assert!(restored_row(&[&[0][..], &key, &create_revision].concat()).is_ok());
        for row in [
            &[&[0][..], &create_revision].concat(),
            &[&[0, 0x0a, 0][..], &create_revision].concat(),
            &[&[0][..], &create_revision, &key].concat(),
            // A deleted key has no lease.
            &[&[1][..], &key, &[0x30, 7]].concat(),
        ] {
            let refused = restored_row(row);
            assert!(matches!(refused, Err(SnapshotError::Malformed { what: "row" })), "{row:?}");
        }
    }

    #[test]
    fn a_snapshot_whose_numbers_no_store_reaches_is_not_believed() {
        assert!(restored(|_| {}).is_ok());
        let far = Revision::new(u64::MAX);
        let malformed = |outcome| matches!(outcome, Err(SnapshotError::Malformed { .. }));
        assert!(malformed(restored(|progress| progress.revision = far)));
        assert!(malformed(restored(|progress| progress.revision = Revision::default())));
        assert!(malformed(restored(|progress| progress.compacted = Some(far))));
        assert!(malformed(restored(|progress| progress.key_count = u64::MAX)));
    }
}
