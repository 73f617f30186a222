//! Bytes read as choices and numbers. Never runs out: after the end everything is 0.

/// The rest of an input.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

/// Numbers that decoders and counters stumble over.
const STUMBLING_BLOCKS: [u64; 8] = [
    u64::MAX,
    u64::MAX - 1,
    1 << 63,
    (1 << 63) - 1,
    1 << 32,
    (1 << 32) - 1,
    1 << 31,
    u64::MAX - (1 << 32),
];

impl<'a> Input<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Mostly a small number, at times one of those that code forgets.
    pub(super) fn number(&mut self) -> u64 {
        let byte = self.byte();
        match byte.checked_sub(248) {
            Some(which) => STUMBLING_BLOCKS.get(usize::from(which)).copied().unwrap_or_default(),
            None => u64::from(byte % 12),
        }
    }

    /// Up to `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
