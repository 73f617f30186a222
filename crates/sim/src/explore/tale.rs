//! Tells the way to a violation, an action a line, with the servers as they are after it. Changes
//! nothing; it repeats the steps with the real cores.

use super::action::{Action, Kind, LocalEvent};
use super::bounds::Bounds;
use super::local::{Envelope, Local, Outcome, Setup};
use super::world::Pools;
use quorate_core::{AppendOutcome, Message};

/// The lines of a script.
pub(super) fn tell(
    setup: &Setup,
    bounds: &Bounds,
    pools: &Pools,
    actions: &[Action],
) -> Vec<String> {
    let ids = 1..=u64::from(bounds.nodes);
    let mut servers: Vec<Local> = ids.filter_map(|id| setup.first(id).ok()).collect();
    let mut lines = Vec::new();
    for (count, action) in (1..).zip(actions) {
        let event = action.event;
        let is_taking = matches!(event.kind, Kind::Take | Kind::TakeLate);
        let taken = is_taking.then(|| pools.envelopes.get(event.detail)).flatten();
        let Some(server) = servers.get_mut(usize::from(action.node)) else { continue };
        let Outcome { next, sent, .. } = server.step(setup, event, taken);
        *server = next;
        lines.push(format!("{count:>3}. n{} {}", server.id(), what_happens(action, taken)));
        lines.extend(sent.iter().map(|envelope| {
            format!("       sends n{} {}", envelope.to, describe(&envelope.message))
        }));
        lines.push(format!("       {}", picture(server)));
    }
    lines.push("at the end:".to_owned());
    lines.extend(servers.iter().map(|server| format!("       {}", picture(server))));
    lines
}

fn what_happens(action: &Action, taken: Option<&Envelope>) -> String {
    let LocalEvent { kind, detail, fast_disk } = action.event;
    let mut text = match kind {
        Kind::Take | Kind::TakeLate => {
            let what = taken.map(|e| format!("n{}'s {}", e.from, describe(&e.message)));
            format!("takes {}", what.unwrap_or_default())
        }
        Kind::Deadline => "reaches its deadline".to_owned(),
        Kind::DeadlineLate => "reaches its deadline an election timeout late".to_owned(),
        Kind::Written => "has its oldest write on disk".to_owned(),
        Kind::Crash => {
            format!("crashes with {detail} part(s) of its writes on disk, and starts again")
        }
        Kind::Propose => format!("is given value {detail}"),
        Kind::Read => format!("is asked for read {detail}"),
        Kind::Transfer => format!("is asked to hand over to n{detail}"),
    };
    if kind == Kind::TakeLate {
        text.push_str(", having heard of no leader for a while");
    }
    if action.keeps {
        text.push_str(", which will come again");
    }
    if fast_disk {
        text.push_str(", and writes at once");
    }
    text
}

/// A server in one line; the log shows which entries are on disk.
fn picture(server: &Local) -> String {
    let view = &server.view;
    let log: Vec<String> = server.log.iter().map(|entry| entry.log_id.to_string()).collect();
    let disk: Vec<String> =
        server.disk.entries.iter().map(|entry| entry.log_id.to_string()).collect();
    let hard_state = server.disk.hard_state;
    let vote = hard_state.voted_for.map_or_else(|| "-".to_owned(), |id| format!("n{id}"));
    format!(
        "n{}: {} term={} log=[{}] commit={}; on disk: term={} vote={vote} log=[{}]",
        view.id,
        view.role,
        view.current_term,
        log.join(" "),
        view.commit_index,
        hard_state.current_term,
        disk.join(" "),
    )
}

/// A message in a few words.
fn describe(message: &Message) -> String {
    let term = message.term();
    match message {
        Message::RequestVote(m) => format!("{:?} request term={term} last={}", m.phase, m.last_log),
        Message::RequestVoteResponse(m) => {
            let answer = if m.granted { "granted" } else { "refused" };
            format!("{:?} {answer} term={term}", m.phase)
        }
        Message::AppendEntries(m) => {
            let entries: Vec<String> = m.entries.iter().map(|e| e.log_id.to_string()).collect();
            let (prev, commit) = (m.prev_log, m.leader_commit);
            format!("AppendEntries term={term} {prev} + [{}] commit={commit}", entries.join(" "))
        }
        Message::AppendEntriesResponse(m) => match m.outcome {
            AppendOutcome::Accepted { matched } => format!("Accepted term={term} up to {matched}"),
            AppendOutcome::Rejected { prev_index, hint } => {
                format!("Rejected term={term} at {prev_index}, hint {}", hint.candidate)
            }
            AppendOutcome::StaleTerm => format!("StaleTerm term={term}"),
        },
        Message::Heartbeat(m) => match m.round {
            Some(round) => format!("Heartbeat term={term} {round} commit={}", m.leader_commit),
            None => format!("CommitNotice term={term} commit={}", m.leader_commit),
        },
        Message::HeartbeatResponse(m) => format!("HeartbeatResponse term={term} {}", m.round),
        Message::InstallSnapshot(m) => {
            format!("InstallSnapshot term={term} {}", m.meta.last_included)
        }
        Message::InstallSnapshotResponse(m) => {
            format!("InstallSnapshotResponse term={term} {}", m.last_included)
        }
        Message::TimeoutNow(_) => format!("TimeoutNow term={term}"),
        Message::ReadIndex(_) => format!("ReadIndex term={term}"),
        Message::ReadIndexResponse(_) => format!("ReadIndexResponse term={term}"),
        Message::NotAMember(m) => format!("NotAMember version={}", m.version),
        Message::LostEntries(m) => format!("LostEntries after={} known={}", m.after, m.known),
        Message::LostEntriesResponse(m) => format!("LostEntriesResponse after={}", m.after),
    }
}
