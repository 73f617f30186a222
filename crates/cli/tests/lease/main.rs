//! Leases through real processes: the real etcdctl gets from us what it gets from etcd 3.5.1, our
//! own verbs print the same, and a lease ends when nobody renews it and not when a leader dies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;
mod life;
mod owner;

use harness::{Cluster, etcdctl, http};
use serde_json::Value;
use std::process::Command;

fn addresses(cluster: &mut Cluster) -> Vec<String> {
    cluster.indexes().map(|index| cluster.server(index).client.address()).collect()
}

/// What etcdctl printed, if it ended well; what it complained of, if not.
fn said(endpoint: &str, arguments: &[&str]) -> Result<String, String> {
    let said = etcdctl(endpoint, arguments);
    if said.is_success {
        return Ok(said.out.trim_end().to_owned());
    }
    // A line of its log goes before the sentence.
    Err(said.err.trim_end().lines().last().unwrap_or_default().to_owned())
}

/// The same with our own verbs.
fn quorate(endpoint: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(arguments)
        .args(["--endpoints", endpoint])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Grants a lease with an id of our choice, which etcdctl cannot.
fn grant(endpoint: &str, id: i64, ttl: i64) {
    let body = format!(r#"{{"TTL":{ttl},"ID":{id}}}"#);
    let answer = http::post(endpoint, "/v3/lease/grant", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

fn is_remaining(text: &Result<String, String>, before: &str, after: &str) -> bool {
    let middle = text.as_ref().ok().and_then(|text| text.strip_prefix(before)?.strip_suffix(after));
    middle.is_some_and(|seconds| seconds.parse::<i64>().is_ok_and(|seconds| seconds > 0))
}

#[tokio::test]
async fn etcdctl_and_our_verbs_say_of_leases_what_they_say_of_etcd_s() {
    let mut cluster = Cluster::started("lease-dialogue", 3).await;
    let endpoints = addresses(&mut cluster);
    let not_found = "etcdserver: requested lease not found";
    for (turn, endpoint) in endpoints.iter().enumerate() {
        let granted = said(endpoint, &["lease", "grant", "1000"]).unwrap();
        let id = granted.strip_prefix("lease ").unwrap().split(' ').next().unwrap();
        assert_eq!(granted, format!("lease {id} granted with TTL(1000s)"));
        let lease = format!("--lease={id}");
        assert_eq!(said(endpoint, &["put", "k1", "v", &lease]), Ok("OK".to_owned()));
        assert_eq!(quorate(endpoint, &["put", "k2", "v", &lease]), Ok("OK".to_owned()));

        let reader = &endpoints[(turn + 1) % endpoints.len()];
        let alive = format!("lease {id} keepalived with TTL(1000)");
        let before = format!("lease {id} granted with TTL(1000s), remaining(");
        for ask in [said, quorate] {
            assert_eq!(ask(reader, &["lease", "keep-alive", "--once", id]), Ok(alive.clone()));
            let found = ask(reader, &["lease", "timetolive", id]);
            assert!(is_remaining(&found, &before, "s)"), "{found:?}");
            let found = ask(reader, &["lease", "timetolive", "--keys", id]);
            assert!(is_remaining(&found, &before, "s), attached keys([k1 k2])"), "{found:?}");
            let list = format!("found 1 leases\n{id}");
            assert_eq!(ask(reader, &["lease", "list"]), Ok(list));
        }
        assert_eq!(said(reader, &["lease", "revoke", id]), Ok(format!("lease {id} revoked")));
        assert_eq!(said(endpoint, &["get", "--prefix", "k"]), Ok(String::new()));
        let gone = format!("lease {id} already expired");
        let ended = format!("lease {id} expired or revoked.");
        for ask in [said, quorate] {
            assert_eq!(ask(reader, &["lease", "timetolive", id]), Ok(gone.clone()));
            assert_eq!(ask(reader, &["lease", "keep-alive", id]), Ok(ended.clone()));
            assert_eq!(ask(reader, &["lease", "list"]), Ok("found 0 leases".to_owned()));
            for arguments in [
                vec!["lease", "revoke", id],
                vec!["lease", "keep-alive", "--once", id],
                vec!["put", "k", "v", &lease],
            ] {
                let refusal = ask(reader, &arguments).unwrap_err();
                assert!(refusal.contains(not_found), "{arguments:?}: {refusal}");
            }
        }
    }
    let too_large = said(&endpoints[0], &["lease", "grant", "9000000001"]);
    let text = "Error: failed to grant lease (etcdserver: too large lease TTL)";
    assert_eq!(too_large, Err(text.to_owned()));
    cluster.finish();
}

#[tokio::test]
async fn our_json_of_leases_is_etcdctl_s() {
    let mut cluster = Cluster::started("lease-json", 1).await;
    let endpoint = addresses(&mut cluster).remove(0);
    grant(&endpoint, 0x4d, 1000);
    grant(&endpoint, -0x4e, 2000);
    said(&endpoint, &["put", "k", "v", "--lease=4d"]).unwrap();
    let json = |text: Result<String, String>| {
        let mut value: Value = serde_json::from_str(&text.unwrap()).unwrap();
        // What is left of the time is another figure a moment later.
        value.as_object_mut().unwrap().remove("ttl");
        value
    };
    for arguments in [
        vec!["lease", "list", "-w", "json"],
        vec!["lease", "timetolive", "4d", "-w", "json"],
        vec!["lease", "timetolive", "4d", "--keys", "-w", "json"],
        vec!["lease", "timetolive", "5", "-w", "json"],
        vec!["lease", "keep-alive", "--once", "4d", "-w", "json"],
    ] {
        let (theirs, ours) = (said(&endpoint, &arguments), quorate(&endpoint, &arguments));
        assert_eq!(json(ours), json(theirs), "{arguments:?}");
    }
    cluster.finish();
}
