//! The core's only source of chance: numbers that follow from a seed (splitmix64).
//! Knows no clock and no device, so that a run can be repeated exactly (§3.4 needs the dice).

use serde::{Deserialize, Serialize};
/// A stream of pseudo-random numbers; not for secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    /// A stream that depends on `seed` alone.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Makes the stream depend on `value` too: equal seeds then differ between nodes and lives.
    pub(crate) fn mix(&mut self, value: u64) {
        self.state ^= value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.state = self.next();
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    /// Recorded runs are repeated by their seeds.
    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut chance = Chance::new(1);
        let numbers = [chance.next(), chance.next(), chance.next()];
        assert_eq!(
            numbers,
            [10_451_216_379_200_822_465, 13_757_245_211_066_428_519, 17_911_839_290_282_890_590]
        );
    }

    #[test]
    fn equal_seeds_give_equal_streams_until_something_is_mixed_in() {
        let (mut a, mut b) = (Chance::new(1), Chance::new(1));
        assert_eq!(a.next(), b.next());
        a.mix(1);
        b.mix(2);
        assert_ne!(a.next(), b.next());
        assert!((0..1000).all(|_| a.below(10) < 10));
        assert_eq!(a.below(0), 0);
    }
}
