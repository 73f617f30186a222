//! gRPC over one HTTP/2 stream: from a request's headers to its answer with trailers, for methods
//! with one message each way; `stream` has the others. Bare `h2` rather than a layer on top, because
//! this is the path of every put and get. Must not know what a method does.

pub(crate) mod coding;
pub(crate) mod frame;
pub(crate) mod headers;
mod health;
mod keep_alive;
mod large;
mod long;
mod observe;
mod range_stream;
mod reflection;
mod snapshot;
mod stream;
mod watch;

use crate::caller::PeerIdentity;
use crate::errors::{Code, Rejection};
use crate::head::Head;
use crate::method::{Form, Method};
use crate::service::Service;
use bytes::Bytes;
use coding::Coding;
use frame::Body;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use std::time::{Duration, Instant};

pub(crate) use headers::is_grpc;

/// Answers one request. If the client is gone, the answer goes nowhere and that is all right:
/// nothing else depends on it.
///
/// What the headers say is worked out before the future exists, so that the future is small: there
/// is one for every request in progress, and it is moved once.
pub(crate) fn answer(
    service: &Service,
    peer: &PeerIdentity,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> {
    let (parts, body) = request.into_parts();
    let method = Method::from_grpc_path(parts.uri.path());
    let asked = match method {
        Some(method) => of_headers(service, method, &parts.headers).map(|coding| (method, coding)),
        None => Err(Rejection::NotServed { method: headers::method_name(parts.uri.path()) }),
    };
    if let Err(refusal) = &asked {
        send_rejection(&mut respond, refusal);
    }
    let head = Head::by_grpc(&parts.headers, peer);
    drop(parts);
    async move {
        let Ok((method, coding)) = asked else { return };
        let body = Body::new(body, coding);
        service.metrics().started(method);
        let begun = service.options().measures_calls.then(Instant::now);
        let code = match method.form() {
            Form::Unary | Form::LongUnary => {
                answer_call(service, method, &head, body, respond).await
            }
            // The rarer is boxed: a future is as large as its largest branch.
            Form::ServerStream | Form::Bidi => {
                Box::pin(stream::serve(service, method, &head, body, respond)).await
            }
        };
        service.metrics().handled(method, code);
        if let Some(begun) = begun {
            service.metrics().took(method, begun.elapsed());
        }
    }
}

/// How the messages of a request may be compressed, once its headers are found proper.
fn of_headers(service: &Service, method: Method, headers: &HeaderMap) -> Result<Coding, Rejection> {
    let coding = Coding::of(headers)?;
    service.metrics().asked(method, headers::client_version(headers)?);
    Ok(coding)
}

async fn answer_call(
    service: &Service,
    method: Method,
    head: &Head,
    body: Body,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let outcome = if head.requires_leader && !service.has_leader() {
        Err(Rejection::NoLeader)
    } else if method.form() == Form::LongUnary {
        // Boxed for the same reason.
        let called = Box::pin(long::call(service, method, head, body, &mut respond)).await;
        let Some(outcome) = called else { return Code::Canceled };
        outcome
    } else {
        call(service, method, head, body).await
    };
    match outcome {
        Ok(frame) => large::send(service, method, respond, frame).await,
        Err(rejection) => send_rejection(&mut respond, &rejection),
    }
}

async fn call(
    service: &Service,
    method: Method,
    head: &Head,
    mut body: Body,
) -> Result<Bytes, Rejection> {
    let deadline = service.deadline(method, head.patience);
    let message = receive(service, method, &mut body, head.patience).await?;
    service.call(method, message, deadline, &head.caller).await
}

/// The one message of a request. However long its answer may take, itself may not take long.
async fn receive(
    service: &Service,
    method: Method,
    body: &mut Body,
    patience: Option<Duration>,
) -> Result<Bytes, Rejection> {
    let patience_max = service.options().request_timeout;
    let patience = patience.unwrap_or(patience_max).min(patience_max);
    let receive = frame::receive(body, service.options().message_bytes_max(), service.receiving());
    let message = tokio::time::timeout(patience, receive).await;
    let message = message.unwrap_or(Err(Rejection::MessageIncomplete))?;
    service.metrics().received(method, message.len() + frame::HEAD_BYTES);
    Ok(message)
}

fn send_success(respond: &mut SendResponse<Bytes>, frame: Bytes) {
    let Ok(mut stream) = respond.send_response(headers::success(), false) else { return };
    if stream.send_data(frame, false).is_ok() {
        let _ = stream.send_trailers(headers::success_trailers());
    }
}

fn send_rejection(respond: &mut SendResponse<Bytes>, rejection: &Rejection) -> Code {
    let (code, text) = rejection.status();
    // An answer without a message needs no separate trailers.
    let _ = respond.send_response(headers::rejection(code, &text), true);
    code
}
