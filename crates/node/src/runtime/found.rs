//! Makes the folder of a founder whose cluster begins with a state that is there already: a snapshot
//! of it, and a log that goes on behind it. Blocks on the disk, starts nothing, and must not know
//! where the state comes from.

use super::log_place;
use crate::{Applier, Fatal, SnapshotView, StartError, StateMachine};
use quorate_core::{Configuration, LogId, LogIndex, SnapshotMeta};
use quorate_wal::{Disk, Identity, SnapshotStore, SnapshotWriter, Wal, WalError, WalOptions};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// A snapshot's bytes are gathered to this size before they go to the file.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// What the folder is made from.
pub(crate) struct FoundRequest {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Where the log is to be, if not in `dir`.
    pub(crate) wal_dir: Option<PathBuf>,
    pub(crate) identity: Identity,
    pub(crate) founders: Arc<Configuration>,
    pub(crate) wal_options: WalOptions,
    /// The entry up to which the state stands.
    pub(crate) applied: LogId,
}

/// Makes the folder. The log comes last: without it the folder is none that a node starts from, with
/// it everything is there. It is not proven: as in any new cluster, all founders are heard first.
pub(crate) fn found(
    request: FoundRequest,
    machine: Box<dyn StateMachine>,
) -> Result<(), StartError> {
    let FoundRequest { disk, dir, wal_dir, identity, founders, wal_options, applied } = request;
    let place = log_place::find(disk.as_ref(), &dir, wal_dir.as_deref())?;
    let (id, wal_dir) = (identity.node_id, place.dir().to_owned());
    if !founders.members.contains_key(&id) {
        return Err(StartError::NotAMember { id, member_count: founders.member_count() });
    }
    if Wal::exists(disk.as_ref(), &wal_dir).map_err(|source| WalError::Io {
        op: "look for a log in",
        path: wal_dir.clone(),
        source,
    })? {
        return Err(WalError::AlreadyExists { path: wal_dir }.into());
    }
    let of_machine = |source| StartError::Machine { source };
    if applied.index == LogIndex::ORIGIN {
        let reason =
            format!("a state to begin with stands at an entry of the log, not at {applied}");
        return Err(of_machine(Fatal::new(reason)));
    }
    let mut applier = Applier::new(machine, applied, founders).map_err(of_machine)?;
    let (meta, view) = applier.view().map_err(of_machine)?;
    let mut store = SnapshotStore::open(Arc::clone(&disk), &dir.join("snapshots"))?;
    write(store.create(meta.clone())?, view)?;
    applier.finish().map_err(of_machine)?;
    // A note of a log that is not there yet is of use to nobody, as the folder without its log.
    place.confirm(disk.as_ref(), &dir, identity.storage_id, 1)?;
    create_log(disk, &wal_dir, wal_options, identity, meta)
}

fn write(writer: SnapshotWriter, view: Box<dyn SnapshotView>) -> Result<(), StartError> {
    let failed = |error: io::Error| StartError::Machine {
        source: Fatal::caused_by("the state cannot be written to a snapshot", error),
    };
    let mut buffered = BufWriter::with_capacity(WRITE_BUFFER_BYTES, writer);
    view.write_to(&mut buffered).and_then(|()| buffered.flush()).map_err(failed)?;
    buffered.into_inner().map_err(|error| failed(error.into_error()))?.finish()?;
    Ok(())
}

