//! The two commands of the real etcdctl that load a cluster: `check perf`, which takes a minute, and
//! `check datascale`. What they think of this machine's speed is printed and not judged; errors are.

use super::cluster::{Cluster, LASTING_TOKEN_SECONDS, Member, Options, Ports, Tls};
use super::tools::Tools;
use super::{Tally, said};
use anyhow::bail;
use std::process::Command;

const SUITE: &str = "etcdctl-check";
/// What begins a line of etcdctl's about requests that failed.
const ERRORS: [&str; 2] = ["FAIL: too many errors", "FAIL: ERROR"];

/// Both, one after the other.
pub(super) fn run(tools: &Tools, ports: &mut Ports) -> anyhow::Result<Tally> {
    let mut members = Vec::new();
    for name in ["c1", "c2", "c3"] {
        members.push(Member::new(name, ports)?);
    }
    let folder = tools.data_folder(SUITE)?;
    let options = Options {
        program: tools.server.clone(),
        folder: folder.clone(),
        tls: Tls::No,
        token_ttl_seconds: LASTING_TOKEN_SECONDS,
    };
    let cluster = Cluster::start(members, options)?;
    let checks = [("perf", "Throughput"), ("datascale", "Approximate system memory used")];
    for (check, wanted) in checks {
        let mut command = Command::new(&tools.etcdctl);
        command.args(["--endpoints", &cluster.endpoints(), "--command-timeout", "60s"]);
        command.args(["check", check, "--load", "s", "--auto-compact", "--auto-defrag"]);
        // It fails where the machine is slow, too.
        let (_, said) = said(&command, &folder.join(format!("{check}.log")))?;
        for verdict in verdicts(&said, wanted)? {
            println!("etcdctl check {check}: {verdict}");
        }
    }
    Ok(Tally { passed: 2, left_out: 0 })
}

/// The lines that say how it was.
fn verdicts<'a>(said: &'a str, wanted: &str) -> anyhow::Result<Vec<&'a str>> {
    // A bar that shows progress ends with a return, not with a line.
    let lines = said.split(['\n', '\r']).map(str::trim);
    let verdicts: Vec<&str> =
        lines.filter(|line| line.starts_with("PASS: ") || line.starts_with("FAIL: ")).collect();
    let failed = verdicts.iter().any(|line| ERRORS.iter().any(|error| line.starts_with(error)));
    if failed || !verdicts.iter().any(|line| line.contains(wanted)) {
        bail!("expected a line with `{wanted}` and no errors, found {said}");
    }
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_is_no_error_and_a_failed_request_is() {
        let slow = " 60 / 60 Boooo\r 100% 1m0s\nFAIL: Throughput too low: 90 writes/s\nFAIL\n";
        let told = verdicts(slow, "Throughput").unwrap();
        assert_eq!(told, ["FAIL: Throughput too low: 90 writes/s"]);
        let errors = "FAIL: too many errors\nFAIL: ERROR(x) -> 3\nPASS: Throughput is 150 writes/s";
        assert!(verdicts(errors, "Throughput").is_err());
        assert!(verdicts("Error: context deadline exceeded", "Throughput").is_err());
    }
}
