//! Decoders of bytes from peers and from the log. What decodes is encoded and decoded again and must
//! be the same: a decoder that takes two forms for one value would let checksums and hashes differ.

use super::input::Input;
use bytes::{Bytes, BytesMut};
use quorate::wire::{
    decode_peer_message, encode_peer_message, frame_of, read_frames, rewrite_link_frame,
};
use quorate_core::ProtocolVersion;
use quorate_wal::codec::{
    decode_configuration, decode_entry, decode_snapshot_meta, encode_configuration, encode_entry,
    encode_snapshot_meta,
};

/// A message between nodes.
pub(super) fn wire_message(data: &[u8]) {
    let newest = ProtocolVersion::NEWEST;
    let Ok(message) = decode_peer_message(Bytes::copy_from_slice(data), newest) else { return };
    let mut encoded = BytesMut::new();
    let said = encode_peer_message(&message, newest, &mut encoded);
    assert_eq!(said, Ok(()), "what was understood can be said");
    let again = decode_peer_message(encoded.freeze(), newest);
    assert_eq!(again.as_ref(), Ok(&message), "a message survives being encoded");
}

/// A frame of the connection itself: a greeting, a ping, a stranger's question who the members are,
/// and the answer.
pub(super) fn wire_link(data: &[u8]) {
    let Ok(written) = rewrite_link_frame(Bytes::copy_from_slice(data)) else { return };
    let again = rewrite_link_frame(written.clone());
    assert_eq!(again, Ok(written), "a frame survives being encoded");
}

/// What arrives on a connection: raw, or as bodies of frames whose checksums are right.
pub(super) fn wire_stream(data: &[u8]) {
    const FRAME_BYTES_MAX: usize = 4096;
    let mut input = Input(data);
    if input.flag() {
        let _ = read_frames(input.0, FRAME_BYTES_MAX);
        return;
    }
    let mut stream = BytesMut::new();
    while !input.is_empty() {
        let size = usize::from(input.byte());
        stream.extend_from_slice(&frame_of(input.bytes(size)));
    }
    let _ = read_frames(&stream, FRAME_BYTES_MAX);
}

/// What the log's files and snapshots are made of, behind their checksums.
pub(super) fn log_codec(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(entry) = decode_entry(&mut bytes.clone()) {
        let mut encoded = BytesMut::new();
        encode_entry(&entry, &mut encoded);
        assert_eq!(decode_entry(&mut encoded.freeze()), Ok(entry), "an entry survives");
    }
    if let Ok(configuration) = decode_configuration(&mut bytes.clone()) {
        let mut encoded = BytesMut::new();
        encode_configuration(&configuration, &mut encoded);
        let again = decode_configuration(&mut encoded.freeze());
        assert_eq!(again, Ok(configuration), "a configuration survives");
    }
    if let Ok(meta) = decode_snapshot_meta(&mut bytes.clone()) {
        let mut encoded = BytesMut::new();
        encode_snapshot_meta(&meta, &mut encoded);
        let again = decode_snapshot_meta(&mut encoded.freeze());
        assert_eq!(again, Ok(meta), "a snapshot's head survives");
    }
}
