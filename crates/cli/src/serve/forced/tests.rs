use super::*;
use clap::Parser;
use std::path::PathBuf;

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    flags: Flags,
}

/// The flags of a member of three, and what they mean.
fn started(dir: &Path, more: &[&str]) -> (Flags, Settings) {
    let dir = dir.to_str().unwrap();
    let cluster = "n1=http://h:1,n2=http://h:2,n3=http://h:3";
    let words = ["serve", "--name", "n1", "--data-dir", dir, "--initial-cluster", cluster];
    let words = words.into_iter().chain(["--initial-advertise-peer-urls", "http://h:1"]);
    let flags = Program::try_parse_from(words.chain(more.iter().copied())).unwrap().flags;
    let settings = flags.settings(true).unwrap();
    (flags, settings)
}

/// A folder whose member was forced before, with these flags.
fn forced(home: &Path) -> PathBuf {
    let dir = home.join("data");
    fs::create_dir_all(dir.join("wal")).unwrap();
    fs::write(dir.join("wal/meta-a"), "").unwrap();
    let (flags, settings) = started(&dir, &[]);
    let owner = "cluster 00000000000000c2, member 0000000000000007, name n1\n";
    fs::write(dir.join(folder::OWNER_FILE), owner).unwrap();
    let lines =
        format!("cluster 1, member 2, name n1\n{}", folder::owner(&settings.cluster, &flags.name));
    fs::write(dir.join(FORMERLY_FILE), lines).unwrap();
    dir
}

#[test]
fn a_start_with_the_flags_of_before_takes_the_member_for_who_it_is_now() {
    let home = tempfile::tempdir().unwrap();
    let dir = forced(home.path());
    let (flags, mut settings) = started(&dir, &[]);
    recall(&flags, &mut settings).unwrap();
    assert_eq!((settings.cluster.cluster_id, settings.cluster.own_id), (0xc2, 7));
    let (flags, mut settings) = started(&dir, &["--initial-cluster-token", "other"]);
    let before = settings.cluster.clone();
    recall(&flags, &mut settings).unwrap();
    assert_eq!(settings.cluster, before, "these flags never were this folder's");
}

#[test]
fn a_folder_that_is_to_be_forced_says_who_it_is_whatever_the_flags_say_of_others() {
    let home = tempfile::tempdir().unwrap();
    let dir = forced(home.path());
    let alone = ["--initial-cluster-token", "other", "--force-new-cluster"];
    let (flags, mut settings) = started(&dir, &alone);
    let typed = recall(&flags, &mut settings).unwrap();
    assert_eq!((settings.cluster.cluster_id, settings.cluster.own_id), (0xc2, 7));
    assert_ne!(
        typed,
        folder::owner(&settings.cluster, "n1"),
        "the flags are remembered as they are"
    );
}

#[test]
fn nothing_is_forced_where_there_is_no_data_however_the_cluster_is_to_begin() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    for state in ["new", "existing"] {
        let more = ["--force-new-cluster", "--initial-cluster-state", state];
        let (flags, mut settings) = started(&dir, &more);
        let said = recall(&flags, &mut settings).unwrap_err().to_string();
        assert!(said.contains("nothing to go on with") && said.contains("--data-dir"), "{said}");
        assert!(!dir.exists());
    }
}

#[test]
fn a_flag_that_was_left_in_does_nothing_before_a_start_without_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = forced(home.path());
    let marker = dir.join(MARKER_FILE);
    fs::write(&marker, MARKER_TEXT).unwrap();
    let (flags, mut settings) = started(&dir, &["--force-new-cluster=true"]);
    // What is in the folder is no log: to look at it would be an error.
    begin(&flags, &mut settings, "").unwrap();
    assert!(marker.exists());
    let (without, mut settings) = started(&dir, &["--force-new-cluster=false"]);
    begin(&without, &mut settings, "").unwrap();
    assert!(!marker.exists());
    let error = begin(&flags, &mut settings, "").unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("--force-new-cluster; nothing was changed"), "{said}");
    assert!(said.contains("none of these folders can be used"), "{said}");
    assert!(!marker.exists() && dir.join("wal/meta-a").exists());
}

#[test]
fn only_so_many_former_names_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let (dir, made) = (forced(home.path()), home.path().join("made"));
    fs::create_dir(&made).unwrap();
    let lines: Vec<String> = (0..40).map(|number| format!("cluster {number}\n")).collect();
    fs::write(dir.join(FORMERLY_FILE), lines.concat()).unwrap();
    complete_made(&dir, None, &made, "typed\n").unwrap();
    let found = formerly(&made);
    assert_eq!(found.len(), FORMERLY_COUNT_MAX);
    let owner = fs::read_to_string(dir.join(folder::OWNER_FILE)).unwrap();
    assert_eq!(found[FORMERLY_COUNT_MAX - 2..], [owner, "typed\n".to_owned()]);
}
