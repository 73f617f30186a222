//! What an operator asks of one member: alarms, digests, who shall lead. Must not know keys, or how a
//! leader hands over.

use super::{Service, time_left};
use crate::errors::{MaintenanceRejection, Rejection};
use crate::grpc::frame;
use bytes::Bytes;
use prost::Message;
use quorate::TransferError;
use quorate::core::{MemberRole, NodeId};
use quorate_etcd_api::etcdserverpb::downgrade_request::DowngradeAction;
use quorate_etcd_api::etcdserverpb::{self as pb};
use quorate_kv::{
    Access, AlarmAction, AlarmKind, AlarmRequest, AlarmResponse, CommandTag, OpError, Revision,
};
use tokio::time::Instant;

/// What etcd says of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

impl Service {
    /// Alarms are raised and cleared through the log, and listed from a state that is up to date.
    pub(super) async fn alarm(
        &self,
        message: Bytes,
        deadline: Instant,
        access: &Access,
    ) -> Result<Bytes, Rejection> {
        let request = AlarmRequest::decode(message.clone())?;
        let kind = AlarmKind::try_from(request.alarm).map_err(|_| OpError::UnknownAlarm)?;
        if kind == AlarmKind::DiskFull {
            // Members say that of themselves.
            return Err(OpError::UnknownAlarm.into());
        }
        let action = AlarmAction::try_from(request.action).map_err(|_| OpError::UnknownAlarm)?;
        if action != AlarmAction::Get {
            return self.propose(CommandTag::Alarm, &message, access, deadline).await;
        }
        self.confirm_as_proposal(deadline).await?;
        self.reader.auth().admit(access)?;
        let mut response = AlarmResponse { header: None, alarms: self.reader.alarms(kind) };
        let header = response.header.get_or_insert_default();
        header.revision = self.reader.revision().to_wire();
        self.origin().complete(&mut response.header);
        Ok(frame::encode(&response))
    }

    /// Gives back what is free in the state's file, which needs nobody to ask for it, and answers when that
    /// is over. Everything else goes on meanwhile.
    pub(super) async fn defragment(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        pb::DefragmentRequest::decode(message)?;
        let reader = self.reader.clone();
        let renew = move || match reader.renew() {
            Ok(None) => Ok(frame::encode(&pb::DefragmentResponse { header: None })),
            Ok(Some(why)) => Err(MaintenanceRejection::NotRenewed(why).into()),
            Err(error) => {
                tracing::error!(%error, "the state cannot be made anew");
                Err(Rejection::Internal)
            }
        };
        // One at a time: whoever waits for it keeps a thread.
        super::kv::apart(&self.renewals, deadline, renew).await
    }

    /// A digest of everything that can be read.
    pub(super) async fn hash(&self, message: Bytes, deadline: Instant) -> Result<Bytes, Rejection> {
        pb::HashRequest::decode(message)?;
        let reader = self.reader.clone();
        let header = self.header(0);
        let hash = move || {
            let hash = reader.hash(None)?;
            let header = pb::ResponseHeader { revision: hash.revision.to_wire(), ..header };
            Ok(frame::encode(&pb::HashResponse { header: Some(header), hash: hash.digest }))
        };
        self.apart(deadline, hash).await
    }

    /// A digest of everything that can be read as of a revision; as of now for 0.
    pub(super) async fn hash_kv(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let request = pb::HashKvRequest::decode(message)?;
        let revision = u64::try_from(request.revision).ok().filter(|revision| *revision > 0);
        let reader = self.reader.clone();
        let header = self.header(0);
        let hash = move || {
            let hash = reader.hash(revision.map(Revision::new))?;
            let revision = reader.revision().to_wire();
            let response = pb::HashKvResponse {
                header: Some(pb::ResponseHeader { revision, ..header }),
                hash: hash.digest,
                compact_revision: hash.compacted.map_or(NEVER_COMPACTED, Revision::to_wire),
                hash_revision: hash.revision.to_wire(),
            };
            Ok(frame::encode(&response))
        };
        self.apart(deadline, hash).await
    }

    /// Hands leadership over; only the leader can.
    pub(super) async fn move_leader(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let target = NodeId::new(pb::MoveLeaderRequest::decode(message)?.target_id);
        let status = self.node.status();
        if status.leader != Some(status.id) {
            return Err(MaintenanceRejection::NotLeader.into());
        }
        let member = status.configuration.members.get(&target);
        if member.is_none_or(|member| member.role == MemberRole::Learner) {
            return Err(MaintenanceRejection::BadTransferee.into());
        }
        if target != status.id {
            self.hand_over(target, deadline).await?;
        }
        Ok(frame::encode(&pb::MoveLeaderResponse { header: None }))
    }

    async fn hand_over(&self, target: NodeId, deadline: Instant) -> Result<(), Rejection> {
        let transfer = self.node.transfer_leadership(Some(target));
        match tokio::time::timeout(time_left(deadline), transfer).await {
            Ok(Ok(leader)) if leader == target => Ok(()),
            Ok(Err(TransferError::NotLeader { .. })) => Err(MaintenanceRejection::NotLeader.into()),
            Ok(Err(TransferError::NotAsked(refusal))) => Err(refusal.into()),
            Ok(Err(TransferError::Stopped)) => Err(Rejection::Stopped),
            Ok(Ok(_) | Err(TransferError::GivenUp { .. })) | Err(_) => {
                Err(MaintenanceRejection::TransferTimedOut.into())
            }
        }
    }

    /// There is no older version to go to, and none is under way.
    pub(super) fn downgrade(message: Bytes) -> Result<Bytes, Rejection> {
        let request = pb::DowngradeRequest::decode(message)?;
        let rejection = match DowngradeAction::try_from(request.action) {
            Err(_) => MaintenanceRejection::UnknownAction,
            Ok(DowngradeAction::Cancel) => MaintenanceRejection::NoDowngrade,
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
                if is_version(&request.version) {
                    MaintenanceRejection::DowngradeTarget
                } else {
                    MaintenanceRejection::DowngradeFormat
                }
            }
        };
        Err(rejection.into())
    }
}

/// Whether it is `3.5` or `3.5.0`.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(text.split('.').count(), 2 | 3) && text.split('.').all(is_number)
}
