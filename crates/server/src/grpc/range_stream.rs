//! A range in pieces over gRPC: one request, then pieces at the pace of the client, for as long as it
//! wants to wait. Must not know what is in them.

use super::stream::{self, End};
use super::{Body, Head, large, receive, send_rejection};
use crate::errors::{Code, RecipeRejection, Rejection};
use crate::method::Method;
use crate::outlet::Outlet;
use crate::patience::until;
use crate::service::{RangeStream, Service};
use bytes::Bytes;
use h2::server::SendResponse;
use tokio::time::Instant;

/// Serves a range to its end, or until the client has enough.
pub(super) async fn serve(
    service: &Service,
    head: &Head,
    mut body: Body,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let end_at = head.patience.and_then(|patience| Instant::now().checked_add(patience));
    let range = match begin(service, head, &mut body).await {
        Ok(range) => range,
        Err(rejection) => return send_rejection(&mut respond, &rejection),
    };
    // What else the client sends is not kept.
    drop(body);
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    let end = tokio::select! {
        biased;
        end = send(service, range, &mut outlet) => end,
        () = until(end_at) => Err(Rejection::from(RecipeRejection::DeadlinePassed).into()),
    };
    stream::end(outlet, end)
}

async fn begin(service: &Service, head: &Head, body: &mut Body) -> Result<RangeStream, Rejection> {
    let deadline = service.deadline(Method::RangeStream, head.patience);
    let message = receive(service, Method::RangeStream, body, head.patience).await?;
    service.range_stream(message, &head.caller, deadline).await
}

async fn send(service: &Service, mut range: RangeStream, outlet: &mut Outlet) -> Result<(), End> {
    while let Some(piece) = service.next_piece(&mut range).await? {
        stream::put(service, Method::RangeStream, outlet, &piece);
        large::deliver(service, outlet).await?;
    }
    Ok(())
}
