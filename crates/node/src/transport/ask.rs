//! Asks a node which cluster it belongs to, and who its members are: for a node that joins, and for
//! one that was away for long. Joins nothing itself; must not know a node of our own.

use super::dial::open;
use super::frames::FrameReader;
use super::link::LinkError;
use crate::wire::{
    ClusterView, LinkFrame, PROTOCOL_VERSION, put_frame, put_link_frame, take_link_frame,
};
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A configuration of 64 members of 4 KiB each fits twice, once as it is and once as it shall be.
const VIEW_BYTES_MAX: usize = 1 << 20;

/// Why a node did not say which cluster it belongs to.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {reason}")]
pub struct AskError {
    /// Who was asked.
    pub address: String,
    /// What went wrong.
    pub reason: String,
}

/// Asks the node at `address` (`host:port`, where its transport listens) which cluster it belongs
/// to. What it says may be old: it is what this one node knows. Runs in a Tokio runtime.
///
/// # Errors
///
/// [`AskError`] if nobody answers within `limit`, or it is no node of this protocol.
pub async fn ask_cluster(address: &str, limit: Duration) -> Result<ClusterView, AskError> {
    let outcome = match timeout(limit, ask(address)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LinkError::HandshakeTimeout(limit)),
    };
    outcome.map_err(|error| AskError { address: address.to_owned(), reason: error.to_string() })
}

async fn ask(address: &str) -> Result<ClusterView, LinkError> {
    let (read, mut write) = open(address).await?.into_split();
    let mut out = BytesMut::new();
    let question = LinkFrame::Ask { version: PROTOCOL_VERSION };
    put_frame(&mut out, |out| put_link_frame(&question, out));
    write.write_all(&out).await?;
    let mut reader = FrameReader::for_stranger(read, VIEW_BYTES_MAX);
    let body = reader.next().await?;
    let kind = body.first().copied().unwrap_or_default();
    match take_link_frame(body)? {
        LinkFrame::View(view) => Ok(*view),
        LinkFrame::Reject(reject) => Err(reject.into()),
        LinkFrame::Hello(_)
        | LinkFrame::Welcome { .. }
        | LinkFrame::Ping { .. }
        | LinkFrame::Pong { .. }
        | LinkFrame::Ask { .. } => Err(LinkError::OutOfPlace { kind }),
    }
}
