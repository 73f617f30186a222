//! `quorate cluster` as a person uses it: it starts, shows who is who, stops cleanly, goes on with
//! the same data, and leaves nobody behind. Reads what it prints and asks its nodes; knows nothing
//! of its inside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Client, Port, eventually, processes_mentioning, scratch_folder};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use tempfile::TempDir;

/// Nodes are this far apart with `--base-client-port`; each has its peer port beside it.
const PORT_STEP: u16 = 10;

/// A person's terminal with `quorate cluster` in it.
struct Terminal {
    ports: Vec<Port>,
    folder: TempDir,
    running: Option<(Child, ChildStdin)>,
}

impl Terminal {
    fn new(name: &str) -> Self {
        let offsets: Vec<u16> =
            (0..3).flat_map(|node| [node * PORT_STEP, node * PORT_STEP + 1]).collect();
        Self { ports: Port::reserve_block(&offsets), folder: scratch_folder(name), running: None }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn screen_path(&self) -> PathBuf {
        self.folder.path().join("screen")
    }

    /// Everything that was printed since the last start.
    fn screen(&self) -> String {
        fs::read_to_string(self.screen_path()).unwrap_or_default()
    }

    fn client(&self, node: usize) -> Client {
        Client::new(&self.ports[2 * node].url())
    }

    /// Starts it and waits until every node serves.
    async fn start(&mut self) {
        let screen = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(self.screen_path())
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .arg("cluster")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--base-client-port", &self.ports[0].number().to_string()])
            .stdin(Stdio::piped())
            .stdout(screen.try_clone().unwrap())
            .stderr(screen)
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take().unwrap();
        self.running = Some((child, keyboard));
        for node in 0..3 {
            self.serves(node).await;
        }
    }

    /// Waits until a node answers a linearizable read.
    async fn serves(&mut self, node: usize) {
        let client = self.client(node);
        eventually(&format!("n{} to serve", node + 1), async || {
            if let Some((child, _)) = &mut self.running
                && let Some(status) = child.try_wait().unwrap()
            {
                panic!("quorate cluster ended ({status}): {}", self.screen());
            }
            client.get("is-anybody-there").await.ok()
        })
        .await;
    }

    /// Types a line.
    fn type_line(&mut self, line: &str) {
        let (_, keyboard) = self.running.as_mut().unwrap();
        writeln!(keyboard, "{line}").unwrap();
    }

    /// Waits until a line shows all these words.
    async fn shows(&self, words: &[&str]) {
        let what = format!("a line with {words:?} in {}", self.screen_path().display());
        eventually(&what, async || {
            let screen = self.screen();
            let shown = |line: &str| words.iter().all(|word| line.to_lowercase().contains(*word));
            screen.lines().any(shown).then_some(())
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        let (child, _) = self.running.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let (mut child, _keyboard) = self.running.take().unwrap();
        eventually("quorate cluster to end", async || child.try_wait().unwrap()).await
    }

    /// The process of a node.
    fn pid_of(&self, name: &str) -> u32 {
        let folder = self.data_dir().join(name);
        let pids = processes_mentioning(folder.to_str().unwrap());
        assert_eq!(pids.len(), 1, "one process for {name}: {pids:?}");
        pids[0]
    }

    /// Waits until no process has to do with the folder.
    async fn is_deserted(&self) {
        let folder = self.folder.path().to_str().unwrap().to_owned();
        eventually("all processes to end", async || {
            processes_mentioning(&folder).is_empty().then_some(())
        })
        .await;
    }

    async fn who_leads(&self) -> usize {
        eventually("a leader", async || {
            for node in 0..3 {
                let status = self.client(node).status().await.ok()?;
                if status.leader == status.header?.member_id {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    fn finish(self) {
        for entry in fs::read_dir(self.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = fs::read_to_string(&path).unwrap();
                assert!(!log.contains("panicked at"), "{}: {log}", path.display());
            }
        }
        assert!(!self.screen().contains("panicked at"), "{}", self.screen());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            let _gone = child.kill();
            let _status = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what quorate cluster printed ---\n{}", self.screen());
        }
    }
}

#[tokio::test]
async fn it_shows_its_nodes_and_a_second_start_serves_the_same_data() {
    let mut terminal = Terminal::new("cluster-twice");
    terminal.start().await;
    for node in 0..3 {
        let name = format!("n{}", node + 1);
        let pid = terminal.pid_of(&name).to_string();
        let folder = terminal.data_dir().join(&name);
        let [client, peer] = [2 * node, 2 * node + 1].map(|port| terminal.ports[port].address());
        terminal.shows(&[&name, &pid, &client, &peer]).await;
        assert!(terminal.screen().contains(folder.file_name().unwrap().to_str().unwrap()));
    }
    terminal.shows(&["leader"]).await;
    for number in 0..30 {
        let client = terminal.client(number % 3);
        client.put(&format!("k{number}"), format!("v{number}")).await.unwrap();
    }

    for stop in [Signal::INT, Signal::TERM] {
        terminal.signal(stop);
        let status = terminal.ended().await;
        assert!(status.success(), "{status}: {}", terminal.screen());
        terminal.is_deserted().await;

        terminal.start().await;
        for number in 0..30 {
            let pair = terminal.client(number % 3).get(&format!("k{number}")).await.unwrap();
            assert_eq!(pair.unwrap().value, format!("v{number}").as_bytes());
        }
    }
    terminal.signal(Signal::INT);
    assert!(terminal.ended().await.success());
    terminal.finish();
}

#[tokio::test]
async fn it_tells_of_a_killed_leader_and_of_its_successor_and_starts_it_again_when_asked() {
    let mut terminal = Terminal::new("cluster-kill");
    terminal.start().await;
    terminal.client(0).put("before", "the kill").await.unwrap();
    let leader = terminal.who_leads().await;
    let name = format!("n{}", leader + 1);
    let pid = Pid::from_raw(terminal.pid_of(&name).try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();

    terminal.shows(&[&name, "killed"]).await;
    let survivor = (leader + 1) % 3;
    terminal.serves(survivor).await;
    assert!(terminal.client(survivor).get("before").await.unwrap().is_some());
    terminal.type_line(&format!("start {name}"));
    terminal.serves(leader).await;
    assert!(terminal.client(leader).get("before").await.unwrap().is_some());

    terminal.type_line("quit");
    assert!(terminal.ended().await.success(), "{}", terminal.screen());
    terminal.is_deserted().await;
    terminal.finish();
}

#[tokio::test]
async fn no_process_survives_a_kill_of_the_supervisor_and_the_data_does() {
    let mut terminal = Terminal::new("cluster-orphans");
    terminal.start().await;
    terminal.client(1).put("before", "the kill").await.unwrap();
    terminal.signal(Signal::KILL);
    terminal.ended().await;
    terminal.is_deserted().await;

    terminal.start().await;
    assert_eq!(terminal.client(2).get("before").await.unwrap().unwrap().value, "the kill");
    terminal.signal(Signal::INT);
    assert!(terminal.ended().await.success());
    terminal.is_deserted().await;
    terminal.finish();
}

#[tokio::test]
async fn a_second_cluster_in_the_same_place_is_refused_and_the_first_goes_on() {
    let mut terminal = Terminal::new("cluster-same-place");
    terminal.start().await;
    let second = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("cluster")
        .arg("--data-dir")
        .arg(terminal.data_dir())
        .args(["--base-client-port", &terminal.ports[0].number().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(said.contains(&terminal.ports[0].address()), "it names the address: {said}");
    for node in 0..3 {
        terminal.serves(node).await;
    }
    terminal.signal(Signal::INT);
    assert!(terminal.ended().await.success());
    terminal.finish();
}
