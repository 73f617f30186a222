//! What nodes say to each other, as bytes. Knows no socket; the runtime and the simulator both
//! speak it. The layout is drawn in `docs/wire-format.md`, and nowhere else.

mod cursor;
mod fate;
mod frame;
mod hello;
mod message;
#[cfg(test)]
mod tests;

pub use cursor::WireError;
pub use frame::FrameError;
pub(crate) use frame::{Taken, put_frame, take_frame};
pub(crate) use hello::{
    ADDRESS_BYTES_MAX, HELLO_BYTES_MAX, Hello, LinkFrame, PROTOCOL_VERSION, is_link_kind,
    put_link_frame, take_link_frame,
};
pub use hello::{Channel, Reject};
pub use message::{decode_peer_message, encode_peer_message};

use bytes::{BufMut, BytesMut};
use quorate_core::LogId;

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
