//! What was found and what would be done, as text for people. Decides nothing.

use super::choice::Assurance;
use super::command;
use super::make::Made;
use super::plan::{Buried, Plan};
use super::remains::{Remains, Root, Snapshot, Start, State};
use quorate::core::{Configuration, LogIndex, Member, MemberRole, NodeId};
use quorate::wal::Standing;
use quorate_kv::AlarmKind;
use quorate_server::MemberContext;

/// A label and what it stands for, one line each.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn head(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn line(&mut self, label: &str, text: &str) {
        self.head(&format!("  {label:<14} {text}"));
    }
}

/// The folders, and the plan if there is one.
pub(super) fn all(folders: &[Remains], plan: Option<&Plan>) -> String {
    let mut lines = Lines::default();
    lines.head("What is left (an entry is written INDEX@TERM)\n");
    for (place, folder) in folders.iter().enumerate() {
        add_folder(&mut lines, folder);
        if let Some(worth) = plan.and_then(|plan| plan.choice.worths.get(place)) {
            lines.line("worth", &worth.to_string());
        }
        lines.head("");
    }
    if let Some(plan) = plan {
        lines.head("What a recovery does\n");
        lines.0.push_str(&decided(folders, plan));
        lines.head("");
    }
    lines.0
}

/// What is made of the folders.
pub(super) fn decided(folders: &[Remains], plan: &Plan) -> String {
    let mut lines = Lines::default();
    add_source(&mut lines, folders, plan);
    add_losses(&mut lines, plan);
    add_cluster(&mut lines, plan);
    lines.0
}

fn add_folder(lines: &mut Lines, folder: &Remains) {
    lines.head(&folder.dir.display().to_string());
    if let Some(root) = &folder.root {
        add_root(lines, root);
    }
    lines.line("log", &folder.log.verdict);
    if folder.root.is_some() {
        let label = if folder.log.is_sound { "ends with" } else { "readable to" };
        lines.line(label, &format!("entry {}", folder.last_log()));
    }
    if let Some(configuration) = folder.configuration_at(folder.last_log().index) {
        lines.line("members", &members(&configuration));
    }
    lines.line("state", &state(&folder.state));
    lines.line("snapshots", &snapshots(folder));
    let committed = match folder.known_committed() {
        LogIndex::ORIGIN => "how far is not written down".to_owned(),
        index => format!("up to entry {index} at least: how far is not written down"),
    };
    lines.line("committed", &committed);
}

fn add_root(lines: &mut Lines, root: &Root) {
    let Root { identity, era, term, voted_for, standing, .. } = root;
    lines.line(
        "member",
        &format!(
            "{:x} of cluster {:x}; disk {:032x}, {}, opened {era} times",
            identity.node_id.get(),
            identity.cluster_id,
            identity.storage_id,
            match standing {
                Standing::Proven => "proven",
                Standing::Unproven => "unproven",
            },
        ),
    );
    let vote = voted_for.map_or("nobody".to_owned(), |id| format!("{:x}", id.get()));
    lines.line("promised", &format!("term {term}, voted for {vote}"));
}

fn members(configuration: &Configuration) -> String {
    let word = |(id, member): (&NodeId, &Member)| {
        let role = match member.role {
            MemberRole::Voter => "voter",
            MemberRole::Incoming => "incoming voter",
            MemberRole::Outgoing => "outgoing voter",
            MemberRole::Learner => "learner",
        };
        format!("{}, {role}", titled(*id, &name_of(member), &member.address))
    };
    let members: Vec<String> = configuration.members.iter().map(word).collect();
    format!("version {}: {}", configuration.version, members.join("; "))
}

fn name_of(member: &Member) -> String {
    MemberContext::from_bytes(&member.context).unwrap_or_default().name
}

/// `n1 (4f, 10.0.0.1:2380)`.
fn titled(id: NodeId, name: &str, address: &str) -> String {
    let name = if name.is_empty() { "unnamed" } else { name };
    format!("{name} ({:x}, {address})", id.get())
}

fn state(state: &State) -> String {
    match state {
        State::Missing => "none".to_owned(),
        State::Unusable(why) => format!("of no use: {why}"),
        State::At { covered, revision, key_count, .. } => {
            format!("applied up to entry {covered}: revision {revision}, {key_count} keys")
        }
    }
}

fn snapshots(folder: &Remains) -> String {
    if let Some(trouble) = &folder.snapshot_trouble {
        return format!("cannot be looked at: {trouble}");
    }
    let one = |snapshot: &Snapshot| {
        let at = snapshot.meta.last_included;
        match &snapshot.damage {
            None => format!("{at}, whole"),
            Some(damage) => format!("{at}, of no use: {damage}"),
        }
    };
    let all: Vec<String> = folder.snapshots.iter().map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join("; ") }
}

/// `entry 9`, or `entries 9 to 12`.
fn entries((first, last): (LogIndex, LogIndex)) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

