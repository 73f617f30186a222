//! Whether connections between nodes are secret, and what keeps their certificates fresh. Must not know
//! how a handshake goes.

use quorate_tls::{Notices, Tls};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// What a node's own protocol is called in the handshake (ALPN): for
/// [`TlsFiles::protocols`](quorate_tls::TlsFiles::protocols). Who wants to speak another, because it
/// took the port for somebody else's, is told so by TLS.
pub const PEER_PROTOCOL: &str = "quorate";

/// How a node's connections with other nodes are made secret: see
/// [`NodeBuilder::peer_tls`](crate::NodeBuilder::peer_tls).
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// What is shown, whom to believe, and who may stay. Its files are looked at every
    /// [`TransportOptions::tls_refresh_interval`](crate::TransportOptions::tls_refresh_interval).
    pub tls: Arc<Tls>,
    /// Whether who calls must speak TLS; otherwise it must not. It needs a certificate to show. At a
    /// [`plain_listener`](crate::NodeBuilder::plain_listener) nobody speaks it.
    pub listens: bool,
}

impl PeerTls {
    /// For those who call, if they must speak TLS.
    pub(super) fn for_callers(&self) -> Option<&Tls> {
        self.listens.then_some(self.tls.as_ref())
    }
}

/// Never ends; is aborted when the node stops. What changed holds for the next handshakes; if the new
/// files cannot be used, the old ones hold.
pub(super) async fn keep_fresh(tls: Arc<Tls>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notices = Notices::new("peers");
    loop {
        ticks.tick().await;
        let looked = Arc::clone(&tls);
        // The raft thread waits for no disk.
        match tokio::task::spawn_blocking(move || looked.refresh()).await {
            Ok(refreshed) => notices.tell(&refreshed, Instant::now()),
            Err(error) => tracing::error!(%error, "looking at the TLS files failed"),
        }
    }
}
