//! Tests of the whole: what is shown, and what a recovery that cannot be carried out leaves behind.

use super::choice::choose;
use super::remains::State;
use super::remains::tests::{remains, state};
use super::*;
use clap::Parser;
use quorate::core::NodeId;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    recover: Recover,
}

fn flags(words: &[&str]) -> Recover {
    let all = ["recover"].iter().chain(words);
    Program::try_parse_from(all).unwrap().recover
}

/// A survivor, one whose log is damaged, and an older image of the survivor.
fn folders() -> Vec<Remains> {
    let mut survivor = remains(1, "12@3");
    survivor.state = state("10@3", 10);
    let mut damaged = remains(2, "7@2");
    damaged.log.is_sound = false;
    damaged.log.case = "wounded";
    damaged.log.verdict = "wounded. A start refuses and changes nothing".to_owned();
    damaged.state = State::Unusable("storage is damaged".to_owned());
    let mut image = remains(1, "4@1");
    image.dir = "n1.old".into();
    image.root.as_mut().unwrap().voted_for = Some(NodeId::new(3));
    image.root.as_mut().unwrap().era = 1;
    vec![survivor, damaged, image]
}

fn planned(words: &[&str], folders: &[Remains]) -> Plan {
    let choice = choose(folders, &[]).unwrap();
    plan::plan(&flags(words), folders, choice).unwrap()
}

const WORDS: &[&str] = &["--data-dir", "n1.data", "--data-dir", "n2.data", "--data-dir", "n1.old"];

#[test]
fn what_is_shown_is_what_is_in_the_golden_file() {
    let folders = folders();
    let plan = planned(WORDS, &folders);
    let shown = format!("{}\n{}\n", words::all(&folders, Some(&plan)), plan.command);
    let expected = include_str!("golden.txt");
    assert!(shown == expected, "--- shown:\n{shown}--- expected:\n{expected}");
}

#[test]
fn programs_are_told_the_same() {
    let folders = folders();
    let all = json::all(&folders, Some(&planned(WORDS, &folders)), None);
    let plan = &all["plan"];
    assert_eq!((plan["from"].as_u64(), plan["start"].as_str()), (Some(0), Some("state")));
    assert_eq!(plan["may_have_been_acknowledged"], serde_json::json!({ "first": 11, "last": 12 }));
    assert_eq!(plan["may_have_decided_alone"], serde_json::json!(["2", "3"]));
    assert_eq!(plan["bump_revision"], 1_000_000_000);
    assert_eq!(all["folders"][1]["worth"]["kind"], "damaged");
    assert_eq!(all["folders"][2]["worth"]["kind"], "useless");
    assert!(plan["command"].as_str().unwrap().contains("--confirm "));
    assert!(all["made"].is_null());
}

#[test]
fn only_the_id_that_was_shown_for_this_plan_confirms_it() {
    let folders = folders();
    let plan = planned(WORDS, &folders);
    let id = format!("{:x}", plan.cluster.cluster_id);
    assert!(check_confirmed(&id, &plan).is_ok());
    assert!(check_confirmed(&format!("0x{id}"), &plan).is_ok());
    let said = |given: &str| format!("{:#}", check_confirmed(given, &plan).unwrap_err());
    assert!(said("c1").contains(&format!("expected {id}")), "{}", said("c1"));
    assert!(said("yes").contains("expected a cluster's id"), "{}", said("yes"));
    // Were there one entry more, it would be another plan.
    let mut grown = folders.clone();
    grown[0] = remains(1, "13@3");
    assert_ne!(planned(WORDS, &grown).cluster.cluster_id, plan.cluster.cluster_id);
}

#[test]
fn what_cannot_be_carried_out_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut folder = remains(1, "9@2");
    folder.dir = home.path().join("old");
    std::fs::create_dir(&folder.dir).unwrap();
    let dir = folder.dir.to_str().unwrap().to_owned();
    let plan = planned(&["--data-dir", &dir], std::slice::from_ref(&folder));
    // There is no such log.
    let said = format!("{:#}", make::make(&plan, &[folder]).unwrap_err());
    assert!(said.contains("nothing was made") && said.contains("ends before entry 9@2"), "{said}");
    let names = std::fs::read_dir(home.path()).unwrap().map(|name| name.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["old"]);
}

#[test]
fn a_report_of_an_earlier_recovery_and_a_folder_in_use_are_not_overwritten() {
    let home = tempfile::tempdir().unwrap();
    let folder = remains(1, "9@2");
    let output = home.path().join("new");
    let words = ["--data-dir", "n1.data", "--output", output.to_str().unwrap()];
    let plan = planned(&words, std::slice::from_ref(&folder));
    let said = || format!("{:#}", make::make(&plan, std::slice::from_ref(&folder)).unwrap_err());
    std::fs::write(home.path().join("new.recovery.txt"), "").unwrap();
    assert!(said().contains("the report of another recovery"), "{}", said());
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("diary"), "").unwrap();
    assert!(said().contains("exists and is not empty"), "{}", said());
}
