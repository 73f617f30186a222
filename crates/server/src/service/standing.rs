//! What keeps this member from voting, in the words of the health page: a cluster that waits for its
//! founders, or a disk that is not the one the cluster knows. Decides nothing.

use super::{Service, time_left};
use crate::errors::Rejection;
use crate::member::MemberContext;
use quorate::core::{Configuration, NodeId};
use quorate::{Admission, Consistency};
use tokio::time::Instant;

impl Service {
    /// Why this member does not vote; `None` if it does, or may.
    pub(super) fn not_admitted(&self) -> Option<String> {
        let status = self.node.status();
        match &status.admission {
            Admission::Admitted => None,
            Admission::Founding { missing } if missing.is_empty() => Some("FOUNDING".to_owned()),
            Admission::Founding { missing } => {
                let name = |id: &NodeId| name_of(&status.configuration, *id);
                let names: Vec<String> = missing.iter().map(name).collect();
                Some(format!("FOUNDING: founding waits for {}", names.join(", ")))
            }
            Admission::Unlike { others } => {
                let name = |id: &NodeId| name_of(&status.configuration, *id);
                let names: Vec<String> = others.iter().map(name).collect();
                Some(format!("FOUNDING: not made from the same backup: {}", names.join(", ")))
            }
            Admission::Recovering(recovering) => Some(format!("RECOVERING: {recovering}")),
        }
    }
}

impl Service {
    /// What of the log and of the snapshots is damaged or was lost, and whose replies are others than this member's;
    /// `None` if nothing is known to be wrong. This member serves all the same, and to stop it for that
    /// would be the worst that could be done.
    pub(crate) fn damage(&self) -> Option<String> {
        let status = self.node.status();
        let rotten: Vec<String> = status.rotten.iter().map(ToString::to_string).collect();
        let differing: Vec<String> = status.differing.iter().map(ToString::to_string).collect();
        let lost: Vec<String> = status.lost_text().into_iter().collect();
        let words = [("DAMAGED", rotten), ("MENDING", lost), ("DIVERGED", differing)];
        let words = words.iter().filter(|(_, found)| !found.is_empty());
        let words: Vec<String> =
            words.map(|(what, found)| format!("{what}: {}", found.join("; "))).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// For a read that any state is good enough for: one that was emptied, and is being fetched, is none.
    pub(super) async fn has_some_state(&self, deadline: Instant) -> Result<(), Rejection> {
        if self.node.status().lacks_state() {
            self.node.read_barrier(Consistency::Local, time_left(deadline)).await?;
        }
        Ok(())
    }
}

/// What the operator calls a member, or its id.
pub(super) fn name_of(configuration: &Configuration, id: NodeId) -> String {
    let member = configuration.members.get(&id);
    let context = member.and_then(|member| MemberContext::from_bytes(&member.context).ok());
    let name = context.map(|context| context.name).unwrap_or_default();
    // It goes into a page of JSON as it is.
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_.:".contains(letter);
    if name.is_empty() || !name.chars().all(is_plain) { format!("{:x}", id.get()) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::core::{Member, MemberRole};

    #[test]
    fn a_member_is_called_by_its_name_or_by_its_id_and_never_by_what_breaks_the_page() {
        let named = |name: &str| {
            let context = MemberContext { name: name.to_owned(), ..MemberContext::default() };
            let (role, address) = (MemberRole::Voter, String::new());
            Member { role, rank: 0, address, context: context.to_bytes() }
        };
        let members = [("n1", 1), ("", 2), ("a\"b", 0x1f)];
        let members = members.map(|(name, id)| (NodeId::new(id), named(name)));
        let configuration = Configuration::new(1, members.into());
        let shown = [1, 2, 0x1f, 7].map(|id| name_of(&configuration, NodeId::new(id)));
        assert_eq!(shown, ["n1", "2", "1f", "7"]);
    }
}
