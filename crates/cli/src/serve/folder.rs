//! Whose data folder it is, asked before anything in it is opened, so that a mistaken start changes
//! nothing. The log inside checks again, and for good; here it is about the operator.

use super::initial_cluster::InitialCluster;
use anyhow::{Context, bail};
use quorate::LogPlace;
use quorate::wal::ReadOnlyDisk;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The file that says whose folder it is.
pub(super) const OWNER_FILE: &str = "owner";
/// The two copies of the log's root: a folder that has one has had a log.
const META_FILES: [&str; 2] = ["meta-a", "meta-b"];
/// What is locked, in the log's folder, and in a data folder whose log is elsewhere.
const LOCK_FILE: &str = "LOCK";

/// What an etcd keeps in its data folder.
const ETCD_FOLDER: &str = "member";

/// What a folder was before this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// Without a log.
    New,
    /// This node's.
    Old,
}

/// Whose the folder is, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
}

/// Whose folder this is; `None` if it does not say.
pub(super) fn owner_of(dir: &Path) -> Option<Owner> {
    let text = fs::read_to_string(dir.join(OWNER_FILE)).ok()?;
    let (cluster, rest) = text.strip_prefix("cluster ")?.split_once(", member ")?;
    let (member, _) = rest.split_once(", name ")?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Owner { cluster_id: number(cluster)?, member_id: number(member)? })
}

/// Where the log of a data folder is, which need not be there yet.
///
/// # Errors
///
/// If its log is not where it should be.
pub(super) fn log_place(dir: &Path, wal_dir: Option<&Path>) -> anyhow::Result<LogPlace> {
    Ok(quorate::find_log(&ReadOnlyDisk, dir, wal_dir)?)
}

/// Whether there is a log in the log's folder.
pub(super) fn has_log(log_dir: &Path) -> bool {
    META_FILES.iter().any(|meta| log_dir.join(meta).exists())
}

/// Makes the folder, or recognises it as this node's.
///
/// # Errors
///
/// If it is another node's or another cluster's, if its log is gone, if another process has it, or
/// if the disk refuses.
pub(super) fn claim(
    dir: &Path,
    wal_dir: Option<&Path>,
    cluster: &InitialCluster,
    name: &str,
) -> anyhow::Result<Claimed> {
    let shown = dir.display();
    check_not_etcds(dir)?;
    let place = log_place(dir, wal_dir)?;
    check_not_etcds_log(place.dir())?;
    fs::create_dir_all(dir).with_context(|| format!("creating the data folder {shown}"))?;
    let path = dir.join(OWNER_FILE);
    let (log, has_log) = (place.dir().display(), has_log(place.dir()));
    let found = match fs::read_to_string(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound && has_log => return Ok(Claimed::Old),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_log_dir(dir, &place)?;
            return Ok(Claimed::New);
        }
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let expected = owner(cluster, name);
    if !(found.starts_with("cluster ") && found.ends_with('\n')) {
        bail!(
            "{} does not say whose folder this is; expected a line such as\n  {}nothing was \
             changed. If the folder is this node's, remove that one file and start again: the log \
             knows its owner too.",
            path.display(),
            expected
        );
    }
    if found != expected {
        bail!(
            "{shown} is the data folder of another node; nothing was changed.\n  \
             the folder:   {}\n  these flags:  {}\nStart it with the flags that it was made with, \
             or choose another --data-dir. If the members have changed since, \
             say --initial-cluster-state existing: it goes on as who it is.",
            found.trim(),
            expected.trim()
        );
    }
    if !has_log {
        bail!(
            "{shown} is this node's data folder, but its log ({log}) is gone. A node that \
             started without it would break the promises it has made; nothing was changed. Bring \
             the log back. If it is lost for good, this member is lost."
        );
    }
    check_unused(place.dir())?;
    check_unused(dir)?;
    Ok(Claimed::Old)
}

