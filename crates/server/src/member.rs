//! What every member knows of every other beside its Raft address: its name and where clients
//! reach it. It travels in the configuration, as the member's context. Must not know who is a
//! voter, or where the bytes are kept.

use bytes::Bytes;
use prost::Message;

/// A member's name and client URLs. The encoding is protobuf, so that fields can be added.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberContext {
    /// What the operator calls it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Where clients reach it: URLs such as `http://10.0.0.1:2379`.
    #[prost(string, repeated, tag = "2")]
    pub client_urls: Vec<String>,
    /// Where its peers reach it, as the operator wrote it; empty means `http://` and the address.
    #[prost(string, repeated, tag = "3")]
    pub peer_urls: Vec<String>,
}

/// A member's context is not what [`MemberContext::to_bytes`] makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the member's context of {size_bytes} bytes cannot be read")]
pub struct MemberContextError {
    /// Its size.
    pub size_bytes: usize,
    /// What is wrong with it.
    #[source]
    pub source: prost::DecodeError,
}

impl MemberContext {
    /// The form for [`quorate::core::Member::context`].
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Reads that form; an empty context is a member without name and URLs.
    ///
    /// # Errors
    ///
    /// [`MemberContextError`] if the bytes are something else.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, MemberContextError> {
        Self::decode(bytes.clone())
            .map_err(|source| MemberContextError { size_bytes: bytes.len(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_context_survives_its_encoding() {
        let context = MemberContext {
            name: "node1".into(),
            client_urls: vec!["http://127.0.0.1:2379".into(), "http://[::1]:2379".into()],
            peer_urls: vec!["http://127.0.0.1:2380".into()],
        };
        assert_eq!(MemberContext::from_bytes(&context.to_bytes()), Ok(context));
    }

    #[test]
    fn an_empty_context_is_a_member_without_a_name() {
        assert_eq!(MemberContext::from_bytes(&Bytes::new()), Ok(MemberContext::default()));
    }

    #[test]
    fn other_bytes_are_an_error_with_their_size() {
        let error = MemberContext::from_bytes(&Bytes::from_static(b"node1")).unwrap_err();
        assert_eq!(error.size_bytes, 5);
    }
}
