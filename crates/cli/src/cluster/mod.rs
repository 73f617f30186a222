//! `quorate cluster`: several nodes on this machine, for trying out and for tests. Each is a process
//! of its own, started with `quorate serve` as anybody would; nothing here is in a node's way.

mod command;
mod plan;
mod process;
mod screen;
mod supervisor;
mod watch;

use crate::client::runtime;
use anyhow::Context;
use plan::Plan;
use std::path::PathBuf;
use supervisor::Supervisor;

const EXAMPLES: &str = "\
Examples:
  quorate cluster                                        three nodes at etcd's usual addresses
  quorate cluster --nodes 5 --data-dir /tmp/five
  quorate cluster --base-client-port 4000 --data-dir /tmp/c  clients at 4000, 4010, 4020
  quorate cluster -- --election-timeout 500 --heartbeat-interval 50   flags for every node

While it runs, type: start|stop|kill|pause|resume NODE, status, quit. Ctrl-C stops all nodes.
The data stays in the folder; the next start with it goes on from there.";

/// Runs a cluster on this machine, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=7))]
    nodes: u16,
    /// Where their data is: a folder for each below it
    #[arg(long, default_value = "./quorate-data", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// The first node's port for clients; its peers' is one higher, the next node's ten higher
    /// [default: 2379, 22379, 32379, ...]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_client_port: Option<u16>,
    /// Further flags of `quorate serve`, for every node
    #[arg(last = true, value_name = "SERVE FLAGS")]
    serve_flags: Vec<String>,
}

/// Runs the cluster until somebody stops it.
///
/// # Errors
///
/// If it cannot be started: a port in use, a folder of another cluster, no node that comes up.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let data_dir = std::path::absolute(&options.data_dir).context("finding the data folder")?;
    let plan = Plan::new(&data_dir, options.nodes, options.base_client_port, &options.serve_flags)?;
    plan.check_ports()?;
    plan.claim_folder()?;
    let program = std::env::current_exe().context("finding this program's own file")?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async { Supervisor::start(plan, program)?.run().await });
    // The thread that reads standard input may be waiting there forever.
    runtime.shutdown_background();
    outcome
}
