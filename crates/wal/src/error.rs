//! What can go wrong with a node's folder, told apart by what an operator or the caller can do.
//! Must not know how anything is stored.

use crate::Identity;
use quorate_core::{LogId, LogIndex, NodeId, ProtocolVersion};
use std::io;
use std::path::{Path, PathBuf};

/// A failure of the log or of a snapshot file.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The folder belongs to another cluster or node.
    #[error(
        "{path} belongs to cluster {found_cluster:016x}, node {found_node}, but this process was \
         started as cluster {expected_cluster_id:016x}, node {expected_node_id}; start it with the \
         folder of that node, or with an empty one",
        path = path.display(), found_cluster = found.cluster_id, found_node = found.node_id
    )]
    WrongIdentity {
        /// The folder.
        path: PathBuf,
        /// The cluster that the caller wants to open.
        expected_cluster_id: u64,
        /// The node that the caller wants to open.
        expected_node_id: NodeId,
        /// Whose folder it is.
        found: Identity,
    },
    /// Another process has the folder.
    #[error(
        "{path} is in use by {holder}; stop that process first, two processes must never write \
         one log",
        path = path.display(),
        holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The other process, if its lock file says.
        pid: Option<u32>,
    },
    /// There is no log to open.
    #[error("{path} holds no log; create one first", path = path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// There is a log where one should be created.
    #[error("{path} already holds a log; open it, or choose an empty folder", path = path.display())]
    AlreadyExists {
        /// The folder.
        path: PathBuf,
    },
    /// Bytes that were durable cannot be read, or contradict each other. Nothing was changed.
    #[error(
        "{path} is damaged at byte {offset_bytes}: {damage}{lost}{known}. Nothing was changed or cut, \
         because acknowledged entries may be affected. Keep the folder for analysis; to bring the \
         member back, remove it from the cluster and add it again with an empty folder",
        path = path.display(), lost = describe_indexes(indexes.as_ref()),
        known = anchor.as_ref().map_or_else(String::new, |it| format!(", and the log held {it} later"))
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset_bytes: u64,
        /// The first and the last entry that cannot be trusted, as far as known.
        indexes: Option<(LogIndex, Option<LogIndex>)>,
        /// An entry that the log is known to have held behind the bad place: whoever has the entries
        /// up to there can fill the hole. `None` if none is known, or if what was found contradicts
        /// itself. (In a box, so that errors stay small.)
        anchor: Option<Box<LogId>>,
        /// What is wrong.
        damage: Damage,
    },
    /// A newer program wrote the file.
    #[error(
        "{path} has format version {found}, this program knows versions up to {supported}; start \
         a newer release",
        path = path.display()
    )]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        supported: u32,
    },
    /// The log has what only a later protocol knows: the cluster speaks that.
    #[error(
        "{path} is of a cluster that speaks protocol version {found}, this program knows versions up to \
         {newest}; start the program that the other members run",
        path = path.display()
    )]
    NewerProtocol {
        /// The file that says so.
        path: PathBuf,
        /// What the cluster speaks.
        found: ProtocolVersion,
        /// The newest that this program speaks.
        newest: ProtocolVersion,
    },
    /// The disk, or the quota on it, is full. A log that is not poisoned afterwards has not begun what
    /// was asked for: it may be asked again.
    #[error("{path}: no space left to {op}; free space on this disk", path = path.display())]
    DiskFull {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The operating system refused. After a write the log is poisoned.
    #[error("{path}: cannot {op}: {source}", path = path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The caller broke the order of the log. Always a bug of the caller; poisons.
    #[error("cannot {op}: expected {expected}, got {found}; this is a bug, please report it")]
    OutOfOrder {
        /// What was asked for.
        op: &'static str,
        /// What would have been in order.
        expected: LogId,
        /// What came.
        found: LogId,
    },
    /// An entry exceeds what a record can hold.
    #[error("entry {log_id} has {size_bytes} bytes, a record holds at most {limit_bytes}")]
    TooLarge {
        /// Which entry.
        log_id: LogId,
        /// Its payload's size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// An earlier failure made it impossible to know what is durable; nothing is written any more.
    #[error(
        "the log stopped after a failure to {op} ({kind}) and takes no more writes; check the \
         disk, then restart"
    )]
    Poisoned {
        /// What failed.
        op: &'static str,
        /// How.
        kind: io::ErrorKind,
    },
    /// The wanted snapshot is not there (any more).
    #[error("there is no snapshot {last_included} in {path}", path = path.display())]
    NoSnapshot {
        /// The folder.
        path: PathBuf,
        /// Which snapshot.
        last_included: LogId,
    },
}

