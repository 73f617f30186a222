//! The clients of the key-value lab: they ask one server after the other until one has answered,
//! and append exactly once however often they have to ask. Knows no faults.
//!
//! A value in the store is a name of eight bytes; what it stands for is kept beside the store, in
//! [`Contents`]: the value that it was appended to, and what was appended. An append replaces the
//! value that the clerk has seen (`Swap`, a transaction). Each attempt writes a name of its own, so
//! that comparing values is as good as comparing versions: nothing ever returns to an earlier one.
//! A clerk that does not know whether its write took effect reads what is there, and looks into it.

use crate::stage::{Stage, World, millis};
use quorate_sim::kv::{KeyOp, KeyReply, KvApplication, KvOptions, Value};
use quorate_sim::{ClusterOptions, Findings, Outcome};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Names are this far apart: the store's client pads a value by its remainder.
const NAME_STEP: u64 = 200;

/// The first name; those below belong to the final scan.
const NAME_FIRST: u64 = NAME_STEP << 32;

/// One appended piece: who appended it, and as its which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Piece {
    pub(crate) client: u64,
    pub(crate) number: u64,
}

/// What the values stand for.
#[derive(Default)]
pub(crate) struct Contents(BTreeMap<Value, (Option<Value>, Piece)>);

impl Contents {
    /// A new name for what `before` stands for, with a piece appended.
    fn name(&mut self, before: Option<Value>, piece: Piece) -> Value {
        let value = NAME_FIRST + NAME_STEP * self.0.len() as u64;
        self.0.insert(value, (before, piece));
        value
    }

    /// The pieces of a value, in order.
    fn pieces(&self, value: Option<Value>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut next = value;
        while let Some(value) = next {
            let (before, piece) = self.0[&value];
            pieces.push(piece);
            next = before;
        }
        pieces.reverse();
        pieces
    }
}

/// What an attempt came to.
enum Attempt {
    Answered(KeyReply),
    /// It had no effect.
    Refused,
    /// It may or may not have had an effect, or have one later.
    InDoubt,
}

/// A client.
#[derive(Clone)]
pub(crate) struct Clerk {
    world: Rc<World<KvApplication>>,
    contents: Rc<RefCell<Contents>>,
    /// The servers that it can reach.
    servers: Vec<u64>,
    /// The one that it asks, by its place.
    place: usize,
    /// What a key held when this clerk last wrote or read it.
    known: BTreeMap<String, Option<Value>>,
}

/// How long a server tries to carry out what a clerk asks.
const PATIENCE: Duration = Duration::from_millis(500);

/// Half of the default, and as short as ten heartbeats a second allow: partitions come and go about
/// every second, and would not let anybody be elected.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a clerk rests when it has asked everybody in vain.
const REST_MS: u64 = 20;

impl Clerk {
    /// A clerk that can reach these servers.
    pub(crate) fn new(kv: &Kv, servers: impl IntoIterator<Item = u64>) -> Self {
        let (world, contents) = (kv.stage.world(), Rc::clone(&kv.contents));
        let servers = Vec::from_iter(servers);
        Self { world, contents, servers, place: 0, known: BTreeMap::new() }
    }

    /// The pieces of a key's value.
    pub(crate) async fn get(&mut self, key: &str) -> Vec<Piece> {
        let value = self.read(key).await;
        self.contents.borrow().pieces(value)
    }

    /// Appends a piece to a key's value, once.
    pub(crate) async fn append(&mut self, key: &str, piece: Piece) {
        self.write(key, piece, |seen| seen).await;
    }

    /// Makes this piece the whole value of a key. If an attempt of unknown outcome was carried out
    /// and then replaced by somebody else's write, the piece is put a second time.
    pub(crate) async fn put(&mut self, key: &str, piece: Piece) {
        self.write(key, piece, |_| None).await;
    }

    /// A number below `bound`, by the seed.
    pub(crate) fn random(&self, bound: u64) -> u64 {
        self.world.random(bound)
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        self.world.sleep(duration).await;
    }

    /// Does nothing for at most so many milliseconds.
    pub(crate) async fn think(&self, max_ms: u64) {
        self.sleep(millis(self.random(max_ms))).await;
    }

    /// Cuts the network in two, and nowhere else.
    pub(crate) fn partition(&self, one: Vec<u64>, two: Vec<u64>) {
        let mut cluster = self.world.cluster();
        cluster.mend_network();
        cluster.partition(one, two);
    }

    async fn write(
        &mut self,
        key: &str,
        piece: Piece,
        base: impl Fn(Option<Value>) -> Option<Value>,
    ) {
        let mut is_in_doubt = false;
        loop {
            let seen = match self.known.get(key) {
                Some(seen) => *seen,
                None => self.read(key).await,
            };
            if is_in_doubt && self.contents.borrow().pieces(seen).contains(&piece) {
                return;
            }
            let value = self.contents.borrow_mut().name(base(seen), piece);
            let swap = KeyOp::Swap { expected: seen, value };
            match self.attempt(key, swap).await {
                Attempt::Answered(KeyReply::Swapped) => {
                    self.known.insert(key.to_owned(), Some(value));
                    return;
                }
                Attempt::Answered(KeyReply::NotSwapped(found)) => {
                    self.known.insert(key.to_owned(), found);
                }
                Attempt::Answered(reply) => panic!("{swap:?} is answered by {reply:?}"),
                Attempt::Refused => {}
                Attempt::InDoubt => {
                    is_in_doubt = true;
                    self.known.remove(key);
                }
            }
        }
    }

