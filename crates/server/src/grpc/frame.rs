//! How gRPC puts a message into a request or response body: one byte that says whether it is
//! compressed, its length in four bytes (big endian), the message. Must not know which message.

use super::coding::Coding;
use crate::admission::{Admission, Admitted};
use crate::errors::Rejection;
use crate::patience::until;
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use prost::Message;
use std::time::Duration;
use tokio::time::Instant;

/// The bytes before a message.
pub(crate) const HEAD_BYTES: usize = 5;

/// What a client sends in one request, and how it may be compressed.
pub(crate) struct Body {
    stream: RecvStream,
    coding: Coding,
}

impl Body {
    pub(super) const fn new(stream: RecvStream, coding: Coding) -> Self {
        Self { stream, coding }
    }

    /// Returns when something of it has come, or none will.
    pub(super) async fn begun(&mut self) {
        // Whatever it is.
        let _ = self.stream.data().await;
    }
}

/// Reads the one message of a request, of at most `size_max` bytes, as a slice of what was
/// received wherever it came in one piece. One in pieces needs room among those that are only partly
/// there.
pub(crate) async fn receive(
    body: &mut Body,
    size_max: usize,
    receiving: &Admission,
) -> Result<Bytes, Rejection> {
    let Body { stream, coding } = body;
    let mut unread = receive_piece(stream).await?;
    if unread.len() < HEAD_BYTES {
        unread = receive_until(stream, &unread, HEAD_BYTES).await?;
    }
    let (flag, size) = head_of(&unread, size_max)?;
    let end = HEAD_BYTES + size;
    if unread.len() < end {
        let _place = receiving.admit(size)?;
        unread = receive_until(stream, &unread, end).await?;
    }
    coding.message(flag, unread.slice(HEAD_BYTES..end), size_max)
}

/// The messages of a request that has many, each of at most `size_max` bytes.
pub(crate) struct Messages<'a> {
    stream: RecvStream,
    inbox: Inbox,
    receiving: &'a Admission,
    /// How long one may take from its first byte to its last.
    patience: Duration,
    /// The one that is only partly there.
    partial: Option<Partial<'a>>,
}

/// A message of which some is there.
struct Partial<'a> {
    late_at: Instant,
    /// Its room, once it is known how large it will be.
    place: Option<Admitted<'a>>,
}

impl<'a> Messages<'a> {
    pub(crate) fn new(
        body: Body,
        size_max: usize,
        receiving: &'a Admission,
        patience: Duration,
    ) -> Self {
        let Body { stream, coding } = body;
        let inbox = Inbox::new(size_max, coding);
        Self { stream, inbox, receiving, patience, partial: None }
    }

    /// The next message; `None` if the client has said everything. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Rejection>> {
        loop {
            match self.inbox.take() {
                Ok(Some(message)) => {
                    self.partial = None;
                    return Some(Ok(message));
                }
                Ok(None) => {}
                Err(rejection) => return Some(Err(rejection)),
            }
            if let Err(rejection) = self.make_room() {
                return Some(Err(rejection));
            }
            let late_at = self.partial.as_ref().map(|partial| partial.late_at);
            let piece = tokio::select! {
                biased;
                piece = self.stream.data() => piece,
                () = until(late_at) => return Some(Err(Rejection::MessageIncomplete)),
            };
            match piece {
                Some(Ok(piece)) => {
                    // Fails only if the stream is gone, and then the next read says so.
                    let _ = self.stream.flow_control().release_capacity(piece.len());
                    self.inbox.put(&piece);
                }
                None if self.inbox.is_empty() => return None,
                Some(Err(_)) | None => return Some(Err(Rejection::MessageIncomplete)),
            }
        }
    }

    /// Notes that a message is only partly there, and takes room for all of it.
    fn make_room(&mut self) -> Result<(), Rejection> {
        if self.inbox.is_empty() {
            return Ok(());
        }
        let late_at = Instant::now() + self.patience;
        let partial = self.partial.get_or_insert(Partial { late_at, place: None });
        if partial.place.is_none()
            && let Some(size) = self.inbox.announced()?
        {
            partial.place = Some(self.receiving.admit(size)?);
        }
        Ok(())
    }
}

