//! The ids of members and clusters, computed as etcd does, so that clients which compare answers
//! byte by byte see the same ids. Knows nothing of what the ids are used for.

use super::url::HttpUrl;
pub(crate) use quorate_server::cluster_id;

/// A member's id: from its peer URLs, sorted, and the cluster's token.
pub(crate) fn member_id(peer_urls: &[HttpUrl], token: &str) -> u64 {
    let urls: Vec<String> = peer_urls.iter().map(ToString::to_string).collect();
    quorate_server::member_id(&urls, token, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(url: &str) -> u64 {
        member_id(&[url.parse().unwrap()], "etcd-cluster")
    }

    /// The expected ids are those that etcd 3.5.1 showed for the same flags.
    #[test]
    fn ids_are_those_of_an_etcd_with_the_same_flags() {
        let ids = [34102, 34112, 34122].map(|port| id(&format!("http://127.0.0.1:{port}")));
        assert_eq!(ids, [0x9724_9a17_12ec_64a0, 0xba02_961d_d552_6fd1, 0xd7a6_3f81_162e_8727]);
        assert_eq!(cluster_id(&ids), 14_195_544_604_942_765_426);
        assert_eq!(cluster_id(&[id("http://127.0.0.1:34002")]), 13_230_800_269_370_599_107);
    }

    #[test]
    fn the_order_in_which_members_are_named_does_not_matter() {
        assert_eq!(cluster_id(&[1, 2, 3]), cluster_id(&[3, 1, 2]));
    }
}
