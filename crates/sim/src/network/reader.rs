//! The receiving end of one connection: the shipped reader of frames, and a judge beside it who
//! knows where frames end. It must not look into messages.

use super::link::Piece;
use crate::rng::Rng;
use bytes::Bytes;
use quorate::wire::{FrameBuffer, FrameError};

/// As the transport has it.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What has been read of one connection. Every connection has its own.
#[derive(Debug)]
pub(super) struct Reader(FrameBuffer);

impl Default for Reader {
    fn default() -> Self {
        Self(FrameBuffer::new(FRAME_BYTES_MAX))
    }
}

/// The reader made something else of the bytes than they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misread {
    /// Sound bytes are refused.
    #[error("{0}")]
    Refused(#[from] FrameError),
    /// A whole frame arrived and something else than that came out.
    #[error("the end of a frame arrived, and {waiting_bytes} bytes still wait for theirs")]
    NotWhole {
        /// What the reader has not read.
        waiting_bytes: usize,
    },
    /// A message came out that had not arrived.
    #[error("a message came out of a frame after {got_bytes} bytes of its last piece's {of_bytes}")]
    TooEarly {
        /// What arrived.
        got_bytes: usize,
        /// What was sent.
        of_bytes: usize,
    },
}

impl Reader {
    /// A piece arrives; returns the body of the frame that ends with it.
    pub(super) fn read(&mut self, piece: &Piece) -> Result<Option<Bytes>, Misread> {
        self.0.receive(&piece.bytes);
        let body = self.0.next_body()?;
        let size = piece.bytes.len();
        if body.is_some() && !piece.is_end {
            return Err(Misread::TooEarly { got_bytes: size, of_bytes: size });
        }
        let waiting_bytes = self.0.waiting_bytes();
        if piece.is_end && (body.is_none() || waiting_bytes > 0) {
            return Err(Misread::NotWhole { waiting_bytes });
        }
        Ok(body)
    }

    /// The connection breaks within a piece: some of its bytes arrive, not all of them, and nothing
    /// may come out. Returns whether the reader is left with half a frame.
    pub(super) fn read_torn(mut self, piece: &Piece, rng: &mut Rng) -> Result<bool, Misread> {
        let of_bytes = piece.bytes.len();
        let got_bytes = rng.index(of_bytes);
        self.0.receive(piece.bytes.get(..got_bytes).unwrap_or_default());
        match self.0.next_body()? {
            Some(_) => Err(Misread::TooEarly { got_bytes, of_bytes }),
            None => Ok(self.0.waiting_bytes() > 0),
        }
    }
}

/// Reads a frame that arrives alone, on a connection of its own.
pub(crate) fn read_alone(frame: &Bytes) -> Result<Option<Bytes>, Misread> {
    Reader::default().read(&Piece { bytes: frame.clone(), is_end: true })
}

/// What comes out of bytes that nobody sent like this.
pub(crate) fn read_garbled(bytes: &[u8]) -> Option<Bytes> {
    let mut reader = Reader::default();
    reader.0.receive(bytes);
    // A refusal is what is hoped for.
    reader.0.next_body().ok().flatten()
}
