//! Requests that name the server by a URL. Go's etcd client up to 3.4, and so Kubernetes with it, sends
//! `http://host:port` as HTTP/2's `:authority` where it asks one member by itself (status, defragment,
//! hash). h2 refuses the request for it, as RFC 9113 lets it; Go's server takes anything. Here the
//! scheme is made user information on its way to h2, `http-@host:port`, in as many bytes: the host
//! stays what it was. Must not know what a request asks.

mod fields;

use bytes::{Buf, BytesMut};
use fields::{Fields, URL_BYTES};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An HTTP/2 connection, from its preface on, with such names mended in what is read.
#[derive(Debug)]
pub(crate) struct Mended<S> {
    stream: S,
    fields: Fields,
    /// The beginning of a name, of which the rest has not come; or, once that is seen, what is to be
    /// read next. No longer than what tells a URL.
    held: BytesMut,
    is_seen: bool,
}

impl<S> Mended<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, fields: Fields::new(), held: BytesMut::new(), is_seen: false }
    }

    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held.split_to(count));
        self.is_seen = self.held.has_remaining();
    }
}

impl<S: AsyncRead + Unpin> Mended<S> {
    /// Reads what came; if it ends within what tells a URL, that much is held back.
    fn poll_fresh(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = buf.filled_mut().get_mut(before..).unwrap_or_default();
        let count = self.fields.pass(fresh);
        self.held.extend_from_slice(fresh.get(count..).unwrap_or_default());
        buf.set_filled(before + count);
        Poll::Ready(Ok(()))
    }

    /// Waits until what is held back is long enough, or nothing more comes.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_seen {
            let mut room = [0; URL_BYTES];
            let missing = URL_BYTES.saturating_sub(self.held.len());
            let mut more = ReadBuf::new(room.get_mut(..missing).unwrap_or_default());
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut more))?;
            self.held.extend_from_slice(more.filled());
            let is_end = more.filled().is_empty();
            self.is_seen = is_end || self.held.len() == URL_BYTES;
            if self.is_seen && !is_end {
                self.fields.pass(&mut self.held);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let before = buf.filled().len();
            ready!(self.poll_fresh(cx, buf))?;
            if self.held.is_empty() || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        ready!(self.poll_rest(cx))?;
        self.hand_out(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::fields::samples::{connection, https, proper, url};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What is read of what comes in pieces of one size, into a buffer of another.
    async fn read(sent: &[u8], piece_bytes: usize, buffer_bytes: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(piece_bytes);
        let sent = sent.to_vec();
        let writer = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
        });
        let mut stream = Mended::new(server);
        let (mut all, mut buffer) = (Vec::new(), vec![0; buffer_bytes]);
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..count]);
        }
        writer.await.unwrap();
        all
    }

    #[tokio::test]
    async fn a_url_is_mended_wherever_what_is_read_breaks_off() {
        for ((came, wanted), name) in [(url(), "http"), (https(), "https"), (proper(), "none")] {
            let (sent, wanted) = (connection(&came), connection(&wanted));
            for piece_bytes in 1..=sent.len() {
                for buffer_bytes in [1, 3, 16, 8192] {
                    let all = read(&sent, piece_bytes, buffer_bytes).await;
                    assert_eq!(all, wanted, "{name} by {piece_bytes} into {buffer_bytes}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_a_name_is_read_to_its_last_byte() {
        let sent = connection(&url().0);
        let mended = connection(&url().1);
        for length in 0..sent.len() {
            let all = read(&sent[..length], 8192, 8192).await;
            assert_eq!(all.len(), length);
            // What is told by its first bytes is mended, and the name that was cut off may not be.
            let mut bytes = all.iter().zip(sent.iter().zip(&mended));
            assert!(bytes.all(|(byte, (sent, mended))| byte == sent || byte == mended), "{length}");
        }
    }
}
