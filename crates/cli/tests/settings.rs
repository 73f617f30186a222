//! The real binary, told by the environment alone, by a config file alone, and as `etcd` with Go's
//! flags; what it says to those who wait for it, and what it refuses. Knows etcd's settings, nothing of
//! how they are read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Client, PATIENCE, Port, eventually, scratch_folder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");

/// A node alone in a folder, which is where it is started.
struct Node {
    folder: TempDir,
    client: Port,
    peer: Port,
    child: Option<Child>,
}

impl Node {
    fn new(name: &str) -> Self {
        let folder = scratch_folder(name);
        Self { folder, client: Port::reserve(), peer: Port::reserve(), child: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a node of one must be told.
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", "n1".to_owned()),
            ("data-dir", self.path("data").to_str().unwrap().to_owned()),
            ("listen-client-urls", self.client.url()),
            ("advertise-client-urls", self.client.url()),
            ("listen-peer-urls", self.peer.url()),
            ("initial-advertise-peer-urls", self.peer.url()),
            ("initial-cluster", format!("n1={}", self.peer.url())),
        ]
    }

    /// A link to the program, of the name `etcd`.
    fn etcd(&self) -> PathBuf {
        let link = self.path("etcd");
        symlink(QUORATE, &link).unwrap();
        link
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Nothing of the environment of whoever runs the tests.
        command.env_clear().current_dir(self.folder.path());
        command
    }

