//! Hashes that are equal on every machine and in every build: of the trace, of commands, of state.
//! Made for telling runs apart, not for keeping secrets.

/// A running 64-bit hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        Self(0x51_7c_c1_b7_27_22_0a_95)
    }
}

impl TraceHash {
    /// Adds a number.
    pub fn number(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }

    /// Adds bytes and their count, eight at a time.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            for (slot, byte) in last.iter_mut().zip(rest) {
                *slot = *byte;
            }
            self.number(u64::from_le_bytes(last));
        }
    }

    /// The hash of everything added so far.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// The hash of some bytes.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = TraceHash::default();
    hash.bytes(bytes);
    hash.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_length_and_content_apart() {
        assert_ne!(hash_of(b"ab"), hash_of(b"ba"));
        assert_ne!(hash_of(b"a"), hash_of(b"a\0"));
        assert_ne!(hash_of(b"12345678"), hash_of(b"123456789"));
        assert_eq!(hash_of(b"12345678"), hash_of(b"12345678"));
    }
}
