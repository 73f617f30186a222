//! Elections: whoever's key is the oldest of its line leads, and its value is what they proclaim. Must
//! not know how a line is kept.

use super::Long;
use super::requests::{Entry, Line, leave, replace, wire_header, wire_key};
use super::turn::{Turn, Wish, wait};
use crate::errors::{RecipeRejection, Rejection};
use crate::grpc::frame;
use crate::service::Service;
use crate::service::auth::Asked;
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::v3electionpb as pb;
use quorate_kv::Access;
use quorate_kv::api::{Request, ResponseHeader, TxnRequest, TxnResponse};
use tokio::time::Instant;

impl Service {
    pub(super) async fn campaign(&self, long: Long<'_>) -> Result<Bytes, Rejection> {
        let Long { message, place, access, requires_leader } = long;
        let request = pb::CampaignRequest::decode(message)?;
        let pb::CampaignRequest { mut name, lease, value } = request;
        // A slice keeps all of the message, and so does who waits.
        name = Bytes::copy_from_slice(&name);
        let wish = Wish { line: Line::of(&name), lease, value };
        let Turn { claim, entry, lease } = self.take_place(&wish, access, place).await?;
        let Wish { line, value, .. } = wish;
        let Entry { header, revision: rev, found, is_first } = entry;
        if found.is_some_and(|found| found != value) {
            let deadline = Instant::now() + self.options.request_timeout;
            let request = replace(claim.key(), rev, value, lease);
            self.proclaimed(&request, deadline, access).await?;
        } else {
            drop(value);
        }
        if !is_first {
            let party = self.party(access, requires_leader);
            wait(&party, &line, &claim, rev, || RecipeRejection::NotLeader).await?;
        }
        claim.won();
        // As in etcd: of the entry into the line, however long ago that was.
        let mut header = Some(header);
        self.origin().complete(&mut header);
        let leader = pb::LeaderKey { name, key: claim.key().clone(), rev, lease };
        let header = header.map(wire_header);
        Ok(frame::encode(&pb::CampaignResponse { header, leader: Some(leader) }))
    }

    pub(in crate::service) async fn proclaim(&self, asked: Asked<'_>) -> Result<Bytes, Rejection> {
        let Asked { message, deadline, access } = asked;
        let pb::ProclaimRequest { leader, value } = pb::ProclaimRequest::decode(message)?;
        let leader = leader.ok_or(RecipeRejection::LeaderMissing)?;
        let lease = self.session_lease(leader.lease, deadline, access).await?;
        let request = replace(&leader.key, leader.rev, value, lease);
        self.validated(Request::Txn(request.clone()))?;
        let header = self.proclaimed(&request, deadline, access).await?.map(wire_header);
        Ok(frame::encode(&pb::ProclaimResponse { header }))
    }

    /// Carries out what only a leader may do.
    async fn proclaimed(
        &self,
        request: &TxnRequest,
        deadline: Instant,
        access: &Access,
    ) -> Result<Option<ResponseHeader>, Rejection> {
        let TxnResponse { header, succeeded, .. } =
            self.transact(request, deadline, access).await?;
        if succeeded { Ok(header) } else { Err(RecipeRejection::NotLeader.into()) }
    }

    /// As in etcd, who does not lead has nothing to resign, and that is all right.
    pub(in crate::service) async fn resign(&self, asked: Asked<'_>) -> Result<Bytes, Rejection> {
        let Asked { message, deadline, access } = asked;
        let pb::ResignRequest { leader } = pb::ResignRequest::decode(message)?;
        let leader = leader.ok_or(RecipeRejection::LeaderMissing)?;
        let request = leave(&leader.key, leader.rev);
        self.validated(Request::Txn(request.clone()))?;
        let answer = self.transact(&request, deadline, access).await?;
        Ok(frame::encode(&pb::ResignResponse { header: answer.header.map(wire_header) }))
    }

    pub(in crate::service) async fn leader(&self, asked: Asked<'_>) -> Result<Bytes, Rejection> {
        let Asked { message, access, .. } = asked;
        let pb::LeaderRequest { name } = pb::LeaderRequest::decode(message)?;
        let request = Line::of(&name).first();
        let party = self.party(access, false);
        let mut answer =
            party.look(move |reader, access| reader.range_for(access, &request)).await?;
        let leader = answer.kvs.pop().ok_or(RecipeRejection::NoLeader)?;
        self.origin().complete(&mut answer.header);
        let header = answer.header.map(wire_header);
        Ok(frame::encode(&pb::LeaderResponse { header, kv: Some(wire_key(leader)) }))
    }
}
