//! `quorate sim` as people and scripts use it: the same seed in two processes, failures in one line
//! to paste, campaigns that stop and go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use serde_json::Value;
use std::fs::File;
use std::process::{Command, Output, Stdio};

fn sim(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.arg("sim").args(words.split_whitespace()).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_same_seed_gives_the_same_hash_in_two_processes() {
    for seed in 1..=4 {
        let run = || sim(&format!("--seed {seed} --steps 4000 --format json"));
        let (one, two) = (run(), run());
        assert!(one.status.success());
        assert_eq!(lines(&one)[0]["type"], "world");
        assert_eq!(one.stdout, two.stdout);
    }
}

#[test]
fn a_failing_world_ends_with_one_and_says_what_to_paste() {
    let output = sim("--seed 1 --nodes 5 --steps 4000 --sabotage early-acks");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("reproduce: quorate sim ")).unwrap();
    assert_eq!(sim(line).stdout, output.stdout);

    let small = sim(&format!("{line} --shrink --format json"));
    let last = lines(&small).pop().unwrap();
    assert_eq!(last["type"], "violation");
    assert!(last["step"].as_u64().unwrap() < 200, "{last}");
}

#[test]
fn a_campaign_goes_on_from_its_file_and_refuses_another_ones() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json").display().to_string();
    let options = format!("--steps 500 --progress-file {file} --format json");
    let seeds = |count: u64| sim(&format!("--seeds {count} {options}"));
    let first = lines(&seeds(3)).pop().unwrap();
    let second = lines(&seeds(8)).pop().unwrap();
    let whole = lines(&sim("--seeds 8 --steps 500 --format json")).pop().unwrap();
    assert_eq!((&first["seeds"], &second["seeds"]), (&3.into(), &8.into()));
    for figure in ["trace_hash", "steps", "faults", "figures"] {
        assert_eq!(second[figure], whole[figure], "{figure}");
    }
    let refused = sim(&format!("--seeds 8 --steps 501 --progress-file {file}"));
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--steps 501"));
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("8\n", "3\n")).unwrap();
    let edited = seeds(9);
    assert_eq!(edited.status.code(), Some(2));
    let words = String::from_utf8_lossy(&edited.stderr).into_owned();
    assert!(words.contains("as many seeds"), "{words}");
}

#[test]
fn without_a_result_it_ends_with_two() {
    for wrong in ["--from 5", "--trace --from 5 --to 3", "--format markdown", "--seeds 0"] {
        assert_eq!(sim(wrong).status.code(), Some(2), "{wrong}");
    }
    let nowhere = sim("--seeds 2 --steps 10 --progress-file /nonexistent/campaign.json");
    assert_eq!(nowhere.status.code(), Some(2));
    let words = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert_eq!(words.matches("No such file").count(), 1, "{words}");
}

#[test]
fn a_finding_ends_with_one_although_nobody_can_read_it() {
    for world in ["--seed 1", "--seeds 4"] {
        let words = format!("sim {world} --nodes 5 --steps 4000 --sabotage early-acks");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(words.split(' ')).stdout(full).stderr(Stdio::null());
        assert_eq!(command.status().unwrap().code(), Some(1), "{words}");
    }
}

#[test]
fn a_report_names_the_seeds_that_its_figures_are_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json").display().to_string();
    sim(&format!("--seeds 2 --steps 100 --progress-file {file}"));
    let output = sim(&format!("--seed 900 --seeds 1 --steps 100 --progress-file {file}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("seeds 1 to 2, 900, --steps 100: no violation"), "{text}");
}

#[test]
fn a_campaign_that_keeps_going_lists_every_failing_seed() {
    let output = sim("--seeds 12 --nodes 5 --steps 8000 --sabotage early-acks --keep-going");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().filter(|line| line.starts_with("VIOLATION")).count();
    let listed = text.lines().filter(|line| line.starts_with("FAILED seed ")).count();
    assert!(told > 1 && listed == told, "{told} told, {listed} listed: {text}");
}
