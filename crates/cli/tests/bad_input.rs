//! Whatever is thrown at a server, by an operator, by a client, by a stranger or by a disk: a clear
//! error, nothing lost, no panic. Knows where bytes can come in, and the words that help a person.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Options, Rng, http, message_of, seed};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use tonic::Code;

/// Checks that a text for a person has these words in it.
fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "expected the words `{word}` in: {said}");
    }
}

/// What a cluster must still hold after the trouble.
async fn write_before_the_trouble(cluster: &Cluster) {
    for number in 0..100 {
        let key = format!("kept/{number}");
        cluster.client(number % 3).put(&key, format!("needle-{number:03}")).await.unwrap();
    }
}

/// Checks that every server serves all of it, and takes a write.
async fn assert_unharmed(cluster: &mut Cluster) {
    for index in cluster.indexes() {
        cluster.ready(index).await;
        for number in 0..100 {
            let pair = cluster.client(index).get(&format!("kept/{number}")).await.unwrap();
            assert_eq!(pair.unwrap().value, format!("needle-{number:03}").as_bytes());
        }
        cluster.put_until_acknowledged(&[index], "after", "the trouble").await;
    }
    cluster.assert_equal_replicas().await;
}

#[tokio::test]
async fn flags_that_are_unknown_or_make_no_sense_are_refused_by_name() {
    let mut cluster = Cluster::new("flags", &Options::servers(1));
    let server = cluster.server(0);
    let good = server.flags.clone();

    server.flags.push("--no-such-flag".to_owned());
    assert_says(&server.start_in_vain().await, &["--no-such-flag"]);
    server.flags.clone_from(&good);
    server.set_flag("--election-timeout", "soon");
    assert_says(&server.start_in_vain().await, &["--election-timeout", "soon"]);
    server.set_flag("--election-timeout", "100");
    assert_says(&server.start_in_vain().await, &["--election-timeout", "--heartbeat-interval"]);
    server.flags.clone_from(&good);
    server.set_flag("--initial-cluster", "n7=http://127.0.0.1:1");
    assert_says(&server.start_in_vain().await, &["--initial-cluster", "n7", "n1"]);
    server.set_flag("--initial-cluster", "n1");
    assert_says(&server.start_in_vain().await, &["--initial-cluster", "`n1`"]);
    server.flags.clone_from(&good);
    server.set_flag("--listen-client-urls", "ftp://127.0.0.1:1");
    assert_says(&server.start_in_vain().await, &["--listen-client-urls", "ftp://127.0.0.1:1"]);
    assert!(!server.data_dir.exists(), "nothing was touched on the disk");
    cluster.finish();
}

#[tokio::test]
async fn a_memory_without_room_for_a_request_is_refused_with_what_would_do() {
    let mut cluster = Cluster::new("memory", &Options::servers(1));
    let server = cluster.server(0);
    server.flags.extend(["--memory-bytes-max", "1000000"].map(str::to_owned));
    let said = server.start_in_vain().await;
    assert_says(&said, &["1000000 bytes is too small", "commands of up to 2097152 bytes"]);
    let words = said.split_once("expected ").map(|(_, words)| words).unwrap_or_default();
    let would_do = words.split(' ').next().unwrap_or_default().to_owned();
    server.set_flag("--memory-bytes-max", &would_do);
    cluster.start_all().await;
    cluster.client(0).put("large", "v".repeat(1 << 20)).await.unwrap();
    cluster.finish();
}

#[tokio::test]
async fn a_port_in_use_is_named_and_the_process_that_has_it_is_not_disturbed() {
    let mut cluster = Cluster::started("used-port", 3).await;
    write_before_the_trouble(&cluster).await;
    let taken = [cluster.server(0).client.url(), cluster.server(0).peer.url()];

    let mut other = Cluster::new("used-port-other", &Options::servers(1));
    for (flag, url) in ["--listen-client-urls", "--listen-peer-urls"].iter().zip(taken) {
        let server = other.server(0);
        let good = server.flags.clone();
        server.set_flag(flag, &url);
        let address = url.trim_start_matches("http://");
        assert_says(&server.start_in_vain().await, &[address, "in use"]);
        server.flags = good;
    }
    other.start_all().await;
    other.finish();
    assert_unharmed(&mut cluster).await;
    cluster.finish();
}

#[tokio::test]
async fn a_data_folder_that_another_process_has_is_refused() {
    let mut cluster = Cluster::started("used-folder", 3).await;
    write_before_the_trouble(&cluster).await;
    let folder = cluster.server(0).data_dir.to_str().unwrap().to_owned();
    let pid = cluster.server(0).pid().unwrap().to_string();
    let flags = cluster.server(0).flags.clone();

    // The same node once more, by mistake: only its own ports tell it from the first.
    let mut twin = Cluster::new("used-folder-twin", &Options::servers(1));
    let server = twin.server(0);
    let (client, peer) = (server.client.url(), server.peer.url());
    server.flags = flags;
    server.set_flag("--listen-client-urls", &client);
    server.set_flag("--listen-peer-urls", &peer);
    assert_says(&server.start_in_vain().await, &[&folder, "in use by process", &pid]);
    twin.finish();
    assert_unharmed(&mut cluster).await;
    cluster.finish();
}

