//! Real servers that speak TLS with each other: who belongs to them and who does not, certificates that
//! are exchanged and taken back, members that come, and a cluster that makes its own certificates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod harness;

use authority::{Authority, Pair};
use harness::{Cluster, Options, Server, etcdctl};
use std::fs;
use std::path::Path;

/// The flags in which peer URLs are.
const PEER_URLS: [&str; 3] =
    ["--listen-peer-urls", "--initial-advertise-peer-urls", "--initial-cluster"];

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Its peer URLs say https, and it is given these flags.
fn secure(server: &mut Server, more: &[(&str, String)]) {
    for flag in PEER_URLS {
        let at = server.flags.iter().position(|it| it == flag).expect("the flag is there");
        let url = server.flags[at + 1].replace("http://", "https://");
        server.set_flag(flag, &url);
    }
    for (flag, value) in more {
        server.flags.extend([(*flag).to_owned(), value.clone()]);
    }
}

/// The flags of a member that shows this, and believes those whom `ca` has signed and no list names.
fn shown(pair: &Pair, ca: &Path, crl: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("--peer-cert-file", text(&pair.cert)),
        ("--peer-key-file", text(&pair.key)),
        ("--peer-trusted-ca-file", text(ca)),
        ("--peer-client-cert-auth", "true".to_owned()),
        ("--peer-crl-file", text(crl)),
    ]
}

fn etcdctl_says(endpoint: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoint, arguments);
    assert!(said.is_success, "{arguments:?}: {}{}", said.out, said.err);
    said.out
}

#[tokio::test]
async fn members_with_certificates_lose_one_exchange_them_and_grow() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let crl = ours.revoke(&[]);
    let issue = |name: &str, serial| ours.issue(name, serial, &["127.0.0.1"]);
    let mut cluster = Cluster::new("peer-tls", &Options::servers(3));
    for (index, serial) in (0..3).zip(1..) {
        let pair = issue(&format!("n{serial}"), serial);
        secure(cluster.server(index), &shown(&pair, &ours.ca, &crl));
    }
    cluster.start_all().await;
    // Through followers too, who forward.
    for index in 0..3 {
        cluster.client(index).put(&format!("k{index}"), "v").await.unwrap();
        let log = cluster.server(index).log_text();
        let is_link = |line: &&str| line.contains("connected") && line.contains("channel=");
        let links: Vec<&str> = log.lines().filter(is_link).collect();
        assert!(
            !links.is_empty() && links.iter().all(|line| line.contains("is_secure=true")),
            "{log}"
        );
    }

    cluster.server(0).kill();
    cluster.put_until_acknowledged(&[1, 2], "without-one", "v").await;
    issue("n1", 11);
    cluster.restart(0).await;
    cluster.client(0).put("with-another-certificate", "v").await.unwrap();
    // The old one may be lost now; those that run take note, and hold against nobody what they have.
    ours.revoke(&[1]);
    cluster.server(1).logged("the TLS files have changed").await;
    cluster.server(2).kill();
    issue("n3", 13);
    cluster.restart(2).await;
    cluster.put_until_acknowledged(&[0, 1, 2], "all-again", "v").await;

    let first = cluster.server(0).client.address();
    let new = cluster.newcomer(&[0, 1, 2], &Options::servers(3));
    let url = cluster.server(new).peer.url().replace("http://", "https://");
    let said = etcdctl_says(&first, &["member", "add", "n4", &format!("--peer-urls={url}")]);
    assert!(said.contains(&format!("n4={url}")), "{said}");
    // It may not come with what somebody else has signed, and both sides say why.
    let other = Authority::new(folder.path(), "other");
    let pair = other.issue("n4", 4, &["127.0.0.1"]);
    secure(cluster.server(new), &shown(&pair, &ours.ca, &crl));
    let said = cluster.server(new).start_in_vain().await;
    assert!(said.contains("no member of --initial-cluster says"), "{said}");
    assert!(said.contains("its log may say why") || said.contains("its log says why"), "{said}");
    cluster.server(0).logged("add its CA to the trusted ones").await;
    // In the place of the other.
    issue("n4", 4);
    cluster.restart(new).await;
    // It serves once it has caught up and has a vote.
    cluster.put_until_acknowledged(&[new], "from-the-newcomer", "v").await;
    assert_eq!(cluster.assert_equal_replicas().await, 7);
    assert!(etcdctl_says(&first, &["member", "list"]).contains(&url));
    cluster.finish();
}

