//! The keep-alive stream over gRPC: many renewals at once, answers in the order of the requests, at
//! the pace of the client. Must not know what a renewal does.

use super::Body;
use super::stream::{self, End, Requests};
use crate::errors::{Code, Rejection};
use crate::head::Head;
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::{Keeper, Service};
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use h2::server::SendResponse;
use prost::Message;
use quorate_etcd_api::etcdserverpb::LeaseKeepAliveRequest;

/// How many renewals of one stream may wait for their answers before further ones are read.
const PENDING_COUNT_MAX: usize = 1024;

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    head: &Head,
    body: Body,
    respond: SendResponse<Bytes>,
) -> Code {
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    let end = converse(service, head, body, &mut outlet).await;
    stream::end(outlet, end)
}

/// Ends well when the client asked for no more, and has every answer.
async fn converse(
    service: &Service,
    head: &Head,
    body: Body,
    outlet: &mut Outlet,
) -> Result<(), End> {
    let mut requests = Requests::new(service, Method::LeaseKeepAlive, body);
    let mut stopping = service.stopping();
    let mut leader = service.leader_need(head.requires_leader);
    let keeper = Keeper::new(&head.caller);
    let mut pending = FuturesOrdered::new();
    let mut has_spoken = false;
    loop {
        let is_free = outlet.is_free();
        if has_spoken && is_free && pending.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            request = requests.next(), if !has_spoken && pending.len() < PENDING_COUNT_MAX => {
                match request? {
                    Some(request) => {
                        let request = decoded(request)?;
                        pending.push_back(service.lease_keep_alive(request, &keeper));
                    }
                    None => has_spoken = true,
                }
            }
            flushed = outlet.flush() => flushed?,
            Some(answer) = pending.next(), if is_free => {
                stream::put(service, Method::LeaseKeepAlive, outlet, &answer?);
            }
            () = leader.lost() => return Err(Rejection::NoLeader.into()),
            () = stream::stopped(&mut stopping) => return Err(Rejection::Stopped.into()),
        }
    }
}

fn decoded(request: Bytes) -> Result<LeaseKeepAliveRequest, Rejection> {
    Ok(LeaseKeepAliveRequest::decode(request)?)
}
