//! What goes into the log and what comes back from it: an envelope around the requests, and a reply
//! with the outcome. Must stay decodable for ever: old logs hold these bytes.

use crate::alarm::{AlarmRequest, AlarmResponse};
use crate::api::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, TxnRequest, TxnResponse,
};
use crate::auth::api::{AuthReply, AuthRequest, CallerMessage};
use crate::error::{OpError, WireError};
use crate::lease::api::{
    LeaseExpireRequest, LeaseExpireResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseRenewRequest, LeaseRenewResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};
use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, Oneof};

/// A command of the log. Encode it with [`Message::encode_to_vec`], or wrap a request that is
/// already encoded with [`Command::wrap`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Command {
    /// What to do. Absent in a command of a version that we do not know.
    #[prost(oneof = "CommandKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 15")]
    pub kind: Option<CommandKind>,
    /// Who sent it. Absent means nobody, and that matters once users are asked who they are.
    #[prost(message, optional, tag = "14")]
    pub caller: Option<CallerMessage>,
}

/// Where [`Command::caller`] stands.
const CALLER_FIELD_NUMBER: u32 = 14;

/// What a [`Command`] does.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum CommandKind {
    /// Write a key.
    #[prost(message, tag = "1")]
    Put(PutRequest),
    /// Delete keys.
    #[prost(message, tag = "2")]
    DeleteRange(DeleteRangeRequest),
    /// Compare, then write.
    #[prost(message, tag = "3")]
    Txn(TxnRequest),
    /// Forget history.
    #[prost(message, tag = "4")]
    Compact(CompactionRequest),
    /// Make a lease.
    #[prost(message, tag = "5")]
    LeaseGrant(LeaseGrantRequest),
    /// End a lease and delete its keys.
    #[prost(message, tag = "6")]
    LeaseRevoke(LeaseRevokeRequest),
    /// Renew leases.
    #[prost(message, tag = "7")]
    LeaseRenew(LeaseRenewRequest),
    /// End leases whose time is up.
    #[prost(message, tag = "8")]
    LeaseExpire(LeaseExpireRequest),
    /// Change users and roles.
    #[prost(message, tag = "9")]
    Auth(AuthRequest),
    /// Raise or clear an alarm.
    #[prost(message, tag = "15")]
    Alarm(AlarmRequest),
}

/// Names a request that is already encoded, for [`Command::wrap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandTag {
    /// A [`PutRequest`].
    Put,
    /// A [`DeleteRangeRequest`].
    DeleteRange,
    /// A [`TxnRequest`].
    Txn,
    /// A [`CompactionRequest`].
    Compact,
    /// A [`LeaseGrantRequest`].
    LeaseGrant,
    /// A [`LeaseRevokeRequest`].
    LeaseRevoke,
    /// A [`LeaseRenewRequest`].
    LeaseRenew,
    /// A [`LeaseExpireRequest`].
    LeaseExpire,
    /// An [`AuthRequest`].
    Auth,
    /// An [`AlarmRequest`].
    Alarm,
}

impl CommandTag {
    const fn field_number(self) -> u8 {
        match self {
            Self::Put => 1,
            Self::DeleteRange => 2,
            Self::Txn => 3,
            Self::Compact => 4,
            Self::LeaseGrant => 5,
            Self::LeaseRevoke => 6,
            Self::LeaseRenew => 7,
            Self::LeaseExpire => 8,
            Self::Auth => 9,
            Self::Alarm => 15,
        }
    }
}

impl Command {
    /// A command around one request.
    #[must_use]
    pub const fn new(kind: CommandKind) -> Self {
        Self { kind: Some(kind), caller: None }
    }

    /// The same, sent by somebody.
    #[must_use]
    pub fn by(self, caller: CallerMessage) -> Self {
        Self { caller: Some(caller), ..self }
    }

    /// The encoded command around a request that is already encoded, without decoding it. Nobody
    /// sent it.
    #[must_use]
    pub fn wrap(tag: CommandTag, request: &[u8]) -> Bytes {
        Self::wrap_for(tag, request, None)
    }

    /// [`Command::wrap`], sent by somebody.
    #[must_use]
    pub fn wrap_for(tag: CommandTag, request: &[u8], caller: Option<&CallerMessage>) -> Bytes {
        const WIRE_TYPE_LENGTH_DELIMITED: u8 = 2;
        const HEAD_BYTES_MAX: usize = 11;
        let caller_bytes = caller.map_or(0, |caller| HEAD_BYTES_MAX + caller.encoded_len());
        let mut out = BytesMut::with_capacity(HEAD_BYTES_MAX + request.len() + caller_bytes);
        out.put_u8((tag.field_number() << 3) | WIRE_TYPE_LENGTH_DELIMITED);
        // A `BytesMut` grows, so that encoding into it cannot fail.
        prost::encoding::encode_varint(request.len() as u64, &mut out);
        out.put_slice(request);
        if let Some(caller) = caller {
            prost::encoding::message::encode(CALLER_FIELD_NUMBER, caller, &mut out);
        }
        out.freeze()
    }
}

/// What comes back for a [`Command`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CommandReply {
    /// The store's revision after the command.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
    /// What became of it.
    #[prost(oneof = "Outcome", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15")]
    pub outcome: Option<Outcome>,
}

/// What became of a [`Command`].
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Outcome {
    /// A put was carried out.
    #[prost(message, tag = "2")]
    Put(PutResponse),
    /// A deletion was carried out.
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeResponse),
    /// A transaction was carried out.
    #[prost(message, tag = "4")]
    Txn(TxnResponse),
    /// A compaction was accepted.
    #[prost(message, tag = "5")]
    Compact(CompactionResponse),
    /// It was refused; every replica refuses it alike. See [`CommandReply::into_result`].
    #[prost(message, tag = "6")]
    Refused(WireError),
    /// A lease was granted.
    #[prost(message, tag = "7")]
    LeaseGrant(LeaseGrantResponse),
    /// A lease was revoked.
    #[prost(message, tag = "8")]
    LeaseRevoke(LeaseRevokeResponse),
    /// Leases were renewed.
    #[prost(message, tag = "9")]
    LeaseRenew(LeaseRenewResponse),
    /// Leases expired.
    #[prost(message, tag = "10")]
    LeaseExpire(LeaseExpireResponse),
    /// Users and roles were changed, or a token was made.
    #[prost(message, tag = "14")]
    Auth(AuthReply),
    /// An alarm was raised or cleared.
    #[prost(message, tag = "15")]
    Alarm(AlarmResponse),
}

impl CommandReply {
    /// The outcome, or why the command was refused.
    ///
    /// # Errors
    ///
    /// The [`OpError`] that every replica gave; [`OpError::UnknownCommand`] if the reply holds
    /// nothing that this version knows.
    pub fn into_result(self) -> Result<Outcome, OpError> {
        match self.outcome {
            Some(Outcome::Refused(error)) => Err(error.into_error()),
            Some(outcome) => Ok(outcome),
            None => Err(OpError::UnknownCommand),
        }
    }
}
