//! SRV records: which hosts a domain names for a service. Asks the servers of /etc/resolv.conf, or those
//! that it is given, over UDP, and over TCP what does not fit; hosts are looked up by the system, which
//! knows /etc/hosts too. Must not know what the service is.

use domain::base::iana::Rcode;
use domain::base::{Name, Rtype};
use domain::rdata::Srv;
use domain::resolv::StubResolver;
use domain::resolv::stub::Answer;
use domain::resolv::stub::conf::{ResolvConf, ResolvOptions, ServerConf, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// Where a system says whom to ask.
const SYSTEM_FILE: &str = "/etc/resolv.conf";
/// As often, and as long, as the system would ask at most, whatever that file says.
const ATTEMPTS_COUNT_MAX: usize = 5;
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Whom to ask, and how patiently.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    options: ResolvOptions,
}

/// A host that a domain names for a service; the lowest priority comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SrvRecord {
    pub(crate) priority: u16,
    /// Without a dot at the end.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why it is not known what a domain names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsError {
    /// It is no domain, or none of which a service could be asked.
    #[error("expected a domain such as example.com, found `{found}`: {reason}")]
    Name {
        /// The name that would be asked for.
        found: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server gave an answer that counts.
    #[error("asked for the SRV records of {name}, and no server told: {}", told(failures))]
    Untold {
        /// The name that was asked for.
        name: String,
        /// Each server, and what became of the question there.
        failures: BTreeMap<SocketAddr, String>,
    },
}

fn told(failures: &BTreeMap<SocketAddr, String>) -> String {
    let each = failures.iter().map(|(server, why)| format!("{server}: {why}"));
    each.collect::<Vec<_>>().join("; ")
}

impl Resolver {
    /// Asks `servers` for names as they are; without any, those of the system, in its manner.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let mut conf = ResolvConf::new();
        if servers.is_empty() {
            heed(&mut conf, &fs::read_to_string(SYSTEM_FILE).unwrap_or_default());
        } else {
            let server = |server: &SocketAddr| ServerConf::new(*server, Transport::UdpTcp);
            conf.servers.extend(servers.iter().map(server));
        }
        Self::of(conf)
    }

    fn of(mut conf: ResolvConf) -> Self {
        // Without a server it is the one of this machine, as for the system itself.
        conf.finalize();
        let servers = conf.servers.iter().map(|server| server.addr).collect();
        let mut options = conf.options;
        options.attempts = options.attempts.clamp(1, ATTEMPTS_COUNT_MAX);
        options.timeout = options.timeout.clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        Self { servers, options }
    }

    /// The hosts that `domain` names for `service`, such as `etcd-server`, over TCP; none if it names
    /// none.
    ///
    /// # Errors
    ///
    /// [`DnsError`].
    pub(crate) async fn srv(
        &self,
        service: &str,
        domain: &str,
    ) -> Result<Vec<SrvRecord>, DnsError> {
        for name in self.names(&srv_name(service, domain))? {
            let records = self.ask(&name).await?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }

    /// The names to ask for, one after the other: with a dot at the end as it is, otherwise with the
    /// system's suffixes besides, before or after by the number of its dots.
    fn names(&self, text: &str) -> Result<Vec<Name<Vec<u8>>>, DnsError> {
        let parse = |text: &str| {
            let refused = |error: &dyn fmt::Display| DnsError::Name {
                found: text.to_owned(),
                reason: error.to_string(),
            };
            Name::<Vec<u8>>::from_str(text).map_err(|error| refused(&error))
        };
        let mut names = vec![parse(text)?];
        if text.ends_with('.') {
            return Ok(names);
        }
        let suffixes = self.options.search.as_slice().iter().filter(|suffix| !suffix.is_root());
        // A name that is too long with a suffix is nobody's.
        names.extend(suffixes.filter_map(|suffix| parse(&format!("{text}.{suffix}")).ok()));
        if text.matches('.').count() < self.options.ndots {
            names.rotate_left(1);
        }
        Ok(names)
    }

    /// Asks one server after the other, as often as the system would, until one tells.
    async fn ask(&self, name: &Name<Vec<u8>>) -> Result<Vec<SrvRecord>, DnsError> {
        let mut failures = BTreeMap::new();
        for _ in 0..self.options.attempts {
            for server in &self.servers {
                match self.ask_server(name, *server).await {
                    Ok(records) => return Ok(records),
                    Err(why) => failures.insert(*server, why),
                };
            }
        }
        Err(DnsError::Untold { name: name.to_string(), failures })
    }

    async fn ask_server(
        &self,
        name: &Name<Vec<u8>>,
        server: SocketAddr,
    ) -> Result<Vec<SrvRecord>, String> {
        let servers = vec![ServerConf::new(server, Transport::UdpTcp)];
        let conf = ResolvConf { servers, options: self.options.clone() };
        let answer = StubResolver::from_conf(conf).query((name, Rtype::SRV)).await;
        let answer = answer.map_err(|error| {
            let is_late = error.kind() == io::ErrorKind::TimedOut;
            let late = || format!("no answer within {:?}", self.options.timeout);
            if is_late { late() } else { error.to_string() }
        })?;
        match answer.header().rcode() {
            Rcode::NXDOMAIN => Ok(Vec::new()),
            Rcode::NOERROR if answer.is_truncated() => Err("an answer in pieces".to_owned()),
            Rcode::NOERROR => records(&answer),
            other => Err(format!("refused, with {other}")),
        }
    }
}

