//! What a recovery would do: who becomes a member, who is buried, what becomes of revisions, and where
//! it all goes. Decides, and does nothing; which folder is the best was decided before.

use super::choice::{Assurance, Choice};
use super::remains::Remains;
use super::{Recover, command};
use crate::serve::initial_cluster::{self, InitialCluster};
use anyhow::{Context, ensure};
use quorate::core::{LogIndex, Member, NodeId};
use quorate_server::{MemberContext, peer_urls_of};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Revisions are left out if clients may have seen some that are lost. So many have never been given in
/// the time between two copies of a log.
const BUMP: u64 = 1_000_000_000;
/// A configuration remembers so many removed members, the last ones.
const TOMBSTONES_COUNT_MAX: usize = 256;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) choice: Choice,
    pub(super) old_cluster_id: u64,
    /// The new cluster, as its first member sees it.
    pub(super) cluster: InitialCluster,
    pub(super) token: String,
    /// `--initial-cluster` of the new members.
    pub(super) initial_cluster: String,
    /// The members of the old cluster.
    pub(super) buried: Vec<Buried>,
    /// Every id that no member of the new cluster may have, the oldest first.
    pub(super) tombstones: Vec<NodeId>,
    pub(super) bump: u64,
    pub(super) output: PathBuf,
    /// What to type to have it done.
    pub(super) command: String,
}

/// A member of the old cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buried {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) address: String,
    /// The disk that the cluster knew it with.
    pub(super) storage_id: Option<u128>,
    /// One of the folders here is its own.
    pub(super) is_here: bool,
}

/// Plans.
///
/// # Errors
///
/// If the flags contradict each other or the old cluster.
pub(super) fn plan(flags: &Recover, folders: &[Remains], choice: Choice) -> anyhow::Result<Plan> {
    let best = folders.get(choice.best).context("one folder was chosen")?;
    let root = best.root.as_ref().context("the chosen folder says whose it is")?;
    let (old_cluster_id, end) = (root.identity.cluster_id, choice.reach.end);
    let token = flags.initial_cluster_token.clone();
    let token =
        token.unwrap_or_else(|| format!("recovered-{old_cluster_id:x}-{}-{}", end.index, end.term));
    let initial_cluster = match &flags.initial_cluster {
        Some(text) => text.clone(),
        None => alone(&choice, root.identity.node_id)?,
    };
    let cluster = cluster(&initial_cluster, &token)?;
    let buried = buried(&choice, folders);
    let tombstones = tombstones(&choice);
    check_new(&cluster, old_cluster_id, &tombstones)?;
    let bump = flags.bump_revision.unwrap_or_else(|| default_bump(&choice));
    let default = || best.dir.with_added_extension("recovered");
    let output = flags.output.clone().unwrap_or_else(default);
    let mut plan = Plan {
        choice,
        old_cluster_id,
        cluster,
        token,
        initial_cluster,
        buried,
        tombstones,
        bump,
        output,
        command: String::new(),
    };
    plan.command = command::recover(flags, &plan);
    Ok(plan)
}

/// The member whose folder it is, where it was.
fn alone(choice: &Choice, id: NodeId) -> anyhow::Result<String> {
    let member = choice.configuration.members.get(&id);
    let name = member.map(name_of).filter(|name| !name.is_empty());
    let (Some(member), Some(name)) = (member, name) else {
        anyhow::bail!(
            "the folder does not say what its member is called and where: name the first members of the \
             new cluster with --initial-cluster NAME=URL,..."
        );
    };
    let named = peer_urls_of(member).into_iter().map(|url| format!("{name}={url}"));
    Ok(named.collect::<Vec<_>>().join(","))
}

fn name_of(member: &Member) -> String {
    MemberContext::from_bytes(&member.context).unwrap_or_default().name
}

/// As `quorate serve` reads the same flags, so that the ids are the same.
fn cluster(text: &str, token: &str) -> anyhow::Result<InitialCluster> {
    let by_name = initial_cluster::urls_by_name(text, "--initial-cluster")?;
    let (name, urls) = by_name.first_key_value().context("--initial-cluster names nobody")?;
    let is_plain = |name: &String| !name.contains(['/', '\\']) && name != "." && name != "..";
    ensure!(
        by_name.len() == 1 || by_name.keys().all(is_plain),
        "--initial-cluster: each member's folder is called as the member, and these names are none that a \
         folder can have"
    );
    Ok(InitialCluster::parse(text, token, name, urls)?)
}

