//! A connection over TLS after its handshake. Encrypts and decrypts where the plain connection would
//! read and write, on the raft thread, in steps that never wait. Must not know frames, or who is at the
//! other end.

use super::link::LinkError;
use crate::runtime::lock;
use bytes::{Buf, BytesMut};
use rustls::Connection;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::sync::Mutex;
use tokio::net::TcpStream;

/// Read from the kernel in one go.
const INBOX_BYTES: usize = 64 << 10;

/// Encrypted and not yet taken by the kernel: what is said beyond that waits in the clear.
const HELD_BYTES_MAX: usize = 256 << 10;

/// Both halves. All users are on the raft thread; the lock is never contended.
#[derive(Debug)]
pub(super) struct Secure {
    socket: TcpStream,
    session: Mutex<Session>,
}

#[derive(Debug)]
struct Session {
    tls: Connection,
    /// Received, and not decrypted yet.
    inbox: BytesMut,
}

/// A socket as rustls wants it: it never waits.
#[derive(Debug)]
pub(super) struct Socket<'a>(pub(super) &'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Secure {
    pub(super) fn new(socket: TcpStream, mut tls: Connection) -> Self {
        tls.set_buffer_limit(Some(HELD_BYTES_MAX));
        Self { socket, session: Mutex::new(Session { tls, inbox: BytesMut::new() }) }
    }

    pub(super) async fn read_into(&self, buffer: &mut BytesMut) -> Result<usize, LinkError> {
        loop {
            if let Some(count) = self.take(buffer)? {
                return Ok(count);
            }
            self.socket.readable().await?;
            if self.receive()? {
                return Ok(0);
            }
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = lock(&self.session);
        session.push(&self.socket)?;
        let count = session.tls.writer().write(bytes)?;
        if count == 0 && !bytes.is_empty() {
            // The session is spent. Who asked again and again would never get away.
            return Err(ErrorKind::WriteZero.into());
        }
        match session.push(&self.socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(count),
        }
    }

    pub(super) fn try_flush(&self) -> io::Result<()> {
        lock(&self.session).push(&self.socket)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// What there is in the clear; `Some(0)` once the other side has said that nothing more comes,
    /// `None` if more must be received first.
    fn take(&self, buffer: &mut BytesMut) -> Result<Option<usize>, LinkError> {
        let mut session = lock(&self.session);
        let taken = session.take(buffer);
        // An alert that says what is wrong, or new keys that were asked for. What the kernel does not
        // take goes before what is written next.
        let _later = session.push(&self.socket);
        taken
    }

    /// Takes what the kernel has; whether that is the end of the connection.
    fn receive(&self) -> io::Result<bool> {
        let mut session = lock(&self.session);
        let inbox = &mut session.inbox;
        inbox.reserve(INBOX_BYTES);
        match self.socket.try_read_buf(inbox) {
            Ok(count) => Ok(count == 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let mut session = lock(&self.session);
        session.tls.send_close_notify();
        // A farewell is worth no wait.
        let _unsaid = session.push(&self.socket);
    }
}

impl Session {
    /// Gives the kernel what is encrypted.
    fn push(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut Socket(socket))? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<usize>, LinkError> {
        let before_bytes = buffer.len();
        loop {
            let is_over = self.copy(buffer)?;
            let count = buffer.len() - before_bytes;
            if is_over || buffer.len() == buffer.capacity() {
                return Ok(Some(count));
            }
            if self.inbox.is_empty() {
                return Ok((count > 0).then_some(count));
            }
            self.decrypt()?;
        }
    }

    /// Moves what is decrypted into the room that there is. Whether nothing more will come.
    fn copy(&mut self, buffer: &mut BytesMut) -> io::Result<bool> {
        let mut reader = self.tls.reader();
        loop {
            let room_bytes = buffer.capacity() - buffer.len();
            if room_bytes == 0 {
                return Ok(false);
            }
            let count = match reader.fill_buf() {
                Ok([]) => return Ok(true),
                Ok(chunk) => {
                    let piece = chunk.get(..room_bytes).unwrap_or(chunk);
                    buffer.extend_from_slice(piece);
                    piece.len()
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            reader.consume(count);
        }
    }

    /// Decrypts a part of what was received. All of it that is decrypted must have been taken away
    /// before: rustls holds little.
    fn decrypt(&mut self) -> Result<(), LinkError> {
        let mut received = self.inbox.as_ref();
        let count = self.tls.read_tls(&mut received)?;
        self.inbox.advance(count);
        self.tls.process_new_packets()?;
        if count == 0 { Err(LinkError::Closed) } else { Ok(()) }
    }
}
