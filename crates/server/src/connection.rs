//! One client connection from its first byte to its last: which protocol, and the loop that serves
//! it. Whatever a client sends can end its own connection and nothing else. Must not know what a
//! request means.

use crate::authority::Mended;
use crate::caller::PeerIdentity;
use crate::errors::Rejection;
use crate::grpc;
use crate::http::{self as pages, Content};
use crate::intake::Intake;
use crate::listener::Serves;
use crate::net::{self, Prefixed, Protocol};
use crate::outlet::{Outlet, Unsent};
use crate::service::Service;
use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate_tls::Stranger;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// How much of a message may be on its way before we have taken any of it. Larger than the largest
/// message, so that no request waits for a window to open.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same for all messages of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Streams that a client cancelled and that we have not forgotten yet.
const RESET_STREAMS_COUNT_MAX: usize = 1024;

/// The buffer that an HTTP/1.1 connection reads headers into may not grow beyond this.
const HTTP1_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Why a connection ended otherwise than by a wish of either side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
    /// The client said nothing for too long.
    #[error("the client did not begin in time")]
    Silent,
    /// The client does not speak TLS, or does not believe us, or is not believed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The client took too long over it.
    #[error("the TLS handshake did not end in time")]
    HandshakeLate,
    /// Others began after it, and there are too many.
    #[error("too many unfinished TLS handshakes, of which this was the oldest")]
    Crowded,
    /// The client is believed, and may not stay.
    #[error(transparent)]
    Stranger(#[from] Stranger),
    /// There is nothing to show to clients; nobody listens then.
    #[error("there is no certificate")]
    NoCertificate,
    /// What came was not HTTP/1.1, or broke off.
    #[error("not proper HTTP/1.1")]
    Http1(#[from] hyper::Error),
    /// What came was not HTTP/2, or broke off.
    #[error("not proper HTTP/2")]
    Http2(#[from] h2::Error),
}

/// Serves the connection of `peer` with what `serves` says until either side ends it. When `stop`
/// changes, requests in progress are still answered.
pub(crate) async fn serve<S>(
    service: &Service,
    stream: S,
    peer: &PeerIdentity,
    serves: Serves,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let options = service.options();
    let (protocol, stream) = tokio::time::timeout(options.header_timeout, net::detect(stream))
        .await
        .map_err(|_| ConnectionError::Silent)??;
    match protocol {
        Protocol::Http1 => serve_http1(service, stream, peer, serves, stop).await,
        Protocol::Http2 => serve_http2(service, stream, peer, serves, stop).await,
    }
}

/// Requests one after the other; the last may make a WebSocket of the connection.
async fn serve_http1<S>(
    service: &Service,
    stream: Prefixed<S>,
    peer: &PeerIdentity,
    serves: Serves,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let upgraded = Mutex::new(None);
    let answer = hyper::service::service_fn(|request| {
        answer_http1(service, peer, serves, &upgraded, request)
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(service.options().header_timeout)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let is_over = tokio::select! {
        end = &mut connection => {
            end?;
            true
        }
        _ = stop.changed() => false,
    };
    if !is_over {
        Pin::new(&mut connection).graceful_shutdown();
        (&mut connection).await?;
    }
    let parts = connection.into_parts();
    let head = upgraded.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(head) = head {
        let stream = Prefixed::new(parts.read_buf, parts.io.into_inner());
        Box::pin(pages::talk(service, peer, &head, stream)).await;
    }
    Ok(())
}

async fn answer_http1(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    upgraded: &Mutex<Option<Parts>>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Content>, Infallible> {
    let (head, body) = request.into_parts();
    if let Some(refusal) = pages::misaddressed(&head) {
        return Ok(refusal.map(Content::Whole));
    }
    if pages::is_socket_asked(&head) {
        let answer = pages::open_socket(service, peer, serves, &head);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            *upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        }
        return Ok(answer.map(Content::Whole));
    }
    let limit = pages::body_bytes_max(service.options().message_bytes_max());
    // One that says beforehand that it is too large is not waited for.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        let rejection = Rejection::MessageTooLarge { size: announced, limit };
        return Ok(pages::refuse(&rejection).map(Content::Whole));
    }
    let collect = collect_http1(body, Intake::new(service.receiving(), limit));
    let collected = tokio::time::timeout(service.options().header_timeout, collect).await;
    Ok(match collected.unwrap_or(Err(Rejection::MessageIncomplete)) {
        Ok(body) => pages::respond(service, peer, serves, &head, body).await,
        // Whoever is gone does not read it.
        Err(rejection) => pages::refuse(&rejection).map(Content::Whole),
    })
}

async fn collect_http1(
    mut body: hyper::body::Incoming,
    mut intake: Intake<'_>,
) -> Result<Bytes, Rejection> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Rejection::MessageIncomplete)?;
        // Anything else is trailers.
        if let Ok(piece) = frame.into_data() {
            intake.take(&piece)?;
        }
    }
    Ok(intake.finish())
}

