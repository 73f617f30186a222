//! Real servers on real small file systems that fill up: growth is refused, everything else goes on, and
//! when there is room they go on without a restart, with everything that they acknowledged.
//!
//! Each small file system is a tmpfs, which only root may mount: without that these tests fail and say so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Server, etcdctl, eventually, http, message_of};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::Code;

const FULL: &str = "etcdserver: mvcc: database space exceeded";

/// A file system of its own, gone with its owner, and a file on it that is somebody else's.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, mebibytes: u64) -> Self {
        let path = folder.join("small");
        fs::create_dir(&path).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "quorate-test"])
            .arg(&path)
            .status()
            .expect("mount can be run");
        assert!(
            mounted.success(),
            "this test needs a small file system and may not mount one ({mounted}): run it as root, or \
             leave it out by name"
        );
        Self(path)
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.0).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Somebody else leaves no more than this free.
    fn leave(&self, bytes: u64) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        while self.free_bytes() > bytes {
            let step = usize::try_from((self.free_bytes() - bytes).min(1 << 20)).unwrap();
            // What does not fit any more is not needed either.
            let _full = file.write_all(&vec![7; step]);
        }
    }

    /// Somebody else is done.
    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("somebody-elses")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A cluster whose last server lives on a disk of so many MiB.
fn with_small_disk(name: &str, options: &Options, mebibytes: u64) -> (Cluster, SmallDisk) {
    let mut cluster = Cluster::new(name, options);
    let disk = SmallDisk::mount(&cluster.path(), mebibytes);
    let server = cluster.server(options.server_count - 1);
    server.data_dir = disk.0.join("data");
    let data_dir = server.data_dir.to_str().unwrap().to_owned();
    server.set_flag("--data-dir", &data_dir);
    (cluster, disk)
}

fn address(server: &Server) -> String {
    server.client.address()
}

fn says(endpoint: &str, arguments: &[&str]) -> String {
    let said = etcdctl(endpoint, arguments);
    assert!(said.is_success, "{arguments:?}: {}{}", said.out, said.err);
    said.out
}

/// Waits for a line of the metrics.
async fn until_metric(server: &Server, is_as_wished: impl Fn(&str) -> bool) {
    eventually("a metric to be as wished", async || {
        http::get(&address(server), "/metrics").body.lines().any(&is_as_wished).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_growth_and_nothing_else_and_goes_on_by_itself() {
    let (mut cluster, disk) = with_small_disk("nearly-full", &Options::servers(1), 96);
    cluster.start_all().await;
    let client = cluster.client(0).clone();
    let first = address(cluster.server(0));
    for number in 0..20 {
        client.put(&format!("k{number}"), "v".repeat(1_000)).await.unwrap();
    }
    // A fortieth of the disk is held; below three of these it is nearly full.
    let holds = |line: &str| line.starts_with("quorate_disk_reserve_bytes 2516582");
    until_metric(cluster.server(0), holds).await;
    disk.leave(4 << 20);
    let refused = eventually("a put to be refused", async || {
        let answer = client.put("more", "v").await;
        answer.is_err().then_some(answer)
    })
    .await;
    assert_eq!(message_of(refused), (Code::ResourceExhausted, FULL.to_owned()));
    eventually("the alarm", async || {
        says(&first, &["alarm", "list"]).contains("NOSPACE").then_some(())
    })
    .await;

    // What makes room, and what asks, goes on.
    let deleted = client.delete("k0").await.unwrap();
    let revision = deleted.header.unwrap().revision.to_string();
    says(&first, &["compaction", &revision, "--physical"]);
    assert!(says(&first, &["member", "list"]).contains("started"));
    let lease = says(&first, &["lease", "list"]);
    assert!(lease.contains("found 0 leases"), "{lease}");
    assert!(client.get("k1").await.unwrap().is_some());
    assert_eq!(http::get(&first, "/health").status, 503);
    assert!(says(&first, &["endpoint", "status", "-w", "json"]).contains("NOSPACE"));

    disk.free();
    eventually("a put to be taken", async || client.put("more", "v").await.ok()).await;
    assert!(!says(&first, &["alarm", "list"]).contains("NOSPACE"), "nobody had to clear it");
    assert_eq!(http::get(&first, "/health").status, 200);
    assert_eq!(cluster.server(0).try_ended(), None, "it is the same process");
    for number in 1..20 {
        assert!(client.get(&format!("k{number}")).await.unwrap().is_some(), "k{number}");
    }
    assert!(client.get("k0").await.unwrap().is_none());
    cluster.server(0).kill();
    cluster.restart(0).await;
    assert_eq!(cluster.client(0).everything().await.unwrap().kvs.len(), 20);
    cluster.finish();
}

#[tokio::test]
async fn a_disk_without_any_room_costs_a_leader_its_office_and_nobody_a_promise() {
    let mut options = Options::servers(3);
    // Nobody looks, so that it comes to the worst; and the state is written out all the time.
    options.more = [("--disk-reserve", "0"), ("--snapshot-count", "5")]
        .map(|(flag, value)| (flag.to_owned(), value.to_owned()))
        .to_vec();
    let (mut cluster, disk) = with_small_disk("no-room", &options, 128);
    cluster.start_all().await;
    cluster.put_until_acknowledged(&[2], "first", "v").await;
    let small =
        format!("{:x}", cluster.client(2).status().await.unwrap().header.unwrap().member_id);
    let all = [0, 1, 2].map(|index| address(cluster.server(index))).join(",");
    eventually("the small disk's server to lead", async || {
        let leader = cluster.try_leader(None).await?;
        if leader != 2 {
            // Somebody else may lead by then.
            let _tried = etcdctl(&all, &["move-leader", &small]);
        }
        (leader == 2).then_some(())
    })
    .await;

    disk.leave(0);
    let value = "v".repeat(300_000);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        assert!(number < 1_000, "it never noticed");
        let key = format!("k{number}");
        if cluster.client(number % 2).put(&key, value.clone()).await.is_ok() {
            acknowledged.push(key);
        }
        let is_deposed = cluster.try_leader(Some(2)).await.is_some_and(|leader| leader != 2);
        if is_deposed && acknowledged.len() >= 10 {
            break;
        }
    }
    cluster.put_until_acknowledged(&[0, 1], "without-it", "v").await;
    let full = address(cluster.server(2));
    eventually("it to say so", async || {
        http::get(&full, "/health").body.contains("DISK FULL").then_some(())
    })
    .await;
    let old = cluster.client(2).everything().await.unwrap();
    assert!(old.kvs.iter().any(|kv| kv.key == "first"), "what it knows it serves");
    assert_eq!(cluster.server(2).try_ended(), None);

    disk.free();
    cluster.put_until_acknowledged(&[2], "with-it", "v").await;
    let count = cluster.assert_equal_replicas().await;
    assert!(count >= acknowledged.len() + 3);
    for key in acknowledged {
        assert!(cluster.client(2).get(&key).await.unwrap().is_some(), "{key} was acknowledged");
    }
    eventually("it to be healthy again", async || {
        (http::get(&full, "/health").status == 200).then_some(())
    })
    .await;
    assert_eq!(cluster.server(2).try_ended(), None, "it is the same process");
    cluster.finish();
}
