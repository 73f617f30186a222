//! `examine` as a program of somebody's own, in a process: every flag of `quorate sim`, one line to
//! paste, campaigns that stop at Ctrl-C and go on, and flags that do not go together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use quorate::{Committed, Fatal, LogId, LogIndex, QueryError, Replies, SnapshotView, StateMachine};
use quorate_sim::{Home, Request, Rng, Subject, examine_from};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio, exit};

/// How the program is called in lines to paste.
const PROGRAM: &str = "my-program --";
/// Tells a process of these tests to be that program, with these flags.
const WORDS: &str = "QUORATE_EXAMINE_WORDS";

#[derive(Clone, Default)]
struct Count(u64);

impl StateMachine for Count {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for _ in batch {
            self.0 += 1;
            replies.push(self.0.to_string());
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
        Ok(self.0.to_string().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(self.clone()))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut bytes = [0; 8];
        source.read_exact(&mut bytes).map_err(|error| Fatal::caused_by("too short", error))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

impl SnapshotView for Count {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        target.write_all(&self.0.to_le_bytes())
    }
}

struct CountTest;

impl Subject for CountTest {
    fn machine(&self, _: &Home) -> Result<Box<dyn StateMachine>, Fatal> {
        Ok(Box::new(Count::default()))
    }

