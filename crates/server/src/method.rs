//! The methods of the etcd v3 protocol and their two addresses, gRPC path and gateway path. Must
//! not know what a method does.

/// A method that this server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    Status,
    Alarm,
    Defragment,
    Hash,
    HashKv,
    Snapshot,
    MoveLeader,
    Downgrade,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    HealthCheck,
}

impl Method {
    pub(crate) const COUNT: usize = 25;

    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Range,
        Self::Put,
        Self::DeleteRange,
        Self::Txn,
        Self::Compact,
        Self::Watch,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::LeaseKeepAlive,
        Self::LeaseTimeToLive,
        Self::LeaseLeases,
        Self::Status,
        Self::Alarm,
        Self::Defragment,
        Self::Hash,
        Self::HashKv,
        Self::Snapshot,
        Self::MoveLeader,
        Self::Downgrade,
        Self::MemberList,
        Self::MemberAdd,
        Self::MemberRemove,
        Self::MemberUpdate,
        Self::MemberPromote,
        Self::HealthCheck,
    ];

    /// The method at a gRPC path such as `/etcdserverpb.KV/Put`.
    pub(crate) fn from_grpc_path(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        Self::ALL.into_iter().find(|method| method.name() == name && method.service() == service)
    }

    /// The method at a gateway path such as `/v3/kv/put`.
    pub(crate) fn from_gateway_path(path: &str) -> Option<Self> {
        // Some methods of leases were below `kv` once, and still are.
        let path = match path {
            "/v3/kv/lease/revoke" => "/v3/lease/revoke",
            "/v3/kv/lease/timetolive" => "/v3/lease/timetolive",
            "/v3/kv/lease/leases" => "/v3/lease/leases",
            path => path,
        };
        Self::ALL.into_iter().find(|method| method.gateway_path() == Some(path))
    }

    /// Its place in [`Method::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) const fn service(self) -> &'static str {
        match self {
            Self::Range | Self::Put | Self::DeleteRange | Self::Txn | Self::Compact => {
                "etcdserverpb.KV"
            }
            Self::Watch => "etcdserverpb.Watch",
            Self::LeaseGrant
            | Self::LeaseRevoke
            | Self::LeaseKeepAlive
            | Self::LeaseTimeToLive
            | Self::LeaseLeases => "etcdserverpb.Lease",
            Self::Status
            | Self::Alarm
            | Self::Defragment
            | Self::Hash
            | Self::HashKv
            | Self::Snapshot
            | Self::MoveLeader
            | Self::Downgrade => "etcdserverpb.Maintenance",
            Self::MemberList
            | Self::MemberAdd
            | Self::MemberRemove
            | Self::MemberUpdate
            | Self::MemberPromote => "etcdserverpb.Cluster",
            Self::HealthCheck => "grpc.health.v1.Health",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Range => "Range",
            Self::Put => "Put",
            Self::DeleteRange => "DeleteRange",
            Self::Txn => "Txn",
            Self::Compact => "Compact",
            Self::Watch => "Watch",
            Self::LeaseGrant => "LeaseGrant",
            Self::LeaseRevoke => "LeaseRevoke",
            Self::LeaseKeepAlive => "LeaseKeepAlive",
            Self::LeaseTimeToLive => "LeaseTimeToLive",
            Self::LeaseLeases => "LeaseLeases",
            Self::Status => "Status",
            Self::Alarm => "Alarm",
            Self::Defragment => "Defragment",
            Self::Hash => "Hash",
            Self::HashKv => "HashKV",
            Self::Snapshot => "Snapshot",
            Self::MoveLeader => "MoveLeader",
            Self::Downgrade => "Downgrade",
            Self::MemberList => "MemberList",
            Self::MemberAdd => "MemberAdd",
            Self::MemberRemove => "MemberRemove",
            Self::MemberUpdate => "MemberUpdate",
            Self::MemberPromote => "MemberPromote",
            Self::HealthCheck => "Check",
        }
    }

    /// How gRPC's metrics call its form.
    pub(crate) const fn form(self) -> &'static str {
        match self {
            Self::Watch | Self::LeaseKeepAlive => "bidi_stream",
            Self::Snapshot => "server_stream",
            Self::Range
            | Self::Put
            | Self::DeleteRange
            | Self::Txn
            | Self::Compact
            | Self::LeaseGrant
            | Self::LeaseRevoke
            | Self::LeaseTimeToLive
            | Self::LeaseLeases
            | Self::Status
            | Self::Alarm
            | Self::Defragment
            | Self::Hash
            | Self::HashKv
            | Self::MoveLeader
            | Self::Downgrade
            | Self::MemberList
            | Self::MemberAdd
            | Self::MemberRemove
            | Self::MemberUpdate
            | Self::MemberPromote
            | Self::HealthCheck => "unary",
        }
    }

    const fn gateway_path(self) -> Option<&'static str> {
        match self {
            Self::Range => Some("/v3/kv/range"),
            Self::Put => Some("/v3/kv/put"),
            Self::DeleteRange => Some("/v3/kv/deleterange"),
            Self::Txn => Some("/v3/kv/txn"),
            Self::Compact => Some("/v3/kv/compaction"),
            Self::Watch => Some("/v3/watch"),
            Self::LeaseGrant => Some("/v3/lease/grant"),
            Self::LeaseRevoke => Some("/v3/lease/revoke"),
            Self::LeaseKeepAlive => Some("/v3/lease/keepalive"),
            Self::LeaseTimeToLive => Some("/v3/lease/timetolive"),
            Self::LeaseLeases => Some("/v3/lease/leases"),
            Self::Status => Some("/v3/maintenance/status"),
            Self::Alarm => Some("/v3/maintenance/alarm"),
            Self::Defragment => Some("/v3/maintenance/defragment"),
            Self::Hash => Some("/v3/maintenance/hash"),
            Self::HashKv => Some("/v3/maintenance/hashkv"),
            Self::Snapshot => Some("/v3/maintenance/snapshot"),
            Self::MoveLeader => Some("/v3/maintenance/transfer-leadership"),
            Self::Downgrade => Some("/v3/maintenance/downgrade"),
            Self::MemberList => Some("/v3/cluster/member/list"),
            Self::MemberAdd => Some("/v3/cluster/member/add"),
            Self::MemberRemove => Some("/v3/cluster/member/remove"),
            Self::MemberUpdate => Some("/v3/cluster/member/update"),
            Self::MemberPromote => Some("/v3/cluster/member/promote"),
            Self::HealthCheck => None,
        }
    }
}

