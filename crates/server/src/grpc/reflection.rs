//! What a server serves, asked over gRPC: one answer to each request, in their order, at the pace of
//! the client. Must not know what is asked.

use super::Body;
use super::stream::{self, End, Requests};
use crate::errors::{Code, Rejection};
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::Service;
use bytes::Bytes;
use h2::server::SendResponse;
use prost::Message;
use quorate_etcd_api::reflection::ServerReflectionRequest;

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    method: Method,
    body: Body,
    respond: SendResponse<Bytes>,
) -> Code {
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    let end = converse(service, method, body, &mut outlet).await;
    stream::end(outlet, end)
}

async fn converse(
    service: &Service,
    method: Method,
    body: Body,
    outlet: &mut Outlet,
) -> Result<(), End> {
    let mut requests = Requests::new(service, method, body);
    let mut stopping = service.stopping();
    loop {
        let request = tokio::select! {
            biased;
            request = requests.next() => request?,
            () = stream::stopped(&mut stopping) => return Err(Rejection::Stopped.into()),
        };
        let Some(request) = request else { return Ok(()) };
        let request = ServerReflectionRequest::decode(request).map_err(Rejection::from)?;
        stream::put(service, method, outlet, &Service::reflect(request));
        outlet.flush().await?;
    }
}
