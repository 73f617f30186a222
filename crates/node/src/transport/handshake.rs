//! The TLS handshake with a peer, in both directions, and the judgement after it: nobody gets past
//! without either, and no frame is read before. Deadlines are the caller's; must not know what is said
//! afterwards.

use super::address::PeerAddress;
use super::link::LinkError;
use super::secure::Socket;
use super::stream::{self, Reading, Writing};
use quorate_tls::{Judgement, Tls, Unresolved};
use rustls::{ClientConnection, Connection, ServerConnection};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::{JoinError, spawn_blocking};

/// The first byte of every TLS connection, and of no frame that begins one of ours in the clear.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Lets somebody in who called from `from`, if `tls` believes it.
pub(super) async fn receive(
    tls: &Tls,
    stream: TcpStream,
    from: IpAddr,
) -> Result<(Reading, Writing), LinkError> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(LinkError::Closed);
    }
    if first != [HANDSHAKE_RECORD] {
        return Err(LinkError::SpeaksPlain);
    }
    let config = tls.server().ok_or(LinkError::NothingToShow)?;
    let session = shake(ServerConnection::new(config)?.into(), &stream).await?;
    match tls.judge(session.peer_certificates().unwrap_or_default(), from)? {
        Judgement::Known(_) => {}
        Judgement::Resolve(unresolved) => resolve(unresolved).await?,
    }
    Ok(stream::secure(stream, session))
}

/// Begins to speak with the peer at `address`, to which `stream` leads: over TLS if the address says
/// so.
pub(super) async fn call(
    tls: Option<&Arc<Tls>>,
    stream: TcpStream,
    address: PeerAddress<'_>,
) -> Result<(Reading, Writing), LinkError> {
    if !address.is_secure {
        return Ok(stream::plain(stream));
    }
    let tls = Arc::clone(tls.ok_or(LinkError::NoTls)?);
    let name = address.server_name()?;
    let asked = Arc::clone(&tls);
    // The first time it may have to read whom the system trusts.
    let config = spawn_blocking(move || asked.client()).await.map_err(broken)??;
    let session = shake(ClientConnection::new(config, name)?.into(), &stream).await?;
    tls.judge_server(session.peer_certificates().unwrap_or_default())?;
    Ok(stream::secure(stream, session))
}

/// The handshake itself.
async fn shake(mut session: Connection, stream: &TcpStream) -> Result<Connection, LinkError> {
    loop {
        while session.wants_write() {
            match session.write_tls(&mut Socket(stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        if !session.is_handshaking() {
            return Ok(session);
        }
        stream.readable().await?;
        match session.read_tls(&mut Socket(stream)) {
            Ok(0) => return Err(LinkError::GoneInHandshake),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Err(LinkError::GoneInHandshake);
            }
            Err(error) => return Err(error.into()),
        }
        let processed;
        (session, processed) = process(session).await?;
        if let Err(error) = processed {
            // The alert, which tells the other side why.
            let _unsaid = session.write_tls(&mut Socket(stream));
            return Err(error.into());
        }
    }
}

/// Signing and checking signatures takes up to a millisecond, and anybody can ask for it: heartbeats
/// do not wait for that.
async fn process(
    mut session: Connection,
) -> Result<(Connection, Result<(), rustls::Error>), LinkError> {
    let processed = spawn_blocking(move || {
        let processed = session.process_new_packets().map(drop);
        (session, processed)
    });
    processed.await.map_err(broken)
}

/// Looks up the hosts in a certificate. One that nobody knows has no addresses.
async fn resolve(unresolved: Unresolved) -> Result<(), LinkError> {
    let mut addresses = Vec::new();
    for name in unresolved.names() {
        let found = tokio::net::lookup_host((name, 0)).await;
        addresses.extend(found.into_iter().flatten().map(|address| address.ip()));
    }
    unresolved.decide(&addresses)?;
    Ok(())
}

/// Work beside the raft thread that came to no end: the runtime is going, or it panicked.
fn broken(error: JoinError) -> LinkError {
    LinkError::Io(io::Error::other(error))
}
