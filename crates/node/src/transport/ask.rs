//! Asks a node which cluster it belongs to, and who its members are: for a node that joins, and for
//! one that was away for long. Joins nothing itself; must not know a node of our own.

use super::address::PeerAddress;
use super::dial::{first_answer, open};
use super::frames::FrameReader;
use super::handshake;
use super::link::LinkError;
use crate::wire::{ClusterView, LinkFrame, Reject, put_frame, put_link_frame, take_link_frame};
use bytes::BytesMut;
use quorate_core::ProtocolVersion;
use quorate_tls::Tls;
use std::sync::Arc;
use std::time::Duration;
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

/// Asks the node at `address` which cluster it belongs to: `host:port`, where its transport listens, or
/// `https://host:port` if it speaks TLS there, which needs `tls`. Of several addresses, separated by
/// commas, the first counts at which somebody answers. What it says may be old: it is what this one node
/// knows. Runs in a Tokio runtime.
///
/// # Errors
///
/// [`AskError`] if nobody answers within `limit`, or it is no node of this protocol, or is not
/// believed; at each of its addresses.
pub async fn ask_cluster(
    address: &str,
    tls: Option<&Arc<Tls>>,
    limit: Duration,
) -> Result<ClusterView, AskError> {
    let mut failures = Vec::new();
    for place in PeerAddress::all(address) {
        let outcome = match timeout(limit, ask(place, tls)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LinkError::HandshakeTimeout(limit)),
        };
        match outcome {
            Ok(view) => return Ok(view),
            Err(error) => failures.push((place.to_string(), error)),
        }
    }
    let reason = LinkError::of_all(failures).to_string();
    Err(AskError { address: address.to_owned(), reason })
}

/// Asks in the newest version that this program speaks, and again in another one if the node knows no
/// other.
async fn ask(address: PeerAddress<'_>, tls: Option<&Arc<Tls>>) -> Result<ClusterView, LinkError> {
    let newest = ProtocolVersion::NEWEST;
    match ask_in(newest, address, tls).await {
        Err(LinkError::Rejected(Reject::Version { expected: theirs, .. }))
            if theirs.is_spoken() && theirs < newest =>
        {
            ask_in(theirs, address, tls).await
        }
        outcome => outcome,
    }
}

async fn ask_in(
    version: ProtocolVersion,
    address: PeerAddress<'_>,
    tls: Option<&Arc<Tls>>,
) -> Result<ClusterView, LinkError> {
    let stream = open(address.authority).await?;
    let (read, write) = handshake::call(tls, stream, address).await?;
    let mut out = BytesMut::new();
    let question = LinkFrame::Ask { version };
    put_frame(&mut out, |out| put_link_frame(&question, out));
    write.write_all(&out).await?;
    let mut reader = FrameReader::for_stranger(read, VIEW_BYTES_MAX);
    let body = first_answer(&mut reader, address).await?;
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
