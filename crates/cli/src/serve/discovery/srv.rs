//! The first members of a cluster as a domain names them in its SRV records, and which of them this node
//! is: the one whose addresses are those that it advertises. Must not know what becomes of them.

use crate::dns::{DnsError, Resolver, SrvRecord, addresses, srv_name};
use crate::serve::HttpUrl;
use crate::serve::url::UrlError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The service as a domain names it, and what its members' URLs begin with.
const SERVICES: [(&str, &str); 2] = [("etcd-server-ssl", "https"), ("etcd-server", "http")];
/// More than that is no cluster.
const RECORDS_COUNT_MAX: usize = 100;

/// A question.
pub(super) struct Question<'a> {
    pub(super) domain: &'a str,
    /// What is behind the service's name, if something is.
    pub(super) service_name: Option<&'a str>,
    /// This node's name, and where its peers reach it.
    pub(super) name: &'a str,
    pub(super) advertised: &'a [HttpUrl],
}

/// Why a domain does not say who the members are.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SrvError {
    /// It was not told.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// It names nobody.
    #[error(
        "expected SRV records of {}, found none; asked {servers}. Add a record for each member to the \
         domain, or name the members with --initial-cluster",
        names.join(" or ")
    )]
    Nobody {
        /// What was asked for.
        names: Vec<String>,
        /// Who was asked.
        servers: String,
    },
    /// It names too many.
    #[error("expected SRV records of at most {RECORDS_COUNT_MAX} members, found {found}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// What it names is no host and port.
    #[error("an SRV record names no member: {0}")]
    Url(#[from] UrlError),
    /// Where one of them is, nobody knows. To found a cluster without it would be another cluster.
    #[error(
        "{url} has no address: {reason}. It is {whose}; all must be known before there is a cluster: \
         add the host to the DNS or to /etc/hosts"
    )]
    NoAddress {
        /// The URL.
        url: HttpUrl,
        /// What names it.
        whose: &'static str,
        /// What the system says.
        reason: String,
    },
    /// This node is none of them. The first words are etcd's.
    #[error(
        "cannot find local etcd member \"{name}\" in SRV records: they name {}, and none has an address \
         of {}. Say with --initial-advertise-peer-urls at which of them this node is, or add a record \
         for it",
        join(found),
        join(advertised)
    )]
    NotAMember {
        /// This node's name.
        name: String,
        /// Who is named.
        found: Vec<HttpUrl>,
        /// What this node advertises.
        advertised: Vec<HttpUrl>,
    },
    /// Records and flags say different things of TLS.
    #[error(
        "an SRV record names {record}, and --initial-advertise-peer-urls says {advertised} at the same \
         address: expected http or https in both. Records of etcd-server-ssl are for https, those of \
         etcd-server for http"
    )]
    Scheme {
        /// What the record says.
        record: HttpUrl,
        /// What the flag says.
        advertised: HttpUrl,
    },
    /// One of several URLs of this node is not named.
    #[error(
        "--initial-advertise-peer-urls says {missing}, and no SRV record names a member with an address \
         of it: add a record, or leave that URL out"
    )]
    NotNamed {
        /// The URL.
        missing: HttpUrl,
    },
}

