//! Makes the log, the snapshots and the state machine agree before a node starts (§3.8, §5.1).
//! Blocks on the disk; knows nothing of threads and connections.

use super::{promises, rebuilding};
use crate::{
    Applier, Beginning, DIGEST_WINDOW_COUNT_MAX, DigestRules, Driver, DriverOptions, Fatal,
    OwnDisk, StartError, StateMachine,
};
use quorate_core::{
    Configuration, LogId, LogIndex, NodeId, Options, Persist, Raft, SnapshotMeta, Term, Time,
};
use quorate_wal::{
    Disk, Identity, Lost, Recovered, Scrubber, SnapshotStore, Standing, Wal, WalOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the log, below that of the node, if it is not elsewhere.
pub(crate) const LOG_FOLDER: &str = "wal";
/// That of the snapshots.
pub(crate) const SNAPSHOTS_FOLDER: &str = "snapshots";

/// What a node is opened with.
pub struct OpenRequest {
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// Who it is.
    pub id: NodeId,
    /// Its folder.
    pub dir: PathBuf,
    /// Its cluster.
    pub cluster_id: u64,
    /// Who founds the cluster, if the folder is new.
    pub founders: Arc<Configuration>,
    /// Settings of the core.
    pub options: Options,
    /// Settings of the driver.
    pub driver_options: DriverOptions,
    /// Settings of the log.
    pub wal_options: WalOptions,
    /// Decides what the core leaves to chance.
    pub seed: u64,
    /// The identity of a new folder.
    pub storage_id: u128,
    /// Differs from that of every earlier life of this node.
    pub incarnation: u64,
    /// The time at which it begins, on the clock that its driver will be given.
    pub now: Time,
    /// Gives up a state that was found to be wrong: empties the state machine's own files, before the
    /// state machine is opened. Without it such a node is refused; one whose state is not known to be
    /// wrong takes no notice.
    pub rebuild: Option<EmptyMachine>,
}

/// See [`OpenRequest::rebuild`].
pub type EmptyMachine = Box<dyn FnOnce() -> Result<(), Fatal> + Send>;

/// Opens the state machine, once the log is known to be sound and ours.
pub type OpenMachine = Box<dyn FnOnce() -> Result<Box<dyn StateMachine>, Fatal> + Send>;

/// The parts of a node, in agreement.
pub struct Opened {
    /// The log.
    pub wal: Wal,
    /// The snapshot files.
    pub store: SnapshotStore,
    /// The state machine.
    pub applier: Applier,
    /// The newest snapshot at hand from which a start is possible.
    pub latest: Option<SnapshotMeta>,
    /// The driver, around a core that begins where the log ends.
    pub driver: Driver,
    /// Reads the files again, a little at a time.
    pub scrubber: Scrubber,
}

/// Opens the parts of a node, whose log is in its folder; see the head of the file.
///
/// # Errors
///
/// [`StartError`], by what has to be done about it.
pub fn open(request: OpenRequest, machine: OpenMachine) -> Result<Opened, StartError> {
    let log_dir = request.dir.join(LOG_FOLDER);
    open_at(request, &log_dir, machine)
}

/// The same, with a log that may be elsewhere.
pub(crate) fn open_at(
    mut request: OpenRequest,
    log_dir: &Path,
    machine: OpenMachine,
) -> Result<Opened, StartError> {
    let disk = Arc::clone(&request.disk);
    let mut store = SnapshotStore::open(Arc::clone(&disk), &request.dir.join(SNAPSHOTS_FOLDER))?;
    let rebuild = request.rebuild.take();
    let is_wrong = rebuilding::look(&store, rebuild.is_some())?;
    let mut snapshots = store.list()?;
    let (wal, recovered) = open_log(&request, &disk, log_dir, &snapshots)?;
    check_version(&request, &recovered, &snapshots)?;
    let awaits_state = rebuilding::prepare(&mut store, &recovered, is_wrong, rebuild)?;
    if awaits_state {
        snapshots = store.list()?;
    }
    // Only now: opening may change a state machine's files, and a refused start changes nothing.
    let machine = machine().map_err(|source| StartError::Machine { source })?;
    let (wal, recovered) =
        finish_install(&request, log_dir, wal, recovered, machine.applied(), &snapshots)?;
    let latest = usable(&recovered, &snapshots).cloned();
    let applier = restore(machine, &recovered, &store, latest.as_ref(), awaits_state)?;
    let window_count = request.driver_options.digest_window_count.min(DIGEST_WINDOW_COUNT_MAX);
    let applier = applier.hashing(window_count);
    let version = applier.machine().replies_version();
    let reached = applier.applied().index;
    let promised = promises::prepare(disk.as_ref(), &request.dir, &request.options)?;
    let Options { lease_reads, election_timeout, .. } = request.options;
    let mut raft = Raft::new(
        request.id,
        request.options,
        request.seed,
        recovered.into_restored(reached),
        request.now,
    )?;
    // Where promises are given, a log that is not new is enough of a reason: files can be lost.
    let may_promise = lease_reads && raft.current_term() > Term::default();
    if let Some(length) = promised.max(may_promise.then_some(election_timeout)) {
        raft.keep_earlier_promises(length);
    }
    let (durable, incarnation) = (applier.durable(), request.incarnation);
    let own = OwnDisk {
        storage_id: wal.identity().storage_id,
        era: wal.era(),
        is_proven: wal.standing() == Standing::Proven,
        beginning: beginning(&wal, &store),
    };
    let driver = Driver::new(raft, request.driver_options, durable, reached, incarnation);
    let driver = driver.on_disk(own).comparing(DigestRules { window_count, version });
    rebuilding::finish(&store, awaits_state && !driver.raft().lacks_state())?;
    let snapshots_dir = request.dir.join(SNAPSHOTS_FOLDER);
    let scrubber = Scrubber::new(disk, log_dir.to_owned(), snapshots_dir, wal.identity());
    Ok(Opened { wal, store, applier, latest, driver, scrubber })
}

/// What the cluster speaks does not fall: who speaks only older versions cannot go on from this folder.
fn check_version(
    request: &OpenRequest,
    recovered: &Recovered,
    snapshots: &[SnapshotMeta],
) -> Result<(), StartError> {
    let in_log = recovered.configurations.iter().map(|(_, configuration)| configuration);
    let bases = snapshots.iter().chain([&recovered.base]).map(|meta| &meta.configuration);
    let spoken = in_log.chain(bases).map(|configuration| configuration.cluster_version);
    let cluster_version = spoken.max().unwrap_or_default();
    let newest = request.driver_options.protocol_version;
    if cluster_version > newest {
        return Err(StartError::ProtocolTooOld { cluster_version, newest });
    }
    Ok(())
}

/// The state that the folder was made with, as long as the log still starts there.
fn beginning(wal: &Wal, store: &SnapshotStore) -> Option<Beginning> {
    let last_included = wal.created_after()?;
    let checksum = store.reader(last_included).and_then(|reader| reader.checksum());
    match checksum {
        Ok(checksum) => Some(Beginning { last_included, checksum }),
        Err(error) => {
            tracing::warn!("what this folder was made with cannot be compared: {error}");
            None
        }
    }
}

fn open_log(
    request: &OpenRequest,
    disk: &Arc<dyn Disk>,
    dir: &Path,
    snapshots: &[SnapshotMeta],
) -> Result<(Wal, Recovered), StartError> {
    let is_old = Wal::exists(disk.as_ref(), dir).map_err(|source| quorate_wal::WalError::Io {
        op: "look for a log in",
        path: dir.to_owned(),
        source,
    })?;
    if is_old {
        return reopen_log(request, disk, dir);
    }
    // The log is made before any snapshot.
    if let Some(newest) = snapshots.first() {
        let dir = dir.to_owned();
        return Err(StartError::LogGone { dir, last_included: newest.last_included });
    }
    let OpenRequest { id, cluster_id, founders, storage_id, .. } = request;
    if !founders.members.is_empty() && !founders.members.contains_key(id) {
        return Err(StartError::NotAMember { id: *id, member_count: founders.member_count() });
    }
    let identity = Identity { cluster_id: *cluster_id, node_id: *id, storage_id: *storage_id };
    let initial =
        SnapshotMeta { last_included: LogId::ORIGIN, configuration: Arc::clone(founders) };
    let disk = Arc::clone(disk);
    Ok(Wal::create(disk, dir, request.wal_options, identity, initial)?)
}

fn reopen_log(
    request: &OpenRequest,
    disk: &Arc<dyn Disk>,
    dir: &Path,
) -> Result<(Wal, Recovered), StartError> {
    let OpenRequest { id, cluster_id, wal_options, .. } = request;
    let opened = Wal::open(Arc::clone(disk), dir, *wal_options, *cluster_id, *id)?;
    if let Some(torn) = &opened.1.torn_tail {
        tracing::warn!(
            node = %id, after = %torn.after,
            "the end of the log was not whole and was cut off: a write that a crash interrupted, \
             and that nobody was told of, unless the disk damaged it afterwards"
        );
    }
    if let Some(lost) = &opened.1.lost {
        tracing::error!(
            node = %id,
            "{lost}: this node votes as if it had what is lost, and fetches it from the other members"
        );
    }
    if opened.1.is_mark_lost {
        tracing::warn!(
            node = %id,
            "the file that says how far the log is durable was gone, or not whole, and was made \
             anew; if the end of the log was damaged as well, that looked like a write that a crash \
             interrupted"
        );
    }
    Ok(opened)
}

/// A crash may come after the state machine took over a received snapshot and before the log knows
/// of it. The log is then started anew after that snapshot, as it was about to be.
fn finish_install(
    request: &OpenRequest,
    log_dir: &Path,
    mut wal: Wal,
    recovered: Recovered,
    applied: LogIndex,
    snapshots: &[SnapshotMeta],
) -> Result<(Wal, Recovered), StartError> {
    let last_log = recovered.last_log;
    // What was applied of what the log has lost is not applied again.
    let is_ahead = |lost: &Lost| applied <= lost.horizon.index;
    if applied <= last_log.index || recovered.lost.as_ref().is_some_and(is_ahead) {
        return Ok((wal, recovered));
    }
    let installed = snapshots.iter().find(|meta| meta.last_included.index == applied);
    let Some(meta) = installed else {
        return Err(StartError::StateAhead { applied, last_log });
    };
    wal.persist(&[Persist { reset: Some(meta.clone()), ..Persist::default() }])?;
    drop(wal);
    reopen_log(request, &request.disk, log_dir)
}

/// The newest of these snapshots that the log goes on from, or holds the end of.
///
/// A newer one may be left from before the log was started anew after an older one, which another
/// leader sent, or a crash came before the log was started anew after it. The log knows nothing of
/// it: a start cannot use it, so nothing may be released on its word.
fn usable<'a>(recovered: &Recovered, snapshots: &'a [SnapshotMeta]) -> Option<&'a SnapshotMeta> {
    let held = recovered.base.last_included.index..=recovered.last_log.index;
    snapshots.iter().find(|meta| {
        let last_included = meta.last_included;
        held.contains(&last_included.index)
            && position(recovered, last_included.index).0 == last_included
    })
}

