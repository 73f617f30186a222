//! The watch stream over gRPC: requests in, responses out, at the pace of the client. Must not know
//! what a watch is.

use super::frame::{self, Messages};
use super::{headers, send_rejection};
use crate::errors::{Code, Rejection};
use crate::outlet::{Gone, Outlet};
use crate::service::{Service, WatchSession};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;

/// Why a stream ends.
enum End {
    Gone,
    Rejected(Rejection),
}

impl From<Rejection> for End {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Serves a stream until the client ends it, or the server has to.
pub(super) async fn serve(
    service: &Service,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    requires_leader: bool,
) -> Code {
    if service.is_learner() {
        return send_rejection(&mut respond, &Rejection::Learner);
    }
    if requires_leader && !service.has_leader() {
        return send_rejection(&mut respond, &Rejection::NoLeader);
    }
    // Some clients wait for the headers before they ask for anything.
    let Ok(stream) = respond.send_response(headers::success(), false) else {
        return Code::Canceled;
    };
    let mut conversation = Conversation {
        service,
        messages: Messages::new(body, service.options().message_bytes_max()),
        has_spoken: false,
        outlet: Outlet::new(stream),
        session: service.watch_session(requires_leader),
    };
    let end = loop {
        if let Err(end) = conversation.step().await {
            break end;
        }
    };
    match end {
        End::Gone => Code::Canceled,
        End::Rejected(rejection) => {
            let (code, text) = rejection.status();
            conversation.outlet.end_with(headers::trailers(code, &text));
            code
        }
    }
}

struct Conversation<'a> {
    service: &'a Service,
    messages: Messages,
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
            message = self.messages.next(), if is_listening => match message {
                Some(message) => {
                    let message = message?;
                    self.service.metrics().received(message.len() + frame::HEAD_BYTES);
                    self.session.request(message)?;
                }
                // The watches go on.
                None => self.has_spoken = true,
            },
            flushed = self.outlet.flush() => flushed?,
            response = self.session.next(can_send) => {
                let frame = frame::encode(&response?);
                self.service.metrics().sent(frame.len());
                self.outlet.put(frame);
            }
        }
        Ok(())
    }
}