    fn request(&self, _: u64, rng: &mut Rng) -> Request {
        if rng.coin() { Request::Query("?".into()) } else { Request::Command("add".into()) }
    }
}

/// Not a test by itself: the program that the others run.
#[test]
fn the_program() {
    let Ok(words) = std::env::var(WORDS) else { return };
    let code = examine_from(words.split_whitespace(), PROGRAM, || CountTest);
    let codes = [0_u8, 1, 2];
    let code = codes.into_iter().find(|number| ExitCode::from(*number) == code).unwrap();
    exit(code.into());
}

fn command(words: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_program", "--nocapture"]).env(WORDS, words);
    command
}

fn examine(words: &str) -> Output {
    let mut output = command(words).output().unwrap();
    // What the test harness says before it.
    let text = String::from_utf8(output.stdout).unwrap();
    output.stdout = text.split_once("running 1 test\n").unwrap().1.as_bytes().to_vec();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn campaign(words: &str) -> Value {
    let last = lines(&examine(words)).pop().unwrap();
    assert_eq!(last["type"], "campaign", "{last}");
    last
}

const FAILING: &str = "--seed 1 --nodes 5 --steps 4000 --sabotage early-acks";

#[test]
fn one_world_is_told_as_text_and_as_json_with_the_same_hash_each_time() {
    let [one, two] = [(); 2].map(|()| examine("--seed 3 --steps 800 --format json"));
    assert_eq!(one.status.code(), Some(0));
    assert_eq!(lines(&one)[0]["type"], "world");
    assert_eq!(one.stdout, two.stdout);
    let words = text(&examine("--seed 3 --steps 800").stdout);
    assert!(words.starts_with("--seed 3 --steps 800: no violation\n"), "{words}");
    assert!(words.contains(lines(&one)[0]["trace_hash"].as_str().unwrap()), "{words}");
}

#[test]
fn a_story_is_told_whole_and_in_part_and_as_events() {
    let whole = examine("--seed 3 --steps 800 --trace");
    assert!(text(&whole.stdout).contains("│"), "{}", text(&whole.stdout));
    let part = examine("--seed 3 --steps 800 --trace all --from 1 --to 2 --format json");
    let events = lines(&part);
    let (world, events) = events.split_last().unwrap();
    assert_eq!(world["type"], "world");
    assert!(!events.is_empty());
    for event in events {
        assert!((1_000_000..=2_000_000).contains(&event["at_micros"].as_u64().unwrap()), "{event}");
    }
}

#[test]
fn a_failing_world_ends_with_one_and_its_line_to_paste_shows_it_again() {
    let output = examine(FAILING);
    assert_eq!(output.status.code(), Some(1));
    let words = text(&output.stdout);
    let found = words.lines().find_map(|line| line.strip_prefix("reproduce: my-program -- "));
    let line = found.unwrap();
    assert_eq!(line, FAILING);
    assert!(!words.contains("quorate sim"), "{words}");

    let small = examine(&format!("{line} --shrink --attempts 300 --format json"));
    assert_eq!(small.status.code(), Some(1));
    let last = lines(&small).pop().unwrap();
    assert!(last["step"].as_u64().unwrap() < 200, "{last}");
    assert!(last["reproduce"].as_str().unwrap().starts_with("my-program -- --seed 1 "), "{last}");
    assert!(text(&small.stderr).contains("attempts: "), "{}", text(&small.stderr));
}

#[test]
fn without_flags_it_is_a_campaign_of_two_hundred_worlds() {
    let end = campaign("--steps 30 --format json");
    assert_eq!((&end["seeds"], &end["seeds_left"]), (&200.into(), &0.into()));
    let table = text(&examine("--seeds 3 --steps 30 --format markdown").stdout);
    assert!(table.starts_with("| Figure | Value |"), "{table}");
}

#[test]
fn the_number_of_threads_changes_nothing_but_the_time() {
    let [one, many] = ["1", "3"]
        .map(|jobs| campaign(&format!("--seeds 9 --steps 400 --format json --jobs {jobs}")));
    assert_eq!(one["trace_hash"], many["trace_hash"]);
    assert_eq!(one["figures"], many["figures"]);
}

#[test]
fn a_campaign_stops_at_the_first_failure_or_keeps_going_and_lists_them_all() {
    let failing = "--seeds 30 --nodes 5 --steps 8000 --sabotage early-acks --jobs 1 --format json";
    let stopped = examine(failing);
    assert_eq!(stopped.status.code(), Some(1));
    assert!(lines(&stopped).pop().unwrap()["seeds_left"].as_u64().unwrap() > 0);

    let output = examine(&format!("{failing} --keep-going"));
    assert_eq!(output.status.code(), Some(1));
    let all = lines(&output);
    let (end, violations) = all.split_last().unwrap();
    assert!(violations.len() > 1, "{end}");
    assert_eq!((&end["failure_count"], &end["seeds_left"]), (&violations.len().into(), &0.into()));
    let failures = end["failures"].as_array().unwrap();
    assert_eq!(failures.len(), violations.len());
    for failure in failures {
        let line = failure["reproduce"].as_str().unwrap();
        assert!(line.starts_with("my-program -- --seed "), "{line}");
    }
}

#[test]
fn a_campaign_goes_on_from_its_file_and_refuses_another_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json").display().to_string();
    let options = format!("--steps 500 --progress-file {file} --format json");
    assert_eq!(campaign(&format!("--seeds 3 {options}"))["seeds"], 3);
    let whole = campaign("--seeds 8 --steps 500 --format json");
    let gone_on = campaign(&format!("--seeds 8 {options}"));
    for figure in ["seeds", "trace_hash", "steps", "faults", "figures"] {
        assert_eq!(gone_on[figure], whole[figure], "{figure}");
    }
    let refused = examine(&format!("--seeds 8 --steps 501 --progress-file {file}"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--steps 501"), "{}", text(&refused.stderr));
}

#[test]
fn a_failure_of_an_earlier_session_ends_a_campaign_that_does_not_keep_going() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json").display().to_string();
    let words = format!(
        "--seeds 30 --nodes 5 --steps 8000 --sabotage early-acks --jobs 1 --format json \
         --progress-file {file}"
    );
    let [first, second] = [(); 2].map(|()| examine(&words));
    let end = |output| lines(output).pop().unwrap();
    assert!(end(&first)["seeds_left"].as_u64().unwrap() > 0, "{}", end(&first));
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(end(&second)["seeds"], end(&first)["seeds"], "no world more was run");
    assert_eq!(end(&second)["failures"], end(&first)["failures"]);
}

#[test]
fn a_progress_file_that_is_none_is_refused_at_once() {
    for path in ["/dev/full", "/dev/null", "/dev"] {
        let refused = examine(&format!("--seeds 8 --steps 30 --progress-file {path}"));
        assert_eq!(refused.status.code(), Some(2));
        let words = text(&refused.stderr);
        assert!(words.contains(path) && words.contains("plain file"), "{words}");
        assert!(!Path::new(&format!("{path}.lock")).exists());
    }
}

/// A campaign that would take years, once it has written its file.
fn long_campaign(file: &Path) -> Child {
    let inode = || std::fs::metadata(file).map(|file| file.ino()).ok();
    let before = inode();
    let words = format!(
        "--seeds 1000000000 --steps 100 --jobs 2 --progress-file {} --format json",
        file.display()
    );
    let mut child =
        command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    while inode().is_none_or(|now| before == Some(now)) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::yield_now();
    }
    child
}

#[test]
fn ctrl_c_lets_the_running_worlds_end_and_the_same_command_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json");
    let mut seeds_before = 0;
    for _session in 0..2 {
        let mut child = long_campaign(&file);
        // Its handler is there before its file is.
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let last = out.lines().last().unwrap().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "not everything was judged");
        let end: Value = serde_json::from_str(&last).unwrap();
        assert!(end["seeds_left"].as_u64().unwrap() > 0, "{end}");
        let seeds = end["seeds"].as_u64().unwrap();
        assert!(seeds >= seeds_before, "{end}");
        seeds_before = seeds;
    }
}

