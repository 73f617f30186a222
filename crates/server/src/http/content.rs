//! What an HTTP answer holds: bytes that are there, or lines that follow each other for as long as
//! the client listens. Must not know what they say.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// See the module.
pub(crate) enum Content {
    /// All of it.
    Whole(Bytes),
    /// As it comes.
    Lines(BoxStream<'static, Bytes>),
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
            Self::Lines(lines) => lines.as_mut().poll_next(cx),
        };
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Lines(_) => SizeHint::default(),
        }
    }
}
