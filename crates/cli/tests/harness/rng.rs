//! The random choices of a test, all from one printed seed. Knows nothing of what is chosen.

use std::time::{SystemTime, UNIX_EPOCH};

/// The seed of this run: `QUORATE_SEED`, or another one each time.
///
/// # Panics
///
/// If `QUORATE_SEED` is not a number.
pub(crate) fn seed() -> u64 {
    if let Ok(text) = std::env::var("QUORATE_SEED") {
        return text.parse().expect("QUORATE_SEED is a number");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
}

/// A `SplitMix64` generator: small, and good enough to choose victims and keys.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The `stream`-th generator of this seed; streams do not disturb one another.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xd605_bbb5_8c8a_bbfd));
        rng.word();
        rng
    }

    /// 64 random bits.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.word() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Whether a coin shows heads.
    pub(crate) fn coin(&mut self) -> bool {
        self.word() & (1 << 40) != 0
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word().to_le_bytes()[3]).collect()
    }
}
