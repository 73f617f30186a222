//! A consistent state of the store: overlays merged with an engine view. Answers "which change of
//! which key is visible here"; knows nothing of requests.

use crate::api::KeyValue;
use crate::auth::{AuthNews, AuthState};
use crate::engine::{Direction, EngineError, EngineView, Space};
use crate::keys::LivingKeys;
use crate::lease::Leases;
use crate::overlay::Overlay;
use crate::revision::{ChangeId, Revision};
use crate::row::{self, Row, Version};
use bytes::Bytes;
use std::sync::Arc;

/// What a reader needs, taken at one moment. Later changes carry higher revisions and stay
/// invisible; a later flush or compaction does not reach what is held here.
#[derive(Clone)]
pub(crate) struct View {
    /// The last change that was whole at that moment.
    pub(crate) revision: Revision,
    /// The oldest revision that may be read; `None` before the first compaction.
    pub(crate) compacted: Option<Revision>,
    /// The leases of that moment.
    pub(crate) leases: Leases,
    /// The users and roles of that moment.
    pub(crate) auth: Arc<AuthState>,
    /// What happened to tokens and nobody was told of yet.
    pub(crate) auth_news: Vec<AuthNews>,
    /// Where new changes go.
    pub(crate) active: Arc<Overlay>,
    /// Changes on their way into the engine; all older than those of `active`.
    pub(crate) frozen: Option<Arc<Overlay>>,
    /// Changes older than all of those.
    pub(crate) engine: Arc<dyn EngineView>,
    /// Counts the snapshots that replaced everything: between two views of one lineage no history
    /// is missing.
    pub(crate) lineage: u64,
}

/// A visible change, and where its value is.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// In memory.
    Row(Arc<Row>),
    /// In the engine.
    Stored(Version),
}

impl Found {
    pub(crate) fn version(&self) -> &Version {
        match self {
            Self::Row(row) => &row.version,
            Self::Stored(version) => version,
        }
    }
}

/// The keys of a request: `end` absent means one key, [`KeyRange::to`] absent means to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Bytes,
    pub(crate) end: RangeEnd,
}

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RangeEnd {
    /// It holds one key.
    Single,
    /// Before this key.
    Before(Bytes),
    /// Nowhere.
    Unbounded,
}

impl KeyRange {
    /// What the two fields of a request mean.
    pub(crate) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end.clone()),
        };
        Self { from: key.clone(), end }
    }

    /// The two fields of a request that mean it.
    pub(crate) fn fields(&self) -> (Bytes, Bytes) {
        let end = match &self.end {
            RangeEnd::Single => Bytes::new(),
            RangeEnd::Before(end) => end.clone(),
            RangeEnd::Unbounded => Bytes::from_static(&[0]),
        };
        (self.from.clone(), end)
    }

    /// The bytes of its keys.
    pub(crate) fn size_bytes(&self) -> usize {
        let end = if let RangeEnd::Before(end) = &self.end { end.len() } else { 0 };
        self.from.len() + end
    }

    /// The first key after the range; `None` if it never ends.
    pub(crate) fn to(&self) -> Option<Bytes> {
        match &self.end {
            RangeEnd::Single => {
                let mut next = Vec::with_capacity(self.from.len() + 1);
                next.extend_from_slice(&self.from);
                next.push(0);
                Some(Bytes::from(next))
            }
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        }
    }
}

impl View {
    /// What the changes in memory count for.
    pub(crate) fn overlay_size_bytes(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.size_bytes());
        (self.active.size_bytes() + frozen) as u64
    }

    /// The newest change of `key` at or before `at`, a deletion too.
    pub(crate) fn newest(&self, key: &[u8], at: ChangeId) -> Result<Option<Found>, EngineError> {
        if let Some(row) = self.active.newest_at(key, at) {
            return Ok(Some(Found::Row(row)));
        }
        if let Some(row) = self.frozen.as_ref().and_then(|frozen| frozen.newest_at(key, at)) {
            return Ok(Some(Found::Row(row)));
        }
        self.newest_stored(key, at)
    }

    fn newest_stored(&self, key: &[u8], at: ChangeId) -> Result<Option<Found>, EngineError> {
        let from = row::index_key(key, at);
        let to = row::index_ceiling(key);
        let mut cursor = self.engine.scan(Space::Index, &from, Some(&to), Direction::Forward)?;
        if !cursor.advance()? {
            return Ok(None);
        }
        let (_, id) = row::split_index_key(cursor.key())?;
        let version = row::parse_index_value(cursor.key(), id, cursor.value())?;
        Ok(Some(Found::Stored(version)))
    }

    /// The newest change of `key` at or before `at`, if the key exists then.
    pub(crate) fn living(&self, key: &[u8], at: ChangeId) -> Result<Option<Found>, EngineError> {
        Ok(self.newest(key, at)?.filter(|found| !found.version().tombstone))
    }

    /// The key and value of a change that was found.
    pub(crate) fn load(&self, found: &Found) -> Result<KeyValue, EngineError> {
        match found {
            Found::Row(row) => Ok(row.to_key_value()),
            Found::Stored(version) => Ok(self.stored_row(version.id)?.to_key_value()),
        }
    }

    fn stored_row(&self, id: ChangeId) -> Result<Row, EngineError> {
        let key = row::row_key(id);
        let value = self.engine.get(Space::Rows, &key)?.ok_or_else(|| EngineError::Corrupt {
            space: Space::Rows,
            key: key.to_vec(),
            what: "missing, though the index names it",
        })?;
        row::parse_row(&key, value)
    }

    /// Walks over the keys of `range` that exist at `at`, in order.
    pub(crate) fn keys(&self, range: &KeyRange, at: ChangeId) -> Result<LivingKeys, EngineError> {
        LivingKeys::new(self, range, at)
    }
}
