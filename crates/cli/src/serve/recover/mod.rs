//! `quorate recover`: begins a new cluster with what is left of one whose quorum is lost for good. Offline.
//! Here are the flags and their order: look, choose, plan, show, and do it only if that very plan is
//! confirmed. The rules are below, each in a file of its own.

mod alone;
mod choice;
mod command;
mod json;
mod make;
mod plan;
mod remains;
mod replay;
mod survey;
mod words;

pub(super) use alone::Alone;
pub(super) use make::reports;

use crate::client::Format;
use anyhow::{Context, bail, ensure};
use make::Made;
use plan::Plan;
use quorate::core::LogIndex;
use remains::Remains;
use std::path::PathBuf;

const EXAMPLES: &str = "\
A cluster of three of which two are lost for good, folders and all, has no quorum: who is left cannot know
what the others decided without it, and serves nobody. As long as a majority can come back, with its
folders, start it instead: nothing is lost then.

  1. Stop every member of the old cluster, and see to it that none starts again. Nothing here can stop
     two of them from finding each other and serving old clients.
  2. Look at all folders that are left. Nothing is changed, and no server can start from them meanwhile:
       quorate recover --data-dir /var/lib/n3
     It says what each holds, which is the best, what is kept, what may be missing and why, and ends with
     status 1 and the command to type. A folder whose disk is elsewhere may be a copy.
  3. Type that command. It makes a new folder and a report beside it; the old folders stay as they are.
       quorate recover --data-dir /var/lib/n3 --output /var/lib/n3.new ... --confirm 9b1c...
  4. Start the new member as the command says at its end, and let others join, with empty folders:
       quorate member add n1 --peer-urls http://10.0.0.1:2380

  Several first members at once, a folder for each below --output, to be brought to their machines; all of
  them must be up once before they serve:
       quorate recover --data-dir n3 --output new \\
         --initial-cluster n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380

The new cluster has keys, revisions, leases and users of the old one, and neither its alarms nor its
sessions. It has an id of its own. Members of the old one are turned away, as strangers by their
cluster's id, and under their old ids for ever.

If writes that were acknowledged may be missing, clients may have seen revisions that are gone. So the
new cluster goes on 1000000000 revisions later with everything before compacted, unless
--bump-revision says otherwise: whoever watches is told `compacted` and reads anew.

A log that is damaged is of use up to the damage, if --accept-loss-after names the last entry before it,
as the plan does.";

/// Begins a new cluster with what is left of one whose quorum is lost for good.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Recover {
    /// The data folder of a stopped member; once for each that is left
    #[arg(long = "data-dir", required = true, value_name = "FOLDER")]
    data_dirs: Vec<PathBuf>,
    /// Where the log of such a member is, if neither in its data folder nor where that says
    #[arg(long = "wal-dir", value_name = "FOLDER")]
    wal_dirs: Vec<PathBuf>,
    /// The folder to make; with several members one for each below it [default: FOLDER.recovered]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// The first members of the new cluster [default: the one whose folder is the best, alone]
    #[arg(long, value_name = "NAME=URL,...")]
    initial_cluster: Option<String>,
    /// Makes the new cluster's id another one [default: `recovered-` and the old id and last entry]
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// How many revisions to leave out, with everything before compacted; 0 for none [default:
    /// 1000000000 if acknowledged writes may be missing, else 0]
    #[arg(long, value_name = "COUNT")]
    bump_revision: Option<u64>,
    /// Use a damaged log up to this entry, and give up what it held behind it
    #[arg(long, value_name = "INDEX")]
    accept_loss_after: Vec<u64>,
    /// Do it: the id of the new cluster, as the plan shows it
    #[arg(long, value_name = "CLUSTER_ID")]
    confirm: Option<String>,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t = Format::Simple, value_name = "FORMAT")]
    write_out: Format,
}

impl Recover {
    /// Looks, and does it if it is confirmed.
    ///
    /// # Errors
    ///
    /// If it is not confirmed, cannot be done, or the disk refuses. Nothing has got the new folder's
    /// name then.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let accepted: Vec<LogIndex> =
            self.accept_loss_after.iter().copied().map(LogIndex::new).collect();
        // No server starts from them until this ends.
        let (folders, _held) = survey::survey(&self.data_dirs, &self.wal_dirs)?;
        let chosen = choice::choose(&folders, &accepted).map_err(anyhow::Error::from);
        let plan = match chosen.and_then(|choice| plan::plan(self, &folders, choice)) {
            Ok(plan) => plan,
            Err(error) => {
                self.show(&folders, None, None)?;
                return Err(error.context("nothing was changed"));
            }
        };
        let Some(given) = &self.confirm else {
            self.show(&folders, Some(&plan), None)?;
            bail!("nothing was changed. To have it done, type:\n  {}", plan.command);
        };
        if self.write_out != Format::Json {
            self.show(&folders, Some(&plan), None)?;
        }
        check_confirmed(given, &plan)?;
        let made = make::make(&plan, &folders)?;
        match self.write_out {
            Format::Json => self.show(&folders, Some(&plan), Some(&made)),
            Format::Simple | Format::Table | Format::Fields => {
                Ok(crate::output::text(&words::made(&plan, &made))?)
            }
        }
    }

    fn show(
        &self,
        folders: &[Remains],
        plan: Option<&Plan>,
        made: Option<&Made>,
    ) -> anyhow::Result<()> {
        let text = match self.write_out {
            Format::Json => format!("{}\n", json::all(folders, plan, made)),
            Format::Simple | Format::Table | Format::Fields => words::all(folders, plan),
        };
        Ok(crate::output::text(&text)?)
    }
}

/// The id of the new cluster is made of its members and of the old cluster's last entry: what was shown
/// for another one is not what would be done.
fn check_confirmed(given: &str, plan: &Plan) -> anyhow::Result<()> {
    let id = plan.cluster.cluster_id;
    let digits = given.strip_prefix("0x").unwrap_or(given);
    let found = u64::from_str_radix(digits, 16).with_context(|| {
        format!("--confirm {given}: expected a cluster's id in hexadecimal; nothing was changed")
    })?;
    ensure!(
        found == id,
        "--confirm {given}: expected {id:x}, the id of the cluster that this would begin; nothing was \
         changed. The folders, or the flags, are not those that the other id was shown for: read the \
         plan again"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
