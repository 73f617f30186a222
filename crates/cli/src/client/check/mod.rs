//! `quorate check`. Puts a cluster under one of etcd's four loads and says whether it bears it, or how much
//! memory the data takes. Must not know how load is made.

mod load;
mod memory;
mod tally;

use super::connection::{Address, Connection, Kind};
use super::ending::Ending;
use super::session::Signals;
use super::wire::Wire;
use super::{ClientVerb, KeyRange};
use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use load::Load;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, RangeRequest,
};
use std::ffi::OsString;
use std::time::Duration;
use tally::Tally;

/// How long the keys of a check may take to be deleted, and their history to be forgotten.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  quorate check perf                    a minute of 150 writes a second by 50 clients
  quorate check perf --load l           8000 a second by 500
  quorate check datascale --load m      a hundred thousand keys of a kilobyte
The load is put under --prefix, where there must be nothing, and is deleted afterwards. Do not try the larger
loads on a cluster that somebody needs.";

/// Puts the cluster under load, and says whether it bears it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Check {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Whether the cluster is fast enough
    Perf(Perf),
    /// How much memory an endpoint takes for a lot of keys: the first one that is named
    Datascale(Datascale),
}

#[derive(Debug, clap::Args)]
struct Perf {
    /// Which load: small, medium, large or very large
    #[arg(long, value_enum, default_value_t = Size::S)]
    load: Size,
    /// Where its keys are put; nothing may be there
    #[arg(long, default_value = "/etcdctl-check-perf/")]
    prefix: String,
    /// How long it lasts
    #[arg(long, default_value = "60s", value_parser = super::parse_duration, value_name = "TIME")]
    duration: Duration,
    #[command(flatten)]
    after: After,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
struct Datascale {
    /// Which load: small, medium, large or very large
    #[arg(long, value_enum, default_value_t = Size::S)]
    load: Size,
    /// Where its keys are put; nothing may be there
    #[arg(long, default_value = "/etcdctl-check-datascale/")]
    prefix: String,
    #[command(flatten)]
    after: After,
    #[command(flatten)]
    connection: Connection,
}

/// What is done once the keys are deleted.
#[derive(Debug, clap::Args)]
struct After {
    /// Forget the keys' history afterwards
    #[arg(long)]
    auto_compact: bool,
    /// Free the space in the endpoints' files afterwards, where that is necessary
    #[arg(long)]
    auto_defrag: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Size {
    #[value(alias = "small")]
    S,
    #[value(alias = "medium")]
    M,
    #[value(alias = "large")]
    L,
    #[value(alias = "xLarge")]
    Xl,
}

impl Size {
    /// How many clients there are, as in etcdctl.
    const fn clients_count(self) -> usize {
        match self {
            Self::S => 50,
            Self::M => 200,
            Self::L => 500,
            Self::Xl => 1000,
        }
    }

    /// How many writes a second they shall do.
    const fn writes_per_second(self) -> u32 {
        match self {
            Self::S => 150,
            Self::M => 1000,
            Self::L => 8000,
            Self::Xl => 15000,
        }
    }

