//! One server process: started, signalled, watched, and killed when its owner goes. Knows the
//! operating system's side of it only; what the server says to clients is `client`'s business.

use super::{Port, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Written to the log before each start.
const STARTS: &str = "--- the server is started ---";

/// A machine with an address of its own, where nobody listens but us.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Its address.
    pub(crate) host: String,
    /// The program, with its arguments, that runs what follows there.
    pub(crate) enter: Vec<String>,
}

/// A server that may or may not be running.
pub(crate) struct Server {
    /// Its `--name`.
    pub(crate) name: String,
    /// Where clients reach it.
    pub(crate) client: Port,
    /// Where its peers reach it.
    pub(crate) peer: Port,
    /// Its `--data-dir`.
    pub(crate) data_dir: PathBuf,
    /// What it wrote to standard output and standard error, over all its lives.
    pub(crate) log: PathBuf,
    /// Its flags, without the program and the verb.
    pub(crate) flags: Vec<String>,
    enter: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// A server that has not been started, with everything it owns below `folder`; on a machine of
    /// its own, or on this one.
    pub(crate) fn new(folder: &Path, name: &str, machine: Option<&Machine>) -> Self {
        let port = |number| machine.map_or_else(Port::reserve, |it| Port::on(&it.host, number));
        Self {
            name: name.to_owned(),
            client: port(2379),
            peer: port(2380),
            data_dir: folder.join(name),
            log: folder.join(format!("{name}.log")),
            flags: Vec::new(),
            enter: machine.map_or_else(Vec::new, |it| it.enter.clone()),
            child: None,
        }
    }

    /// Whether the tests run against somebody else's server.
    pub(crate) fn is_foreign() -> bool {
        std::env::var_os("QUORATE_TEST_SERVER").is_some()
    }

    fn command(&self) -> Command {
        let program = std::env::var_os("QUORATE_TEST_SERVER");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_quorate").into());
        let mut words = self.enter.iter().map(OsString::from).chain([program]);
        let mut command = Command::new(words.next().expect("there is a program"));
        command.args(words);
        if !Self::is_foreign() {
            // Its standard input is a pipe that this process holds: should a test be killed, its
            // servers end too.
            command.args(["serve", "--exit-with-parent"]);
        }
        command
    }

    /// Starts the process. It is not ready yet: see [`Cluster::ready`](super::Cluster::ready).
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let mut log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        writeln!(log, "{STARTS}").unwrap();
        let child = self
            .command()
            .args(&self.flags)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the server's program can be run");
        self.child = Some(child);
    }

    /// The process id, if it was started and nobody has waited for its end.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a signal goes to a server that was started");
        kill_process(Pid::from_child(child), signal).expect("our child can be signalled");
    }

    /// `kill -9`: no farewell, no last write.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.bury();
    }

    /// `kill -9` without waiting for the end, which a disk that does not answer may hold up. One that
    /// ended by itself is dead already.
    pub(crate) fn strike(&mut self) {
        if self.child.is_some() {
            self.signal(Signal::KILL);
        }
    }

    /// Waits for the end of a process that was struck.
    pub(crate) fn bury(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().expect("a killed child can be waited for");
        }
    }

    /// SIGSTOP: the process stands still and knows nothing of it.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// How the process ended, if it did. It can be started again then.
    pub(crate) fn try_ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("our child can be waited for")?;
        self.child = None;
        Some(status)
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, async || self.try_ended()).await
    }

    /// Everything that it has written.
    pub(crate) fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it has written since it was last started.
    pub(crate) fn log_of_last_life(&self) -> String {
        let text = self.log_text();
        text.rsplit_once(STARTS).map_or(text.clone(), |(_, life)| life.to_owned())
    }

    /// Starts the process, which must refuse to serve, and returns what it says.
    pub(crate) async fn start_in_vain(&mut self) -> String {
        self.start();
        let status = self.ended().await;
        let said = self.log_of_last_life();
        assert!(status.code().is_some_and(|code| code != 0), "{status} is no refusal: {said}");
        assert!(!said.contains("panicked at"), "a refusal is no panic: {said}");
        said
    }

    /// Waits until the log holds these words.
    pub(crate) async fn logged(&self, words: &str) {
        let what = format!("{} to log `{words}`", self.name);
        eventually(&what, async || self.log_text().contains(words).then_some(())).await;
    }

    /// Whether it has taken a snapshot over from another one.
    pub(crate) fn has_snapshot(&self) -> bool {
        let files = fs::read_dir(self.data_dir.join("snapshots")).into_iter().flatten();
        files.flatten().any(|file| file.path().extension().is_some_and(|it| it == "snap"))
    }

    /// Whether its log has no beginning any more: who is that far behind needs a snapshot.
    pub(crate) fn has_released(&self) -> bool {
        !self.data_dir.join("wal/log-00000000000000000001.wal").exists()
    }

    /// It is run by this program, with its arguments, from now on.
    pub(crate) fn run_by(&mut self, program: &[&str]) {
        self.enter = program.iter().map(|&word| word.to_owned()).collect();
    }

    /// Leaves a flag and its value out.
    pub(crate) fn drop_flag(&mut self, flag: &str) {
        let at = self.flags.iter().position(|it| it == flag).expect("the flag is there");
        self.flags.drain(at..at + 2);
    }

    /// Replaces the value of a flag.
    pub(crate) fn set_flag(&mut self, flag: &str, value: &str) {
        let at = self.flags.iter().position(|it| it == flag).expect("the flag is there");
        value.clone_into(&mut self.flags[at + 1]);
    }

    /// The last lines of the log, for a person.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A stopped process takes SIGKILL as well as any other.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// The processes whose command line contains this text, but for the one that asks.
pub(crate) fn processes_mentioning(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc lists the processes");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            // A process that ended a moment ago has no command line any more.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}
