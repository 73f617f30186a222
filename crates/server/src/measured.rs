//! A storage engine with a clock: how long its batches take, for who measures. The store itself has no
//! clock. Must not know what is stored.

use quorate::Histogram;
use quorate_kv::{Durability, Engine, EngineError, EngineView, Feed, Renewal, Write};
use std::sync::Arc;
use std::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct MeasuredEngine<E> {
    engine: E,
    times: Histogram,
}

impl<E: Engine> MeasuredEngine<E> {
    /// The same engine, measured.
    #[must_use]
    pub fn new(engine: E) -> Self {
        Self { engine, times: Histogram::default() }
    }
}

impl<E: Engine> Engine for MeasuredEngine<E> {
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        self.engine.view()
    }

    fn write_batch(&self, batch: Vec<Write>, durability: Durability) -> Result<(), EngineError> {
        let begun = Instant::now();
        let written = self.engine.write_batch(batch, durability);
        self.times.record(begun.elapsed());
        written
    }

    fn replace(&self, next: &mut dyn FnMut() -> Feed) -> Result<(), EngineError> {
        self.engine.replace(next)
    }

    fn renew(&self, in_use_bytes: u64, is_wanted: bool) -> Result<Renewal, EngineError> {
        self.engine.renew(in_use_bytes, is_wanted)
    }

    fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }

    fn batch_times(&self) -> Option<&Histogram> {
        Some(&self.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_kv::{MemoryEngine, Space};

    #[test]
    fn every_batch_is_counted_once_and_nothing_else_is() {
        let engine = MeasuredEngine::new(MemoryEngine::new());
        let put = Write::Put { space: Space::Meta, key: b"k".to_vec(), value: b"v".to_vec() };
        for count in 1..=3 {
            engine.write_batch(vec![put.clone()], Durability::Now).unwrap();
            assert_eq!(engine.batch_times().map(Histogram::count), Some(count));
        }
        let value = engine.view().unwrap().get(Space::Meta, b"k").unwrap();
        assert_eq!(value.as_deref(), Some(&b"v"[..]));
        assert_eq!(engine.batch_times().map(Histogram::count), Some(3));
    }
}
