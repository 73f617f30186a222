//! What the store asks of a storage engine: ordered bytes, snapshot views, and batches that are
//! atomic. Knows nothing of keys, revisions or Raft.

mod copying;
mod memory;
mod place;
mod redb;
mod renewal;
mod renewing;
#[cfg(test)]
mod renewing_tests;
#[cfg(test)]
mod sim_folder;
mod suspicion;
mod untouched;

pub use copying::Copying;
pub use memory::MemoryEngine;
pub use renewal::{NoSteward, Refusal, Renewal, Steward};
pub use renewing::{CACHE_SIZE_BYTES_DEFAULT, RedbEngine};
pub use suspicion::Patience;

use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;

/// One of the ordered maps that an engine keeps side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// A few rows about the store itself.
    Meta,
    /// From key to its versions.
    Index,
    /// From change to what was written.
    Rows,
    /// Leases, and which keys are attached to them.
    Leases,
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Index, Self::Rows, Self::Leases];
}

/// In which direction a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Lowest key first.
    Forward,
    /// Highest key first.
    Backward,
}

/// One change to an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Store a value.
    Put {
        /// Where.
        space: Space,
        /// Under which key.
        key: Vec<u8>,
        /// Which value.
        value: Vec<u8>,
    },
    /// Remove a key, if it is there.
    Delete {
        /// Where.
        space: Space,
        /// Which key.
        key: Vec<u8>,
    },
}

impl Write {
    /// Where it writes: batches that are sorted by this touch each page of the engine once.
    #[must_use]
    pub fn place(&self) -> (Space, &[u8]) {
        match self {
            Self::Put { space, key, .. } | Self::Delete { space, key } => (*space, key),
        }
    }
}

/// When a batch must survive a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Before the call returns.
    Now,
    /// With the next batch that asks for [`Durability::Now`]. Lost or kept as a whole.
    Later,
}

/// What feeds [`Engine::replace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Another change.
    Write(Write),
    /// That was all: make it so.
    End,
    /// The source is bad: keep the old content.
    Abort,
}

/// Where the bytes live. One writer at a time; views never wait for it.
pub trait Engine: Send + Sync + 'static {
    /// The content as of the last batch, unaffected by later ones.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed.
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError>;

    /// Carries out a batch, all or nothing. Fastest if the batch is sorted by space and key.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed; nothing of the batch is visible then.
    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError>;

    /// Replaces the whole content by what `next` gives, all or nothing, durably.
    ///
    /// # Errors
    ///
    /// [`EngineError::Aborted`] if `next` said so; any other if the engine failed. The old content
    /// remains in both cases.
    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError>;

    /// Does a part, of bounded size, of giving back the space that is free within the engine; its content
    /// is the same afterwards. Rows and index take `in_use_bytes`, and whether there is enough to be gained
    /// is for the engine to say, unless it `is_wanted`. To be called on the thread that writes, after batches
    /// and until there is no more to do.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed. That its space cannot be given back is no failure.
    fn renew(&self, in_use_bytes: u64, is_wanted: bool) -> Result<Renewal, EngineError> {
        let _ = (in_use_bytes, is_wanted);
        Ok(Renewal::Idle)
    }

    /// The space that the engine takes up, in bytes, free space within it included.
    fn size_bytes(&self) -> u64;

    /// How long batches took, if somebody looks at a clock for it.
    fn batch_times(&self) -> Option<&quorate::Histogram> {
        None
    }
}

/// A frozen state of an engine.
pub trait EngineView: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// The rows with `from <= key < to`; without `to`, to the end of the space.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed.
    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn Cursor>, EngineError>;
}

/// Walks over rows. It stands before the first one until [`Cursor::advance`] is called.
pub trait Cursor: Send {
    /// Goes to the next row; `false` if there is none.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed.
    fn advance(&mut self) -> Result<bool, EngineError>;

    /// The key of the row; empty if the cursor stands on none.
    fn key(&self) -> &[u8];

    /// The value of the row; empty if the cursor stands on none.
    fn value(&self) -> &[u8];
}

/// The storage engine failed. The store cannot go on after that.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine says so.
    #[error("storage engine failed while it {doing}: {source}")]
    Failed {
        /// What it was asked to do.
        doing: &'static str,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine's own structure is damaged.
    #[error("storage is damaged, as was found when it {doing}: {source}")]
    Damaged {
        /// What it was asked to do.
        doing: &'static str,
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// In an earlier life something could not be written. What can be read back now may be what
    /// never reached the disk: it looks well and is gone with the next crash.
    #[error(
        "storage could not be written in an earlier life, and cannot be believed since; {} says so",
        marker.display()
    )]
    Suspect {
        /// The file that says so.
        marker: PathBuf,
    },
    /// A row is not what the store once wrote there.
    #[error("storage holds a row in {space:?} that cannot be read: {what}, key {key:02x?}")]
    Corrupt {
        /// Where.
        space: Space,
        /// The row's key.
        key: Vec<u8>,
        /// What is wrong.
        what: &'static str,
    },
    /// The data is of a format that this version does not know.
    #[error(
        "storage has format {got}, and this program reads none above {newest}: run the version \
         that wrote it, or a later one"
    )]
    Format {
        /// The newest that we know.
        newest: u64,
        /// What is there.
        got: u64,
    },
    /// The source of a replacement gave up.
    #[error("the replacement was given up; the old content remains")]
    Aborted,
    /// An earlier failure, in the background or in a read.
    #[error("storage failed earlier: {first}")]
    FailedEarlier {
        /// What it said then.
        first: Arc<str>,
    },
}

impl EngineError {
    /// Whether what is stored is not to be believed: only another copy of it helps.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Suspect { .. } | Self::Corrupt { .. } => true,
            Self::Failed { .. }
            | Self::Format { .. }
            | Self::Aborted
            | Self::FailedEarlier { .. } => false,
        }
    }
}
