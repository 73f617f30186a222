//! One key as a sequential register: what a correct store would answer. Knows neither revisions nor
//! how requests are encoded.

use crate::judge::linearizable::Model;

/// A value, by the number that makes it unique.
pub type Value = u64;

/// What a client asks of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOp {
    /// Reads it.
    Get,
    /// Writes it.
    Put {
        /// The new value.
        value: Value,
    },
    /// Removes it.
    Delete,
    /// Writes it if it holds what is expected; else reads it.
    Swap {
        /// What it must hold.
        expected: Option<Value>,
        /// The new value.
        value: Value,
    },
}

/// What a client is told of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyReply {
    /// What it holds, or held before it was written or removed.
    Held(Option<Value>),
    /// It was written.
    Done,
    /// The swap succeeded.
    Swapped,
    /// The swap failed, and this was there.
    NotSwapped(Option<Value>),
}

/// The model of one key.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyModel;

impl Model for KeyModel {
    type State = Option<Value>;
    type Op = KeyOp;
    type Reply = KeyReply;

    fn initial(&self) -> Option<Value> {
        None
    }

    fn step(
        &self,
        state: &Option<Value>,
        op: &KeyOp,
        reply: Option<&KeyReply>,
    ) -> Option<Option<Value>> {
        let (after, is_possible) = match *op {
            KeyOp::Get => (*state, reply.is_none_or(|reply| *reply == KeyReply::Held(*state))),
            KeyOp::Put { value } => (Some(value), is_done_or_held(*state, reply)),
            KeyOp::Delete => (None, is_done_or_held(*state, reply)),
            KeyOp::Swap { expected, value } if expected == *state => {
                (Some(value), reply.is_none_or(|reply| *reply == KeyReply::Swapped))
            }
            KeyOp::Swap { .. } => {
                (*state, reply.is_none_or(|reply| *reply == KeyReply::NotSwapped(*state)))
            }
        };
        is_possible.then_some(after)
    }
}

fn is_done_or_held(state: Option<Value>, reply: Option<&KeyReply>) -> bool {
    reply.is_none_or(|reply| *reply == KeyReply::Done || *reply == KeyReply::Held(state))
}
