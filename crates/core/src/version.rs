//! Which protocol a server speaks, and which one its cluster does: the highest that all of its members
//! know. Must not know a single message; what each version has brought is said in `docs/wire-format.md`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of what servers say to each other and write into their logs.
///
/// A program speaks all from [`ProtocolVersion::OLDEST`] to [`ProtocolVersion::NEWEST`]. What a version
/// has brought is said to those who know it only, and is appended to the log only once the whole
/// cluster speaks that version ([`crate::Raft::cluster_version`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProtocolVersion(u16);

impl ProtocolVersion {
    /// The oldest that this program speaks.
    pub const OLDEST: Self = Self(5);
    /// The newest that this program speaks.
    pub const NEWEST: Self = Self(6);
    /// What a cluster speaks in whose configuration no version is recorded: the last version that did
    /// not record any.
    pub const UNRECORDED: Self = Self(5);

    /// The version of this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The plain number, for encoding and display.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether this program speaks it.
    #[must_use]
    pub fn is_spoken(self) -> bool {
        (Self::OLDEST..=Self::NEWEST).contains(&self)
    }
}

impl Default for ProtocolVersion {
    /// [`ProtocolVersion::UNRECORDED`].
    fn default() -> Self {
        Self::UNRECORDED
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
