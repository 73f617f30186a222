//! The crate `etcd-client`, with the tests that it publishes. They know one address, which is replaced in
//! a copy of them; the rest is as its authors wrote it.

use super::cluster::{BRIEF_TOKEN_SECONDS, Cluster, Member, Options, Ports, Tls, is_free};
use super::tools::Tools;
use super::{Tally, copy_all, copy_if_different, expect_all, logged};
use crate::ci::{Count, cargo};
use anyhow::{Context, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

const CRATE: &str = "etcd-client";
/// How many tests version 0.21.1 has.
const TEST_COUNT: u64 = 29;
/// How often cargo tries to fetch something.
const FETCH_TRIES: (&str, &str) = ("CARGO_NET_RETRY", "10");
/// What the tests call their server.
const THEIR_ENDPOINT: &str = "\"localhost:2379\"";
/// What they call the member that joins.
const THEIR_NEWCOMER: &str = "http://node4:2380";
/// The test that wants a cluster, and a member that joins it.
const CLUSTER_TEST: &str = "test_cluster";

/// Fetches the crate and compiles its tests.
pub(super) fn prepare(tools: &Tools) -> anyhow::Result<()> {
    let folder = folder(tools);
    copy_all(&tools.pins.join(CRATE), &folder)?;
    let source = source(tools)?;
    let known = Addresses::chosen(tools)?;
    fs::create_dir_all(folder.join("tests"))?;
    for entry in fs::read_dir(source.join("tests"))? {
        let entry = entry?;
        let target = folder.join("tests").join(entry.file_name());
        copy_if_different(&entry.path(), &target, |text| Ok(known.put_into(text)))?;
    }
    let tests = fs::read_to_string(folder.join("tests/testing.rs"))?
        + &fs::read_to_string(folder.join("tests/client.rs"))?;
    if !tests.contains(&known.endpoint()) || !tests.contains(&known.newcomer()) {
        bail!("expected {THEIR_ENDPOINT} and {THEIR_NEWCOMER} in the tests of {CRATE}");
    }
    logged(cargo_test(tools)?.arg("--no-run"), &folder.join("build.log")).map(drop)
}

/// All tests but one against a single server, that one against three.
pub(super) fn run(tools: &Tools, ports: &mut Ports) -> anyhow::Result<Tally> {
    let known = Addresses::known(tools).context("the addresses in the tests")?;
    let data = tools.data_folder(CRATE)?;
    let options = |part: &str| {
        let folder = data.join(part);
        fs::create_dir_all(&folder)?;
        let (program, token_ttl_seconds) = (tools.server.clone(), BRIEF_TOKEN_SECONDS);
        anyhow::Ok(Options { program, folder, tls: Tls::No, token_ttl_seconds })
    };
    let first = |name: &str, ports: &mut Ports| {
        let peer_port = ports.free()?;
        Member::at(name, known.port, peer_port, ports)
    };
    let single = Cluster::start(vec![first("single", ports)?], options("single")?)?;
    let endpoint = single.endpoint()?;
    tools.etcdctl(&endpoint, &["user", "add", "root:rootpwd"])?;
    tools.etcdctl(&endpoint, &["user", "grant-role", "root", "root"])?;
    let most = ["--", "--include-ignored", "--skip", CLUSTER_TEST];
    let mut count = run_tests(tools, &most, "single.log")?;
    drop(single);

    let mut members = vec![first("node1", ports)?];
    for name in ["node2", "node3"] {
        members.push(Member::new(name, ports)?);
    }
    let port = ports.free()?;
    let newcomer = Member::at("node4", port, known.newcomer_port, ports)?;
    let cluster = Cluster::start(members, options("cluster")?)?;
    count.append(run_with_newcomer(tools, cluster, newcomer, &known)?);
    expect_all(Tally { passed: count.passed, left_out: count.ignored }, TEST_COUNT)
}

/// The test adds a member and waits for it: somebody has to start it then.
fn run_with_newcomer(
    tools: &Tools,
    mut cluster: Cluster,
    newcomer: Member,
    known: &Addresses,
) -> anyhow::Result<Count> {
    let endpoint = cluster.endpoint()?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let members = tools.etcdctl(&endpoint, &["member", "list"])?;
                if members.contains(&known.newcomer()) {
                    return cluster.join(newcomer);
                }
                sleep(Duration::from_millis(200));
            }
            bail!("nobody has added {}", known.newcomer())
        });
        let only = ["--test", "client", "--", "--include-ignored", CLUSTER_TEST];
        let count = run_tests(tools, &only, "cluster.log");
        is_over.store(true, Ordering::Relaxed);
        let outcome = starter.join();
        let count = count?;
        outcome.ok().context("the thread that starts the member")??;
        Ok(count)
    })
}

