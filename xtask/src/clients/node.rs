//! The npm client `etcd3`, which publishes no tests: a driver of ours, over all that it offers, in
//! `clients/etcd3/tests`. Against a single server, one whose tokens end soon, a cluster of three, and one
//! with TLS.

use super::cluster::{
    BRIEF_TOKEN_SECONDS, Cluster, LASTING_TOKEN_SECONDS, Member, Options, Ports, Tls,
};
use super::tools::Tools;
use super::{Tally, copy_all, installed, logged};
use crate::ci::fetch;
use anyhow::{Context, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const PACKAGE: &str = "etcd3";
/// How long one file of tests may take, in milliseconds, before it is called a hang.
const FILE_PATIENCE_MS: u32 = 240_000;

/// Installs the client as its lock file pins it, with digests, and puts the tests beside it.
pub(super) fn prepare(tools: &Tools) -> anyhow::Result<()> {
    let (folder, pins) = (tools.folder.join(PACKAGE), tools.pins.join(PACKAGE));
    let lock = pins.join("package-lock.json");
    installed(&folder, &[&lock], || {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(pins.join(file), folder.join(file))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]);
        fetch(npm.current_dir(&folder))
    })?;
    let _old = fs::remove_dir_all(folder.join("tests"));
    copy_all(&pins.join("tests"), &folder.join("tests"))
}

/// One file of tests after the other: some switch users on for the whole server.
pub(super) fn run(tools: &Tools, ports: &mut Ports) -> anyhow::Result<Tally> {
    let data = tools.data_folder(PACKAGE)?;
    let mut start = |names: &[&str], tls: Tls, token_ttl_seconds: u32| {
        let members: anyhow::Result<Vec<Member>> =
            names.iter().map(|name| Member::new(name, ports)).collect();
        let (program, folder) = (tools.server.clone(), data.clone());
        Cluster::start(members?, Options { program, folder, tls, token_ttl_seconds })
    };
    let single = start(&["single"], Tls::No, LASTING_TOKEN_SECONDS)?;
    let brief = start(&["brief"], Tls::No, BRIEF_TOKEN_SECONDS)?;
    let three = start(&["one", "two", "three"], Tls::No, LASTING_TOKEN_SECONDS)?;
    let secured = start(&["secured"], Tls::OfItsOwn, LASTING_TOKEN_SECONDS)?;

    let folder = tools.folder.join(PACKAGE);
    let mut command = Command::new("node");
    // The client leaves timers and connections behind, which would keep a file's process.
    command.args(["--test", "--test-concurrency=1", "--test-force-exit", "--test-reporter=tap"]);
    command.arg(format!("--test-timeout={FILE_PATIENCE_MS}")).args(files(&folder)?);
    command.env("QUORATE_SINGLE", single.endpoint()?).env("QUORATE_CLUSTER", three.endpoints());
    command.env("QUORATE_TLS", secured.endpoint()?).env("QUORATE_BRIEF", brief.endpoint()?);
    command.env("QUORATE_TLS_CERTIFICATE", secured.certificate()?);
    tally(&logged(command.current_dir(&folder), &folder.join("tests.log"))?)
}

fn files(folder: &std::path::Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.join("tests"))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.js") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The last lines: `# tests 5`, `# pass 5`, ...
fn tally(said: &str) -> anyhow::Result<Tally> {
    let number = |word: &str| {
        let before = format!("# {word} ");
        let line = said.lines().rev().find_map(|line| line.strip_prefix(&before));
        let number = line.and_then(|rest| rest.trim().parse::<u64>().ok());
        number.with_context(|| format!("expected a line `{before}N` at the end of node's report"))
    };
    let tally = Tally { passed: number("pass")?, left_out: number("skipped")? };
    if tally.passed == 0 || tally.passed + tally.left_out != number("tests")? {
        bail!("expected every test to pass, found {tally:?}");
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_neither_passed_nor_was_left_out_is_an_error() {
        let said = |tests: u8| format!("# tests {tests}\n# pass 4\n# fail 0\n# skipped 1\n");
        assert_eq!(tally(&said(5)).unwrap(), Tally { passed: 4, left_out: 1 });
        assert!(tally(&said(6)).is_err());
        assert!(tally("").is_err());
    }
}
