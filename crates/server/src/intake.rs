//! The body of a page's request, as it is collected: no more than may be, and with room among the
//! requests that are only partly here. Must not know what it says.

use crate::admission::{Admission, Admitted};
use crate::errors::Rejection;
use crate::unread::LARGE_BYTES;
use bytes::{Bytes, BytesMut};

/// Room is taken in steps of this size: how large a body will be need not be said.
const STEP_BYTES: usize = 64 << 10;

/// See the module.
pub(crate) struct Intake<'a> {
    receiving: &'a Admission,
    limit: usize,
    collected: BytesMut,
    places: Vec<Admitted<'a>>,
}

impl<'a> Intake<'a> {
    /// For a body of at most `limit` bytes.
    pub(crate) fn new(receiving: &'a Admission, limit: usize) -> Self {
        Self { receiving, limit, collected: BytesMut::new(), places: Vec::new() }
    }

    /// Takes a piece, if all may still be, and there is room for it.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<(), Rejection> {
        let size = self.collected.len() + piece.len();
        if size > self.limit {
            return Err(Rejection::MessageTooLarge { size, limit: self.limit });
        }
        while size > LARGE_BYTES + self.places.len() * STEP_BYTES {
            self.places.push(self.receiving.admit(STEP_BYTES)?);
        }
        self.collected.extend_from_slice(piece);
        Ok(())
    }

    /// All of it; the room is given back.
    pub(crate) fn finish(self) -> Bytes {
        self.collected.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_room_as_it_grows_and_gives_it_back() {
        let receiving = Admission::new(2 * STEP_BYTES, usize::MAX);
        let mut small = Intake::new(&receiving, 1 << 20);
        small.take(&[7; LARGE_BYTES]).unwrap();
        assert_eq!(receiving.bytes(), 0);
        let mut large = Intake::new(&receiving, 1 << 20);
        large.take(&vec![7; LARGE_BYTES + 1]).unwrap();
        assert_eq!(receiving.bytes(), STEP_BYTES);
        large.take(&vec![7; STEP_BYTES]).unwrap();
        assert_eq!(receiving.bytes(), 2 * STEP_BYTES);
        assert!(matches!(large.take(&vec![7; STEP_BYTES]), Err(Rejection::TooManyRequests)));
        assert_eq!(large.finish().len(), LARGE_BYTES + 1 + STEP_BYTES);
        assert_eq!(receiving.bytes(), 0);
    }

    #[test]
    fn the_limit_is_exact() {
        let receiving = Admission::new(1 << 20, usize::MAX);
        let mut intake = Intake::new(&receiving, 10);
        intake.take(&[7; 10]).unwrap();
        let refused = intake.take(&[7]);
        assert!(matches!(refused, Err(Rejection::MessageTooLarge { size: 11, limit: 10 })));
    }
}