async fn serve_http2<S>(
    service: &Service,
    stream: Prefixed<S>,
    peer: &PeerIdentity,
    serves: Serves,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let options = service.options();
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(options.streams_count_max)
        .max_header_list_size(options.header_bytes_max)
        .max_concurrent_reset_streams(RESET_STREAMS_COUNT_MAX)
        .handshake::<_, Bytes>(Mended::new(stream));
    let mut connection = tokio::time::timeout(options.header_timeout, handshake)
        .await
        .map_err(|_| ConnectionError::Silent)??;
    let streams_count_max = options.streams_count_max as usize;
    let mut requests = FuturesUnordered::new();
    let mut run = |connection: &mut h2::server::Connection<_, _>, cx: &mut Context<'_>| {
        run_http2(connection, &mut requests, streams_count_max, cx, |request, respond| {
            answer_http2(service, peer, serves, request, respond)
        })
    };
    tokio::select! {
        end = std::future::poll_fn(|cx| run(&mut connection, cx)) => return end,
        _ = stop.changed() => connection.graceful_shutdown(),
    }
    std::future::poll_fn(|cx| run(&mut connection, cx)).await
}

/// Carries requests and answers as far as they go now; ready when the connection has ended.
///
/// All requests of a connection share its task: answers that are ready together leave in one write,
/// and a request costs no task of its own.
fn run_http2<S, F>(
    connection: &mut h2::server::Connection<S, Bytes>,
    requests: &mut FuturesUnordered<F>,
    streams_count_max: usize,
    cx: &mut Context<'_>,
    mut answer: impl FnMut(Request<RecvStream>, SendResponse<Bytes>) -> F,
) -> Poll<Result<(), ConnectionError>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    loop {
        while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
        let mut accepted_count = 0;
        // This also writes what the answers above have queued.
        while let Poll::Ready(accepted) = connection.poll_accept(cx) {
            let Some(accepted) = accepted else { return Poll::Ready(Ok(())) };
            let (request, mut respond) = accepted?;
            // A client that cancels streams and opens others could pass HTTP/2's own limit.
            if requests.len() >= streams_count_max {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                requests.push(answer(request, respond));
                accepted_count += 1;
            }
        }
        if accepted_count == 0 {
            return Poll::Pending;
        }
    }
}

/// gRPC, or a page. The rarer is boxed: a future is as large as its largest branch.
fn answer_http2(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> {
    if serves.has_grpc() && grpc::is_grpc(request.headers()) {
        Either::Left(grpc::answer(service, peer, request, respond))
    } else {
        Either::Right(Box::pin(answer_http2_page(service, peer, serves, request, respond)))
    }
}

async fn answer_http2_page(
    service: &Service,
    peer: &PeerIdentity,
    serves: Serves,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let limit = pages::body_bytes_max(service.options().message_bytes_max());
    let collect = collect_http2(body, Intake::new(service.receiving(), limit));
    let response = match tokio::time::timeout(service.options().header_timeout, collect).await {
        Ok(Ok(body)) => {
            let gone = std::future::poll_fn(|cx| respond.poll_reset(cx).map(drop));
            tokio::select! {
                biased;
                response = pages::respond(service, peer, serves, &head, body) => response,
                // Whoever waited for something waits no more.
                () = gone => return,
            }
        }
        Ok(Err(rejection)) => pages::refuse(&rejection).map(Content::Whole),
        Err(_) => return respond.send_reset(Reason::CANCEL),
    };
    let (head, body) = response.into_parts();
    // A client that is gone needs no answer.
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), false) else {
        return;
    };
    match body {
        Content::Whole(bytes) => drop(stream.send_data(bytes, true)),
        Content::Large { rest, place } => {
            let mut outlet = Outlet::new(stream);
            outlet.put(rest);
            let patience = service.options().unread_timeout;
            match outlet.flush_to_a_reader(patience).await {
                Ok(()) => outlet.end(),
                Err(Unsent::Untaken) => outlet.break_off(),
                Err(Unsent::Gone) => {}
            }
            drop(place);
        }
        Content::Lines(lines) => send_lines(lines, Outlet::new(stream)).await,
        Content::Pieces(pieces) => {
            let patience = service.options().unread_timeout;
            send_pieces(pieces, Outlet::new(stream), patience).await;
        }
    }
}

/// Sends line after line at the pace of the client, until either side ends it.
async fn send_lines(mut lines: BoxStream<'static, Bytes>, mut outlet: Outlet) {
    loop {
        let is_free = outlet.is_free();
        tokio::select! {
            biased;
            flushed = outlet.flush() => if flushed.is_err() { return },
            line = lines.next(), if is_free => match line {
                Some(line) => outlet.put(line),
                None => return outlet.end(),
            },
        }
    }
}

/// Sends piece after piece to a client that takes some of it within every `patience`.
async fn send_pieces(
    mut pieces: BoxStream<'static, Bytes>,
    mut outlet: Outlet,
    patience: Duration,
) {
    while let Some(piece) = pieces.next().await {
        outlet.put(piece);
        match outlet.flush_to_a_reader(patience).await {
            Ok(()) => {}
            Err(Unsent::Untaken) => return outlet.break_off(),
            Err(Unsent::Gone) => return,
        }
    }
    outlet.end();
}

async fn collect_http2(mut body: RecvStream, mut intake: Intake<'_>) -> Result<Bytes, Rejection> {
    // An error means that the client broke off: what came is judged as it is, and nobody reads
    // the verdict.
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        intake.take(&piece)?;
    }
    Ok(intake.finish())
}
