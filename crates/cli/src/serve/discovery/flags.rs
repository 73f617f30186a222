//! The flags that say where it is asked who the first members are, and which of them make sense together.
//! Must not know how anybody is asked.

use crate::client::{
    Address, Connection, DiscoverFlags, Format, KeepAlive, LoginFlags, Secret, SecurityFlags,
};
use crate::go;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What Go's clients make of a shorter time between pings: a server of etcd's ends connections that are
/// pinged much more often.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(10);

/// Where it is asked who the first members are.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are what the flags are called")]
pub(crate) struct DiscoveryFlags {
    /// The members of a new cluster are those that this domain names in its SRV records
    /// `_etcd-server-ssl._tcp` (https) and `_etcd-server._tcp` (http)
    #[arg(long, value_name = "DOMAIN")]
    pub(super) discovery_srv: Option<String>,
    /// Look for the records of `_etcd-server-NAME` instead of `_etcd-server`
    #[arg(long, value_name = "NAME")]
    pub(super) discovery_srv_name: Option<String>,
    /// Which DNS servers say what the domain names [default: those of /etc/resolv.conf]
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS:PORT,...")]
    pub(super) discovery_srv_server: Vec<SocketAddr>,
    /// The members of a new cluster are those that register under this token with another cluster
    #[arg(long, value_name = "TOKEN")]
    pub(crate) discovery_token: Option<String>,
    /// Where that other cluster answers
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...")]
    discovery_endpoints: Vec<Address>,
    /// How long one of its endpoints may take to show that it is alive
    #[arg(long, default_value = "2s", value_parser = go::parse_duration, value_name = "TIME")]
    discovery_dial_timeout: Duration,
    /// How long a request there may take
    #[arg(long, default_value = "5s", value_parser = go::parse_duration, value_name = "TIME")]
    discovery_request_timeout: Duration,
    /// After how long without a word it is pinged; at least 10s
    #[arg(long, default_value = "2s", value_parser = go::parse_duration, value_name = "TIME")]
    discovery_keepalive_time: Duration,
    /// How long it may take to answer that
    #[arg(long, default_value = "6s", value_parser = go::parse_duration, value_name = "TIME")]
    discovery_keepalive_timeout: Duration,
    /// Whether it is spoken with as it is, without TLS, if nothing else says how
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    discovery_insecure_transport: bool,
    /// Believe it, whatever it shows: for trying out
    #[arg(
        long, default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        action = clap::ArgAction::Set, value_name = "BOOL"
    )]
    discovery_insecure_skip_tls_verify: bool,
    /// The certificate that is shown to it
    #[arg(long, value_name = "FILE")]
    discovery_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    discovery_key: Option<PathBuf>,
    /// Who may sign its certificates [default: whom the system believes]
    #[arg(long, value_name = "FILE")]
    discovery_cacert: Option<PathBuf>,
    /// As whom it is asked: NAME, or NAME:PASSWORD
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    discovery_user: Option<Secret>,
    /// The password of --discovery-user
    #[arg(long, value_name = "PASSWORD")]
    discovery_password: Option<Secret>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The DNS.
    Srv,
    /// Another cluster.
    Registry,
}

/// Flags that make no sense together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoveryFlagsError {
    /// Members from several places. The first words are etcd's.
    #[error(
        "multiple discovery or bootstrap flags are set: expected one of them to say who the members \
         are, found {}. Leave the others out",
        found.join(" and ")
    )]
    Several {
        /// The flags.
        found: Vec<&'static str>,
    },
    /// Half of what belongs together, in etcd's words.
    #[error("both --discovery-token and --discovery-endpoints must be set, found only {found}")]
    Half {
        /// The flag that is there.
        found: &'static str,
    },
    /// A detail of something that is not asked for.
    #[error(
        "expected --discovery-srv DOMAIN beside {found}, found none: there is no domain to ask about"
    )]
    NoDomain {
        /// The flag that is there.
        found: &'static str,
    },
    /// Client URLs of members whom nobody knows yet.
    #[error(
        "--initial-cluster-client-urls is about the members that --initial-cluster names, and {found} \
         finds others: leave it out, each member tells its client URLs once it runs"
    )]
    ClientUrls {
        /// The flag that finds them.
        found: &'static str,
    },
    /// A password that nobody is asked for, or nobody's password.
    #[error(
        "expected --discovery-user NAME together with --discovery-password PASSWORD, found only \
         {found}: a server asks nobody for the other one"
    )]
    HalfLogin {
        /// The flag that is there.
        found: &'static str,
    },
}

