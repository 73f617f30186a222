//! `quorate serve`: one node. Turns etcd's flags into settings, puts the rooms together, and stops
//! them in order. Holds no rule of any of them.

mod access;
mod auth_token;
mod clients;
mod discovery;
mod flags;
mod folder;
mod forced;
mod given;
mod go;
mod ids;
mod initial_cluster;
mod instead;
mod join;
mod log;
mod near;
mod notify;
mod peers;
mod recorder;
mod recover;
mod renewals;
mod restore;
mod retention;
mod state;
mod tls;
mod url;
mod workshop;

pub(crate) use flags::Flags;
pub(crate) use given::{Refusal, with_variables};
pub(crate) use initial_cluster::{InitialCluster, InitialClusterError};
pub(crate) use recover::Recover;
pub(crate) use restore::Restore;
pub(crate) use url::HttpUrl;

use crate::client::runtime;
use crate::program::Program;
use anyhow::{Context, bail};
use clap::FromArgMatches;
use clients::Door;
use discovery::Origin;
use flags::{ClusterState, Settings};
use given::{Asked, Settled};
use initial_cluster::InitialMember;
use quorate::{
    Configuration, Consistency, DiskWatch, DriverOptions, Member, MemberRole, Node, NodeFailure,
    NodeOptions, Options, PeerTls, ProtocolVersion,
};
use quorate_kv::Reader;
use quorate_server::{MemberContext, ServerOptions};
use quorate_tls::Tls;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Read;
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The state's file below the data folder, beside `wal` and `snapshots`.
const STATE_FILE: &str = "state";
/// What helps against damage of that file; "move" comes before it.
const REMEDY: &str = "that file away and start again: the log gives the state back if it still \
                      reaches that far, and the start says so if not";
/// Connections that wait to be accepted, at each address: as many as come at once when clients find a member
/// again that was gone.
const WAITING_CONNECTIONS_MAX: i32 = 65_535;
/// Between two attempts to find out whether there is a quorum.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(100);
/// etcd gives a request this long, and two election timeouts.
const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);
/// How much larger than its request a command is at most.
const COMMAND_OVERHEAD_BYTES: usize = 512 << 10;
/// After a change of the leader a renewal may wait two seconds for its fate before it is tried with
/// the new one: no lease ends sooner, however short the election timeout is.
const LEASE_TAKEOVER_GRACE_MIN: Duration = Duration::from_secs(3);

/// Runs a node until it is told to stop, with what `words`, the environment or a config file say;
/// `command` is clap's of the verb.
///
/// # Errors
///
/// If the settings make no sense, an address or the folder cannot be had, or the node fails.
pub(crate) fn run(
    program: Program,
    words: &[OsString],
    command: clap::Command,
) -> anyhow::Result<()> {
    let mut command = with_variables(manners(program, command));
    match given::settle(program, words, std::env::vars_os())? {
        Asked::Help => Ok(command.print_help()?),
        Asked::Version => Ok(crate::output::text(&Program::version_text())?),
        Asked::Start(settled) => {
            start(program, &settled, command).map_err(|error| settled.explain(error))
        }
    }
}

/// What is different under the name `etcd`.
fn manners(program: Program, command: clap::Command) -> clap::Command {
    match program {
        Program::Quorate | Program::Etcdctl => command.bin_name("quorate serve"),
        Program::Etcd => command
            .name("etcd")
            .bin_name("etcd")
            .mut_arg("log_format", |format| format.default_value("json"))
            .mut_arg("data_dir", |folder| {
                folder.help("Where it keeps its data [default: NAME.etcd]")
            }),
    }
}

fn start(program: Program, settled: &Settled, command: clap::Command) -> anyhow::Result<()> {
    let matches = settled.matches(command)?;
    let mut flags = Flags::from_arg_matches(&matches)?;
    if program == Program::Etcd && flags.data_dir.is_none() {
        flags.data_dir = Some(format!("{}.etcd", flags.name).into());
    }
    // As in etcd, who writes a file may leave out where clients find this node.
    let is_advertised = settled.has_file() || given::is_set(&matches, "advertise_client_urls");
    let is_bound = given::is_set(&matches, "listen_client_urls");
    let settings = flags.settings(is_advertised || !is_bound)?;
    log::start(flags.log_level, flags.log_format, &flags.log_outputs)?;
    settled.tell();
    for substitute in flags.substitutes() {
        tracing::warn!("{substitute}");
    }
    node(&flags, settings)
}

