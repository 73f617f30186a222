//! Locks: whoever's key is the oldest of its line holds it. Must not know how a line is kept.

use super::Long;
use super::requests::{Line, wire_header};
use super::turn::{Wish, wait};
use crate::errors::{RecipeRejection, Rejection};
use crate::grpc::frame;
use crate::service::Service;
use crate::service::auth::Asked;
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::v3lockpb as pb;
use quorate_kv::api::{DeleteRangeRequest, Request};
use quorate_kv::{CommandTag, Outcome};

impl Service {
    pub(super) async fn lock(&self, long: Long<'_>) -> Result<Bytes, Rejection> {
        let Long { message, place, access, requires_leader } = long;
        let pb::LockRequest { name, lease } = pb::LockRequest::decode(message)?;
        let wish = Wish { line: Line::of(&name), lease, value: Bytes::new() };
        // It keeps all of the message, and would wait with us.
        drop(name);
        let turn = self.take_place(&wish, access, place).await?;
        let mut header = Some(turn.entry.header);
        if !turn.entry.is_first {
            let party = self.party(access, requires_leader);
            let if_lost = || RecipeRejection::SessionExpired;
            let waited = wait(&party, &wish.line, &turn.claim, turn.entry.revision, if_lost);
            header = Some(waited.await?);
        }
        turn.claim.won();
        self.origin().complete(&mut header);
        let key = turn.claim.key().clone();
        Ok(frame::encode(&pb::LockResponse { header: header.map(wire_header), key }))
    }

    pub(in crate::service) async fn unlock(&self, asked: Asked<'_>) -> Result<Bytes, Rejection> {
        let Asked { message, deadline, access } = asked;
        let pb::UnlockRequest { key } = pb::UnlockRequest::decode(message)?;
        let request = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let message = request.encode_to_vec();
        self.validated(Request::DeleteRange(request))?;
        let outcome = self.decide(CommandTag::DeleteRange, &message, access, deadline).await?;
        let Outcome::DeleteRange(mut answer) = outcome else { return Err(Rejection::Internal) };
        self.origin().complete(&mut answer.header);
        Ok(frame::encode(&pb::UnlockResponse { header: answer.header.map(wire_header) }))
    }
}
