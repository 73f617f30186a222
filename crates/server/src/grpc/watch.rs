//! The watch stream over gRPC: requests in, responses out, at the pace of the client. Must not know
//! what a watch is.

use super::stream::{self, End, Requests};
use super::{Body, Head};
use crate::errors::Code;
use crate::method::Method;
use crate::outlet::Outlet;
use crate::service::{Service, WatchSession};
use bytes::Bytes;
use h2::server::SendResponse;

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    head: &Head,
    body: Body,
    respond: SendResponse<Bytes>,
) -> Code {
    let Some(outlet) = stream::open(respond) else { return Code::Canceled };
    let mut conversation = Conversation {
        service,
        requests: Requests::new(service, Method::Watch, body),
        has_spoken: false,
        outlet,
        session: service.watch_session(head.requires_leader, &head.caller),
    };
    let end = loop {
        if let Err(end) = conversation.step().await {
            break end;
        }
    };
    stream::end(conversation.outlet, Err(end))
}

struct Conversation<'a> {
    service: &'a Service,
    requests: Requests<'a>,
    /// The client has asked for all that it will ask for.
    has_spoken: bool,
    outlet: Outlet,
    session: WatchSession,
}

impl Conversation<'_> {
    /// Does whatever can be done next.
    async fn step(&mut self) -> Result<(), End> {
        let is_listening = !self.has_spoken && self.session.has_room();
        let can_send = self.outlet.is_free();
        tokio::select! {
            biased;
            request = self.requests.next(), if is_listening => match request? {
                Some(request) => self.session.request(request)?,
                // The watches go on.
                None => self.has_spoken = true,
            },
            flushed = self.outlet.flush() => flushed?,
            response = self.session.next(can_send) => {
                stream::put(self.service, Method::Watch, &mut self.outlet, &response?);
            }
        }
        Ok(())
    }
}
