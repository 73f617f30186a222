//! gRPC over one HTTP/2 stream: from a request's headers to its answer with trailers, for methods
//! with one message each way, and for streams. Bare `h2` rather than a layer on top, because this is the path of
//! every put and get. Must not know what a method does.

pub(crate) mod frame;
pub(crate) mod headers;
mod keep_alive;
mod snapshot;
mod watch;

use crate::errors::{Code, Rejection};
use crate::method::Method;
use crate::service::Service;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) use headers::is_grpc;

/// Answers one request. If the client is gone, the answer goes nowhere and that is all right:
/// nothing else depends on it.
///
/// What the headers say is worked out before the future exists, so that the future is small: there
/// is one for every request in progress, and it is moved once.
pub(crate) fn answer(
    service: &Service,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> {
    let (head, body) = request.into_parts();
    let method = Method::from_grpc_path(head.uri.path());
    if method.is_none() {
        let method = headers::method_name(head.uri.path());
        send_rejection(&mut respond, &Rejection::NotServed { method });
    }
    let patience_max = service.options().request_timeout;
    let patience = headers::timeout(&head.headers).unwrap_or(patience_max).min(patience_max);
    let requires_leader = headers::requires_leader(&head.headers);
    drop(head);
    async move {
        let Some(method) = method else { return };
        service.metrics().started(method);
        if method == Method::Watch {
            // The rarer is boxed: a future is as large as its largest branch.
            let code = Box::pin(watch::serve(service, body, respond, requires_leader)).await;
            return service.metrics().handled(method, code);
        }
        if method == Method::LeaseKeepAlive {
            let code = Box::pin(keep_alive::serve(service, body, respond, requires_leader)).await;
            return service.metrics().handled(method, code);
        }
        if method == Method::Snapshot {
            let code = Box::pin(snapshot::serve(service, body, respond)).await;
            return service.metrics().handled(method, code);
        }
        let outcome = if requires_leader && !service.has_leader() {
            Err(Rejection::NoLeader)
        } else {
            call(service, method, body, patience).await
        };
        let code = match outcome {
            Ok(frame) => {
                service.metrics().sent(frame.len());
                send_success(&mut respond, frame);
                Code::Ok
            }
            Err(rejection) => send_rejection(&mut respond, &rejection),
        };
        service.metrics().handled(method, code);
    }
}

async fn call(
    service: &Service,
    method: Method,
    mut body: RecvStream,
    patience: Duration,
) -> Result<Bytes, Rejection> {
    let deadline = Instant::now() + patience;
    let size_max = service.options().message_bytes_max();
    let receive = frame::receive(&mut body, size_max);
    let message = tokio::time::timeout_at(deadline, receive)
        .await
        .unwrap_or(Err(Rejection::MessageIncomplete))?;
    service.metrics().received(message.len() + frame::HEAD_BYTES);
    service.call(method, message, deadline).await
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