fn add_source(lines: &mut Lines, folders: &[Remains], plan: &Plan) {
    let reach = plan.choice.reach;
    let dir = folders.get(plan.choice.best).map(|folder| folder.dir.display().to_string());
    lines.line(
        "from",
        &format!(
            "{}, which is the best that can be used: by the highest term of the last entry, then by \
             the longest log. It is read and stays as it is",
            dir.unwrap_or_default()
        ),
    );
    let start = match reach.start {
        Start::Nothing => "an empty store".to_owned(),
        Start::Snapshot(at) => format!("its snapshot {at}"),
        Start::State => "a copy of its state".to_owned(),
    };
    let replayed = (reach.from.next(), reach.end.index);
    let log = if replayed.0 > replayed.1 {
        String::new()
    } else {
        format!(", and {} of its log", entries(replayed))
    };
    lines.line("begun with", &format!("{start}{log}"));
    let committed = plan.choice.committed.min(reach.end.index);
    let open = match plan.open_entries() {
        None => "all of them were committed".to_owned(),
        Some(open) => format!(
            "up to entry {committed} they were committed. Whether {} had been acknowledged nobody here can \
             tell. To drop that could drop what was acknowledged; to keep it is what a leader might \
             have done",
            entries(open)
        ),
    };
    lines.line("kept", &format!("everything up to entry {}; {open}", reach.end));
}

fn add_losses(lines: &mut Lines, plan: &Plan) {
    if let Some(lost) = plan.known_loss() {
        let text =
            format!("{}: they were committed, and no folder that is used has them", entries(lost));
        lines.line("LOST", &text);
    }
    let text = match &plan.choice.assurance {
        Assurance::Complete if plan.known_loss().is_some() => {
            "nothing else, unless a folder was put back from an older copy".to_owned()
        }
        Assurance::Complete => "nothing that was acknowledged: without one of the sound folders here \
                                nothing could be committed, unless a folder was put back from an older \
                                copy"
            .to_owned(),
        Assurance::MayMiss { absent } => format!(
            "whatever {} acknowledged among themselves: they could decide without any sound folder that \
             is here. What that was, and whether it was anything, cannot be known from here",
            list(absent, &plan.buried)
        ),
    };
    lines.line("may be missing", &text);
    if plan.choice.is_needless {
        lines.line(
            "BUT",
            "the sound folders here are a majority: start their members instead, and nothing has to be \
             forced",
        );
    }
    let revisions = match plan.bump {
        0 => "go on where they are".to_owned(),
        bump => format!(
            "go on {bump} later, with everything before compacted: no client sees one twice, and who \
             watches reads anew"
        ),
    };
    lines.line("revisions", &revisions);
}

fn list(ids: &[NodeId], buried: &[Buried]) -> String {
    let title = |id: &NodeId| {
        let known = buried.iter().find(|it| it.id == *id);
        known.map_or(format!("{:x}", id.get()), |it| titled(it.id, &it.name, &it.address))
    };
    let all: Vec<String> = ids.iter().map(title).collect();
    all.join(" and ")
}

fn add_cluster(lines: &mut Lines, plan: &Plan) {
    let cluster = &plan.cluster;
    lines.line(
        "new cluster",
        &format!(
            "{:x}, with the token {}; the old one was {:x}",
            cluster.cluster_id, plan.token, plan.old_cluster_id
        ),
    );
    for (member, dir) in cluster.members.iter().zip(plan.folders()) {
        let urls: Vec<String> = member.peer_urls.iter().map(ToString::to_string).collect();
        let text = format!("{} ({:x}) at {}", member.name, member.id, urls.join(", "));
        lines.line("new member", &format!("{text}, in the new folder {}", dir.display()));
    }
    for dead in &plan.buried {
        let disk = dead.storage_id.map_or("not known".to_owned(), |disk| format!("{disk:032x}"));
        let here =
            if dead.is_here { "its folder is here and stays" } else { "nothing of it is here" };
        let title = titled(dead.id, &dead.name, &dead.address);
        lines.line("buried", &format!("{title}, disk {disk}: {here}"));
    }
    lines.line("not taken over", "alarms, and sessions. Every lease has its whole time again");
}

/// What was made, and what to do next.
pub(super) fn made(plan: &Plan, made: &Made) -> String {
    let inherited = &made.inherited;
    let mut lines = Lines::default();
    lines.head(&format!("Made at {} by quorate {}\n", made.time, made.version));
    lines.line("applied", &format!("{} entries of the log", made.applied_count));
    let compacted = if plan.bump > 0 { ", everything before it compacted" } else { "" };
    let (revision, keys) = (inherited.revision, inherited.key_count);
    lines.line("holds", &format!("revision {revision}, {keys} keys{compacted}"));
    for alarm in &inherited.alarms {
        let kind = AlarmKind::try_from(alarm.alarm).unwrap_or_default();
        lines.line(
            "dropped",
            &format!("the alarm {kind:?} of the old member {:x}", alarm.member_id),
        );
    }
    let reports = made.reports.each_ref().map(|report| report.display().to_string());
    lines.line("report", &reports.join(", "));
    lines.head("\nStart it, and nothing of the old cluster any more:");
    lines.head(command::serve(plan).trim_end());
    lines.head("and let others join, each with an empty folder:");
    lines.head("  quorate member add NAME --peer-urls URL");
    lines.0
}
