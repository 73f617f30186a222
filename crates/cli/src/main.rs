//! The `quorate` binary: reads the command line and hands over to the command's own file. Holds no
//! rule of the protocol, the store or the server.

mod backup_file;
mod bench;
mod client;
mod cluster;
mod dns;
mod etcdctl;
mod go;
mod output;
mod program;
mod serve;
mod sim;
mod wal;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use program::Program;
use std::ffi::OsString;
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
    /// Waits for a lock, and holds it
    Lock(client::Lock),
    /// Takes part in an election, or shows who leads
    Elect(client::Elect),
    /// Keys that live only as long as somebody renews their lease
    Lease(client::Lease),
    /// Forgets what keys held before a revision
    Compaction(client::Compaction),
    /// Shows who leads and how far each endpoint is
    Status(client::Status),
    /// Shows what each endpoint says of itself
    Endpoint(client::Endpoint),
    /// Shows who belongs to the cluster, and changes it
    Member(client::Member),
    /// Asks everybody who they are, or nobody
    Auth(client::Auth),
    /// Shows who may log in, and changes it
    User(client::User),
    /// Shows what roles permit, and changes it
    Role(client::Role),
    /// Shows and clears the alarms of the cluster
    Alarm(client::Alarm),
    /// Lets another member lead
    MoveLeader(client::MoveLeader),
    /// Saves a backup, shows what is in one, and begins a new cluster with one
    Snapshot(client::Snapshot),
    /// Copies keys to another cluster, and follows their changes
    MakeMirror(client::MakeMirror),
    /// Looks at a node's log on the disk, offline and read-only
    Wal(wal::Wal),
    /// Begins a new cluster with what is left of one whose quorum is lost for good
    Recover(Box<serve::Recover>),
    /// Shows a digest of what each endpoint holds
    #[command(name = "hashkv")]
    HashKv(client::HashKv),
    /// Makes the state files of endpoints as small as they can be
    Defrag(client::Defrag),
    /// Puts the cluster under load, and says whether it bears it
    Check(client::Check),
    /// Prints the version
    Version,
    /// Puts a cluster under load and measures it
    Bench(bench::Options),
    /// Runs clusters in virtual time, under faults, with judges
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let program = Program::called(words.first());
    let is_serve = words.get(1).is_some_and(|word| word == SERVE);
    let behind = match program {
        Program::Etcd => Some(1),
        Program::Etcdctl => return etcdctl::run(words.get(1..).unwrap_or_default()),
        Program::Quorate => is_serve.then_some(2),
    };
    // A node's settings come from more places than clap knows.
    match behind.and_then(|count| words.get(count..)) {
        Some(words) => exit_code(serve::run(program, words, serve_command()), program, false),
        None => run_verb(&words),
    }
}

/// The verb that runs a node.
const SERVE: &str = "serve";

fn serve_command() -> clap::Command {
    <serve::Flags as clap::Args>::augment_args(clap::Command::new(SERVE))
}

fn run_verb(words: &[OsString]) -> ExitCode {
    let command = client::with_variables(Arguments::command());
    let command = command.mut_subcommand(SERVE, serve::with_variables);
    let matches = command.try_get_matches_from(words).unwrap_or_else(|error| {
        client::name_variable(&error);
        error.exit()
    });
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let is_sim = matches!(arguments.verb, Verb::Sim(_));
    exit_code(run(arguments.verb), Program::Quorate, is_sim)
}

/// Says what went wrong. A script must be able to tell what a judge found from a wrong flag.
fn exit_code(outcome: anyhow::Result<()>, program: Program, is_sim: bool) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(ending) = error.downcast_ref::<client::Ending>() {
        return ending.code().map_or(ExitCode::SUCCESS, |code| {
            output::complain(&error);
            ExitCode::from(code)
        });
    }
    output::complain(&error);
    if let Some(refusal) = error.downcast_ref::<serve::Refusal>() {
        return ExitCode::from(refusal.exit_code(program));
    }
    let has_no_result = is_sim && !sim::is_finding(&error);
    if has_no_result { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Cluster(options) => cluster::run(&options),
        // Whoever says it otherwise than first, as `quorate help serve`, does not come here.
        Verb::Serve(flags) => {
            anyhow::bail!("expected `quorate serve --name {} ...`, the verb first", flags.name)
        }
        Verb::Put(verb) => client::run(verb),
        Verb::Get(verb) => client::run(verb),
        Verb::Del(verb) => client::run(verb),
        Verb::Txn(verb) => client::run(verb),
        Verb::Watch(verb) => client::run(verb),
        Verb::Lock(verb) => client::run(verb),
        Verb::Elect(verb) => client::run(verb),
        Verb::Lease(verb) => client::run(verb),
        Verb::Compaction(verb) => client::run(verb),
        Verb::Status(verb) => client::run(verb),
        Verb::Endpoint(verb) => client::run(verb),
        Verb::Member(verb) => client::run(verb),
        Verb::Auth(verb) => client::run(verb),
        Verb::User(verb) => client::run(verb),
        Verb::Role(verb) => client::run(verb),
        Verb::Alarm(verb) => client::run(verb),
        Verb::MoveLeader(verb) => client::run(verb),
        Verb::Snapshot(verb) => client::run(verb),
        Verb::MakeMirror(verb) => client::run(verb),
        Verb::Wal(verb) => wal::run(&verb),
        Verb::Recover(verb) => verb.run(),
        Verb::HashKv(verb) => client::run(verb),
        Verb::Defrag(verb) => client::run(verb),
        Verb::Check(verb) => client::run(verb),
        Verb::Version => Ok(output::text(&Program::own_version_text())?),
        Verb::Bench(options) => bench::run(&options),
        Verb::Sim(options) => sim::run(&options),
    }
}
