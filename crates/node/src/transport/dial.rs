//! Keeps one connection to a peer open: dials, introduces us, and starts over when it breaks.

use super::backoff::Backoff;
use super::frames::FrameReader;
use super::hub::Hub;
use super::link::{Link, LinkError};
use crate::wire::{
    ADDRESS_BYTES_MAX, Channel, HELLO_BYTES_MAX, LinkFrame, put_frame, put_link_frame,
    take_link_frame,
};
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{sleep, timeout};

/// Never ends; is aborted when the peer is forgotten.
pub(super) async fn keep_connected(hub: Arc<Hub>, link: Arc<Link>) {
    let options = &hub.options;
    let mut backoff = Backoff::new(options.reconnect_delay_min, options.reconnect_delay_max);
    let mut complaint = String::new();
    loop {
        let error = match connect(&hub, &link).await {
            Ok((reader, write)) => {
                backoff.reset();
                complaint.clear();
                let node = hub.identity.node_id;
                tracing::info!(%node, peer = %link.peer, channel = %link.channel, "connected");
                serve(&hub, &link, reader, write).await
            }
            Err(error) => error,
        };
        if link.down() {
            hub.lost(link.peer, link.channel);
        }
        complain(&hub, &link, &error, &mut complaint);
        if let LinkError::Rejected(reject) = &error {
            hub.turned_away(link.peer, reject);
        }
        let is_rejected = matches!(error, LinkError::Rejected(_));
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

async fn connect(hub: &Hub, link: &Link) -> Result<(FrameReader, OwnedWriteHalf), LinkError> {
    let address = hub.address_of(link.peer).unwrap_or_default();
    let limit = hub.options.connect_timeout;
    let stream = match timeout(limit, open(&address)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(LinkError::ConnectTimeout(limit)),
    };
    let limit = hub.options.handshake_timeout;
    match timeout(limit, introduce(hub, link, stream)).await {
        Ok(introduced) => introduced,
        Err(_) => Err(LinkError::HandshakeTimeout(limit)),
    }
}

/// A plain address needs no resolver, and so none of the threads that a resolver takes.
pub(super) async fn open(address: &str) -> io::Result<TcpStream> {
    let stream = match address.parse::<SocketAddr>() {
        Ok(address) => TcpStream::connect(address).await?,
        Err(_) => TcpStream::connect(address).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn introduce(
    hub: &Hub,
    link: &Link,
    stream: TcpStream,
) -> Result<(FrameReader, OwnedWriteHalf), LinkError> {
    let (read, mut write) = stream.into_split();
    let mut hello = hub.hello(link.peer, link.channel);
    if hello.address.len() > ADDRESS_BYTES_MAX {
        hello.address.clear();
    }
    let mut out = BytesMut::new();
    put_frame(&mut out, |out| put_link_frame(&LinkFrame::Hello(hello), out));
    write.write_all(&out).await?;
    let mut reader = FrameReader::for_stranger(read, HELLO_BYTES_MAX);
    let body = reader.next().await?;
    let kind = body.first().copied().unwrap_or_default();
    match take_link_frame(body)? {
        LinkFrame::Welcome { storage_id } => {
            if let Some(peer) = hub.peer(link.peer) {
                hub.note_storage(link.peer, &peer, storage_id);
            }
            Ok((reader, write))
        }
        LinkFrame::Reject(reject) => Err(reject.into()),
        LinkFrame::Hello(_)
        | LinkFrame::Ping { .. }
        | LinkFrame::Pong { .. }
        | LinkFrame::Ask { .. }
        | LinkFrame::View(_) => Err(LinkError::OutOfPlace { kind }),
    }
}

/// Runs the connection until it breaks.
async fn serve(hub: &Hub, link: &Link, reader: FrameReader, write: OwnedWriteHalf) -> LinkError {
    let write = Arc::new(write);
    link.up(Arc::clone(&write));
    let error = tokio::select! {
        error = listen(link, reader) => error,
        error = link.keep_writing(&write) => error,
        error = keep_asking(hub, link) => error,
        () = link.hang_up.notified() => LinkError::ControlSilent,
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