    /// Starts it. Its standard input is a pipe that we hold: it ends with us.
    fn start(&mut self, mut command: Command) {
        let log = File::create(self.path("log")).unwrap();
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the program can be run");
        self.child = Some(child);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until it answers.
    async fn serves(&mut self) {
        let client = Client::new(&self.client.url());
        let child = self.child.as_mut().expect("it was started");
        let log = self.folder.path().join("log");
        eventually("the node to take a write", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(&log).unwrap());
            }
            client.put("a", "1").await.ok()
        })
        .await;
    }

    async fn logged(&self, words: &str) {
        let what = format!("the log to say `{words}`: {}", self.log());
        eventually(&what, async || self.log().contains(words).then_some(())).await;
    }

    fn stop(mut self) {
        let mut child = self.child.take().expect("it was started");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

fn variable(setting: &str) -> String {
    format!("ETCD_{}", setting.to_uppercase().replace('-', "_"))
}

#[tokio::test]
async fn a_node_is_started_by_the_environment_alone() {
    let mut node = Node::new("by-environment");
    let mut command = node.command(Path::new(QUORATE));
    command.args(["serve", "--exit-with-parent"]);
    for (setting, value) in node.settings() {
        command.env(variable(setting), value);
    }
    command.env("ETCD_NAM", "n2").env("ETCD_MAX_WALS", "5").env("ETCD_ENABLE_GRPC_GATEWAY", "true");
    node.start(command);
    node.serves().await;
    node.logged("ready to serve client requests").await;
    let log = node.log();
    for words in ["unrecognized environment variable", "ETCD_NAM", "ETCD_NAME", "ETCD_MAX_WALS"] {
        assert!(log.contains(words), "expected `{words}` in {log}");
    }
    let idle = log.lines().filter(|line| line.contains("has no effect"));
    assert_eq!(idle.count(), 1, "the other one asks for what is so anyway: {log}");
    assert!(node.path("data").exists());
    node.stop();
}

#[tokio::test]
async fn a_node_is_started_by_a_config_file_alone_and_logs_where_it_says() {
    let mut node = Node::new("by-file");
    let settings = node.settings().into_iter();
    let mut lines: Vec<String> =
        settings.map(|(setting, value)| format!("{setting}: '{value}'")).collect();
    lines.push("log-format: json".to_owned());
    lines.push(format!("log-outputs: [{}]", node.path("file.log").display()));
    lines.push("watch-progress-notify-interval: 600000000000".to_owned());
    fs::write(node.path("etcd.conf.yml"), lines.join("\n")).unwrap();
    let mut command = node.command(Path::new(QUORATE));
    command.args(["serve", "--exit-with-parent", "--config-file", "etcd.conf.yml", "--name", "n2"]);
    command.env("ETCD_DATA_DIR", "/none");
    node.start(command);
    node.serves().await;
    let log = || fs::read_to_string(node.path("file.log")).unwrap();
    eventually("the log", async || log().contains("ready to serve").then_some(())).await;
    let lines: Vec<Value> =
        log().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        for key in ["level", "ts", "caller", "msg"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    let ignored =
        lines.iter().filter(|line| line["msg"] == "ignored, because there is a config file");
    let ignored: Vec<&str> = ignored.filter_map(|line| line["setting"].as_str()).collect();
    assert_eq!(ignored, ["--name", "ETCD_DATA_DIR"]);
    node.stop();
}

/// A node under the name `etcd`, with Go's flags, and with whom it shall tell that it is ready.
fn as_etcd(node: &mut Node, notify: &str) {
    let mut command = node.command(&node.etcd());
    for (setting, value) in node.settings() {
        match setting {
            // Its default is etcd's.
            "data-dir" => {}
            "name" | "initial-cluster" => {
                command.args([format!("-{setting}"), value]);
            }
            _ => {
                command.arg(format!("-{setting}={value}"));
            }
        }
    }
    command.args(["-exit-with-parent", "-pre-vote"]).env("NOTIFY_SOCKET", notify);
    node.start(command);
}

fn told(listener: &UnixDatagram) -> Vec<u8> {
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 64];
    let count = listener.recv(&mut bytes).expect("somebody says that it is ready");
    bytes[..count].to_vec()
}

#[tokio::test]
async fn under_the_name_etcd_it_takes_gos_flags_and_tells_who_waits_for_it() {
    let mut node = Node::new("as-etcd");
    let socket = node.path("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    as_etcd(&mut node, socket.to_str().unwrap());
    assert_eq!(told(&listener), b"READY=1");
    node.serves().await;
    let log = node.log();
    let is_line = |line: &str| {
        let line: Value = serde_json::from_str(line).expect(line);
        line["msg"] == "ready to serve client requests" && line["level"] == "info"
    };
    assert!(log.lines().any(is_line), "{log}");
    assert!(node.path("n1.etcd").exists());
    node.stop();
}

#[tokio::test]
async fn a_socket_that_has_only_a_name_is_told_too() {
    let mut node = Node::new("as-etcd-abstract");
    let name = format!("quorate-settings-{}", std::process::id());
    let listener =
        UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    as_etcd(&mut node, &format!("@{name}"));
    assert_eq!(told(&listener), b"READY=1");
    node.serves().await;
    node.stop();
}

/// Runs the program to its end.
fn run(
    node: &Node,
    program: &Path,
    words: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String) {
    let mut command = node.command(program);
    command.args(words).envs(variables.iter().copied()).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn the_version_has_etcds_lines_under_both_names() {
    let node = Node::new("version");
    let etcd = node.etcd();
    for (program, words) in
        [(etcd.as_path(), &["--version"][..]), (Path::new(QUORATE), &["serve", "-version"])]
    {
        let (code, said) = run(&node, program, words, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with("etcd Version: 3."), "{said}");
        assert!(said.contains("\nGit SHA: ") && said.contains("\nQuorate Version: "), "{said}");
    }
    let (code, said) = run(&node, &etcd, &["-h"], &[]);
    assert_eq!(code, Some(0), "{said}");
    for words in ["Usage: etcd", "[env: ETCD_INITIAL_CLUSTER]", "NAME.etcd] [env: ETCD_DATA_DIR]"] {
        assert!(said.contains(words), "expected `{words}` in {said}");
    }
}

#[test]
fn what_is_unknown_or_wrong_or_dangerous_to_ignore_is_refused_before_the_disk_is_touched() {
    let node = Node::new("refused");
    let etcd = node.etcd();
    let file = |text: &str| {
        fs::write(node.path("f.yml"), text).unwrap();
    };
    let refused = |words: &[&str], variables: &[(&str, &str)], expected: &[&str]| {
        let (code, said) = run(&node, &etcd, words, variables);
        // As etcd ends: what is wrong with a flag is told from everything else.
        let is_a_flags = words.iter().any(|word| word.contains("election-timout"))
            || said.contains("cannot be followed");
        assert_eq!(code, Some(if is_a_flags { 2 } else { 1 }), "{said}");
        for words in expected {
            assert!(said.contains(words), "expected `{words}` in: {said}");
        }
        assert!(!node.path("default.etcd").exists(), "nothing was touched on the disk");
    };
    refused(
        &["-election-timout=5"],
        &[],
        &["--election-timout", "did you mean --election-timeout?"],
    );
    let (code, said) = run(&node, &etcd, &["-election-timeout", "soon"], &[]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = run(&node, Path::new(QUORATE), &["serve", "gateway"], &[]);
    assert_eq!(code, Some(2), "under our own name a wrong setting is always 2: {said}");
    refused(&["gateway"], &[], &["expected a flag", "`gateway`"]);
    refused(
        &[],
        &[("ETCD_ELECTION_TIMEOUT", "soon")],
        &["ETCD_ELECTION_TIMEOUT", "whole number", "`soon`"],
    );
    refused(
        &[],
        &[("ETCD_FORCE_NEW_CLUSTER", "true")],
        &["ETCD_FORCE_NEW_CLUSTER", "there is no log in default.etcd/wal"],
    );
    refused(&[], &[("ETCD_DISCOVERY", "http://h/t")], &["ETCD_DISCOVERY", "--discovery-token"]);
    refused(&["-name=a"], &[("ETCD_NAME", "a")], &["conflicting environment variable is shadowed"]);
    file("name: n1\nlisten-client-url: http://h:1\n");
    let unknown = ["f.yml, line 2, listen-client-url", "did you mean listen-client-urls?"];
    refused(&["-config-file", "f.yml"], &[], &unknown);
    file("peer-transport-security:\n  auto-tls: perhaps\n");
    refused(&[], &[("ETCD_CONFIG_FILE", "f.yml")], &["line 2, peer-transport-security.auto-tls"]);
}

#[test]
fn a_cluster_of_nobody_is_refused_as_by_etcd_before_the_disk_is_touched() {
    let node = Node::new("nobody");
    let etcd = node.etcd();
    fs::write(node.path("f.yml"), "name: n2\ninitial-cluster: ''\n").unwrap();
    for words in [
        &["--name", "n2", "--initial-cluster", ""][..],
        &["--name=n2", "--initial-cluster="],
        &["--config-file", "f.yml"],
    ] {
        let (code, said) = run(&node, &etcd, words, &[]);
        assert_eq!(code, Some(1), "{said}");
        let expected = "couldn't find local name \"n2\" in the initial cluster configuration";
        assert!(said.contains(expected) && said.contains("or leave it out"), "{said}");
        assert!(!node.path("n2.etcd").exists(), "nothing was touched on the disk");
    }
}

#[tokio::test]
async fn what_etcd_starts_with_although_it_makes_no_sense_is_started_with_and_warned_of() {
    let mut node = Node::new("lenient");
    let mut command = node.command(&node.etcd());
    for (setting, value) in node.settings() {
        command.arg(format!("--{setting}={value}"));
    }
    command.args(["--exit-with-parent", "--snapshot-count=0x100000", "--bcrypt-cost=40"]);
    command.args(["--auth-token-ttl", "0", "--metrics", "full", "--cert-file", "/none/c.pem"]);
    command.args(["--max-txn-ops", "0"]).env("ETCD_QUOTA_BACKEND_BYTES", "1_000_000_000");
    node.start(command);
    node.serves().await;
    let log = node.log();
    for words in [
        "--bcrypt-cost: expected 4 to 31, found 40: 10 counts instead",
        "--auth-token-ttl: expected a number of seconds, found 0: 300 count instead",
        "--metrics: expected basic or extensive, found `full`: basic counts instead",
        "--max-txn-ops is 0",
        "ignoring key and cert files",
    ] {
        assert!(log.contains(words), "expected `{words}` in {log}");
    }
    node.stop();
}

#[test]
fn a_refusal_that_comes_late_names_the_variable_too() {
    let node = Node::new("late");
    let variables = [("ETCD_INITIAL_CLUSTER", "n7=http://127.0.0.1:1")];
    let (code, said) = run(&node, Path::new(QUORATE), &["serve"], &variables);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--initial-cluster is what ETCD_INITIAL_CLUSTER says"), "{said}");
}

#[tokio::test]
async fn etcdctls_variables_count_for_our_verbs_and_flags_win_over_them() {
    let mut node = Node::new("etcdctl-variables");
    let mut command = node.command(Path::new(QUORATE));
    command.args(["serve", "--exit-with-parent"]);
    for (setting, value) in node.settings() {
        command.arg(format!("--{setting}={value}"));
    }
    node.start(command);
    node.serves().await;
    let (url, address) = (node.client.url(), node.client.address());
    let nobody = Port::reserve().address();
    let program = Path::new(QUORATE);
    let get = |words: &[&str], variables: &[(&str, &str)]| {
        run(&node, program, &[&["get", "a", "--dial-timeout", "1m"], words].concat(), variables)
    };
    let endpoints = ("ETCDCTL_ENDPOINTS", url.as_str());
    let (code, said) = get(&[], &[endpoints, ("ETCDCTL_API", "3"), ("ETCDCTL_X", "1")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("unrecognized environment variable ETCDCTL_X"), "{said}");
    let (code, said) = get(&["--endpoints", &address], &[("ETCDCTL_ENDPOINTS", &nobody)]);
    assert_eq!(code, Some(0), "{said}");
    let ours = ("QUORATE_ENDPOINTS", address.as_str());
    assert_eq!(get(&[], &[ours, ("ETCDCTL_ENDPOINTS", &nobody)]).0, Some(0));
    let (code, said) = get(&[], &[endpoints, ("ETCDCTL_WRITE_OUT", "json")]);
    assert!(code == Some(0) && said.contains("\"kvs\""), "{said}");
    let (code, said) = get(&[], &[endpoints, ("ETCDCTL_USER", "root:hush")]);
    assert!(code == Some(0) && !said.contains("hush"), "nobody is asked who they are: {said}");
    let (code, said) = get(&[], &[endpoints, ("ETCDCTL_PASSWORD", "hush")]);
    assert!(code == Some(1) && said.contains("expected --user NAME"), "{said}");
    let (code, said) = get(&[], &[endpoints, ("ETCDCTL_COMMAND_TIMEOUT", "soon")]);
    assert!(code == Some(2) && said.contains("ETCDCTL_COMMAND_TIMEOUT: `soon`"), "{said}");
    node.stop();
}
