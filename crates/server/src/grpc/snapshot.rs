//! A backup over gRPC: one request, then pieces at the pace of the client. Must not know what is in
//! them.

use super::frame;
use super::{headers, send_rejection};
use crate::errors::{Code, Rejection};
use crate::outlet::Outlet;
use crate::service::{Backup, Service};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use prost::Message;
use quorate_etcd_api::etcdserverpb::SnapshotRequest;

/// Serves a backup to its end, or until the client has enough.
pub(super) async fn serve(
    service: &Service,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Code {
    let mut backup = match begin(service, &mut body).await {
        Ok(backup) => backup,
        Err(rejection) => return send_rejection(&mut respond, &rejection),
    };
    let Ok(stream) = respond.send_response(headers::success(), false) else {
        return Code::Canceled;
    };
    let mut outlet = Outlet::new(stream);
    while let Some(piece) = backup.next().await {
        match piece {
            Ok(piece) => {
                let frame = frame::encode(&piece);
                service.metrics().sent(frame.len());
                outlet.put(frame);
            }
            Err(rejection) => {
                let (code, text) = rejection.status();
                outlet.end_with(headers::trailers(code, &text));
                return code;
            }
        }
        if outlet.flush().await.is_err() {
            return Code::Canceled;
        }
    }
    outlet.end_with(headers::success_trailers());
    Code::Ok
}

async fn begin(service: &Service, body: &mut RecvStream) -> Result<Backup, Rejection> {
    let size_max = service.options().message_bytes_max();
    let receive = frame::receive(body, size_max);
    let patience = service.options().request_timeout;
    let message = tokio::time::timeout(patience, receive).await;
    let message = message.unwrap_or(Err(Rejection::MessageIncomplete))?;
    service.metrics().received(message.len() + frame::HEAD_BYTES);
    SnapshotRequest::decode(message)?;
    service.backup()
}
