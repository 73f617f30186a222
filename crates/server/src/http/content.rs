//! What an HTTP answer holds: bytes that are there, or lines that follow each other for as long as
//! the client listens. Must not know what they say.

use crate::errors::Rejection;
use crate::unread::{LARGE_BYTES, Unread, UnreadPlace};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// See the module.
pub(crate) enum Content {
    /// All of it.
    Whole(Bytes),
    /// All of it, which is much: it leaves piece by piece, and has room until the last has left.
    Large {
        /// What has not left.
        rest: Bytes,
        /// Its room.
        place: UnreadPlace,
    },
    /// As it comes, for as long as the client listens.
    Lines(BoxStream<'static, Bytes>),
    /// As it comes, of something that ends: who takes none of it for too long is given up.
    Pieces(BoxStream<'static, Bytes>),
}

impl Content {
    /// How much leaves at a time, of what is much.
    const PIECE_BYTES: usize = 64 << 10;

    /// The same, with room if it is much.
    pub(crate) fn with_room(self, unread: &Arc<Unread>) -> Result<Self, Rejection> {
        match self {
            Self::Whole(rest) if rest.len() >= LARGE_BYTES => {
                let place = unread.place(rest.len())?;
                Ok(Self::Large { rest, place })
            }
            Self::Whole(_) | Self::Large { .. } | Self::Lines(_) | Self::Pieces(_) => Ok(self),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) => {
                let all = std::mem::take(bytes);
                Poll::Ready(Some(all).filter(|all| !all.is_empty()))
            }
            Self::Large { rest, .. } => {
                let piece = rest.split_to(rest.len().min(Self::PIECE_BYTES));
                Poll::Ready(Some(piece).filter(|piece| !piece.is_empty()))
            }
            Self::Lines(lines) | Self::Pieces(lines) => lines.as_mut().poll_next(cx),
        };
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(rest) | Self::Large { rest, .. } if rest.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest) | Self::Large { rest, .. } => SizeHint::with_exact(rest.len() as u64),
            Self::Lines(_) | Self::Pieces(_) => SizeHint::default(),
        }
    }
}
