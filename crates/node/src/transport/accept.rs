//! The listening side: lets in who belongs here, turns away everybody else with a reason, tells those
//! who ask which cluster this is, and reads what peers send.

use super::frames::FrameReader;
use super::handshake;
use super::hub::{Hub, Peer};
use super::link::LinkError;
use super::security::PeerTls;
use super::stream::{self, Writing};
use super::unfinished::Place;
use crate::wire::{
    Channel, FrameError, HELLO_BYTES_MAX, Hello, LinkFrame, NEGOTIATED_SINCE, Reject, Spoken,
    is_link_kind, put_frame, put_link_frame, take_link_frame,
};
use bytes::BytesMut;
use quorate_core::{NodeId, ProtocolVersion};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// How long to leave the listener alone after it failed: it is out of file descriptors, and asking
/// again at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where callers come in.
#[derive(Debug)]
pub(crate) struct Entrance<Socket> {
    pub(crate) socket: Socket,
    /// Nobody speaks TLS here, whatever [`PeerTls::listens`] says.
    pub(crate) is_plain: bool,
}

impl Entrance<std::net::TcpListener> {
    /// The same for the runtime that this is called in; the socket must not block.
    pub(crate) fn opened(self) -> io::Result<Entrance<TcpListener>> {
        let Self { socket, is_plain } = self;
        Ok(Entrance { socket: TcpListener::from_std(socket)?, is_plain })
    }
}

