//! The methods of the etcd v3 protocol in one table: gRPC service and name, how many messages go each
//! way, and the gateway's paths. Must not know what a method does.

use std::time::Duration;

/// Longer than any client waits.
const LONG_PATIENCE: Duration = Duration::from_hours(24 * 365);

/// How many messages go each way, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One each way, within the server's patience.
    Unary,
    /// One each way, and the answer may take as long as the client waits.
    LongUnary,
    /// One, and then many from us.
    ServerStream,
    /// Many each way.
    Bidi,
}

impl Form {
    /// How gRPC's metrics call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unary | Self::LongUnary => "unary",
            Self::ServerStream => "server_stream",
            Self::Bidi => "bidi_stream",
        }
    }

    /// How long the answer may take at most, if `usual` is how long most may. Streams end otherwise.
    pub(crate) const fn patience_max(self, usual: Duration) -> Duration {
        match self {
            Self::LongUnary => LONG_PATIENCE,
            Self::Unary | Self::ServerStream | Self::Bidi => usual,
        }
    }
}

/// Makes everything that has a line for each method from the one table. A row is: ours, gRPC's name,
/// the form, the gateway's paths without `/v3/`: the first is the proper one.
macro_rules! methods {
    ($($service:literal {
        $($method:ident $name:literal $form:ident [$($path:literal),*])*
    })*) => {
        /// A method that this server knows. Not all are served: see `Service::call`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Method {
            $($($method,)*)*
        }

        impl Method {
            pub(crate) const COUNT: usize = [$($(Self::$method),*),*].len();

            pub(crate) const ALL: [Self; Self::COUNT] = [$($(Self::$method),*),*];

            fn in_service(service: &str, name: &str) -> Option<Self> {
                match service {
                    $($service => match name {
                        $($name => Some(Self::$method),)*
                        _ => None,
                    },)*
                    _ => None,
                }
            }

            fn below_v3(path: &str) -> Option<Self> {
                match path {
                    $($($($path => Some(Self::$method),)*)*)*
                    _ => None,
                }
            }

            pub(crate) const fn service(self) -> &'static str {
                match self {
                    $($(Self::$method)|* => $service,)*
                }
            }

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $($(Self::$method => $name,)*)*
                }
            }

            /// Service and name, as in its gRPC path.
            pub(crate) const fn full_name(self) -> &'static str {
                match self {
                    $($(Self::$method => concat!($service, "/", $name),)*)*
                }
            }

            pub(crate) const fn form(self) -> Form {
                match self {
                    $($(Self::$method => Form::$form,)*)*
                }
            }

            /// Its gateway paths without `/v3/`; none if it cannot be reached so.
            pub(crate) const fn gateway_paths(self) -> &'static [&'static str] {
                match self {
                    $($(Self::$method => &[$($path),*],)*)*
                }
            }
        }
    };
}

