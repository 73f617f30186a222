//! The one source of chance: a small generator whose sequence is fixed by its seed on every
//! machine. It must not know what the numbers are used for.

use std::time::Duration;

/// A xoshiro256++ generator. Streams forked from it by name do not disturb one another: a new
/// fault that draws from its own stream leaves the clients' choices as they were.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

/// A probability in parts per million, so that no float decides anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// What never happens.
    pub const NEVER: Self = Self(0);
    /// What always happens.
    pub const ALWAYS: Self = Self(1_000_000);

    /// A chance of `parts` in a million; more than a million counts as a million.
    #[must_use]
    pub const fn per_million(parts: u32) -> Self {
        if parts > 1_000_000 { Self::ALWAYS } else { Self(parts) }
    }

    /// A chance of `parts` in a hundred.
    #[must_use]
    pub const fn percent(parts: u32) -> Self {
        Self::per_million(parts.saturating_mul(10_000))
    }

    /// Whether it can happen at all.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        self.0 > 0
    }
}

impl Rng {
    /// A generator for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut word = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut word)) }
    }

    /// An independent generator, named by what it is for. Forking draws once from this one.
    #[must_use]
    pub fn fork(&mut self, purpose: &str) -> Self {
        let named = purpose.bytes().fold(self.word(), |word, byte| {
            (word ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self::new(named)
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        let (b, a) = (b ^ c, a ^ d);
        let c = c ^ (self.state[1] << 17);
        self.state = [a, b, c, d.rotate_left(45)];
        result
    }

    /// A number in `0..bound`; 0 if the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.word()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// An index into something of this length; 0 if it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// A number in `low..=high`; `low` if the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A duration in `low..=high`, to the microsecond.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// Whether something of this chance happens now.
    pub fn happens(&mut self, chance: Chance) -> bool {
        chance.is_possible() && self.below(1_000_000) < u64::from(chance.0)
    }

    /// Whether a coin shows heads.
    pub fn coin(&mut self) -> bool {
        self.word() & 1 == 1
    }

    /// One of these, or `None` if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// Puts these in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// A time to wait for something that happens every `mean` on average, at no fixed rhythm
    /// (exponentially distributed, by sixteenths of halvings).
    pub fn wait(&mut self, mean: Duration) -> Duration {
        let halvings = u64::from(self.word().leading_zeros().min(12));
        let part = self.below(1 << 16);
        let mean = micros(mean);
        // The waiting time of a process with this mean has a median of ln 2 = 0.693 of it.
        let step = u128::from(mean) * 693 / 1000;
        let whole = step * u128::from(halvings) + ((step * u128::from(part)) >> 16);
        Duration::from_micros(u64::try_from(whole).unwrap_or(u64::MAX))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn split_mix(word: &mut u64) -> u64 {
    *word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *word;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let (mut one, mut two) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| one.word() == two.word()));
    }

    #[test]
    fn a_fork_differs_from_its_parent_and_from_a_fork_of_another_name() {
        let (mut one, mut two) = (Rng::new(7), Rng::new(7));
        let (mut disk, mut network) = (one.fork("disk"), two.fork("network"));
        assert_ne!(disk.word(), network.word());
        assert_ne!(disk.word(), one.word());
    }

    #[test]
    fn chances_happen_about_as_often_as_they_say() {
        let mut rng = Rng::new(1);
        let hits = (0..10_000).filter(|_| rng.happens(Chance::percent(20))).count();
        assert!((1800..2200).contains(&hits), "{hits} of 10,000");
        assert!(!(0..1000).any(|_| rng.happens(Chance::NEVER)));
        assert!((0..1000).all(|_| rng.happens(Chance::ALWAYS)));
    }

    #[test]
    fn waits_have_about_the_mean_they_are_asked_for() {
        let mut rng = Rng::new(3);
        let mean = Duration::from_secs(1);
        let total: Duration = (0..10_000).map(|_| rng.wait(mean)).sum();
        let average_ms = total.as_millis() / 10_000;
        assert!((900..1150).contains(&average_ms), "{average_ms} ms");
    }
}