#[tokio::test]
async fn a_data_folder_of_another_node_or_another_cluster_is_refused_untouched() {
    let mut cluster = Cluster::started("other-folder", 3).await;
    write_before_the_trouble(&cluster).await;
    let second = cluster.server(1).data_dir.clone();
    for index in [0, 1] {
        assert!(cluster.server(index).terminate().await.success());
    }
    let before = contents(&second);

    let first = cluster.server(0);
    let good = first.flags.clone();
    first.set_flag("--data-dir", second.to_str().unwrap());
    let said = first.start_in_vain().await;
    let folder = second.to_str().unwrap();
    assert_says(&said, &[folder, "data folder of another node", "name n2", "name n1"]);
    first.flags = good;

    let server = cluster.server(1);
    let good = server.flags.clone();
    server.set_flag("--initial-cluster-token", "another-cluster");
    let said = server.start_in_vain().await;
    assert_says(&said, &[folder, "data folder of another node", "nothing was changed"]);
    server.flags = good;

    assert_eq!(changed(&before, &contents(&second)), Vec::<PathBuf>::new());
    cluster.server(0).start();
    cluster.server(1).start();
    assert_unharmed(&mut cluster).await;
    cluster.finish();
}

#[tokio::test]
async fn a_log_that_was_damaged_where_it_was_durable_is_refused_untouched() {
    let mut cluster = Cluster::started("damaged", 3).await;
    write_before_the_trouble(&cluster).await;
    cluster.assert_equal_replicas().await;
    // A crash, so that nothing of the log can have been tidied away.
    cluster.server(2).kill();
    let folder = cluster.server(2).data_dir.clone();
    let (log, offset) = find(&folder, b"needle-010");
    let whole = fs::read(&log).unwrap();
    for bit in [0_u8, 7] {
        let mut damaged = whole.clone();
        damaged[offset + 9] ^= 1 << bit;
        fs::write(&log, &damaged).unwrap();
        let before = contents(&folder);

        let said = cluster.server(2).start_in_vain().await;
        assert_says(&said, &[log.to_str().unwrap(), "is damaged at byte", "Nothing was changed"]);
        assert_eq!(changed(&before, &contents(&folder)), Vec::<PathBuf>::new());
    }
    // The others do without it; and what is repaired serves again.
    cluster.put_until_acknowledged(&[0, 1], "meanwhile", "two of three").await;
    fs::write(&log, &whole).unwrap();
    cluster.restart(2).await;
    assert_unharmed(&mut cluster).await;
    cluster.finish();
}

