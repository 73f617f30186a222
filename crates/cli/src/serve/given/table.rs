//! Every setting of `quorate serve` and of etcd 3.5 to 3.7, one row each: its flag, where it is in a
//! config file, what it takes, and what we do about it. The variables, the help, the file's keys and
//! the table in docs/etcd-compatibility.md are all made from this; nothing is told twice. Must not
//! know how a value comes here.

use crate::serve::go;
use std::sync::LazyLock;

/// A setting.
#[derive(Debug)]
pub(in crate::serve) struct Row {
    /// The flag, without dashes.
    pub(super) flag: &'static str,
    /// What the same was called before.
    pub(super) former: &'static [&'static str],
    pub(super) takes: Takes,
    pub(super) place: Place,
    pub(super) state: State,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Bool,
    /// A whole number.
    Count,
    /// One that is not negative.
    Unsigned,
    /// A time as Go writes it; in a config file also a number of nanoseconds.
    Time,
    /// Any text; an empty one is as none.
    Text,
    /// A text that must be there.
    Name,
    /// A text that says something even if it is empty.
    Literal,
    /// Texts, separated by commas; in a config file also a list.
    List,
    /// One of these; then the same in words.
    OneOf(&'static [&'static str], &'static str),
}

/// Where a setting is in a config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the top, by the flag's name.
    Top,
    /// In this section, by this key.
    In(&'static str, &'static str),
    Nowhere,
}

/// What is done about a setting. Values that are `as_is` ask for what is so anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Served,
    /// Served, and not etcd's: it has no variable.
    Ours,
    /// There is a warning, and nothing else.
    NoEffect {
        as_is: &'static [&'static str],
        because: &'static str,
    },
    /// To go on without it would be dangerous.
    Refused {
        as_is: &'static [&'static str],
        because: &'static str,
    },
}

const fn served(flag: &'static str, takes: Takes) -> Row {
    Row { flag, former: &[], takes, place: Place::Top, state: State::Served }
}

const fn ours(flag: &'static str, takes: Takes) -> Row {
    Row { flag, former: &[], takes, place: Place::Top, state: State::Ours }
}

const fn idle(
    flag: &'static str,
    takes: Takes,
    as_is: &'static [&'static str],
    because: &'static str,
) -> Row {
    let state = State::NoEffect { as_is, because };
    Row { flag, former: &[], takes, place: Place::Top, state }
}

const fn refused(
    flag: &'static str,
    takes: Takes,
    as_is: &'static [&'static str],
    because: &'static str,
) -> Row {
    let state = State::Refused { as_is, because };
    Row { flag, former: &[], takes, place: Place::Top, state }
}

impl Row {
    const fn within(self, section: &'static str, key: &'static str) -> Self {
        Self { place: Place::In(section, key), ..self }
    }

    const fn nowhere(self) -> Self {
        Self { place: Place::Nowhere, ..self }
    }

    const fn formerly(self, former: &'static [&'static str]) -> Self {
        Self { former, ..self }
    }

    /// Whether etcd has it.
    pub(super) fn is_etcds(&self) -> bool {
        self.state != State::Ours
    }

    /// Whether it does what it says.
    #[cfg(test)]
    pub(super) fn is_served(&self) -> bool {
        matches!(self.state, State::Served | State::Ours)
    }

    /// Its flag, and what that was called before.
    pub(super) fn flags(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.flag).chain(self.former.iter().copied())
    }

    /// The value as clap shall see it.
    ///
    /// # Errors
    ///
    /// What was expected, if it is no such value.
    pub(super) fn normal(&self, value: &str) -> Result<String, &'static str> {
        let is_right = match self.takes {
            Bool => {
                let is_true = go::boolean(value).ok_or(self.takes.expected())?;
                return Ok(is_true.to_string());
            }
            // As clap knows it; what has 64 bits and no sign is as it is.
            Count => match go::integer(value) {
                Some(number) => return Ok(number.to_string()),
                None => value.parse().is_ok_and(|number: u64| number > i64::MAX.unsigned_abs()),
            },
            Unsigned => match go::integer(value) {
                Some(number) if number >= 0 => return Ok(number.to_string()),
                Some(_) => false,
                None => value.parse().is_ok_and(|number: u64| number > i64::MAX.unsigned_abs()),
            },
            Time => go::duration(value).is_some(),
            Name => !value.is_empty(),
            Text | Literal | List => true,
            OneOf(known, _) => known.contains(&value),
        };
        if is_right { Ok(value.to_owned()) } else { Err(self.takes.expected()) }
    }
}

