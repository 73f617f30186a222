//! Makes the log, the snapshots and the state machine agree before a node starts (§3.8, §5.1).
//! Blocks on the disk; knows nothing of threads and connections.

use super::apply_thread::Snapshots;
use crate::{Applier, Driver, DriverOptions, StartError, StateMachine};
use quorate_core::{
    Configuration, LogId, LogIndex, NodeId, Options, Persist, Raft, SnapshotMeta, Time,
};
use quorate_wal::{Disk, Identity, RealDisk, Recovered, SnapshotStore, Wal, WalOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a node is opened with.
pub(crate) struct OpenRequest {
    pub(crate) id: NodeId,
    pub(crate) dir: PathBuf,
    pub(crate) cluster_id: u64,
    /// Who founds the cluster, if the folder is new.
    pub(crate) founders: Arc<Configuration>,
    pub(crate) options: Options,
    pub(crate) driver_options: DriverOptions,
    pub(crate) wal_options: WalOptions,
    pub(crate) seed: u64,
    pub(crate) storage_id: u128,
    pub(crate) incarnation: u64,
}

/// The parts of a node, in agreement.
pub(crate) struct Opened {
    pub(crate) wal: Wal,
    pub(crate) store: SnapshotStore,
    pub(crate) applier: Applier,
    pub(crate) snapshots: Snapshots,
    pub(crate) driver: Driver,
}

/// See the head of the file.
pub(crate) fn open(
    request: OpenRequest,
    machine: Box<dyn StateMachine>,
) -> Result<Opened, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = SnapshotStore::open(Arc::clone(&disk), &request.dir.join("snapshots"))?;
    let snapshots = store.list()?;
    let (wal, recovered) = open_log(&request, &disk)?;
    let (wal, recovered) =
        finish_install(&request, &disk, wal, recovered, machine.applied(), &snapshots)?;
    let applier = restore(machine, &recovered, &store, &snapshots)?;
    let applied = applier.applied().index;
    let raft = Raft::new(
        request.id,
        request.options,
        request.seed,
        recovered.into_restored(applied),
        Time::ZERO,
    )?;
    let (durable, incarnation) = (applier.durable(), request.incarnation);
    let driver = Driver::new(raft, request.driver_options, durable, applied, incarnation);
    let snapshots = Snapshots::starting_with(snapshots.into_iter().next());
    Ok(Opened { wal, store, applier, snapshots, driver })
}

fn open_log(request: &OpenRequest, disk: &Arc<dyn Disk>) -> Result<(Wal, Recovered), StartError> {
    let dir = request.dir.join("wal");
    let is_old = Wal::exists(disk.as_ref(), &dir).map_err(|source| quorate_wal::WalError::Io {
        op: "look for a log in",
        path: dir.clone(),
        source,
    })?;
    if is_old {
        return reopen_log(request, disk, &dir);
    }
    let OpenRequest { id, cluster_id, founders, storage_id, .. } = request;
    if !founders.members.is_empty() && !founders.members.contains_key(id) {
        return Err(StartError::NotAMember { id: *id, member_count: founders.member_count() });
    }
    let identity = Identity { cluster_id: *cluster_id, node_id: *id, storage_id: *storage_id };
    let initial =
        SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::clone(founders) };
    let disk = Arc::clone(disk);
    Ok(Wal::create(disk, &dir, request.wal_options, identity, initial)?)
}

fn reopen_log(
    request: &OpenRequest,
    disk: &Arc<dyn Disk>,
    dir: &Path,
) -> Result<(Wal, Recovered), StartError> {
    let OpenRequest { id, cluster_id, wal_options, .. } = request;
    let opened = Wal::open(Arc::clone(disk), dir, *wal_options, *cluster_id, *id)?;
    if let Some(torn) = &opened.1.torn_tail {
        tracing::info!(
            node = %id, after = %torn.after,
            "an unfinished write that nobody was told of was cut off the log"
        );
    }
    Ok(opened)
}

/// A crash may come after the state machine took over a received snapshot and before the log knows
/// of it. The log is then started anew after that snapshot, as it was about to be.
fn finish_install(
    request: &OpenRequest,
    disk: &Arc<dyn Disk>,
    mut wal: Wal,
    recovered: Recovered,
    applied: LogIndex,
    snapshots: &[SnapshotMeta],
) -> Result<(Wal, Recovered), StartError> {
    let last_log = recovered.last_log;
    if applied <= last_log.index {
        return Ok((wal, recovered));
    }
    let installed = snapshots.iter().find(|meta| meta.last_included.index == applied);
    let Some(meta) = installed else {
        return Err(StartError::StateAhead { applied, last_log });
    };
    wal.persist(&[Persist { reset: Some(meta.clone()), ..Persist::default() }])?;
    drop(wal);
    reopen_log(request, disk, &request.dir.join("wal"))
}

/// Gives the state machine what the log does not have any more.
///
/// A volatile state machine, which starts from nothing, takes the newest snapshot in any case: it
/// is a shorter way than the log.
fn restore(
    machine: Box<dyn StateMachine>,
    recovered: &Recovered,
    store: &SnapshotStore,
    snapshots: &[SnapshotMeta],
) -> Result<Applier, StartError> {
    let base = recovered.base.last_included;
    let applied = machine.applied();
    let (at, configuration) = position(recovered, applied.max(base.index));
    let mut applier = Applier::new(machine, LogId { index: applied, ..at }, configuration);
    if applied >= base.index && applied > LogIndex::ORIGIN {
        return Ok(applier);
    }
    let fits = |meta: &&SnapshotMeta| {
        let last_included = meta.last_included;
        last_included.index >= base.index
            && position(recovered, last_included.index).0 == last_included
    };
    match snapshots.iter().find(fits) {
        Some(meta) => {
            let last_included = meta.last_included;
            let reader = store.reader(last_included)?;
            applier
                .restore(meta, &mut reader.body())
                .map_err(|source| StartError::Restore { last_included, source })?;
            Ok(applier)
        }
        None if applied >= base.index => Ok(applier),
        None => Err(StartError::StateBehind { applied, base }),
    }
}

/// The entry at `index`, at or after the base, and the configuration in force there.
fn position(recovered: &Recovered, index: LogIndex) -> (LogId, Arc<Configuration>) {
    let run = recovered.term_runs.iter().rev().find(|(first, _)| *first <= index);
    let is_past = index > recovered.last_log.index;
    let term = match run {
        Some(_) if is_past => quorate_core::Term::default(),
        Some((_, term)) => *term,
        None => recovered.base.last_included.term,
    };
    let changes = &recovered.configurations;
    let configuration = changes.iter().rev().find(|(at, _)| *at <= index);
    let configuration = configuration.map_or(&recovered.base.configuration, |(_, found)| found);
    (LogId::new(term, index), Arc::clone(configuration))
}
