//! What a check says: a promise that was broken, by what, and after which trouble; or how much was tried
//! in vain. Decides nothing.

use std::fmt;

/// What a disk, or a log, has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promise {
    /// Each operation of a disk does what [`quorate_wal::Disk`] says while nothing goes wrong.
    Contract,
    /// What was written is what is read, until the next crash.
    ReadsAreRight,
    /// A read that gives less than was asked for is not the end of the file.
    ShortReadsAreReadOn,
    /// A read that failed beneath is an error, and never other bytes, or fewer.
    FailedReadsAreErrors,
    /// Bytes and lengths whose sync was acknowledged survive a crash.
    SyncedBytesStay,
    /// Names whose folder's sync was acknowledged survive a crash: created, renamed, removed.
    SyncedNamesStay,
    /// What was not synced is after a crash as it was, or as it was to be, and no third thing.
    NothingElseAppears,
    /// What a log has acknowledged is there after a crash, and what was not is a step on the way to it.
    AcknowledgedStays,
    /// What a log shows at a start is durable from then on, although it had not been acknowledged.
    ShownStays,
    /// A log opens after a crash.
    LogOpens,
    /// Nothing fails without a reason.
    NoErrorWithoutCause,
}

impl fmt::Display for Promise {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Contract => "an operation does not do what the trait says",
            Self::ReadsAreRight => "a read is not what was written",
            Self::ShortReadsAreReadOn => "a short read was taken for the end",
            Self::FailedReadsAreErrors => "a read that failed was taken for one that did not",
            Self::SyncedBytesStay => "bytes that were synced are gone after a crash",
            Self::SyncedNamesStay => {
                "a name that was synced is not there after a crash, or is again"
            }
            Self::NothingElseAppears => "a crash left what was never written",
            Self::AcknowledgedStays => "a log does not hold what it acknowledged",
            Self::ShownStays => "a log does not hold any more what it showed at a start",
            Self::LogOpens => "a log does not open after a crash",
            Self::NoErrorWithoutCause => "something failed without a reason",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{promise}: {found}\n  after: {trouble}")]
pub struct Finding {
    /// Which.
    pub promise: Promise,
    /// What was expected, and what was found.
    pub found: String,
    /// What had been done and had gone wrong before. The same check does and finds the same again.
    pub trouble: String,
}

impl Finding {
    pub(crate) fn new(promise: Promise, found: impl Into<String>) -> Self {
        Self { promise, found: found.into(), trouble: String::new() }
    }

    pub(crate) fn after(mut self, trouble: impl fmt::Display) -> Self {
        self.trouble = trouble.to_string();
        self
    }
}

/// How much was tried, and nothing found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Crashes, each with a look at what was left.
    pub crash_count: u64,
    /// Operations, and reads, that were made to fail.
    pub fault_count: u64,
    /// Files, or whole logs, that were read through a disk that gives little at a time.
    pub short_read_count: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} crashes, {} failed operations, {} reads through short reads: every promise kept",
            self.crash_count, self.fault_count, self.short_read_count
        )
    }
}