impl Takes {
    /// What is expected, in words.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Count => "a whole number",
            Self::Unsigned => "a whole number that is not negative",
            Self::Time => "a time with its unit, such as 500ms, 10s or 1h30m",
            Self::Text | Self::Literal => "a text",
            Self::Name => "a text that is not empty",
            Self::List => "texts, separated by commas",
            Self::OneOf(_, words) => words,
        }
    }

    /// Whether an empty value is as none.
    pub(super) const fn may_be_empty(self) -> bool {
        matches!(self, Self::Text | Self::List)
    }
}

/// The variable that stands for a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

/// A row, and the variables that stand for it: none for our own.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) row: &'static Row,
    pub(super) variables: Vec<String>,
}

/// The table.
pub(super) static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let entry = |row: &'static Row| {
        let variables = row.flags().filter(|_| row.is_etcds()).map(variable).collect();
        Entry { row, variables }
    };
    ROWS.iter().map(entry).collect()
});

/// The row of a flag.
pub(super) fn by_flag(flag: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.flags().any(|name| name == flag))
}

/// The row of a variable.
pub(super) fn by_variable(variable: &str) -> Option<&'static Row> {
    let mut entries = ENTRIES.iter();
    entries.find(|entry| entry.variables.iter().any(|name| name == variable)).map(|entry| entry.row)
}

/// The row of a key of a config file.
pub(super) fn by_key(section: Option<&str>, key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| match (row.place, section) {
        (Place::Top, None) => row.flags().any(|name| name == key),
        (Place::In(in_section, name), Some(section)) => (in_section, name) == (section, key),
        // Before, it had no section.
        (Place::In(..), None) => row.former.contains(&key),
        (Place::Top, Some(_)) | (Place::Nowhere, _) => false,
    })
}

/// The keys of a section, or those at the top.
pub(super) fn keys(section: Option<&str>) -> Vec<&'static str> {
    let key = |row: &'static Row| match (row.place, section) {
        (Place::Top, None) => Some(row.flag),
        (Place::In(in_section, key), Some(section)) if in_section == section => Some(key),
        (Place::Top | Place::In(..) | Place::Nowhere, _) => None,
    };
    let within = |name: &'static str| match (name.rsplit_once('.'), section) {
        (None, None) => Some(name),
        (Some((outer, inner)), Some(section)) if outer == section => Some(inner),
        (_, _) => None,
    };
    let sections = SECTIONS.into_iter().filter_map(within);
    ROWS.iter().filter_map(key).chain(sections).collect()
}

const CLIENT: &str = "client-transport-security";
const PEER: &str = "peer-transport-security";
const SOCKET: &str = "socket-options";
const DISCOVERY: &str = "discovery-config";
const DISCOVERY_CLIENT: &str = "discovery-config.client";
const DISCOVERY_SECURE: &str = "discovery-config.client.secure";
const DISCOVERY_AUTH: &str = "discovery-config.client.auth";
/// The sections of a config file, each within that before its last dot.
pub(super) const SECTIONS: [&str; 7] =
    [CLIENT, PEER, SOCKET, DISCOVERY, DISCOVERY_CLIENT, DISCOVERY_SECURE, DISCOVERY_AUTH];

const NO_V2_DISCOVERY: &str = "it is of version 2 of the protocol, which is not served; without it this \
     node would found a cluster of its own. Name the members with --initial-cluster, or find them with \
     --discovery-srv or --discovery-token";
const V2_DISCOVERY_DETAIL: &str = "it is about discovery of version 2, which there is not";
const NO_TRACING: &str = "nothing is sent to a tracing collector";
const BBOLT: &str = "it is about etcd's storage engine; ours has no such setting";
const NO_PROXY: &str = "there is no proxy, and this would be a member instead";
const PROXY_DETAIL: &str = "there is no proxy";
const NO_V2: &str = "the protocol of version 2 is not served";
const CHECKSUMS: &str = "rows know their checksums, which are looked at whenever a row is read; \
                         what members reply is compared all the time, and `quorate hashkv` compares \
                         what they hold";
