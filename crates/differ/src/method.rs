//! The methods that are compared: where each is asked for, and how its messages look in JSON, which
//! is the form that answers are compared in. Must not know what a method does.

use prost::Message;
use quorate_etcd_api::{etcdserverpb as pb, v3electionpb as election, v3lockpb as lock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A method of one message each way.
#[derive(Debug)]
pub(crate) struct Method {
    /// `Service`, without its package.
    pub(crate) service: &'static str,
    /// `Service/Name`.
    pub(crate) name: &'static str,
    pub(crate) grpc: &'static str,
    pub(crate) gateway: &'static str,
    /// A request in JSON.
    pub(crate) request_json: fn(&[u8]) -> anyhow::Result<Value>,
    pub(crate) request_bytes: fn(&Value) -> anyhow::Result<Vec<u8>>,
    pub(crate) response_json: fn(&[u8]) -> anyhow::Result<Value>,
}

/// Those of the health service, whose messages have no form in JSON.
pub(crate) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
pub(crate) const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

impl Method {
    /// Where the gateway had it once, and has it still.
    pub(crate) fn old_gateway(&self, is_beta: bool) -> String {
        let old = [
            (&LEASE_REVOKE, "/v3/kv/lease/revoke"),
            (&LEASE_TIME_TO_LIVE, "/v3/kv/lease/timetolive"),
            (&LEASE_LEASES, "/v3/kv/lease/leases"),
        ];
        let found = old.iter().find(|(method, _)| *method == self);
        let path = found.map_or(self.gateway, |(_, path)| *path);
        if is_beta { path.replacen("/v3/", "/v3beta/", 1) } else { path.to_owned() }
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.grpc == other.grpc
    }
}

/// A message in JSON.
///
/// # Errors
///
/// If it is no such message, or has a number for an enum that has no such value.
pub(crate) fn json_of<M: Message + Default + Serialize>(bytes: &[u8]) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(M::decode(bytes)?)?)
}

fn bytes_of<M: Message + DeserializeOwned>(json: &Value) -> anyhow::Result<Vec<u8>> {
    Ok(M::deserialize(json)?.encode_to_vec())
}

macro_rules! methods {
    ($($package:literal $service:literal {
        $($method:ident $name:literal $gateway:literal $request:ty => $response:ty;)*
    })*) => {
        $($(
            pub(crate) static $method: Method = Method {
                service: $service,
                name: concat!($service, "/", $name),
                grpc: concat!("/", $package, ".", $service, "/", $name),
                gateway: concat!("/v3/", $gateway),
                request_json: json_of::<$request>,
                request_bytes: bytes_of::<$request>,
                response_json: json_of::<$response>,
            };
        )*)*
        #[cfg(test)]
        static ALL: &[&Method] = &[$($(&$method),*),*];
    };
}

