//! What happened to a server lately is written down when somebody sends SIGUSR1, and `quorate sim`
//! plays it: the core that the server runs ends in the same state once more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn recordings(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "recording")).collect()
}

fn replay(path: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["sim", "--replay"]).arg(path).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn what_happened_to_a_server_can_be_played_again_and_says_nothing_of_what_clients_wrote() {
    let mut cluster = Cluster::new("flight-recorder", &Options::servers(3));
    cluster.start_all().await;
    for number in 0..50 {
        cluster.client(0).put(&format!("private-{number}"), "word-of-somebody").await.unwrap();
    }
    for number in 0..3 {
        let pid = Pid::from_raw(cluster.server(number).pid().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::USR1).unwrap();
        cluster.server(number).logged("recorded what happened to this node lately").await;
        let dir = cluster.server(number).data_dir.clone();
        let found = eventually("a recording", async || recordings(&dir).pop()).await;
        let bytes = fs::read(&found).unwrap();
        for secret in ["private", "word-of"] {
            assert!(!bytes.windows(7).any(|window| window == secret.as_bytes()), "{secret}");
        }

        let brief = replay(&found, &[]);
        assert!(brief.status.success(), "{}", text(&brief.stderr));
        let brief = text(&brief.stdout);
        assert!(brief.contains("the state is the one that was recorded"), "{brief}");
        let whole = text(&replay(&found, &["--trace", "all"]).stdout);
        assert!(whole.contains("AppendEntries"), "{whole}");
        assert!(whole.lines().count() > brief.lines().count() + 50, "{whole}");

        let broken = dir.join("broken");
        let middle = bytes.len() / 2;
        fs::write(&broken, [&bytes[..middle], &[bytes[middle] ^ 1], &bytes[middle + 1..]].concat())
            .unwrap();
        let refused = replay(&broken, &[]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains("damaged"), "{}", text(&refused.stderr));
        fs::remove_file(broken).unwrap();
    }
    cluster.client(1).put("it", "goes on").await.unwrap();
    cluster.finish();
}

#[test]
fn a_file_that_is_no_recording_or_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a text");
    let missing = replay(&path, &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("a text"), "{}", text(&missing.stderr));
    fs::write(&path, "no recording").unwrap();
    let other = replay(&path, &[]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("no recording"), "{}", text(&other.stderr));
    let both = replay(&path, &["--seed", "7"]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
}
