//! The program under the name `etcdctl`, beside the real one: the same command lines against the same
//! server, from an empty store each time. What they print and how they end must be the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Said, etcdctl_with_input, eventually, installed, run_as_etcdctl};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const TXN: &str = "mod(\"a\") > \"0\"\n\nput a 9\nget a\n\nput b 1\n\n";

/// Command lines whose output is determined, each with what stands on standard input.
const SCRIPT: [(&str, &str); 127] = [
    ("put a 1", ""),
    ("put a 2 --prev-kv", ""),
    ("-w json put a 3 --prev-kv", ""),
    ("-w fields put a 4 --prev-kv", ""),
    ("put b", "from standard input"),
    ("put", ""),
    ("get a", ""),
    ("get a -w json", ""),
    ("get a --write-out=fields", ""),
    ("get a --print-value-only", ""),
    ("get a --keys-only", ""),
    ("get --prefix a --keys-only", ""),
    ("get a c", ""),
    ("get --from-key a --limit 1", ""),
    ("get --prefix  --sort-by MODIFY --order DESCEND", ""),
    ("get a --rev 2", ""),
    ("get a --consistency s", ""),
    ("get a --count-only", ""),
    ("get a --count-only -w fields", ""),
    ("get a --rev 99", ""),
    ("get nothing", ""),
    ("get", ""),
    ("nope", ""),
    ("get a --nope", ""),
    ("txn", TXN),
    ("txn -w json", TXN),
    ("txn -w fields", TXN),
    ("del a --prev-kv", ""),
    ("del a", ""),
    ("del a -w json", ""),
    ("del b -w fields --prev-kv", ""),
    ("compaction 3", ""),
    ("compaction 3", ""),
    ("compaction 99", ""),
    ("compaction 4 -w json", ""),
    ("watch a --rev 1", ""),
    ("watch b --rev 99 --nope", ""),
    ("watch", ""),
    ("watch a --", ""),
    ("--hex put c 1 --prev-kv", ""),
    ("put c 2 --prev-kv --hex", ""),
    ("--hex get c", ""),
    ("--hex get c --keys-only", ""),
    ("--hex -w json get c", ""),
    ("--hex -w fields get c", ""),
    ("--hex txn", TXN),
    ("--hex member list", ""),
    ("--hex member list -w json", ""),
    ("--hex del c --prev-kv", ""),
    ("watch c --rev 5 -- false", ""),
    ("lease revoke 1", ""),
    ("lease timetolive 1", ""),
    ("lease timetolive 1 -w json", ""),
    ("lease keep-alive 1 --once", ""),
    ("lease list", ""),
    ("lease list -w fields", ""),
    ("member list", ""),
    ("member list -w json", ""),
    ("member list -w fields", ""),
    ("member list -w table", ""),
    ("member remove 1", ""),
    ("member remove zz", ""),
    ("member update 1 --peer-urls http://127.0.0.1:1", ""),
    ("alarm list", ""),
    ("alarm list -w json", ""),
    ("alarm disarm", ""),
    ("defrag", ""),
    ("defrag --cluster", ""),
    ("endpoint hashkv --rev 99", ""),
    ("move-leader 1", ""),
    ("move-leader zz", ""),
    ("lock", ""),
    ("lock l -- false", ""),
    ("lock l true", ""),
    ("elect e", ""),
    ("elect e v -l", ""),
    ("make-mirror", ""),
    ("check perf --load huge", ""),
    ("role add r1", ""),
    ("role add r1", ""),
    ("role add r2 -w json", ""),
    ("role add r3 -w fields", ""),
    ("role grant-permission r1 readwrite a c", ""),
    ("role grant-permission r1 read foo --prefix", ""),
    ("role grant-permission r1 write k", ""),
    ("role grant-permission r1 READ x --from-key", ""),
    ("role grant-permission r1 nothing x", ""),
    ("role grant-permission nope read x", ""),
    ("role get r1", ""),
    ("role get r1 -w json", ""),
    ("role get r1 -w fields", ""),
    ("role get r1 -w table", ""),
    ("role get nope", ""),
    ("role list", ""),
    ("role list -w json", ""),
    ("role list -w fields", ""),
    ("user add alice:pw", ""),
    ("user add alice:pw", ""),
    ("user add bob --new-user-password pw -w json", ""),
    ("user add carol --no-password", ""),
    ("user add dora --interactive=false", "pw\n"),
    ("user passwd dora --interactive=false", "other\n"),
    ("user grant-role alice r1", ""),
    ("user grant-role alice nope", ""),
    ("user grant-role bob r1 -w fields", ""),
    ("user get alice", ""),
    ("user get alice --detail", ""),
    ("user get alice -w json", ""),
    ("user get alice -w fields", ""),
    ("user get nope", ""),
    ("user list", ""),
    ("user list -w json", ""),
    ("user revoke-role alice r1", ""),
    ("user revoke-role alice r1", ""),
    ("user delete bob", ""),
    ("user delete bob", ""),
    ("role revoke-permission r1 a c", ""),
    ("role revoke-permission r1 k", ""),
    ("role revoke-permission r1 x --from-key", ""),
    ("role revoke-permission r1 zz", ""),
    ("role delete r2", ""),
    ("auth status", ""),
    ("auth status -w json", ""),
    ("auth enable", ""),
    ("user add root:rootpw", ""),
    ("auth enable", ""),
    ("auth status", ""),
];

