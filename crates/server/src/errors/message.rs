//! What is said of messages whose form is not taken, whatever they ask for. Must not know how a message
//! comes.

use super::{Code, Rejection};
use crate::nesting::TXN_DEPTH_MAX;
use std::borrow::Cow;

/// A message in a form that is not taken.
#[derive(Debug)]
pub(crate) enum MessageRejection {
    /// Transactions stand within one another deeper than the log can carry.
    TxnTooDeep,
    /// There is a group in it, a form that protobuf had once.
    Grouped,
    /// It may be compressed in a way that we cannot undo.
    CodingUnknown {
        /// What it is called.
        name: String,
    },
    /// It is said to be compressed, and not how.
    NotCoded,
    /// What is said of its form means nothing.
    Flag {
        /// The byte that says it.
        flag: u8,
    },
    /// It is not what its compression makes of any message.
    Expansion(std::io::Error),
}

impl MessageRejection {
    pub(super) fn status(&self) -> (Code, Cow<'static, str>) {
        match self {
            Self::TxnTooDeep => {
                let text = format!(
                    "quorate: transactions are nested too deeply: at most {TXN_DEPTH_MAX} within one \
                     another were expected in one, and more were found"
                );
                (Code::InvalidArgument, text.into())
            }
            Self::Grouped => {
                let text = "quorate: fields of etcd's API were expected, and a protobuf group was \
                            found, which none of them is";
                (Code::InvalidArgument, text.into())
            }
            Self::CodingUnknown { name } => {
                let text = "grpc: Decompressor is not installed for grpc-encoding";
                (Code::Unimplemented, format!("{text} \"{name}\"").into())
            }
            Self::NotCoded => {
                let text = "grpc: compressed flag set with identity or empty encoding";
                (Code::Internal, text.into())
            }
            Self::Flag { flag } => {
                (Code::Internal, format!("grpc: received unexpected payload format {flag}").into())
            }
            Self::Expansion(error) => {
                let text = format!("grpc: failed to decompress the received message {error}");
                (Code::Internal, text.into())
            }
        }
    }
}

impl From<MessageRejection> for Rejection {
    fn from(rejection: MessageRejection) -> Self {
        Self::Message(rejection)
    }
}