/// What is wrong with a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The first bytes are not those of our files.
    #[error("this is not a file of this kind, or its first bytes are destroyed")]
    NotOurs,
    /// The header's checksum does not fit.
    #[error("the header's checksum does not fit its bytes")]
    Header,
    /// The header is whole and belongs to another file.
    #[error("the header belongs to another file (segment {found}, expected {expected})")]
    Misplaced {
        /// The segment that should be here.
        expected: u64,
        /// The segment that the header names.
        found: u64,
    },
    /// A record that was durable is not whole.
    #[error("no whole record, although everything before byte {synced_bytes} was durable")]
    Record {
        /// Up to where the file is known to have been durable.
        synced_bytes: u64,
    },
    /// A record is whole and contradicts those before it.
    #[error("record {found} is out of order where {expected} was expected")]
    Order {
        /// The next entry, of the lowest term that it can have; or the last entry, if the record
        /// truncates beyond it.
        expected: LogId,
        /// What the record says.
        found: LogId,
    },
    /// The disk does not give bytes that it holds.
    #[error("the disk cannot read it ({kind}): check the disk, then start again")]
    Unreadable {
        /// What the operating system says.
        kind: io::ErrorKind,
    },
    /// A record was whole when it was read first, and is not any more.
    #[error("two reads of the same record differ: check the disk, then start again")]
    ReadsDiffer,
    /// A record's checksum fits and its content does not decode.
    #[error("the record's content cannot be decoded")]
    Content,
    /// A file that must exist does not.
    #[error("the file is missing")]
    FileMissing,
    /// Neither copy of the term, the vote and the log's bounds can be read.
    #[error("both copies of the hard state are unreadable")]
    BothCopies,
    /// Two whole copies contradict each other.
    #[error("the two copies of the hard state contradict each other")]
    CopiesContradict,
    /// The log does not reach from its base to where it must.
    #[error("the log holds {found}, it must hold {expected}")]
    Gap {
        /// What must be there.
        expected: LogId,
        /// What is there.
        found: LogId,
    },
    /// The log was once further than both copies of the hard state know.
    #[error("the log is newer than the hard state knows: an old copy of that was restored")]
    Unannounced,
    /// A snapshot's block does not fit its checksum.
    #[error("the block's checksum does not fit its bytes")]
    Block,
    /// A snapshot ends before its end mark.
    #[error("the snapshot ends early")]
    Truncated,
}

fn describe_indexes(indexes: Option<&(LogIndex, Option<LogIndex>)>) -> String {
    match indexes {
        None => String::new(),
        Some((first, None)) => format!(" (entries from {first} on)"),
        Some((first, Some(last))) => format!(" (entries {first} to {last})"),
    }
}

impl WalError {
    /// Turns the operating system's answer into an error that says what was tried, and where.
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if crate::disk::is_full(&source) {
                return Self::DiskFull { op, path: path.to_owned() };
            }
            Self::Io { op, path: path.to_owned(), source }
        }
    }

    /// Damage of a file as a whole, or at a place where no entry can be named.
    pub(crate) fn damaged(path: &Path, offset_bytes: u64, damage: Damage) -> Self {
        Self::Damaged { path: path.to_owned(), offset_bytes, indexes: None, anchor: None, damage }
    }

    /// What a log that met this failure answers from then on.
    pub(crate) fn poison(&self) -> (&'static str, io::ErrorKind) {
        match self {
            Self::Io { op, source, .. } => (op, source.kind()),
            Self::DiskFull { op, .. } => (op, io::ErrorKind::StorageFull),
            Self::OutOfOrder { op, .. } => (op, io::ErrorKind::InvalidInput),
            Self::TooLarge { .. } => ("append", io::ErrorKind::InvalidInput),
            Self::Poisoned { op, kind } => (op, *kind),
            Self::WrongIdentity { .. }
            | Self::Locked { .. }
            | Self::Missing { .. }
            | Self::AlreadyExists { .. }
            | Self::Damaged { .. }
            | Self::UnsupportedVersion { .. }
            | Self::NewerProtocol { .. }
            | Self::NoSnapshot { .. } => ("read back", io::ErrorKind::InvalidData),
        }
    }
}