impl DiscoveryFlags {
    /// Who is asked, if anybody, beside the flags `--initial-cluster` and
    /// `--initial-cluster-client-urls`.
    ///
    /// # Errors
    ///
    /// [`DiscoveryFlagsError`].
    pub(crate) fn wanted(
        &self,
        initial_cluster: Option<&str>,
        has_client_urls: bool,
    ) -> Result<Option<Wanted>, DiscoveryFlagsError> {
        let is_named = initial_cluster.is_some_and(|text| !text.is_empty());
        let named = [
            (is_named, "--initial-cluster"),
            (self.discovery_srv.is_some(), "--discovery-srv"),
            (!self.discovery_endpoints.is_empty(), "--discovery-endpoints"),
        ];
        let found: Vec<&str> = named.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
        if found.len() > 1 {
            return Err(DiscoveryFlagsError::Several { found });
        }
        self.check_pairs()?;
        let wanted = match found.first().copied() {
            Some("--discovery-srv") => Some((Wanted::Srv, "--discovery-srv")),
            Some("--discovery-endpoints") => Some((Wanted::Registry, "--discovery-token")),
            Some(_) | None => None,
        };
        match wanted {
            Some((_, found)) if has_client_urls => Err(DiscoveryFlagsError::ClientUrls { found }),
            wanted => Ok(wanted.map(|(wanted, _)| wanted)),
        }
    }

    fn check_pairs(&self) -> Result<(), DiscoveryFlagsError> {
        match (self.discovery_token.is_some(), !self.discovery_endpoints.is_empty()) {
            (true, false) => return Err(DiscoveryFlagsError::Half { found: "--discovery-token" }),
            (false, true) => {
                return Err(DiscoveryFlagsError::Half { found: "--discovery-endpoints" });
            }
            (true, true) | (false, false) => {}
        }
        if self.discovery_srv.is_none() {
            let details = [
                (self.discovery_srv_name.is_some(), "--discovery-srv-name"),
                (!self.discovery_srv_server.is_empty(), "--discovery-srv-server"),
            ];
            if let Some((_, found)) = details.into_iter().find(|(is_there, _)| *is_there) {
                return Err(DiscoveryFlagsError::NoDomain { found });
            }
        }
        let has_password = |user: &Secret| user.expose().contains(':');
        match (&self.discovery_user, &self.discovery_password) {
            (Some(user), None) if !has_password(user) => {
                Err(DiscoveryFlagsError::HalfLogin { found: "--discovery-user" })
            }
            (None, Some(_)) => {
                Err(DiscoveryFlagsError::HalfLogin { found: "--discovery-password" })
            }
            (Some(_), _) | (None, None) => Ok(()),
        }
    }

    /// The name that other members' certificates must be valid for where nobody is named who may sign
    /// them: then anybody whom the system believes could have, for a host of theirs.
    pub(crate) fn server_name(&self) -> Option<String> {
        self.discovery_srv.as_deref().map(|domain| domain.trim_end_matches('.').to_owned())
    }

