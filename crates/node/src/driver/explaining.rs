//! What a node waits for, as far as its driver and its core know, and what happened to it lately.
//! Changes nothing.

use super::{Admission, Driver, Flight};
use crate::{Cause, Explanation};

impl Driver {
    /// What this node waits for, as of its last turn.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let raft = &self.raft;
        let admission = self.admission();
        let is_admitted = admission == Admission::Admitted;
        let mut causes = Vec::new();
        if !is_admitted {
            causes.push(Cause::NotAdmitted(admission));
        }
        causes.extend(raft.explain().into_iter().map(Cause::Core));
        let differing = self.differing().iter().copied().map(Cause::Differs);
        causes.extend(differing);
        let count = self.proposals.count();
        causes.extend((count > 0).then_some(Cause::Commands { count }));
        let count = self.barriers.count();
        causes.extend((count > 0).then_some(Cause::Reads { count }));
        let (id, role) = (raft.id(), raft.role());
        Explanation { id, role, term: raft.current_term(), leader: raft.leader(), causes }
    }

    /// What the core was given lately; `None` if nothing is recorded.
    #[must_use]
    pub fn flight(&self) -> Option<Flight> {
        self.recorder.as_ref().map(|recorder| recorder.flight(&self.raft))
    }
}
