//! A client's socket: options that suit short requests, and a first look at what it speaks that
//! loses no byte. Must not know HTTP beyond the opening words of HTTP/2.

use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How an HTTP/2 client opens (RFC 9113, 3.4). No HTTP/1.1 request begins so.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Between two probes of an idle connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, or noise.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Sets what every client connection has: no waiting to fill packets, and an end to peers that
/// vanished.
///
/// # Errors
///
/// What the system says.
pub(crate) fn prepare(stream: &TcpStream, half_open_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive =
        socket2::TcpKeepalive::new().with_time(half_open_timeout).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(half_open_timeout))?;
    Ok(())
}

/// Reads as much as it takes to tell the protocols apart, and gives it back with the stream.
///
/// # Errors
///
/// What reading says; `UnexpectedEof` if the client closed before its first byte.
pub(crate) async fn detect<S>(mut stream: S) -> io::Result<(Protocol, Prefixed<S>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = BytesMut::with_capacity(HTTP2_PREFACE.len());
    loop {
        // Not beyond the preface: what follows is read by the protocol, into its own buffer.
        let mut rest = (&mut stream).take((HTTP2_PREFACE.len() - seen.len()) as u64);
        if rest.read_buf(&mut seen).await? == 0 {
            break;
        }
        if seen.len() == HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&seen) {
            break;
        }
    }
    if seen.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let protocol = if seen == HTTP2_PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((protocol, Prefixed { prefix: seen.freeze(), stream }))
}

/// A stream of which some bytes were read already; they are read again first.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// A stream of which `prefix` was read already.
    pub(crate) const fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.prefix.len().min(buf.remaining());
        let piece = self.prefix.copy_to_bytes(count);
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
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
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// What is detected when a client sends these pieces one by one and closes, and what the
    /// protocol reads afterwards.
    fn detected(pieces: &[&[u8]]) -> io::Result<(Protocol, Vec<u8>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            // One byte of room: every piece arrives byte by byte.
            let (mut client, server) = tokio::io::duplex(1);
            let write = async {
                for piece in pieces {
                    client.write_all(piece).await.unwrap();
                }
                drop(client);
            };
            let read = async {
                let (protocol, mut stream) = detect(server).await?;
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await?;
                Ok((protocol, all))
            };
            tokio::join!(write, read).1
        })
    }

    #[test]
    fn the_preface_is_recognised_and_read_again() {
        let (protocol, all) = detected(&[HTTP2_PREFACE, b"frames"]).unwrap();
        assert_eq!(protocol, Protocol::Http2);
        assert_eq!(all, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes");
    }

    #[test]
    fn a_request_that_shares_the_first_letters_is_http1() {
        let (protocol, all) = detected(&[b"P", b"RI", b"NT / HTTP/1.1\r\n\r\n"]).unwrap();
        assert_eq!(protocol, Protocol::Http1);
        assert_eq!(all, b"PRINT / HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_client_that_closes_within_the_preface_loses_no_byte() {
        let (protocol, all) = detected(&[b"PRI * HT"]).unwrap();
        assert_eq!((protocol, all), (Protocol::Http1, b"PRI * HT".to_vec()));
    }

    #[test]
    fn a_client_that_closes_at_once_is_an_end_of_file() {
        assert_eq!(detected(&[]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
