//! A method with one message each way whose answer may be long in coming: a client that goes away is
//! not waited for. Must not know what a method does.

use super::{Body, Head, receive};
use crate::errors::Rejection;
use crate::method::Method;
use crate::service::Service;
use bytes::Bytes;
use h2::server::SendResponse;

/// The answer, framed; `None` if nobody is there to hear it.
pub(super) async fn call(
    service: &Service,
    method: Method,
    head: &Head,
    mut body: Body,
    respond: &mut SendResponse<Bytes>,
) -> Option<Result<Bytes, Rejection>> {
    let deadline = service.deadline(method, head.patience);
    let answer = async move {
        let message = receive(service, method, &mut body, head.patience).await?;
        // What else the client sends is not kept.
        drop(body);
        service.call_long(method, message, deadline, &head.caller, head.requires_leader).await
    };
    let gone = std::future::poll_fn(|cx| respond.poll_reset(cx).map(drop));
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = gone => None,
    }
}
