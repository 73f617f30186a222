//! A server that reads its sealed log again finds damage while it still serves, and says so wherever
//! somebody might look.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, eventually, http};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// A figure of the metrics page.
fn figure(address: &str, name: &str) -> Option<u64> {
    let page = http::try_get(address, "/metrics")?.body;
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn server(name: &str, rate: &str) -> Cluster {
    let more = vec![("--scrub-rate".to_owned(), rate.to_owned())];
    let mut cluster = Cluster::new(name, &Options { more, ..Options::servers(1) });
    cluster.start_all().await;
    // The first segment is of a megabyte.
    for number in 0..40 {
        cluster.client(0).put(&format!("k{number}"), "v".repeat(40_000)).await.unwrap();
    }
    cluster
}

#[tokio::test]
async fn a_bit_that_flips_in_a_sealed_segment_is_noticed_before_a_start_needs_it() {
    let mut cluster = server("scrub", "100000000").await;
    let address = cluster.server(0).client.address();
    // Rounds are counted from before there was anything to read.
    eventually("a round with the first segment in it", async || {
        let has_read = figure(&address, "quorate_scrub_read_bytes_total")? > 1_000_000;
        (has_read && figure(&address, "quorate_scrub_rounds_total")? > 0).then_some(())
    })
    .await;
    assert_eq!(figure(&address, "quorate_scrub_damaged_files"), Some(0));

    let segment = cluster.server(0).data_dir.join("wal/log-00000000000000000001.wal");
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 500_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 500_000).unwrap();
    eventually("the damage to be counted", async || {
        (figure(&address, "quorate_scrub_damaged_files")? == 1).then_some(())
    })
    .await;
    cluster.server(0).logged("this folder will not start again").await;
    let errors = cluster.client(0).status().await.unwrap().errors;
    assert!(errors.iter().any(|error| error.contains("segment 1 of the log")), "{errors:?}");
    let health = http::get(&address, "/health");
    assert!(health.body.contains("DAMAGED: segment 1 of the log"), "{}", health.body);
    assert_eq!(health.status, 200, "whoever restarts what is not healthy must not restart this");
    assert_eq!(health.json()["health"], "true");
    cluster.client(0).put("it", "serves").await.unwrap();

    cluster.server(0).kill();
    let said = cluster.server(0).start_in_vain().await;
    assert!(said.contains("is damaged at byte"), "{said}");
    cluster.finish();
}

#[tokio::test]
async fn a_server_that_is_told_so_reads_nothing_again() {
    let mut cluster = server("scrub-off", "0").await;
    let address = cluster.server(0).client.address();
    let figures = ["quorate_scrub_rounds_total", "quorate_scrub_read_bytes_total"];
    assert_eq!(figures.map(|name| figure(&address, name)), [Some(0); 2]);
    cluster.finish();
}