fn join(urls: &[HttpUrl]) -> String {
    urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A URL, and where it leads.
#[derive(Clone, Debug)]
struct Located {
    url: HttpUrl,
    addresses: BTreeSet<SocketAddr>,
}

/// Asks who the members are: their URLs, by name. This node has its own, the others have numbers, for
/// records have no names.
///
/// # Errors
///
/// [`SrvError`].
pub(super) async fn members(
    question: &Question<'_>,
    resolver: &Resolver,
) -> Result<BTreeMap<String, Vec<HttpUrl>>, SrvError> {
    let urls = urls(question, resolver).await?;
    let records = located(&urls, "in an SRV record").await?;
    let own = located(question.advertised, "in --initial-advertise-peer-urls").await?;
    sorted_out(question.name, &own, &records)
}

/// What the records of both services name.
async fn urls(question: &Question<'_>, resolver: &Resolver) -> Result<Vec<HttpUrl>, SrvError> {
    let (mut urls, mut names): (Vec<HttpUrl>, _) = (Vec::new(), Vec::new());
    for (service, scheme) in SERVICES {
        let service = match question.service_name {
            Some(name) => format!("{service}-{name}"),
            None => service.to_owned(),
        };
        let records = resolver.srv(&service, question.domain).await?;
        names.push(srv_name(&service, question.domain));
        for SrvRecord { host, port, .. } in records {
            urls.push(format!("{scheme}://{host}:{port}").parse()?);
        }
    }
    match urls.len() {
        0 => Err(SrvError::Nobody { names, servers: resolver.to_string() }),
        1..=RECORDS_COUNT_MAX => Ok(urls),
        found => Err(SrvError::TooMany { found }),
    }
}

async fn located(urls: &[HttpUrl], whose: &'static str) -> Result<Vec<Located>, SrvError> {
    let mut all = Vec::new();
    for url in urls {
        let no_address = |reason| SrvError::NoAddress { url: url.clone(), whose, reason };
        let addresses = addresses(url.host(), url.port()).await.map_err(no_address)?;
        all.push(Located { url: url.clone(), addresses });
    }
    Ok(all)
}

fn sorted_out(
    name: &str,
    own: &[Located],
    records: &[Located],
) -> Result<BTreeMap<String, Vec<HttpUrl>>, SrvError> {
    let mut members: BTreeMap<String, Vec<HttpUrl>> = BTreeMap::new();
    let mut numbers = (0..).map(|number: usize| number.to_string()).filter(|number| number != name);
    for record in records {
        let is_same = |own: &&Located| !own.addresses.is_disjoint(&record.addresses);
        let whose = match own.iter().find(is_same) {
            Some(own) if own.url.is_secure() != record.url.is_secure() => {
                let (record, advertised) = (record.url.clone(), own.url.clone());
                return Err(SrvError::Scheme { record, advertised });
            }
            Some(_) => name.to_owned(),
            None => numbers.next().unwrap_or_default(),
        };
        members.entry(whose).or_default().push(record.url.clone());
    }
    let urls =
        |located: &[Located]| -> Vec<HttpUrl> { located.iter().map(|it| it.url.clone()).collect() };
    if !members.contains_key(name) {
        let (name, found) = (name.to_owned(), urls(records));
        return Err(SrvError::NotAMember { name, found, advertised: urls(own) });
    }
    let is_named =
        |own: &&Located| records.iter().any(|it| !it.addresses.is_disjoint(&own.addresses));
    match own.iter().find(|own| !is_named(own)) {
        Some(own) => Err(SrvError::NotNamed { missing: own.url.clone() }),
        None => Ok(members),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::name_server::{NameServer, Reply};
    use domain::base::iana::Rcode;

    const SECURE: &str = "_etcd-server-ssl._tcp.example.com";
    const PLAIN: &str = "_etcd-server._tcp.example.com";

    fn located(pairs: &[(&str, &str)]) -> Vec<Located> {
        let one = |(url, addresses): &(&str, &str)| Located {
            url: url.parse().unwrap(),
            addresses: addresses.split(' ').map(|address| address.parse().unwrap()).collect(),
        };
        pairs.iter().map(one).collect()
    }

    /// `name=url`, as in --initial-cluster.
    fn shown(members: &BTreeMap<String, Vec<HttpUrl>>) -> String {
        let urls = members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| (name, url)));
        urls.map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    }

    const THREE: [(&str, &str); 3] = [
        ("https://a.example.com:2380", "10.0.0.1:2380"),
        ("https://b.example.com:2380", "10.0.0.2:2380 10.1.0.2:2380"),
        ("https://c.example.com:2380", "10.0.0.3:2380"),
    ];

    #[test]
    fn the_record_with_an_address_that_this_node_advertises_is_this_node_and_the_others_are_numbered()
     {
        let own = located(&[("https://10.1.0.2:2380", "10.1.0.2:2380")]);
        let members = sorted_out("n2", &own, &located(&THREE)).unwrap();
        let expected = "0=https://a.example.com:2380,1=https://c.example.com:2380,n2=https://b.example.com:2380";
        assert_eq!(shown(&members), expected);
        let members = sorted_out("0", &own, &located(&THREE)).unwrap();
        let names: Vec<&String> = members.keys().collect();
        assert_eq!(names, ["0", "1", "2"], "a number may be somebody's name");
        assert_eq!(members["0"], ["https://b.example.com:2380".parse().unwrap()]);
    }

    #[test]
    fn members_of_both_kinds_of_records_are_told_apart() {
        let own = located(&[("https://10.0.0.1:2380", "10.0.0.1:2380")]);
        let mixed = [&THREE[..], &[("http://d.example.com:2380", "10.0.0.4:2380")]].concat();
        let members = sorted_out("n1", &own, &located(&mixed)).unwrap();
        assert_eq!(members.len(), 4, "{members:?}");
    }

    #[test]
    fn a_node_with_two_urls_is_one_member_if_both_are_named() {
        let own = [
            ("https://10.0.0.1:2380", "10.0.0.1:2380"),
            ("https://10.0.0.3:2380", "10.0.0.3:2380"),
        ];
        let members = sorted_out("n1", &located(&own), &located(&THREE)).unwrap();
        let expected = "0=https://b.example.com:2380,n1=https://a.example.com:2380,n1=https://c.example.com:2380";
        assert_eq!(shown(&members), expected);
        let own = [own[0], ("https://10.0.0.9:2380", "10.0.0.9:2380")];
        let error = sorted_out("n1", &located(&own), &located(&THREE)).unwrap_err();
        assert!(
            error.to_string().contains("says https://10.0.0.9:2380, and no SRV record"),
            "{error}"
        );
    }

    #[test]
    fn a_node_that_no_record_names_is_told_what_they_name_and_what_it_advertises() {
        let own = located(&[("https://h:9", "10.0.0.9:2380")]);
        let error = sorted_out("n9", &own, &located(&THREE)).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot find local etcd member \"n9\" in SRV records"),
            "{error}"
        );
        assert!(
            error.contains("https://b.example.com:2380") && error.contains("https://h:9"),
            "{error}"
        );
    }

    #[test]
    fn a_record_that_says_https_of_a_node_that_says_http_is_refused() {
        let own = located(&[("http://10.0.0.1:2380", "10.0.0.1:2380")]);
        let error = sorted_out("n1", &own, &located(&THREE)).unwrap_err();
        assert!(matches!(error, SrvError::Scheme { .. }), "{error}");
    }

    async fn asked(
        server: &NameServer,
        service_name: Option<&str>,
        own: &str,
    ) -> Result<String, String> {
        let advertised: Vec<HttpUrl> = own.split(',').map(|url| url.parse().unwrap()).collect();
        let question =
            Question { domain: "example.com", service_name, name: "n1", advertised: &advertised };
        let resolver = Resolver::new(&[server.address()]);
        let members = members(&question, &resolver).await.map_err(|error| error.to_string())?;
        Ok(shown(&members))
    }

    #[tokio::test]
    async fn the_records_of_a_server_say_who_the_members_are() {
        let server = NameServer::start(&[
            (PLAIN, Reply::Records(vec![(1, 7001, "localhost"), (0, 7002, "localhost")])),
            (
                "_etcd-server-ssl-blue._tcp.example.com",
                Reply::Records(vec![(0, 7003, "localhost")]),
            ),
        ]);
        let found = asked(&server, None, "http://127.0.0.1:7001").await.unwrap();
        assert_eq!(found, "0=http://localhost:7002,n1=http://localhost:7001");
        assert_eq!(server.asked()[..2], [SECURE, PLAIN]);
        let blue = asked(&server, Some("blue"), "https://127.0.0.1:7003").await.unwrap();
        assert_eq!(blue, "n1=https://localhost:7003");
    }

    #[tokio::test]
    async fn where_nobody_is_named_it_is_said_who_was_asked_for_what() {
        let server = NameServer::start(&[]);
        let refused = asked(&server, None, "http://127.0.0.1:1").await.unwrap_err();
        for words in [SECURE, PLAIN, &server.address().to_string(), "--initial-cluster"] {
            assert!(refused.contains(words), "expected `{words}` in `{refused}`");
        }
    }

    #[tokio::test]
    async fn half_an_answer_founds_nothing() {
        let failing = NameServer::start(&[
            (SECURE, Reply::Code(Rcode::SERVFAIL)),
            (PLAIN, Reply::Records(vec![(0, 7001, "localhost")])),
        ]);
        let refused = asked(&failing, None, "http://127.0.0.1:7001").await.unwrap_err();
        assert!(refused.contains(&format!("{SECURE}, and no server told")), "{refused}");
        let lost = NameServer::start(&[(
            PLAIN,
            Reply::Records(vec![(0, 7001, "localhost"), (0, 7001, "no-such-host.invalid")]),
        )]);
        let refused = asked(&lost, None, "http://127.0.0.1:7001").await.unwrap_err();
        assert!(
            refused.starts_with("http://no-such-host.invalid:7001 has no address"),
            "{refused}"
        );
        let own = NameServer::start(&[(PLAIN, Reply::Records(vec![(0, 7001, "localhost")]))]);
        let refused = asked(&own, None, "http://no-such-host.invalid:1").await.unwrap_err();
        assert!(refused.contains("in --initial-advertise-peer-urls"), "{refused}");
    }

    #[tokio::test]
    async fn as_many_members_as_are_no_cluster_are_refused() {
        let records =
            |count| Reply::OverTcp((1..=count).map(|port| (0, port, "localhost")).collect());
        let most = NameServer::start(&[(PLAIN, records(100))]);
        assert!(asked(&most, None, "http://127.0.0.1:1").await.is_ok());
        let too_many = NameServer::start(&[(PLAIN, records(101))]);
        let refused = asked(&too_many, None, "http://127.0.0.1:1").await.unwrap_err();
        assert!(refused.contains("at most 100 members, found 101"), "{refused}");
    }
}
