//! Users of real servers, with the real etcdctl and with our own verbs: signed tokens, names in
//! certificates, logins, and that no secret gets into a log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../tls/tests/common/authority.rs"]
mod authority;
mod harness;

use authority::{Authority, Pair};
use harness::{Cluster, Options, etcdctl, eventually, http};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/tests/jwt");

fn key_file(name: &str) -> String {
    format!("{KEYS}/{name}")
}

/// So many servers, all of which have the same keys for tokens, and log everything.
fn with_jwt(name: &str, server_count: usize, auth_token: &str) -> Cluster {
    let mut options = Options::servers(server_count);
    for (flag, value) in
        [("--auth-token", auth_token), ("--bcrypt-cost", "4"), ("--log-level", "debug")]
    {
        options.more.push((flag.to_owned(), value.to_owned()));
    }
    Cluster::new(name, &options)
}

fn es256() -> String {
    let (private, public) = (key_file("p256.pem"), key_file("p256-public.pem"));
    format!("jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl=5m")
}

/// Makes root and alice, who may read and write `a`, and asks for users from now on.
fn guard(endpoint: &str) {
    for line in [
        "user add root:rootpw",
        "user add alice:alicepw",
        "role add letters",
        "role grant-permission letters readwrite a",
        "user grant-role alice letters",
        "auth enable",
    ] {
        let said = etcdctl(endpoint, &line.split(' ').collect::<Vec<_>>());
        assert!(said.is_success, "{line}: {}", said.err);
    }
}

