//! `quorate snapshot restore`: the data folder of a member of a new cluster, made from a backup. Offline;
//! decides who the members are and that nothing half-made has the folder's name. What is inherited is
//! the store's decision, how the log begins that of the node.

use super::initial_cluster::{self, InitialCluster};
use super::url::HttpUrl;
use super::workshop::Workshop;
use super::{STATE_FILE, folder, founders};
use crate::backup_file;
use anyhow::{Context, ensure};
use quorate::Node;
use quorate_kv::{AlarmKind, Inherited, Inline, RedbEngine};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  A cluster of one:
    quorate snapshot restore backup.db --data-dir restored
    quorate serve --data-dir restored

  Three members, each on its own machine, all from the same file with the same flags but the name:
    quorate snapshot restore backup.db --name n1 --data-dir n1.restored \\
      --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380 \\
      --initial-cluster-token after-the-fire
  and then `quorate serve` with the same --name, --data-dir, --initial-cluster and token, and with the
  URLs to listen on. It begins once all members are up, as every new cluster does; from then on a
  majority is enough.

The new cluster has the keys, revisions, leases and users of the file, and no alarms. It has an id of
its own, made of the members' names, URLs and token. Say another token than the old cluster's, so that
no member of that one can be mistaken for one of this.

Clients that watch, such as Kubernetes, may have seen more of the old cluster than the file has. With
--bump-revision 1000000000 --mark-compacted revisions go on well behind everything that they can have
seen, and what they ask of the past is answered with `compacted`: they read everything anew.

A lost member of a cluster that lives is not restored from a file: `quorate member remove` and `add`.";

/// Makes the data folder of a member of a new cluster from a backup.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Restore {
    /// What `quorate snapshot save` or `etcdctl snapshot save` wrote, of a quorate
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What this member will be called
    #[arg(long, default_value = "default")]
    name: String,
    /// The folder to make [default: NAME.quorate]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where the member is to have its log; `quorate serve` is started with the same then [default: the
    /// folder wal in --data-dir]
    #[arg(long, value_name = "FOLDER")]
    wal_dir: Option<PathBuf>,
    /// All members of the new cluster, this one among them [default: this one alone]
    #[arg(long, value_name = "NAME=URL,...")]
    initial_cluster: Option<String>,
    /// Tells clusters with equal addresses apart
    #[arg(long, default_value = "etcd-cluster", value_name = "TOKEN")]
    initial_cluster_token: String,
    /// Where its peers will reach it [default: as --initial-cluster says, or `http://localhost:2380`]
    #[arg(long, value_delimiter = ',', value_name = "URL,...")]
    initial_advertise_peer_urls: Vec<HttpUrl>,
    /// How many revisions to leave out, so that no client sees one twice; needs --mark-compacted
    #[arg(long, default_value_t = 0, value_name = "COUNT", requires = "mark_compacted")]
    bump_revision: u64,
    /// Count everything up to the bumped revision as compacted; needs --bump-revision
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Do not compare the file with the SHA-256 at its end: for one that was copied without it
    #[arg(long)]
    skip_hash_check: bool,
}

/// What the flags mean, checked.
struct Plan {
    data_dir: PathBuf,
    cluster: InitialCluster,
}

