//! A large answer over gRPC: sent at the pace of the client, as long as the client takes any of it.
//! Must not know what it says.

use super::stream::{self, End};
use super::{send_rejection, send_success};
use crate::errors::Code;
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::Service;
use crate::unread::LARGE_BYTES;
use bytes::Bytes;
use h2::server::SendResponse;

/// Sends an answer of whatever size.
pub(super) async fn send(
    service: &Service,
    method: Method,
    mut respond: SendResponse<Bytes>,
    frame: Bytes,
) -> Code {
    if frame.len() < LARGE_BYTES {
        service.metrics().sent(method, frame.len());
        send_success(&mut respond, frame);
        return Code::Ok;
    }
    // Boxed, because this is rare and the future would be large.
    Box::pin(send_slowly(service, method, respond, frame)).await
}

async fn send_slowly(
    service: &Service,
    method: Method,
    mut respond: SendResponse<Bytes>,
    frame: Bytes,
) -> Code {
    let place = match service.unread().place(frame.len()) {
        Ok(place) => place,
        Err(rejection) => return send_rejection(&mut respond, &rejection),
    };
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    service.metrics().sent(method, frame.len());
    outlet.put(frame);
    let end = deliver(service, &mut outlet).await;
    drop(place);
    stream::end(outlet, end)
}

/// Sends what was put; gives a client up that takes nothing for too long.
pub(super) async fn deliver(service: &Service, outlet: &mut Outlet) -> Result<(), End> {
    outlet.flush_to_a_reader(service.options().unread_timeout).await.map_err(End::from)
}
