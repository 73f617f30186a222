//! Things that are kept once and named by a number, and sets of hashes. Knows nothing of what the
//! things are. Nothing is ever iterated over, so the order of the slots shows nowhere.

/// Numbers spread over 64 bits, one to one.
pub(super) const fn spread(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A length or place as a number.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A number as a place.
pub(super) fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A set of hashes: open addressing, at most three quarters full, 8 bytes a slot.
#[derive(Debug)]
pub(super) struct HashSet64 {
    /// 0 is a free slot.
    slots: Vec<u64>,
    count: usize,
}

impl HashSet64 {
    pub(super) fn new() -> Self {
        Self { slots: vec![0; 1 << 12], count: 0 }
    }

    /// Adds a hash. Returns whether it was not there.
    pub(super) fn insert(&mut self, hash: u64) -> bool {
        if self.count * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let hash = hash.max(1);
        let at = slot_of(&self.slots, hash);
        match self.slots.get_mut(at) {
            Some(slot) if *slot == 0 => {
                *slot = hash;
                self.count += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 2];
        for hash in self.slots.iter().copied().filter(|hash| *hash != 0) {
            let at = slot_of(&slots, hash);
            if let Some(slot) = slots.get_mut(at) {
                *slot = hash;
            }
        }
        self.slots = slots;
    }
}

/// Where `hash` is, or would go. The length of `slots` is a power of two.
fn slot_of(slots: &[u64], hash: u64) -> usize {
    let mask = slots.len() - 1;
    let mut at = usize::try_from(hash >> 7).unwrap_or(0) & mask;
    while slots.get(at).is_some_and(|slot| *slot != 0 && *slot != hash) {
        at = (at + 1) & mask;
    }
    at
}

/// From hashes to numbers.
#[derive(Debug)]
pub(super) struct HashMap64 {
    keys: Vec<u64>,
    values: Vec<u32>,
    count: usize,
}

impl HashMap64 {
    pub(super) fn new() -> Self {
        Self { keys: vec![0; 1 << 12], values: vec![0; 1 << 12], count: 0 }
    }

    pub(super) fn get(&self, hash: u64) -> Option<u32> {
        let hash = hash.max(1);
        let at = slot_of(&self.keys, hash);
        let is_there = self.keys.get(at).is_some_and(|key| *key == hash);
        is_there.then(|| self.values.get(at).copied()).flatten()
    }

    pub(super) fn insert(&mut self, hash: u64, value: u32) {
        if self.count * 4 >= self.keys.len() * 3 {
            self.grow();
        }
        self.count += 1;
        self.put(hash.max(1), value);
    }

    fn put(&mut self, hash: u64, value: u32) {
        let at = slot_of(&self.keys, hash);
        if let (Some(key), Some(slot)) = (self.keys.get_mut(at), self.values.get_mut(at)) {
            (*key, *slot) = (hash, value);
        }
    }

    fn grow(&mut self) {
        let size = self.keys.len() * 2;
        let keys = std::mem::replace(&mut self.keys, vec![0; size]);
        let values = std::mem::replace(&mut self.values, vec![0; size]);
        for (hash, value) in keys.into_iter().zip(values).filter(|(hash, _)| *hash != 0) {
            self.put(hash, value);
        }
    }
}

/// Things by number; equal hashes mean equal things.
#[derive(Debug)]
pub(super) struct Pool<T> {
    things: Vec<(u64, T)>,
    numbers: HashMap64,
}

impl<T> Pool<T> {
    pub(super) fn new() -> Self {
        Self { things: Vec::new(), numbers: HashMap64::new() }
    }

    /// The number of a thing, which is kept if it is new.
    pub(super) fn keep(&mut self, hash: u64, thing: impl FnOnce() -> T) -> u32 {
        if let Some(known) = self.numbers.get(hash) {
            return known;
        }
        let new = number(self.things.len());
        self.numbers.insert(hash, new);
        self.things.push((hash, thing()));
        new
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.things.get(place(number)).map(|(_, thing)| thing)
    }

    pub(super) fn find(&self, hash: u64) -> Option<&T> {
        self.get(self.numbers.get(hash)?)
    }

    pub(super) fn hash(&self, number: u32) -> u64 {
        self.things.get(place(number)).map_or(0, |(hash, _)| *hash)
    }

    pub(super) fn len(&self) -> usize {
        self.things.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_set_and_a_map_of_hashes_answer_like_a_tree() {
        let (mut set, mut map, mut tree) = (HashSet64::new(), HashMap64::new(), BTreeMap::new());
        for value in 0..40_000_u32 {
            let hash = spread(u64::from(value % 25_000));
            let is_new = !tree.contains_key(&hash);
            assert_eq!(map.get(hash), tree.get(&hash).copied());
            assert_eq!(set.insert(hash), is_new);
            if is_new {
                map.insert(hash, value);
                tree.insert(hash, value);
            }
        }
        assert!(tree.iter().all(|(hash, value)| map.get(*hash) == Some(*value)));
    }

    #[test]
    fn a_pool_keeps_equal_things_once() {
        let mut pool = Pool::new();
        assert_eq!((pool.keep(7, || "a"), pool.keep(8, || "b"), pool.keep(7, || "c")), (0, 1, 0));
        assert_eq!((pool.get(0), pool.hash(1), pool.len()), (Some(&"a"), 8, 2));
    }
}