/// Switches, numbers and times as Go reads them, and what is printed in every form.
const AS_GO: [(&str, &str); 64] = [
    ("put a 1 --prev-kv=true", ""),
    ("put a 2 --prev-kv=T", ""),
    ("put a 3 --prev-kv=0", ""),
    ("put a --ignore-value=TRUE", ""),
    ("put a 4 --ignore-value=F --ignore-lease=false", ""),
    ("put a 5 --ignore-lease --lease=0", ""),
    ("put a 5 --ignore-lease --lease=1", ""),
    ("put ab --lease=0", "from standard input"),
    ("get a --prefix=true", ""),
    ("get a --prefix=1 --prefix=false", ""),
    ("get a --prefix --prefix", ""),
    ("get a --from-key=t --limit 1", ""),
    ("get a --keys-only=1", ""),
    ("get a --print-value-only=True", ""),
    ("get a --print-value-only=f", ""),
    ("get a --count-only=1", ""),
    ("get a --count-only=1 -w fields", ""),
    ("get a --rev -1", ""),
    ("get a --rev=-1", ""),
    ("get a --limit -1", ""),
    ("get a --rev 0x3", ""),
    ("get a --rev 0b11", ""),
    ("get a --rev 02", ""),
    ("get a --rev 1_0", ""),
    ("get a --prefix --limit 0x1", ""),
    ("get a --prefix --limit 1 --limit +2", ""),
    ("get a --command-timeout=1m1s", ""),
    ("get a --command-timeout 30.5s --dial-timeout 1m1s", ""),
    ("get a --keepalive-time=1m --keepalive-timeout=6s", ""),
    ("--hex=1 get a", ""),
    ("get a --hex=T", ""),
    ("get a --hex --hex=0", ""),
    ("get a --insecure-transport=T --insecure-discovery=1 --debug=F", ""),
    ("get a --insecure-skip-tls-verify=0", ""),
    ("txn", "mod(\"a\") > \"0\"\n\nput a 6 --prev-kv=1\nget ab --prefix=T --keys-only=0\n\n\n"),
    ("txn --interactive=false", "\nget a --rev -1 --limit 0x10\ndel zz --from-key=F\n\n\n"),
    ("watch a --rev 0x2 -w fields -- false", ""),
    ("watch a --rev 2 --prev-kv=true -w fields -- false", ""),
    ("watch a --rev 2 --prefix=T -w json --interactive=0 -- false", ""),
    ("del ab --prev-kv=t", ""),
    ("del zz --prefix=true", ""),
    ("watch a --prefix --rev 8 -w fields -- false", ""),
    ("compaction 2 --physical=true", ""),
    ("compaction 2 --physical=false", ""),
    ("defrag --cluster=true", ""),
    ("defrag --cluster=false", ""),
    ("lease keep-alive 1 --once=true", ""),
    ("lease keep-alive --once=1 1", ""),
    ("lease timetolive 1 --keys=true", ""),
    ("role add r", ""),
    ("role grant-permission r readwrite a c --prefix=0", ""),
    ("role grant-permission r read foo --prefix=true", ""),
    ("role revoke-permission r nope --from-key=1", ""),
    ("user add u --no-password=true", ""),
    ("user add v:pw --no-password=false", ""),
    ("user add w --interactive=0", "pw\n"),
    ("user grant-role u r", ""),
    ("user get u --detail=1", ""),
    ("user get u --detail=0", ""),
    ("user get u --detail -w json", ""),
    ("user get u --detail -w fields", ""),
    ("user get v --detail -w fields", ""),
    ("user get nope --detail -w json", ""),
    ("role revoke-permission r foo --prefix=1", ""),
];

