//! Three nodes inside one process, for a program's own tests: take them down and bring them back, and
//! see that your machine does not mind. The scenario is `main`, and a test as well:
//!
//!     cargo run -p quorate --example embedded
//!     cargo test -p quorate --example embedded
//!
//! These are real nodes with real logs, sockets and clocks. To break more than can be broken here,
//! and in virtual time, see `docs/book/testing.md`.

use quorate::{
    Consistency, Json, LogId, Node, NodeId, Options, ProposeError, StartError, TypedMachine,
    TypedNode,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
/// After so long a command is sent again: whoever was asked may be gone.
const SOON: Duration = Duration::from_secs(1);

/// The machine to be tested: a list to which everybody adds.
#[derive(Default)]
struct List(Vec<String>);

impl TypedMachine for List {
    type Command = String;
    type Reply = usize; // how many there are then
    type Query = ();
    type Answer = Vec<String>;
    type Snapshot = Vec<String>;
    type Codec = Json;

    fn apply(&mut self, _: LogId, word: String) -> usize {
        self.0.push(word);
        self.0.len()
    }

    fn query(&self, (): ()) -> Vec<String> {
        self.0.clone()
    }

    fn snapshot(&self) -> Vec<String> {
        self.0.clone()
    }

    fn restore(&mut self, words: Vec<String>) {
        self.0 = words;
    }
}

/// Three nodes, some of them up.
struct Cluster {
    dir: PathBuf,
    addresses: BTreeMap<u64, String>,
    up: BTreeMap<u64, TypedNode<List>>,
}

impl Cluster {
    /// Finds three free ports; nobody is up yet.
    fn new(dir: PathBuf) -> std::io::Result<Self> {
        let mut listeners = Vec::new();
        for id in 1..=3 {
            listeners.push((id, TcpListener::bind("127.0.0.1:0")?));
        }
        let mut addresses = BTreeMap::new();
        for (id, listener) in listeners {
            addresses.insert(id, listener.local_addr()?.to_string());
        }
        Ok(Self { dir, addresses, up: BTreeMap::new() })
    }

    /// What a node has is in its folder: the same call begins it and brings it back.
    async fn start(&mut self, id: u64) -> Result<(), StartError> {
        // A test has no time to wait for an election.
        let options = Options {
            heartbeat_interval: Duration::from_millis(30),
            election_timeout: Duration::from_millis(300),
            ..Options::default()
        };
        let mut builder = Node::builder(id, self.dir.join(id.to_string())).options(options);
        for (member, address) in &self.addresses {
            builder = builder.member(*member, address.clone());
        }
        self.up.insert(id, builder.start_typed(List::default()).await?);
        Ok(())
    }

    async fn stop(&mut self, id: u64) {
        if let Some(node) = self.up.remove(&id) {
            node.stop().await;
        }
    }

    fn someone(&self) -> Result<&TypedNode<List>, &'static str> {
        self.up.values().next().ok_or("nobody is up")
    }

    /// Whoever leads. No sleeping: the node says when it knows.
    async fn leader(&self) -> Result<u64, Box<dyn Error>> {
        let mut changes = self.someone()?.node().status_changes();
        let is_up = |leader: NodeId| self.up.contains_key(&leader.get());
        let status = changes.wait_for(|status| status.leader.is_some_and(is_up)).await?;
        Ok(status.leader.map_or(0, NodeId::get))
    }

    /// Adds a word, in a session: it is sent again while leaders come and go, and added once.
    async fn add(&self, word: &str) -> Result<usize, Box<dyn Error>> {
        let session = loop {
            match self.someone()?.open_session(SOON).await {
                Ok(session) => break session,
                Err(error) => println!("once more: {error}"),
            }
        };
        let command = session.command(&word.to_owned())?;
        loop {
            match command.send(SOON).await {
                Err(error @ (ProposeError::Unknown(_) | ProposeError::NotAppended(_))) => {
                    println!("once more: {error}");
                }
                known => return Ok(known?),
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("quorate-embedded-{}", std::process::id()));
    let mut cluster = Cluster::new(dir.clone())?;
    for id in 1..=3 {
        cluster.start(id).await?;
    }
    assert_eq!(cluster.add("one").await?, 1);

    let leader = cluster.leader().await?;
    cluster.stop(leader).await;
    println!("node {leader} led and is down; node {} leads", cluster.leader().await?);
    assert_eq!(cluster.add("two").await?, 2);

    // A second one down: nobody may decide anything, and nobody pretends to.
    let second = cluster.leader().await?;
    cluster.stop(second).await;
    let soon = Duration::from_millis(50);
    let error = cluster.someone()?.propose(&"three".to_owned(), soon).await;
    println!("with one of three: {}", error.err().ok_or("one node is no majority")?);

    cluster.start(leader).await?;
    cluster.start(second).await?;
    cluster.add("four").await?;
    for (id, node) in &cluster.up {
        let words = node.read(&(), Consistency::Linearizable, PATIENCE).await?;
        println!("node {id} has {words:?}");
        // Whether "three" was added is not known: its caller was told so, or that it was not.
        let without_three: Vec<_> = words.iter().filter(|word| *word != "three").collect();
        assert_eq!(without_three, ["one", "two", "four"]);
    }
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_acknowledged_is_there_whoever_goes_and_comes_back() {
        super::main().unwrap();
    }
}
