//! The flags of `quorate serve`: etcd's names, etcd's defaults. Turned into settings and checked
//! once, before anything on the disk or the network is touched.

use super::access::AccessFlags;
use super::clients::ClientFlags;
use super::discovery::{DiscoveryFlags, DiscoveryFlagsError, Origin, Wanted};
use super::go;
use super::initial_cluster::{self, InitialCluster, InitialClusterError};
use super::log::{LogFormat, LogLevel};
use super::peers::PeerFlags;
use super::retention::{CompactionMode, RetentionError, auto_compaction};
use super::tls::TlsFlags;
use super::url::HttpUrl;
use clap::ValueEnum;
use quorate::ProtocolVersion;
use quorate_server::{AuthTokens, AutoCompaction};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  One node:
    quorate serve

  One of three (run the others with their own name and ports):
    quorate serve --name n1 \\
      --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \\
      --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \\
      --initial-cluster n1=http://127.0.0.1:2380,n2=http://127.0.0.1:22380,n3=http://127.0.0.1:32380

  All three on this machine, for trying out:
    quorate cluster

  One more, for a cluster that runs:
    quorate member add n4 --peer-urls http://127.0.0.1:42380     (prints what to start it with)

  Members that speak TLS with each other, and believe those only whom the CA has signed: with
  https:// in the three peer URLs above, and
      --peer-cert-file n1.pem --peer-key-file n1-key.pem \\
      --peer-trusted-ca-file ca.pem --peer-client-cert-auth

  Members that a domain names, or that register with another cluster under one token:
    quorate serve --name n1 --discovery-srv example.com ...
    quorate serve --name n1 --discovery-token TOKEN --discovery-endpoints HOST:2379 ...

  With etcd's config file, or from the environment, as etcd:
    quorate serve --config-file etcd.conf.yml
    ETCD_NAME=n1 ETCD_DATA_DIR=/var/lib/n1 quorate serve

Started under the name `etcd`, as a link or a copy, it takes these flags without the verb.

SIGTERM or Ctrl-C stops it cleanly; after a kill -9 it recovers from its log.";

