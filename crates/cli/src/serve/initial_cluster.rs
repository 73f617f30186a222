//! `--initial-cluster`: who the first members are. Read and checked once, here; knows nothing of
//! how a cluster works.

use super::ids;
use super::url::{HttpUrl, UrlError};
use quorate::ADDRESS_BYTES_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// A member that the flag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialMember {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// In etcd's order, that of their letters: the same however the flags have them.
    pub(crate) peer_urls: Vec<HttpUrl>,
}

impl InitialMember {
    /// How the other members know it: where they call, one after the other.
    pub(crate) fn peer_address(&self) -> String {
        self.peer_urls.iter().map(HttpUrl::peer_address).collect::<Vec<_>>().join(",")
    }
}

/// The first members of a cluster, this node among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InitialCluster {
    pub(crate) cluster_id: u64,
    pub(crate) own_id: u64,
    pub(crate) members: Vec<InitialMember>,
}

/// Why the flag was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InitialClusterError {
    /// It names nobody. The first words are etcd's.
    #[error(
        "couldn't find local name \"{name}\" in the initial cluster configuration: \
         --initial-cluster is given and empty, as if by a variable of a shell that is not set. Name \
         the members with it, this node among them, or leave it out to begin a cluster of this node \
         alone"
    )]
    Empty {
        /// This node's name.
        name: String,
    },
    /// An element is not of the form that the flag has.
    #[error("{flag}: expected NAME=http://HOST:PORT,NAME=http://HOST:PORT, found `{found}`")]
    Form {
        /// Which flag.
        flag: &'static str,
        /// The element.
        found: String,
    },
    /// A URL in it is none.
    #[error("{flag}: member {name}: {source}")]
    Url {
        /// Which flag.
        flag: &'static str,
        /// Whose.
        name: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// Two members have one URL.
    #[error("--initial-cluster: {url} belongs to two members, {first} and {second}")]
    SameUrl {
        /// The URL.
        url: HttpUrl,
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// Nobody could be told where the member is.
    #[error(
        "--initial-cluster: expected URLs of {name} that take {ADDRESS_BYTES_MAX} bytes together, \
         found {found}: name fewer of them"
    )]
    TooLong {
        /// Whose.
        name: String,
        /// How many bytes they take.
        found: usize,
    },
    /// This node is not among them.
    #[error(
        "--initial-cluster names {}, but not this node: add `{name}=PEER-URL` to it, or give one \
         of these names with --name", found.join(", ")
    )]
    NotAMember {
        /// This node's name.
        name: String,
        /// Who is.
        found: Vec<String>,
    },
    /// The flag and the advertised URLs contradict each other.
    #[error(
        "--initial-cluster says that {name} is at {}, but --initial-advertise-peer-urls says {}: \
         they must be equal",
        join(in_cluster),
        join(advertised)
    )]
    OtherUrls {
        /// This node's name.
        name: String,
        /// The one.
        in_cluster: Vec<HttpUrl>,
        /// The other.
        advertised: Vec<HttpUrl>,
    },
}

