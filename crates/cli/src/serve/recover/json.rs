//! What was found, what would be done and what was, as one JSON object for programs. Ids are hexadecimal
//! texts, as everywhere. Decides nothing.

use super::choice::{Assurance, Worth};
use super::make::Made;
use super::plan::{Buried, Plan};
use super::remains::{Remains, Root, Snapshot, Start, State};
use crate::serve::initial_cluster::InitialMember;
use quorate::core::{Configuration, LogId, LogIndex, Member, MemberRole, NodeId};
use quorate::wal::Standing;
use quorate_kv::Revision;
use quorate_server::MemberContext;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Everything.
pub(super) fn all(folders: &[Remains], plan: Option<&Plan>, made: Option<&Made>) -> Value {
    let worth = |place: usize| plan.and_then(|plan| plan.choice.worths.get(place));
    let folders = folders.iter().enumerate().map(|(place, it)| folder(it, worth(place)));
    let folders: Vec<Value> = folders.collect();
    json!({ "folders": folders, "plan": plan.map(plan_json), "made": made.map(made_json) })
}

fn log_id(log_id: LogId) -> Value {
    json!({ "index": log_id.index.get(), "term": log_id.term.get() })
}

fn range(range: Option<(LogIndex, LogIndex)>) -> Value {
    range.map_or(Value::Null, |(first, last)| json!({ "first": first.get(), "last": last.get() }))
}

fn id(id: NodeId) -> String {
    format!("{:x}", id.get())
}

fn folder(folder: &Remains, worth: Option<&Worth>) -> Value {
    let configuration = folder.configuration_at(folder.last_log().index);
    json!({
        "data_dir": folder.dir.display().to_string(),
        "wal_dir": folder.log_dir.display().to_string(),
        "member": folder.root.as_ref().map(root),
        "log": {
            "case": folder.log.case, "sound": folder.log.is_sound, "text": folder.log.verdict,
            "last": folder.root.as_ref().map(|_| log_id(folder.last_log())),
        },
        "configuration": configuration.as_deref().map(members),
        "state": state(&folder.state),
        "snapshots": folder.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "snapshot_trouble": folder.snapshot_trouble,
        "committed_at_least": folder.known_committed().get(),
        "worth": worth.map(|worth| json!({ "kind": kind(worth), "text": worth.to_string() })),
    })
}

fn kind(worth: &Worth) -> &'static str {
    match worth {
        Worth::Source { .. } => "sound",
        Worth::Damaged { is_accepted: true, .. } => "damaged, accepted",
        Worth::Damaged { is_accepted: false, .. } => "damaged",
        Worth::Useless(_) => "useless",
    }
}

fn root(root: &Root) -> Value {
    let identity = root.identity;
    json!({
        "cluster_id": format!("{:x}", identity.cluster_id),
        "member_id": id(identity.node_id),
        "storage_id": format!("{:032x}", identity.storage_id),
        "opened": root.era,
        "proven": root.standing == Standing::Proven,
        "term": root.term.get(),
        "voted_for": root.voted_for.map(id),
        "base": log_id(root.base.last_included),
    })
}

fn members(configuration: &Configuration) -> Value {
    let member = |(member_id, member): (&NodeId, &Member)| {
        let role = match member.role {
            MemberRole::Voter => "voter",
            MemberRole::Incoming => "incoming",
            MemberRole::Outgoing => "outgoing",
            MemberRole::Learner => "learner",
        };
        let name = MemberContext::from_bytes(&member.context).unwrap_or_default().name;
        let storage_id = configuration.storages.get(member_id);
        json!({
            "id": id(*member_id), "name": name, "role": role, "address": member.address,
            "storage_id": storage_id.map(|storage_id| format!("{storage_id:032x}")),
        })
    };
    let all: Vec<Value> = configuration.members.iter().map(member).collect();
    json!({ "version": configuration.version, "members": all })
}

fn state(state: &State) -> Value {
    match state {
        State::Missing => Value::Null,
        State::Unusable(why) => json!({ "usable": false, "text": why }),
        State::At { applied, covered, revision, key_count } => json!({
            "usable": true, "last_command": log_id(*applied), "applied_index": covered.get(),
            "revision": revision, "keys": key_count,
        }),
    }
}

fn snapshot(snapshot: &Snapshot) -> Value {
    json!({ "last_included": log_id(snapshot.meta.last_included), "damage": snapshot.damage })
}

fn plan_json(plan: &Plan) -> Value {
    let reach = plan.choice.reach;
    let start = match reach.start {
        Start::Nothing => "nothing",
        Start::Snapshot(_) => "snapshot",
        Start::State => "state",
    };
    let absent = match &plan.choice.assurance {
        Assurance::Complete => Vec::new(),
        Assurance::MayMiss { absent } => absent.iter().copied().map(id).collect(),
    };
    json!({
        "from": plan.choice.best, "start": start, "applied_index": reach.from.get(),
        "last": log_id(reach.end),
        "committed_at_least": plan.choice.committed.get(),
        "may_have_been_acknowledged": range(plan.open_entries()),
        "known_to_be_lost": range(plan.known_loss()),
        "may_miss_acknowledged": plan.choice.assurance != Assurance::Complete,
        "may_have_decided_alone": absent,
        "majority_is_here": plan.choice.is_needless,
        "bump_revision": plan.bump,
        "old_cluster_id": format!("{:x}", plan.old_cluster_id),
        "new_cluster_id": format!("{:x}", plan.cluster.cluster_id),
        "initial_cluster": plan.initial_cluster, "initial_cluster_token": plan.token,
        "members": new_members(plan), "buried": buried(plan),
        "output": plan.output.display().to_string(),
        "command": plan.command,
    })
}

fn new_members(plan: &Plan) -> Vec<Value> {
    let member = |(member, dir): (&InitialMember, PathBuf)| {
        let urls: Vec<String> = member.peer_urls.iter().map(ToString::to_string).collect();
        json!({
            "id": format!("{:x}", member.id), "name": member.name, "peer_urls": urls,
            "data_dir": dir.display().to_string(),
        })
    };
    plan.cluster.members.iter().zip(plan.folders()).map(member).collect()
}

fn buried(plan: &Plan) -> Vec<Value> {
    let one = |dead: &Buried| {
        json!({
            "id": id(dead.id), "name": dead.name, "address": dead.address,
            "storage_id": dead.storage_id.map(|storage_id| format!("{storage_id:032x}")),
            "folder_is_here": dead.is_here,
        })
    };
    plan.buried.iter().map(one).collect()
}

fn made_json(made: &Made) -> Value {
    let inherited = &made.inherited;
    let alarms = inherited.alarms.iter().map(
        |alarm| json!({ "member_id": format!("{:x}", alarm.member_id), "alarm": alarm.alarm }),
    );
    json!({
        "time": made.time, "version": made.version,
        "applied_entries": made.applied_count,
        "last_command": log_id(inherited.applied),
        "revision": inherited.revision.get(),
        "compacted_revision": inherited.compacted.map(Revision::get),
        "keys": inherited.key_count,
        "dropped_alarms": alarms.collect::<Vec<_>>(),
        "reports": made.reports.each_ref().map(|report| report.display().to_string()),
    })
}
