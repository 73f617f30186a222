//! Whose data folder it is, asked before anything in it is opened, so that a mistaken start changes
//! nothing. The log inside checks again, and for good; here it is about the operator.

use super::initial_cluster::InitialCluster;
use anyhow::{Context, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The file that says whose folder it is.
const OWNER_FILE: &str = "owner";

/// Makes the folder, or recognises it as this node's.
///
/// # Errors
///
/// If it is another node's or another cluster's, another process has it, or the disk refuses.
pub(super) fn claim(dir: &Path, cluster: &InitialCluster, name: &str) -> anyhow::Result<()> {
    let shown = dir.display();
    fs::create_dir_all(dir).with_context(|| format!("creating the data folder {shown}"))?;
    let path = dir.join(OWNER_FILE);
    let expected = owner(cluster, name);
    match fs::read_to_string(&path) {
        Ok(found) if found == expected => check_unused(dir),
        Ok(found) => bail!(
            "{shown} is the data folder of another node; nothing was changed.\n  \
             the folder:   {}\n  these flags:  {}\nStart it with the flags that it was made with, \
             or choose another --data-dir.",
            found.trim(),
            expected.trim()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::write(&path, expected).with_context(|| format!("writing {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn owner(cluster: &InitialCluster, name: &str) -> String {
    format!("cluster {:016x}, member {:016x}, name {name}\n", cluster.cluster_id, cluster.own_id)
}

/// The log's lock says it too, and for good; this asks before anything is opened.
fn check_unused(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("wal").join("LOCK");
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

    #[test]
    fn a_folder_is_claimed_once_and_recognised_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        claim(&dir.path().join("new/er"), &mine, "a").unwrap();
        claim(dir.path(), &mine, "a").unwrap();
        claim(dir.path(), &mine, "a").unwrap();
    }

    #[test]
    fn the_folder_of_another_cluster_or_node_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), &cluster("a=http://h:1", "http://h:1"), "a").unwrap();
        let before = fs::read(dir.path().join(OWNER_FILE)).unwrap();
        let other = cluster("a=http://h:2", "http://h:2");
        let error = claim(dir.path(), &other, "a").unwrap_err().to_string();
        assert!(error.contains("another node") && error.contains("name a"), "{error}");
        assert_eq!(fs::read(dir.path().join(OWNER_FILE)).unwrap(), before);
    }

    #[test]
    fn a_folder_that_a_process_holds_is_refused_with_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let mine = cluster("a=http://h:1", "http://h:1");
        claim(dir.path(), &mine, "a").unwrap();
        fs::create_dir(dir.path().join("wal")).unwrap();
        fs::write(dir.path().join("wal/LOCK"), "4711\n").unwrap();
        let holder = fs::File::open(dir.path().join("wal/LOCK")).unwrap();
        rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let error = claim(dir.path(), &mine, "a").unwrap_err().to_string();
        assert!(error.contains("in use by process 4711"), "{error}");
    }
}
