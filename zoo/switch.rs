//! The switch of the zoo: which mutant lives in this process. Exists only in the woven copy of the
//! sources; the product knows nothing of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Before the environment was asked.
const UNREAD: u64 = u64::MAX;

static LIVING: AtomicU64 = AtomicU64::new(UNREAD);
static REACHED: AtomicU64 = AtomicU64::new(0);

/// A mutant's id as a number: its bytes, at most eight. Meant for constants.
pub const fn name(id: &str) -> u64 {
    let bytes = id.as_bytes();
    assert!(bytes.len() <= 8, "an id has at most eight bytes");
    let mut number = 0;
    let mut place = 0;
    while place < bytes.len() {
        number = number << 8 | bytes[place] as u64;
        place += 1;
    }
    number
}

/// Whether the mutant of this name is the one of this process.
#[inline]
pub fn lives(name: u64) -> bool {
    if living() != name {
        return false;
    }
    REACHED.fetch_add(1, Ordering::Relaxed);
    true
}

/// How often the living mutant's code was reached.
pub fn reached() -> u64 {
    REACHED.load(Ordering::Relaxed)
}

#[inline]
fn living() -> u64 {
    match LIVING.load(Ordering::Relaxed) {
        UNREAD => read(),
        living => living,
    }
}

#[cold]
fn read() -> u64 {
    let living = std::env::var("QUORATE_MUTANT").map_or(0, |id| name(&id));
    LIVING.store(living, Ordering::Relaxed);
    living
}
