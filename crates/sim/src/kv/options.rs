//! What the clients of the store do, and how it keeps its data: given, or drawn from a seed. Knows
//! nothing of requests.

use super::SessionOptions;
use crate::rng::Rng;

/// What the clients do with the store, and how the store keeps its data.
#[derive(Clone, Copy, Debug)]
pub struct KvOptions {
    /// Keys in use at the same time.
    pub key_count: u64,
    /// Operations on a key before its place is taken by a new one. Short histories are quick to
    /// check.
    pub ops_per_key: u64,
    /// Weights of gets, puts, deletes and swaps.
    pub weights: [u64; 4],
    /// Whether a restarted node finds its store empty and needs the log or a snapshot.
    pub is_volatile: bool,
    /// How much a store gathers in memory before it writes to its engine, in bytes.
    pub flush_size_bytes: usize,
    /// How many gets in a hundred promise less than linearizability.
    pub weak_percent: u64,
    /// What clients do in sessions.
    pub sessions: SessionOptions,
    /// How many requests in a hundred are of other kinds: ranges, nested transactions,
    /// compactions, reads of the past.
    pub odd_percent: u64,
    /// How many requests in a hundred are about leases.
    pub lease_percent: u64,
    /// How many clients watch.
    pub watcher_count: usize,
    /// Decides what they are like.
    pub watch_seed: u64,
    /// Whether a store's slow work is put off, and the chance by which it is done.
    pub slow_storage: Option<u64>,
    /// Whether a store's engine is made anew, again and again, and how much of it at a time, in bytes.
    pub renewal_part_bytes: Option<usize>,
}

impl KvOptions {
    /// Drawn from a seed.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let mut options = Self {
            key_count: rng.between(1, 12),
            ops_per_key: rng.between(20, 80),
            weights: [rng.between(1, 10), rng.between(1, 10), rng.below(5), rng.below(8)],
            is_volatile: rng.coin(),
            flush_size_bytes: rng.index(16 << 10) + 256,
            weak_percent: rng.pick(&[0, 20, 60]).copied().unwrap_or(20),
            sessions: SessionOptions::draw(&mut rng.fork("sessions")),
            odd_percent: rng.pick(&[0, 5, 30]).copied().unwrap_or(5),
            lease_percent: 0,
            watcher_count: rng.pick(&[0, 1, 3, 8]).copied().unwrap_or(1),
            watch_seed: rng.word(),
            slow_storage: rng.coin().then(|| rng.word()),
            renewal_part_bytes: None,
        };
        // Not from the generator that draws the rest: worlds without them stay what they were.
        let mut apart = Rng::new(options.watch_seed).fork("leases");
        options.lease_percent = apart.pick(&[0, 0, 10, 40]).copied().unwrap_or(0);
        let mut apart = Rng::new(options.watch_seed).fork("renewals");
        options.renewal_part_bytes = apart.coin().then(|| apart.index(4 << 10) + 64);
        options
    }
}

impl Default for KvOptions {
    fn default() -> Self {
        Self {
            key_count: 5,
            ops_per_key: 40,
            weights: [4, 4, 1, 2],
            is_volatile: false,
            flush_size_bytes: 4 << 10,
            weak_percent: 0,
            sessions: SessionOptions::none(),
            odd_percent: 0,
            lease_percent: 0,
            watcher_count: 2,
            watch_seed: 0,
            slow_storage: None,
            renewal_part_bytes: None,
        }
    }
}
