//! Whether a log's folder may speak for its node, and which of its lives this is. Knows nothing of
//! other nodes: who decides that it may is the driver.

use crate::{Standing, Wal, WalError};

impl Wal {
    /// How often this log was opened, this time included. A folder that was put back from an older
    /// copy has been opened less often than others remember.
    #[must_use]
    pub const fn era(&self) -> u32 {
        self.meta.meta().era
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