    /// The way to the cluster that knows who registers.
    pub(super) fn connection(&self) -> Connection {
        let secured = |endpoint: &Address| match endpoint.is_secure() {
            None if !self.discovery_insecure_transport => endpoint.secured(),
            Some(_) | None => endpoint.clone(),
        };
        let (cacert, cert) = (self.discovery_cacert.clone(), self.discovery_cert.clone());
        let security = SecurityFlags::of_files(cacert, cert, self.discovery_key.clone());
        Connection {
            endpoints: self.discovery_endpoints.iter().map(secured).collect(),
            write_out: Format::Simple,
            hex: false,
            command_timeout: self.discovery_request_timeout,
            dial_timeout: self.discovery_dial_timeout,
            security: security.believing_all(self.discovery_insecure_skip_tls_verify),
            login: LoginFlags::of(self.discovery_user.clone(), self.discovery_password.clone()),
            discovery: DiscoverFlags::none(),
            keep_alive: Some(KeepAlive {
                time: self.discovery_keepalive_time.max(KEEP_ALIVE_MIN),
                timeout: self.discovery_keepalive_timeout,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        discovery: DiscoveryFlags,
    }

    fn flags(line: &str) -> DiscoveryFlags {
        let words = std::iter::once("serve").chain(line.split_whitespace());
        Program::parse_from(words).discovery
    }

    fn refusal(line: &str, initial_cluster: Option<&str>) -> String {
        flags(line).wanted(initial_cluster, false).unwrap_err().to_string()
    }

    #[test]
    fn one_of_the_flags_says_who_is_asked_and_an_empty_list_of_members_says_nothing() {
        let wanted = |line: &str, members| flags(line).wanted(members, false).unwrap();
        let registry = "--discovery-token t --discovery-endpoints h:1";
        assert_eq!(wanted("", Some("a=http://h:1")), None);
        assert_eq!(wanted("", None), None);
        assert_eq!(wanted("--discovery-srv example.com", Some("")), Some(Wanted::Srv));
        assert_eq!(wanted(registry, None), Some(Wanted::Registry));
    }

    #[test]
    fn members_from_several_places_are_refused_in_etcds_words() {
        let registry = "--discovery-token t --discovery-endpoints h:1";
        for (line, members, found) in [
            ("--discovery-srv d", Some("a=x"), "--initial-cluster and --discovery-srv"),
            (registry, Some("a=x"), "--initial-cluster and --discovery-endpoints"),
            (
                &format!("{registry} --discovery-srv d"),
                None,
                "--discovery-srv and --discovery-endpoints",
            ),
        ] {
            let said = refusal(line, members);
            assert!(said.starts_with("multiple discovery or bootstrap flags are set"), "{said}");
            assert!(said.contains(found), "expected `{found}` in `{said}`");
        }
        let of_clients = flags("--discovery-srv d").wanted(None, true).unwrap_err();
        assert_eq!(of_clients, DiscoveryFlagsError::ClientUrls { found: "--discovery-srv" });
    }

    #[test]
    fn halves_are_refused_with_what_is_missing() {
        let registry = "--discovery-token t --discovery-endpoints h:1";
        for (line, words) in [
            ("--discovery-token t", "must be set, found only --discovery-token"),
            ("--discovery-endpoints h:1", "must be set, found only --discovery-endpoints"),
            ("--discovery-srv-name x", "DOMAIN beside --discovery-srv-name"),
            ("--discovery-srv-server 127.0.0.1:53", "DOMAIN beside --discovery-srv-server"),
            (&format!("{registry} --discovery-user a"), "found only --discovery-user"),
            (&format!("{registry} --discovery-password hush"), "found only --discovery-password"),
        ] {
            let said = refusal(line, None);
            assert!(
                said.contains(words) && !said.contains("hush"),
                "expected `{words}` in `{said}`"
            );
        }
        for login in ["--discovery-user a:b", "--discovery-user a --discovery-password b"] {
            assert!(flags(&format!("{registry} {login}")).wanted(None, false).is_ok());
        }
    }

    #[test]
    fn the_other_cluster_is_asked_over_tls_if_a_flag_says_so() {
        let endpoints = |more: &str| {
            let line = format!("--discovery-token t --discovery-endpoints a:1,http://b:2 {more}");
            let endpoints = flags(&line).connection().endpoints;
            endpoints.iter().map(Address::as_given).collect::<Vec<_>>()
        };
        assert_eq!(endpoints(""), ["a:1", "http://b:2"]);
        assert_eq!(
            endpoints("--discovery-insecure-transport=false"),
            ["https://a:1", "http://b:2"]
        );
    }

    #[test]
    fn pings_are_as_rare_as_a_server_of_etcds_wants_them() {
        let keep_alive = |line: &str| flags(line).connection().keep_alive.unwrap();
        assert_eq!(keep_alive("").time, KEEP_ALIVE_MIN);
        assert_eq!(keep_alive("").timeout, Duration::from_secs(6));
        let line = "--discovery-keepalive-time 1m --discovery-keepalive-timeout 1s";
        let (time, timeout) = (Duration::from_mins(1), Duration::from_secs(1));
        assert_eq!(keep_alive(line), KeepAlive { time, timeout });
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let flags = flags("--discovery-user a:hush --discovery-password hush");
        assert!(!format!("{flags:?}").contains("hush"));
    }
}
