//! A state machine in its own types: commands, replies, queries and answers are values, and a
//! [`Codec`] makes bytes of them. A thin layer on [`crate::StateMachine`] and [`crate::Node`]; must
//! not know how anything is replicated.

mod codec;
mod machine;
mod node;
mod session;
#[cfg(test)]
mod tests;

#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, CodecError};
pub use machine::{Typed, TypedMachine};
pub use node::{ProposeError, TypedNode};
pub use session::{TypedCommand, TypedSession};

/// Values and bytes, by the codec of a machine.
mod coded {
    use super::{Codec, CodecError, TypedMachine};

    pub(super) fn encode<M: TypedMachine, T>(value: &T) -> Result<Vec<u8>, CodecError>
    where
        M::Codec: Codec<T>,
    {
        <M::Codec as Codec<T>>::encode(value)
    }

    pub(super) fn decode<M: TypedMachine, T>(bytes: &[u8]) -> Result<T, CodecError>
    where
        M::Codec: Codec<T>,
    {
        <M::Codec as Codec<T>>::decode(bytes)
    }
}