/// What was received of a stream's messages and not taken yet.
pub(crate) struct Inbox {
    size_max: usize,
    coding: Coding,
    received: BytesMut,
}

impl Inbox {
    pub(crate) fn new(size_max: usize, coding: Coding) -> Self {
        Self { size_max, coding, received: BytesMut::new() }
    }

    pub(crate) fn put(&mut self, piece: &[u8]) {
        self.received.extend_from_slice(piece);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How large the next message is as it is sent, if that is known.
    fn announced(&self) -> Result<Option<usize>, Rejection> {
        Ok(self.head()?.map(|(_, size)| size))
    }

    fn head(&self) -> Result<Option<(u8, usize)>, Rejection> {
        if self.received.len() < HEAD_BYTES {
            return Ok(None);
        }
        head_of(&self.received, self.size_max).map(Some)
    }

    /// The next message, if it is there.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, Rejection> {
        let Some((flag, size)) = self.head()? else { return Ok(None) };
        let end = HEAD_BYTES + size;
        if self.received.len() < end {
            return Ok(None);
        }
        let mut message = self.received.split_to(end);
        message.advance(HEAD_BYTES);
        self.coding.message(flag, message.freeze(), self.size_max).map(Some)
    }
}

/// An encoded message in the form of a response body.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    let size = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + size);
    out.extend_from_slice(&head(size));
    message.encode_raw(&mut out);
    out.freeze()
}

/// The message within [`encode`]'s result.
pub(crate) fn message_of(mut frame: Bytes) -> Bytes {
    frame.advance(HEAD_BYTES.min(frame.len()));
    frame
}

fn head(size: usize) -> [u8; HEAD_BYTES] {
    // A response of 4 GiB would not have been built: the store's answers stay far below it.
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let [a, b, c, d] = size.to_be_bytes();
    [0, a, b, c, d]
}

/// What the head of a message says: the flag in front, and how many bytes are sent.
fn head_of(received: &[u8], size_max: usize) -> Result<(u8, usize), Rejection> {
    let Some((&[flag, a, b, c, d], _)) = received.split_first_chunk() else {
        return Err(Rejection::MessageIncomplete);
    };
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    if size > size_max {
        return Err(Rejection::MessageTooLarge { size, limit: size_max });
    }
    Ok((flag, size))
}

/// Collects pieces until there are `size` bytes or more.
async fn receive_until(
    body: &mut RecvStream,
    received: &[u8],
    size: usize,
) -> Result<Bytes, Rejection> {
    let mut collected = BytesMut::with_capacity(size);
    collected.extend_from_slice(received);
    while collected.len() < size {
        collected.extend_from_slice(&receive_piece(body).await?);
    }
    Ok(collected.freeze())
}

async fn receive_piece(body: &mut RecvStream) -> Result<Bytes, Rejection> {
    let Some(Ok(piece)) = body.data().await else {
        return Err(Rejection::MessageIncomplete);
    };
    // The window opens again for what was taken. This fails only if the stream is gone already,
    // and then the next read says so.
    let _ = body.flow_control().release_capacity(piece.len());
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_head_and_the_message() {
        let frame = encode(&String::from("abc"));
        assert_eq!(frame, &b"\0\0\0\0\x05\x0a\x03abc"[..]);
        assert_eq!(message_of(frame), &b"\x0a\x03abc"[..]);
        assert_eq!(encode(&String::new()), &b"\0\0\0\0\0"[..]);
    }

    #[test]
    fn the_size_limit_is_exact_and_says_both_numbers() {
        let head = head(101);
        assert_eq!(head_of(&head, 101).unwrap(), (0, 101));
        let rejection = head_of(&head, 100).unwrap_err();
        assert!(matches!(rejection, Rejection::MessageTooLarge { size: 101, limit: 100 }));
    }

    #[test]
    fn a_short_head_is_refused() {
        assert!(matches!(head_of(&[0, 0, 0, 0], 9), Err(Rejection::MessageIncomplete)));
    }
}