const NOT_ROTATED: &str =
    "files of the log are not rotated by us: logrotate can, with copytruncate";
const NO_PINGS: &str = "clients that are gone are found by TCP, within 30 seconds";
const NO_WARNING: &str = "there is no such warning; /metrics tells how long things take";

use Takes::{Bool, Count, List, Literal, Name, OneOf, Text, Time, Unsigned};

const FALLBACK: Takes = OneOf(&["exit", "proxy"], "exit, or proxy");
const PROXY: Takes = OneOf(&["off", "readonly", "on"], "off, or readonly, or on");
const V2: Takes = OneOf(
    &["not-yet", "write-only", "write-only-drop-data", "gone"],
    "not-yet, or write-only, or write-only-drop-data, or gone",
);

/// In the order of etcd's help.
static ROWS: &[Row] = &[
    served("config-file", Text).nowhere(),
    served("version", Bool).nowhere(),
    // Member.
    served("name", Name),
    served("data-dir", Text),
    served("wal-dir", Text),
    served("snapshot-count", Count),
    ours("snapshot-rate", Count),
    ours("scrub-rate", Count),
    ours("memory-bytes-max", Count),
    ours("protocol-version-max", Count),
    served("heartbeat-interval", Count),
    served("election-timeout", Count),
    idle(
        "initial-election-tick-advance",
        Bool,
        &[],
        "a node that starts waits for one election timeout, as it does later",
    ),
    served("listen-peer-urls", List),
    served("listen-client-urls", List),
    served("listen-client-http-urls", List),
    idle("max-snapshots", Unsigned, &[], "the node keeps those that it needs"),
    idle("max-wals", Unsigned, &[], "the log keeps what it needs: see --snapshot-count"),
    idle("memory-mlock", Bool, &["false"], BBOLT).formerly(&["experimental-memory-mlock"]),
    served("quota-backend-bytes", Count),
    ours("disk-reserve", Count),
    idle("backend-bbolt-freelist-type", Text, &[], BBOLT),
    idle("backend-batch-interval", Time, &[], BBOLT),
    idle("backend-batch-limit", Count, &[], BBOLT),
    served("max-txn-ops", Count),
    served("max-request-bytes", Count),
    served("max-concurrent-streams", Count),
    idle("grpc-keepalive-min-time", Time, &[], NO_PINGS),
    idle("grpc-keepalive-interval", Time, &[], NO_PINGS),
    idle("grpc-keepalive-timeout", Time, &[], NO_PINGS),
    idle("socket-reuse-port", Bool, &["false"], "a port is one process's")
        .within(SOCKET, "reuse-port"),
    idle("socket-reuse-address", Bool, &["true"], "addresses are reused always")
        .within(SOCKET, "reuse-address"),
    idle("enable-grpc-gateway", Bool, &["true"], "the gateway is always there"),
    idle("raft-read-timeout", Time, &[], "a peer that is gone is noticed by its silence").nowhere(),
    idle("raft-write-timeout", Time, &[], "a peer that is gone is noticed by its silence")
        .nowhere(),
    idle(
        "feature-gates",
        List,
        &[],
        "no feature of ours hides behind a gate; as for its InitialCorruptCheck, what members \
         reply is compared all the time, and `quorate hashkv` compares what they hold",
    ),
    // Clustering.
    served("initial-advertise-peer-urls", List),
    served("initial-cluster", Literal),
    ours("initial-cluster-client-urls", Text),
    served("initial-cluster-state", Literal),
    served("initial-cluster-token", Literal),
    served("advertise-client-urls", List),
    refused("discovery", Text, &[], NO_V2_DISCOVERY),
    served("discovery-token", Text).within(DISCOVERY, "token"),
    served("discovery-endpoints", List).within(DISCOVERY_CLIENT, "endpoints"),
    served("discovery-dial-timeout", Time).within(DISCOVERY_CLIENT, "dial-timeout"),
    served("discovery-request-timeout", Time).within(DISCOVERY_CLIENT, "request-timeout"),
    served("discovery-keepalive-time", Time).within(DISCOVERY_CLIENT, "keepalive-time"),
    served("discovery-keepalive-timeout", Time).within(DISCOVERY_CLIENT, "keepalive-timeout"),
    served("discovery-insecure-transport", Bool).within(DISCOVERY_SECURE, "insecure-transport"),
    served("discovery-insecure-skip-tls-verify", Bool)
        .within(DISCOVERY_SECURE, "insecure-skip-tls-verify"),
    served("discovery-cert", Text).within(DISCOVERY_SECURE, "cert"),
    served("discovery-key", Text).within(DISCOVERY_SECURE, "key"),
    served("discovery-cacert", Text).within(DISCOVERY_SECURE, "cacert"),
    served("discovery-user", Text).within(DISCOVERY_AUTH, "username"),
    served("discovery-password", Text).within(DISCOVERY_AUTH, "password"),
    idle("discovery-fallback", FALLBACK, &["exit"], V2_DISCOVERY_DETAIL),
    idle("discovery-proxy", Text, &[], V2_DISCOVERY_DETAIL),
    served("discovery-srv", Text),
    served("discovery-srv-name", Text),
    ours("discovery-srv-server", List),
    served("strict-reconfig-check", Bool),
    idle("pre-vote", Bool, &["true"], "it is always on"),
    served("auto-compaction-retention", Text),
    served("auto-compaction-mode", Text),
    served("max-learners", Count).formerly(&["experimental-max-learners"]),
    // Security of clients.
    served("cert-file", Text).within(CLIENT, "cert-file"),
    served("key-file", Text).within(CLIENT, "key-file"),
    served("client-cert-auth", Bool).within(CLIENT, "client-cert-auth"),
    idle("client-cert-file", Text, &[], "the server is nobody's client")
        .within(CLIENT, "client-cert-file"),
    idle("client-key-file", Text, &[], "the server is nobody's client")
        .within(CLIENT, "client-key-file"),
    served("client-crl-file", Text).nowhere(),
    served("client-cert-allowed-hostname", List).within(CLIENT, "allowed-hostname"),
    served("trusted-ca-file", Text).within(CLIENT, "trusted-ca-file"),
    served("auto-tls", Bool).within(CLIENT, "auto-tls"),
    // Security between members.
    served("peer-cert-file", Text).within(PEER, "cert-file"),
    served("peer-key-file", Text).within(PEER, "key-file"),
    served("peer-client-cert-auth", Bool).within(PEER, "client-cert-auth"),
    served("peer-client-cert-file", Text).within(PEER, "client-cert-file"),
    served("peer-client-key-file", Text).within(PEER, "client-key-file"),
    served("peer-trusted-ca-file", Text).within(PEER, "trusted-ca-file"),
    served("peer-auto-tls", Bool).within(PEER, "auto-tls"),
    served("peer-crl-file", Text).nowhere(),
    served("peer-cert-allowed-cn", List).within(PEER, "allowed-cn"),
    served("peer-cert-allowed-hostname", List).within(PEER, "allowed-hostname"),
    served("peer-skip-client-san-verification", Bool)
        .within(PEER, "skip-client-san-verification")
        .formerly(&["experimental-peer-skip-client-san-verification"]),
    // Security of both.
    served("self-signed-cert-validity", Count),
    served("cipher-suites", List),
    served("tls-min-version", Text),
    served("tls-max-version", Text),
    served("cors", List),
    served("host-whitelist", List),
    // Users.
    served("auth-token", Name),
    served("bcrypt-cost", Count),
    served("auth-token-ttl", Count),
    // Watching it.
    idle("enable-pprof", Bool, &["false"], "there is no such page; /metrics is there"),
    served("metrics", Text),
    served("listen-metrics-urls", List),
    // Its log.
    refused("logger", Text, &["zap"], "the log has one form, which is zap's"),
    served("log-outputs", List),
    served("log-level", Text),
    served("log-format", Text),
    idle("enable-log-rotation", Bool, &["false"], NOT_ROTATED),
    idle("log-rotation-config-json", Text, &[], NOT_ROTATED),
    idle("warning-unary-request-duration", Time, &[], NO_WARNING)
        .formerly(&["experimental-warning-unary-request-duration"]),
    idle("warning-apply-duration", Time, &[], NO_WARNING)
        .formerly(&["experimental-warning-apply-duration"]),
    idle("enable-distributed-tracing", Bool, &["false"], NO_TRACING)
        .formerly(&["experimental-enable-distributed-tracing"]),
    idle("distributed-tracing-address", Text, &[], NO_TRACING)
        .formerly(&["experimental-distributed-tracing-address"]),
    idle("distributed-tracing-service-name", Text, &[], NO_TRACING)
        .formerly(&["experimental-distributed-tracing-service-name"]),
    idle("distributed-tracing-instance-id", Text, &[], NO_TRACING)
        .formerly(&["experimental-distributed-tracing-instance-id"]),
    idle("distributed-tracing-sampling-rate", Count, &[], NO_TRACING)
        .formerly(&["experimental-distributed-tracing-sampling-rate"]),
    // What it does by itself.
    served("watch-progress-notify-interval", Time)
        .formerly(&["experimental-watch-progress-notify-interval"]),
    idle("corrupt-check-time", Time, &["0", "0s"], CHECKSUMS)
        .formerly(&["experimental-corrupt-check-time"]),
    idle("compact-hash-check-time", Time, &[], CHECKSUMS)
        .formerly(&["experimental-compact-hash-check-time"]),
    idle("experimental-compact-hash-check-enabled", Bool, &["false"], CHECKSUMS),
    idle("experimental-initial-corrupt-check", Bool, &["false"], CHECKSUMS),
    idle("compaction-batch-limit", Count, &[], "a compaction chooses its own pace")
        .formerly(&["experimental-compaction-batch-limit"]),
    idle("compaction-sleep-interval", Time, &[], "a compaction chooses its own pace")
        .formerly(&["experimental-compaction-sleep-interval"]),
    idle(
        "bootstrap-defrag-threshold-megabytes",
        Unsigned,
        &["0"],
        "a start never waits for the state file to be made anew",
    )
    .formerly(&["experimental-bootstrap-defrag-threshold-megabytes"]),
    idle(
        "experimental-stop-grpc-service-on-defrag",
        Bool,
        &["false"],
        "nothing stops while the state file is made anew",
    ),
    idle("downgrade-check-time", Time, &[], "there is no version to go back to")
        .formerly(&["experimental-downgrade-check-time"]),
    idle(
        "snapshot-catchup-entries",
        Unsigned,
        &[],
        "the log keeps what it needs: see --snapshot-count",
    )
    .formerly(&[
        "experimental-snapshot-catchup-entries",
        // As the config files of 3.5 and 3.6 have it.
        "experimental-snapshot-catch-up-entries",
    ]),
    idle("experimental-txn-mode-write-with-shared-buffer", Bool, &[], BBOLT),
    idle(
        "experimental-enable-lease-checkpoint",
        Bool,
        &["true"],
        "what is left of a lease outlives its leader always",
    ),
    idle(
        "experimental-enable-lease-checkpoint-persist",
        Bool,
        &["true"],
        "what is left of a lease outlives its leader always",
    ),
    // Version 2.
    idle("enable-v2", Bool, &["false"], NO_V2),
    idle("experimental-enable-v2v3", Text, &[], NO_V2),
    idle("v2-deprecation", V2, &[], NO_V2),
    refused("proxy", PROXY, &["off"], NO_PROXY),
    idle("proxy-failure-wait", Unsigned, &[], PROXY_DETAIL),
    idle("proxy-refresh-interval", Unsigned, &[], PROXY_DETAIL),
    idle("proxy-dial-timeout", Unsigned, &[], PROXY_DETAIL),
    idle("proxy-write-timeout", Unsigned, &[], PROXY_DETAIL),
    idle("proxy-read-timeout", Unsigned, &[], PROXY_DETAIL),
    // What is not safe.
    served("force-new-cluster", Bool),
    ours("rebuild-state", Bool),
    idle("unsafe-no-fsync", Bool, &["false"], "what is acknowledged is always on the disk"),
    // Not for people.
    ours("exit-with-parent", Bool).nowhere(),
];
