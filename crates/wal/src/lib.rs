//! The durable log, hard state and snapshot files of one Raft node.

mod disk;

pub use disk::{Disk, DiskFile};
