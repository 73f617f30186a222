//! A backup over gRPC: one request, then pieces at the pace of the client. Must not know what is in
//! them.

use super::stream::{self, End};
use super::{Body, Head, large, receive, send_rejection};
use crate::errors::{Code, Rejection};
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::{Backup, Service};
use bytes::Bytes;
use h2::server::SendResponse;
use prost::Message;
use quorate_etcd_api::etcdserverpb::SnapshotRequest;

/// Serves a backup to its end, or until the client has enough.
pub(super) async fn serve(
    service: &Service,
    head: &Head,
    mut body: Body,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let backup = match begin(service, head, &mut body).await {
        Ok(backup) => backup,
        Err(rejection) => return send_rejection(&mut respond, &rejection),
    };
    // What else the client sends is not kept.
    drop(body);
    let Some(mut outlet) = stream::open(respond) else { return Code::Canceled };
    let end = send(service, backup, &mut outlet).await;
    stream::end(outlet, end)
}

async fn begin(service: &Service, head: &Head, body: &mut Body) -> Result<Backup, Rejection> {
    // The client's patience is for the whole backup, and its own to keep.
    let message = receive(service, Method::Snapshot, body, None).await?;
    SnapshotRequest::decode(message)?;
    service.backup(&head.caller)
}

async fn send(service: &Service, mut backup: Backup, outlet: &mut Outlet) -> Result<(), End> {
    while let Some(piece) = backup.next().await {
        stream::put(service, Method::Snapshot, outlet, &piece?);
        large::deliver(service, outlet).await?;
    }
    Ok(())
}
