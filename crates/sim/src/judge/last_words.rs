//! What a node may still say once its log has failed: a leader calls one successor, and that is all.
//! Knows nothing of why the log failed, nor of how the node ends.

use super::Breach;
use quorate::{Output, PeerMessage};
use quorate_core::{Message, NodeId, Term};

/// Looks at what came out of a turn in which a node knew that its log has failed. It may call one
/// successor if it led until this turn, and in which term is in `led`. What a driver answers to those
/// who forwarded something promises nothing of the disk.
///
/// # Errors
///
/// [`Breach::SpeaksWithoutDisk`].
pub(crate) fn check_last_words(
    node: NodeId,
    led: Option<Term>,
    outputs: &[Output],
) -> Result<(), Breach> {
    let mut may_call = led;
    for output in outputs {
        let what = match output {
            Output::Send { message: PeerMessage::Raft(Message::TimeoutNow(call)), .. }
                if may_call == Some(call.term) =>
            {
                may_call = None;
                continue;
            }
            Output::Send { to, message: PeerMessage::Raft(message) } => {
                format!("says {message:?} to node {to}")
            }
            Output::Persist(_) | Output::Prove => "asks for a write".to_owned(),
            Output::Send { .. }
            | Output::Load(_)
            | Output::LoadSpares { .. }
            | Output::Apply(_)
            | Output::Answer { .. }
            | Output::MembershipAnswer { .. }
            | Output::Barrier { .. }
            | Output::Checkpoint { .. }
            | Output::TakeSnapshot { .. }
            | Output::Scrub { .. }
            | Output::NoteDivergence(_)
            | Output::ReadSnapshotChunk { .. }
            | Output::WriteSnapshotChunk { .. }
            | Output::RestoreSnapshot { .. }
            | Output::ReleasePrefix { .. } => continue,
        };
        return Err(Breach::SpeaksWithoutDisk { node, what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{Persist, TimeoutNow};

    const NODE: NodeId = NodeId::new(1);

    fn call(term: u64) -> Output {
        let message = Message::TimeoutNow(TimeoutNow { term: Term::new(term) });
        Output::Send { to: NodeId::new(2), message: PeerMessage::Raft(message) }
    }

    #[test]
    fn a_leader_calls_one_successor_in_its_term_and_nobody_else_calls() {
        let led = Some(Term::new(3));
        assert!(check_last_words(NODE, led, &[call(3)]).is_ok());
        assert!(check_last_words(NODE, led, &[]).is_ok(), "there may be nobody to call");
        for (led, outputs) in
            [(led, vec![call(3), call(3)]), (led, vec![call(4)]), (None, vec![call(3)])]
        {
            let said = check_last_words(NODE, led, &outputs);
            assert!(matches!(said, Err(Breach::SpeaksWithoutDisk { .. })), "{outputs:?}");
        }
    }

    #[test]
    fn who_has_no_log_asks_for_no_write() {
        let write = [Output::Persist(Persist::default())];
        assert!(check_last_words(NODE, Some(Term::new(3)), &write).is_err());
    }

    #[test]
    fn what_was_forwarded_may_still_be_answered() {
        let message = PeerMessage::ForwardReplies { incarnation: 1, replies: Vec::new() };
        assert!(check_last_words(NODE, None, &[Output::Send { to: NODE, message }]).is_ok());
    }
}