    /// How many keys are written.
    const fn keys_count(self) -> u64 {
        match self {
            Self::S => 10_000,
            Self::M => 100_000,
            Self::L => 1_000_000,
            Self::Xl => 3_000_000,
        }
    }
}

impl ClientVerb for Check {
    async fn execute(self) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        match self.verb {
            Verb::Perf(verb) => verb.run(&mut signals).await,
            Verb::Datascale(verb) => verb.run(&mut signals).await,
        }
    }
}

impl Perf {
    async fn run(&self, signals: &mut Signals) -> anyhow::Result<()> {
        let (key_bytes, value_bytes) = (256, 1024);
        let field = Field::claim(&self.prefix, &self.connection).await?;
        let rate = self.load.writes_per_second();
        let load = Load {
            prefix: &self.prefix,
            key_bytes,
            value_bytes,
            period: Duration::from_secs(1) / rate,
            lasts: Some(self.duration),
            keys_count_max: u64::MAX,
            request_timeout: self.connection.command_timeout,
        };
        let tally = field.bear(&load, self.load.clients_count(), signals).await;
        let revision = field.clear().await;
        let tally = tally?;
        match revision {
            Ok(revision) => self.after.run(&field, revision).await?,
            // As in etcdctl, this is no verdict about the load.
            Err(error) => println!("FAIL: Cleanup failed during key deletion: ERROR({error:#})"),
        }
        if verdict(&tally, rate) { Ok(()) } else { Err(Ending::CheckFailed.into()) }
    }
}

/// Says what is good enough and what is not, in etcdctl's words; whether all is.
fn verdict(tally: &Tally, rate: u32) -> bool {
    let mut is_good = true;
    let mut judge = |passes: bool, good: String, bad: String| {
        println!("{}", if passes { good } else { bad });
        is_good &= passes;
    };
    if let Some(errors) = tally.errors() {
        judge(false, String::new(), errors);
    }
    let writes = tally.per_second();
    // As etcdctl rounds it.
    let shown = writes.floor() + 1.0;
    judge(
        writes / f64::from(rate) > 0.9,
        format!("PASS: Throughput is {shown} writes/s"),
        format!("FAIL: Throughput too low: {shown} writes/s"),
    );
    let slowest = tally.slowest_seconds();
    judge(
        slowest <= 0.5,
        format!("PASS: Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    );
    let deviation = tally.deviation_seconds();
    judge(
        deviation <= 0.1,
        format!("PASS: Stddev is {deviation:.6}s"),
        format!("Stddev too high: {deviation:.6}s"),
    );
    println!("{}", if is_good { "PASS" } else { "FAIL" });
    is_good
}

impl Datascale {
    async fn run(&self, signals: &mut Signals) -> anyhow::Result<()> {
        let (key_bytes, value_bytes) = (512, 512);
        let field = Field::claim(&self.prefix, &self.connection).await?;
        let measured =
            self.connection.addresses().await?.first().context("no endpoint is named")?;
        let before = memory::resident_bytes(&self.connection, measured).await?;
        let (keys_count, clients_count) = (self.load.keys_count(), self.load.clients_count());
        println!(
            "Start data scale check for work load [{keys_count} key-value pairs, {} bytes per \
             key-value, {clients_count} concurrent clients].",
            key_bytes + value_bytes
        );
        let load = Load {
            prefix: &self.prefix,
            key_bytes,
            value_bytes,
            period: Duration::ZERO,
            lasts: None,
            keys_count_max: keys_count,
            request_timeout: self.connection.command_timeout,
        };
        let tally = field.bear(&load, clients_count, signals).await;
        let after = memory::resident_bytes(&self.connection, measured).await;
        let revision = field.clear().await;
        let (tally, after) = (tally?, after?);
        self.after.run(&field, revision?).await?;
        if let Some(errors) = tally.errors() {
            println!("{errors}");
            return Err(Ending::CheckFailed.into());
        }
        println!(
            "PASS: Approximate system memory used : {:.2} MB.",
            (after - before) / f64::from(1 << 20)
        );
        Ok(())
    }
}

/// Where the keys of a check are, and the connections that put them there.
struct Field<'a> {
    prefix: &'a str,
    connection: &'a Connection,
}

impl<'a> Field<'a> {
    /// Sees that nothing is there.
    async fn claim(prefix: &'a str, connection: &'a Connection) -> anyhow::Result<Self> {
        let field = Self { prefix, connection };
        let live = connection.live().await?;
        let mut kv = live.kv();
        let KeyRange { key, range_end } = field.range();
        let request = RangeRequest { key, range_end, limit: 1, ..RangeRequest::default() };
        let call = kv.range(connection.request(request));
        let found = connection.answer(&live, Kind::Read, call).await?;
        if !found.kvs.is_empty() {
            return Err(Ending::NotEmpty { prefix: prefix.to_owned() }.into());
        }
        Ok(field)
    }

    fn range(&self) -> KeyRange {
        KeyRange::new(&OsString::from(self.prefix), None, true, false)
    }

    /// Puts the cluster under a load, from so many clients with a connection each.
    async fn bear(
        &self,
        load: &Load<'_>,
        clients_count: usize,
        signals: &mut Signals,
    ) -> anyhow::Result<Tally> {
        let wires = self.wires(clients_count).await?;
        tokio::select! {
            tally = load.run(wires) => Ok(tally),
            () = signals.next() => Err(Ending::Interrupted.into()),
        }
    }

    /// Connections to the endpoints that answer, in turn.
    async fn wires(&self, count: usize) -> anyhow::Result<Vec<Wire>> {
        let dialler = self.connection.dialler();
        let mut alive: Vec<&Address> = Vec::new();
        for address in self.connection.addresses().await? {
            if dialler.dial(address).await.is_ok() {
                alive.push(address);
            }
        }
        let mut wires = Vec::with_capacity(count);
        for address in alive.iter().cycle().take(count) {
            let wire = dialler.dial(address).await;
            wires.push(wire.map_err(anyhow::Error::msg).with_context(|| address.to_string())?);
        }
        anyhow::ensure!(!wires.is_empty(), "no endpoint answers any more");
        Ok(wires)
    }

    /// Deletes the keys; returns at which revision.
    async fn clear(&self) -> anyhow::Result<i64> {
        let connection =
            &Connection { command_timeout: CLEANUP_TIMEOUT, ..self.connection.clone() };
        let live = connection.live().await?;
        let mut kv = live.kv();
        let KeyRange { key, range_end } = self.range();
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        let call = kv.delete_range(connection.request(request));
        let deleted = connection.answer(&live, Kind::Write, call).await?;
        Ok(deleted.header.map_or(0, |header| header.revision))
    }
}

impl After {
    async fn run(&self, field: &Field<'_>, revision: i64) -> anyhow::Result<()> {
        let connection =
            &Connection { command_timeout: CLEANUP_TIMEOUT, ..field.connection.clone() };
        if self.auto_compact {
            println!("Compacting with revision {revision}");
            let live = connection.live().await?;
            let mut kv = live.kv();
            let request = CompactionRequest { revision, physical: true };
            let call = kv.compact(connection.request(request));
            connection.answer(&live, Kind::Write, call).await?;
            println!("Compacted with revision {revision}");
        }
        if self.auto_defrag {
            for address in connection.addresses().await? {
                println!("Defragmenting \"{}\"", address.as_given());
                let wire = connection.dialler().dial(address).await.map_err(anyhow::Error::msg)?;
                let mut maintenance = MaintenanceClient::new(wire);
                let request = connection.request(DefragmentRequest {});
                maintenance.defragment(request).await.with_context(|| address.to_string())?;
                println!("Defragmented \"{}\"", address.as_given());
            }
        }
        Ok(())
    }
}

/// The bytes of a key or a value: `size` of them, of which the first are `start`.
fn filled(start: &[u8], size: usize) -> Bytes {
    let mut bytes = start.to_vec();
    bytes.resize(size, 0);
    bytes.into()
}