/// Runs one node of a cluster.
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Flags {
    /// What this node is called
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// Where it keeps its data [default: NAME.quorate]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where it keeps its log, on a disk of its own perhaps [default: the folder wal in --data-dir]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Where it listens for clients
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL,...",
        default_value = "http://localhost:2379"
    )]
    pub(crate) listen_client_urls: Vec<HttpUrl>,
    /// Where clients reach it
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL,...",
        default_value = "http://localhost:2379"
    )]
    pub(crate) advertise_client_urls: Vec<HttpUrl>,
    /// Where it listens for its peers
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL,...",
        default_value = "http://localhost:2380"
    )]
    pub(crate) listen_peer_urls: Vec<HttpUrl>,
    /// Where its peers reach it: they try one after the other, from the one that worked last
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL,...",
        default_value = "http://localhost:2380"
    )]
    pub(crate) initial_advertise_peer_urls: Vec<HttpUrl>,
    /// The members of a new cluster, this node among them; one with several URLs is named with each
    /// [default: this node alone]
    #[arg(long, value_name = "NAME=URL,...")]
    pub(crate) initial_cluster: Option<String>,
    /// Where clients reach the members of a new cluster, so that `member list` can tell at once
    #[arg(long, value_name = "NAME=URL,...")]
    pub(crate) initial_cluster_client_urls: Option<String>,
    /// Whether the cluster is new. A node with an empty folder joins an `existing` one, which must
    /// have been told of it: `quorate member add`. A folder with data goes on where it was
    #[arg(long, value_enum, default_value_t = ClusterState::New)]
    pub(crate) initial_cluster_state: ClusterState,
    /// Tells clusters with equal addresses apart
    #[arg(long, default_value = "etcd-cluster")]
    pub(crate) initial_cluster_token: String,
    /// Go on alone, as a new cluster with this member's data, once: for one whose quorum is lost for
    /// good. Take it out again. `quorate recover` does the same after a look
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) force_new_cluster: bool,
    /// Give up this member's state, once, if its replies were found to differ from a majority's, and have
    /// it anew: from its log, or from the leader. The old one is kept beside it, as state.diverged. Without
    /// such a finding it does nothing
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) rebuild_state: bool,
    /// Where it is asked who the first members are.
    #[command(flatten)]
    pub(crate) discovery: DiscoveryFlags,
    /// Refuse changes of the members that would endanger the quorum
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) strict_reconfig_check: bool,
    /// How many members may be learners
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) max_learners: usize,
    /// How often a leader shows that it leads, in milliseconds
    #[arg(long, default_value_t = 100, value_name = "MS")]
    pub(crate) heartbeat_interval: u64,
    /// After how long without a leader a node campaigns, in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub(crate) election_timeout: u64,
    /// After how many entries the log is compacted, if its size and how long it takes to apply are no
    /// reason before [default: any number]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) snapshot_count: Option<u64>,
    /// How many bytes a second of snapshots it sends to members that are far behind, all together; 0
    /// for as many as they take
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub(crate) snapshot_rate: u64,
    /// How many bytes a second of its log and its snapshots it reads again, over and over, to find
    /// damage before they are needed; 0 for none
    #[arg(long, default_value_t = 256 << 10, value_name = "BYTES")]
    pub(crate) scrub_rate: u64,
    /// How many bytes of requests, of messages and of its log it may hold in memory, whatever stands
    /// still, beside the store: whoever finds no room is refused, or waits; some 300 MiB at least, 0 for
    /// what its many limits make together (some 700 MiB)
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub(crate) memory_bytes_max: usize,
    /// The newest protocol that it speaks with the other members, as if its program were no newer: to
    /// rehearse an upgrade. Once the cluster speaks a newer one, a member that does not is refused
    #[arg(
        long,
        default_value_t = ProtocolVersion::NEWEST.get(),
        value_name = "VERSION",
        value_parser = clap::value_parser!(u16).range(
            i64::from(ProtocolVersion::OLDEST.get())..=i64::from(ProtocolVersion::NEWEST.get())
        )
    )]
    pub(crate) protocol_version_max: u16,
    /// How large the data may be, in bytes: beyond it, nothing is stored until space was freed and
    /// `quorate alarm disarm` was said; 0 for 2 GiB, negative for no limit
    #[arg(long, default_value_t = 0, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) quota_backend_bytes: i64,
    /// How much of the disk is held in reserve, in bytes, at most a fortieth of it: below three times
    /// that nothing is stored until there is four times that again; 0 to look at no disk
    #[arg(long, default_value_t = 33_554_432, value_name = "BYTES")]
    pub(crate) disk_reserve: u64,
    /// What --auto-compaction-retention means: a time, or a number of revisions
    #[arg(
        long,
        value_enum,
        default_value_t = CompactionMode::Periodic
    )]
    pub(crate) auto_compaction_mode: CompactionMode,
    /// How much of its history the cluster keeps, once it compacts by itself: 1h30m, or hours as a
    /// number; in mode `revision` so many revisions; 0 for all
    #[arg(long, default_value = "0", value_name = "TIME|COUNT", allow_negative_numbers = true)]
    pub(crate) auto_compaction_retention: String,
    /// How large a request may be, in bytes
    #[arg(long, default_value_t = 1_572_864, value_name = "BYTES")]
    pub(crate) max_request_bytes: usize,
    /// How many operations a transaction may have
    #[arg(long, default_value_t = 128, value_name = "COUNT")]
    pub(crate) max_txn_ops: usize,
    /// How many requests may be in progress on one connection
    #[arg(long, default_value_t = 8192, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_concurrent_streams: u32,
    /// What users' tokens are: `simple`, or `jwt,sign-method=METHOD,priv-key=FILE,pub-key=FILE,ttl=5m`;
    /// the same on all members
    #[arg(long, default_value = "simple", value_name = "KIND")]
    pub(crate) auth_token: String,
    /// For how many seconds a user's simple token is good after its last use; 0 for 300
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) auth_token_ttl: u32,
    /// How hard passwords are to guess: the binary logarithm of the rounds, 4 to 31; 10
    /// instead of any other number
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub(crate) bcrypt_cost: u32,
    /// How often an idle watch that asks for it is told how far it is; at least 100ms
    #[arg(
        long,
        default_value = "10m",
        value_parser = go::parse_duration,
        value_name = "TIME"
    )]
    pub(crate) watch_progress_notify_interval: Duration,
    /// How clients are served.
    #[command(flatten)]
    pub(crate) clients: ClientFlags,
    /// How members speak with each other.
    #[command(flatten)]
    pub(crate) peers: PeerFlags,
    /// How TLS is spoken.
    #[command(flatten)]
    pub(crate) tls: TlsFlags,
    /// Who may ask, and what is measured.
    #[command(flatten)]
    pub(crate) access: AccessFlags,
    /// What is logged
    #[arg(long, value_enum, default_value_t = LogLevel::Info, ignore_case = true)]
    pub(crate) log_level: LogLevel,
    /// What the log looks like [under the name etcd: json]
    #[arg(long, value_enum, default_value_t = LogFormat::Console)]
    pub(crate) log_format: LogFormat,
    /// Where it goes: stderr, stdout, or a file, or several of them
    #[arg(long, value_delimiter = ',', default_value = "default", value_name = "OUTPUT,...")]
    pub(crate) log_outputs: Vec<String>,
    /// Stop when standard input ends, as it does when the process that started this one is gone
    #[arg(
        long,
        hide = true,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub(crate) exit_with_parent: bool,
}