fn quorate(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The token that the gateway gives.
fn token_of(address: &str, name: &str) -> String {
    let body = format!(r#"{{"name":"{name}","password":"{name}pw"}}"#);
    let answer = http::post(address, "/v3/auth/authenticate", &body);
    answer.json()["token"].as_str().expect(&answer.body).to_owned()
}

/// A gateway request with a token.
fn post_as(address: &str, token: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_signed_token_is_good_with_every_member_and_in_no_log() {
    let mut cluster = with_jwt("jwt", 3, &es256());
    cluster.start_all().await;
    let addresses: Vec<String> =
        cluster.indexes().map(|index| cluster.server(index).client.address()).collect();
    guard(&addresses[0]);
    let said = etcdctl(&addresses[1], &["--user", "root:rootpw", "user", "list"]);
    assert_eq!(said.out, "alice\nroot\n", "{}", said.err);
    let said = etcdctl(&addresses[2], &["--user", "alice:alicepw", "put", "a", "1"]);
    assert!(said.is_success, "{}", said.err);
    let said = etcdctl(&addresses[2], &["--user", "alice:alicepw", "put", "b", "1"]);
    assert!(!said.is_success && said.err.contains("etcdserver: permission denied"), "{}", said.err);

    let token = token_of(&addresses[0], "alice");
    let range = r#"{"key":"YQ=="}"#;
    for address in &addresses {
        let answer = post_as(address, &token, "/v3/kv/range", range);
        assert!(answer.contains(r#""value":"MQ==""#), "{answer}");
    }
    let forged = format!("{}x", &token[..token.len() - 1]);
    for wrong in [forged.as_str(), "wrong.token.here"] {
        let answer = post_as(&addresses[0], wrong, "/v3/kv/range", range);
        assert!(answer.contains("etcdserver: invalid auth token"), "{answer}");
    }
    let said = etcdctl(&addresses[0], &["--user", "root:rootpw", "role", "add", "other"]);
    assert!(said.is_success, "{}", said.err);
    // That member may be behind, and not know of the change yet.
    eventually("the token to have grown old everywhere", async || {
        let answer = post_as(&addresses[2], &token, "/v3/kv/range", range);
        answer.contains("etcdserver: revision of auth store is old").then_some(())
    })
    .await;

    let keys = std::fs::read_to_string(key_file("p256.pem")).unwrap();
    let signature = token.rsplit('.').next().unwrap();
    let mut secrets = vec![token.as_str(), signature, "rootpw", "alicepw", "wrong.token.here"];
    secrets.extend(keys.lines().filter(|line| !line.starts_with("-----")));
    for index in cluster.indexes() {
        assert!(cluster.server(index).terminate().await.success());
        let log = cluster.server(index).log_text();
        assert!(log.contains("serving clients"), "the log is looked at");
        for secret in &secrets {
            assert!(!log.contains(secret), "{secret} is in a log");
        }
    }
    cluster.finish();
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_refused_at_the_start_by_name() {
    for (auth_token, words) in [
        ("jwt,sign-method=RS256,priv-key=/none/key.pem", "cannot read a key in /none/key.pem"),
        ("jwt,sign-method=ES512,priv-key=/none/key.pem", "there is no P-521 here"),
        ("jwt,sign-method=none", "--auth-token: sign-method: expected one of HS256, HS384,"),
        (
            &format!("jwt,sign-method=RS256,priv-key={}", key_file("p256.pem")),
            "p256.pem: expected an RSA key of 2048 bits or more, its private part, in PEM",
        ),
    ] {
        let mut cluster = with_jwt("jwt-refused", 1, auth_token);
        let said = cluster.server(0).start_in_vain().await;
        assert!(said.contains(words), "{said}");
        assert!(!cluster.server(0).data_dir.exists(), "nothing was touched on the disk");
        cluster.finish();
    }
}

#[tokio::test]
async fn a_name_in_a_certificate_is_a_user_of_the_real_etcdctl() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["localhost", "127.0.0.1"]);
    let [root, alice] = ["root", "alice"].map(|name| ours.issue(name, 2, &[]));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut options = Options::servers(1);
    for (flag, value) in [
        ("--cert-file", text(&pair.cert)),
        ("--key-file", text(&pair.key)),
        ("--trusted-ca-file", text(&ours.ca)),
        ("--client-cert-auth", "true".to_owned()),
        ("--bcrypt-cost", "4".to_owned()),
    ] {
        options.more.push((flag.to_owned(), value));
    }
    let mut cluster = Cluster::new("names", &options);
    let server = cluster.server(0);
    let url = server.client.url().replace("http://", "https://");
    for flag in ["--listen-client-urls", "--advertise-client-urls"] {
        server.set_flag(flag, &url);
    }
    server.start();
    let as_whom = |pair: &Pair, line: &str| {
        let (cert, key) = (text(&pair.cert), text(&pair.key));
        let flags = ["--cacert", ours.ca.to_str().unwrap(), "--cert", &cert, "--key", &key];
        etcdctl(&url, &[&flags[..], &line.split(' ').collect::<Vec<_>>()].concat())
    };
    eventually("a put over TLS", async || as_whom(&root, "put a 1").is_success.then_some(())).await;
    for line in ["user add root --no-password", "user add alice --no-password", "auth enable"] {
        let said = as_whom(&root, line);
        assert!(said.is_success, "{line}: {}", said.err);
    }
    assert_eq!(as_whom(&root, "user list").out, "alice\nroot\n");
    let said = as_whom(&alice, "user list");
    assert!(said.err.contains("etcdserver: permission denied"), "{}", said.err);
    let said = as_whom(&alice, "--user root:guess user list");
    assert!(!said.is_success, "no password is that of who has none: {}", said.out);
    let (cert, key, ca) = (text(&root.cert), text(&root.key), text(&ours.ca));
    let flags = ["--endpoints", &url, "--cacert", &ca, "--cert", &cert, "--key", &key];
    let (is_success, said) = quorate(&[&["user", "list"], &flags[..]].concat(), &[]);
    assert!(is_success && said == "alice\nroot\n", "{said}");
    cluster.finish();
}

#[tokio::test]
async fn our_verbs_log_in_with_flags_and_with_variables() {
    let mut options = Options::servers(1);
    options.more.push(("--bcrypt-cost".to_owned(), "4".to_owned()));
    let mut cluster = Cluster::new("login", &options);
    cluster.start_all().await;
    let address = cluster.server(0).client.address();
    let run = |line: &str, variables: &[(&str, &str)]| {
        let words: Vec<&str> = line.split(' ').chain(["--endpoints", &address]).collect();
        quorate(&words, variables)
    };
    let (is_success, said) = run("put a 1 --user root:rootpw", &[]);
    assert!(is_success, "nobody is asked who they are: {said}");
    guard(&address);
    let (is_success, said) = run("get a", &[]);
    assert!(!is_success && said.contains("etcdserver: user name is empty"), "{said}");
    let words = "authentication failed, invalid user ID or password";
    let (is_success, said) = run("get a --user root:wrong", &[]);
    assert!(!is_success && said.contains(words) && !said.contains("root:wrong"), "{said}");
    for (line, variables) in [
        ("get a --user root:rootpw", &[][..]),
        ("get a --user root --password rootpw", &[]),
        ("get a", &[("ETCDCTL_USER", "root:rootpw")]),
        ("get a", &[("QUORATE_USER", "root"), ("QUORATE_PASSWORD", "rootpw")]),
        ("get a --user root", &[("ETCDCTL_PASSWORD", "rootpw")]),
        ("get a --user alice:alicepw", &[("QUORATE_USER", "root:wrong")]),
    ] {
        let (is_success, said) = run(line, variables);
        assert!(is_success && said == "a\n1\n", "{line}: {said}");
    }
    for line in ["status", "hashkv", "member list", "alarm list", "defrag", "endpoint health"] {
        let (is_success, said) = run(&format!("{line} --user root:rootpw"), &[]);
        assert!(is_success, "{line}: {said}");
    }
    let variables = [("QUORATE_USER", "root:secret word")];
    let (_, help) = quorate(&["get", "--help"], &variables);
    assert!(help.contains("QUORATE_USER") && !help.contains("secret word"), "{help}");
    cluster.finish();
}

#[tokio::test]
async fn a_watch_whose_login_has_grown_old_logs_in_anew() {
    let mut cluster = with_jwt("watch-login", 1, &es256());
    cluster.start_all().await;
    let address = cluster.server(0).client.address();
    guard(&address);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["watch", "a", "--endpoints", &address, "--user", "alice:alicepw"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let as_root = |line: &str| {
        let words: Vec<&str> =
            ["--user", "root:rootpw"].into_iter().chain(line.split(' ')).collect();
        etcdctl(&address, &words)
    };
    // The watch begins at some moment: put until it shows something.
    let (shown, hear) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if shown.send(line).is_err() {
                return;
            }
        }
    });
    let hears = async |value: &str| {
        eventually("the watch to show a put", async || {
            // A server that has just begun may not serve yet.
            let is_put = as_root(&format!("put a {value}")).is_success;
            let mut heard = hear.try_iter();
            (is_put && heard.any(|line| line == value)).then_some(())
        })
        .await;
    };
    hears("before").await;
    assert!(as_root("role add other").is_success, "tokens of before have grown old");
    assert!(cluster.server(0).terminate().await.success());
    cluster.server(0).start();
    hears("after").await;
    watch.kill().unwrap();
    watch.wait().unwrap();
    drop(hear);
    reader.join().unwrap();
    cluster.finish();
}
