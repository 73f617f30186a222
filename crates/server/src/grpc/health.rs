//! gRPC's health service as a stream: how a service is, and whenever that changes. Must not know what
//! it depends on.

use super::stream::{self, End};
use super::{Body, receive, send_rejection};
use crate::errors::{Code, Rejection};
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::{HealthWatch, Service};
use bytes::Bytes;
use h2::server::SendResponse;

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    mut body: Body,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let watch = match begin(service, &mut body).await {
        Ok(watch) => watch,
        Err(rejection) => return send_rejection(&mut respond, &rejection),
    };
    // What else the client sends is not kept.
    drop(body);
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    let end = tell(service, watch, &mut outlet).await;
    stream::end(outlet, end)
}

async fn begin(service: &Service, body: &mut Body) -> Result<HealthWatch, Rejection> {
    // The client's patience is for the whole stream, and its own to keep.
    service.watch_health(receive(service, Method::HealthWatch, body, None).await?)
}

async fn tell(service: &Service, mut watch: HealthWatch, outlet: &mut Outlet) -> Result<(), End> {
    loop {
        let is_free = outlet.is_free();
        tokio::select! {
            biased;
            flushed = outlet.flush() => flushed?,
            health = watch.next(), if is_free => match health {
                Some(health) => stream::put(service, Method::HealthWatch, outlet, &health),
                None => return Err(Rejection::Stopped.into()),
            },
        }
    }
}
