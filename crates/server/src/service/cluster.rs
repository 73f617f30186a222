//! The methods about this member: its state, and what it says of itself with every answer. Must not
//! know keys.

use super::{Origin, Service};
use crate::errors::Rejection;
use crate::grpc::frame;
use bytes::Bytes;
use quorate::core::{MemberRole, NodeId};
use quorate_etcd_api::etcdserverpb as pb;
use quorate_kv::{AlarmKind, AlarmMember};

impl Service {
    pub(super) fn member_status(&self) -> Bytes {
        let status = self.node.status();
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push(Rejection::NoLeader.status().1.into_owned());
        }
        errors.extend(self.waits_for_room());
        errors.extend(self.reader.alarms(AlarmKind::None).into_iter().map(alarm_text));
        errors.extend(status.rotten.iter().map(ToString::to_string));
        errors.extend(status.lost_text());
        errors.extend(status.differing.iter().map(ToString::to_string));
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
            db_size_quota: self.quota_to_wire(),
            // There is none, which is said: Go's clients of 3.6 look into it.
            downgrade_info: Some(pb::DowngradeInfo::default()),
        };
        frame::encode(&response)
    }

    /// As etcd has it: -1 if there is no limit.
    pub(super) fn quota_to_wire(&self) -> i64 {
        let quota = self.options.quota_bytes;
        if quota == u64::MAX { -1 } else { size_to_wire(quota) }
    }

    pub(crate) fn is_learner(&self) -> bool {
        let status = self.node.status();
        let own = status.configuration.members.get(&status.id);
        own.is_some_and(|member| member.role == MemberRole::Learner)
    }

    pub(super) fn header(&self, revision: i64) -> pb::ResponseHeader {
        let Origin { cluster_id, member_id, raft_term } = self.origin();
        pb::ResponseHeader { cluster_id, member_id, revision, raft_term }
    }
}

/// An alarm as Go prints the message: a space ends it.
fn alarm_text(alarm: AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm_name(alarm))
}

/// What etcd calls the kind of an alarm.
pub(super) fn alarm_name(alarm: AlarmMember) -> &'static str {
    match alarm.alarm() {
        AlarmKind::None => "NONE",
        AlarmKind::NoSpace | AlarmKind::DiskFull => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// Sizes are signed in etcd's messages.
fn size_to_wire(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