fn run_tests(tools: &Tools, arguments: &[&str], log: &str) -> anyhow::Result<Count> {
    let said = logged(cargo_test(tools)?.args(arguments), &folder(tools).join(log))?;
    let mut count = Count::default();
    said.lines().for_each(|line| count.add(line));
    Ok(count)
}

fn folder(tools: &Tools) -> PathBuf {
    tools.folder.join(CRATE)
}

fn cargo_test(tools: &Tools) -> anyhow::Result<Command> {
    let folder = folder(tools);
    let mut command = Command::new(cargo());
    command.args(["test", "--locked"]).env("PROTOC", tools.protoc()?);
    command.env(FETCH_TRIES.0, FETCH_TRIES.1);
    command.env("CARGO_TARGET_DIR", folder.join("target")).current_dir(&folder);
    Ok(command)
}

/// Where cargo has unpacked the crate, whose digest the lock file has.
fn source(tools: &Tools) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--locked", "--format-version", "1"]).current_dir(folder(tools));
    command.env(FETCH_TRIES.0, FETCH_TRIES.1);
    let output = command.output().context("running cargo metadata")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let package = packages
        .into_iter()
        .flatten()
        .find(|package| package.get("name").and_then(Value::as_str) == Some(CRATE));
    let manifest = package.and_then(|package| package.get("manifest_path")?.as_str());
    let folder = manifest.and_then(|manifest| Path::new(manifest).parent());
    folder.map(Path::to_path_buf).with_context(|| format!("cargo metadata names no {CRATE}"))
}

/// What the tests are told. It is compiled into them, so it stays the same from run to run while the ports
/// are free.
struct Addresses {
    port: u16,
    newcomer_port: u16,
}

impl Addresses {
    /// Those that the tests know already.
    fn known(tools: &Tools) -> Option<Self> {
        let text = fs::read_to_string(folder(tools).join("ports")).ok()?;
        let (port, newcomer_port) = text.trim().split_once(' ')?;
        Some(Self { port: port.parse().ok()?, newcomer_port: newcomer_port.parse().ok()? })
    }

    /// The same if they are free, and others if not.
    fn chosen(tools: &Tools) -> anyhow::Result<Self> {
        let is_usable = |known: &Self| is_free(known.port) && is_free(known.newcomer_port);
        if let Some(known) = Self::known(tools).filter(is_usable) {
            return Ok(known);
        }
        // A lane that no suite has.
        let mut ports = Ports::of_lane(6);
        let [port, newcomer_port] = [ports.free()?, ports.free()?];
        fs::write(folder(tools).join("ports"), format!("{port} {newcomer_port}\n"))?;
        Ok(Self { port, newcomer_port })
    }

    fn endpoint(&self) -> String {
        format!("\"127.0.0.1:{}\"", self.port)
    }

    fn newcomer(&self) -> String {
        format!("http://127.0.0.1:{}", self.newcomer_port)
    }

    fn put_into(&self, text: &str) -> String {
        text.replace(THEIR_ENDPOINT, &self.endpoint()).replace(THEIR_NEWCOMER, &self.newcomer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_addresses_are_replaced() {
        let known = Addresses { port: 1, newcomer_port: 2 };
        let theirs = "connect(\"localhost:2379\"); add(\"http://node4:2380\"); // localhost";
        let ours = "connect(\"127.0.0.1:1\"); add(\"http://127.0.0.1:2\"); // localhost";
        assert_eq!(known.put_into(theirs), ours);
    }
}