/// Makes the folder of a log that is to be elsewhere, for the same eyes as the data folder.
fn make_log_dir(dir: &Path, place: &LogPlace) -> anyhow::Result<()> {
    let log_dir = place.dir();
    if !place.is_elsewhere() || log_dir.exists() {
        return Ok(());
    }
    let make = || {
        fs::create_dir_all(log_dir)?;
        fs::set_permissions(log_dir, fs::metadata(dir)?.permissions())
    };
    make().with_context(|| format!("creating the log's folder {}", log_dir.display()))
}

/// Writes down whose folder it is, once the node has founded its log there: whole or not at all.
///
/// # Errors
///
/// If the disk refuses.
pub(super) fn record_owner(dir: &Path, cluster: &InitialCluster, name: &str) -> anyhow::Result<()> {
    let path = dir.join(OWNER_FILE);
    if path.exists() {
        return Ok(());
    }
    let temporary = dir.join(format!("{OWNER_FILE}.tmp"));
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(owner(cluster, name).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A store that began empty beside somebody's data would look like a loss of all of it.
///
/// # Errors
///
/// If it is an etcd's folder.
pub(super) fn check_not_etcds(dir: &Path) -> anyhow::Result<()> {
    let member = dir.join(ETCD_FOLDER);
    if !member.join("wal").exists() && !member.join("snap").exists() {
        return Ok(());
    }
    bail!(
        "{} is the data folder of an etcd, whose files we do not read; nothing was changed. To take \
         its data over, let the etcd run, start this node with another --data-dir and ports, and copy \
         the keys (`etcdctl make-mirror`).",
        dir.display()
    )
}

/// As [`check_not_etcds`], where an etcd has its log elsewhere.
fn check_not_etcds_log(log_dir: &Path) -> anyhow::Result<()> {
    let mut names = fs::read_dir(log_dir).into_iter().flatten().flatten();
    let is_etcds = |path: &Path| {
        let is_ours =
            || path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"log-"));
        path.extension().is_some_and(|it| it == "wal") && !is_ours()
    };
    if !names.any(|entry| is_etcds(&entry.path())) {
        return Ok(());
    }
    bail!(
        "--wal-dir: {} has the log of an etcd, whose files we do not read; nothing was changed. Choose \
         another folder",
        log_dir.display()
    )
}

/// What is written down of whose folder it is.
pub(super) fn owner(cluster: &InitialCluster, name: &str) -> String {
    format!("cluster {:016x}, member {:016x}, name {name}\n", cluster.cluster_id, cluster.own_id)
}

/// Whether nothing is there that a restored folder would take the place of.
///
/// # Errors
///
/// If there is, or that cannot be seen.
pub(super) fn check_vacant(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    match fs::read_dir(dir).map(|mut names| names.next().is_some()) {
        Ok(false) => Ok(()),
        Ok(true) => bail!(
            "{shown} exists and is not empty; nothing was changed. A restored member needs a folder \
             of its own: choose another --data-dir, or move this one away"
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("looking into {shown}")),
    }
}