methods! {
    "etcdserverpb" "KV" {
        RANGE "Range" "kv/range" pb::RangeRequest => pb::RangeResponse;
        PUT "Put" "kv/put" pb::PutRequest => pb::PutResponse;
        TXN "Txn" "kv/txn" pb::TxnRequest => pb::TxnResponse;
        DELETE_RANGE "DeleteRange" "kv/deleterange" pb::DeleteRangeRequest => pb::DeleteRangeResponse;
        COMPACT "Compact" "kv/compaction" pb::CompactionRequest => pb::CompactionResponse;
    }
    "etcdserverpb" "Lease" {
        LEASE_GRANT "LeaseGrant" "lease/grant" pb::LeaseGrantRequest => pb::LeaseGrantResponse;
        LEASE_REVOKE "LeaseRevoke" "lease/revoke" pb::LeaseRevokeRequest => pb::LeaseRevokeResponse;
        LEASE_TIME_TO_LIVE "LeaseTimeToLive" "lease/timetolive" pb::LeaseTimeToLiveRequest => pb::LeaseTimeToLiveResponse;
        LEASE_LEASES "LeaseLeases" "lease/leases" pb::LeaseLeasesRequest => pb::LeaseLeasesResponse;
        // A stream; here for one request and the answer to it.
        LEASE_KEEP_ALIVE "LeaseKeepAlive" "lease/keepalive" pb::LeaseKeepAliveRequest => pb::LeaseKeepAliveResponse;
    }
    "etcdserverpb" "Watch" {
        // A stream; here for its first answer.
        WATCH "Watch" "watch" pb::WatchRequest => pb::WatchResponse;
    }
    "etcdserverpb" "Cluster" {
        MEMBER_LIST "MemberList" "cluster/member/list" pb::MemberListRequest => pb::MemberListResponse;
        MEMBER_ADD "MemberAdd" "cluster/member/add" pb::MemberAddRequest => pb::MemberAddResponse;
        MEMBER_REMOVE "MemberRemove" "cluster/member/remove" pb::MemberRemoveRequest => pb::MemberRemoveResponse;
        MEMBER_UPDATE "MemberUpdate" "cluster/member/update" pb::MemberUpdateRequest => pb::MemberUpdateResponse;
        MEMBER_PROMOTE "MemberPromote" "cluster/member/promote" pb::MemberPromoteRequest => pb::MemberPromoteResponse;
    }
    "etcdserverpb" "Maintenance" {
        STATUS "Status" "maintenance/status" pb::StatusRequest => pb::StatusResponse;
        ALARM "Alarm" "maintenance/alarm" pb::AlarmRequest => pb::AlarmResponse;
        DEFRAGMENT "Defragment" "maintenance/defragment" pb::DefragmentRequest => pb::DefragmentResponse;
        HASH "Hash" "maintenance/hash" pb::HashRequest => pb::HashResponse;
        HASH_KV "HashKV" "maintenance/hashkv" pb::HashKvRequest => pb::HashKvResponse;
        MOVE_LEADER "MoveLeader" "maintenance/transfer-leadership" pb::MoveLeaderRequest => pb::MoveLeaderResponse;
        // A stream, of which its shape is compared.
        SNAPSHOT "Snapshot" "maintenance/snapshot" pb::SnapshotRequest => pb::SnapshotResponse;
        DOWNGRADE "Downgrade" "maintenance/downgrade" pb::DowngradeRequest => pb::DowngradeResponse;
    }
    "etcdserverpb" "Auth" {
        AUTHENTICATE "Authenticate" "auth/authenticate" pb::AuthenticateRequest => pb::AuthenticateResponse;
        AUTH_ENABLE "AuthEnable" "auth/enable" pb::AuthEnableRequest => pb::AuthEnableResponse;
        AUTH_DISABLE "AuthDisable" "auth/disable" pb::AuthDisableRequest => pb::AuthDisableResponse;
        AUTH_STATUS "AuthStatus" "auth/status" pb::AuthStatusRequest => pb::AuthStatusResponse;
        USER_ADD "UserAdd" "auth/user/add" pb::AuthUserAddRequest => pb::AuthUserAddResponse;
        USER_GET "UserGet" "auth/user/get" pb::AuthUserGetRequest => pb::AuthUserGetResponse;
        USER_LIST "UserList" "auth/user/list" pb::AuthUserListRequest => pb::AuthUserListResponse;
        USER_DELETE "UserDelete" "auth/user/delete" pb::AuthUserDeleteRequest => pb::AuthUserDeleteResponse;
        USER_CHANGE_PASSWORD "UserChangePassword" "auth/user/changepw" pb::AuthUserChangePasswordRequest => pb::AuthUserChangePasswordResponse;
        USER_GRANT_ROLE "UserGrantRole" "auth/user/grant" pb::AuthUserGrantRoleRequest => pb::AuthUserGrantRoleResponse;
        USER_REVOKE_ROLE "UserRevokeRole" "auth/user/revoke" pb::AuthUserRevokeRoleRequest => pb::AuthUserRevokeRoleResponse;
        ROLE_ADD "RoleAdd" "auth/role/add" pb::AuthRoleAddRequest => pb::AuthRoleAddResponse;
        ROLE_GET "RoleGet" "auth/role/get" pb::AuthRoleGetRequest => pb::AuthRoleGetResponse;
        ROLE_LIST "RoleList" "auth/role/list" pb::AuthRoleListRequest => pb::AuthRoleListResponse;
        ROLE_DELETE "RoleDelete" "auth/role/delete" pb::AuthRoleDeleteRequest => pb::AuthRoleDeleteResponse;
        ROLE_GRANT "RoleGrantPermission" "auth/role/grant" pb::AuthRoleGrantPermissionRequest => pb::AuthRoleGrantPermissionResponse;
        ROLE_REVOKE "RoleRevokePermission" "auth/role/revoke" pb::AuthRoleRevokePermissionRequest => pb::AuthRoleRevokePermissionResponse;
    }
    "v3lockpb" "Lock" {
        LOCK "Lock" "lock/lock" lock::LockRequest => lock::LockResponse;
        UNLOCK "Unlock" "lock/unlock" lock::UnlockRequest => lock::UnlockResponse;
    }
    "v3electionpb" "Election" {
        CAMPAIGN "Campaign" "election/campaign" election::CampaignRequest => election::CampaignResponse;
        PROCLAIM "Proclaim" "election/proclaim" election::ProclaimRequest => election::ProclaimResponse;
        LEADER "Leader" "election/leader" election::LeaderRequest => election::LeaderResponse;
        // A stream; here for its first answer.
        OBSERVE "Observe" "election/observe" election::LeaderRequest => election::LeaderResponse;
        RESIGN "Resign" "election/resign" election::ResignRequest => election::ResignResponse;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_through_json_unchanged() {
        let request = pb::PutRequest { key: "a".into(), lease: 7, ..Default::default() };
        let bytes = request.encode_to_vec();
        let json = (PUT.request_json)(&bytes).unwrap();
        assert_eq!(json, serde_json::json!({"key": "YQ==", "lease": "7"}));
        assert_eq!((PUT.request_bytes)(&json).unwrap(), bytes);
    }

    #[test]
    fn no_two_methods_have_one_path() {
        let mut paths: Vec<&str> = ALL.iter().flat_map(|m| [m.grpc, m.gateway]).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), 2 * ALL.len());
    }
}
