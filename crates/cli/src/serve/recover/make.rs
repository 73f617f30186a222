//! Carries a plan out: the folders of the new members, and the report. Nothing gets the new folder's name
//! before all of it is there. Decides nothing.

use super::plan::Plan;
use super::remains::Remains;
use super::{json, replay, words};
use crate::serve::initial_cluster::InitialCluster;
use crate::serve::workshop::Workshop;
use crate::serve::{STATE_FILE, folder, founders};
use anyhow::{Context, bail, ensure};
use quorate::Node;
use quorate::core::Configuration;
use quorate_kv::{Inherited, Inline, RedbEngine};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Where a store is brought forward, in the unfinished folder.
const SCRATCH: &str = "scratch";
/// The report beside the folder, for programs and for people.
const REPORTS: [&str; 2] = ["recovery.json", "recovery.txt"];

/// What was made.
#[derive(Clone, Debug)]
pub(in crate::serve) struct Made {
    /// When, in UTC.
    pub(super) time: String,
    /// The release that did it.
    pub(super) version: &'static str,
    /// How many entries of the log were applied.
    pub(super) applied_count: u64,
    pub(super) inherited: Inherited,
    pub(super) reports: [PathBuf; 2],
}

/// Carries the plan out.
///
/// # Errors
///
/// If the place is taken, something cannot be read, or the disk refuses. There is no new folder then.
pub(super) fn make(plan: &Plan, folders: &[Remains]) -> anyhow::Result<Made> {
    folder::check_vacant(&plan.output).context("--output")?;
    make_at(plan, folders, &plan.output)
}

/// The same at another place, which must be vacant: whoever says so brings the folder where it belongs.
pub(super) fn make_at(plan: &Plan, folders: &[Remains], place: &Path) -> anyhow::Result<Made> {
    let source = folders.get(plan.choice.best).context("one folder was chosen")?;
    let reports = reports(place);
    for report in &reports {
        ensure!(
            !report.exists(),
            "{} is the report of another recovery, and is not overwritten: move it away, or choose \
             another --output",
            report.display()
        );
    }
    let workshop = Workshop::open(place)?;
    let made = fill(plan, source, workshop.path(), reports.clone());
    let made = made.and_then(|made| write_reports(plan, folders, &made).map(|()| made));
    match made {
        Ok(made) => {
            workshop.finish()?;
            name_reports(&made)?;
            Ok(made)
        }
        Err(error) => {
            workshop.abandon();
            for report in &reports {
                // It need not be there yet.
                let _gone = fs::remove_file(unfinished(report));
            }
            Err(error.context("recovering; nothing was made"))
        }
    }
}

/// The reports of what is made at this place.
pub(in crate::serve) fn reports(place: &Path) -> [PathBuf; 2] {
    REPORTS.map(|name| place.with_added_extension(name))
}

fn fill(plan: &Plan, source: &Remains, dir: &Path, reports: [PathBuf; 2]) -> anyhow::Result<Made> {
    let scratch = dir.join(SCRATCH);
    fs::create_dir(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let content = scratch.join("content");
    let applied_count = replay::replay(source, plan.choice.reach, &scratch, &content)
        .with_context(|| format!("bringing a copy of {} forward", source.dir.display()))?;
    let mut all: Option<Inherited> = None;
    let cluster = &plan.cluster;
    for member in &cluster.members {
        let is_alone = cluster.members.len() == 1;
        let own = if is_alone { dir.to_owned() } else { dir.join(&member.name) };
        fs::create_dir_all(&own).with_context(|| format!("creating {}", own.display()))?;
        let cluster = InitialCluster { own_id: member.id, ..cluster.clone() };
        let inherited = found(plan, &cluster, &member.name, &own, &content)?;
        if all.as_ref().is_some_and(|all| *all != inherited) {
            bail!("the first members would not begin alike: this is a bug, please report it");
        }
        all = Some(inherited);
    }
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    let mut time = String::new();
    // A clock that cannot be shown is no reason to end here.
    let _shown = SystemTime.format_time(&mut Writer::new(&mut time));
    let inherited = all.context("--initial-cluster names nobody")?;
    Ok(Made { time, version: env!("CARGO_PKG_VERSION"), applied_count, inherited, reports })
}

/// Makes one member's folder.
fn found(
    plan: &Plan,
    cluster: &InitialCluster,
    name: &str,
    dir: &Path,
    content: &Path,
) -> anyhow::Result<Inherited> {
    let engine = RedbEngine::open(&dir.join(STATE_FILE)).context("making the state's file")?;
    let (mut machine, reader) = quorate_kv::open(Arc::new(engine), Arc::new(Inline))?;
    let inherited = machine.inherit(&mut File::open(content)?, plan.bump)?;
    let removed = plan.tombstones.clone();
    let founders = Configuration { removed, ..founders(cluster, &BTreeMap::new()) };
    Node::builder(cluster.own_id, dir)
        .cluster_id(cluster.cluster_id)
        .members(founders)
        .found_after(inherited.applied, machine)?;
    if let Some(why) = reader.failure() {
        bail!("the state has failed: {why}");
    }
    folder::record_owner(dir, cluster, name)?;
    Ok(inherited)
}

fn unfinished(report: &Path) -> PathBuf {
    report.with_added_extension("part")
}

/// Durably, under names that say that the folder has not got its own yet.
fn write_reports(plan: &Plan, folders: &[Remains], made: &Made) -> anyhow::Result<()> {
    let json = format!("{}\n", json::all(folders, Some(plan), Some(made)));
    let text = format!("{}{}", words::all(folders, Some(plan)), words::made(plan, made));
    for (report, content) in made.reports.iter().zip([json, text]) {
        let path = unfinished(report);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn name_reports(made: &Made) -> anyhow::Result<()> {
    for report in &made.reports {
        let name = || {
            fs::rename(unfinished(report), report)?;
            let parent = report.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        name().with_context(|| {
            format!("the folder is made; giving its report the name {}", report.display())
        })?;
    }
    Ok(())
}
