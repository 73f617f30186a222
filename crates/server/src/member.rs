//! What every member knows of every other beside its Raft address: its name and where clients
//! reach it. It travels in the configuration, as the member's context. Also the ids and URLs that
//! etcd's protocol knows members by. Must not know how members change.

use bytes::Bytes;
use prost::Message;
use quorate::core::{Member, MemberRole, NodeId};
use quorate_etcd_api::etcdserverpb as pb;
use sha1::{Digest, Sha1};

const PLAIN: &str = "http://";
const SECURE: &str = "https://";
/// Between two addresses of one member, as `quorate` has it.
const SEPARATOR: char = ',';

/// A member's name and client URLs. The encoding is protobuf, so that fields can be added.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberContext {
    /// What the operator calls it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where clients reach it: URLs such as `http://10.0.0.1:2379`.
    #[prost(string, repeated, tag = "2")]
    pub client_urls: Vec<String>,
    /// Where its peers reach it, as the operator wrote it; empty means what the address says:
    /// `http://` and `host:port`, or `https://host:port`; of several, each.
    #[prost(string, repeated, tag = "3")]
    pub peer_urls: Vec<String>,
}

/// A member's context is not what [`MemberContext::to_bytes`] makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the member's context of {size_bytes} bytes cannot be read")]
pub struct MemberContextError {
    /// Its size.
    pub size_bytes: usize,
    /// What is wrong with it.
    #[source]
    pub source: prost::DecodeError,
}

impl MemberContext {
    /// The form for [`quorate::core::Member::context`].
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Reads that form; an empty context is a member without name and URLs.
    ///
    /// # Errors
    ///
    /// [`MemberContextError`] if the bytes are something else.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, MemberContextError> {
        Self::decode(bytes.clone())
            .map_err(|source| MemberContextError { size_bytes: bytes.len(), source })
    }
}

/// A member as etcd lists it. One whose context cannot be read is listed without name and URLs, as
/// etcd lists a member that has not started yet.
pub(crate) fn describe(id: NodeId, member: &Member) -> pb::Member {
    let context = MemberContext::from_bytes(&member.context).unwrap_or_else(|error| {
        tracing::warn!(member = %id, %error, "a member's name and client URLs are not known");
        MemberContext::default()
    });
    pb::Member {
        id: id.get(),
        name: context.name,
        peer_ur_ls: peer_urls_of(member),
        client_ur_ls: context.client_urls,
        is_learner: member.role == MemberRole::Learner,
    }
}

/// Where a member's peers reach it, as URLs.
#[must_use]
pub fn peer_urls_of(member: &Member) -> Vec<String> {
    let context = MemberContext::from_bytes(&member.context).unwrap_or_default();
    if context.peer_urls.is_empty() {
        return member.address.split(SEPARATOR).map(peer_url).collect();
    }
    context.peer_urls
}

/// The URL of a member's address: the other way round than [`peer_address`].
fn peer_url(address: &str) -> String {
    if address.starts_with(SECURE) { address.to_owned() } else { format!("{PLAIN}{address}") }
}

/// Peer URLs as a client gives them, checked and sorted; `None` if one is none, or there are none.
pub(crate) fn peer_urls(given: &[String]) -> Option<Vec<String>> {
    let mut urls = Vec::new();
    for url in given {
        urls.push(peer_url(peer_address(url.trim())?));
    }
    urls.sort();
    urls.dedup();
    (!urls.is_empty()).then_some(urls)
}

/// What the address of a member at these URLs is: those of all of them, in their order. `None` if one is no
/// such URL, or there are none.
pub(crate) fn peer_addresses(urls: &[String]) -> Option<String> {
    let mut all = String::new();
    for url in urls {
        if !all.is_empty() {
            all.push(SEPARATOR);
        }
        all.push_str(peer_address(url)?);
    }
    (!all.is_empty()).then_some(all)
}

/// What the address of a member at this URL is: `host:port`, and all of the URL if it begins with
/// `https://`. `None` if it is no such URL.
pub(crate) fn peer_address(url: &str) -> Option<&str> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let plain = url.strip_prefix(PLAIN);
    let authority = plain.or_else(|| url.strip_prefix(SECURE))?;
    let (host, port) = authority.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = !host.is_empty() && !host.contains(['/', '@', ' ', ',', '=', '?', '#']);
    (is_port && is_host).then_some(plain.unwrap_or(url))
}

/// A member's id as etcd computes it: from its peer URLs, the cluster's token, and, for one that is
/// added to a running cluster, the second in which it is.
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str, second: Option<u64>) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let second = second.map(|second| second.to_string()).unwrap_or_default();
    first_eight_bytes(format!("{}{token}{second}", urls.concat()).as_bytes())
}

/// A cluster's id as etcd computes it: from its first members' ids.
#[must_use]
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.into_iter().flat_map(u64::to_be_bytes).collect();
    first_eight_bytes(&bytes)
}

fn first_eight_bytes(text: &[u8]) -> u64 {
    let digest = Sha1::digest(text);
    digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_url_is_http_or_https_a_host_and_a_port() {
        let urls =
            |given: &[&str]| peer_urls(&given.iter().map(ToString::to_string).collect::<Vec<_>>());
        let sorted = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
        assert_eq!(urls(&["http://b:2/", "http://a:1"]), Some(sorted));
        assert_eq!(urls(&["https://a:1/"]), Some(vec!["https://a:1".to_owned()]));
        for wrong in ["", "a:1", "http://a", "http://a:0", "https://a", "ftp://a:1", "http://a:1/x"]
        {
            assert_eq!(urls(&[wrong]), None, "{wrong}");
        }
        assert_eq!(urls(&["http://:1"]), None);
        assert_eq!(urls(&[]), None);
    }

    #[test]
    fn an_address_says_which_url_it_was_made_of() {
        for (url, address) in [("http://a:1", "a:1"), ("https://a:1", "https://a:1")] {
            assert_eq!(peer_address(url), Some(address));
            let (role, context) = (MemberRole::Voter, Bytes::new());
            let member = Member { role, rank: 0, address: address.to_owned(), context };
            assert_eq!(peer_urls_of(&member), [url]);
        }
    }

    #[test]
    fn the_address_of_a_member_at_several_urls_says_all_of_them_in_their_order() {
        let urls = ["http://a:1", "https://b:2", "http://[::1]:3"].map(str::to_owned);
        let address = peer_addresses(&urls).unwrap();
        assert_eq!(address, "a:1,https://b:2,[::1]:3");
        let (role, context) = (MemberRole::Voter, Bytes::new());
        assert_eq!(peer_urls_of(&Member { role, rank: 0, address, context }), urls);
        assert_eq!(peer_addresses(&[]), None);
        assert_eq!(peer_addresses(&[urls[0].clone(), "b:2".to_owned()]), None);
    }

    #[test]
    fn a_member_context_survives_its_encoding() {
        let context = MemberContext {
            name: "node1".into(),
            client_urls: vec!["http://127.0.0.1:2379".into(), "http://[::1]:2379".into()],
            peer_urls: vec!["http://127.0.0.1:2380".into()],
        };
        assert_eq!(MemberContext::from_bytes(&context.to_bytes()), Ok(context));
    }

    #[test]
    fn an_empty_context_is_a_member_without_a_name() {
        assert_eq!(MemberContext::from_bytes(&Bytes::new()), Ok(MemberContext::default()));
    }

    #[test]
    fn other_bytes_are_an_error_with_their_size() {
        let error = MemberContext::from_bytes(&Bytes::from_static(b"node1")).unwrap_err();
        assert_eq!(error.size_bytes, 5);
    }
}
