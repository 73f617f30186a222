//! A server whose clients speak TLS, with the real etcdctl and with our own verbs: certificates that
//! are given, asked for, revoked, exchanged, or made by the server itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod harness;

use authority::{Authority, Pair};
use harness::{Cluster, Options, etcdctl, eventually};
use std::fs;
use std::path::Path;
use std::process::Command;

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A server that listens at `https`, with these flags; it is not ready yet.
fn secure_server(name: &str, more: &[(&str, String)]) -> (Cluster, String) {
    let mut cluster = Cluster::new(name, &Options::servers(1));
    let server = cluster.server(0);
    let url = server.client.url().replace("http://", "https://");
    for flag in ["--listen-client-urls", "--advertise-client-urls"] {
        server.set_flag(flag, &url);
    }
    for (flag, value) in more {
        server.flags.extend([(*flag).to_owned(), value.clone()]);
    }
    server.start();
    (cluster, url)
}

/// The flags of a client that believes `ca` and shows `pair`.
fn shown<'a>(ca: &'a Path, pair: Option<&'a Pair>) -> Vec<&'a str> {
    let mut flags = vec!["--cacert", ca.to_str().unwrap()];
    if let Some(pair) = pair {
        flags.extend(["--cert", pair.cert.to_str().unwrap(), "--key", pair.key.to_str().unwrap()]);
    }
    flags
}

fn quorate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn etcdctl_needs_a_certificate_that_was_not_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["localhost", "127.0.0.1"]);
    let (friend, former) = (ours.issue("friend", 2, &[]), ours.issue("former", 3, &[]));
    let (cluster, url) = secure_server(
        "tls",
        &[
            ("--cert-file", text(&pair.cert)),
            ("--key-file", text(&pair.key)),
            ("--trusted-ca-file", text(&ours.ca)),
            ("--client-cert-auth", "true".to_owned()),
            ("--client-crl-file", text(&ours.revoke(&[]))),
        ],
    );
    let put = |pair: Option<&Pair>| {
        let said = etcdctl(&url, &[&shown(&ours.ca, pair)[..], &["put", "a", "1"]].concat());
        said.is_success
    };
    eventually("a put over TLS", async || put(Some(&friend)).then_some(())).await;
    assert!(put(Some(&former)));
    // They give up after a few seconds.
    let refused = |pair: Option<&Pair>| {
        let patience = ["--command-timeout", "2s", "--dial-timeout", "1s"];
        let flags = [&shown(&ours.ca, pair)[..], &patience, &["put", "a", "2"]].concat();
        !etcdctl(&url, &flags).is_success
    };
    assert!(refused(None));
    ours.revoke(&[former.serial]);
    eventually("the revoked one to be refused", async || refused(Some(&former)).then_some(()))
        .await;
    assert!(put(Some(&friend)));
    cluster.finish();
}

#[tokio::test]
async fn our_own_verbs_speak_tls_where_a_scheme_or_a_flag_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["127.0.0.1"]);
    let friend = ours.issue("friend", 2, &[]);
    let (mut cluster, url) = secure_server(
        "tls-verbs",
        &[
            ("--cert-file", text(&pair.cert)),
            ("--key-file", text(&pair.key)),
            ("--trusted-ca-file", text(&ours.ca)),
        ],
    );
    let address = cluster.server(0).client.address();
    let flags = shown(&ours.ca, Some(&friend));
    let verb = |endpoint: &str, flags: &[&str], verb: &[&str]| {
        quorate(&[verb, &["--endpoints", endpoint], flags].concat())
    };
    eventually("a put over TLS", async || verb(&url, &flags, &["put", "a", "1"]).0.then_some(()))
        .await;
    for endpoint in [&url, &address] {
        let (is_success, said) = verb(endpoint, &flags, &["get", "a"]);
        assert!(is_success && said.contains('1'), "{said}");
        let (is_success, said) = verb(endpoint, &flags, &["status"]);
        assert!(is_success, "{said}");
    }
    let trusting = [&flags[2..], &["--insecure-skip-tls-verify"]].concat();
    assert!(verb(&url, &trusting, &["get", "a"]).0);
    let (is_success, said) = verb(&url, &flags[2..], &["get", "a"]);
    assert!(!is_success && said.contains("UnknownIssuer"), "{said}");
    let (is_success, said) = verb(&url, &["--cacert", "/none/ca.pem"], &["get", "a"]);
    assert!(!is_success && said.contains("cannot read certificates in /none/ca.pem"), "{said}");
    cluster.finish();
}

#[tokio::test]
async fn a_server_that_makes_its_own_certificate_serves_who_believes_it() {
    let (mut cluster, url) = secure_server("auto-tls", &[("--auto-tls", "true".to_owned())]);
    let cert = cluster.server(0).data_dir.join("fixtures/client/cert.pem");
    let put = || etcdctl(&url, &[&shown(&cert, None)[..], &["put", "a", "1"]].concat()).is_success;
    eventually("a put over TLS", async || (cert.exists() && put()).then_some(())).await;
    let made = fs::read(&cert).unwrap();
    assert!(cluster.server(0).terminate().await.success());
    cluster.server(0).start();
    eventually("a put after a restart", async || put().then_some(())).await;
    assert_eq!(fs::read(&cert).unwrap(), made);
    cluster.finish();
}

#[tokio::test]
async fn flags_of_tls_that_cannot_work_are_refused_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["localhost"]);
    let cases = [
        (vec![], "must be provided for client url https://127.0.0.1:"),
        (vec![("--cert-file", text(&pair.cert))], "KeyFile and CertFile must both be present"),
        (
            vec![("--cert-file", text(&pair.cert)), ("--key-file", text(&ours.ca))],
            "expected a private key in PEM",
        ),
        (
            vec![
                ("--cert-file", text(&pair.cert)),
                ("--key-file", text(&pair.key)),
                ("--cipher-suites", "TLS_ROT13".to_owned()),
            ],
            "unexpected TLS cipher suite \"TLS_ROT13\"",
        ),
    ];
    for (more, words) in cases {
        let (mut cluster, _) = secure_server("tls-flags", &more);
        let status = cluster.server(0).ended().await;
        let said = cluster.server(0).log_text();
        assert!(!status.success() && said.contains(words), "expected `{words}` in: {said}");
        assert!(!cluster.server(0).data_dir.exists(), "nothing was touched on the disk");
        cluster.finish();
    }
}

#[tokio::test]
async fn a_list_of_revoked_certificates_that_nobody_is_asked_for_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["127.0.0.1"]);
    let flags = [
        ("--cert-file", text(&pair.cert)),
        ("--key-file", text(&pair.key)),
        ("--client-crl-file", text(&ours.revoke(&[]))),
    ];
    let (mut cluster, _) = secure_server("tls-idle-crl", &flags);
    eventually("the warning", async || {
        cluster.server(0).log_text().contains("ignoring the list").then_some(())
    })
    .await;
    cluster.finish();
}
