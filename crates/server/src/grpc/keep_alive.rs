//! The keep-alive stream over gRPC: many renewals at once, answers in the order of the requests, at
//! the pace of the client. Must not know what a renewal does.

use super::frame::{self, Messages};
use super::{headers, send_rejection};
use crate::errors::{Code, Rejection};
use crate::outlet::{Gone, Outlet};
use crate::service::Service;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use prost::Message;
use quorate_etcd_api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::watch as watch_channel;

/// How many renewals of one stream may wait for their answers before further ones are read.
const PENDING_COUNT_MAX: usize = 1024;

/// Why a stream ends.
enum End {
    /// The client asked for no more, and has every answer.
    Done,
    Gone,
    Rejected(Rejection),
}

impl From<Rejection> for End {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    requires_leader: bool,
) -> Code {
    if requires_leader && !service.has_leader() {
        return send_rejection(&mut respond, &Rejection::NoLeader);
    }
    // Some clients wait for the headers before they ask for anything.
    let Ok(stream) = respond.send_response(headers::success(), false) else {
        return Code::Canceled;
    };
    let mut outlet = Outlet::new(stream);
    let end = converse(service, body, &mut outlet).await;
    let (trailers, code) = match end {
        End::Gone => return Code::Canceled,
        End::Done => (headers::success_trailers(), Code::Ok),
        End::Rejected(rejection) => {
            let (code, text) = rejection.status();
            (headers::trailers(code, &text), code)
        }
    };
    outlet.end_with(trailers);
    code
}

async fn converse(service: &Service, body: RecvStream, outlet: &mut Outlet) -> End {
    let mut messages = Messages::new(body, service.options().message_bytes_max());
    let mut stopping = service.stopping();
    let mut pending = FuturesOrdered::new();
    let mut has_spoken = false;
    loop {
        let is_free = outlet.is_free();
        if has_spoken && is_free && pending.is_empty() {
            return End::Done;
        }
        let step = tokio::select! {
            biased;
            message = messages.next(), if !has_spoken && pending.len() < PENDING_COUNT_MAX => {
                has_spoken = message.is_none();
                let request = message.map_or(Ok(None), |it| request(service, it).map(Some));
                request.map(|request| {
                    pending.extend(request.map(|request| service.lease_keep_alive(request)));
                })
            }
            flushed = outlet.flush() => flushed.map_err(End::from),
            Some(answer) = pending.next(), if is_free => send(service, answer, outlet),
            () = stopped(&mut stopping) => Err(Rejection::Stopped.into()),
        };
        if let Err(end) = step {
            return end;
        }
    }
}

fn request(
    service: &Service,
    message: Result<Bytes, Rejection>,
) -> Result<LeaseKeepAliveRequest, End> {
    let message = message?;
    service.metrics().received(message.len() + frame::HEAD_BYTES);
    LeaseKeepAliveRequest::decode(message).map_err(|error| Rejection::from(error).into())
}

fn send(
    service: &Service,
    answer: Result<LeaseKeepAliveResponse, Rejection>,
    outlet: &mut Outlet,
) -> Result<(), End> {
    let frame = frame::encode(&answer?);
    service.metrics().sent(frame.len());
    outlet.put(frame);
    Ok(())
}

async fn stopped(stopping: &mut watch_channel::Receiver<bool>) {
    // An error means that the service itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