// A path is looked up service by service, then name by name: what is asked for most comes first.
// Some methods of leases were below `kv` at the gateway once, and still are.
methods! {
    "etcdserverpb.KV" {
        Range "Range" Unary ["kv/range"]
        Put "Put" Unary ["kv/put"]
        Txn "Txn" Unary ["kv/txn"]
        DeleteRange "DeleteRange" Unary ["kv/deleterange"]
        Compact "Compact" Unary ["kv/compaction"]
        RangeStream "RangeStream" ServerStream []
    }
    "etcdserverpb.Lease" {
        LeaseGrant "LeaseGrant" Unary ["lease/grant"]
        LeaseRevoke "LeaseRevoke" Unary ["lease/revoke", "kv/lease/revoke"]
        LeaseKeepAlive "LeaseKeepAlive" Bidi ["lease/keepalive"]
        LeaseTimeToLive "LeaseTimeToLive" Unary ["lease/timetolive", "kv/lease/timetolive"]
        LeaseLeases "LeaseLeases" Unary ["lease/leases", "kv/lease/leases"]
    }
    "etcdserverpb.Watch" {
        Watch "Watch" Bidi ["watch"]
    }
    "etcdserverpb.Auth" {
        Authenticate "Authenticate" Unary ["auth/authenticate"]
        AuthEnable "AuthEnable" Unary ["auth/enable"]
        AuthDisable "AuthDisable" Unary ["auth/disable"]
        AuthStatus "AuthStatus" Unary ["auth/status"]
        UserAdd "UserAdd" Unary ["auth/user/add"]
        UserGet "UserGet" Unary ["auth/user/get"]
        UserList "UserList" Unary ["auth/user/list"]
        UserDelete "UserDelete" Unary ["auth/user/delete"]
        UserChangePassword "UserChangePassword" Unary ["auth/user/changepw"]
        UserGrantRole "UserGrantRole" Unary ["auth/user/grant"]
        UserRevokeRole "UserRevokeRole" Unary ["auth/user/revoke"]
        RoleAdd "RoleAdd" Unary ["auth/role/add"]
        RoleGet "RoleGet" Unary ["auth/role/get"]
        RoleList "RoleList" Unary ["auth/role/list"]
        RoleDelete "RoleDelete" Unary ["auth/role/delete"]
        RoleGrantPermission "RoleGrantPermission" Unary ["auth/role/grant"]
        RoleRevokePermission "RoleRevokePermission" Unary ["auth/role/revoke"]
    }
    "etcdserverpb.Maintenance" {
        Status "Status" Unary ["maintenance/status"]
        Alarm "Alarm" Unary ["maintenance/alarm"]
        Defragment "Defragment" Unary ["maintenance/defragment"]
        Hash "Hash" Unary ["maintenance/hash"]
        HashKv "HashKV" Unary ["maintenance/hashkv"]
        Snapshot "Snapshot" ServerStream ["maintenance/snapshot"]
        MoveLeader "MoveLeader" Unary ["maintenance/transfer-leadership"]
        Downgrade "Downgrade" Unary ["maintenance/downgrade"]
    }
    "etcdserverpb.Cluster" {
        MemberList "MemberList" Unary ["cluster/member/list"]
        MemberAdd "MemberAdd" Unary ["cluster/member/add"]
        MemberRemove "MemberRemove" Unary ["cluster/member/remove"]
        MemberUpdate "MemberUpdate" Unary ["cluster/member/update"]
        MemberPromote "MemberPromote" Unary ["cluster/member/promote"]
    }
    "v3lockpb.Lock" {
        Lock "Lock" LongUnary ["lock/lock"]
        Unlock "Unlock" Unary ["lock/unlock"]
    }
    "v3electionpb.Election" {
        Campaign "Campaign" LongUnary ["election/campaign"]
        Proclaim "Proclaim" Unary ["election/proclaim"]
        Leader "Leader" Unary ["election/leader"]
        Observe "Observe" ServerStream ["election/observe"]
        Resign "Resign" Unary ["election/resign"]
    }
    "quorate.v1.Diagnostics" {
        Explain "Explain" Unary []
    }
    "grpc.health.v1.Health" {
        HealthCheck "Check" Unary []
        HealthWatch "Watch" ServerStream []
    }
    "grpc.reflection.v1.ServerReflection" {
        Reflection "ServerReflectionInfo" Bidi []
    }
    "grpc.reflection.v1alpha.ServerReflection" {
        ReflectionAlpha "ServerReflectionInfo" Bidi []
    }
}

impl Method {
    /// The method at a gRPC path such as `/etcdserverpb.KV/Put`.
    pub(crate) fn from_grpc_path(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        Self::in_service(service, name)
    }

