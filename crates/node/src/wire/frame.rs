//! Cuts a stream of bytes into frames and back: length, checksum, body. Knows nothing of what a
//! body says. The layout is drawn in `docs/wire-format.md`, and nowhere else.

use bytes::{Buf, Bytes, BytesMut};

/// Length and checksum, in bytes.
pub(crate) const HEADER_BYTES: usize = 8;

/// Bytes on a connection that are no frame. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame claims to be larger than any may be, or empty. Nothing was allocated for it.
    #[error("a frame of {got_bytes} bytes; 1 to {max_bytes} are allowed")]
    Size {
        /// The claim.
        got_bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// The bytes are not those that were sent.
    #[error(
        "the checksum of a frame of {size_bytes} bytes is {got:#010x}, expected {expected:#010x}"
    )]
    Checksum {
        /// How long the body is.
        size_bytes: usize,
        /// What the header says.
        expected: u32,
        /// What the body gives.
        got: u32,
    },
}

/// Appends a frame whose body `write` appends.
pub(crate) fn put_frame(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let (_, frame) = out.split_at_mut(start);
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let (length, checksum) = header.split_at_mut(4);
    // A body beyond 4 GiB cannot be: every limit on what goes into one is far below.
    length.copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    checksum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// Takes the next whole frame's body off the front of `received`, or says how many bytes should be
/// there before asking again makes sense.
pub(crate) fn take_frame(received: &mut BytesMut, max_bytes: usize) -> Result<Taken, FrameError> {
    let (Some(length), Some(checksum)) = (u32_at(received, 0), u32_at(received, 4)) else {
        return Ok(Taken::Need { total_bytes: HEADER_BYTES });
    };
    let got_bytes = length as usize;
    if got_bytes == 0 || got_bytes > max_bytes {
        return Err(FrameError::Size { got_bytes, max_bytes });
    }
    let total_bytes = HEADER_BYTES + got_bytes;
    if received.len() < total_bytes {
        return Ok(Taken::Need { total_bytes });
    }
    received.advance(HEADER_BYTES);
    let body = received.split_to(got_bytes).freeze();
    let got = crc32c::crc32c(&body);
    if got != checksum {
        return Err(FrameError::Checksum { size_bytes: got_bytes, expected: checksum, got });
    }
    Ok(Taken::Body(body))
}

/// What was at the front of the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A whole frame's body.
    Body(Bytes),
    /// The beginning of one.
    Need {
        /// How many bytes its end will be at.
        total_bytes: usize,
    },
}

/// What has arrived on one connection and is not read yet. A new connection needs a new one of
/// these: half a frame of the old must not become the head of something else.
#[derive(Debug)]
pub struct FrameBuffer {
    received: BytesMut,
    frame_bytes_max: usize,
}

impl FrameBuffer {
    /// Nothing has arrived. A frame whose body is larger than `frame_bytes_max` is refused.
    #[must_use]
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { received: BytesMut::new(), frame_bytes_max }
    }

    /// These bytes arrived, behind all others.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// The body of the next frame; `None` before all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if what arrived is no frame. The connection is of no use any more.
    pub fn next_body(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.take().map(|taken| match taken {
            Taken::Body(body) => Some(body),
            Taken::Need { .. } => None,
        })
    }

    /// Bytes that arrived and are not read yet: of half a frame, if [`Self::next_body`] has just
    /// said that there is none.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.received.len()
    }

    pub(crate) fn take(&mut self) -> Result<Taken, FrameError> {
        take_frame(&mut self.received, self.frame_bytes_max)
    }

    /// Where what arrives is appended.
    pub(crate) const fn received_mut(&mut self) -> &mut BytesMut {
        &mut self.received
    }

    pub(crate) const fn set_frame_bytes_max(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put_frame(&mut out, |out| out.extend_from_slice(body));
        out
    }

    #[test]
    fn a_frame_comes_out_only_when_its_last_byte_is_there() {
        let whole = framed(b"hello");
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert!(matches!(take_frame(&mut part, 100), Ok(Taken::Need { .. })), "{length}");
            assert_eq!(part.len(), length, "nothing is taken of a partial frame");
        }
        let mut all = whole;
        assert_eq!(take_frame(&mut all, 100), Ok(Taken::Body(Bytes::from_static(b"hello"))));
        assert!(all.is_empty());
    }

    #[test]
    fn frames_that_come_byte_by_byte_come_out_whole_and_in_order() {
        let mut buffer = FrameBuffer::new(100);
        let bodies = [&b"first"[..], b"second", b"3"];
        let mut got = Vec::new();
        for byte in bodies.iter().flat_map(|body| framed(body)) {
            buffer.receive(&[byte]);
            got.extend(buffer.next_body().unwrap());
        }
        assert_eq!(got, bodies);
        assert_eq!(buffer.waiting_bytes(), 0);
    }

    #[test]
    fn a_frame_at_the_limit_passes_and_one_byte_more_is_refused_by_its_header_alone() {
        assert!(matches!(take_frame(&mut framed(&[7; 64]), 64), Ok(Taken::Body(_))));
        let mut header_only = BytesMut::from(&framed(&[7; 65])[..HEADER_BYTES]);
        let refused = take_frame(&mut header_only, 64);
        assert_eq!(refused, Err(FrameError::Size { got_bytes: 65, max_bytes: 64 }));
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let refused = take_frame(&mut framed(b""), 64);
        assert_eq!(refused, Err(FrameError::Size { got_bytes: 0, max_bytes: 64 }));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_body_is_noticed(
            body in prop::collection::vec(any::<u8>(), 1..200),
            position in any::<prop::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let mut frame = framed(&body);
            let at = HEADER_BYTES + position.index(body.len());
            frame[at] ^= 1 << bit;
            prop_assert!(
                matches!(take_frame(&mut frame, 1000), Err(FrameError::Checksum { .. })),
                "a flipped bit passed the checksum"
            );
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut received = BytesMut::from(&bytes[..]);
            while let Ok(Taken::Body(_)) = take_frame(&mut received, 100) {}
        }
    }
}
