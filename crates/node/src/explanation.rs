//! What a node waits for, and what an operator may do about it, in words and as data. Finds out
//! nothing itself: the core and the driver know.

use crate::{Admission, Differing, Recovering};
use quorate_core::{NodeId, Reason, Role, Term};
use std::fmt;

/// What [`crate::Node::explain`] returns. Its text is a line on what the node is, and one for each
/// cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// The latest term it has seen.
    pub term: Term,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
    /// What it waits for, the gravest first; empty if nothing does.
    pub causes: Vec<Cause>,
}

/// One thing that a node waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It neither votes nor counts.
    #[error("{0}")]
    NotAdmitted(Admission),
    /// The protocol has to go on first.
    #[error("{0}")]
    Core(Reason),
    /// Its replies and another's are not the same.
    #[error("{0}")]
    Differs(Differing),
    /// Commands whose outcome is open: on the way to the leader, or not committed and applied yet.
    #[error("{}", counted(*count, "command waits for its outcome", "commands wait for their outcome"))]
    Commands {
        /// How many.
        count: usize,
    },
    /// Reads that wait for a proof, or for the state machine to get as far as they have to see.
    #[error("{}", counted(*count, "read waits for its turn", "reads wait for their turn"))]
    Reads {
        /// How many.
        count: usize,
    },
}

impl Cause {
    /// What an operator may do; `None` if it passes by itself.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Core(reason) => reason.advice(),
            Self::NotAdmitted(admission) => admission_advice(admission),
            Self::Differs(_) => Some(
                "one of the two is wrong, and no majority says which: find out what their state \
                 machines go by besides the log, before clients find out"
                    .to_owned(),
            ),
            Self::Commands { .. } | Self::Reads { .. } => None,
        }
    }
}

fn admission_advice(admission: &Admission) -> Option<String> {
    let advice = match admission {
        Admission::Founding { missing } if !missing.is_empty() => {
            "start all founders: a cluster begins once they are up together"
        }
        Admission::Unlike { .. } => {
            "stop all founders, and restore each from the same file with the same flags into an \
             empty folder"
        }
        Admission::Recovering(Recovering::NewDisk { .. }) => {
            "if it does not pass shortly: bring the old folder back, or remove this member, empty its \
             folder, and add it anew"
        }
        Admission::Recovering(_) => {
            "bring the old folder back, or remove this member, empty its folder, and add it anew"
        }
        Admission::Admitted | Admission::Founding { .. } => return None,
    };
    Some(advice.to_owned())
}

fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("a {one}") } else { format!("{count} {many}") }
}

impl Explanation {
    /// What the node is, in words.
    #[must_use]
    pub fn state(&self) -> String {
        let Self { id, role, term, leader, .. } = self;
        match (role, leader) {
            (Role::Leader, _) => format!("node {id} leads in term {term}"),
            (_, Some(leader)) => format!("node {id} follows node {leader} in term {term}"),
            (Role::PreCandidate | Role::Candidate, None) => {
                format!("node {id} campaigns; its term is {term}")
            }
            (Role::Follower, None) => format!("node {id} follows nobody; its term is {term}"),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state())?;
        if self.causes.is_empty() {
            return f.write_str("; nothing waits");
        }
        for cause in &self.causes {
            write!(f, "\n- {cause}")?;
            if let Some(advice) = cause.advice() {
                write!(f, "\n  -> {advice}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::{LeaderWait, LogIndex};
    use std::time::Duration;

    fn explanation(role: Role, leader: Option<u64>, causes: Vec<Cause>) -> Explanation {
        let (id, term) = (NodeId::new(1), Term::new(7));
        Explanation { id, role, term, leader: leader.map(NodeId::new), causes }
    }

    #[test]
    fn a_node_with_nothing_to_wait_for_says_so_in_one_line() {
        let calm = explanation(Role::Follower, Some(2), Vec::new());
        assert_eq!(calm.to_string(), "node 1 follows node 2 in term 7; nothing waits");
        let leader = explanation(Role::Leader, Some(1), Vec::new());
        assert_eq!(leader.to_string(), "node 1 leads in term 7; nothing waits");
    }

    #[test]
    fn each_cause_has_a_line_and_one_more_if_somebody_can_do_something_about_it() {
        let founding = Admission::Founding { missing: vec![NodeId::new(3)] };
        let left = Duration::from_millis(1500);
        let causes = vec![
            Cause::NotAdmitted(founding),
            Cause::Core(Reason::NoLeader(LeaderWait::Timeout { left })),
            Cause::Commands { count: 1 },
            Cause::Reads { count: 2 },
        ];
        let text = explanation(Role::Follower, None, causes).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "node 1 follows nobody; its term is 7",
                "- founding waits for node 3",
                "  -> start all founders: a cluster begins once they are up together",
                "- no leader is known: it asks for votes in 1.5s, if it hears of none until then",
                "- a command waits for its outcome",
                "- 2 reads wait for their turn",
            ]
        );
    }

    #[test]
    fn every_folder_that_does_not_count_comes_with_what_to_do() {
        let own = 1;
        let all = [
            Recovering::NewDisk { own },
            Recovering::OtherDisk { recorded: 2, own },
            Recovering::OlderDisk { witness: NodeId::new(2) },
        ];
        for recovering in all {
            let cause = Cause::NotAdmitted(Admission::Recovering(recovering));
            assert!(cause.advice().is_some_and(|advice| advice.contains("remove this member")));
        }
        let index = LogIndex::new(4);
        let passing = Cause::Core(Reason::NotThere { index, last: LogIndex::new(3) });
        assert_eq!(passing.advice(), None);
    }
}