fn buried(choice: &Choice, folders: &[Remains]) -> Vec<Buried> {
    let here: BTreeSet<NodeId> =
        folders.iter().filter_map(|folder| Some(folder.root.as_ref()?.identity.node_id)).collect();
    let configuration = &choice.configuration;
    let member = |(id, member): (&NodeId, &Member)| Buried {
        id: *id,
        name: name_of(member),
        address: member.address.clone(),
        storage_id: configuration.storages.get(id).copied(),
        is_here: here.contains(id),
    };
    configuration.members.iter().map(member).collect()
}

fn tombstones(choice: &Choice) -> Vec<NodeId> {
    let configuration = &choice.configuration;
    let before = configuration.removed.iter().filter(|id| !configuration.members.contains_key(id));
    let mut all: Vec<NodeId> = before.chain(configuration.members.keys()).copied().collect();
    all.split_off(all.len().saturating_sub(TOMBSTONES_COUNT_MAX))
}

/// Nothing of the new cluster may be called as something of the old one.
fn check_new(
    cluster: &InitialCluster,
    old_cluster_id: u64,
    tombstones: &[NodeId],
) -> anyhow::Result<()> {
    let is_old = |id: u64| tombstones.contains(&NodeId::new(id));
    let clash = cluster.members.iter().find(|member| is_old(member.id));
    ensure!(
        cluster.cluster_id != old_cluster_id && clash.is_none(),
        "with this --initial-cluster-token the new cluster, or a member of it, has the id of an old one: \
         say another token"
    );
    Ok(())
}

/// A client that has seen a revision which is lost must not see another change under its number, nor
/// believe that it has seen all up to there. Where nothing can be lost nobody needs to read anew.
fn default_bump(choice: &Choice) -> u64 {
    let is_complete = choice.assurance == Assurance::Complete;
    if is_complete && choice.committed <= choice.reach.end.index { 0 } else { BUMP }
}

impl Plan {
    /// The entries of the log that nothing here says were committed.
    pub(super) fn open_entries(&self) -> Option<(LogIndex, LogIndex)> {
        let (first, last) = (self.choice.committed.next(), self.choice.reach.end.index);
        (first <= last).then_some((first, last))
    }

    /// The entries that are known to have been committed, and are not kept.
    pub(super) fn known_loss(&self) -> Option<(LogIndex, LogIndex)> {
        let (first, last) = (self.choice.reach.end.index.next(), self.choice.committed);
        (first <= last).then_some((first, last))
    }

    /// Each new member's folder.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        match self.cluster.members.as_slice() {
            [_] => vec![self.output.clone()],
            several => several.iter().map(|member| self.output.join(&member.name)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::choose;
    use super::super::remains::tests::{at, remains, state};
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        recover: Recover,
    }

    fn flags(words: &[&str]) -> Recover {
        let all = ["recover", "--data-dir", "n1.data"].iter().chain(words);
        Program::try_parse_from(all).unwrap().recover
    }

    fn planned(words: &[&str], folders: &[Remains]) -> Result<Plan, String> {
        let choice = choose(folders, &[]).unwrap();
        plan(&flags(words), folders, choice).map_err(|error| error.to_string())
    }

    #[test]
    fn the_survivor_alone_begins_a_cluster_of_another_id_in_which_all_old_members_are_buried() {
        let plan = planned(&[], &[remains(1, "9@2")]).unwrap();
        assert_eq!(plan.token, "recovered-c1-9-2");
        assert_eq!(plan.initial_cluster, "n1=http://10.0.0.1:2380");
        assert_eq!(plan.cluster.members.len(), 1);
        assert_ne!(plan.cluster.cluster_id, 0xc1);
        assert_eq!(plan.tombstones, [1, 2, 3].map(NodeId::new));
        let names: Vec<_> = plan.buried.iter().map(|it| (it.name.as_str(), it.is_here)).collect();
        assert_eq!(names, [("n1", true), ("n2", false), ("n3", false)]);
        assert_eq!(plan.buried[1].storage_id, Some(32));
        assert_eq!(plan.folders(), [PathBuf::from("n1.data.recovered")]);
    }