/// Never ends; is aborted when the node stops.
pub(super) async fn keep_accepting(hub: Arc<Hub>, entrance: Entrance<TcpListener>) {
    let Entrance { socket, is_plain } = entrance;
    loop {
        match socket.accept().await {
            Ok((stream, from)) => {
                let caller = Caller { stream, from, is_plain };
                let receive = |place| receive(Arc::clone(&hub), caller, place);
                if hub.unfinished.start(receive) {
                    let node = hub.identity.node_id;
                    tracing::debug!(%node, "hung up on a caller: too many have said nothing yet");
                }
            }
            Err(error) => {
                let node = hub.identity.node_id;
                tracing::warn!(%node, "no connection accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Somebody who has said nothing yet.
struct Caller {
    stream: TcpStream,
    from: SocketAddr,
    is_plain: bool,
}

async fn receive(hub: Arc<Hub>, caller: Caller, place: Place) {
    let (node, from) = (hub.identity.node_id, caller.from);
    let limit = hub.options.handshake_timeout;
    let admitted = match timeout(limit, admit(&hub, caller)).await {
        Ok(admitted) => admitted,
        Err(_) => Err(LinkError::HandshakeTimeout(limit)),
    };
    drop(place);
    match admitted {
        Ok(None) => tracing::debug!(%node, %from, "a caller was told which cluster this is"),
        Ok(Some(inbound)) => {
            let (peer, channel, version) = (inbound.from, inbound.channel, inbound.version);
            // A task of its own, so that a newer connection can end it.
            let task = tokio::spawn(serve(Arc::clone(&hub), inbound));
            hub.inbound_opened(peer, channel, version, task.abort_handle());
            if let Ok(error) = task.await {
                if error.is_goodbye() {
                    tracing::debug!(%node, %peer, %channel, "the peer hung up: {error}");
                } else {
                    tracing::warn!(%node, %peer, %channel, %from, "hung up on the peer: {error}");
                }
            }
            hub.lost(peer, channel);
        }
        Err(error) if error.is_goodbye() => {
            tracing::debug!(%node, %from, "a caller left without a word: {error}");
        }
        Err(error) => refuse(&hub, from, &error),
    }
}

fn refuse(hub: &Hub, from: SocketAddr, error: &LinkError) {
    let (node, reason) = (hub.identity.node_id, error.to_string());
    if hub.refusals.is_news(from.ip(), &reason, Instant::now()) {
        tracing::warn!(%node, %from, "a caller was not let in: {reason}");
    } else {
        tracing::debug!(%node, %from, "a caller was not let in: {reason}");
    }
}

/// A connection from a peer that was let in.
struct Inbound {
    from: NodeId,
    /// The disk that it has.
    storage_id: u128,
    channel: Channel,
    /// The newest protocol that it speaks.
    version: ProtocolVersion,
    reader: FrameReader,
    write: Writing,
}

/// Somebody who only asks is answered, and not let in.
async fn admit(hub: &Arc<Hub>, caller: Caller) -> Result<Option<Inbound>, LinkError> {
    let Caller { stream, from, is_plain } = caller;
    stream.set_nodelay(true)?;
    let tls = hub.security.as_ref().and_then(PeerTls::for_callers).filter(|_| !is_plain);
    let (read, write) = match tls {
        Some(tls) => handshake::receive(tls, stream, from.ip()).await?,
        None => stream::plain(stream),
    };
    let mut reader = FrameReader::for_stranger(read, HELLO_BYTES_MAX);
    let hello = match take_first(&mut reader).await? {
        First::Hello(hello) => hello,
        First::Ask { version } => return answer(hub, &write, version).await.map(|()| None),
    };
    let peer: Arc<Peer> = match hub.judge(&hello) {
        Ok(peer) => peer,
        Err(reject) => {
            reply(&write, &LinkFrame::Reject(told(reject.clone(), hello.version))).await?;
            if let Reject::Version { .. } = reject {
                return Err(LinkError::OtherVersion { peer: hello.from, reject });
            }
            return Err(reject.into());
        }
    };
    reader.admit(&hub.options, Arc::clone(&peer.control.metrics));
    let Hello { from, storage_id, channel, version, .. } = hello;
    let newest = hub.identity.newest;
    let spoken = (version.min(newest) >= NEGOTIATED_SINCE)
        .then_some(Spoken { version: version.min(newest), newest });
    reply(&write, &LinkFrame::Welcome { storage_id: hub.identity.storage_id, spoken }).await?;
    Ok(Some(Inbound { from, storage_id, channel, version, reader, write }))
}

/// A reject as this caller can read it: one of a program that does not negotiate knows no range.
fn told(reject: Reject, to: ProtocolVersion) -> Reject {
    if let Reject::Version { expected, got, .. } = reject
        && to < NEGOTIATED_SINCE
    {
        return Reject::Version { expected, got, range: None };
    }
    reject
}

/// What a caller may begin with.
enum First {
    Hello(Hello),
    Ask { version: ProtocolVersion },
}

async fn take_first(reader: &mut FrameReader) -> Result<First, LinkError> {
    let body = reader.next().await.map_err(recognise)?;
    let kind = body.first().copied().unwrap_or_default();
    match take_link_frame(body)? {
        LinkFrame::Hello(hello) => Ok(First::Hello(hello)),
        LinkFrame::Ask { version } => Ok(First::Ask { version }),
        LinkFrame::Welcome { .. }
        | LinkFrame::Reject(_)
        | LinkFrame::Ping { .. }
        | LinkFrame::Pong { .. }
        | LinkFrame::View(_) => Err(LinkError::OutOfPlace { kind }),
    }
}

/// What cannot be a first frame may be the beginning of a TLS handshake: a record of that kind, of TLS.
fn recognise(error: LinkError) -> LinkError {
    const RECORD: [u8; 2] = [0x16, 0x03];
    if let LinkError::Frame(FrameError::Size { got_bytes, .. }) = error
        && got_bytes.to_le_bytes().starts_with(&RECORD)
    {
        return LinkError::SpeaksTls;
    }
    error
}

async fn answer(hub: &Hub, write: &Writing, version: ProtocolVersion) -> Result<(), LinkError> {
    let frame = match hub.check_version(version) {
        Ok(()) => LinkFrame::View(Box::new(hub.view())),
        Err(reject) => LinkFrame::Reject(told(reject, version)),
    };
    reply(write, &frame).await
}

async fn reply(write: &Writing, frame: &LinkFrame) -> Result<(), LinkError> {
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| put_link_frame(frame, out));
    Ok(write.write_all(&out).await?)
}

async fn serve(hub: Arc<Hub>, mut inbound: Inbound) -> LinkError {
    loop {
        if inbound.channel == Channel::Bulk {
            hub.gate.passed().await;
        }
        if let Err(error) = step(&hub, &mut inbound).await {
            return error;
        }
    }
}

async fn step(hub: &Hub, inbound: &mut Inbound) -> Result<(), LinkError> {
    let body = inbound.reader.next().await?;
    let kind = body.first().copied().unwrap_or_default();
    if !is_link_kind(kind) {
        return hub.received(inbound.from, inbound.storage_id, inbound.version, body);
    }
    match take_link_frame(body)? {
        LinkFrame::Ping { token } => reply(&inbound.write, &LinkFrame::Pong { token }).await,
        LinkFrame::Hello(_)
        | LinkFrame::Welcome { .. }
        | LinkFrame::Reject(_)
        | LinkFrame::Pong { .. }
        | LinkFrame::Ask { .. }
        | LinkFrame::View(_) => Err(LinkError::OutOfPlace { kind }),
    }
}