fn node(flags: &Flags, mut settings: Settings) -> anyhow::Result<()> {
    // Everything that can be refused is refused before the folder is touched.
    settings.auth_tokens = auth_token::auth_tokens(&flags.auth_token)?;
    let given = flags.clients.given(&flags.tls, &flags.listen_client_urls)?;
    let doors = flags.clients.doors(&flags.listen_client_urls, given.is_some())?;
    let urls = &flags.listen_peer_urls;
    let security = flags.peers.given(&flags.tls, urls, flags.discovery.server_name())?;
    let sockets = urls.iter().map(|url| listen(url, "--listen-peer-urls"));
    let sockets = sockets.collect::<anyhow::Result<Vec<_>>>()?;
    let runtime = runtime()?;
    let typed = forced::recall(flags, &mut settings)?;
    let mut wish = None;
    if settings.discovery.is_some() {
        match runtime.block_on(found_out(flags, &mut settings))? {
            ControlFlow::Continue(caught) => wish = Some(caught),
            ControlFlow::Break(why) => {
                tracing::info!("stopping: {why}");
                return Ok(());
            }
        }
    }
    if flags.initial_cluster_state == ClusterState::Existing {
        runtime.block_on(join::recognise(&mut settings, &flags.name, &security.tls))?;
    }
    let (data_dir, wal_dir) = (&settings.data_dir, settings.wal_dir.as_deref());
    folder::claim(data_dir, wal_dir, &settings.cluster, &flags.name)?;
    forced::begin(flags, &mut settings, &typed)?;
    let tls = match given {
        Some(tls) => Some(tls),
        None => flags.clients.made(&flags.tls, &settings.data_dir, &flags.listen_client_urls)?,
    };
    let security = flags.peers.made(security, &flags.tls, &settings.data_dir, urls)?;
    runtime.block_on(serve(flags, &settings, (doors, tls), Peers { sockets, security }, wish))
}

/// Comes with a reason once the process should stop.
type StopWish = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Asks who the members are, which may take as long as the others need to come. Breaks with a reason if
/// the process should stop first; otherwise signals are caught from here on.
async fn found_out(
    flags: &Flags,
    settings: &mut Settings,
) -> anyhow::Result<ControlFlow<&'static str, StopWish>> {
    let mut wish: StopWish = Box::pin(stop_wish(flags.exit_with_parent)?);
    tokio::select! {
        found = discovery::discover(settings, flags) => found?,
        why = &mut wish => return Ok(ControlFlow::Break(why)),
    }
    Ok(ControlFlow::Continue(wish))
}

/// Where the other members call, one socket for each URL, and what is shown to them.
struct Peers {
    sockets: Vec<TcpListener>,
    security: PeerTls,
}

async fn serve(
    flags: &Flags,
    settings: &Settings,
    (doors, tls): (Vec<Door>, Option<Arc<Tls>>),
    peers: Peers,
    wish: Option<StopWish>,
) -> anyhow::Result<()> {
    // Signals are caught from here on, so that a stop during recovery is a clean one too.
    let stop_wish = match wish {
        Some(wish) => wish,
        None => Box::pin(stop_wish(flags.exit_with_parent)?),
    };
    let wishes = recorder::wishes()?;
    let asking = Arc::clone(&peers.security.tls);
    let (node, reader) = start_node(flags, settings, peers).await?;
    folder::record_owner(&settings.data_dir, &settings.cluster, &flags.name)?;
    let clients = doors.into_iter().map(|door| door.open(tls.as_ref()));
    let clients = clients.collect::<anyhow::Result<Vec<_>>>().context("listening for clients")?;
    let (failing, state) = (node.clone(), reader.clone());
    let stop = async {
        tokio::select! {
            why = state.failed() => tracing::error!("stopping: the state has failed: {why}"),
            why = stop_wish => tracing::info!("stopping: {why}"),
            version = removed(flags, settings, &failing, &asking) => farewell(flags, settings, version),
            // The reason is told below.
            _ = failing.failure() => {}
            // It goes on, and is not waited for.
            never = announce(&failing, settings) => match never {},
            never = recorder::record(wishes, &failing, &settings.data_dir) => match never {},
        }
    };
    let served =
        quorate_server::serve(clients, node.clone(), reader, server_options(flags, settings), stop)
            .await;
    let failure = stop_node(node).await;
    served.context("serving clients")?;
    // It comes before what the node makes of it.
    if let Some(why) = state.failure() {
        let path = settings.data_dir.join(STATE_FILE);
        bail!(
            "the state in {} has failed, and the node with it: {why}. If that comes again after \
             another start, move {REMEDY}",
            path.display()
        );
    }
    match failure.as_deref() {
        None | Some(NodeFailure::Stopped) => Ok(()),
        Some(failure) => bail!("the node failed: {failure}"),
    }
}

