//! One member that goes on alone, by the same rules and from its folder only: for a start with
//! `--force-new-cluster`. Must not know where what it makes is brought.

use super::make::{Made, make_at};
use super::plan::{Plan, plan};
use super::remains::Remains;
use super::survey::{Held, survey};
use super::{Recover, choice, words};
use crate::client::Format;
use crate::serve::folder::{self, Owner};
use crate::serve::initial_cluster::InitialCluster;
use anyhow::Context;
use std::path::Path;

/// What is typed to have it done.
const COMMAND: &str = "quorate serve --force-new-cluster ...";

/// See the module. As long as it lives no server starts from the folder.
pub(in crate::serve) struct Alone {
    folders: Vec<Remains>,
    plan: Plan,
    _held: Held,
}

impl Alone {
    /// Looks at a member's folder. `own` is how it is called and where, should the folder not say.
    /// Nothing if the member is a quorum by itself.
    ///
    /// # Errors
    ///
    /// If the folder is in use, or no cluster can go on from it.
    pub(in crate::serve) fn look(
        data_dir: &Path,
        wal_dir: Option<&Path>,
        own: &str,
    ) -> anyhow::Result<Option<Self>> {
        let place = folder::log_place(data_dir, wal_dir)?;
        let wal_dirs = place.is_elsewhere().then(|| place.dir().to_owned());
        let wal_dirs: Vec<_> = wal_dirs.into_iter().collect();
        let (folders, held) = survey(&[data_dir.to_owned()], &wal_dirs)?;
        let choice = choice::choose(&folders, &[])?;
        if choice.is_needless {
            return Ok(None);
        }
        let mut flags = Recover {
            data_dirs: vec![data_dir.to_owned()],
            wal_dirs,
            output: Some(data_dir.to_owned()),
            initial_cluster: None,
            initial_cluster_token: None,
            bump_revision: None,
            accept_loss_after: Vec::new(),
            confirm: None,
            write_out: Format::Simple,
        };
        let planned = plan(&flags, &folders, choice.clone()).or_else(|_| {
            flags.initial_cluster = Some(own.to_owned());
            plan(&flags, &folders, choice)
        });
        let plan = Plan { command: COMMAND.to_owned(), ..planned? };
        Ok(Some(Self { folders, plan, _held: held }))
    }

    /// Makes the new folder, which has its log in it.
    ///
    /// # Errors
    ///
    /// If something cannot be read, or the disk refuses. There is no new folder then.
    pub(in crate::serve) fn make_at(&self, place: &Path) -> anyhow::Result<Made> {
        make_at(&self.plan, &self.folders, place)
    }

    /// Who it was.
    pub(in crate::serve) fn old(&self) -> anyhow::Result<Owner> {
        let root = self.folders.first().and_then(|folder| folder.root.as_ref());
        let identity = root.context("the chosen folder says whose it is")?.identity;
        Ok(Owner { cluster_id: identity.cluster_id, member_id: identity.node_id.get() })
    }

    /// The new cluster, of which it is the only member.
    pub(in crate::serve) const fn cluster(&self) -> &InitialCluster {
        &self.plan.cluster
    }

    /// What was decided, a line each.
    pub(in crate::serve) fn words(&self) -> Vec<String> {
        let text = words::decided(&self.folders, &self.plan);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).filter(|line| !line.is_empty()).collect()
    }
}
