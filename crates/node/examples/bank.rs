//! A bank on three nodes: transfers that take effect once, however often they are sent.
//!
//!     cargo run -p quorate --example bank
//!
//! Customers send transfers while the leaders change under them, again and again, and send each one
//! a second time on purpose, through another node. At the end no coin is missing and none too many, and the bank has
//! booked exactly the transfers that were acknowledged.

use quorate::{
    Committed, Consistency, Fatal, Fate, LogId, LogIndex, Node, QueryError, Replies, Session,
    SnapshotView, StateMachine,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const CUSTOMERS: u64 = 8;
const TRANSFERS_EACH: u64 = 50;
const OPENING_BALANCE: u64 = 100;

/// What is replicated: balances, and how many transfers were booked.
#[derive(Clone, Default)]
struct Bank {
    balances: BTreeMap<u64, u64>,
    booked_count: u64,
}

impl Bank {
    /// A command is "from to amount".
    fn transfer(&mut self, command: &str) -> Option<String> {
        let mut words = command.split(' ').map(str::parse::<u64>);
        let (from, to) = (words.next()?.ok()?, words.next()?.ok()?);
        let amount = words.next()?.ok()?;
        let balance = |bank: &Self, who| *bank.balances.get(who).unwrap_or(&OPENING_BALANCE);
        let left = balance(self, &from).checked_sub(amount)?;
        self.balances.insert(from, left);
        self.balances.insert(to, balance(self, &to) + amount);
        self.booked_count += 1;
        Some(format!("booked as number {}", self.booked_count))
    }

    fn text(&self) -> String {
        let rows = self.balances.iter().map(|(who, balance)| format!("{who}:{balance}"));
        format!("{} {}", self.booked_count, rows.collect::<Vec<_>>().join(" "))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let booked_count = words.next()?.parse().ok()?;
        let balances = words.filter_map(|word| {
            let (who, balance) = word.split_once(':')?;
            Some((who.parse().ok()?, balance.parse().ok()?))
        });
        Some(Self { booked_count, balances: balances.collect() })
    }
}

impl StateMachine for Bank {
    fn applied(&self) -> LogIndex {
        LogIndex::ORIGIN
    }

    /// Nothing here knows of sessions: a command arrives once.
    fn apply(&mut self, batch: &[Committed], replies: &mut Replies) -> Result<(), Fatal> {
        for Committed { command, .. } in batch {
            let booked = std::str::from_utf8(command).ok().and_then(|text| self.transfer(text));
            replies.push(booked.unwrap_or_else(|| "refused".to_owned()));
        }
        Ok(())
    }

    fn query(&self, _: &[u8]) -> Result<bytes::Bytes, QueryError> {
        Ok(self.text().into())
    }

    fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
        Ok(Box::new(Frozen(self.text())))
    }

    fn restore(&mut self, _: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
        let mut text = String::new();
        source.read_to_string(&mut text).map_err(|error| Fatal::caused_by("no snapshot", error))?;
        *self = Self::parse(&text).ok_or_else(|| Fatal::new("no snapshot of a bank"))?;
        Ok(())
    }
}

struct Frozen(String);

impl SnapshotView for Frozen {
    fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
        target.write_all(self.0.as_bytes())
    }
}

/// One customer: sends transfers, each at least twice. Returns how many were booked.
async fn spend(session: Session, nodes: Vec<Node>, customer: u64) -> Result<u64, String> {
    let mut booked_count = 0;
    for round in 0..TRANSFERS_EACH {
        let to = (customer + 1 + round) % CUSTOMERS;
        let transfer = session
            .command(format!("{customer} {to} {}", round % 7))
            .map_err(|refusal| refusal.to_string())?;
        let mut told = Vec::new();
        for node in nodes.iter().cycle().skip(usize::try_from(round).unwrap_or(0)).take(2) {
            match transfer.send_through(node, PATIENCE).await {
                Fate::Applied { reply, .. } => told.push(reply),
                fate @ (Fate::NotAppended(_)
                | Fate::Lost { .. }
                | Fate::Unknown(_)
                | Fate::Refused(_)) => {
                    return Err(format!("customer {customer} was told {fate:?}"));
                }
            }
        }
        if told.first() != told.last() {
            return Err(format!("one transfer, two answers: {told:?}"));
        }
        booked_count += u64::from(told.iter().all(|reply| reply.starts_with(b"booked")));
    }
    Ok(booked_count)
}

/// Three nodes, wherever there are free ports.
async fn start(dir: &std::path::Path) -> Result<Vec<Node>, Box<dyn Error>> {
    let (mut listeners, mut members, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=3_u64 {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        members.push((id, listener.local_addr()?.to_string()));
        listeners.push((id, listener));
    }
    for (id, listener) in listeners {
        let mut node = Node::builder(id, dir.join(id.to_string())).listener(listener);
        for (member, address) in &members {
            node = node.member(*member, address.clone());
        }
        nodes.push(node.start(Bank::default()).await?);
    }
    Ok(nodes)
}

/// Hands leadership on as long as customers spend: each time somebody's transfer is in doubt.
async fn unrest(nodes: Vec<Node>) {
    for node in nodes.iter().cycle() {
        if node.status().is_leader() {
            drop(node.transfer_leadership(None).await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("quorate-bank-{}", std::process::id()));
    let nodes = start(&dir).await?;
    let unrest = tokio::spawn(unrest(nodes.clone()));
    let mut customers = Vec::new();
    for (customer, node) in (0..CUSTOMERS).zip(nodes.iter().cycle()) {
        let session = node.open_session(PATIENCE).await?;
        customers.push(tokio::spawn(spend(session, nodes.clone(), customer)));
    }
    let mut acknowledged_count = 0;
    for customer in customers {
        acknowledged_count += customer.await??;
    }
    unrest.abort();
    for node in &nodes {
        let text = node.read("the books", Consistency::Linearizable, PATIENCE).await?;
        let bank = Bank::parse(std::str::from_utf8(&text)?).ok_or("the books are no books")?;
        let total: u64 = bank.balances.values().sum();
        println!("node {}: {} booked, {total} coins", node.status().id, bank.booked_count);
        let expected = OPENING_BALANCE * u64::try_from(bank.balances.len())?;
        if (bank.booked_count, total) != (acknowledged_count, expected) {
            return Err("a transfer was lost, or booked twice".into());
        }
    }
    println!("{acknowledged_count} transfers were acknowledged, each sent twice, booked once");
    for node in nodes {
        node.stop().await;
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_transfer_is_booked_once_although_it_is_sent_twice_and_leaders_change() {
        super::main().unwrap();
    }
}
