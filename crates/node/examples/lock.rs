//! A lock service on three nodes: who holds a lock holds it until it is given back or its time is up,
//! and every holder has a higher token than the one before.
//!
//!     cargo run -p quorate --example lock
//!
//! A lock that runs out is of no use without its token: who held it may have been away for a while
//! and not know. So whatever the lock protects takes the token with each write, and refuses one that
//! is lower than another that it has seen.
//!
//! No clock is read where commands are applied, or replicas would differ: the time stands in the
//! command, as whoever proposed it saw it, and the state keeps the latest.

use quorate::{Consistency, Json, LogId, Node, ProposeError, TypedMachine, TypedNode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Seconds of the service's clock.
type Seconds = u64;

/// What is replicated.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Locks {
    /// The latest time in any command. It never goes back, whoever's clock does.
    now: Seconds,
    held: BTreeMap<String, Hold>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hold {
    holder: String,
    token: u64,
    until: Seconds,
}

#[derive(Serialize, Deserialize)]
struct Command {
    now: Seconds,
    lock: String,
    holder: String,
    what: What,
}

#[derive(Serialize, Deserialize)]
enum What {
    /// Take it, or hold it for longer.
    Acquire {
        for_seconds: Seconds,
    },
    Release,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Reply {
    Held { token: u64, until: Seconds },
    HeldBy(Hold),
    Free,
}

impl Locks {
    fn acquire(&mut self, token: u64, command: Command, for_seconds: Seconds) -> Reply {
        let until = self.now + for_seconds;
        let hold = self.held.entry(command.lock).or_insert_with(|| Hold {
            holder: command.holder.clone(),
            token,
            until,
        });
        if hold.holder != command.holder {
            return Reply::HeldBy(hold.clone());
        }
        hold.until = until;
        Reply::Held { token: hold.token, until }
    }

    fn release(&mut self, command: &Command) -> Reply {
        match self.held.get(&command.lock) {
            Some(hold) if hold.holder != command.holder => Reply::HeldBy(hold.clone()),
            Some(_) | None => {
                self.held.remove(&command.lock);
                Reply::Free
            }
        }
    }
}

impl TypedMachine for Locks {
    type Command = Command;
    type Reply = Reply;
    type Query = String;
    type Answer = Option<Hold>;
    type Snapshot = Self;
    type Codec = Json;

    fn apply(&mut self, log_id: LogId, command: Command) -> Reply {
        self.now = self.now.max(command.now);
        let now = self.now;
        self.held.retain(|_, hold| hold.until > now);
        match command.what {
            // An entry's index is higher than that of every entry before: all that a token needs.
            What::Acquire { for_seconds } => self.acquire(log_id.index.get(), command, for_seconds),
            What::Release => self.release(&command),
        }
    }

    fn query(&self, lock: String) -> Option<Hold> {
        self.held.get(&lock).cloned()
    }

    fn snapshot(&self) -> Self {
        self.clone()
    }

    fn restore(&mut self, snapshot: Self) {
        *self = snapshot;
    }
}

/// A client of the service, whose clock is told what time it is.
struct Client {
    name: &'static str,
    node: TypedNode<Locks>,
}

impl Client {
    async fn acquire(&self, now: Seconds, lock: &str) -> Result<Reply, ProposeError> {
        self.ask(now, lock, What::Acquire { for_seconds: 10 }).await
    }

    /// Both commands may be repeated: whoever holds the lock goes on holding it.
    async fn ask(&self, now: Seconds, lock: &str, what: What) -> Result<Reply, ProposeError> {
        let (lock, holder) = (lock.to_owned(), self.name.to_owned());
        let command = Command { now, lock, holder, what };
        loop {
            match self.node.propose(&command, PATIENCE).await {
                Err(error) if error.is_without_effect() => println!("  once more: {error}"),
                Err(ProposeError::Unknown(doubt)) => println!("  once more: {doubt}"),
                other => return other,
            }
        }
    }
}

/// What the lock protects: it has seen tokens, and believes none that is older.
#[derive(Default)]
struct Storage {
    highest_token: u64,
    text: String,
}

impl Storage {
    fn write(&mut self, token: u64, text: &str) -> bool {
        let is_believed = token >= self.highest_token;
        if is_believed {
            self.highest_token = token;
            text.clone_into(&mut self.text);
        }
        is_believed
    }
}

async fn start(dir: &std::path::Path) -> Result<[TypedNode<Locks>; 3], Box<dyn Error>> {
    let (mut listeners, mut members, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=3_u64 {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        members.push((id, listener.local_addr()?.to_string()));
        listeners.push((id, listener));
    }
    for (id, listener) in listeners {
        let mut builder = Node::builder(id, dir.join(id.to_string())).listener(listener);
        for (member, address) in &members {
            builder = builder.member(*member, address.clone());
        }
        nodes.push(builder.start_typed(Locks::default()).await?);
    }
    nodes.try_into().map_err(|_| "three nodes".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("quorate-lock-{}", std::process::id()));
    let [one, two, three] = start(&dir).await?;
    let ann = Client { name: "ann", node: one.clone() };
    let ben = Client { name: "ben", node: two.clone() };
    let eve = Client { name: "eve", node: three.clone() };
    let mut storage = Storage::default();

    let (first, second) = tokio::join!(ann.acquire(0, "report"), ben.acquire(0, "report"));
    let (first, second) = (first?, second?);
    println!("at  0 s ann is told {first:?}, and ben {second:?}");
    // Whoever of the two was first: the other is told who.
    let (holder, other, token) = match (first, second) {
        (Reply::Held { token, .. }, Reply::HeldBy(hold)) if hold.token == token => {
            (&ann, &ben, token)
        }
        (Reply::HeldBy(hold), Reply::Held { token, .. }) if hold.token == token => {
            (&ben, &ann, token)
        }
        both => return Err(format!("one of two shall have the lock: {both:?}").into()),
    };
    println!("      {} writes: {}", holder.name, storage.write(token, "half of the report"));

    let reply = other.acquire(5, "report").await?;
    println!("at  5 s {} is told {reply:?}; {} is not heard of any more", other.name, holder.name);
    let reply = other.acquire(10, "report").await?;
    println!("at 10 s {} is told {reply:?}", other.name);
    let Reply::Held { token: higher, .. } = reply else { return Err("it has run out".into()) };
    println!("      {} writes: {}", other.name, storage.write(higher, "the whole report"));

    // The first one is back, and does not know how long it was away.
    let is_believed = storage.write(token, "the rest of the report");
    println!("      {} is back and writes: {is_believed}", holder.name);
    if is_believed || higher <= token || storage.text != "the whole report" {
        return Err("a lock that had run out was believed".into());
    }
    let reply = holder.ask(11, "report", What::Release).await?;
    println!("at 11 s {} gives it back and is told {reply:?}", holder.name);
    let reply = other.ask(11, "report", What::Release).await?;
    println!("      {} gives it back and is told {reply:?}", other.name);
    let reply = eve.acquire(11, "report").await?;
    println!("      eve is told {reply:?}");
    let held = eve.node.read(&"report".to_owned(), Consistency::Linearizable, PATIENCE).await?;
    if held.is_none_or(|hold| hold.holder != "eve" || hold.token <= higher) {
        return Err("eve does not have the lock that she was given".into());
    }
    for node in [one, two, three] {
        node.stop().await;
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_lock_that_has_run_out_is_anothers_and_its_old_token_is_not_believed() {
        super::main().unwrap();
    }
}
