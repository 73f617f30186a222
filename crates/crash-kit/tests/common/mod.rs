//! What the kit is tried with: disks and a log, right ones and wrong ones.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

pub mod disks;
pub mod journal;
