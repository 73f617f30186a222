//! `cargo xtask ci`: everything that CI runs, in an order that fails early. The tests are run by the
//! command that README gives, read from README, so that people and CI cannot diverge.

use crate::{clients, crash, differ, paper_map, tidy, zoo};
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// README's first command: it starts a cluster.
const CLUSTER_COMMAND: &str = "cargo run --release -- cluster";
/// README's second command begins so.
const TEST_COMMAND: &str = "cargo test";
/// How often something is fetched before it counts as not to be had.
const FETCH_TRIES: u32 = 5;
/// How long a registry is let be that has failed.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// How long a command of README's may wait for a cluster on a busy machine.
const COMMAND_PATIENCE: [&str; 4] = ["--command-timeout", "120s", "--dial-timeout", "120s"];
/// How many seeds are simulated that no run has seen before.
const FRESH_SEEDS: u64 = 50;
/// How many seeds are simulated in two processes.
const TWICE_SEEDS: u64 = 8;
/// How many steps each.
const FRESH_STEPS: u64 = 20_000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only what is quick: format, lints, tidy, paper map
    #[arg(long)]
    quick: bool,
}

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

/// The cargo that runs us, or the one on the path.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs every step.
///
/// # Errors
///
/// At the first step that fails.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let run = Run { root, started: Instant::now() };
    run.cargo("format", &["fmt", "--all", "--check"], &[])?;
    run.step("the rules of the house", || tidy::run(root))?;
    run.step("the paper map", || paper_map::check(root))?;
    run.step("the zoo's mutants fit the source", || zoo::check_all(root))?;
    run.cargo("lints", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    if options.quick {
        return Ok(());
    }
    let documentation = ["doc", "--workspace", "--no-deps"];
    run.cargo("documentation", &documentation, &[("RUSTDOCFLAGS", "-D warnings")])?;
    run.step("what the tests of networks need", provide_ip)?;
    let mut count = run.step("tests", || run_tests(root))?;
    run.step("crashes of every kind", || crash::run_in_ci(root))?;
    run.step("README's first command", || try_cluster(root))?;
    let theirs =
        run.step("other people's clients", || clients::run(root, &clients::Options::default()))?;
    count.append(Count { passed: theirs.passed, failed: 0, ignored: theirs.left_out });
    run.step("the same answers as etcd's", || differ::run_in_ci(root))?;
    run.step("fresh seeds", || simulate(root))?;
    run.step("the same seeds in two processes", || simulate_twice(root))?;
    run.step("a part of the zoo", || zoo::run_in_ci(root))?;
    // The crashes, README's first command and the last four steps are one check each.
    count.passed += 6;
    run.say(&format!("everything passed in {}", minutes(run.started.elapsed())));
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.ignored);
    Ok(())
}

struct Run<'a> {
    root: &'a Path,
    started: Instant,
}

impl Run<'_> {
    fn say(&self, text: &str) {
        println!("\n== {} == {text}", minutes(self.started.elapsed()));
        // Our lines and those of the commands shall stay in order.
        let _ = std::io::stdout().flush();
    }

    fn step<T>(&self, name: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.say(name);
        run().with_context(|| format!("the step `{name}` failed"))
    }

    fn cargo(
        &self,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.step(name, || {
            let mut command = Command::new(cargo());
            command.args(arguments).current_dir(self.root).envs(environment.iter().copied());
            succeed(&mut command)
        })
    }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a command that fetches something: a registry that fails once may not the next time.
pub(crate) fn fetch(command: &mut Command) -> anyhow::Result<()> {
    for _ in 1..FETCH_TRIES {
        match succeed(command) {
            Ok(()) => return Ok(()),
            Err(error) => println!("{error:#}: once more in {FETCH_PAUSE:?}"),
        }
        sleep(FETCH_PAUSE);
    }
    succeed(command)
}

/// The line of README that starts with `prefix`, without its comment.
fn readme_command(readme: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
    let line = readme.lines().map(str::trim).find(|line| line.starts_with(prefix));
    let line = line.with_context(|| format!("expected a line `{prefix}...` in README.md"))?;
    let command = line.split('#').next().unwrap_or_default();
    Ok(command.split_whitespace().map(str::to_owned).collect())
}

fn command_of_readme(root: &Path, prefix: &str) -> anyhow::Result<Command> {
    let readme = fs::read_to_string(root.join("README.md")).context("reading README.md")?;
    let words = readme_command(&readme, prefix)?;
    let mut command = Command::new(cargo());
    command.args(words.iter().skip(1)).current_dir(root);
    Ok(command)
}

