//! The two halves of a connection to a peer, in the clear or over TLS. In the clear that costs a look at
//! which of the two it is for each system call, and nothing else. Must not know frames.

use super::link::LinkError;
use super::secure::Secure;
use bytes::BytesMut;
use rustls::Connection;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What the other side says.
#[derive(Debug)]
pub(super) enum Reading {
    Plain(OwnedReadHalf),
    Secure(Arc<Secure>),
}

/// What we say.
#[derive(Debug)]
pub(super) enum Writing {
    Plain(OwnedWriteHalf),
    Secure(Arc<Secure>),
}

/// Both halves of a connection in the clear.
pub(super) fn plain(stream: TcpStream) -> (Reading, Writing) {
    let (read, write) = stream.into_split();
    (Reading::Plain(read), Writing::Plain(write))
}

/// Both halves of a connection over TLS, whose handshake is done and whose other end is believed.
pub(super) fn secure(stream: TcpStream, session: Connection) -> (Reading, Writing) {
    let both = Arc::new(Secure::new(stream, session));
    (Reading::Secure(Arc::clone(&both)), Writing::Secure(both))
}

impl Reading {
    /// Waits for something, and appends it as far as there is room, which there must be; 0 at the
    /// end of the connection.
    pub(super) async fn read_into(&mut self, buffer: &mut BytesMut) -> Result<usize, LinkError> {
        match self {
            Self::Plain(read) => Ok(read.read_buf(buffer).await?),
            Self::Secure(both) => both.read_into(buffer).await,
        }
    }
}

impl Writing {
    /// Whether nobody on the way can read it.
    pub(super) const fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }

    /// Takes as much as it can without waiting. The kernel need not have it yet: see
    /// [`Writing::try_flush`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(write) => write.try_write(bytes),
            Self::Secure(both) => both.try_write(bytes),
        }
    }

    /// Whether the kernel has all that was taken; `WouldBlock` if it takes no more now.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Secure(both) => both.try_flush(),
        }
    }

    /// Waits until the kernel takes something again.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(write) => write.writable().await,
            Self::Secure(both) => both.writable().await,
        }
    }

    /// Waits until the kernel has all of it.
    pub(super) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        loop {
            let taken = match rest {
                [] => self.try_flush().map(|()| 0),
                [_, ..] => self.try_write(rest),
            };
            match taken {
                Ok(_) if rest.is_empty() => return Ok(()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}