    #[test]
    fn several_members_have_a_folder_each_and_the_ids_that_a_server_makes_of_the_same_flags() {
        let members = "a=http://127.0.0.1:34102,b=http://127.0.0.1:34112,c=http://127.0.0.1:34122";
        let words = ["--initial-cluster", members, "--initial-cluster-token", "etcd-cluster"];
        let plan = planned(&[&words[..], &["--output", "new"]].concat(), &[remains(1, "9@2")]);
        let plan = plan.unwrap();
        assert_eq!(plan.cluster.cluster_id, 14_195_544_604_942_765_426);
        assert_eq!(plan.folders(), ["new/a", "new/b", "new/c"].map(PathBuf::from));
        assert!(planned(&["--initial-cluster", "a=https://h:1"], &[remains(1, "9@2")]).is_ok());
        let out =
            planned(&["--initial-cluster", "a=http://h:1,../b=http://h:2"], &[remains(1, "9@2")]);
        assert!(out.unwrap_err().contains("none that a folder can have"));
    }

    #[test]
    fn an_id_of_the_old_cluster_is_not_given_again() {
        let mut folder = remains(1, "9@2");
        let words = ["--initial-cluster-token", "same"];
        let new = planned(&words, std::slice::from_ref(&folder)).unwrap().cluster;
        let root = folder.root.as_mut().unwrap();
        root.identity.cluster_id = new.cluster_id;
        let refused = planned(&words, std::slice::from_ref(&folder)).unwrap_err();
        assert!(refused.contains("another token"), "{refused}");
        let root = folder.root.as_mut().unwrap();
        root.identity.cluster_id = 7;
        let configuration = std::sync::Arc::make_mut(&mut root.base.configuration);
        configuration.removed.push(NodeId::new(new.own_id));
        let refused = planned(&words, &[folder]).unwrap_err();
        assert!(refused.contains("another token"), "{refused}");
    }

    #[test]
    fn revisions_are_left_out_where_some_may_be_lost_and_only_there() {
        let bump = |words: &[&str], folders: &[Remains]| planned(words, folders).unwrap().bump;
        let (one, two) = (remains(1, "9@2"), remains(2, "9@2"));
        assert_eq!(bump(&[], std::slice::from_ref(&one)), BUMP);
        assert_eq!(bump(&["--bump-revision", "0"], std::slice::from_ref(&one)), 0);
        assert_eq!(bump(&[], &[one.clone(), two.clone()]), 0);
        assert_eq!(bump(&["--bump-revision", "5"], &[one, two]), 5);
    }

    #[test]
    fn entries_that_may_have_been_acknowledged_are_told_from_those_that_were_and_are_lost() {
        let mut folder = remains(1, "9@2");
        folder.state = state("7@2", 8);
        let plan = planned(&[], std::slice::from_ref(&folder)).unwrap();
        assert_eq!(plan.open_entries(), Some((LogIndex::new(9), LogIndex::new(9))));
        assert_eq!(plan.known_loss(), None);
        let mut damaged = remains(2, "4@2");
        damaged.log.is_sound = false;
        damaged.state = state("12@2", 12);
        let plan = planned(&[], &[folder, damaged]).unwrap();
        assert_eq!((plan.choice.reach.end, plan.open_entries()), (at("9@2"), None));
        assert_eq!(plan.known_loss(), Some((LogIndex::new(10), LogIndex::new(12))));
        assert_eq!(plan.bump, BUMP);
    }

    #[test]
    fn a_configuration_remembers_the_last_of_its_dead() {
        let mut folder = remains(1, "9@2");
        let root = folder.root.as_mut().unwrap();
        let configuration = std::sync::Arc::make_mut(&mut root.base.configuration);
        configuration.removed = (1000..1300).map(NodeId::new).collect();
        let plan = planned(&[], &[folder]).unwrap();
        assert_eq!(plan.tombstones.len(), TOMBSTONES_COUNT_MAX);
        assert_eq!(plan.tombstones.last(), Some(&NodeId::new(3)));
    }
}