impl Restore {
    /// Makes the folder, and says what is in it.
    ///
    /// # Errors
    ///
    /// If the flags make no sense, the folder is in use, the file is not whole, or the disk refuses.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let plan = self.plan()?;
        let shown = self.file.display();
        let mut file = File::open(&self.file).with_context(|| format!("opening {shown}"))?;
        folder::check_vacant(&plan.data_dir)?;
        if let Some(wal_dir) = &self.wal_dir {
            folder::check_vacant(wal_dir).context("--wal-dir")?;
        }
        // Before anything is written.
        if !self.skip_hash_check {
            backup_file::verify(&mut file).with_context(|| format!("{shown}"))?;
        }
        let workshop = Workshop::open(&plan.data_dir)?;
        let made = self.make(workshop.path(), &plan.cluster, &mut file);
        match made {
            Ok(inherited) => {
                workshop.finish()?;
                self.tell(&plan, &inherited);
                Ok(())
            }
            Err(error) => {
                workshop.abandon();
                if let Some(wal_dir) = &self.wal_dir {
                    // Nothing was there before.
                    let _gone = fs::remove_dir_all(wal_dir);
                }
                Err(error.context(format!("restoring {shown}; nothing was made")))
            }
        }
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        ensure!(
            (self.bump_revision > 0) == self.mark_compacted,
            "--bump-revision above 0 and --mark-compacted are given both or not at all: revisions \
             that were left out were never there to be read"
        );
        let cluster = self.cluster()?;
        let default = || PathBuf::from(format!("{}.quorate", self.name));
        Ok(Plan { data_dir: self.data_dir.clone().unwrap_or_else(default), cluster })
    }

    /// As `quorate serve` reads the same flags, so that the ids are the same.
    fn cluster(&self) -> anyhow::Result<InitialCluster> {
        const URL: &str = "http://localhost:2380";
        let given = &self.initial_advertise_peer_urls;
        let alone = || match given.as_slice() {
            [] => format!("{}={URL}", self.name),
            urls => {
                urls.iter().map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>().join(",")
            }
        };
        let text = self.initial_cluster.clone().unwrap_or_else(alone);
        let mut advertised = given.clone();
        if advertised.is_empty() {
            let mut by_name = initial_cluster::urls_by_name(&text, "--initial-cluster")?;
            advertised = by_name.remove(&self.name).unwrap_or_default();
        }
        let token = &self.initial_cluster_token;
        Ok(InitialCluster::parse(&text, token, &self.name, &advertised)?)
    }

    fn make(
        &self,
        dir: &Path,
        cluster: &InitialCluster,
        file: &mut File,
    ) -> anyhow::Result<Inherited> {
        let engine = RedbEngine::open(&dir.join(STATE_FILE)).context("making the state's file")?;
        let (mut machine, reader) = quorate_kv::open(Arc::new(engine), Arc::new(Inline))?;
        let inherited = machine.inherit(file, self.bump_revision)?;
        // Who the clients' URLs are of is told by each member once it serves.
        let founders = founders(cluster, &BTreeMap::new());
        let builder = Node::builder(cluster.own_id, dir).cluster_id(cluster.cluster_id);
        let builder = match &self.wal_dir {
            Some(wal_dir) => builder.wal_dir(wal_dir),
            None => builder,
        };
        builder.members(founders).found_after(inherited.applied, machine)?;
        if let Some(why) = reader.failure() {
            anyhow::bail!("the state has failed: {why}");
        }
        folder::record_owner(dir, cluster, &self.name)?;
        Ok(inherited)
    }

    fn tell(&self, plan: &Plan, inherited: &Inherited) {
        let Plan { data_dir, cluster } = plan;
        println!(
            "Restored {} into {}: member {:x} ({}) of the new cluster {:x}, revision {}, {} keys{}",
            self.file.display(),
            data_dir.display(),
            cluster.own_id,
            self.name,
            cluster.cluster_id,
            inherited.revision,
            inherited.key_count,
            if self.mark_compacted { ", everything before it compacted" } else { "" },
        );
        for alarm in &inherited.alarms {
            let kind = AlarmKind::try_from(alarm.alarm).unwrap_or_default();
            println!("Not taken over: the alarm {kind:?} of the old member {:x}", alarm.member_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        restore: Restore,
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let words = ["restore", "file"].iter().chain(arguments);
        let program = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        program.restore.plan().map_err(|error| error.to_string())
    }

    #[test]
    fn ids_are_those_of_a_serve_with_the_same_flags() {
        let members = "a=http://127.0.0.1:34102,b=http://127.0.0.1:34112,c=http://127.0.0.1:34122";
        let plan = plan(&["--name", "b", "--initial-cluster", members]).unwrap();
        assert_eq!(plan.cluster.cluster_id, 14_195_544_604_942_765_426);
        assert_eq!(plan.cluster.own_id, 0xba02_961d_d552_6fd1);
        assert_eq!(plan.data_dir, PathBuf::from("b.quorate"));
    }

    #[test]
    fn alone_a_member_is_at_the_url_that_it_is_given() {
        assert_eq!(plan(&[]).unwrap().cluster.members.len(), 1);
        let url = "http://127.0.0.1:34002";
        let plan = plan(&["--initial-advertise-peer-urls", url]).unwrap();
        assert_eq!(plan.cluster.cluster_id, 13_230_800_269_370_599_107);
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        assert!(plan(&["--bump-revision", "5"]).is_err());
        assert!(plan(&["--mark-compacted"]).is_err());
        assert!(plan(&["--mark-compacted", "--bump-revision", "0"]).is_err());
        assert!(plan(&["--mark-compacted", "--bump-revision", "5"]).is_ok());
        let refused = plan(&["--initial-cluster", "a=http://h:1"]).err().unwrap();
        assert!(refused.contains("names a, but not this node"), "{refused}");
    }

    #[test]
    fn a_member_at_several_urls_is_called_at_each() {
        let urls = "http://h:2,http://h:1";
        let plan = plan(&["--initial-advertise-peer-urls", urls]).unwrap();
        let founders = founders(&plan.cluster, &BTreeMap::new());
        let addresses: Vec<&str> =
            founders.members.values().map(|member| member.address.as_str()).collect();
        assert_eq!(addresses, ["h:1,h:2"]);
    }

    #[test]
    fn members_may_speak_tls_with_each_other() {
        let plan = plan(&["--initial-cluster", "default=https://h:1"]).unwrap();
        let founders = founders(&plan.cluster, &BTreeMap::new());
        let addresses: Vec<&str> =
            founders.members.values().map(|member| member.address.as_str()).collect();
        assert_eq!(addresses, ["https://h:1"]);
    }
}
