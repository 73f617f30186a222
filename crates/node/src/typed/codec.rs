//! How values become bytes that travel and are kept, and values again. Knows no machine and no node.

use std::fmt;

/// Makes bytes of values of type `T`, and values of bytes.
///
/// What it writes goes into the log, which outlives the program that wrote it: a later version must
/// still read what an earlier one wrote.
///
/// ```
/// use quorate::{Codec, CodecError};
///
/// /// Numbers, in eight bytes.
/// enum Fixed {}
///
/// impl Codec<u64> for Fixed {
///     fn encode(value: &u64) -> Result<Vec<u8>, CodecError> {
///         Ok(value.to_le_bytes().to_vec())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<u64, CodecError> {
///         bytes.try_into().map(u64::from_le_bytes).map_err(CodecError::new)
///     }
/// }
///
/// let bytes = Fixed::encode(&7)?;
/// assert_eq!(Fixed::decode(&bytes)?, 7);
/// assert!(Fixed::decode(&bytes[1..]).is_err());
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec<T> {
    /// The value's bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the form has no place for this value.
    fn encode(value: &T) -> Result<Vec<u8>, CodecError>;

    /// The value that the bytes stand for.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if they stand for none.
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

/// A value without bytes, or bytes without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CodecError {
    /// What was expected, and what was found.
    pub reason: String,
}

impl CodecError {
    /// An error that says why.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// JSON, for everything that serde knows (feature `json`).
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug)]
pub enum Json {}

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn encode(value: &T) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(CodecError::new)
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}
