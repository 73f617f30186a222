//! What a member waits for, for operators: the node's own explanation, with the names that they gave
//! its members. Finds out nothing itself.

use super::Service;
use super::standing::name_of;
use crate::errors::Rejection;
use crate::grpc::frame;
use bytes::Bytes;
use prost::Message;
use quorate::core::{Configuration, NodeId};
use quorate_etcd_api::quorate::{Cause, ExplainRequest, ExplainResponse};

impl Service {
    pub(super) async fn explain(&self, message: Bytes) -> Result<Bytes, Rejection> {
        ExplainRequest::decode(message)?;
        let explanation = self.node.explain().await.ok_or(Rejection::Stopped)?;
        let configuration = &self.node.status().configuration;
        let causes = explanation.causes.iter().map(|cause| Cause {
            text: with_names(&cause.to_string(), configuration),
            advice: with_names(&cause.advice().unwrap_or_default(), configuration),
        });
        let state = with_names(&explanation.state(), configuration);
        let member_id = explanation.id.get();
        Ok(frame::encode(&ExplainResponse { member_id, state, causes: causes.collect() }))
    }
}

/// The text with `node 7` replaced by what the operator calls it, wherever such a member is.
fn with_names(text: &str, configuration: &Configuration) -> String {
    const WORD: &str = "node ";
    let (mut named, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(WORD) {
        named.push_str(before);
        let end = after.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(after.len());
        let (digits, tail) = after.split_at(end);
        let id = digits.parse().ok().map(NodeId::new);
        match id.filter(|id| configuration.members.contains_key(id)) {
            Some(id) => named.push_str(&name_of(configuration, id)),
            None => named.extend([WORD, digits]),
        }
        rest = tail;
    }
    named + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::MemberContext;
    use quorate::core::{Member, MemberRole};

    #[test]
    fn members_are_called_by_their_names_and_nobody_else_is() {
        let named = |name: &str| {
            let context = MemberContext { name: name.to_owned(), ..MemberContext::default() };
            let (role, address) = (MemberRole::Voter, String::new());
            Member { role, rank: 0, address, context: context.to_bytes() }
        };
        let members = [("first", 1), ("twelfth", 12)];
        let members = members.map(|(name, id)| (NodeId::new(id), named(name)));
        let configuration = Configuration::new(1, members.into());
        let text = "node 12 lacks 1 entry; not on node 1, node 123, node x; a node";
        let expected = "twelfth lacks 1 entry; not on first, node 123, node x; a node";
        assert_eq!(with_names(text, &configuration), expected);
        assert_eq!(with_names("", &configuration), "");
    }
}
