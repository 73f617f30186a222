//! Members that are not told who the others are: real servers that register with another cluster under a
//! token, or find each other by the SRV records of a domain; and clients that find them so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod harness;

use authority::Authority;
use harness::{Cluster, NameServer, Options, Reply, Server, eventually};
use quorate_etcd_api::etcdserverpb::RangeRequest;
use std::path::Path;
use std::process::{Command, Output};

const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");

/// What the members are not told.
const KNOWN: [&str; 2] = ["--initial-cluster", "--initial-cluster-token"];

/// Instead of being told who the members are, the server shall ask.
fn asking(server: &mut Server, how: &[(&str, &str)]) {
    for flag in KNOWN {
        if server.flags.iter().any(|it| it == flag) {
            server.drop_flag(flag);
        }
    }
    for (flag, value) in how {
        server.flags.extend([(*flag).to_owned(), (*value).to_owned()]);
    }
}

fn size_key(token: &str) -> String {
    format!("/_etcd/registry/{token}/_config/size")
}

/// What is registered under a token.
async fn registered(service: &Cluster, token: &str) -> Vec<(String, String)> {
    let prefix = format!("/_etcd/registry/{token}/members/");
    let range_end = format!("/_etcd/registry/{token}/members0");
    let request =
        RangeRequest { key: prefix.into(), range_end: range_end.into(), ..RangeRequest::default() };
    let found = service.client(0).range(request).await.unwrap().kvs;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    found.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

fn quorate(arguments: &[&str]) -> Output {
    Command::new(QUORATE).args(arguments).output().expect("quorate can be run")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until the members are listed under these names.
async fn listed(cluster: &mut Cluster, names: &[&str]) {
    let endpoint = cluster.server(0).client.address();
    eventually("all names to be known", async || {
        let list = out(&quorate(&["member", "list", "--endpoints", &endpoint]));
        names.iter().all(|name| list.contains(name)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn members_that_register_under_a_token_are_a_cluster_and_one_too_many_is_not() {
    let mut service = Cluster::started("discovery-service", 1).await;
    service.client(0).put(&size_key("t"), "3").await.unwrap();
    let endpoints = format!("127.0.0.1:1,{}", service.server(0).client.address());
    let how = [("--discovery-token", "t"), ("--discovery-endpoints", endpoints.as_str())];

    let mut cluster = Cluster::new("registering", &Options::servers(4));
    for index in cluster.indexes() {
        asking(cluster.server(index), &how);
    }
    for index in [2, 1] {
        cluster.server(index).start();
        cluster.server(index).logged("waiting for others to register").await;
    }
    assert_eq!(registered(&service, "t").await.len(), 2);
    cluster.server(0).start();
    for index in 0..3 {
        cluster.ready(index).await;
        cluster.client(index).put(&format!("k{index}"), "v").await.unwrap();
    }
    let status = cluster.client(0).status().await.unwrap().header.unwrap();
    let key = format!("/_etcd/registry/t/members/{:x}", status.member_id);
    let named = format!("n1={}", cluster.server(0).peer.url());
    assert!(registered(&service, "t").await.contains(&(key, named)));
    listed(&mut cluster, &["n1", "n2", "n3"]).await;

    let said = cluster.server(3).start_in_vain().await;
    assert!(said.contains("discovery: cluster is full: expected 3 members"), "{said}");
    assert!(!cluster.server(3).data_dir.exists(), "nothing was touched on the disk");
    assert_eq!(registered(&service, "t").await.len(), 3, "it took nobody's place");

    // Who has been there knows the cluster, and asks nobody.
    service.server(0).kill();
    cluster.server(0).kill();
    cluster.restart(0).await;
    let log = cluster.server(0).log_of_last_life();
    assert!(log.contains("discovery is not asked"), "{log}");
    cluster.client(0).put("again", "v").await.unwrap();
    for index in 0..3 {
        let value = cluster.client(index).get("again").await.unwrap().unwrap().value;
        assert_eq!(value, "v");
    }
    cluster.finish();
    service.finish();
}

#[tokio::test]
async fn a_member_waits_for_a_discovery_service_that_is_away_and_stops_when_told() {
    let mut service = Cluster::started("discovery-away", 1).await;
    service.client(0).put(&size_key("two"), "2").await.unwrap();
    let endpoint = service.server(0).client.address();
    service.server(0).kill();
    let mut cluster = Cluster::new("waiting", &Options::servers(2));
    for index in cluster.indexes() {
        asking(
            cluster.server(index),
            &[
                ("--discovery-token", "two"),
                ("--discovery-endpoints", &endpoint),
                ("--discovery-dial-timeout", "1s"),
                ("--discovery-request-timeout", "10s"),
            ],
        );
    }
    cluster.server(0).start();
    cluster.server(0).logged("the discovery service does not answer").await;
    service.restart(0).await;
    cluster.server(0).logged("waiting for others to register").await;

    // The place is kept for whoever comes back.
    assert!(cluster.server(0).terminate().await.success());
    assert!(!cluster.server(0).data_dir.exists());
    cluster.start_all().await;
    cluster.client(1).put("k", "v").await.unwrap();
    assert_eq!(cluster.assert_equal_replicas().await, 1);
    cluster.finish();
    service.finish();
}

#[tokio::test]
async fn a_token_that_says_nothing_sensible_is_refused_with_what_to_do() {
    let mut service = Cluster::started("discovery-senseless", 1).await;
    let client = service.client(0).clone();
    client.put(&size_key("bad"), "three").await.unwrap();
    client.put(&size_key("taken"), "2").await.unwrap();
    client.put("/_etcd/registry/taken/members/1", "n1=http://127.0.0.1:9").await.unwrap();
    let endpoint = service.server(0).client.address();
    let mut cluster = Cluster::new("refused", &Options::servers(1));
    let members = cluster.server(0).flags.clone();
    for (how, words) in [
        (("--discovery-token", "none"), "discovery: size key not found"),
        (("--discovery-token", "bad"), "found `three`"),
        (("--discovery-token", "taken"), "two members are registered as n1"),
    ] {
        cluster.server(0).flags.clone_from(&members);
        asking(cluster.server(0), &[how, ("--discovery-endpoints", &endpoint)]);
        let said = cluster.server(0).start_in_vain().await;
        assert!(said.contains(words), "expected `{words}` in `{said}`");
    }
    let server = cluster.server(0);
    server.set_flag("--initial-cluster-state", "existing");
    let said = server.start_in_vain().await;
    assert!(said.contains("is for a new cluster"), "{said}");
    server.flags.clone_from(&members);
    server.flags.extend(["--discovery-srv", "example.com"].map(str::to_owned));
    let said = server.start_in_vain().await;
    assert!(said.contains("multiple discovery or bootstrap flags are set"), "{said}");
    assert!(!server.data_dir.exists(), "nothing was touched on the disk");
    service.finish();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_discovery_service_with_users_and_tls_is_asked_with_a_password_and_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("service", 1, &["127.0.0.1"]);
    let mut service = Cluster::new("discovery-secure", &Options::servers(1));
    let endpoint = format!("https://{}", service.server(0).client.address());
    for flag in ["--listen-client-urls", "--advertise-client-urls"] {
        service.server(0).set_flag(flag, &endpoint);
    }
    let shown = [
        ("--cert-file", text(&pair.cert)),
        ("--key-file", text(&pair.key)),
        ("--trusted-ca-file", text(&ours.ca)),
    ];
    for (flag, value) in shown {
        service.server(0).flags.extend([flag.to_owned(), value.to_owned()]);
    }
    service.server(0).start();
    let say = |words: &[&str]| {
        let files =
            ["--cacert", text(&ours.ca), "--cert", text(&pair.cert), "--key", text(&pair.key)];
        quorate(&[words, &["--endpoints", &endpoint], &files].concat())
    };
    eventually("the service to serve", async || {
        say(&["put", &size_key("t"), "1"]).status.success().then_some(())
    })
    .await;
    for words in [
        &["user", "add", "root:r"][..],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        let said = say(words);
        assert!(said.status.success(), "{words:?}: {said:?}");
    }

    let mut cluster = Cluster::new("asking-securely", &Options::servers(1));
    let bare = endpoint.trim_start_matches("https://");
    let how = [
        ("--discovery-token", "t"),
        ("--discovery-endpoints", bare),
        ("--discovery-user", "root"),
        ("--discovery-password", "wrong"),
        ("--discovery-cert", text(&pair.cert)),
        ("--discovery-key", text(&pair.key)),
    ];
    asking(cluster.server(0), &how);
    cluster.server(0).flags.push("--discovery-insecure-skip-tls-verify=true".to_owned());
    let said = cluster.server(0).start_in_vain().await;
    assert!(said.contains("authentication failed") && !said.contains("wrong"), "{said}");

    cluster.server(0).set_flag("--discovery-password", "r");
    let believing = format!("--discovery-cacert={}", text(&ours.ca));
    *cluster.server(0).flags.last_mut().unwrap() = believing;
    cluster.start_all().await;
    cluster.client(0).put("k", "v").await.unwrap();
    cluster.finish();
}

/// The records of a domain for these servers, all on this machine.
fn records(cluster: &mut Cluster, indexes: &[usize]) -> Reply {
    let port = |index: &usize| (0, cluster.server(*index).peer.number(), "localhost");
    Reply::Records(indexes.iter().map(port).collect())
}

#[tokio::test]
async fn members_that_a_domain_names_are_a_cluster_and_one_that_it_does_not_is_none() {
    let mut cluster = Cluster::new("srv", &Options::servers(4));
    let clients = cluster.indexes().take(3).map(|index| cluster.server(index).client.number());
    let clients = clients.collect::<Vec<_>>().into_iter().map(|port| (0, port, "localhost"));
    let clients = Reply::Records(clients.collect());
    let peers = records(&mut cluster, &[0, 1, 2]);
    let names = NameServer::start(&[
        ("_etcd-server._tcp.example.com", peers),
        ("_etcd-client._tcp.example.com", clients),
    ]);
    let server = names.address().to_string();
    let how = [("--discovery-srv", "example.com"), ("--discovery-srv-server", server.as_str())];
    for index in cluster.indexes() {
        asking(cluster.server(index), &how);
    }
    let said = cluster.server(3).start_in_vain().await;
    let first = "cannot find local etcd member \"n4\" in SRV records: they name http://localhost:";
    assert!(said.contains(first), "{said}");
    assert!(!cluster.server(3).data_dir.exists(), "nothing was touched on the disk");

    for index in 0..3 {
        cluster.server(index).start();
    }
    for index in 0..3 {
        cluster.ready(index).await;
        cluster.client(index).put(&format!("k{index}"), "v").await.unwrap();
    }
    // Records have no names; each member has told its own.
    listed(&mut cluster, &["n1", "n2", "n3"]).await;

    let said = quorate(&[
        "get",
        "k1",
        "--discovery-srv",
        "example.com",
        "--discovery-srv-server",
        &server,
    ]);
    assert_eq!(out(&said), "k1\nv\n", "{said:?}");
    let folder = harness::scratch_folder("srv-etcdctl");
    let etcdctl = folder.path().join("etcdctl");
    std::os::unix::fs::symlink(QUORATE, &etcdctl).unwrap();
    let said = Command::new(etcdctl)
        .args(["-d", "example.com", "get", "k1", "--print-value-only"])
        .env("QUORATE_DISCOVERY_SRV_SERVER", &server)
        .output()
        .unwrap();
    assert_eq!(out(&said), "v\n", "{said:?}");
    let said = quorate(&[
        "get",
        "k1",
        "--discovery-srv",
        "elsewhere.com",
        "--discovery-srv-server",
        &server,
    ]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(error.contains("_etcd-client-ssl._tcp.elsewhere.com"), "{error}");

    drop(names);
    cluster.server(0).kill();
    cluster.restart(0).await;
    cluster.client(0).put("again", "v").await.unwrap();
    cluster.finish();
}

#[tokio::test]
async fn members_that_a_domain_names_show_certificates_of_the_domain_where_nobody_else_is_believed()
{
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let mut cluster = Cluster::new("srv-tls", &Options::servers(2));
    let names = NameServer::start(&[(
        "_etcd-server-ssl-blue._tcp.example.com",
        records(&mut cluster, &[0, 1]),
    )]);
    let server = names.address().to_string();
    for index in cluster.indexes() {
        // Valid for none of the hosts that the records name.
        let serial = u64::try_from(index).unwrap() + 1;
        let pair = ours.issue(&format!("n{serial}"), serial, &["example.com"]);
        let member = cluster.server(index);
        let url = member.peer.url().replace("http://", "https://");
        for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            member.set_flag(flag, &url);
        }
        asking(
            member,
            &[
                ("--discovery-srv", "example.com."),
                ("--discovery-srv-name", "blue"),
                ("--discovery-srv-server", &server),
                ("--peer-cert-file", text(&pair.cert)),
                ("--peer-key-file", text(&pair.key)),
            ],
        );
        // Whom the system believes.
        member.run_by(&["env", &format!("SSL_CERT_FILE={}", text(&ours.ca))]);
    }
    cluster.start_all().await;
    cluster.client(1).put("k", "v").await.unwrap();
    assert_eq!(cluster.assert_equal_replicas().await, 1);
    cluster.finish();
}