/// Says, once, that clients are served: when this node is in touch with a quorum, as etcd does.
async fn announce(node: &Node, settings: &Settings) -> Infallible {
    let patience = settings.election_timeout;
    while node.read_barrier(Consistency::Linearizable, patience).await.is_err() {
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
    }
    tracing::info!("ready to serve client requests");
    match notify::ready() {
        Ok(true) => tracing::info!("successfully notified init daemon"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
    std::future::pending().await
}

/// Waits until this node knows that it was removed from the cluster.
async fn removed(flags: &Flags, settings: &Settings, node: &Node, tls: &Arc<Tls>) -> u64 {
    const ELECTION_TIMEOUTS: u32 = 10;
    let others = join::addresses(&settings.cluster.members, &flags.name);
    join::removed(node, &others, tls, settings.election_timeout * ELECTION_TIMEOUTS).await
}

/// As in etcd, a server that was removed ends, and this is no failure: somebody wanted it.
fn farewell(flags: &Flags, settings: &Settings, version: u64) {
    tracing::error!(
        name = flags.name,
        member = format!("{:x}", settings.cluster.own_id),
        configuration = version,
        "this server was removed from the cluster, and stops. Its data folder {}, with its log, is of \
         no use any more; a server that takes its place needs an empty one, and `quorate member add`",
        settings.data_dir.display()
    );
}

/// Stops the node if it still runs; returns why it failed otherwise.
async fn stop_node(node: Node) -> Option<Arc<NodeFailure>> {
    // A failure that came first is the one that counts.
    let failed = tokio::select! {
        biased;
        failure = node.failure() => Some(failure),
        () = std::future::ready(()) => None,
    };
    node.stop().await;
    failed
}

async fn start_node(
    flags: &Flags,
    settings: &Settings,
    peers: Peers,
) -> anyhow::Result<(Node, Reader)> {
    let path = settings.data_dir.join(STATE_FILE);
    let disk = DiskWatch::new();
    let (reader_sender, reader) = oneshot::channel();
    let builder = Node::builder(settings.cluster.own_id, &settings.data_dir)
        .cluster_id(settings.cluster.cluster_id);
    let builder = match &settings.wal_dir {
        Some(wal_dir) => builder.wal_dir(wal_dir),
        None => builder,
    };
    let Settings { cluster, client_urls, .. } = settings;
    let builder = match (flags.initial_cluster_state, settings.origin) {
        (ClusterState::New, Origin::Alike) => builder.members(founders(cluster, client_urls)),
        (ClusterState::New, Origin::Nameless) => {
            builder.members(founders(&cluster.without_names(), &BTreeMap::new()))
        }
        (ClusterState::Existing, _) | (ClusterState::New, Origin::Folder) => builder.join(),
    };
    let advertised = settings.cluster.members.iter().find(|member| member.name == flags.name);
    let builder = builder.listen(advertised.map(InitialMember::peer_address).unwrap_or_default());
    let entrances = flags.listen_peer_urls.iter().zip(peers.sockets);
    let builder = entrances.fold(builder, |builder, (url, socket)| {
        if url.is_secure() { builder.listener(socket) } else { builder.plain_listener(socket) }
    });
    let builder = if flags.rebuild_state {
        let path = path.clone();
        builder.rebuild_state(move || state::set_aside(&path))
    } else {
        builder
    };
    let mut node_options =
        NodeOptions { disk_reserve_bytes: flags.disk_reserve, ..NodeOptions::default() };
    let builder = if flags.memory_bytes_max == 0 {
        builder
    } else {
        // What room there must be follows from the largest command.
        let command_bytes_max = flags.max_request_bytes.saturating_add(COMMAND_OVERHEAD_BYTES);
        node_options.command_bytes_max = node_options.command_bytes_max.min(command_bytes_max);
        builder.memory_bytes_max(flags.memory_bytes_max)
    };
    let node = builder
        .peer_tls(peers.security)
        .options(Options {
            heartbeat_interval: settings.heartbeat_interval,
            election_timeout: settings.election_timeout,
            ..Options::default()
        })
        .driver_options(DriverOptions {
            compact_log_count: flags.snapshot_count.unwrap_or(u64::MAX),
            snapshot_bytes_per_second: flags.snapshot_rate,
            scrub_bytes_per_second: flags.scrub_rate,
            protocol_version: ProtocolVersion::new(flags.protocol_version_max),
            // As in etcd: who asks while a leader is elected waits for as long as for anything else.
            leaderless_wait: request_timeout(settings),
            ..DriverOptions::default()
        })
        .node_options(node_options)
        .disk_watch(disk.clone())
        .start_with(move || {
            let (machine, reader) = state::open(&path, disk)?;
            // Who waits for it below has gone only if the start is given up.
            let _gone = reader_sender.send(reader);
            Ok(machine)
        })
        .await
        .with_context(|| format!("starting from {}", settings.data_dir.display()))?;
    let reader = reader.await.context("the state was not opened")?;
    Ok((node, reader))
}

/// The first configuration: the same on all members, as long as what they are told of it is.
fn founders(
    cluster: &InitialCluster,
    client_urls: &BTreeMap<String, Vec<HttpUrl>>,
) -> Configuration {
    let strings = |urls: &[HttpUrl]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    let member = |member: &InitialMember| {
        let client_urls = client_urls.get(&member.name).map(Vec::as_slice);
        let context = MemberContext {
            name: member.name.clone(),
            client_urls: strings(client_urls.unwrap_or_default()),
            peer_urls: strings(&member.peer_urls),
        };
        let (address, context) = (member.peer_address(), context.to_bytes());
        (member.id.into(), Member { role: MemberRole::Voter, rank: 0, address, context })
    };
    Configuration::new(0, cluster.members.iter().map(member).collect())
}

/// How long a request may take.
fn request_timeout(settings: &Settings) -> Duration {
    REQUEST_TIMEOUT_BASE + settings.election_timeout * 2
}

fn server_options(flags: &Flags, settings: &Settings) -> ServerOptions {
    flags.access.apply_to(ServerOptions {
        request_bytes_max: flags.max_request_bytes,
        txn_ops_max: flags.max_txn_ops,
        request_timeout: request_timeout(settings),
        leaderless_timeout: settings.election_timeout * 3,
        lease_takeover_grace: (settings.election_timeout * 3).max(LEASE_TAKEOVER_GRACE_MIN),
        lease_ttl_seconds_min: lease_ttl_seconds_min(settings.election_timeout),
        watch_progress_interval: settings.watch_progress_interval,
        quota_bytes: settings.quota_bytes,
        auto_compaction: settings.auto_compaction,
        member: Some(MemberContext {
            name: flags.name.clone(),
            client_urls: flags.advertise_client_urls.iter().map(ToString::to_string).collect(),
            peer_urls: Vec::new(),
        }),
        streams_count_max: flags.max_concurrent_streams,
        auth_tokens: settings.auth_tokens.clone(),
        auth_token_ttl: flags.effective_auth_token_ttl(),
        bcrypt_cost: flags.effective_bcrypt_cost(),
        strict_reconfig_check: flags.strict_reconfig_check,
        learners_count_max: flags.max_learners,
        ..ServerOptions::default()
    })
}

/// One and a half election timeouts, as in etcd: who renews in time survives a change of the leader.
fn lease_ttl_seconds_min(election_timeout: Duration) -> i64 {
    let seconds = (election_timeout * 3).as_millis().div_ceil(2000);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Listens, or says what to do.
fn listen(url: &HttpUrl, flag: &str) -> anyhow::Result<TcpListener> {
    let address = url.resolve().with_context(|| flag.to_owned())?;
    let listener = TcpListener::bind(address).with_context(|| {
        format!("{flag}: cannot listen on {url}; is another node running there?")
    })?;
    // Where nothing else is said, 128 that wait is all; the system has a limit of its own.
    rustix::net::listen(&listener, WAITING_CONNECTIONS_MAX)
        .with_context(|| format!("{flag}: listening on {url}"))?;
    listener.set_nonblocking(true).with_context(|| format!("{flag}: listening on {url}"))?;
    Ok(listener)
}

/// Comes with a reason once the process should stop.
fn stop_wish(
    exit_with_parent: bool,
) -> anyhow::Result<impl Future<Output = &'static str> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
    let (sender, parent_is_gone) = oneshot::channel::<()>();
    // Whoever holds the sender decides when the parent is gone: the thread, or we, who never do.
    let held = if exit_with_parent {
        let watch = std::thread::Builder::new().name("parent-watch".to_owned());
        watch.spawn(move || watch_parent(sender)).context("watching the parent")?;
        None
    } else {
        Some(sender)
    };
    Ok(async move {
        let _held = held;
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = parent_is_gone => "the process that started this one is gone",
        }
    })
}

/// Drops the sender when standard input ends: nothing is ever written there, and the system closes
/// it when the parent is gone.
fn watch_parent(sender: oneshot::Sender<()>) {
    let _end = std::io::stdin().lock().read_to_end(&mut Vec::new());
    drop(sender);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lives_for_one_and_a_half_election_timeouts_at_least_in_whole_seconds() {
        for (election_ms, seconds) in [(1000, 2), (100, 1), (667, 2), (2000, 3), (50_000, 75)] {
            assert_eq!(lease_ttl_seconds_min(Duration::from_millis(election_ms)), seconds);
        }
    }
}