fn join(urls: &[HttpUrl]) -> String {
    urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl InitialCluster {
    /// Reads `name=url,name=url`; a name given twice has two URLs. `name` is this node, which is at
    /// `advertised`.
    ///
    /// # Errors
    ///
    /// [`InitialClusterError`].
    pub(crate) fn parse(
        text: &str,
        token: &str,
        name: &str,
        advertised: &[HttpUrl],
    ) -> Result<Self, InitialClusterError> {
        if text.trim().is_empty() {
            return Err(InitialClusterError::Empty { name: name.to_owned() });
        }
        let by_name = urls_by_name(text, "--initial-cluster")?;
        let set = |urls: &[HttpUrl]| urls.iter().cloned().collect::<BTreeSet<_>>();
        match by_name.get(name) {
            Some(own) if set(own) != set(advertised) => Err(InitialClusterError::OtherUrls {
                name: name.to_owned(),
                in_cluster: own.clone(),
                advertised: advertised.to_vec(),
            }),
            Some(_) | None => Self::new(by_name, token, name),
        }
    }

    /// The cluster of the members at these URLs, of which this node is called `name`.
    ///
    /// # Errors
    ///
    /// [`InitialClusterError`].
    pub(crate) fn new(
        by_name: BTreeMap<String, Vec<HttpUrl>>,
        token: &str,
        name: &str,
    ) -> Result<Self, InitialClusterError> {
        check_distinct(&by_name)?;
        let found = || by_name.keys().cloned().collect();
        let own = by_name.get(name).ok_or_else(|| InitialClusterError::NotAMember {
            name: name.to_owned(),
            found: found(),
        })?;
        let own_id = ids::member_id(own, token);
        let members = by_name.into_iter().map(|(name, mut peer_urls)| {
            peer_urls.sort_by_cached_key(ToString::to_string);
            InitialMember { id: ids::member_id(&peer_urls, token), name, peer_urls }
        });
        let members: Vec<InitialMember> = members.collect();
        members.iter().try_for_each(check_fits)?;
        let member_ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        Ok(Self { cluster_id: ids::cluster_id(&member_ids), own_id, members })
    }

    /// The same for whoever does not know what the members are called.
    pub(crate) fn without_names(&self) -> Self {
        let nameless =
            |member: &InitialMember| InitialMember { name: String::new(), ..member.clone() };
        Self { members: self.members.iter().map(nameless).collect(), ..self.clone() }
    }
}

/// Reads `name=url,name=url`, the value of `flag`.
///
/// # Errors
///
/// [`InitialClusterError::Form`] or [`InitialClusterError::Url`].
pub(super) fn urls_by_name(
    text: &str,
    flag: &'static str,
) -> Result<BTreeMap<String, Vec<HttpUrl>>, InitialClusterError> {
    let mut by_name: BTreeMap<String, Vec<HttpUrl>> = BTreeMap::new();
    for element in text.split(',') {
        let parts = element.split_once('=').map(|(name, url)| (name.trim(), url));
        let Some((name, url)) = parts.filter(|(name, _)| !name.is_empty()) else {
            return Err(InitialClusterError::Form { flag, found: element.to_owned() });
        };
        let url = url.parse().map_err(|source| InitialClusterError::Url {
            flag,
            name: name.to_owned(),
            source,
        })?;
        by_name.entry(name.to_owned()).or_default().push(url);
    }
    Ok(by_name)
}

fn check_fits(member: &InitialMember) -> Result<(), InitialClusterError> {
    match member.peer_address().len() {
        ..=ADDRESS_BYTES_MAX => Ok(()),
        found => Err(InitialClusterError::TooLong { name: member.name.clone(), found }),
    }
}

fn check_distinct(by_name: &BTreeMap<String, Vec<HttpUrl>>) -> Result<(), InitialClusterError> {
    let mut owners: BTreeMap<&HttpUrl, &String> = BTreeMap::new();
    for (name, urls) in by_name {
        for url in urls {
            if let Some(first) = owners.insert(url, name) {
                return Err(InitialClusterError::SameUrl {
                    url: url.clone(),
                    first: first.clone(),
                    second: name.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str =
        "a=http://127.0.0.1:34102,b=http://127.0.0.1:34112,c=http://127.0.0.1:34122";

    fn parse(text: &str, name: &str, url: &str) -> Result<InitialCluster, InitialClusterError> {
        InitialCluster::parse(text, "etcd-cluster", name, &[url.parse().unwrap()])
    }

    #[test]
    fn every_member_gets_the_id_that_etcd_gives_it() {
        let cluster = parse(THREE, "b", "http://127.0.0.1:34112").unwrap();
        assert_eq!(cluster.cluster_id, 14_195_544_604_942_765_426);
        assert_eq!(cluster.own_id, 0xba02_961d_d552_6fd1);
        let names: Vec<&str> = cluster.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_member_with_several_urls_is_the_same_in_whatever_order_they_are_named() {
        let two = ["http://h:2", "https://h:10"].map(|url| url.parse().unwrap());
        let of = |text: &str| InitialCluster::parse(text, "etcd-cluster", "a", &two).unwrap();
        let cluster = of("a=https://h:10,b=http://h:7,a=http://h:2");
        assert_eq!(cluster, of("b=http://h:7,a=http://h:2,a=https://h:10"));
        assert_eq!(cluster.members[0].peer_urls, two);
        assert_eq!(cluster.members[0].peer_address(), "h:2,https://h:10");
        let half = InitialCluster::parse("a=http://h:2", "etcd-cluster", "a", &two).unwrap_err();
        assert!(half.to_string().contains("says http://h:2,https://h:10: they must be"), "{half}");
    }

    #[test]
    fn urls_that_nobody_could_be_told_of_are_refused() {
        let of_bytes = |bytes: usize| {
            let url: HttpUrl = format!("http://{}:1", "h".repeat(bytes - 6)).parse().unwrap();
            let text = format!("a=http://h:1,a={url}");
            InitialCluster::parse(&text, "", "a", &["http://h:1".parse().unwrap(), url])
        };
        assert!(of_bytes(ADDRESS_BYTES_MAX).is_ok());
        let error = of_bytes(ADDRESS_BYTES_MAX + 1).unwrap_err();
        assert!(error.to_string().contains("of a that take 512 bytes together, found 513"));
    }

    #[test]
    fn nobody_at_all_is_refused_in_etcds_words_with_what_to_do() {
        for nobody in ["", " "] {
            let error = parse(nobody, "n2", "http://h:1").unwrap_err().to_string();
            let words = "couldn't find local name \"n2\" in the initial cluster configuration";
            assert!(error.starts_with(words), "{error}");
            assert!(error.contains("or leave it out"), "{error}");
        }
    }

    #[test]
    fn a_token_of_nothing_is_one_of_its_own_as_in_etcd() {
        let (url, name) = ("http://127.0.0.1:27380", "default");
        let of = |token: &str| {
            let urls = [url.parse().unwrap()];
            InitialCluster::parse(&format!("{name}={url}"), token, name, &urls).unwrap().own_id
        };
        assert_eq!((of(""), of("etcd-cluster")), (0x7195_5ece_854a_5add, 0x99bc_a5ff_d3b6_b513));
    }

    #[test]
    fn a_node_that_is_not_named_is_told_who_is() {
        let error = parse(THREE, "d", "http://127.0.0.1:1").unwrap_err();
        assert!(error.to_string().contains("names a, b, c, but not this node"), "{error}");
    }

    #[test]
    fn a_node_at_another_url_than_the_flag_says_is_refused() {
        let error = parse(THREE, "a", "http://127.0.0.1:1").unwrap_err();
        assert!(matches!(error, InitialClusterError::OtherUrls { .. }), "{error}");
    }

    #[test]
    fn two_members_at_one_url_are_refused() {
        let error = parse("a=http://h:1,b=http://h:1", "a", "http://h:1").unwrap_err();
        assert!(error.to_string().contains("http://h:1 belongs to two members, a and b"));
        assert!(parse("a=http://h:1,a=http://h:1", "a", "http://h:1").is_err());
    }

    #[test]
    fn what_is_no_member_is_shown() {
        for (text, shown) in [(",", "``"), ("a", "`a`"), ("a=http://h:1,,", "``"), ("=x", "`=x`")] {
            let error = parse(text, "a", "http://h:1").unwrap_err();
            assert!(error.to_string().contains(&format!("found {shown}")), "{error}");
        }
        assert!(matches!(parse("a=h:1", "a", "http://h:1"), Err(InitialClusterError::Url { .. })));
    }
}
