//! Keeps one connection to a peer open: dials, introduces us, and starts over when it breaks. A peer with
//! several addresses is called at each in turn, from the one that led there last.

use super::absence::Absence;
use super::address::PeerAddress;
use super::backoff::Backoff;
use super::frames::FrameReader;
use super::handshake;
use super::hub::Hub;
use super::link::{Link, LinkError, of_each};
use super::stream::Writing;
use crate::wire::{
    ADDRESS_BYTES_MAX, Channel, HELLO_BYTES_MAX, LinkFrame, NEGOTIATED_SINCE, Reject, Spoken,
    WireError, put_frame, put_link_frame, take_link_frame,
};
use bytes::{Bytes, BytesMut};
use quorate_core::ProtocolVersion;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Never ends; is aborted when the peer is forgotten.
pub(super) async fn keep_connected(hub: Arc<Hub>, link: Arc<Link>) {
    let options = &hub.options;
    let mut backoff = Backoff::new(options.reconnect_delay_min, options.reconnect_delay_max);
    let (mut complaint, mut address) = (String::new(), String::new());
    let mut absence = Absence::default();
    loop {
        let error = match connect(&hub, &link, &mut address).await {
            Ok(connected) => {
                backoff.reset();
                complaint.clear();
                let (node, is_secure) = (hub.identity.node_id, connected.write.is_secure());
                let (peer, channel, version) = (link.peer, link.channel, connected.spoken);
                tracing::info!(%node, %peer, %channel, %version, address, is_secure, "connected");
                let began = Instant::now();
                let error = serve(&hub, &link, connected).await;
                absence = Absence::after(began.elapsed(), options.reconnect_delay_min);
                error
            }
            Err(error) => {
                if absence.is_shown_by(&error) {
                    hub.gone(link.peer, link.channel);
                }
                error
            }
        };
        if link.down() {
            hub.lost(link.peer, link.channel);
        }
        complain(&hub, &link, &error, &mut complaint);
        for reject in error.rejects() {
            hub.turned_away(link.peer, reject);
        }
        let is_rejected = error.is_rejected();
        if !is_rejected && absence.is_urgent() {
            continue;
        }
        let pause = if is_rejected { options.reconnect_delay_max } else { backoff.pause() };
        tokio::select! {
            () = sleep(pause) => {}
            () = link.kick.notified() => backoff.reset(),
        }
    }
}

/// Says why there is no connection, once for each reason in a row.
fn complain(hub: &Hub, link: &Link, error: &LinkError, last: &mut String) {
    let (node, peer, channel) = (hub.identity.node_id, link.peer, link.channel);
    let address = hub.address_of(peer).unwrap_or_default();
    let complaint = error.to_string();
    if complaint == *last {
        tracing::debug!(%node, %peer, %channel, address, "still no connection: {complaint}");
    } else {
        tracing::warn!(%node, %peer, %channel, address, "no connection: {complaint}");
    }
    *last = complaint;
}

/// A connection to a peer that has let us in.
struct Connected {
    reader: FrameReader,
    write: Writing,
    /// What is spoken on it.
    spoken: ProtocolVersion,
}

/// Calls the peer at its addresses, from `last` on, until it answers at one; that is `last` then.
async fn connect(hub: &Hub, link: &Link, last: &mut String) -> Result<Connected, LinkError> {
    let addresses = hub.address_of(link.peer).unwrap_or_default();
    let mut failures = Vec::new();
    for address in PeerAddress::in_turn(&addresses, last) {
        match connect_to(hub, link, address).await {
            Ok(connected) => {
                *last = address.to_string();
                tell_of_others(hub, link, &failures);
                return Ok(connected);
            }
            Err(error) => failures.push((address.to_string(), error)),
        }
        // It has moved, and the others may take long.
        if hub.address_of(link.peer).as_ref() != Some(&addresses) {
            break;
        }
    }
    Err(LinkError::of_all(failures))
}

/// A peer that is reached all the same may have an address that leads nowhere.
fn tell_of_others(hub: &Hub, link: &Link, failures: &[(String, LinkError)]) {
    if !failures.is_empty() {
        let (node, peer, channel) = (hub.identity.node_id, link.peer, link.channel);
        let failures = of_each(failures);
        tracing::warn!(%node, %peer, %channel, "reached at another of its addresses: {failures}");
    }
}

/// Calls with the newest version that we speak, and again with another one if the peer knows no other:
/// one that does not negotiate names its own when it turns us away.
async fn connect_to(
    hub: &Hub,
    link: &Link,
    address: PeerAddress<'_>,
) -> Result<Connected, LinkError> {
    let (oldest, newest) = (hub.oldest(), hub.identity.newest);
    match connect_in(hub, link, address, newest).await {
        Err(LinkError::Rejected(Reject::Version { expected: theirs, .. })) if theirs < newest => {
            if theirs < oldest {
                return Err(LinkError::TooOld { theirs, ours: oldest });
            }
            connect_in(hub, link, address, theirs).await
        }
        outcome => outcome,
    }
}

async fn connect_in(
    hub: &Hub,
    link: &Link,
    address: PeerAddress<'_>,
    version: ProtocolVersion,
) -> Result<Connected, LinkError> {
    let limit = hub.options.connect_timeout;
    let stream = match timeout(limit, open(address.authority)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(LinkError::ConnectTimeout(limit)),
    };
    let limit = hub.options.handshake_timeout;
    match timeout(limit, introduce(hub, link, stream, address, version)).await {
        Ok(introduced) => introduced,
        Err(_) => Err(LinkError::HandshakeTimeout(limit)),
    }
}

