//! What the methods with many messages have in common: which there are, how an answer of many
//! messages opens, what is sent in it and how it ends. Must not know what a message says.

use super::frame::{self, Messages};
use super::{
    Body, Head, headers, health, keep_alive, observe, range_stream, reflection, snapshot, watch,
};
use crate::errors::{Code, Rejection};
use crate::method::Method;
use crate::outlet::{Gone, Outlet, Unsent};
use crate::service::Service;
use bytes::Bytes;
use h2::server::SendResponse;
use prost::Message;
use tokio::sync::watch as watch_channel;

/// Serves a method of many messages, until the client ends it or the server has to.
pub(super) async fn serve(
    service: &Service,
    method: Method,
    head: &Head,
    body: Body,
    respond: SendResponse<Bytes>,
) -> Code {
    if let Err(rejection) = service.may_stream(method, head.requires_leader) {
        return refuse(service, rejection, body, respond).await;
    }
    let _place = match service.take_stream() {
        Ok(place) => place,
        Err(rejection) => return refuse(service, rejection, body, respond).await,
    };
    if method == Method::Watch {
        return watch::serve(service, head, body, respond).await;
    }
    if method == Method::LeaseKeepAlive {
        return keep_alive::serve(service, head, body, respond).await;
    }
    if method == Method::RangeStream {
        return range_stream::serve(service, head, body, respond).await;
    }
    if method == Method::Snapshot {
        return snapshot::serve(service, head, body, respond).await;
    }
    if method == Method::Observe {
        return observe::serve(service, head, body, respond).await;
    }
    if method == Method::HealthWatch {
        return health::serve(service, body, respond).await;
    }
    // Their messages are the same.
    if matches!(method, Method::Reflection | Method::ReflectionAlpha) {
        return reflection::serve(service, method, body, respond).await;
    }
    refuse(service, Rejection::not_served(method), body, respond).await
}

/// Refuses once the client has begun to ask. Go's clients, who send into a stream that has ended,
/// are told that it has, and not why.
async fn refuse(
    service: &Service,
    rejection: Rejection,
    mut body: Body,
    respond: SendResponse<Bytes>,
) -> Code {
    let Some(outlet) = open(respond) else { return Code::Canceled };
    // Whatever it is, and if it is nothing for too long.
    let _ = tokio::time::timeout(service.options().request_timeout, body.begun()).await;
    end(outlet, Err(End::Rejected(rejection)))
}

/// Why a stream ends before everything is said.
pub(super) enum End {
    Gone,
    /// The client takes nothing.
    Untaken,
    Rejected(Rejection),
}

impl From<Rejection> for End {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Unsent> for End {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Gone => Self::Gone,
            Unsent::Untaken => Self::Untaken,
        }
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Opens the answer; `None` if the client is gone. Some wait for its headers before they ask for
/// anything.
pub(super) fn open(mut respond: SendResponse<Bytes>) -> Option<Outlet> {
    respond.send_response(headers::success(), false).ok().map(Outlet::new)
}

/// Ends the answer as it is to end.
pub(super) fn end(outlet: Outlet, end: Result<(), End>) -> Code {
    let (code, trailers) = match end {
        Ok(()) => (Code::Ok, headers::success_trailers()),
        Err(End::Rejected(rejection)) => {
            let (code, text) = rejection.status();
            (code, headers::trailers(code, &text))
        }
        Err(End::Gone) => return Code::Canceled,
        Err(End::Untaken) => {
            outlet.break_off();
            return Code::ResourceExhausted;
        }
    };
    outlet.end_with(trailers);
    code
}

/// Returns when streams shall end.
pub(super) async fn stopped(stopping: &mut watch_channel::Receiver<bool>) {
    // An error means that the service itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Sends this next. Everything before must have been sent.
pub(super) fn put(service: &Service, method: Method, outlet: &mut Outlet, message: &impl Message) {
    let frame = frame::encode(message);
    service.metrics().sent(method, frame.len());
    outlet.put(frame);
}

/// The messages of the client.
pub(super) struct Requests<'a> {
    service: &'a Service,
    method: Method,
    messages: Messages<'a>,
}

impl<'a> Requests<'a> {
    pub(super) fn new(service: &'a Service, method: Method, body: Body) -> Self {
        let options = service.options();
        let (size_max, patience) = (options.message_bytes_max(), options.request_timeout);
        let messages = Messages::new(body, size_max, service.receiving(), patience);
        Self { service, method, messages }
    }

    /// The next one; `None` if the client has said everything. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Rejection> {
        let message = self.messages.next().await.transpose()?;
        if let Some(message) = &message {
            self.service.metrics().received(self.method, message.len() + frame::HEAD_BYTES);
        }
        Ok(message)
    }
}