/// Command lines that change nothing, for they are wrong, or ask for help: what is said is each program's own,
/// and how it ends is not.
const ENDINGS: [(&str, &str); 75] = [
    ("help", ""),
    ("help get", ""),
    ("help nope", ""),
    ("-w json", ""),
    ("--hex", ""),
    ("get --help", ""),
    ("lease", ""),
    ("lease help", ""),
    ("lease nope", ""),
    ("check", ""),
    ("check bogus", ""),
    ("role nope", ""),
    ("member nope", ""),
    ("nope", ""),
    ("--nope", ""),
    ("get -x", ""),
    ("get -1", ""),
    ("lease --nope", ""),
    ("lease grant", ""),
    ("lease grant 10 20", ""),
    ("lease grant x", ""),
    ("lease grant 0x10", ""),
    ("lease grant --nope 5", ""),
    ("lease revoke 1 2", ""),
    ("lease revoke zz", ""),
    ("lease timetolive 1 2", ""),
    ("lease keep-alive zz", ""),
    ("lease keep-alive --once=x 1", ""),
    ("role list extra", ""),
    ("role grant-permission a bogus k", ""),
    ("role grant-permission a read k --prefix --from-key", ""),
    ("role grant-permission a read k --prefix=x", ""),
    ("user list extra", ""),
    ("user get a --detail=x", ""),
    ("user add a --no-password=x", ""),
    ("alarm list extra", ""),
    ("auth status extra", ""),
    ("txn extra", ""),
    ("txn --interactive=x", ""),
    ("txn", "\nnope\n\n\n"),
    ("txn", "\nput a 1 --nope\n\n\n"),
    ("txn", "\nput a 1 --prev-kv=x\n\n\n"),
    ("txn", "zz(\"a\") > \"1\"\n\n\n\n"),
    ("compaction x", ""),
    ("compaction 1 2", ""),
    ("compaction 1 --physical=x", ""),
    ("get a --order=BOGUS", ""),
    ("get a --sort-by=BOGUS", ""),
    ("get a --consistency=x", ""),
    ("get a --limit=abc", ""),
    ("get a --limit", ""),
    ("get a --rev=0x", ""),
    ("get a --prefix=yes", ""),
    ("get a --prefix=", ""),
    ("get a b --prefix", ""),
    ("get a --prefix true", ""),
    ("get a --prefix --from-key", ""),
    ("get a --print-value-only -w json", ""),
    ("get a --keys-only --count-only -w fields", ""),
    ("get a --cacert /nonexistent", ""),
    ("get a --cert /nonexistent", ""),
    ("get a --key /nonexistent", ""),
    ("get a --hex=x", ""),
    ("get a --debug=x", ""),
    ("get a --insecure-skip-tls-verify=x", ""),
    ("get a --command-timeout=x", ""),
    ("get a --keepalive-time=x", ""),
    ("put k --lease=0", ""),
    ("put k v --lease=zz", ""),
    ("put k v --ignore-value", ""),
    ("put k -v", ""),
    ("member add x --learner=maybe --peer-urls=http://127.0.0.1:9", ""),
    ("member add x y --learner=false --peer-urls=http://127.0.0.1:9", ""),
    ("elect e v --listen=maybe", ""),
    ("check perf --auto-compact=x", ""),
];

