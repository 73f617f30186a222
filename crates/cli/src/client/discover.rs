//! Endpoints that a domain names in its SRV records, as etcdctl finds them. Must not know what is asked
//! there.

use super::connection::{Address, AddressError, Connection};
use crate::dns::{DnsError, Resolver, srv_name};
use crate::go::parse_boolean;
use anyhow::bail;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The service as a domain names it, and what its endpoints' URLs begin with.
const SERVICES: [(&str, &str); 2] = [("etcd-client-ssl", "https"), ("etcd-client", "http")];

/// Which domain.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DiscoverFlags {
    /// Ask the endpoints that this domain names in its SRV records, instead of --endpoints
    #[arg(long, value_name = "DOMAIN")]
    discovery_srv: Option<String>,
    /// Look for the records of `_etcd-client-NAME` instead of `_etcd-client`
    #[arg(long, value_name = "NAME")]
    discovery_srv_name: Option<String>,
    /// Which DNS servers say what the domain names [default: those of /etc/resolv.conf]
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS:PORT,...")]
    discovery_srv_server: Vec<SocketAddr>,
    /// Ask endpoints without TLS too; if not, certificates must be valid for the domain
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set, value_parser = parse_boolean,
        value_name = "true|false"
    )]
    insecure_discovery: bool,
    /// What came of it: it is asked once.
    #[arg(skip)]
    found: Arc<OnceCell<Vec<Address>>>,
}

impl DiscoverFlags {
    /// The same as if no flag had been given.
    pub(crate) fn none() -> Self {
        Self {
            discovery_srv: None,
            discovery_srv_name: None,
            discovery_srv_server: Vec::new(),
            insecure_discovery: true,
            found: Arc::default(),
        }
    }

    /// A variable that is set to nothing names no domain.
    fn domain(&self) -> Option<&str> {
        self.discovery_srv.as_deref().filter(|domain| !domain.is_empty())
    }

    /// The name that the endpoints' certificates must be valid for, if it is not that of their hosts.
    pub(crate) fn server_name(&self) -> Option<&str> {
        let domain = self.domain().filter(|_| !self.insecure_discovery)?;
        Some(domain.trim_end_matches('.'))
    }

    /// The endpoints that `domain` names. As with etcdctl, one of the two kinds of records is enough.
    async fn discover(&self, domain: &str) -> anyhow::Result<Vec<Address>> {
        let resolver = Resolver::new(&self.discovery_srv_server);
        let (mut found, mut asked): (Vec<Address>, _) = (Vec::new(), Vec::new());
        let mut failures: Vec<DnsError> = Vec::new();
        for (service, scheme) in SERVICES {
            let service = match self.discovery_srv_name.as_deref().unwrap_or_default() {
                "" => service.to_owned(),
                name => format!("{service}-{name}"),
            };
            match resolver.srv(&service, domain).await {
                Ok(records) => {
                    let url = |host: &str, port: u16| -> Result<Address, AddressError> {
                        format!("{scheme}://{host}:{port}").parse()
                    };
                    for record in records {
                        found.push(url(&record.host, record.port)?);
                    }
                }
                Err(error) => failures.push(error),
            }
            asked.push(srv_name(&service, domain));
        }
        if found.is_empty() {
            if let Some(failure) = failures.pop() {
                return Err(anyhow::Error::from(failure).context("--discovery-srv"));
            }
            bail!(
                "--discovery-srv: expected SRV records of {}, found none; asked {resolver}. Add them \
                 to the domain, or name the endpoints with --endpoints",
                asked.join(" or ")
            );
        }
        self.without_plain(found)
    }

    /// Leaves out what is asked without TLS, if it shall not be asked.
    fn without_plain(&self, found: Vec<Address>) -> anyhow::Result<Vec<Address>> {
        if self.insecure_discovery {
            return Ok(found);
        }
        let is_secure = |address: &Address| address.is_secure() == Some(true);
        let (secure, plain): (Vec<_>, Vec<_>) = found.into_iter().partition(is_secure);
        for address in &plain {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(
                io::stderr(),
                "warning: {} is not asked, because of --insecure-discovery=false",
                address.as_given()
            );
        }
        if secure.is_empty() {
            bail!(
                "--discovery-srv: expected endpoints with TLS because of --insecure-discovery=false, \
                 found {} without. Add records of etcd-client-ssl to the domain",
                plain.len()
            );
        }
        Ok(secure)
    }
}