#[test]
fn flags_that_do_not_go_together_are_refused_with_what_to_do() {
    let file = std::env::temp_dir().join("never-written.json").display().to_string();
    for (words, advice) in [
        ("--seeds 5 --trace", "--trace is for one world, found --seeds 5: leave that out"),
        ("--seeds 5 --shrink", "--shrink is for one world, found --seeds 5: leave that out"),
        (&format!("--trace --progress-file {file}"), "found --progress-file: leave that out"),
        ("--from 5", "found none: add --trace"),
        ("--trace --from 5 --to 3", "found 5000000 and 3000000"),
        ("--seed 7 --format markdown", "found one world: add --seeds"),
        ("--seed 7 --jobs 3", "--jobs is for campaigns, found one world"),
        ("--seed 7 --keep-going", "--keep-going is for campaigns, found one world"),
        ("--seed 7 --attempts 3", "--shrink"),
        ("--seeds 5 --jobs 15000", "15000 is not in 1..=1024"),
        ("--clients 18446744073709551615", "is not in 0..=1000"),
        ("--another-build", "--progress-file <FILE>"),
        ("--seeds many", "invalid value 'many' for '--seeds <COUNT>'"),
        ("--seeds 0", "0 is not in 1.."),
        ("--keep-goin", "'--keep-going'"),
        ("--without gremlins", "gremlins"),
        ("--schedule 16777216", "16777215"),
        ("--seed 7 --hang-after 9", "--hang-after is for campaigns, found one world"),
    ] {
        let output = examine(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        let told = text(&output.stderr);
        assert!(told.contains(advice), "{words}: {told}");
        assert!(output.stdout.is_empty(), "{words}");
    }
    assert!(!Path::new(&file).exists());
}

#[test]
fn without_a_result_it_ends_with_two() {
    let nowhere = examine("--seeds 2 --steps 10 --progress-file /nonexistent/campaign.json");
    assert_eq!(nowhere.status.code(), Some(2));
    let words = text(&nowhere.stderr);
    assert_eq!(words.matches("No such file").count(), 1, "{words}");
    let nothing = examine("--seed 1 --steps 100 --shrink");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("nothing to make small"), "{}", text(&nothing.stderr));
}

#[test]
fn help_teaches_every_flag_with_the_name_of_the_program() {
    let output = examine("--help");
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for words in [
        "Usage: my-program -- [OPTIONS]",
        "--jobs",
        "--keep-going",
        "--progress-file",
        "--format",
        "--trace",
        "--shrink",
        "Ctrl-C stops it; the same command goes on",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
    assert!(!help.contains("quorate sim"), "{help}");
}