/// The same once everybody is asked who they are.
const AS_SOMEBODY: [&str; 7] = [
    "--user root:rootpw auth status",
    "--user root --password rootpw auth status -w json",
    "--user root:wrong auth status",
    "--user dora:other get a",
    "--user carol:x get a",
    "get a",
    "--user root:rootpw auth disable",
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Standard output, a complaint, and how it ended.
type Essence = (String, Option<String>, Option<i32>);

/// What matters of what was said: standard output, the last line of the other, and the status.
fn essence(said: &Said) -> Essence {
    // Of wrong arguments each says in its own words what is wrong.
    let is_of_arguments = said.code == Some(128)
        || ["unknown command", "unknown flag", "unrecognized", "unexpected argument"]
            .iter()
            .any(|words| said.err.contains(words));
    let complaint = said.err.lines().rfind(|line| line.starts_with("Error: "));
    let complaint = complaint.filter(|_| !is_of_arguments).map(str::to_owned);
    let out = if is_of_arguments { String::new() } else { without_term(&said.out) };
    (out, complaint, said.code)
}

/// A term is a matter of elections.
fn without_term(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        if line.starts_with("\"RaftTerm\"") {
            out.push_str("\"RaftTerm\" : N\n");
            continue;
        }
        let mut parts = line.split("\"raft_term\":");
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            out.push_str("\"raft_term\":N");
            out.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        }
    }
    out
}

/// What one program says to everything, from an empty store on.
async fn all_said(
    cluster: &mut Cluster,
    script: &[(&str, &str)],
    run: impl Fn(&str, &[&str], &str) -> Said,
) -> Vec<(String, Essence)> {
    cluster.start_all().await;
    let endpoint = cluster.server(0).client.address();
    // It tells who it is some time after it began.
    eventually("the member to be known", async || {
        let list = etcdctl_with_input(&endpoint, &["member", "list"], "");
        list.out.contains(&endpoint).then_some(())
    })
    .await;
    let mut all = Vec::new();
    for (line, input) in script {
        let said = run(&endpoint, &words(line), input);
        all.push(((*line).to_owned(), essence(&said)));
    }
    assert!(cluster.server(0).terminate().await.success());
    fs::remove_dir_all(&cluster.server(0).data_dir).unwrap();
    all
}

