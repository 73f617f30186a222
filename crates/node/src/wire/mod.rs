//! What nodes say to each other, as bytes. Knows no socket; the runtime and the simulator both
//! speak it. The layout is drawn in `docs/wire-format.md`, and nowhere else.

mod cursor;
mod digest;
mod fate;
mod frame;
mod hello;
mod lost;
mod members;
mod message;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod version;
#[cfg(test)]
mod version_tests;

pub use cursor::WireError;
pub use frame::{FrameBuffer, FrameError};
pub(crate) use frame::{Taken, put_frame};
pub use hello::{ADDRESS_BYTES_MAX, Channel, ClusterView, Reject, SpokenRange};
pub(crate) use hello::{
    HELLO_BYTES_MAX, Hello, LinkFrame, NEGOTIATED_SINCE, Spoken, is_link_kind, put_link_frame,
    take_link_frame,
};
pub(crate) use message::put_peer_message;
pub(crate) use version::check_said_in;
pub use version::{decode_peer_message, encode_peer_message, since};

use crate::PeerMessage;
use bytes::{BufMut, Bytes, BytesMut};
use quorate_core::{LogId, ProtocolVersion};

/// A frame around any body: length, checksum, body.
#[must_use]
pub fn frame_of(body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| out.extend_from_slice(body));
    out.freeze()
}

/// Appends a message as it goes over a connection on which `spoken` is spoken:
/// [`encode_peer_message`] in a frame.
///
/// # Errors
///
/// [`WireError::NotInVersion`] if that version does not know the message; nothing is appended then.
pub fn put_peer_frame(
    message: &PeerMessage,
    spoken: ProtocolVersion,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    check_said_in(message, spoken)?;
    put_frame(out, |out| put_peer_message(message, out));
    Ok(())
}

/// Reads what arrived on a connection as far as it makes sense, and says how many frames that were:
/// for fuzzers and other strangers to the transport. Each frame is at most `max_bytes` long.
#[must_use]
pub fn read_frames(received: &[u8], max_bytes: usize) -> usize {
    let mut buffer = FrameBuffer::new(max_bytes);
    buffer.receive(received);
    let mut count = 0;
    while let Ok(Some(body)) = buffer.next_body() {
        let is_link = body.first().is_some_and(|kind| is_link_kind(*kind));
        let is_sound = if is_link {
            take_link_frame(body).is_ok()
        } else {
            decode_peer_message(body, ProtocolVersion::NEWEST).is_ok()
        };
        if !is_sound {
            break;
        }
        count += 1;
    }
    count
}

/// Reads the body of one of the connection's own frames (a greeting, a question about the cluster
/// and its answer, a ping), and writes what was read: for fuzzers, which compare.
///
/// # Errors
///
/// [`WireError`] if the body is not exactly one such frame.
pub fn rewrite_link_frame(body: Bytes) -> Result<Bytes, WireError> {
    let mut out = BytesMut::new();
    put_link_frame(&take_link_frame(body)?, &mut out);
    Ok(out.freeze())
}

/// Appends a byte string after its length.
fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    // What is longer than 4 GiB fits no frame, and the limit on frames is checked before sending.
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

fn put_log_id(log_id: LogId, out: &mut BytesMut) {
    out.put_u64_le(log_id.term.get());
    out.put_u64_le(log_id.index.get());
}
