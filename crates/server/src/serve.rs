//! The server's life: accept, serve each client in a task of its own, stop without breaking off
//! what is in progress. Must not know what a client says.

use crate::connection::ConnectionError;
use crate::handshakes::Handshakes;
use crate::listener::Listener;
use crate::options::ServerOptions;
use crate::security::{self, Door};
use crate::service::Service;
use quorate::Node;
use quorate_kv::Reader;
use quorate_tls::Tls;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

/// How long to wait before accepting again when the system has no more descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Why a server ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There was nothing to listen on.
    #[error("no client address to listen on")]
    NoListener,
    /// A listener is to be secure, and has no certificate to show.
    #[error("cannot listen on TLS for {address}: KeyFile and CertFile are not presented")]
    NoCertificate {
        /// Where it listens.
        address: SocketAddr,
    },
    /// A listener cannot be used.
    #[error("cannot listen for clients")]
    Listener(#[source] io::Error),
}

/// Serves clients on `listeners` until `shutdown` is ready; then accepts no more, lets requests in
/// progress end for [`ServerOptions::drain_timeout`] at most, and returns. The node is not stopped:
/// that is its owner's to do afterwards.
///
/// Runs within a current-thread or a multi-thread runtime with IO and time enabled.
///
/// # Errors
///
/// [`ServeError`] if there is nothing to listen on, or a listener cannot be used.
pub async fn serve(
    listeners: Vec<Listener>,
    node: Node,
    reader: Reader,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    let drain_timeout = options.drain_timeout;
    let service = Arc::new(Service::new(node, reader, options));
    let (stop, stopped) = watch::channel(false);
    let mut acceptors = JoinSet::new();
    let handshakes = Handshakes::new(service.options().handshakes_count_max);
    for tls in distinct(&listeners) {
        acceptors.spawn(security::keep_fresh(tls, service.options().tls_refresh_interval));
    }
    for Listener { socket, security, serves } in listeners {
        let address = socket.local_addr().map_err(ServeError::Listener)?;
        if security.tls().is_some_and(|tls| tls.server().is_none()) {
            return Err(ServeError::NoCertificate { address });
        }
        tracing::info!(%address, is_secure = security.tls().is_some(), "serving clients");
        let door = Arc::new(Door { security, serves, handshakes: Arc::clone(&handshakes) });
        acceptors.spawn(accept(socket, door, Arc::clone(&service), stopped.clone()));
    }
    drop(stopped);
    let feeding = Arc::clone(&service);
    let following = Arc::clone(&service);
    let publishing = Arc::clone(&service);
    let compacting = Arc::clone(&service);
    acceptors.spawn(async move { feeding.feed_watches().await });
    acceptors.spawn(async move { following.follow_leader().await });
    acceptors.spawn(async move { publishing.publish_member().await });
    let (renewing, expiring) = (Arc::clone(&service), Arc::clone(&service));
    acceptors.spawn(async move { renewing.renew_leases().await });
    acceptors.spawn(async move { expiring.expire_leases().await });
    let running = Arc::clone(&service);
    acceptors.spawn(async move { running.run_errands().await });
    acceptors.spawn(async move { compacting.compact_by_itself().await });
    let looking = Arc::clone(&service);
    acceptors.spawn(async move { looking.watch_disk().await });
    shutdown.await;
    // Every acceptor and connection holds a receiver; the channel closes when the last has ended.
    let _ = stop.send(true);
    service.stop_streams();
    let drain = async {
        stop.closed().await;
        service.recipes_settled().await;
    };
    if tokio::time::timeout(drain_timeout, drain).await.is_err() {
        tracing::warn!(connections = service.connections(), "stopped with requests in progress");
    }
    acceptors.shutdown().await;
    Ok(())
}

/// The settings of the secure listeners, each once.
fn distinct(listeners: &[Listener]) -> Vec<Arc<Tls>> {
    let mut all: Vec<Arc<Tls>> = Vec::new();
    for tls in listeners.iter().filter_map(|listener| listener.security.tls()) {
        if !all.iter().any(|known| Arc::ptr_eq(known, tls)) {
            all.push(Arc::clone(tls));
        }
    }
    all
}

/// Accepts from one listener until told to stop. Its connections end with it, at the latest.
async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    service: Arc<Service>,
    stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stopping = stop.clone();
    let mut stopping = pin!(stopping.changed());
    loop {
        tokio::select! {
            _ = stopping.as_mut() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    start(&mut connections, &service, &door, stream, address, &stop);
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting a client failed");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            Some(end) = connections.join_next(), if !connections.is_empty() => note(end),
        }
    }
    drop(listener);
    while let Some(end) = connections.join_next().await {
        note(end);
    }
}

/// How a connection ended is logged where it ends; a panic has nobody else to tell of it.
fn note(end: Result<(), JoinError>) {
    if let Err(error) = end {
        tracing::error!(%error, "serving a client failed");
    }
}

fn start(
    connections: &mut JoinSet<()>,
    service: &Arc<Service>,
    door: &Arc<Door>,
    stream: TcpStream,
    address: SocketAddr,
    stop: &watch::Receiver<bool>,
) {
    let Some(place) = service.take_connection() else {
        tracing::debug!(%address, "rejected connection on client endpoint: too many");
        return;
    };
    let (service, door, stop) = (Arc::clone(service), Arc::clone(door), stop.clone());
    connections.spawn(async move {
        if let Err(error) = security::serve(&service, &door, stream, address, stop).await {
            complain(address, &error);
        }
        drop(place);
    });
}

/// Only who was believed can cause a line that is seen: nobody else can fill a log.
fn complain(address: SocketAddr, error: &ConnectionError) {
    if let ConnectionError::Stranger(stranger) = error {
        tracing::warn!(%address, error = %stranger, "rejected connection on client endpoint");
        return;
    }
    tracing::debug!(
        %address,
        error = error as &dyn std::error::Error,
        "rejected connection on client endpoint"
    );
}
