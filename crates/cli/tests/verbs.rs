//! The verbs of etcdctl that go on for a while: locks, elections, mirrors, watches and checks, under both
//! names, beside and together with the real etcdctl.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{
    Cluster, Running, Said, etcdctl, etcdctl_with_input, eventually, installed, run_as_etcdctl,
};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// One server, its endpoint, and our program under the name `etcdctl`.
async fn one(name: &str) -> (Cluster, String, PathBuf) {
    let mut cluster = Cluster::started(name, 1).await;
    let endpoint = cluster.server(0).client.address();
    let program = cluster.path().join("etcdctl");
    symlink(env!("CARGO_BIN_EXE_quorate"), &program).unwrap();
    (cluster, endpoint, program)
}

/// Standard output of the real etcdctl, once it has ended well.
fn ok(endpoint: &str, line: &str) -> String {
    let said = etcdctl(endpoint, &line.split(' ').collect::<Vec<_>>());
    assert!(said.is_success, "{line}: {}", said.err);
    said.out
}

/// Waits until there are so many keys under a prefix.
async fn until_keys(endpoint: &str, prefix: &str, count: usize) {
    let line = format!("get --prefix {prefix} --keys-only");
    let what = format!("{count} keys under {prefix}");
    let there = async || (ok(endpoint, &line).split_whitespace().count() == count).then_some(());
    eventually(&what, there).await;
}

#[tokio::test]
async fn a_command_runs_under_a_lock_and_its_exit_code_is_ours() {
    let (cluster, endpoint, program) = one("lock-command").await;
    let line = ["lock", "l", "--", "sh", "-c", "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7"];
    for program in [installed(), program] {
        let Said { out, err, code, .. } = run_as_etcdctl(&program, &endpoint, &line, "");
        assert_eq!(code, Some(7), "{err}");
        assert!(err.contains("Error: exit status 7"), "{err}");
        let (key, revision) = out.trim_end().split_once(' ').unwrap();
        let lease = key.strip_prefix("l/").expect(key);
        assert!(i64::from_str_radix(lease, 16).is_ok(), "{key}");
        assert!(revision.parse::<u64>().unwrap() > 1, "{revision}");
        assert_eq!(ok(&endpoint, "get --prefix l/"), "", "the lock is free afterwards");
        let missing = run_as_etcdctl(&program, &endpoint, &["lock", "l", "--", "/no/such"], "");
        assert_eq!(missing.code, Some(1), "{}", missing.err);
    }
    cluster.finish();
}

#[tokio::test]
async fn we_and_etcdctl_wait_for_each_others_locks() {
    let (cluster, endpoint, ours) = one("lock-turns").await;
    for (first, second) in [(installed(), ours.clone()), (ours, installed())] {
        let mut holder = Running::start(&first, &endpoint, &["lock", "l"]);
        let key = holder.line();
        assert!(key.starts_with("l/"), "{key}");
        assert_eq!(holder.line(), "", "its value is empty");
        let mut waiting = Running::start(&second, &endpoint, &["lock", "l"]);
        until_keys(&endpoint, "l/", 2).await;
        assert_eq!(holder.terminate(), Some(0));
        let next = waiting.line();
        assert!(next.starts_with("l/") && next != key, "{next}");
        assert_eq!(waiting.terminate(), Some(0));
        assert_eq!(ok(&endpoint, "get --prefix l/"), "");
    }
    cluster.finish();
}

#[tokio::test]
async fn who_is_interrupted_while_waiting_leaves_nothing_behind() {
    let (cluster, endpoint, ours) = one("lock-interrupted").await;
    for verb in [&["lock", "x"][..], &["elect", "x", "me"]] {
        let mut holder = Running::start(&installed(), &endpoint, verb);
        holder.line();
        let waiting = Running::start(&ours, &endpoint, verb);
        until_keys(&endpoint, "x/", 2).await;
        assert_eq!(waiting.terminate(), Some(1));
        until_keys(&endpoint, "x/", 1).await;
        assert_eq!(holder.terminate(), Some(0));
    }
    cluster.finish();
}

#[tokio::test]
async fn a_lock_whose_lease_is_revoked_is_lost() {
    let (cluster, endpoint, ours) = one("lock-lost").await;
    let mut holder = Running::start(&ours, &endpoint, &["lock", "l", "--ttl", "15"]);
    let key = holder.line();
    ok(&endpoint, &format!("lease revoke {}", key.strip_prefix("l/").unwrap()));
    assert_eq!(holder.ended(), Some(1));
    cluster.finish();
}

