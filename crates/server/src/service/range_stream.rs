//! A range in pieces: where and when each is read, and who may have it. Must not know what a piece is
//! made of, or how it travels.

use super::{Origin, Service, kv};
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::method::Method;
use crate::unread::UnreadPlace;
use bytes::Bytes;
use prost::Message;
use quorate_kv::RangePieces;
use quorate_kv::api::{RangeRequest, RangeResponse, Request};
use tokio::time::Instant;

/// A piece ends with the key that makes it so large, in bytes: values are that much smaller, most of
/// the time, than what clients receive in one go.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// etcd's message for a piece.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Piece {
    #[prost(message, optional, tag = "1")]
    range_response: Option<RangeResponse>,
}

/// See the module. Between two pieces it holds nothing of the store.
pub(crate) struct RangeStream {
    /// Not there while a piece is being read, or once that has failed.
    pieces: Option<RangePieces>,
    /// Whether reading all of it is sure to be short.
    is_small: bool,
    /// Room for the piece that its client has not taken yet.
    _place: UnreadPlace,
}

impl Service {
    /// Begins a range in pieces: as of now, or of the revision that the request names.
    pub(crate) async fn range_stream(
        &self,
        message: Bytes,
        caller: &Caller,
        deadline: Instant,
    ) -> Result<RangeStream, Rejection> {
        let _admitted = self.admission.admit(message.len())?;
        let request = RangeRequest::decode(message)?;
        let Request::Range(request) = self.validated(Request::Range(request))? else {
            return Err(Rejection::Internal);
        };
        if quorate_kv::is_sorted(&request) {
            return Err(Rejection::StreamSorted);
        }
        if quorate_kv::is_filtered(&request) {
            return Err(Rejection::StreamFiltered);
        }
        let access = self.enter(Method::RangeStream, caller, deadline).await?;
        if request.serializable {
            self.has_some_state(deadline).await?;
        } else {
            self.confirm(deadline).await?;
        }
        let is_small = kv::is_small(&request);
        let place = self.unread.place(PIECE_BYTES)?;
        let pieces = self.reader.range_pieces(&access, request)?;
        Ok(RangeStream { pieces: Some(pieces), is_small, _place: place })
    }

    /// The next piece; `None` after the last. An error is the last.
    pub(crate) async fn next_piece(
        &self,
        stream: &mut RangeStream,
    ) -> Result<Option<Piece>, Rejection> {
        let Some(pieces) = stream.pieces.take() else { return Ok(None) };
        let origin = self.origin();
        let read = move || read(pieces, origin);
        let read = if stream.is_small {
            read()?
        } else {
            let deadline = Instant::now() + self.options.request_timeout;
            Box::pin(self.apart(deadline, read)).await?
        };
        let Some((piece, pieces)) = read else { return Ok(None) };
        stream.pieces = Some(pieces);
        Ok(Some(piece))
    }
}

fn read(
    mut pieces: RangePieces,
    origin: Origin,
) -> Result<Option<(Piece, RangePieces)>, Rejection> {
    let Some(mut response) = pieces.next(PIECE_BYTES)? else { return Ok(None) };
    if response.header.is_some() {
        origin.complete(&mut response.header);
    }
    Ok(Some((Piece { range_response: Some(response) }, pieces)))
}
