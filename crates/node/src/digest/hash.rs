//! The hash of windows: 64 bits, without a key, the same on every platform. It is part of the protocol
//! and drawn in `docs/wire-format.md`. Knows nothing of entries.
//!
//! It shows accidents, and hides nothing from whoever looks for two inputs with one hash: a node that
//! lies about its replies is none of ours. Each step maps states to states one to one, so a difference
//! stays one until another difference happens to make up for it.

const START: u64 = 0x51f1_5e5d_0e0a_7c15;
const FACTOR: u64 = 0x9e6c_63d0_876a_46db;
const TURN: u32 = 29;

/// A hash under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) const fn new() -> Self {
        Self(START)
    }

    pub(super) const fn get(self) -> u64 {
        self.0
    }

    /// Takes a number in.
    pub(super) const fn number(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(TURN) ^ number).wrapping_mul(FACTOR);
    }

    /// Takes a byte string in: its length, and then eight bytes at a time, the last of them filled up
    /// with zeros.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.number(u64::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut hash = Hash::new();
        hash.bytes(bytes);
        hash.get()
    }

    /// Nodes of two builds compare these numbers: they never change.
    #[test]
    fn the_hash_of_known_bytes_is_what_the_document_says() {
        assert_eq!(of(b""), GOLDEN_EMPTY);
        assert_eq!(of(b"quorate"), GOLDEN_SHORT);
        assert_eq!(of(b"a rolling hash of replies"), GOLDEN_LONG);
    }

    const GOLDEN_EMPTY: u64 = 0x3115_1c1a_d236_f8a9;
    const GOLDEN_SHORT: u64 = 0x45a6_b2bd_760c_bdc4;
    const GOLDEN_LONG: u64 = 0xbf1f_c293_37c4_579f;

    #[test]
    fn every_flipped_bit_and_every_byte_more_or_less_shows() {
        let bytes: Vec<u8> = (0..37).collect();
        let whole = of(&bytes);
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[place] ^= 1 << bit;
                assert_ne!(of(&other), whole, "bit {bit} of byte {place}");
            }
            assert_ne!(of(&bytes[..place]), whole);
        }
        assert_ne!(of(b"ab\0"), of(b"ab"), "what fills up is not taken for bytes");
    }
}
