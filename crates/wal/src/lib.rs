//! The durable log, hard state and snapshot files of one Raft node: it keeps what a core asked to
//! persist (§3.8), and says so when a disk did not. It must not know sockets, clocks, threads or
//! any rule of Raft.
//!
//! The bytes are described in one place, `docs/wal-format.md`; everything done to storage passes
//! through the small [`Disk`] trait.
//!
//! ```
//! # use quorate_core::{Entry, LogId, LogIndex, NodeId, Payload, Persist, SnapshotMeta, Term};
//! # use quorate_wal::{Identity, RealDisk, Wal, WalOptions};
//! # use std::sync::Arc;
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! let identity = Identity { cluster_id: 7, node_id: NodeId::new(1), storage_id: 42 };
//! let initial = SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::default() };
//! let options = WalOptions::default();
//! let (mut wal, _) = Wal::create(Arc::new(RealDisk), dir, options, identity, initial)?;
//!
//! let log_id = LogId::new(Term::new(1), LogIndex::new(1));
//! let entry = Entry { log_id, payload: Payload::Noop };
//! wal.persist(&[Persist { entries: vec![entry.clone()], ..Persist::default() }])?;
//! drop(wal);
//!
//! let (_, recovered) = Wal::open(Arc::new(RealDisk), dir, options, 7, NodeId::new(1))?;
//! assert_eq!(recovered.tail, [entry]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod codec;
mod cuts;
mod disk;
mod error;
mod folder;
mod inspect;
mod links;
mod log_map;
mod mark;
mod mending;
mod meta;
mod options;
mod prefix;
mod prepare;
mod reading;
mod real_disk;
mod record;
mod recovery;
mod reserve;
mod room;
mod scan;
mod scrub;
mod segment;
mod snapshot;
mod spares;
mod standing;
mod verdict;
mod wal;
mod wound;

pub use disk::{Disk, DiskFile, DiskSpace, is_full};
pub use error::{Damage, WalError};
pub use inspect::{
    CutSight, Finding, MarkSight, MetaSight, RecordContent, RecordSight, SegmentSight, Sight,
    Verdict, inspect,
};
pub use meta::{Identity, Standing};
pub use options::WalOptions;
pub use prepare::PrepareJob;
pub use real_disk::{ReadOnlyDisk, RealDisk};
pub use recovery::{Lost, Recovered, TornTail};
pub use reserve::Reserve;
pub use scrub::{Rotten, RottenFile, Scrubbed, Scrubber};
pub use snapshot::{
    Packing, Parcel, Received, SnapshotBody, SnapshotReader, SnapshotStore, SnapshotWriter,
    StateMark,
};
pub use wal::Wal;
