//! The settings of a server: every limit it has, by name. Must not know how a limit is enforced.

use crate::auth::AuthTokens;
use crate::member::MemberContext;
use quorate_kv::watch::WatchLimits;
use std::time::Duration;

/// Settings; [`ServerOptions::default`] has etcd's values where etcd has the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// The largest request that may enter the log, in bytes. A message may be 512 KiB larger
    /// before it is refused unread.
    pub request_bytes_max: usize,
    /// The most comparisons, or operations of one branch, in a transaction.
    pub txn_ops_max: usize,
    /// How long a request may take: etcd's is 5 s and two election timeouts. A client's own
    /// deadline may be sooner.
    pub request_timeout: Duration,
    /// The size in bytes at which nothing more is stored, until space was freed and the alarm is
    /// cleared; `u64::MAX` for none.
    pub quota_bytes: u64,
    /// Bytes of requests in progress, over all connections.
    pub pending_bytes_max: usize,
    /// Requests in progress, over all connections.
    pub pending_count_max: usize,
    /// Reads of many keys that may run at the same time, beside the small ones.
    pub scans_count_max: usize,
    /// Backups that may be on their way at the same time: each keeps a state of the store from being
    /// freed, and a thread.
    pub backups_count_max: usize,
    /// Open client connections.
    pub connections_count_max: usize,
    /// Requests in progress on one HTTP/2 connection.
    pub streams_count_max: u32,
    /// Open streams, over all connections.
    pub open_streams_count_max: usize,
    /// Bytes of requests that are only partly here, over all connections: each counts with its whole
    /// size. One more is refused.
    pub receiving_bytes_max: usize,
    /// Bytes of large answers that their clients have not taken yet, over all connections. One more is
    /// refused; one that is larger than this is there alone.
    pub unread_bytes_max: usize,
    /// How long a client may take nothing of a large answer before it is given up.
    pub unread_timeout: Duration,
    /// The size in bytes of a request's headers.
    pub header_bytes_max: u32,
    /// How long a client may take over the first bytes of a connection, and over the headers of an
    /// HTTP/1.1 request; so long may an HTTP/1.1 connection be idle, too.
    pub header_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Unfinished TLS handshakes, over all listeners; one more, and the oldest is given up.
    pub handshakes_count_max: usize,
    /// How often the files behind secure listeners are looked at.
    pub tls_refresh_interval: Duration,
    /// How long a client may leave sent data unacknowledged, or an idle connection's probes
    /// unanswered, before the connection counts as broken.
    pub half_open_timeout: Duration,
    /// How often an idle watch that asked for it is told how far it is; up to a tenth longer, so
    /// that not all are told at once.
    pub watch_progress_interval: Duration,
    /// How long streams of clients that require a leader outlive it: etcd's is three election
    /// timeouts.
    pub leaderless_timeout: Duration,
    /// The shortest time to live of a lease, in seconds; who asks for less gets this. etcd's is one
    /// and a half election timeouts, rounded up.
    pub lease_ttl_seconds_min: i64,
    /// How long no lease ends after this member took over leadership: owners have to find it first.
    pub lease_takeover_grace: Duration,
    /// Responses that a watch stream's client has not taken before its further requests wait.
    pub watch_unread_count_max: usize,
    /// Bytes that the calls may take up together that wait for a lock or an election: each counts for
    /// 4 KiB and four times its key. One more is refused.
    pub claims_bytes_max: usize,
    /// How much watches may hold in memory, and do in one go.
    pub watch: WatchLimits,
    /// How long requests in progress may take to end once the server stops.
    pub drain_timeout: Duration,
    /// What this member is called and where clients reach it: told to the others at the start, if
    /// they know otherwise. Its peer URLs are the cluster's business, and not looked at.
    pub member: Option<MemberContext>,
    /// Whether a change of the members is refused if it would endanger the quorum, as etcd does.
    pub strict_reconfig_check: bool,
    /// How many members may be learners.
    pub learners_count_max: usize,
    /// What the leader compacts by itself.
    pub auto_compaction: AutoCompaction,
    /// What a token is: the same on all members.
    pub auth_tokens: AuthTokens,
    /// How long a simple token is good after its last use with this member.
    pub auth_token_ttl: Duration,
    /// The binary logarithm of the rounds that a hash of a password takes: 4 to 31.
    pub bcrypt_cost: u32,
    /// The hosts that HTTP requests without TLS may name; any if there are none, or one is `*`.
    pub host_whitelist: Vec<String>,
    /// The origins of pages whose scripts may read answers, such as `https://a.example`; any if there
    /// are none, or one is `*`.
    pub cors_origins: Vec<String>,
    /// Whether it is measured how long each call takes: etcd's `--metrics extensive`.
    pub measures_calls: bool,
}

/// Which history a cluster forgets by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    #[default]
    Off,
    /// What is older than this.
    Periodic {
        /// For how long it is kept.
        period: Duration,
    },
    /// All but the latest revisions; etcd looks every five minutes.
    Revision {
        /// How many are kept.
        kept_count: u64,
    },
}

impl ServerOptions {
    /// What etcd adds to the largest request to get the largest message that it receives.
    const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

    /// The largest message that is received, in bytes.
    #[must_use]
    pub const fn message_bytes_max(&self) -> usize {
        self.request_bytes_max + Self::MESSAGE_OVERHEAD_BYTES
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            request_bytes_max: 1_572_864,
            txn_ops_max: 128,
            request_timeout: Duration::from_secs(7),
            quota_bytes: 2 << 30,
            pending_bytes_max: 64 << 20,
            pending_count_max: 65_536,
            scans_count_max: 4,
            backups_count_max: 2,
            connections_count_max: 8_192,
            streams_count_max: 8_192,
            open_streams_count_max: 65_536,
            receiving_bytes_max: 64 << 20,
            unread_bytes_max: 512 << 20,
            unread_timeout: Duration::from_secs(30),
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            handshakes_count_max: 1024,
            tls_refresh_interval: Duration::from_secs(1),
            half_open_timeout: Duration::from_secs(30),
            watch_progress_interval: Duration::from_mins(10),
            leaderless_timeout: Duration::from_secs(3),
            lease_ttl_seconds_min: 2,
            lease_takeover_grace: Duration::from_secs(3),
            watch_unread_count_max: 1024,
            claims_bytes_max: 64 << 20,
            watch: WatchLimits::default(),
            drain_timeout: Duration::from_secs(5),
            member: None,
            strict_reconfig_check: true,
            learners_count_max: 1,
            auto_compaction: AutoCompaction::Off,
            auth_tokens: AuthTokens::Simple,
            auth_token_ttl: Duration::from_mins(5),
            bcrypt_cost: 10,
            host_whitelist: Vec::new(),
            cors_origins: Vec::new(),
            measures_calls: false,
        }
    }
}