/// The log's lock says it too, and for good; this asks before anything is opened.
fn check_unused(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(LOCK_FILE);
    let Ok(file) = fs::File::open(&path) else { return Ok(()) };
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    if rustix::fs::flock(&file, operation).is_ok() {
        // Let go at once, with the file: the log takes it for good.
        return Ok(());
    }
    let pid = fs::read_to_string(&path).unwrap_or_default();
    bail!("{} is in use by process {}: stop that first", dir.display(), pid.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(text: &str, url: &str) -> InitialCluster {
        InitialCluster::parse(text, "token", "a", &[url.parse().unwrap()]).unwrap()
    }

    /// What a node leaves behind that has run in the folder.
    fn live_in(dir: &Path, cluster: &InitialCluster) {
        assert_eq!(claim(dir, None, cluster, "a").unwrap(), Claimed::New);
        fs::create_dir_all(dir.join("wal")).unwrap();
        fs::write(dir.join("wal/meta-a"), "").unwrap();
        record_owner(dir, cluster, "a").unwrap();
    }

    #[test]
    fn a_folder_is_claimed_once_and_recognised_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        live_in(&dir.path().join("new/er"), &mine);
        live_in(dir.path(), &mine);
        assert_eq!(claim(dir.path(), None, &mine, "a").unwrap(), Claimed::Old);
    }

    #[test]
    fn a_folder_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(owner_of(dir.path()), None);
        let mine = cluster("a=http://h:1", "http://h:1");
        live_in(dir.path(), &mine);
        let owner = Owner { cluster_id: mine.cluster_id, member_id: mine.own_id };
        assert_eq!(owner_of(dir.path()), Some(owner));
        assert!(has_log(&dir.path().join("wal")));
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_simply_done_again() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        assert_eq!(claim(dir.path(), None, &mine, "a").unwrap(), Claimed::New);
        assert_eq!(claim(dir.path(), None, &mine, "a").unwrap(), Claimed::New);
    }

    #[test]
    fn a_folder_whose_log_is_gone_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        live_in(dir.path(), &mine);
        fs::remove_dir_all(dir.path().join("wal")).unwrap();
        let error = claim(dir.path(), None, &mine, "a").unwrap_err().to_string();
        assert!(error.contains("is gone"), "{error}");
    }

    #[test]
    fn the_folder_of_an_etcd_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        fs::create_dir_all(dir.path().join("member")).unwrap();
        assert_eq!(
            claim(dir.path(), None, &mine, "a").unwrap(),
            Claimed::New,
            "it may be anything"
        );
        fs::create_dir_all(dir.path().join("member/snap")).unwrap();
        let error = claim(dir.path(), None, &mine, "a").unwrap_err().to_string();
        assert!(error.contains("of an etcd"), "{error}");
    }

    #[test]
    fn an_owner_file_that_says_nothing_is_not_called_another_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        live_in(dir.path(), &mine);
        fs::write(dir.path().join(OWNER_FILE), "").unwrap();
        let error = claim(dir.path(), None, &mine, "a").unwrap_err().to_string();
        assert!(error.contains("does not say whose"), "{error}");
    }

    #[test]
    fn the_folder_of_another_cluster_or_node_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        live_in(dir.path(), &cluster("a=http://h:1", "http://h:1"));
        let before = fs::read(dir.path().join(OWNER_FILE)).unwrap();
        let other = cluster("a=http://h:2", "http://h:2");
        let error = claim(dir.path(), None, &other, "a").unwrap_err().to_string();
        assert!(error.contains("another node") && error.contains("name a"), "{error}");
        assert_eq!(fs::read(dir.path().join(OWNER_FILE)).unwrap(), before);
    }

    #[test]
    fn a_folder_that_a_process_holds_is_refused_with_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        live_in(dir.path(), &mine);
        fs::write(dir.path().join("wal/LOCK"), "4711\n").unwrap();
        let holder = fs::File::open(dir.path().join("wal/LOCK")).unwrap();
        rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let error = claim(dir.path(), None, &mine, "a").unwrap_err().to_string();
        assert!(error.contains("in use by process 4711"), "{error}");
    }

    #[test]
    fn the_folder_of_a_log_elsewhere_is_made_for_the_same_eyes_as_the_data_folder() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let (dir, log) = (home.path().join("data"), home.path().join("a/log"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o710)).unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        assert_eq!(claim(&dir, Some(&log), &mine, "a").unwrap(), Claimed::New);
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o710);
    }

    #[test]
    fn a_folder_whose_log_is_elsewhere_is_refused_if_that_is_gone_or_an_etcds() {
        let home = tempfile::tempdir().unwrap();
        let (dir, log) = (home.path().join("data"), home.path().join("log"));
        let mine = cluster("a=http://h:1", "http://h:1");
        assert_eq!(claim(&dir, Some(&log), &mine, "a").unwrap(), Claimed::New);
        fs::write(log.join("meta-a"), "").unwrap();
        record_owner(&dir, &mine, "a").unwrap();
        assert_eq!(claim(&dir, Some(&log), &mine, "a").unwrap(), Claimed::Old);
        let error = claim(&dir, None, &mine, "a").unwrap_err().to_string();
        assert!(error.contains("is gone"), "{error}");
        fs::rename(log.join("meta-a"), log.join("0000000000000000-0000000000000000.wal")).unwrap();
        let error = claim(&dir, Some(&log), &mine, "a").unwrap_err().to_string();
        assert!(error.contains("log of an etcd"), "{error}");
    }
}
