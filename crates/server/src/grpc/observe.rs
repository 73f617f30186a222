//! An election that is observed over gRPC: one request, then its changes at the pace of the client.
//! Must not know what an election is.

use super::stream::{self, End};
use super::{Body, Head, receive, send_rejection};
use crate::errors::{Code, Rejection};
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::{Observation, Service};
use bytes::Bytes;
use h2::server::SendResponse;

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    head: &Head,
    mut body: Body,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let observation = match begin(service, head, &mut body).await {
        Ok(observation) => observation,
        Err(rejection) => return send_rejection(&mut respond, &rejection),
    };
    // What else the client sends is not kept.
    drop(body);
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    let end = tell(service, observation, &mut outlet).await;
    stream::end(outlet, Err(end))
}

async fn begin(service: &Service, head: &Head, body: &mut Body) -> Result<Observation, Rejection> {
    // The client's patience is for the whole stream, and its own to keep.
    let message = receive(service, Method::Observe, body, None).await?;
    service.observe(message, &head.caller, head.requires_leader).await
}

/// There is always something more to come: why it ends.
async fn tell(service: &Service, mut observation: Observation, outlet: &mut Outlet) -> End {
    let mut stopping = service.stopping();
    loop {
        let is_free = outlet.is_free();
        tokio::select! {
            biased;
            flushed = outlet.flush() => if let Err(gone) = flushed { return gone.into() },
            change = observation.next(), if is_free => match change {
                Ok(change) => stream::put(service, Method::Observe, outlet, &change),
                Err(rejection) => return rejection.into(),
            },
            () = stream::stopped(&mut stopping) => return Rejection::Stopped.into(),
        }
    }
}
