//! Whether a log's folder may speak for its node, and which of its lives this is. Knows nothing of
//! other nodes: who decides that it may is the driver.

use crate::folder::FIRST_SEGMENT;
use crate::{Standing, Wal, WalError};
use quorate_core::{LogId, LogIndex};

impl Wal {
    /// How often this log was opened, this time included. A folder that was put back from an older
    /// copy has been opened less often than others remember.
    #[must_use]
    pub const fn era(&self) -> u32 {
        self.meta.meta().era
    }

    /// What the log was created after, as long as it still starts there: the entry up to which a
    /// state was there before the log. `None` if there was none, and once the log was released
    /// beyond it or started anew.
    #[must_use]
    pub fn created_after(&self) -> Option<LogId> {
        let first = self.sealed.first().unwrap_or(&self.active).header;
        let base = self.base().last_included;
        let is_first = first.number == FIRST_SEGMENT && first.last_log == base;
        (is_first && base.index > LogIndex::ORIGIN).then_some(base)
    }

    /// Notes for good that whatever this node has promised is in this folder. On return that is
    /// durable.
    ///
    /// # Errors
    ///
    /// As [`Wal::persist`].
    pub fn prove(&mut self) -> Result<(), WalError> {
        if self.standing() == Standing::Proven {
            return Ok(());
        }
        self.guarded(|wal| wal.store_meta(|meta| meta.standing = Standing::Proven))
    }
}
