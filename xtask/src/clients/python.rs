//! The Python client `aetcd`, with the tests that its source package carries, against three servers. They
//! run `etcdctl`, and look for servers with `pgrep`: both are on the path that they are given.

use super::cluster::{Cluster, LASTING_TOKEN_SECONDS, Member, Options, Ports, Tls};
use super::tools::{Tools, path_with};
use super::{Tally, expect_all, installed, logged, number_before, write_program};
use crate::ci::{fetch, succeed};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "aetcd";
const VERSION: &str = "1.0.0";
/// How many tests that version has.
const TEST_COUNT: u64 = 93;
/// What the tests expect servers to be called, by the tool that their authors start them with.
const NAMES: [&str; 3] = ["pifpaf0", "pifpaf1", "pifpaf2"];

/// Fetches the source package, whose digest is pinned.
pub(super) fn prepare(tools: &Tools) -> anyhow::Result<()> {
    let (folder, pins) = (tools.folder.join(PACKAGE), tools.pins.join(PACKAGE));
    let pin = pins.join("source.txt");
    installed(&folder, &[&pin, &pins.join("requirements.txt")], || {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]);
        // What builds it is among the pinned packages, too: nothing else is fetched.
        pip.args(["--no-binary", ":all:", "--no-build-isolation", "--requirement"]).arg(&pin);
        fetch(pip.env("PYTHONPATH", &tools.python).arg("--dest").arg(&folder))?;
        let archive = folder.join(format!("{PACKAGE}-{VERSION}.tar.gz"));
        let mut unpack = Command::new("python3");
        succeed(unpack.args(["-m", "tarfile", "--extract"]).arg(archive).arg(&folder))
    })
}

/// All of them.
pub(super) fn run(tools: &Tools, ports: &mut Ports) -> anyhow::Result<Tally> {
    let mut members = Vec::new();
    for name in NAMES {
        members.push(Member::new(name, ports)?);
    }
    let folder = tools.data_folder(PACKAGE)?;
    let options = Options {
        program: tools.server.clone(),
        folder: folder.clone(),
        tls: Tls::No,
        token_ttl_seconds: LASTING_TOKEN_SECONDS,
    };
    let cluster = Cluster::start(members, options)?;
    let programs = programs(tools, &folder.join("programs"), &cluster)?;
    let command = pytest(tools, &cluster, &programs)?;
    let said = logged(&command, &tools.folder.join(PACKAGE).join("tests.log"))?;
    expect_all(tally(&said)?, TEST_COUNT)
}

/// A folder with the programs that the tests run.
fn programs(tools: &Tools, folder: &Path, cluster: &Cluster) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    write_program(&folder.join("etcdctl"), &etcdctl(&tools.etcdctl, tools.quorate.as_deref()))?;
    // They pause the second and the third server, and find them by what the whole machine runs.
    let pids: Vec<String> = cluster.pids().iter().skip(1).map(u32::to_string).collect();
    let told = format!("#!/bin/sh\nprintf '%s\\n' {}\n", pids.join(" "));
    write_program(&folder.join("pgrep"), &told)?;
    Ok(folder.to_path_buf())
}

/// The real etcdctl; but what is in a backup is told by the program that made it.
fn etcdctl(etcdctl: &Path, quorate: Option<&Path>) -> String {
    let ask_ours = quorate.map_or_else(String::new, |quorate| {
        let ours = quorate.display();
        format!(
            "case \"$*\" in *'snapshot status '*)\n    for file; do :; done\n    \
             exec '{ours}' snapshot status \"$file\" -w json\nesac\n"
        )
    });
    format!("#!/bin/sh\n{ask_ours}exec '{}' \"$@\"\n", etcdctl.display())
}

fn pytest(tools: &Tools, cluster: &Cluster, programs: &Path) -> anyhow::Result<Command> {
    let mut modules = tools.python.as_os_str().to_owned();
    modules.push(":");
    modules.push(tools.pins.join(PACKAGE));
    let mut command = Command::new("python3");
    // Without their flags, which ask for a report of coverage.
    command.args(["-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]);
    command.args(["-p", "quorate_port", "--with-cluster"]);
    command.env("TEST_ETCD_HTTP_URL", format!("http://{}", cluster.endpoint()?));
    command.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PATH", path_with(programs));
    command.current_dir(tools.folder.join(PACKAGE).join(format!("{PACKAGE}-{VERSION}")));
    Ok(command)
}

fn tally(said: &str) -> anyhow::Result<Tally> {
    let line = said.lines().rfind(|line| number_before(line, "passed").is_some());
    let line = line.context("expected `N passed` at the end of what pytest says")?;
    let number = |word| number_before(line, word).unwrap_or_default();
    Ok(Tally { passed: number("passed"), left_out: number("skipped") + number("xfailed") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_question_what_is_in_a_backup_goes_to_our_program() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("etcdctl");
        let (theirs, ours) = (Path::new("/bin/echo"), Path::new("/usr/bin/printf"));
        let said = |quorate, arguments: &[&str]| {
            write_program(&script, &etcdctl(theirs, quorate)).unwrap();
            let output = Command::new("sh").arg(&script).args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(said(Some(ours), &["get", "a b"]), "get a b\n");
        let status = ["--endpoints", "e", "snapshot", "status", "f"];
        assert_eq!(said(Some(ours), &status), "snapshot");
        assert_eq!(said(None, &status), "--endpoints e snapshot status f\n");
    }

    #[test]
    fn what_pytest_left_out_is_counted() {
        let said = "....s\n90 passed, 2 skipped in 65.15s (0:01:05)\n";
        assert_eq!(tally(said).unwrap(), Tally { passed: 90, left_out: 2 });
        assert!(tally("no tests ran in 0.01s").is_err());
    }
}