#[tokio::test]
async fn members_that_make_their_own_certificates_keep_them() {
    let mut cluster = Cluster::new("peer-auto-tls", &Options::servers(3));
    for index in 0..3 {
        secure(cluster.server(index), &[("--peer-auto-tls", "true".to_owned())]);
    }
    cluster.start_all().await;
    cluster.client(1).put("a", "1").await.unwrap();
    let cert = cluster.server(1).data_dir.join("fixtures/peer/cert.pem");
    let made = fs::read(&cert).unwrap();
    assert!(cluster.server(1).terminate().await.success());
    cluster.put_until_acknowledged(&[0, 2], "b", "2").await;
    cluster.restart(1).await;
    assert_eq!(fs::read(&cert).unwrap(), made);

    let first = cluster.server(0).client.address();
    let new = cluster.newcomer(&[0, 1, 2], &Options::servers(3));
    let url = cluster.server(new).peer.url().replace("http://", "https://");
    etcdctl_says(&first, &["member", "add", "n4", &format!("--peer-urls={url}")]);
    secure(cluster.server(new), &[("--peer-auto-tls", "true".to_owned())]);
    cluster.restart(new).await;
    assert_eq!(cluster.assert_equal_replicas().await, 2);
    cluster.finish();
}

/// One after the other is stopped, told of TLS, and started again: somebody who has a cluster without
/// wants one with.
#[tokio::test]
async fn a_cluster_without_tls_gets_it_member_by_member() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let crl = ours.revoke(&[]);
    let mut cluster = Cluster::new("peer-tls-later", &Options::servers(3));
    let pairs: Vec<Pair> =
        (1..=3).map(|serial| ours.issue(&format!("n{serial}"), serial, &["127.0.0.1"])).collect();
    // Who is to dial must know whom to believe; nobody listens with TLS yet.
    for (index, pair) in pairs.iter().enumerate() {
        for (flag, value) in shown(pair, &ours.ca, &crl) {
            cluster.server(index).flags.extend([flag.to_owned(), value]);
        }
    }
    cluster.start_all().await;
    for index in 0..3 {
        let through = cluster.server((index + 1) % 3).client.address();
        let server = cluster.server(index);
        let (plain, name) = (server.peer.url(), server.name.clone());
        let url = plain.replace("http://", "https://");
        let list = etcdctl_says(&through, &["member", "list"]);
        let id = list.lines().find(|line| line.contains(&plain)).unwrap().split(", ").next();
        assert!(cluster.server(index).terminate().await.success(), "{name}");
        etcdctl_says(&through, &["member", "update", id.unwrap(), &format!("--peer-urls={url}")]);
        secure(cluster.server(index), &[]);
        // As in etcd, the first members are of no interest to one that has a log.
        cluster.server(index).set_flag("--initial-cluster-state", "existing");
        cluster.restart(index).await;
        cluster.client(index).put(&name, "v").await.unwrap();
    }
    assert_eq!(cluster.assert_equal_replicas().await, 3);
    let first = cluster.server(0).client.address();
    assert!(!etcdctl_says(&first, &["member", "list"]).lines().any(|line| {
        let peer_urls = line.split(", ").nth(3).unwrap_or_default();
        peer_urls.contains("http://")
    }));
    cluster.finish();
}

#[tokio::test]
async fn flags_that_cannot_work_are_refused_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["127.0.0.1"]);
    let cert = ("--peer-cert-file", text(&pair.cert));
    let cases = [
        (vec![], "KeyFile and CertFile are not presented"),
        (vec![cert.clone()], "KeyFile and CertFile must both be present"),
        (vec![cert.clone(), ("--peer-key-file", text(&ours.ca))], "expected a private key in PEM"),
        (
            vec![cert, ("--peer-key-file", text(&pair.key)), ("--peer-crl-file", text(&ours.ca))],
            "expected a certificate revocation list",
        ),
    ];
    for (more, words) in cases {
        let mut cluster = Cluster::new("peer-tls-flags", &Options::servers(1));
        secure(cluster.server(0), &more);
        let said = cluster.server(0).start_in_vain().await;
        assert!(said.contains(words), "expected `{words}` in: {said}");
        assert!(!cluster.server(0).data_dir.exists(), "nothing was touched on the disk");
        cluster.finish();
    }
}
