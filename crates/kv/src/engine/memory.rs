//! An engine in memory, for the simulator and for stores that need not survive: persistent maps, so
//! that a view costs nothing and a crash can be played. Must not know what it stores.

use super::{Cursor, Direction, Durability, Engine, EngineError, EngineView, Feed, Space, Write};
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. Clones share the content.
#[derive(Clone, Default)]
pub struct MemoryEngine {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    current: Content,
    /// What a crash leaves.
    durable: Content,
}

type Map = RedBlackTreeMapSync<Bytes, Bytes>;

#[derive(Clone, Default)]
struct Content {
    meta: Map,
    index: Map,
    rows: Map,
    leases: Map,
    size_bytes: u64,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a restart after a power failure would find: a new engine that holds only what was
    /// durable. The old one lives on, unconnected.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let durable = self.lock().durable.clone();
        let state = State { current: durable.clone(), durable };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change replaces a whole `Content`, so that a panic elsewhere leaves none half-made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    const fn map(&self, space: Space) -> &Map {
        match space {
            Space::Meta => &self.meta,
            Space::Index => &self.index,
            Space::Rows => &self.rows,
            Space::Leases => &self.leases,
        }
    }

    const fn map_mut(&mut self, space: Space) -> &mut Map {
        match space {
            Space::Meta => &mut self.meta,
            Space::Index => &mut self.index,
            Space::Rows => &mut self.rows,
            Space::Leases => &mut self.leases,
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Put { space, key, value } => {
                let added = key.len() + value.len();
                let key_size = key.len();
                let old = self.map(space).get(key.as_slice());
                let removed = old.map_or(0, |old| key_size + old.len());
                self.map_mut(space).insert_mut(key.into(), value.into());
                self.size_bytes = (self.size_bytes + added as u64).saturating_sub(removed as u64);
            }
            Write::Delete { space, key } => {
                if let Some(old) = self.map(space).get(key.as_slice()) {
                    let removed = (key.len() + old.len()) as u64;
                    self.size_bytes = self.size_bytes.saturating_sub(removed);
                    self.map_mut(space).remove_mut(key.as_slice());
                }
            }
        }
    }
}

impl Engine for MemoryEngine {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        Ok(Arc::new(self.lock().current.clone()))
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        let mut state = self.lock();
        for write in batch {
            state.current.write(write);
        }
        if durability == Durability::Now {
            state.durable = state.current.clone();
        }
        Ok(())
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        let mut content = Content::default();
        loop {
            match next() {
                Feed::Write(write) => content.write(write),
                Feed::End => break,
                Feed::Abort => return Err(EngineError::Aborted),
            }
        }
        *self.lock() = State { current: content.clone(), durable: content };
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.lock().current.size_bytes
    }
}

impl EngineView for Content {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.map(space).get(key).cloned())
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        direction: Direction,
    ) -> Result<Box<dyn Cursor>, EngineError> {
        Ok(Box::new(MemoryCursor {
            map: self.map(space).clone(),
            from: Bytes::copy_from_slice(from),
            to: to.map(Bytes::copy_from_slice),
            direction,
            chunk: Vec::new(),
            chunk_count: 2,
            row: None,
        }))
    }
}

/// Takes rows in chunks: an iterator that borrows the map could not be kept beside it.
struct MemoryCursor {
    map: Map,
    from: Bytes,
    to: Option<Bytes>,
    direction: Direction,
    /// The rows ahead, the next one last.
    chunk: Vec<(Bytes, Bytes)>,
    /// How many to take next: most cursors are asked for a row or two.
    chunk_count: usize,
    row: Option<(Bytes, Bytes)>,
}

impl MemoryCursor {
    const CHUNK_COUNT_MAX: usize = 64;

    fn refill(&mut self) {
        if self.to.as_ref().is_some_and(|to| *to <= self.from) {
            return;
        }
        let (from, count) = (self.from.clone(), self.chunk_count);
        self.chunk_count = (count * 2).min(Self::CHUNK_COUNT_MAX);
        let taken: Vec<(Bytes, Bytes)> = match (self.to.clone(), self.direction) {
            (Some(to), Direction::Forward) => take(count, self.map.range(from..to)),
            (None, Direction::Forward) => take(count, self.map.range(from..)),
            (Some(to), Direction::Backward) => take(count, self.map.range(from..to).rev()),
            (None, Direction::Backward) => take(count, self.map.range(from..).rev()),
        };
        if let Some((last, _)) = taken.last() {
            match self.direction {
                Direction::Forward => self.from = successor(last),
                Direction::Backward => self.to = Some(last.clone()),
            }
        }
        self.chunk = taken;
        self.chunk.reverse();
    }
}

fn take<'a>(
    count: usize,
    rows: impl Iterator<Item = (&'a Bytes, &'a Bytes)>,
) -> Vec<(Bytes, Bytes)> {
    rows.take(count).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The lowest key above `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

impl Cursor for MemoryCursor {
    fn advance(&mut self) -> Result<bool, EngineError> {
        if self.chunk.is_empty() {
            self.refill();
        }
        self.row = self.chunk.pop();
        Ok(self.row.is_some())
    }

    fn key(&self) -> &[u8] {
        self.row.as_ref().map_or(&[], |(key, _)| key)
    }

    fn value(&self) -> &[u8] {
        self.row.as_ref().map_or(&[], |(_, value)| value)
    }
}
