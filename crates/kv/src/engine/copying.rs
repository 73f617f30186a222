//! A copy of an engine's content that is made in parts, while the engine is written to: what lies behind
//! the copy goes into both, what lies before it is found when it gets there. Must not know where the
//! copy is kept, nor when there is to be one.

use super::{Direction, EngineError, EngineView, Space, Write};

/// How far a copy has come. It goes through the spaces in their order, and through each by its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    passed: Passed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Passed {
    #[default]
    Nothing,
    /// Everything up to this row, itself included.
    Through(Space, Vec<u8>),
    All,
}

impl Copying {
    /// A copy that is not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is left to be copied: from now on the copy equals the engine, if all that is
    /// written to the one is written to the other.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.passed == Passed::All
    }

    /// Whether this change has to be made in the copy as well; others are found there later.
    #[must_use]
    pub fn has_passed(&self, write: &Write) -> bool {
        match &self.passed {
            Passed::Nothing => false,
            Passed::Through(space, key) => write.place() <= (*space, key.as_slice()),
            Passed::All => true,
        }
    }

    /// The next rows, of about `bytes_max` bytes: they belong into the copy before anything else is written
    /// to either. `view` is the engine's newest.
    ///
    /// # Errors
    ///
    /// [`EngineError`] if the engine failed.
    pub fn take_part(
        &mut self,
        view: &dyn EngineView,
        bytes_max: usize,
    ) -> Result<Vec<Write>, EngineError> {
        let (first, mut from) = match &self.passed {
            Passed::Nothing => (None, Vec::new()),
            // The lowest key above it.
            Passed::Through(space, key) => (Some(*space), [key.as_slice(), &[0]].concat()),
            Passed::All => return Ok(Vec::new()),
        };
        let (mut part, mut size_bytes) = (Vec::new(), 0);
        for space in Space::ALL.into_iter().filter(|space| Some(*space) >= first) {
            let mut rows = view.scan(space, &from, None, Direction::Forward)?;
            from.clear();
            while size_bytes < bytes_max && rows.advance()? {
                let (key, value) = (rows.key().to_vec(), rows.value().to_vec());
                size_bytes += key.len() + value.len();
                self.passed = Passed::Through(space, key.clone());
                part.push(Write::Put { space, key, value });
            }
            if size_bytes >= bytes_max {
                return Ok(part);
            }
        }
        self.passed = Passed::All;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Durability, Engine, MemoryEngine};

    fn put(space: Space, key: u8, value: u8) -> Write {
        Write::Put { space, key: vec![key], value: vec![value; 10] }
    }

    fn content(engine: &MemoryEngine) -> Vec<Write> {
        let view = engine.view().unwrap();
        Copying::new().take_part(view.as_ref(), usize::MAX).unwrap()
    }

    /// Every way to change three rows of two spaces between any two parts, of one row each.
    #[test]
    fn a_copy_equals_what_was_written_to_meanwhile_wherever_that_was() {
        for changed_after in 0..7 {
            for (space, key) in [(Space::Index, 1), (Space::Rows, 4), (Space::Rows, 9)] {
                for kind in 0..3 {
                    let write = match kind {
                        0 => put(space, key, 77),
                        1 => put(space, key + 1, 78),
                        _ => Write::Delete { space, key: vec![key] },
                    };
                    compare(changed_after, &write);
                }
            }
        }
    }

    fn compare(changed_after: usize, write: &Write) {
        let (engine, copy) = (MemoryEngine::new(), MemoryEngine::new());
        let rows = [1, 4, 9].map(|key| put(Space::Rows, key, key));
        let entries = [1, 5].map(|key| put(Space::Index, key, key));
        engine.write_batch([&rows[..], &entries[..]].concat(), Durability::Now).unwrap();
        let mut copying = Copying::new();
        let mut part_count = 0;
        while !copying.is_complete() {
            if part_count == changed_after {
                engine.write_batch(vec![write.clone()], Durability::Now).unwrap();
                if copying.has_passed(write) {
                    copy.write_batch(vec![write.clone()], Durability::Later).unwrap();
                }
            }
            let view = engine.view().unwrap();
            let part = copying.take_part(view.as_ref(), 1).unwrap();
            assert!(part.len() <= 1, "{part:?}");
            copy.write_batch(part, Durability::Later).unwrap();
            part_count += 1;
        }
        assert!(part_count >= 5, "{part_count} parts");
        assert_eq!(content(&copy), content(&engine), "{write:?} after part {changed_after}");
        assert!(copying.has_passed(write));
    }
}
