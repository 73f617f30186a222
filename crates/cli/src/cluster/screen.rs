//! What a person sees of a running cluster: the table, the events, and what to try. Decides nothing.

use super::command::COMMANDS;
use super::plan::Plan;
use crate::output::Table;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One row of the table.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) client: String,
    pub(super) peer: String,
    pub(super) pid: Option<u32>,
    pub(super) folder: PathBuf,
}

/// The terminal, or whatever standard output is.
pub(super) struct Screen {
    started: Instant,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// One line: when, and what.
    pub(super) fn event(&self, text: &str) {
        let tenths = self.started.elapsed().as_millis() / 100;
        print(&format!("{:>5}.{} s  {text}\n", tenths / 10, tenths % 10));
    }

    /// How to bring a node back.
    pub(super) fn how_to_start(&self, name: &str, program: &Path, arguments: &[String]) {
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        let command = format!("{} {}", quoted(&short(program)), words.join(" "));
        self.event(&format!(
            "  bring it back: type `start {name}` here, or run in another terminal:\n\
             \x20          {command}"
        ));
    }
}

/// The table, with an empty line before and after it.
pub(super) fn table(rows: Vec<Row>) {
    let mut table = Table::new(["NAME", "ROLE", "CLIENTS AT", "PEERS AT", "PID", "DATA FOLDER"]);
    for row in rows {
        let pid = row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let folder = short(&row.folder);
        table.row([row.name, row.role, row.client, row.peer, pid, folder]);
    }
    print(&format!("\n{}\n", table.render()));
}

/// What to try, and how to stop.
pub(super) fn welcome(plan: &Plan, program: &Path, leader_pid: Option<u32>) {
    let program = short(program);
    let endpoints = plan.endpoints();
    let flag = if endpoints == crate::client::DEFAULT_ENDPOINTS {
        String::new()
    } else {
        format!(" --endpoints {endpoints}")
    };
    let first = plan.nodes.first().map_or("", |node| node.client.as_str());
    let kill = leader_pid.map_or_else(String::new, |pid| {
        format!("  kill -9 {pid:<25} the leader dies, another takes over; then, here: start NODE\n")
    });
    print(&format!(
        "Try it in another terminal:\n\
         \x20 {program} put greeting hello{flag}\n\
         \x20 {program} get greeting{flag}\n\
         \x20 {program} status{flag}\n\
         \x20 etcdctl --endpoints={endpoints} get greeting\n\
         \x20 curl -s http://{first}/v3/kv/range -d '{{\"key\":\"Z3JlZXRpbmc=\"}}'\n\
         {kill}\
         Type here: {COMMANDS}\n\
         Ctrl-C stops all nodes; the data stays in {}, where the nodes' logs are too.\n\n",
        short(&plan.data_dir)
    ));
}

/// Lines as they are.
pub(super) fn lines(lines: &[String]) {
    for line in lines {
        print(&format!("           | {line}\n"));
    }
}

fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // The nodes run on when nobody watches any more.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A path as seen from the current folder, if it is below it.
pub(super) fn short(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&current) {
        Ok(below) if !below.as_os_str().is_empty() => format!("./{}", below.display()),
        Ok(_) | Err(_) => path.display().to_string(),
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("n1=http://127.0.0.1:1,n2"), "n1=http://127.0.0.1:1,n2");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }

    #[test]
    fn paths_below_the_current_folder_are_shown_from_there() {
        let current = std::env::current_dir().unwrap();
        assert_eq!(short(&current.join("a/b")), "./a/b");
        assert_eq!(short(Path::new("/")), "/");
    }
}