/// Tests that make networks run `ip`, which a small system may lack. Where they shall be left out,
/// nobody needs it.
fn provide_ip() -> anyhow::Result<()> {
    if std::env::var_os("QUORATE_NO_NETWORKS").is_some() {
        println!("QUORATE_NO_NETWORKS is set: those tests are left out");
        return Ok(());
    }
    if Command::new("ip").arg("-Version").status().is_ok() {
        return Ok(());
    }
    let install = |arguments: &[&str]| {
        fetch(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
            .context("expected `ip` on the path; install iproute2 by hand")
    };
    install(&["update"])?;
    install(&["install", "--yes", "--no-install-recommends", "iproute2"])
}

/// README's second command; counts what its test runners report.
fn run_tests(root: &Path) -> anyhow::Result<Count> {
    let mut command = command_of_readme(root, TEST_COMMAND)?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("running the tests")?;
    let output = child.stdout.take().context("the tests' output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        count.add(&line);
    }
    let status = child.wait()?;
    if !status.success() || count.failed > 0 {
        bail!("{command:?} ended with {status}: {} passed, {} failed", count.passed, count.failed);
    }
    if count.passed == 0 {
        bail!("{command:?} ran no test");
    }
    Ok(count)
}

impl Count {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let parts = rest.split(['.', ';']);
        for part in parts {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Adds another count.
    pub(crate) fn append(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// README's first command, with a folder and ports that disturb nobody: builds the release, waits
/// until the cluster serves, writes and reads, and stops it.
fn try_cluster(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("target/ci-cluster");
    let _ = fs::remove_dir_all(&folder);
    let mut command = command_of_readme(root, CLUSTER_COMMAND)?;
    let mut child = command
        .args(["--base-client-port", "24790", "--data-dir"])
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("running README's first command")?;
    let keyboard = child.stdin.take().context("the cluster's standard input")?;
    let mut screen = child.stdout.take().context("the cluster's standard output")?;
    let tried = try_running_cluster(root, &folder, &mut screen);
    // Whatever came of it, the cluster ends: `quit`, and the end of its input.
    let typed = writeln!(&keyboard, "quit");
    std::io::copy(&mut screen, &mut std::io::stdout())?;
    let status = child.wait()?;
    tried?;
    typed?;
    if !status.success() {
        bail!("the cluster ended with {status}");
    }
    Ok(())
}

fn try_running_cluster(root: &Path, folder: &Path, screen: &mut impl Read) -> anyhow::Result<()> {
    wait_for(screen, "Ctrl-C stops all nodes")?;
    let endpoints = "127.0.0.1:24800,127.0.0.1:24790,127.0.0.1:24810";
    let quorate = |words: &[&str]| {
        let mut command = Command::new(release_binary(root));
        succeed(command.args(words).args(["--endpoints", endpoints]).args(COMMAND_PATIENCE))
    };
    quorate(&["put", "greeting", "hello"])?;
    quorate(&["get", "greeting"])?;
    quorate(&["status"])?;
    try_as_etcdctl(root, folder, endpoints)
}

/// The release under the name `etcdctl`: clap checks more in a debug build, which the tests run. The second
/// backup takes the place of the first.
fn try_as_etcdctl(root: &Path, folder: &Path, endpoints: &str) -> anyhow::Result<()> {
    let (program, backup) = (folder.join("etcdctl"), folder.join("backup.db"));
    symlink(fs::canonicalize(release_binary(root))?, &program).context("linking etcdctl")?;
    let file = backup.to_str().context("a folder whose name is a text")?;
    let restored = folder.join("restored");
    let restored = restored.to_str().context("a folder whose name is a text")?;
    for words in [
        &["endpoint", "status"][..],
        &["snapshot", "save", file],
        &["snapshot", "save", file],
        &["snapshot", "status", file, "-w", "table"],
        &["snapshot", "restore", file, "--data-dir", restored],
    ] {
        let mut command = Command::new(&program);
        succeed(command.args(["--endpoints", endpoints]).args(COMMAND_PATIENCE).args(words))?;
    }
    Ok(())
}

/// Copies what is printed until a text comes.
fn wait_for(screen: &mut impl Read, text: &str) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while screen.read(&mut byte)? > 0 {
        seen.extend_from_slice(&byte);
        std::io::stdout().write_all(&byte)?;
        if seen.ends_with(text.as_bytes()) {
            return Ok(());
        }
    }
    bail!("expected `{text}` on the cluster's screen before its end");
}

/// Where cargo puts the release.
pub(crate) fn release_binary(root: &Path) -> PathBuf {
    target_folder(root).join("release/quorate")
}

/// Where cargo puts everything.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Simulates seeds that depend on the time, so that every run looks where none has looked before.
/// A seed that fails is printed by the simulator, with the command that repeats it.
fn simulate(root: &Path) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let first = now.as_secs().wrapping_mul(1000).to_string();
    let [seeds, steps] = [FRESH_SEEDS, FRESH_STEPS].map(|number| number.to_string());
    println!("{seeds} seeds from {first} on");
    let mut command = Command::new(release_binary(root));
    command.args(["sim", "--seed", &first]);
    succeed(command.args(["--seeds", &seeds, "--steps", &steps]))
}

/// The same seed and build give the same world: two processes agree on the hash of everything that
/// happened, and on every figure.
fn simulate_twice(root: &Path) -> anyhow::Result<()> {
    for seed in 1..=TWICE_SEEDS {
        let run = || {
            let mut command = Command::new(release_binary(root));
            command.args(["sim", "--format", "json", "--seed", &seed.to_string()]);
            command.output().with_context(|| format!("running {command:?}"))
        };
        let (one, two) = (run()?, run()?);
        let text = String::from_utf8_lossy(&one.stdout);
        if !one.status.success() || one.stdout != two.stdout {
            bail!("seed {seed}: expected twice the same, got {text} and then {two:?}");
        }
        print!("{text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_add_up() {
        let mut count = Count::default();
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        count.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured");
        count.add("test something ... ok");
        assert_eq!(count, Count { passed: 7, failed: 2, ignored: 1 });
    }

    #[test]
    fn the_commands_are_those_of_the_readme() {
        let readme = fs::read_to_string(crate::root().join("README.md")).unwrap();
        let words = readme_command(&readme, TEST_COMMAND).unwrap();
        assert_eq!(words, ["cargo", "test", "--workspace"]);
        assert!(readme_command(&readme, CLUSTER_COMMAND).is_ok());
    }
}