/// Whether the cluster exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClusterState {
    New,
    Existing,
}

/// What the flags mean, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    /// Where the log is, if it was said.
    pub(crate) wal_dir: Option<PathBuf>,
    /// Until it was asked who belongs to it, if that has to be asked, this node alone.
    pub(crate) cluster: InitialCluster,
    /// Who is asked for the members.
    pub(crate) discovery: Option<Wanted>,
    /// From where they are known.
    pub(crate) origin: Origin,
    /// The client URLs of members, by name, as far as they are known.
    pub(crate) client_urls: BTreeMap<String, Vec<HttpUrl>>,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) watch_progress_interval: Duration,
    pub(crate) quota_bytes: u64,
    pub(crate) auto_compaction: AutoCompaction,
    /// Of the flag, once its files have been read.
    pub(crate) auth_tokens: AuthTokens,
}

/// Flags that contradict each other or what this program can do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagsError {
    /// Clients could not find this node.
    #[error(
        "--advertise-client-urls is required when --listen-client-urls is set: clients are sent \
         there"
    )]
    NotAdvertised,
    /// Followers would campaign between two heartbeats.
    #[error(
        "--election-timeout ({election_ms} ms) must be at least five times --heartbeat-interval \
         ({heartbeat_ms} ms)"
    )]
    ElectionTimeoutTooShort {
        /// The one.
        election_ms: u64,
        /// The other.
        heartbeat_ms: u64,
    },
    /// A dead leader would not be noticed.
    #[error("--election-timeout must be at most 50000 ms, found {election_ms}")]
    ElectionTimeoutTooLong {
        /// The setting.
        election_ms: u64,
    },
    /// A limit that nothing fits into, or that the node itself could not hold.
    #[error("--max-request-bytes: expected 1 to {REQUEST_BYTES_MAX}, found {found}")]
    RequestBytes {
        /// What it was set to.
        found: usize,
    },
    /// A time of nothing.
    #[error("--heartbeat-interval must be at least 1 ms, found 0")]
    NoHeartbeat,
    /// The name is part of a file's name and of other flags.
    #[error("--name: expected a name without `,`, `=`, `/` and spaces, found `{found}`")]
    Name {
        /// The name.
        found: String,
    },
    /// A client URL of somebody who is no member.
    #[error("--initial-cluster-client-urls: {name} is not in --initial-cluster")]
    Stranger {
        /// Who.
        name: String,
    },
    /// What is kept of the history makes no sense.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// The members make no sense.
    #[error(transparent)]
    InitialCluster(#[from] InitialClusterError),
    /// It makes no sense where it is asked who they are.
    #[error(transparent)]
    Discovery(#[from] DiscoveryFlagsError),
}

/// The largest request that fits into one command of the log.
const REQUEST_BYTES_MAX: usize = 15 << 20;
/// etcd's limit.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
/// As in etcd, a shorter interval is taken for this one.
const WATCH_PROGRESS_MIN: Duration = Duration::from_millis(100);
/// What a quota of 0 stands for.
const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;

impl Flags {
    /// Checks the flags. `is_advertised` tells whether it was said where clients find this node, or
    /// need not be said.
    ///
    /// # Errors
    ///
    /// [`FlagsError`].
    pub(crate) fn settings(&self, is_advertised: bool) -> Result<Settings, FlagsError> {
        if !is_advertised {
            return Err(FlagsError::NotAdvertised);
        }
        if self.name.is_empty() || self.name.contains([',', '=', '/', ' ']) {
            return Err(FlagsError::Name { found: self.name.clone() });
        }
        self.check_times()?;
        self.check_request_bytes()?;
        let has_client_urls = self.initial_cluster_client_urls.is_some();
        let discovery = self.discovery.wanted(self.initial_cluster.as_deref(), has_client_urls)?;
        let cluster = self.cluster(discovery)?;
        let auto_compaction =
            auto_compaction(self.auto_compaction_mode, &self.auto_compaction_retention)?;
        Ok(Settings {
            auto_compaction,
            auth_tokens: AuthTokens::Simple,
            data_dir: self.data_dir(),
            wal_dir: self.wal_dir.clone(),
            client_urls: self.client_urls(&cluster)?,
            cluster,
            discovery,
            origin: Origin::Alike,
            heartbeat_interval: Duration::from_millis(self.heartbeat_interval),
            election_timeout: Duration::from_millis(self.election_timeout),
            watch_progress_interval: self.watch_progress_notify_interval.max(WATCH_PROGRESS_MIN),
            quota_bytes: match self.quota_backend_bytes {
                0 => QUOTA_DEFAULT_BYTES,
                // A negative quota is none.
                bytes => u64::try_from(bytes).unwrap_or(u64::MAX),
            },
        })
    }

    fn data_dir(&self) -> PathBuf {
        let default = || PathBuf::from(format!("{}.quorate", self.name));
        self.data_dir.clone().unwrap_or_else(default)
    }

    fn check_request_bytes(&self) -> Result<(), FlagsError> {
        match self.max_request_bytes {
            1..=REQUEST_BYTES_MAX => Ok(()),
            found => Err(FlagsError::RequestBytes { found }),
        }
    }

    fn check_times(&self) -> Result<(), FlagsError> {
        let (heartbeat_ms, election_ms) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat_ms == 0 {
            return Err(FlagsError::NoHeartbeat);
        }
        if election_ms < heartbeat_ms.saturating_mul(5) {
            return Err(FlagsError::ElectionTimeoutTooShort { election_ms, heartbeat_ms });
        }
        if election_ms > ELECTION_TIMEOUT_MS_MAX {
            return Err(FlagsError::ElectionTimeoutTooLong { election_ms });
        }
        Ok(())
    }

    /// What all founders know of each other: they found the same configuration, and tell each other
    /// the rest once it stands.
    fn client_urls(
        &self,
        cluster: &InitialCluster,
    ) -> Result<BTreeMap<String, Vec<HttpUrl>>, FlagsError> {
        let flag = "--initial-cluster-client-urls";
        let text = self.initial_cluster_client_urls.as_deref();
        let mut urls = match text {
            Some(text) => initial_cluster::urls_by_name(text, flag)?,
            None => BTreeMap::new(),
        };
        let is_member = |name: &String| cluster.members.iter().any(|member| member.name == *name);
        if let Some(stranger) = urls.keys().find(|name| !is_member(name)) {
            return Err(FlagsError::Stranger { name: stranger.clone() });
        }
        if cluster.members.len() == 1 {
            urls.insert(self.name.clone(), self.advertise_client_urls.clone());
        }
        Ok(urls)
    }

    fn cluster(&self, discovery: Option<Wanted>) -> Result<InitialCluster, InitialClusterError> {
        let advertised = &self.initial_advertise_peer_urls;
        let alone = || {
            let member = |url: &HttpUrl| format!("{}={url}", self.name);
            advertised.iter().map(member).collect::<Vec<_>>().join(",")
        };
        let text = match discovery {
            Some(_) => alone(),
            None => self.initial_cluster.clone().unwrap_or_else(alone),
        };
        // As in etcd, the ids of members that register are made with the token under which they do.
        let token = match (discovery, &self.discovery.discovery_token) {
            (Some(Wanted::Registry), Some(token)) => token,
            (Some(_) | None, _) => &self.initial_cluster_token,
        };
        InitialCluster::parse(&text, token, &self.name, advertised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, FlagsError> {
        let words = std::iter::once(&"serve").chain(arguments);
        let matches = Program::command().get_matches_from(words);
        let flags = Program::from_arg_matches(&matches).unwrap().flags;
        let given =
            |id: &str| matches.value_source(id) != Some(clap::parser::ValueSource::DefaultValue);
        flags.settings(given("advertise_client_urls") || !given("listen_client_urls"))
    }

    #[test]
    fn without_flags_a_node_is_a_cluster_of_its_own() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.data_dir, PathBuf::from("default.quorate"));
        assert_eq!(settings.cluster.members.len(), 1);
        assert_eq!(settings.quota_bytes, 2 << 30);
    }

    #[test]
    fn listening_elsewhere_without_saying_so_is_refused() {
        let error = settings(&["--listen-client-urls", "http://127.0.0.1:1"]).unwrap_err();
        assert_eq!(error, FlagsError::NotAdvertised);
    }

    #[test]
    fn timeouts_that_cannot_work_are_refused() {
        let error = settings(&["--heartbeat-interval", "300"]).unwrap_err();
        assert!(error.to_string().contains("(1000 ms) must be at least five times"), "{error}");
        let error = settings(&["--election-timeout", "50001"]).unwrap_err();
        assert_eq!(error, FlagsError::ElectionTimeoutTooLong { election_ms: 50_001 });
        assert_eq!(settings(&["--heartbeat-interval", "0"]).unwrap_err(), FlagsError::NoHeartbeat);
    }

    #[test]
    fn limits_that_nothing_fits_into_or_that_are_too_large_are_refused() {
        let error = settings(&["--max-request-bytes", "0"]).unwrap_err();
        assert!(error.to_string().contains("--max-request-bytes: expected 1 to"), "{error}");
        let error = settings(&["--max-request-bytes", "99999999999"]).unwrap_err();
        assert!(error.to_string().contains("found 99999999999"), "{error}");
    }

    #[test]
    fn a_member_may_be_at_an_https_url_that_is_not_the_one_it_listens_at() {
        // Something in front of it may do the TLS.
        let url = "https://127.0.0.1:2380";
        let settings = settings(&["--initial-advertise-peer-urls", url]).unwrap();
        assert_eq!(settings.cluster.members[0].peer_urls, [url.parse::<HttpUrl>().unwrap()]);
        let cluster = "default=http://127.0.0.1:2380";
        let both = ["--initial-advertise-peer-urls", url, "--initial-cluster", cluster];
        let error = self::settings(&both).unwrap_err().to_string();
        assert!(error.contains("they must be equal"), "{error}");
    }

    #[test]
    fn a_member_may_be_at_several_urls_and_alone_is_a_cluster_at_all_of_them() {
        let urls = "http://127.0.0.1:2381,http://127.0.0.1:2380";
        let settings = settings(&["--initial-advertise-peer-urls", urls]).unwrap();
        let [alone] = settings.cluster.members.as_slice() else { panic!("one member") };
        assert_eq!(alone.peer_address(), "127.0.0.1:2380,127.0.0.1:2381");
    }

    #[test]
    fn unknown_flags_are_refused() {
        assert!(Program::try_parse_from(["serve", "--experimental-anything"]).is_err());
    }

    #[test]
    fn a_name_that_would_break_other_flags_is_refused() {
        assert!(matches!(settings(&["--name", "a/b"]), Err(FlagsError::Name { .. })));
    }
}