fn create_log(
    disk: Arc<dyn Disk>,
    dir: &std::path::Path,
    options: WalOptions,
    identity: Identity,
    base: SnapshotMeta,
) -> Result<(), StartError> {
    Wal::create(disk, dir, options, identity, base)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::parts::{OpenRequest, Opened, open};
    use crate::{
        Admission, Committed, Fatal, Node, NodeId, QueryError, Replies, SnapshotView, StartError,
        StateMachine,
    };
    use bytes::Bytes;
    use quorate_core::{Configuration, LogId, LogIndex, Member, MemberRole, Term, Time};
    use quorate_wal::RealDisk;
    use std::io::{Read, Write};
    use std::path::Path;
    use std::sync::Arc;

    const CLUSTER: u64 = 7;

    /// A text, as of an entry.
    struct Text(LogIndex, String);

    impl StateMachine for Text {
        fn applied(&self) -> LogIndex {
            self.0
        }

        fn apply(&mut self, _: &[Committed], _: &mut Replies) -> Result<(), Fatal> {
            Ok(())
        }

        fn query(&self, _: &[u8]) -> Result<Bytes, QueryError> {
            Ok(Bytes::from(self.1.clone()))
        }

        fn view(&self) -> Result<Box<dyn SnapshotView>, Fatal> {
            Ok(Box::new(View(self.1.clone())))
        }

        fn restore(&mut self, last_included: LogId, source: &mut dyn Read) -> Result<(), Fatal> {
            self.1.clear();
            let read = source.read_to_string(&mut self.1);
            read.map_err(|error| Fatal::caused_by("no text", error))?;
            self.0 = last_included.index;
            Ok(())
        }
    }

    struct View(String);

    impl SnapshotView for View {
        fn write_to(self: Box<Self>, target: &mut dyn Write) -> std::io::Result<()> {
            target.write_all(self.0.as_bytes())
        }
    }

    fn founders() -> Configuration {
        let member = |id| {
            let (role, context) = (MemberRole::Voter, Bytes::new());
            (NodeId::new(id), Member { role, rank: 0, address: "h:1".to_owned(), context })
        };
        Configuration::new(0, [1, 2].map(member).into())
    }

    fn place(index: u64) -> LogId {
        LogId::new(Term::new(5), LogIndex::new(index))
    }

    fn found(dir: &Path, id: u64, index: u64, text: &str) -> Result<(), StartError> {
        let machine = Text(LogIndex::new(index), text.to_owned());
        let builder = Node::builder(id, dir).cluster_id(CLUSTER).members(founders());
        builder.found_after(place(index), machine)
    }

    fn opened(dir: &Path, id: u64) -> Opened {
        let request = OpenRequest {
            disk: Arc::new(RealDisk),
            id: NodeId::new(id),
            dir: dir.to_owned(),
            cluster_id: CLUSTER,
            founders: Arc::default(),
            options: crate::Options::default(),
            driver_options: crate::DriverOptions::default(),
            wal_options: crate::WalOptions::default(),
            seed: 1,
            storage_id: 1,
            incarnation: 1,
            now: Time::ZERO,
            rebuild: None,
        };
        let empty = || -> Result<Box<dyn StateMachine>, Fatal> {
            Ok(Box::new(Text(LogIndex::ORIGIN, String::new())))
        };
        open(request, Box::new(empty)).unwrap()
    }

    #[test]
    fn a_folder_that_was_made_after_a_state_starts_there_and_waits_for_the_other_founders() {
        let dir = tempfile::tempdir().unwrap();
        found(dir.path(), 1, 70, "inherited").unwrap();
        let Opened { wal, applier, driver, .. } = opened(dir.path(), 1);
        assert_eq!((wal.last_log(), wal.created_after()), (place(70), Some(place(70))));
        assert_eq!(applier.applied(), place(70));
        assert_eq!(applier.machine().query(b"").unwrap(), "inherited");
        assert_eq!(**driver.raft().configuration(), founders());
        assert_eq!(driver.raft().current_term(), Term::new(5));
        let missing = vec![NodeId::new(2)];
        assert_eq!(driver.admission(), Admission::Founding { missing });
    }

    #[test]
    fn only_equal_states_at_one_place_are_one_beginning() {
        let checksum = |id, index, text| {
            let dir = tempfile::tempdir().unwrap();
            found(dir.path(), id, index, text).unwrap();
            let Opened { wal, store, .. } = opened(dir.path(), id);
            let last_included = wal.created_after().unwrap();
            (last_included, store.reader(last_included).unwrap().checksum().unwrap())
        };
        let one = checksum(1, 70, "inherited");
        assert_eq!(one, checksum(2, 70, "inherited"));
        assert_ne!(one, checksum(2, 71, "inherited"));
        assert_ne!(one, checksum(2, 70, "inhibited"));
    }

    #[test]
    fn nothing_is_made_where_a_log_is_or_for_somebody_else_or_before_the_first_entry() {
        let dir = tempfile::tempdir().unwrap();
        let refused = found(dir.path(), 3, 70, "").unwrap_err();
        assert!(matches!(refused, StartError::NotAMember { member_count: 2, .. }), "{refused}");
        let refused = found(dir.path(), 1, 0, "").unwrap_err();
        assert!(refused.to_string().contains("stands at an entry"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        found(dir.path(), 1, 70, "").unwrap();
        let refused = found(dir.path(), 1, 70, "").unwrap_err();
        assert!(refused.to_string().contains("already holds a log"), "{refused}");
    }
}