#[tokio::test]
async fn we_and_etcdctl_meet_in_one_election() {
    let (cluster, endpoint, ours) = one("elect").await;
    let theirs = installed();
    let mut listening: Vec<Running> = [&theirs, &ours]
        .map(|program| Running::start(program, &endpoint, &["elect", "-l", "e"]))
        .into();
    for (first, second) in [(&theirs, &ours), (&ours, &theirs)] {
        let mut leader = Running::start(first, &endpoint, &["elect", "e", "one"]);
        let told = [leader.line(), leader.line()];
        assert_eq!(told[1], "one");
        for listener in &mut listening {
            assert_eq!([listener.line(), listener.line()], told);
        }
        let mut next = Running::start(second, &endpoint, &["elect", "e", "two"]);
        until_keys(&endpoint, "e/", 2).await;
        assert_eq!(leader.terminate(), Some(0));
        let told = [next.line(), next.line()];
        assert_eq!(told[1], "two");
        for listener in &mut listening {
            assert_eq!([listener.line(), listener.line()], told);
        }
        assert_eq!(next.terminate(), Some(0));
    }
    cluster.finish();
}

#[tokio::test]
async fn interactive_watches_say_what_etcdctls_say() {
    let (cluster, endpoint, ours) = one("watch-interactive").await;
    for line in ["put a 1", "put a 2", "put b 3", "del a"] {
        ok(&endpoint, line);
    }
    let mut all_said = Vec::new();
    for program in [installed(), ours] {
        let mut watching = Running::start(&program, &endpoint, &["watch", "-i"]);
        let mut said = Vec::new();
        let mut hear = |watching: &mut Running, count| {
            for _ in 0..count {
                said.push(watching.line());
            }
        };
        for line in ["nope", "", "watch", "watch a z --prefix"] {
            watching.say(line);
        }
        watching.say("watch a --rev 2 --prev-kv");
        // Three changes: two with what was before, one without.
        hear(&mut watching, 3 + 5 + 5);
        // In single quotes etcdctl panics.
        watching.say(r#"watch "b" --rev 2 -- sh -c "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY""#);
        hear(&mut watching, 4);
        watching.say("progress");
        // One for each watch.
        hear(&mut watching, 2);
        all_said.push((said, watching.end_of_input()));
    }
    assert_eq!(all_said[1], all_said[0]);
    assert_eq!(all_said[0].1, Some(3));
    assert!(all_said[0].0.contains(&r#""PUT" "b""#.to_owned()), "{all_said:?}");
    cluster.finish();
}

#[tokio::test]
async fn a_watch_may_be_named_by_variables_and_run_a_command() {
    let (cluster, endpoint, ours) = one("watch-variables").await;
    ok(&endpoint, "put k v");
    let output = std::process::Command::new(ours)
        .args(["--endpoints", &endpoint, "watch", "--rev", "2", "--", "false"])
        .env("ETCDCTL_WATCH_KEY", "k")
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    assert_eq!(said[0], "PUT\nk\nv\n");
    assert_eq!(said[1], "command [\"false\"] error (exit status 1)\n");
    assert_eq!(output.status.code(), Some(1));
    cluster.finish();
}

#[tokio::test]
async fn a_mirror_has_what_is_there_and_follows_what_happens() {
    let (mut source, from, ours) = one("mirror-source").await;
    let (target, to, _) = one("mirror-target").await;
    // More than one transaction takes.
    for hundred in [0, 100] {
        let puts: Vec<String> =
            (hundred..hundred + 100).map(|n| format!("put app/{n} {n}")).collect();
        let puts = puts.join("\n");
        let said = etcdctl_with_input(&from, &["txn"], &format!("\n{puts}\n\n\n"));
        assert!(said.is_success, "{}", said.err);
    }
    ok(&from, "put other x");
    let arguments = ["make-mirror", &to, "--prefix", "app/", "--dest-prefix", "old/"];
    let mirror = Running::start(&ours, &from, &arguments);
    until_keys(&to, "old/", 200).await;
    ok(&from, "put app/7 changed");
    ok(&from, "del app/8");
    ok(&from, "put app/last end");
    until_keys(&to, "old/last", 1).await;
    assert_eq!(ok(&to, "get old/7 --print-value-only"), "changed\n");
    assert_eq!(ok(&to, "get old/8"), "");
    assert_eq!(ok(&to, "get other"), "");
    // It goes on when the source comes back.
    source.server(0).kill();
    source.restart(0).await;
    ok(&from, "put app/again back");
    until_keys(&to, "old/again", 1).await;
    drop(mirror);
    // From a revision on, to the same names, everything that happens since.
    let revision = ok(&from, "put app/from here -w fields");
    let revision = revision.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap();
    let arguments = ["make-mirror", &to, "--rev", revision, "--max-txn-ops", "1"];
    let mirror = Running::start(&ours, &from, &arguments);
    until_keys(&to, "app/", 1).await;
    assert_eq!(ok(&to, "get --prefix app/"), "app/from\nhere\n");
    drop(mirror);
    source.finish();
    target.finish();
}

#[tokio::test]
async fn a_check_says_what_it_measured_and_leaves_nothing_behind() {
    let (cluster, endpoint, ours) = one("check").await;
    let line = ["check", "perf", "--duration", "1s", "--auto-compact", "--auto-defrag"];
    let said = run_as_etcdctl(&ours, &endpoint, &line, "");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 8, "{}{}", said.out, said.err);
    assert!(lines[0].starts_with("Compacting with revision "), "{}", said.out);
    assert!(lines[1].starts_with("Compacted with revision "), "{}", said.out);
    assert_eq!(lines[2], format!("Defragmenting \"{endpoint}\""));
    assert_eq!(lines[3], format!("Defragmented \"{endpoint}\""));
    for (line, words) in
        [(lines[4], "hroughput"), (lines[5], "lowest request"), (lines[6], "tddev")]
    {
        assert!(line.contains(words), "{line}");
    }
    // How fast this machine is just now is not the question.
    let verdict = if said.code == Some(0) { "PASS" } else { "FAIL" };
    assert_eq!(lines[7], verdict, "{}", said.out);
    assert_eq!(ok(&endpoint, "get --prefix /etcdctl-check-perf/ --keys-only"), "");

    ok(&endpoint, "put /etcdctl-check-perf/mine 1");
    let line = ["check", "perf"];
    let theirs = run_as_etcdctl(&installed(), &endpoint, &line, "");
    let ours = run_as_etcdctl(&ours, &endpoint, &line, "");
    assert_eq!(ours.code, Some(3));
    assert_eq!((ours.code, ours.out), (theirs.code, theirs.out));
    assert_eq!(ours.err.lines().last(), theirs.err.lines().last());
    cluster.finish();
}

#[tokio::test]
async fn a_backup_is_saved_and_shown_in_etcdctls_words() {
    let (cluster, endpoint, ours) = one("etcdctl-snapshot").await;
    ok(&endpoint, "put a 1");
    let file = cluster.path().join("backup.db");
    let file = file.to_str().unwrap();
    let run = |line: &[&str]| {
        let said = run_as_etcdctl(&ours, &endpoint, line, "");
        assert!(said.is_success, "{line:?}: {}", said.err);
        said.out
    };
    assert_eq!(run(&["snapshot", "save", file]), format!("Snapshot saved at {file}\n"));
    let simple = run(&["snapshot", "status", file]);
    let parts: Vec<&str> = simple.trim_end().split(", ").collect();
    let [hash, revision, keys, size] = parts[..] else { panic!("{simple}") };
    assert_eq!((revision, keys), ("2", "1"));
    let hash = u32::from_str_radix(hash, 16).unwrap();
    let json = run(&["-w", "json", "snapshot", "status", file]);
    assert!(
        json.starts_with(&format!("{{\"hash\":{hash},\"revision\":2,\"totalKey\":1,")),
        "{json}"
    );
    let fields = run(&["-w", "fields", "snapshot", "status", file]);
    assert!(fields.starts_with(&format!("\"Hash\" : {hash}\n\"Revision\" : 2\n\"Keys\" : 1\n")));
    let table = run(&["-w", "table", "snapshot", "status", file]);
    assert!(table.contains("| TOTAL KEYS | TOTAL SIZE |") && table.contains(size), "{table}");
    cluster.finish();
}
