//! The `quorate` binary: reads the command line and hands over to the command's own file. Holds no
//! rule of the protocol, the store or the server.

mod bench;
mod client;
mod cluster;
mod output;
mod serve;
mod sim;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Many small buffers are allocated in one thread and freed in another on the way of a request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Try it:
  quorate cluster                       three nodes on this machine, until Ctrl-C
  quorate put greeting hello            (in another terminal)
  quorate get greeting
  quorate get --prefix g -w json
  quorate watch --prefix g
  quorate status

Any etcd v3 client works too:
  etcdctl --endpoints=127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379 get greeting";

/// A replicated key-value store that etcd's clients can use, in one program.
#[derive(Parser)]
#[command(name = "quorate", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a cluster on this machine, until Ctrl-C
    Cluster(cluster::Options),
    /// Runs one node of a cluster
    Serve(Box<serve::Flags>),
    /// Stores a value under a key
    Put(client::Put),
    /// Shows a key, or a range of keys
    Get(client::Get),
    /// Removes a key, or a range of keys
    Del(client::Del),
    /// Does several things in one step, depending on what the keys hold
    Txn(client::Txn),
    /// Shows changes of a key, or of a range of keys, as they happen
    Watch(client::Watch),
    /// Keys that live only as long as somebody renews their lease
    Lease(client::Lease),
    /// Forgets what keys held before a revision
    Compaction(client::Compaction),
    /// Shows who leads and how far each endpoint is
    Status(client::Status),
    /// Shows who belongs to the cluster, and changes it
    Member(client::Member),
    /// Shows and clears the alarms of the cluster
    Alarm(client::Alarm),
    /// Lets another member lead
    MoveLeader(client::MoveLeader),
    /// Saves a backup, and shows what is in one
    Snapshot(client::Snapshot),
    /// Shows a digest of what each endpoint holds
    #[command(name = "hashkv")]
    HashKv(client::HashKv),
    /// Does nothing, since nothing needs to be done; for scripts made for etcd
    Defrag(client::Defrag),
    /// Puts a cluster under load and measures it
    Bench(bench::Options),
    /// Runs clusters in virtual time, under faults, with judges
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // etcd's rules ask whether a flag was given, not only what it says.
    let is_set = |flag: &str| {
        let source = matches.subcommand().and_then(|(_, verb)| verb.value_source(flag));
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    };
    let is_sim = matches!(arguments.verb, Verb::Sim(_));
    match run(arguments.verb, is_set) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            // A script must be able to tell what a judge found from a wrong flag.
            let has_no_result = is_sim && !sim::is_finding(&error);
            if has_no_result { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(verb: Verb, is_set: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    match verb {
        Verb::Cluster(options) => cluster::run(&options),
        Verb::Serve(flags) => serve::run(&flags, is_set),
        Verb::Put(verb) => client::run(verb),
        Verb::Get(verb) => client::run(verb),
        Verb::Del(verb) => client::run(verb),
        Verb::Txn(verb) => client::run(verb),
        Verb::Watch(verb) => client::run(verb),
        Verb::Lease(verb) => client::run(verb),
        Verb::Compaction(verb) => client::run(verb),
        Verb::Status(verb) => client::run(verb),
        Verb::Member(verb) => client::run(verb),
        Verb::Alarm(verb) => client::run(verb),
        Verb::MoveLeader(verb) => client::run(verb),
        Verb::Snapshot(verb) => client::run(verb),
        Verb::HashKv(verb) => client::run(verb),
        Verb::Defrag(verb) => client::run(verb),
        Verb::Bench(options) => bench::run(&options),
        Verb::Sim(options) => sim::run(&options),
    }
}