/// Gives the state machine what the log does not have any more.
///
/// A volatile state machine, which starts from nothing, takes the newest snapshot in any case: it
/// is a shorter way than the log.
fn restore(
    machine: Box<dyn StateMachine>,
    recovered: &Recovered,
    store: &SnapshotStore,
    latest: Option<&SnapshotMeta>,
    awaits_state: bool,
) -> Result<Applier, StartError> {
    let base = recovered.base.last_included;
    let own = machine.applied();
    let (at, configuration) = position(recovered, own.max(base.index));
    let mut applier = Applier::new(machine, LogId { index: own, ..at }, configuration)
        .map_err(|source| StartError::Machine { source })?;
    if own >= base.index && own > LogIndex::ORIGIN {
        let applier = if recovered.lost.is_some() { applier.displaced() } else { applier };
        return Ok(applier);
    }
    match latest {
        Some(meta) => {
            let last_included = meta.last_included;
            let reader = store.reader(last_included)?;
            applier
                .restore(meta, &mut reader.body())
                .map_err(|source| StartError::Restore { last_included, source })?;
            Ok(applier)
        }
        None if own >= base.index => Ok(applier),
        // A leader sends it.
        None if awaits_state && own == LogIndex::ORIGIN => Ok(applier),
        None => Err(StartError::StateBehind { applied: own, base }),
    }
}