    /// The method at a gateway path such as `/v3/kv/put`, or `/v3beta/kv/put` as it was once.
    pub(crate) fn from_gateway_path(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))?;
        Self::below_v3(path)
    }

    /// Whether it is carried out by way of others: a lock or an election.
    pub(crate) fn is_recipe(self) -> bool {
        matches!(self.service(), "v3lockpb.Lock" | "v3electionpb.Election")
    }

    /// Its place in [`Method::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_at_its_paths() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            let path = format!("/{}", method.full_name());
            assert_eq!(path, format!("/{}/{}", method.service(), method.name()));
            assert_eq!(Method::from_grpc_path(&path), Some(method), "{path}");
            assert_eq!(method.index(), index);
            for path in method.gateway_paths() {
                for root in ["/v3", "/v3beta"] {
                    let found = Method::from_gateway_path(&format!("{root}/{path}"));
                    assert_eq!(found, Some(method), "{path}");
                }
            }
        }
    }

    #[test]
    fn the_table_has_every_method_of_etcds_protocol() {
        let services = Method::ALL.map(Method::service);
        let count = |service| services.iter().filter(|found| **found == service).count();
        let expected = [
            ("etcdserverpb.KV", 6),
            ("etcdserverpb.Watch", 1),
            ("etcdserverpb.Lease", 5),
            ("etcdserverpb.Cluster", 5),
            ("etcdserverpb.Maintenance", 8),
            ("etcdserverpb.Auth", 17),
            ("v3lockpb.Lock", 2),
            ("v3electionpb.Election", 5),
            ("grpc.health.v1.Health", 2),
        ];
        for (service, methods) in expected {
            assert_eq!(count(service), methods, "{service}");
        }
    }

    #[test]
    fn who_waits_for_a_lock_is_not_hurried_and_everybody_else_is() {
        let usual = Duration::from_secs(7);
        for method in Method::ALL {
            let is_hurried = method.form().patience_max(usual) == usual;
            let waits = matches!(method, Method::Lock | Method::Campaign);
            assert_eq!(is_hurried, !waits, "{method:?}");
        }
    }

    /// The gateway's paths in etcd 3.5 to 3.7.
    const ETCDS_PATHS: [(&str, &str); 51] = [
        ("kv/range", "etcdserverpb.KV/Range"),
        ("kv/put", "etcdserverpb.KV/Put"),
        ("kv/deleterange", "etcdserverpb.KV/DeleteRange"),
        ("kv/txn", "etcdserverpb.KV/Txn"),
        ("kv/compaction", "etcdserverpb.KV/Compact"),
        ("watch", "etcdserverpb.Watch/Watch"),
        ("lease/grant", "etcdserverpb.Lease/LeaseGrant"),
        ("lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
        ("kv/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
        ("lease/keepalive", "etcdserverpb.Lease/LeaseKeepAlive"),
        ("lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
        ("kv/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
        ("lease/leases", "etcdserverpb.Lease/LeaseLeases"),
        ("kv/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
        ("cluster/member/add", "etcdserverpb.Cluster/MemberAdd"),
        ("cluster/member/remove", "etcdserverpb.Cluster/MemberRemove"),
        ("cluster/member/update", "etcdserverpb.Cluster/MemberUpdate"),
        ("cluster/member/list", "etcdserverpb.Cluster/MemberList"),
        ("cluster/member/promote", "etcdserverpb.Cluster/MemberPromote"),
        ("maintenance/alarm", "etcdserverpb.Maintenance/Alarm"),
        ("maintenance/status", "etcdserverpb.Maintenance/Status"),
        ("maintenance/defragment", "etcdserverpb.Maintenance/Defragment"),
        ("maintenance/hash", "etcdserverpb.Maintenance/Hash"),
        ("maintenance/hashkv", "etcdserverpb.Maintenance/HashKV"),
        ("maintenance/snapshot", "etcdserverpb.Maintenance/Snapshot"),
        ("maintenance/transfer-leadership", "etcdserverpb.Maintenance/MoveLeader"),
        ("maintenance/downgrade", "etcdserverpb.Maintenance/Downgrade"),
        ("auth/enable", "etcdserverpb.Auth/AuthEnable"),
        ("auth/disable", "etcdserverpb.Auth/AuthDisable"),
        ("auth/status", "etcdserverpb.Auth/AuthStatus"),
        ("auth/authenticate", "etcdserverpb.Auth/Authenticate"),
        ("auth/user/add", "etcdserverpb.Auth/UserAdd"),
        ("auth/user/get", "etcdserverpb.Auth/UserGet"),
        ("auth/user/list", "etcdserverpb.Auth/UserList"),
        ("auth/user/delete", "etcdserverpb.Auth/UserDelete"),
        ("auth/user/changepw", "etcdserverpb.Auth/UserChangePassword"),
        ("auth/user/grant", "etcdserverpb.Auth/UserGrantRole"),
        ("auth/user/revoke", "etcdserverpb.Auth/UserRevokeRole"),
        ("auth/role/add", "etcdserverpb.Auth/RoleAdd"),
        ("auth/role/get", "etcdserverpb.Auth/RoleGet"),
        ("auth/role/list", "etcdserverpb.Auth/RoleList"),
        ("auth/role/delete", "etcdserverpb.Auth/RoleDelete"),
        ("auth/role/grant", "etcdserverpb.Auth/RoleGrantPermission"),
        ("auth/role/revoke", "etcdserverpb.Auth/RoleRevokePermission"),
        ("lock/lock", "v3lockpb.Lock/Lock"),
        ("lock/unlock", "v3lockpb.Lock/Unlock"),
        ("election/campaign", "v3electionpb.Election/Campaign"),
        ("election/proclaim", "v3electionpb.Election/Proclaim"),
        ("election/leader", "v3electionpb.Election/Leader"),
        ("election/observe", "v3electionpb.Election/Observe"),
        ("election/resign", "v3electionpb.Election/Resign"),
    ];

    #[test]
    fn the_gateway_has_etcds_paths_and_no_others() {
        for (path, name) in ETCDS_PATHS {
            let method = Method::from_gateway_path(&format!("/v3/{path}"));
            assert_eq!(method.map(Method::full_name), Some(name), "{path}");
        }
        let count: usize = Method::ALL.iter().map(|method| method.gateway_paths().len()).sum();
        assert_eq!(count, ETCDS_PATHS.len());
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
            "/etcdserverpb.KV/Watch",
            "/x.KV/Put",
            "/v3/kv/put",
        ] {
            assert_eq!(Method::from_grpc_path(path), None, "{path}");
        }
        for path in
            ["", "/v3", "/v3/", "v3/kv/put", "/v3/kv/put/", "/v3alpha/kv/put", "/v3/kv/lease/grant"]
        {
            assert_eq!(Method::from_gateway_path(path), None, "{path}");
        }
        assert_eq!(Method::from_gateway_path("/v3/nonsense"), None);
    }
}