impl Connection {
    /// Where the cluster answers: what the domain names if there is one, and `--endpoints` if not.
    ///
    /// # Errors
    ///
    /// If the domain names nobody, or nobody tells whom.
    pub(crate) async fn addresses(&self) -> anyhow::Result<&[Address]> {
        let Some(domain) = self.discovery.domain() else { return Ok(&self.endpoints) };
        let found = self.discovery.found.get_or_try_init(|| self.discovery.discover(domain));
        Ok(found.await?)
    }

    /// The same cluster, asked here.
    pub(crate) fn at(self, endpoints: Vec<Address>) -> Self {
        let found = Arc::new(OnceCell::new_with(Some(endpoints.clone())));
        let discovery = DiscoverFlags { found, ..self.discovery };
        Self { endpoints, discovery, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::name_server::{NameServer, Reply};
    use clap::Parser;
    use domain::base::iana::Rcode;

    const SECURE: &str = "_etcd-client-ssl._tcp.example.com";
    const PLAIN: &str = "_etcd-client._tcp.example.com";

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        connection: Connection,
    }

    async fn addresses(server: &NameServer, more: &[&str]) -> Result<Vec<String>, String> {
        let server = server.address().to_string();
        let words = ["verb", "--discovery-srv", "example.com", "--discovery-srv-server", &server];
        let Program { connection } = Program::parse_from(words.iter().chain(more));
        let found = connection.addresses().await.map_err(|error| format!("{error:#}"))?;
        Ok(found.iter().map(Address::as_given).collect())
    }

    #[tokio::test]
    async fn the_endpoints_are_those_that_the_domain_names_with_tls_and_without() {
        let server = NameServer::start(&[
            (SECURE, Reply::Records(vec![(0, 2379, "b.example.com"), (0, 2379, "a.example.com")])),
            (PLAIN, Reply::Records(vec![(0, 2377, "a.example.com")])),
            (
                "_etcd-client-blue._tcp.example.com",
                Reply::Records(vec![(0, 1, "blue.example.com")]),
            ),
        ]);
        let secure = ["https://a.example.com:2379", "https://b.example.com:2379"];
        let all = [&secure[..], &["http://a.example.com:2377"]].concat();
        assert_eq!(addresses(&server, &[]).await.unwrap(), all);
        let only = addresses(&server, &["--insecure-discovery=false"]).await.unwrap();
        assert_eq!(only, secure);
        let blue = addresses(&server, &["--discovery-srv-name", "blue"]).await.unwrap();
        assert_eq!(blue, ["http://blue.example.com:1"]);
    }

    #[tokio::test]
    async fn one_kind_of_records_is_enough_and_none_is_refused_with_who_was_asked_for_what() {
        let server = NameServer::start(&[
            (SECURE, Reply::Code(Rcode::SERVFAIL)),
            (PLAIN, Reply::Records(vec![(0, 2377, "a.example.com")])),
        ]);
        assert_eq!(addresses(&server, &[]).await.unwrap(), ["http://a.example.com:2377"]);
        let refused = addresses(&server, &["--insecure-discovery=f"]).await.unwrap_err();
        assert!(refused.contains("found 1 without"), "{refused}");
        let empty = NameServer::start(&[]);
        let refused = addresses(&empty, &[]).await.unwrap_err();
        for words in [SECURE, PLAIN, &empty.address().to_string(), "found none"] {
            assert!(refused.contains(words), "expected `{words}` in `{refused}`");
        }
        let failing = NameServer::start(&[(PLAIN, Reply::Code(Rcode::SERVFAIL))]);
        let refused = addresses(&failing, &[]).await.unwrap_err();
        assert!(refused.contains("refused, with SERVFAIL"), "{refused}");
    }

    #[tokio::test]
    async fn without_a_domain_nobody_is_asked_for_endpoints() {
        for words in [&["verb"][..], &["verb", "--discovery-srv="]] {
            let Program { connection } =
                Program::parse_from(words.iter().chain(&["--endpoints", "a:1"]));
            let found = connection.addresses().await.unwrap();
            assert_eq!(found.iter().map(Address::as_given).collect::<Vec<_>>(), ["a:1"]);
            assert_eq!(connection.discovery.server_name(), None);
        }
    }

    #[test]
    fn certificates_must_be_valid_for_the_domain_where_only_secure_endpoints_are_asked() {
        let name = |more: &[&str]| {
            let words = ["verb", "--discovery-srv", "example.com."];
            let Program { connection } = Program::parse_from(words.iter().chain(more));
            connection.discovery.server_name().map(str::to_owned)
        };
        assert_eq!(name(&[]), None);
        assert_eq!(name(&["--insecure-discovery=false"]).as_deref(), Some("example.com"));
    }
}
