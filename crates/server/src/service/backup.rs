//! A backup on its way to a client: the store's bytes in pieces, then their SHA-256, made by a thread
//! of its own that is never further ahead than a few pieces. Must not know how pieces travel.

use super::Service;
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::method::Method;
use bytes::{Bytes, BytesMut};
use quorate_etcd_api::etcdserverpb::SnapshotResponse;
use quorate_kv::SnapshotError;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// As in etcd.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that wait for the client.
const PIECES_COUNT_MAX: usize = 4;
/// etcdctl takes a file for whole only if it is this many bytes, so many times, and a SHA-256.
const SECTOR_BYTES: u64 = 512;

/// A piece, or why there are no more.
type Piece = Result<SnapshotResponse, Rejection>;

/// See the module. Dropping it ends the thread.
pub(crate) struct Backup {
    pieces: mpsc::Receiver<Piece>,
}

impl Service {
    /// Begins a backup of what this member has now.
    pub(crate) fn backup(&self, caller: &Caller) -> Result<Backup, Rejection> {
        self.enter_now(Method::Snapshot, caller)?;
        let place = self.backups.clone().try_acquire_owned();
        let place = place.map_err(|_| Rejection::TooManyRequests)?;
        let backup = self.reader.backup();
        let (sender, pieces) = mpsc::channel(PIECES_COUNT_MAX);
        tracing::info!(revision = %backup.revision().get(), "sending a backup");
        tokio::task::spawn_blocking(move || send(backup, &sender, place));
        Ok(Backup { pieces })
    }
}

impl Backup {
    /// The next piece; `None` after the last. An error is the last.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }
}

fn send(backup: quorate_kv::Backup, sender: &mpsc::Sender<Piece>, place: OwnedSemaphorePermit) {
    if let Err(error) = write(backup, sender) {
        tracing::warn!(%error, "a backup was not sent to its end");
        // Nobody hears it if it was the client who ended it.
        let _ = sender.blocking_send(Err(rejection(&error)));
    }
    drop(place);
}

fn rejection(error: &io::Error) -> Rejection {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let is_damage = |cause: &SnapshotError| {
        if let SnapshotError::Engine(error) = cause { error.is_damage() } else { false }
    };
    if cause.is_some_and(is_damage) { Rejection::StateDamaged } else { Rejection::Internal }
}

fn write(backup: quorate_kv::Backup, sender: &mpsc::Sender<Piece>) -> io::Result<()> {
    let size = backup.size_bytes()?;
    let left = size.next_multiple_of(SECTOR_BYTES);
    let unsent = BytesMut::with_capacity(PIECE_BYTES);
    let mut pieces = Pieces { sender, digest: Sha256::new(), unsent, left };
    backup.write_to(&mut pieces)?;
    let padding = vec![0; usize::try_from(left - size).unwrap_or_default()];
    pieces.write_all(&padding)?;
    pieces.send()?;
    let digest = Bytes::copy_from_slice(&pieces.digest.finalize());
    deliver(sender, digest, 0)
}

/// Cuts what is written into pieces.
struct Pieces<'a> {
    sender: &'a mpsc::Sender<Piece>,
    digest: Sha256,
    unsent: BytesMut,
    /// Bytes that were not sent yet.
    left: u64,
}

impl Pieces<'_> {
    /// Sends what was written and not sent.
    fn send(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let blob = self.unsent.split().freeze();
        self.digest.update(&blob);
        self.left = self.left.saturating_sub(blob.len() as u64);
        deliver(self.sender, blob, self.left)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.unsent.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.unsent.extend_from_slice(taken);
        if self.unsent.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(taken.len())
    }

    /// Pieces are whole but for the last.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn deliver(sender: &mpsc::Sender<Piece>, blob: Bytes, left: u64) -> io::Result<()> {
    let version = crate::ETCD_CLUSTER_VERSION.to_owned();
    let piece = SnapshotResponse { header: None, remaining_bytes: left, blob, version };
    let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone");
    sender.blocking_send(Ok(piece)).map_err(gone)
}
