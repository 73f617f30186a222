//! The methods about the cluster itself: one member's state, the list of members, and the health
//! check of gRPC. Must not know keys.

use super::{Origin, Service};
use crate::errors::Rejection;
use crate::grpc::frame;
use crate::member::MemberContext;
use bytes::Bytes;
use prost::Message;
use quorate::core::{Member, MemberRole, NodeId};
use quorate_etcd_api::etcdserverpb::{self as pb, alarm_request};
use quorate_etcd_api::health::{HealthCheckRequest, HealthCheckResponse, health_check_response};
use tokio::time::Instant;

impl Service {
    pub(super) fn member_status(&self) -> Bytes {
        let status = self.node.status();
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push(Rejection::NoLeader.status().1.into_owned());
        }
        let response = pb::StatusResponse {
            header: Some(self.header(self.reader.revision().to_wire())),
            version: crate::ETCD_VERSION.to_owned(),
            db_size: size_to_wire(self.reader.size_bytes()),
            leader: status.leader.map_or(0, NodeId::get),
            raft_index: status.commit_index.get(),
            raft_term: status.current_term.get(),
            raft_applied_index: status.applied.get(),
            errors,
            db_size_in_use: size_to_wire(self.reader.size_in_use_bytes()),
            is_learner: self.is_learner(),
            storage_version: crate::ETCD_CLUSTER_VERSION.to_owned(),
            db_size_quota: size_to_wire(self.options.quota_bytes),
            downgrade_info: None,
        };
        frame::encode(&response)
    }

    /// No alarm is ever raised yet, so that a question for them has an answer, and health checks
    /// that ask it work; raising and clearing them is not offered.
    pub(super) fn alarm(&self, message: Bytes) -> Result<Bytes, Rejection> {
        let request = pb::AlarmRequest::decode(message)?;
        if request.action() != alarm_request::AlarmAction::Get {
            let method = "etcdserverpb.Maintenance/Alarm to raise or clear".into();
            return Err(Rejection::NotServed { method });
        }
        let header = Some(self.header(self.reader.revision().to_wire()));
        Ok(frame::encode(&pb::AlarmResponse { header, alarms: Vec::new() }))
    }

    pub(super) async fn member_list(
        &self,
        message: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        let request = pb::MemberListRequest::decode(message)?;
        if request.linearizable {
            self.confirm(deadline).await?;
        }
        let status = self.node.status();
        let members = status.configuration.members.iter().map(|(id, member)| describe(*id, member));
        let response = pb::MemberListResponse {
            // etcd leaves the revision out here.
            header: Some(self.header(0)),
            members: members.collect(),
        };
        Ok(frame::encode(&response))
    }

    pub(super) fn health_check(message: Bytes) -> Result<Bytes, Rejection> {
        let request = HealthCheckRequest::decode(message)?;
        if !request.service.is_empty() {
            return Err(Rejection::UnknownHealthService);
        }
        let status = health_check_response::ServingStatus::Serving.into();
        Ok(frame::encode(&HealthCheckResponse { status }))
    }

    pub(super) fn is_learner(&self) -> bool {
        let status = self.node.status();
        let own = status.configuration.members.get(&status.id);
        own.is_some_and(|member| member.role == MemberRole::Learner)
    }

    fn header(&self, revision: i64) -> pb::ResponseHeader {
        let Origin { cluster_id, member_id, raft_term } = self.origin();
        pb::ResponseHeader { cluster_id, member_id, revision, raft_term }
    }
}

/// A member as etcd lists it. One whose context cannot be read is listed without name and URLs, as
/// etcd lists a member that has not started yet.
fn describe(id: NodeId, member: &Member) -> pb::Member {
    let context = MemberContext::from_bytes(&member.context).unwrap_or_else(|error| {
        tracing::warn!(member = %id, %error, "a member's name and client URLs are not known");
        MemberContext::default()
    });
    let peer_urls = if context.peer_urls.is_empty() {
        vec![format!("http://{}", member.address)]
    } else {
        context.peer_urls
    };
    pb::Member {
        id: id.get(),
        name: context.name,
        peer_ur_ls: peer_urls,
        client_ur_ls: context.client_urls,
        is_learner: member.role == MemberRole::Learner,
    }
}

/// Sizes are signed in etcd's messages.
fn size_to_wire(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