impl fmt::Display for Resolver {
    /// Whom it asks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        f.write_str(&servers.join(", "))
    }
}

/// The name under which a domain says who offers a service.
pub(crate) fn srv_name(service: &str, domain: &str) -> String {
    format!("_{service}._tcp.{domain}")
}

/// Every address of a host, with this port, as the system knows them.
///
/// # Errors
///
/// What the system says if there is none.
pub(crate) async fn addresses(host: &str, port: u16) -> Result<BTreeSet<SocketAddr>, String> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes over what the lines of a resolv.conf say. One that makes no sense is left out, as by the system.
fn heed(conf: &mut ResolvConf, text: &str) {
    for line in text.lines() {
        let _senseless = conf.parse(&mut line.as_bytes());
    }
}

fn records(answer: &Answer) -> Result<Vec<SrvRecord>, String> {
    let unreadable =
        |error: domain::base::wire::ParseError| format!("an answer that cannot be read: {error}");
    let mut found = Vec::new();
    for record in answer.answer().map_err(unreadable)?.limit_to_in::<Srv<_>>() {
        let record = record.map_err(unreadable)?;
        let srv = record.data();
        let host = srv.target().to_string().trim_end_matches('.').to_owned();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if !host.chars().all(is_plain) {
            return Err(format!("expected the name of a host, found `{host}`"));
        }
        // No host: that is how a domain says that it does not offer the service.
        if !host.is_empty() {
            found.push(SrvRecord { priority: srv.priority(), host, port: srv.port() });
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
#[path = "../tests/harness/name_server.rs"]
pub(crate) mod name_server;

#[cfg(test)]
mod tests {
    use super::name_server::{NameServer, Reply};
    use super::*;

    const NAME: &str = "_etcd-server._tcp.example.com";

    fn resolver(servers: &[&NameServer]) -> Resolver {
        let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address()).collect();
        Resolver::new(&servers)
    }

    /// Is not patient, but asks often.
    fn impatient(servers: &[&NameServer]) -> Resolver {
        let mut resolver = resolver(servers);
        resolver.options.timeout = Duration::from_millis(300);
        resolver.options.attempts = ATTEMPTS_COUNT_MAX;
        resolver
    }

    fn record(priority: u16, host: &str, port: u16) -> SrvRecord {
        SrvRecord { priority, host: host.to_owned(), port }
    }

    #[tokio::test]
    async fn the_hosts_that_a_domain_names_come_by_their_priority() {
        let records = vec![
            (20, 2380, "c.example.com"),
            (10, 2382, "a.example.com"),
            (10, 2381, "b.example.com"),
        ];
        let server = NameServer::start(&[(NAME, Reply::Records(records))]);
        let found = resolver(&[&server]).srv("etcd-server", "example.com").await.unwrap();
        let expected = [
            record(10, "a.example.com", 2382),
            record(10, "b.example.com", 2381),
            record(20, "c.example.com", 2380),
        ];
        assert_eq!(found, expected);
        assert_eq!(server.asked(), [NAME]);
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_one_without_records_and_one_that_denies_the_service_have_no_hosts()
     {
        let server = NameServer::start(&[
            ("_etcd-server._tcp.empty.example.com", Reply::Records(Vec::new())),
            ("_etcd-server._tcp.denies.example.com", Reply::Records(vec![(0, 0, ".")])),
        ]);
        let resolver = resolver(&[&server]);
        for domain in ["none.example.com", "empty.example.com", "denies.example.com"] {
            assert_eq!(resolver.srv("etcd-server", domain).await, Ok(Vec::new()), "{domain}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_fit_is_fetched_over_tcp() {
        let records: Vec<_> =
            (1..=200).map(|port| (0, port, "a-host-of-some-length.example.com")).collect();
        let server = NameServer::start(&[(NAME, Reply::OverTcp(records))]);
        let found = resolver(&[&server]).srv("etcd-server", "example.com").await.unwrap();
        assert_eq!(found.len(), 200);
        assert_eq!(found[199], record(0, "a-host-of-some-length.example.com", 200));
    }

    #[tokio::test]
    async fn a_server_that_fails_or_is_silent_is_followed_by_the_next() {
        for reply in [Reply::Code(Rcode::SERVFAIL), Reply::Silence] {
            let broken = NameServer::start(&[(NAME, reply)]);
            let sound = NameServer::start(&[(NAME, Reply::Records(vec![(0, 1, "h")]))]);
            let found = impatient(&[&broken, &sound]).srv("etcd-server", "example.com").await;
            assert_eq!(found, Ok(vec![record(0, "h", 1)]));
            assert!(!broken.asked().is_empty());
        }
    }

    #[tokio::test]
    async fn where_no_server_tells_it_is_said_what_each_was_asked_and_what_came_of_it() {
        let silent = NameServer::start(&[(NAME, Reply::Silence)]);
        let refusing = NameServer::start(&[(NAME, Reply::Code(Rcode::REFUSED))]);
        let resolver = impatient(&[&silent, &refusing]);
        let said = resolver.srv("etcd-server", "example.com").await.unwrap_err().to_string();
        for words in [
            format!("the SRV records of {NAME}"),
            format!("{}: no answer within 300ms", silent.address()),
            format!("{}: refused, with REFUSED", refusing.address()),
        ] {
            assert!(said.contains(&words), "expected `{words}` in `{said}`");
        }
        let said = resolver.srv("etcd-server", "a..b").await.unwrap_err().to_string();
        assert!(said.starts_with("expected a domain such as example.com"), "{said}");
    }

    #[test]
    fn a_short_name_is_looked_for_below_the_systems_suffixes_first_and_a_long_one_last() {
        let mut conf = ResolvConf::new();
        heed(
            &mut conf,
            "# a comment\nnameserver 192.0.2.1\nlookup file bind\nnameserver 192.0.2.2\n\
             search ns.svc.cluster.local cluster.local\noptions ndots:3 timeout:7 edns0\n",
        );
        let resolver = Resolver::of(conf);
        assert_eq!(resolver.to_string(), "192.0.2.1:53, 192.0.2.2:53");
        assert_eq!(resolver.options.timeout, Duration::from_secs(7));
        let names = |domain: &str| {
            let names = resolver.names(&srv_name("etcd-server", domain)).unwrap();
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let below = |suffix: &str| format!("_etcd-server._tcp.etcd{suffix}");
        let suffixes = [below(".ns.svc.cluster.local"), below(".cluster.local")];
        assert_eq!(names("etcd"), [&suffixes[..], &[below("")]].concat());
        assert_eq!(names("etcd.")[..], [below("")]);
        assert_eq!(names("etcd.example")[0], below(".example"));
        assert_eq!(names("etcd.example").len(), 3);
    }

    #[test]
    fn nobody_is_asked_more_often_or_longer_than_by_the_system() {
        for (line, attempts, seconds) in [
            ("options attempts:4 timeout:29", 4, 29),
            ("options attempts:1000 timeout:1000", 5, 30),
            ("options attempts:0 timeout:0", 1, 1),
        ] {
            let mut conf = ResolvConf::new();
            heed(&mut conf, line);
            let Resolver { options, .. } = Resolver::of(conf);
            assert_eq!(
                (options.attempts, options.timeout.as_secs()),
                (attempts, seconds),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn a_host_has_the_addresses_that_the_system_knows() {
        let found = addresses("localhost", 7).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        assert!(!found.is_empty());
        assert!(addresses("no-such-host.invalid", 7).await.is_err());
    }
}