/// An address in figures needs no resolver, and so none of the threads that a resolver takes.
pub(super) async fn open(authority: &str) -> io::Result<TcpStream> {
    let stream = match authority.parse::<SocketAddr>() {
        Ok(address) => TcpStream::connect(address).await?,
        Err(_) => TcpStream::connect(authority).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn introduce(
    hub: &Hub,
    link: &Link,
    stream: TcpStream,
    address: PeerAddress<'_>,
    version: ProtocolVersion,
) -> Result<Connected, LinkError> {
    let (read, write) = handshake::call(hub.tls(), stream, address).await?;
    let mut hello = hub.hello(link.peer, link.channel, version);
    if hello.address.len() > ADDRESS_BYTES_MAX {
        hello.address.clear();
    }
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| put_link_frame(&LinkFrame::Hello(hello), out));
    write.write_all(&out).await?;
    let mut reader = FrameReader::for_stranger(read, HELLO_BYTES_MAX);
    let body = first_answer(&mut reader, address).await?;
    let kind = body.first().copied().unwrap_or_default();
    match take_link_frame(body)? {
        LinkFrame::Welcome { storage_id, spoken } => {
            let spoken = agreed(version, spoken)?;
            if let Some(peer) = hub.peer(link.peer) {
                hub.note_storage(link.peer, &peer, storage_id);
            }
            Ok(Connected { reader, write, spoken })
        }
        LinkFrame::Reject(reject) => Err(reject.into()),
        LinkFrame::Hello(_)
        | LinkFrame::Ping { .. }
        | LinkFrame::Pong { .. }
        | LinkFrame::Ask { .. }
        | LinkFrame::View(_) => Err(LinkError::OutOfPlace { kind }),
    }
}

/// What is spoken: what we have called with, or something older that the other side names.
fn agreed(called: ProtocolVersion, spoken: Option<Spoken>) -> Result<ProtocolVersion, LinkError> {
    let named = match spoken {
        None if called < NEGOTIATED_SINCE => return Ok(called),
        None => ProtocolVersion::UNRECORDED,
        Some(Spoken { version, .. }) => version,
    };
    if named < NEGOTIATED_SINCE || named > called {
        let got = u64::from(named.get());
        return Err(WireError::Meaningless { field: "the version that is spoken", got }.into());
    }
    Ok(named)
}

/// The first that the other side says. If it says nothing, that is how those end who are not let in.
pub(super) async fn first_answer(
    reader: &mut FrameReader,
    address: PeerAddress<'_>,
) -> Result<Bytes, LinkError> {
    reader.next().await.map_err(|error| {
        let is_secure = address.is_secure;
        if error.is_goodbye() { LinkError::Unanswered { is_secure } } else { error }
    })
}

/// Runs the connection until it breaks.
async fn serve(hub: &Hub, link: &Link, connected: Connected) -> LinkError {
    let Connected { reader, write, spoken } = connected;
    let newest = hub.identity.newest;
    if hub.peer(link.peer).is_some_and(|peer| peer.has_named_later(spoken, newest)) {
        return LinkError::VersionChanged;
    }
    let write = Arc::new(write);
    link.up(Arc::clone(&write), spoken);
    let error = tokio::select! {
        error = listen(link, reader) => error,
        error = link.keep_writing(&write) => error,
        error = keep_asking(hub, link) => error,
        () = link.hang_up.notified() => LinkError::ControlSilent,
        () = link.redial.notified() => LinkError::VersionChanged,
    };
    // A network that swallowed the one has swallowed the other; its retransmissions would come
    // late when the network is back.
    if let (LinkError::Silent(_), Channel::Control, Some(peer)) =
        (&error, link.channel, hub.peer(link.peer))
    {
        peer.bulk.hang_up.notify_waiters();
    }
    error
}

/// All that comes back on a connection that we dialled is answers to our pings.
async fn listen(link: &Link, mut reader: FrameReader) -> LinkError {
    loop {
        let answer = match reader.next().await {
            Ok(body) => {
                let kind = body.first().copied().unwrap_or_default();
                take_link_frame(body).map(|frame| (kind, frame))
            }
            Err(error) => return error,
        };
        match answer {
            Ok((_, LinkFrame::Pong { token })) => link.pong(token),
            Ok((_, LinkFrame::Reject(reject))) => return reject.into(),
            Ok((
                kind,
                LinkFrame::Hello(_)
                | LinkFrame::Welcome { .. }
                | LinkFrame::Ping { .. }
                | LinkFrame::Ask { .. }
                | LinkFrame::View(_),
            )) => {
                return LinkError::OutOfPlace { kind };
            }
            Err(error) => return error.into(),
        }
    }
}

/// Asks now and then whether the other side is there: a network that swallows everything says
/// nothing by itself.
async fn keep_asking(hub: &Hub, link: &Link) -> LinkError {
    let silence_max = match link.channel {
        Channel::Control => hub.options.control_silence_max,
        Channel::Bulk => hub.options.bulk_silence_max,
    };
    for token in 0.. {
        match link.ping(token) {
            Some(silence) if silence > silence_max => return LinkError::Silent(silence_max),
            Some(_) => {}
            None => {
                let frame = LinkFrame::Ping { token };
                link.put(false, |out| put_frame(out, |out| put_link_frame(&frame, out)));
                link.flush_or_leave();
            }
        }
        sleep(hub.options.ping_interval).await;
    }
    LinkError::Closed
}