/// The entry at `index`, at or after the base, and the configuration in force there.
fn position(recovered: &Recovered, index: LogIndex) -> (LogId, Arc<Configuration>) {
    let run = recovered.term_runs.iter().rev().find(|(first, _)| *first <= index);
    let is_past = index > recovered.last_log.index;
    let term = match run {
        Some(_) if is_past => Term::default(),
        Some((_, term)) => *term,
        None => recovered.base.last_included.term,
    };
    let changes = &recovered.configurations;
    let configuration = changes.iter().rev().find(|(at, _)| *at <= index);
    let configuration = configuration.map_or(&recovered.base.configuration, |(_, found)| found);
    (LogId::new(term, index), Arc::clone(configuration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Committed, QueryError, Replies, SnapshotView};
    use bytes::Bytes;
    use quorate_core::{Member, MemberRole, Term};
    use quorate_wal::RealDisk;
    use std::io::{Read, Write};

    /// Remembers nothing: its state is in the snapshots and in the log.
    struct Volatile(LogIndex);

    impl StateMachine for Volatile {
        fn applied(&self) -> LogIndex {
            self.0
        }

        fn apply(&mut self, _: &[Committed], _: &mut Replies) -> Result<(), Fatal> {
            Ok(())
        }

        fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
            Ok(Bytes::new())
        }

        fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
            Ok(Box::new(Nothing))
        }

        fn restore(&mut self, last_included: LogId, _: &mut dyn Read) -> Result<(), Fatal> {
            self.0 = last_included.index;
            Ok(())
        }
    }

    struct Nothing;

    impl SnapshotView for Nothing {
        fn write_to(self: Box<Self>, _: &mut dyn Write) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn request(dir: &Path) -> OpenRequest {
        let id = NodeId::new(1);
        let member = Member {
            role: MemberRole::Voter,
            rank: 0,
            address: String::new(),
            context: Bytes::new(),
        };
        OpenRequest {
            disk: Arc::new(RealDisk),
            id,
            dir: dir.to_owned(),
            cluster_id: 7,
            founders: Arc::new(Configuration::new(0, [(id, member)].into())),
            options: Options::default(),
            driver_options: DriverOptions::default(),
            wal_options: WalOptions::default(),
            seed: 1,
            storage_id: 1,
            incarnation: 1,
            now: Time::ZERO,
            rebuild: None,
        }
    }

    fn snapshot(opened: &mut Opened, index: u64) -> SnapshotMeta {
        let last_included = LogId::new(Term::new(3), LogIndex::new(index));
        let (meta, view) = opened.applier.view().unwrap();
        let mut writer = opened.store.create(SnapshotMeta { last_included, ..meta }).unwrap();
        view.write_to(&mut writer).unwrap();
        writer.finish().unwrap()
    }

    fn open_volatile(dir: &Path) -> Result<Opened, StartError> {
        open(request(dir), Box::new(|| Ok(Box::new(Volatile(LogIndex::ORIGIN)))))
    }

    /// A log that starts after the older of two snapshots, opened again; and where it starts.
    fn after_the_older_of_two_snapshots(dir: &Path) -> (Opened, LogId) {
        let mut opened = open_volatile(dir).unwrap();
        let older = snapshot(&mut opened, 5);
        snapshot(&mut opened, 8);
        let reset = Persist { reset: Some(older.clone()), ..Persist::default() };
        opened.wal.persist(&[reset]).unwrap();
        drop(opened);
        (open_volatile(dir).unwrap(), older.last_included)
    }

    /// Found by the simulator, seed 347 of drawn worlds. A crash came between a received snapshot
    /// and the log's new start behind it; then another leader sent an older one.
    #[test]
    fn a_snapshot_newer_than_the_log_is_not_taken_for_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (opened, older) = after_the_older_of_two_snapshots(dir.path());
        assert_eq!(opened.applier.applied(), older);
    }

    /// Found by the simulator, seed 17352 of drawn worlds: full disks.
    #[test]
    fn a_snapshot_newer_than_the_log_is_not_offered_as_one_to_start_from() {
        let dir = tempfile::tempdir().unwrap();
        let (opened, older) = after_the_older_of_two_snapshots(dir.path());
        assert_eq!(opened.latest.map(|meta| meta.last_included), Some(older));
    }

    /// Somebody removed the snapshots.
    #[test]
    fn a_state_behind_its_log_without_a_snapshot_is_not_taken_for_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let (opened, older) = after_the_older_of_two_snapshots(dir.path());
        drop(opened);
        std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
        let refused = open_volatile(dir.path()).err();
        let (applied, base) = (LogIndex::ORIGIN, older);
        let expected = Some(StartError::StateBehind { applied, base }.to_string());
        assert_eq!(refused.map(|error| error.to_string()), expected);
    }

    /// Somebody removed the log: the node might have voted.
    #[test]
    fn a_snapshot_without_its_log_does_not_begin_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(after_the_older_of_two_snapshots(dir.path()));
        let wal = dir.path().join("wal");
        std::fs::remove_dir_all(&wal).unwrap();
        let refused = open_volatile(dir.path()).err();
        let is_right = matches!(&refused, Some(StartError::LogGone { dir, .. }) if *dir == wal);
        assert!(is_right, "{refused:?}");
        assert!(!wal.exists(), "a refused start changes nothing");
    }
}
