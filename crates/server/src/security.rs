//! A client's way from the socket to being served: the handshake with its limits, the judgement, and
//! certificates that are kept fresh. Must not know what is said afterwards.

use crate::caller::PeerIdentity;
use crate::connection::{self, ConnectionError};
use crate::handshakes::{Handshakes, Place};
use crate::listener::{Security, Serves};
use crate::net;
use crate::service::Service;
use quorate_tls::{Identity, Judgement, Notices, Tls, Unresolved};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of every TLS connection, and of no HTTP request: a record with a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What all connections of a listener have in common.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) security: Security,
    pub(crate) serves: Serves,
    pub(crate) handshakes: Arc<Handshakes>,
}

/// Serves a client from its first byte to its last. When `stop` changes, requests in progress are
/// still answered.
pub(crate) async fn serve(
    service: &Service,
    door: &Door,
    stream: TcpStream,
    address: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    net::prepare(&stream, service.options().half_open_timeout)?;
    let tls = match &door.security {
        Security::Plain => None,
        Security::Tls(tls) => Some(tls),
        Security::Either(tls) => wants_tls(service, &stream).await?.then_some(tls),
    };
    let Some(tls) = tls else {
        let nobody = PeerIdentity::default();
        return connection::serve(service, stream, &nobody, door.serves, stop).await;
    };
    let place = door.handshakes.begin();
    let limit = service.options().handshake_timeout;
    let secure = secure(tls, stream, address.ip());
    let Some((stream, peer)) = finish(secure, place, limit, stop.clone()).await? else {
        return Ok(());
    };
    connection::serve(service, stream, &peer, door.serves, stop).await
}

/// What comes of a handshake; `None` if the server stops before that.
async fn finish<T>(
    secure: impl Future<Output = Result<T, ConnectionError>>,
    mut place: Place,
    limit: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<Option<T>, ConnectionError> {
    tokio::select! {
        done = tokio::time::timeout(limit, secure) => match done {
            Ok(done) => done.map(Some),
            Err(_) => Err(ConnectionError::HandshakeLate),
        },
        () = place.lost() => Err(ConnectionError::Crowded),
        _ = stop.changed() => Ok(None),
    }
}

/// Whether a client at a door for both begins a handshake.
async fn wants_tls(service: &Service, stream: &TcpStream) -> Result<bool, ConnectionError> {
    let mut first = [0];
    let peek = stream.peek(&mut first);
    let seen = tokio::time::timeout(service.options().header_timeout, peek).await;
    seen.map_err(|_| ConnectionError::Silent)??;
    Ok(first == [HANDSHAKE_RECORD])
}

/// The handshake and the judgement: nobody gets past without either.
async fn secure(
    tls: &Tls,
    stream: TcpStream,
    remote: IpAddr,
) -> Result<(TlsStream<TcpStream>, PeerIdentity), ConnectionError> {
    let config = tls.server().ok_or(ConnectionError::NoCertificate)?;
    let stream = TlsAcceptor::from(config).accept(stream).await;
    let stream = stream.map_err(ConnectionError::Handshake)?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let identity = match tls.judge(certificates, remote)? {
        Judgement::Known(identity) => identity,
        Judgement::Resolve(unresolved) => resolve(unresolved).await?,
    };
    let common_name = identity.common_name.map(Arc::from);
    Ok((stream, PeerIdentity { common_name, is_secure: true }))
}

/// Looks up the hosts in a certificate. One that nobody knows has no addresses.
async fn resolve(unresolved: Unresolved) -> Result<Identity, ConnectionError> {
    let mut addresses = Vec::new();
    for name in unresolved.names() {
        let found = tokio::net::lookup_host((name, 0)).await;
        addresses.extend(found.into_iter().flatten().map(|address| address.ip()));
    }
    Ok(unresolved.decide(&addresses)?)
}

/// Looks at the files of `tls` again and again, without end: what changed holds for the next
/// handshakes. If the new files cannot be used, the old ones hold.
pub async fn keep_fresh(tls: Arc<Tls>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notices = Notices::new("clients");
    loop {
        ticks.tick().await;
        let looked = Arc::clone(&tls);
        // A disk that does not answer holds up nothing but this.
        match tokio::task::spawn_blocking(move || looked.refresh()).await {
            Ok(refreshed) => notices.tell(&refreshed, Instant::now()),
            Err(error) => tracing::error!(%error, "looking at the TLS files failed"),
        }
    }
}
