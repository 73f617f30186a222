//! Messages in a few words, for people who read a story. Decides nothing, and must not know more of a
//! message than its fields say.

use quorate::{DigestMessage, DigestNews, Introduction, PeerMessage};
use quorate_core::{AppendEntries, AppendOutcome, Message, VotePhase};

/// A message in a few words, such as `AppendEntries t3 6-8 after 5@3`.
pub(crate) fn words_of(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Raft(message) => raft(message),
        PeerMessage::Forward { term, requests, .. } => {
            format!("Forward t{term} {} commands", requests.len())
        }
        PeerMessage::ForwardReplies { replies, .. } => format!("ForwardReplies {}", replies.len()),
        PeerMessage::ChangeMembership { term, .. } => format!("ChangeMembership t{term}"),
        PeerMessage::MembershipReply { outcome, .. } => match outcome {
            Ok(log_id) => format!("MembershipReply at {log_id}"),
            Err(refusal) => format!("MembershipReply: {refusal}"),
        },
        PeerMessage::Introduce(Introduction {
            storage_id,
            era,
            is_proven,
            has_history,
            beginning: _,
            answers,
        }) => {
            let what = if answers.is_some() { "answers" } else { "introduces itself" };
            let proven = if *is_proven { "proven" } else { "unproven" };
            let past = if *has_history { "a past" } else { "no past" };
            format!("{what}: disk {storage_id:x} opened {era} times, {proven}, {past}")
        }
        PeerMessage::Digest(DigestMessage { last, news, .. }) => match news {
            DigestNews::Hash(hash) => format!("replied {hash:016x} up to {last}"),
            DigestNews::ListWanted => format!("asks for the replies up to {last}"),
            DigestNews::List(hashes) => format!("{} hashes of replies up to {last}", hashes.len()),
        },
        PeerMessage::StateWanted { at_least } => format!("wants a state of {at_least} or later"),
    }
}

/// Whether a message belongs to the story of elections and snapshots, which is told even where
/// messages are not.
pub(crate) fn is_of_the_story(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Raft(message) => match message {
            Message::RequestVote(_)
            | Message::RequestVoteResponse(_)
            | Message::InstallSnapshot(_)
            | Message::NotAMember(_)
            | Message::LostEntries(_)
            | Message::LostEntriesResponse(_)
            | Message::TimeoutNow(_) => true,
            Message::AppendEntries(_)
            | Message::AppendEntriesResponse(_)
            | Message::Heartbeat(_)
            | Message::HeartbeatResponse(_)
            | Message::InstallSnapshotResponse(_)
            | Message::ReadIndex(_)
            | Message::ReadIndexResponse(_) => false,
        },
        PeerMessage::ChangeMembership { .. }
        | PeerMessage::MembershipReply { .. }
        | PeerMessage::StateWanted { .. } => true,
        PeerMessage::Forward { .. }
        | PeerMessage::ForwardReplies { .. }
        | PeerMessage::Digest(_)
        | PeerMessage::Introduce(_) => false,
    }
}

fn raft(message: &Message) -> String {
    let term = message.term();
    match message {
        Message::RequestVote(vote) => {
            format!("{} t{term} log {}", election(vote.phase), vote.last_log)
        }
        Message::RequestVoteResponse(vote) => {
            let answer = if vote.granted { "granted" } else { "denied" };
            format!("{} {answer} t{term}", election(vote.phase))
        }
        Message::AppendEntries(append) => append_entries(append),
        Message::AppendEntriesResponse(response) => match response.outcome {
            AppendOutcome::Accepted { matched } => format!("holds up to {matched} t{term}"),
            AppendOutcome::Rejected { prev_index, hint } => {
                format!("lacks {prev_index}, try {} t{term}", hint.candidate)
            }
            AppendOutcome::StaleTerm => format!("stale, it is t{term}"),
        },
        Message::Heartbeat(beat) => format!("Heartbeat t{term} commit {}", beat.leader_commit),
        Message::HeartbeatResponse(_) => format!("HeartbeatResponse t{term}"),
        Message::InstallSnapshot(part) => {
            let end = if part.done { ", last" } else { "" };
            let last = part.meta.last_included;
            format!("InstallSnapshot t{term} of {last} at byte {}{end}", part.offset)
        }
        Message::InstallSnapshotResponse(response) => {
            format!("snapshot {} up to byte {}", response.last_included, response.next_offset)
        }
        Message::TimeoutNow(_) => format!("TimeoutNow t{term}"),
        Message::ReadIndex(_) => format!("ReadIndex t{term}"),
        Message::NotAMember(notice) => format!("not a member in version {}", notice.version),
        Message::LostEntries(question) => {
            format!("has lost what follows {}, up to {}", question.after, question.known)
        }
        Message::LostEntriesResponse(response) => match &response.lent {
            Some(lent) => format!("lends {} entries after {}", lent.entries.len(), response.after),
            None => format!("has not what follows {}", response.after),
        },
        Message::ReadIndexResponse(response) => match response.index {
            Some(index) => format!("ReadIndexResponse {index} t{term}"),
            None => format!("ReadIndexResponse refused t{term}"),
        },
    }
}

const fn election(phase: VotePhase) -> &'static str {
    match phase {
        VotePhase::PreVote => "PreVote",
        VotePhase::Vote => "Vote",
        VotePhase::Transfer => "Vote (transfer)",
    }
}

fn append_entries(append: &AppendEntries) -> String {
    let (term, prev) = (append.term, append.prev_log);
    match (append.entries.first(), append.entries.last()) {
        (Some(first), Some(last)) => {
            let (first, last) = (first.log_id.index, last.log_id.index);
            format!("AppendEntries t{term} {first}-{last} after {prev}")
        }
        _ => format!("AppendEntries t{term} probe at {prev}"),
    }
}