/// The gateway paths of etcd's methods that are not served yet, with the methods' full names.
const NOT_SERVED: [(&str, &str); 24] = [
    ("/v3/auth/enable", "etcdserverpb.Auth/AuthEnable"),
    ("/v3/auth/disable", "etcdserverpb.Auth/AuthDisable"),
    ("/v3/auth/status", "etcdserverpb.Auth/AuthStatus"),
    ("/v3/auth/authenticate", "etcdserverpb.Auth/Authenticate"),
    ("/v3/auth/user/add", "etcdserverpb.Auth/UserAdd"),
    ("/v3/auth/user/get", "etcdserverpb.Auth/UserGet"),
    ("/v3/auth/user/list", "etcdserverpb.Auth/UserList"),
    ("/v3/auth/user/delete", "etcdserverpb.Auth/UserDelete"),
    ("/v3/auth/user/changepw", "etcdserverpb.Auth/UserChangePassword"),
    ("/v3/auth/user/grant", "etcdserverpb.Auth/UserGrantRole"),
    ("/v3/auth/user/revoke", "etcdserverpb.Auth/UserRevokeRole"),
    ("/v3/auth/role/add", "etcdserverpb.Auth/RoleAdd"),
    ("/v3/auth/role/get", "etcdserverpb.Auth/RoleGet"),
    ("/v3/auth/role/list", "etcdserverpb.Auth/RoleList"),
    ("/v3/auth/role/delete", "etcdserverpb.Auth/RoleDelete"),
    ("/v3/auth/role/grant", "etcdserverpb.Auth/RoleGrantPermission"),
    ("/v3/auth/role/revoke", "etcdserverpb.Auth/RoleRevokePermission"),
    ("/v3/lock/lock", "v3lockpb.Lock/Lock"),
    ("/v3/lock/unlock", "v3lockpb.Lock/Unlock"),
    ("/v3/election/campaign", "v3electionpb.Election/Campaign"),
    ("/v3/election/proclaim", "v3electionpb.Election/Proclaim"),
    ("/v3/election/leader", "v3electionpb.Election/Leader"),
    ("/v3/election/observe", "v3electionpb.Election/Observe"),
    ("/v3/election/resign", "v3electionpb.Election/Resign"),
];

/// The full name of the method at a gateway path, if it is one of etcd's that we do not serve yet.
pub(crate) fn not_served_at(path: &str) -> Option<&'static str> {
    NOT_SERVED.iter().find(|(known, _)| *known == path).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_method_is_found_at_its_paths_and_counted_in_its_place() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            let path = format!("/{}/{}", method.service(), method.name());
            assert_eq!(Method::from_grpc_path(&path), Some(method));
            assert_eq!(method.index(), index);
            if let Some(path) = method.gateway_path() {
                assert_eq!(Method::from_gateway_path(path), Some(method));
                assert_eq!(not_served_at(path), None);
            }
        }
    }

    #[test]
    fn the_old_gateway_paths_of_leases_still_work() {
        for (path, method) in [
            ("/v3/kv/lease/revoke", Method::LeaseRevoke),
            ("/v3/kv/lease/timetolive", Method::LeaseTimeToLive),
            ("/v3/kv/lease/leases", Method::LeaseLeases),
        ] {
            assert_eq!(Method::from_gateway_path(path), Some(method));
        }
    }

    #[test]
    fn other_paths_name_no_method() {
        for path in [
            "",
            "/",
            "/etcdserverpb.KV",
            "/etcdserverpb.KV/",
            "etcdserverpb.KV/Put",
            "/etcdserverpb.Watch/watch",
            "/etcdserverpb.KV/put",
            "/x.KV/Put",
            "/v3/kv/put",
        ] {
            assert_eq!(Method::from_grpc_path(path), None, "{path}");
        }
        assert_eq!(Method::from_gateway_path("/v3/kv/lease/grant"), None);
        assert_eq!(Method::from_gateway_path("/v3/lock/lock"), None);
        assert_eq!(not_served_at("/v3/lock/lock"), Some("v3lockpb.Lock/Lock"));
        assert_eq!(not_served_at("/v3/nonsense"), None);
    }
}