#[tokio::test]
async fn a_flipped_bit_in_the_state_file_is_never_served() {
    let mut cluster = Cluster::started("damaged-state", 3).await;
    write_before_the_trouble(&cluster).await;
    cluster.assert_equal_replicas().await;
    // A clean stop moves everything into the file. That keeps its last two commits, and goes back to
    // the older one, and the log from there, if the newer is damaged: so both have to hold it.
    assert!(cluster.server(2).terminate().await.success());
    cluster.restart(2).await;
    assert!(cluster.server(2).terminate().await.success());
    let state = cluster.server(2).data_dir.join("state");
    let whole = fs::read(&state).unwrap();
    let mut damaged = whole.clone();
    for place in places(&whole, b"needle-010") {
        damaged[place + 9] ^= 1;
    }
    assert_ne!(damaged, whole, "the value is in the file");
    fs::write(&state, &damaged).unwrap();
    let said = cluster.server(2).start_in_vain().await;
    assert_says(&said, &[state.to_str().unwrap(), "is damaged", "Move that file away"]);

    // A file that is whole, and that could not be written in an earlier life.
    fs::write(&state, &whole).unwrap();
    let marker = state.with_added_extension("suspect");
    fs::write(&marker, "").unwrap();
    let said = cluster.server(2).start_in_vain().await;
    let marker = marker.to_str().unwrap();
    assert_says(&said, &[marker, "cannot be believed", "Move that file away"]);

    // What the words say helps: the log gives it all back.
    cluster.put_until_acknowledged(&[0, 1], "meanwhile", "two of three").await;
    fs::remove_file(&state).unwrap();
    cluster.restart(2).await;
    assert_unharmed(&mut cluster).await;
    cluster.finish();
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_with_etcds_words() {
    let mut cluster = Cluster::started("too-large", 3).await;
    write_before_the_trouble(&cluster).await;
    for index in cluster.indexes() {
        let client = cluster.client(index);
        let (code, message) = message_of(client.put("large", vec![b'x'; 10 << 20]).await);
        assert_eq!(code, Code::ResourceExhausted, "{message}");
        assert_says(&message, &["grpc: received message larger than max (", "vs. 2097152)"]);
        let (code, message) = message_of(client.put("large", vec![b'x'; 1_600_000]).await);
        assert_eq!(
            (code, message.as_str()),
            (Code::InvalidArgument, "etcdserver: request is too large")
        );
        client.put("at-the-limit", vec![b'x'; 1_500_000]).await.unwrap();

        let address = cluster.server(index).client.address();
        let body = format!(r#"{{"key":"bGFyZ2U=","value":"{}"}}"#, "eHh4".repeat((10 << 20) / 3));
        let answer = http::post(&address, "/v3/kv/put", &body);
        assert!((400..500).contains(&answer.status), "{} {}", answer.status, answer.body);
        assert!(cluster.client(index).get("large").await.unwrap().is_none(), "it is not stored");
    }
    assert_unharmed(&mut cluster).await;
    cluster.finish();
}

#[tokio::test]
async fn strangers_on_the_peer_port_are_turned_away_and_disturb_nobody() {
    let mut cluster = Cluster::started("peer-port", 3).await;
    write_before_the_trouble(&cluster).await;
    let mut rng = Rng::new(seed(), 1);
    let mut waiting = Vec::new();
    for index in cluster.indexes() {
        let address = cluster.server(index).peer.address();
        for bytes in peer_garbage(&mut rng) {
            hang_up_after(&address, &bytes);
        }
        // Half of a header, and nothing at all: these stay open.
        for part in [&[9_u8, 0, 0][..], &[]] {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(part).unwrap();
            waiting.push(stream);
        }
        cluster.server(index).logged("a caller was not let in").await;
    }
    assert_unharmed(&mut cluster).await;
    drop(waiting);
    cluster.finish();
}

/// Bytes that are no handshake: noise, other protocols, and frames that lie about their length or
/// their checksum.
fn peer_garbage(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [1, 8, 100, 5000].map(|count| rng.bytes(count)).into();
    all.push(b"GET /raft HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    let frame = |length: u32, body: &[u8]| [&length.to_le_bytes(), &[1, 2, 3, 4], body].concat();
    all.push(frame(u32::MAX, b"QUORATE\n"));
    all.push(frame(0, b""));
    all.push(frame(16, b"\x60QUORATE\nxxxxxxx"));
    all
}

#[tokio::test]
async fn noise_on_the_client_port_is_refused_and_other_clients_are_served_meanwhile() {
    let mut options = Options::servers(3);
    options.more.push(("--log-level".to_owned(), "debug".to_owned()));
    let mut cluster = Cluster::new("client-port", &options);
    cluster.start_all().await;
    write_before_the_trouble(&cluster).await;
    let mut rng = Rng::new(seed(), 2);
    let mut half_open = Vec::new();
    for index in cluster.indexes() {
        let address = cluster.server(index).client.address();
        for part in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"POST /v3/kv/put HTTP/1.1\r\n"] {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(part).unwrap();
            half_open.push(stream);
        }
        for bytes in client_garbage(&mut rng) {
            hang_up_after(&address, &bytes);
        }
        let refused = http::post(&address, "/v3/kv/put", "\u{1}\u{2}{{{");
        assert_eq!(refused.status, 400, "{}", refused.body);
        cluster.server(index).logged("rejected connection on client endpoint").await;
        cluster.client(index).put("meanwhile", "served").await.unwrap();
    }
    assert_unharmed(&mut cluster).await;
    drop(half_open);
    cluster.finish();
}

/// Noise, also behind a beginning that promises HTTP/1.1 or HTTP/2.
fn client_garbage(rng: &mut Rng) -> Vec<Vec<u8>> {
    let openings: [&[u8]; 4] = [
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v3/kv/put HTTP/1.1\r\n",
        b"\x16\x03\x01",
    ];
    let with_noise = |opening: &&[u8]| [opening, &rng.bytes(600)[..]].concat();
    openings.iter().map(with_noise).collect()
}

/// Sends bytes, says that no more will come, and waits until the server hangs up.
fn hang_up_after(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(harness::PATIENCE)).unwrap();
    // The server may hang up in the middle of it, as is its right.
    let _sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let is_reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(is_reset, "expected the server to hang up: {error}");
    }
}

/// Every file below a folder with its bytes, but for the lock, which names the last process that
/// tried.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The files that are not as they were.
fn changed(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
) -> Vec<PathBuf> {
    let all = before.keys().chain(after.keys());
    let mut paths: Vec<PathBuf> =
        all.filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    paths.dedup();
    paths
}

/// The log file below a folder that holds these bytes, and where.
fn find(folder: &Path, bytes: &[u8]) -> (PathBuf, usize) {
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "wal");
    let files = contents(folder).into_iter().filter(|(path, _)| is_log(path));
    let mut places = files.filter_map(|(path, text)| {
        Some((path, text.windows(bytes.len()).position(|window| window == bytes)?))
    });
    places.next().expect("what was acknowledged is in the log")
}

/// Where these bytes are in a text.
fn places(text: &[u8], bytes: &[u8]) -> Vec<usize> {
    let windows = text.windows(bytes.len()).enumerate();
    windows.filter(|(_, window)| *window == bytes).map(|(place, _)| place).collect()
}
