//! Worlds that never end: a step that never returns is said, counted as a failure, kept, and does not
//! keep the process; nor does it keep one that is told to stop.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::{Committed, Fatal, LogId, LogIndex, QueryError, Replies, SnapshotView, StateMachine};
use quorate_sim::{Home, Request, Rng, Subject, examine_from};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio, exit};

/// Tells a process of these tests to be a program that examines, with these flags.
const WORDS: &str = "QUORATE_HANGING_WORDS";
/// What a world says on standard error when it hangs from now on.
const HANGS: &str = "this world hangs now";

/// A machine with a mistake: it never comes back from what it is asked.
#[derive(Clone, Default)]
struct Loops;

impl StateMachine for Loops {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, _: &[Committed], _: &mut Replies) -> Result<(), Fatal> {
        eprintln!("{HANGS}");
        loop {
            std::thread::park();
        }
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(Bytes::new())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Self))
    }

    fn restore(&mut self, _: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
        Ok(())
    }
}

impl SnapshotView for Loops {
    fn write_to(self: Box<Self>, _: &mut dyn Write) -> std::io::Result<()> {
        Ok(())
    }
}

struct LoopsTest;

impl Subject for LoopsTest {
    fn machine(&self, _: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        Ok(Box::new(Loops))
    }

    fn request(&self, _: u64, _: &mut Rng) -> Request {
        Request::Command("anything".into())
    }
}

/// Not a test by itself: the program that the others run.
#[test]
fn the_program() {
    let Ok(words) = std::env::var(WORDS) else { return };
    let code = examine_from(words.split_whitespace(), "my-program --", || LoopsTest);
    let number =
        (0..=2).find(|number| code == ExitCode::from(*number)).expect("an end that is told");
    exit(number.into());
}

fn command(words: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_program", "--nocapture"]).env(WORDS, words);
    command
}

#[test]
fn a_campaign_counts_seeds_that_hang_keeps_them_and_ends_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json");
    let words = format!(
        "--seeds 2 --nodes 1 --steps 400 --jobs 1 --keep-going --hang-after 1 --progress-file {} \
         --format json",
        file.display()
    );
    let output = command(&words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["failure_count"], &last["seeds_left"]), (&2.into(), &0.into()), "{last}");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let kinds: Vec<&Value> =
        kept["failures"].as_array().unwrap().iter().map(|failure| &failure["kind"]).collect();
    assert_eq!(kinds, ["hangs", "hangs"]);
    assert!(errors.contains("a judge found something in 2 worlds"), "{errors}");
}

#[test]
fn ctrl_c_ends_a_campaign_in_which_every_world_hangs_and_what_hangs_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json");
    let words = format!("--seeds 9 --nodes 1 --jobs 1 --progress-file {}", file.display());
    let mut child = command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(errors.any(|line| line == HANGS), "it ended before a world hung");
    let errors = std::thread::spawn(|| errors.collect::<Vec<String>>());
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    let errors = errors.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{said:?} {errors:?}");
    assert!(said.iter().any(|line| line.contains("the same command goes on")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("9 worlds are left")), "{said:?}");
}