/// Both programs say the same to each line of a script.
async fn compare(name: &str, script: &[(&str, &str)]) {
    let mut options = Options::servers(1);
    options.more.push(("--bcrypt-cost".to_owned(), "4".to_owned()));
    let mut cluster = Cluster::new(name, &options);
    let program = cluster.path().join("etcdctl");
    symlink(env!("CARGO_BIN_EXE_quorate"), &program).unwrap();
    let theirs = all_said(&mut cluster, script, etcdctl_with_input).await;
    let ours = all_said(&mut cluster, script, |endpoint, arguments, input| {
        run_as_etcdctl(&program, endpoint, arguments, input)
    })
    .await;
    let differences: Vec<String> = theirs
        .iter()
        .zip(&ours)
        .filter(|((_, theirs), (_, ours))| theirs != ours)
        .map(|((line, theirs), (_, ours))| {
            format!("{line}\n  etcdctl: {theirs:?}\n  ours:    {ours:?}")
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
    cluster.finish();
}

#[tokio::test]
async fn under_the_name_etcdctl_it_says_what_etcdctl_says() {
    let as_somebody = AS_SOMEBODY.map(|line| (line, ""));
    compare("as-etcdctl", &[&SCRIPT[..], &as_somebody].concat()).await;
}

#[tokio::test]
async fn switches_numbers_and_times_are_read_as_go_reads_them() {
    compare("as-go", &AS_GO).await;
}

#[tokio::test]
async fn what_is_wrong_or_asks_for_help_ends_with_etcdctls_code() {
    let mut cluster = Cluster::started("etcdctl-endings", 1).await;
    let endpoint = cluster.server(0).client.address();
    let program = cluster.path().join("etcdctl");
    symlink(env!("CARGO_BIN_EXE_quorate"), &program).unwrap();
    let mut differences = Vec::new();
    for (line, input) in ENDINGS {
        let theirs = etcdctl_with_input(&endpoint, &words(line), input);
        let ours = run_as_etcdctl(&program, &endpoint, &words(line), input);
        // Help goes to standard output, and a complaint does not.
        let is_well = ours.code == Some(0);
        if ours.code != theirs.code || is_well == ours.out.is_empty() {
            let (out, err) = (ours.out, ours.err);
            differences.push(format!(
                "{line} {input:?}: {:?}, and {:?} here: {out}{err}",
                theirs.code, ours.code
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    cluster.finish();
}

/// Runs a program as if it were etcdctl, with one of etcdctl's variables set.
fn with_variable(program: &Path, endpoint: &str, variable: (&str, &str)) -> (String, Option<i32>) {
    let command = Command::new(program)
        .args(["--endpoints", endpoint, "get", "a"])
        .env(variable.0, variable.1)
        .output()
        .unwrap();
    (String::from_utf8(command.stdout).unwrap(), command.status.code())
}

#[tokio::test]
async fn variables_are_read_as_go_reads_them() {
    let mut cluster = Cluster::started("etcdctl-variables", 1).await;
    let endpoint = cluster.server(0).client.address();
    let program = cluster.path().join("etcdctl");
    symlink(env!("CARGO_BIN_EXE_quorate"), &program).unwrap();
    assert!(etcdctl_with_input(&endpoint, &["put", "a", "1"], "").is_success);
    for variable in [
        ("ETCDCTL_HEX", "1"),
        ("ETCDCTL_HEX", "T"),
        ("ETCDCTL_HEX", "F"),
        ("ETCDCTL_COMMAND_TIMEOUT", "1m30s"),
        ("ETCDCTL_DIAL_TIMEOUT", "2.5s"),
        ("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "0"),
        ("ETCDCTL_INSECURE_TRANSPORT", "1"),
        ("ETCDCTL_CACERT", "/nonexistent"),
        // There is a flag that says the same.
        ("ETCDCTL_ENDPOINTS", endpoint.as_str()),
        ("ETCDCTL_ENDPOINTS", ""),
    ] {
        let theirs = with_variable(&installed(), &endpoint, variable);
        assert_eq!(with_variable(&program, &endpoint, variable), theirs, "{variable:?}");
    }
    cluster.finish();
}

#[tokio::test]
async fn what_is_not_determined_has_etcdctls_form() {
    let mut cluster = Cluster::started("etcdctl-form", 1).await;
    let endpoint = cluster.server(0).client.address();
    let program = cluster.path().join("etcdctl");
    symlink(env!("CARGO_BIN_EXE_quorate"), &program).unwrap();
    // What differs from call to call becomes a letter.
    let form = |text: &str| -> String {
        let is_changing = |letter: char| letter.is_ascii_digit() || letter == '.';
        let mut form = String::new();
        for letter in text.chars() {
            match letter {
                letter if is_changing(letter) => {
                    if !form.ends_with('N') {
                        form.push('N');
                    }
                }
                'µ' | '-' | ' ' => {}
                letter => form.push(letter),
            }
        }
        form.replace("Nms", "T").replace("Ns", "T")
    };
    for line in [
        "endpoint health",
        "endpoint health -w json",
        "endpoint status -w fields",
        "endpoint hashkv",
        "endpoint hashkv -w table",
        "endpoint hashkv -w fields",
    ] {
        let theirs = etcdctl_with_input(&endpoint, &words(line), "");
        let ours = run_as_etcdctl(&program, &endpoint, &words(line), "");
        assert_eq!(form(&ours.out), form(&theirs.out), "{line}");
        assert_eq!(ours.code, theirs.code, "{line}");
    }
    cluster.finish();
}