    async fn read(&mut self, key: &str) -> Option<Value> {
        loop {
            match self.attempt(key, KeyOp::Get).await {
                Attempt::Answered(KeyReply::Held(held)) => {
                    self.known.insert(key.to_owned(), held);
                    return held;
                }
                Attempt::Answered(reply) => panic!("a read is answered by {reply:?}"),
                Attempt::Refused | Attempt::InDoubt => {}
            }
        }
    }

    /// Asks the present server; if that leads to nothing, the next one is the present one.
    async fn attempt(&mut self, key: &str, what: KeyOp) -> Attempt {
        let server = self.servers[self.place % self.servers.len()];
        let outcome =
            self.world.ask(server, |store, op, moment| store.ask(op, moment, key, what)).await;
        if let Some(reply) = KvApplication::reply(what, &outcome) {
            return Attempt::Answered(reply);
        }
        self.place += 1;
        if self.place.is_multiple_of(self.servers.len()) {
            self.world.sleep(millis(REST_MS)).await;
        }
        match outcome {
            Outcome::NoEffect | Outcome::Refused { .. } => Attempt::Refused,
            Outcome::Unknown => Attempt::InDoubt,
            Outcome::Applied { .. } | Outcome::Read { .. } | Outcome::Weak { .. } => {
                panic!("{what:?} is answered by {outcome:?}")
            }
        }
    }
}

/// A key-value lab: a cluster that serves, and what its values stand for.
pub(crate) struct Kv {
    pub(crate) stage: Stage<KvApplication>,
    contents: Rc<RefCell<Contents>>,
}

impl Kv {
    /// A lab whose servers hold their logs below `log_bytes_max`, if that is given, by snapshots.
    /// The store itself is volatile: what a crash leaves is log and snapshot.
    pub(crate) fn new(seed: u64, server_count: u64, log_bytes_max: Option<u64>) -> Self {
        let mut options = ClusterOptions::calm(seed, server_count);
        options.patience = PATIENCE;
        options.raft.election_timeout = ELECTION_TIMEOUT;
        options.driver.compact_log_count = u64::MAX;
        options.driver.compact_log_bytes = log_bytes_max.unwrap_or(u64::MAX);
        options.driver.retain_log_count = 0;
        // The lab counts every byte, and has nothing kept for who is away.
        options.driver.catch_up_log_bytes_max = 0;
        let store = KvApplication::new(KvOptions { is_volatile: true, ..KvOptions::default() });
        Self { stage: Stage::new(options, store), contents: Rc::default() }
    }

    pub(crate) fn servers(&self) -> Vec<u64> {
        self.stage.cluster().node_ids()
    }

    pub(crate) fn crash_everybody(&self) {
        self.servers().into_iter().for_each(|server| self.stage.cluster().crash(server));
    }

    pub(crate) fn restart_everybody(&self) {
        self.servers().into_iter().for_each(|server| self.stage.cluster().restart(server));
    }

    pub(crate) fn leader(&self) -> u64 {
        self.stage.cluster().leader().expect("a leader")
    }

    /// The largest log of a server that is up, in bytes.
    pub(crate) fn largest_log(&self) -> u64 {
        let mut cluster = self.stage.cluster();
        let servers = cluster.node_ids().into_iter();
        servers.filter_map(|server| cluster.log_bytes(server)).max().unwrap_or_default()
    }

    /// A log may grow as large as the snapshot that replaces it.
    pub(crate) fn largest_snapshot(&self) -> u64 {
        let mut cluster = self.stage.cluster();
        let servers = cluster.node_ids().into_iter();
        servers.filter_map(|server| cluster.snapshot_bytes(server)).max().unwrap_or_default()
    }

    pub(crate) fn put(&mut self, clerk: &Clerk, key: &str, piece: Piece) {
        let (mut clerk, key) = (clerk.clone(), key.to_owned());
        self.stage.run(async move { clerk.put(&key, piece).await });
    }

    pub(crate) fn get(&mut self, clerk: &Clerk, key: &str) -> Vec<Piece> {
        let (mut clerk, key) = (clerk.clone(), key.to_owned());
        self.stage.run(async move { clerk.get(&key).await })
    }

    /// A transaction that expects what no key ever held.
    pub(crate) fn swap_in_vain(&mut self, clerk: &Clerk, key: &str) {
        let (mut clerk, key) = (clerk.clone(), key.to_owned());
        let swap = KeyOp::Swap { expected: Some(NAME_STEP), value: 2 * NAME_STEP };
        self.stage.run(async move {
            assert!(!matches!(
                clerk.attempt(&key, swap).await,
                Attempt::Answered(KeyReply::Swapped)
            ));
        });
    }

    /// Every judge has its say; the checker must have come to a verdict on every key.
    pub(crate) fn finish(self) -> Findings {
        let findings = self.stage.finish();
        assert!(findings.checked_count > 0, "nothing was checked");
        assert_eq!(findings.undecided_count, 0, "a history that the checker gave up on");
        findings
    }
}
