//! How bytes and integers look in the gateway's JSON. The generated code reads them by this, in place
//! of pbjson's own types, which refuse some of what etcd takes, take some of what it refuses, and do
//! not say what they expected. Must not know which message they are in.

use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// How much of what cannot be read is repeated, in bytes.
const ECHO_BYTES_MAX: usize = 64;

/// As lenient as Go's about the bits that are left over, and, unlike it, about the `=` at the end.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const ORDINARY: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const OF_ADDRESSES: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Bytes, in base64.
pub(crate) struct Base64<T>(pub(crate) T);

impl<'de, T: From<Vec<u8>>> Deserialize<'de> for Base64<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(deserializer.deserialize_str(Base64Visitor)?.into()))
    }
}

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("base64 in a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        decode(text).map_err(|error| E::custom(format_args!("expected base64: {error}")))
    }
}

/// The bytes that a text stands for. What most clients send is read in one pass.
fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    ORDINARY.decode(text).or_else(|error| {
        // As in Go, whose `base64` breaks no lines and many others do.
        let has_line_ends = text.contains(['\r', '\n']);
        let is_of_addresses = text.contains(['-', '_']);
        if !has_line_ends && !is_of_addresses {
            return Err(error);
        }
        let line = text.replace(['\r', '\n'], "");
        if is_of_addresses { OF_ADDRESSES.decode(line) } else { ORDINARY.decode(line) }
    })
}

/// An integer that a message has.
pub(crate) trait Integer: TryFrom<i128> {
    const MIN: i128;
    const MAX: i128;
}

macro_rules! integers {
    ($($integer:ty)*) => {
        $(impl Integer for $integer {
            const MIN: i128 = <$integer>::MIN as i128;
            const MAX: i128 = <$integer>::MAX as i128;
        })*
    };
}

integers!(i32 i64 u32 u64);

/// An integer, as a number or, as 64 bits are more than JavaScript's numbers hold, in a string.
pub(crate) struct Number<T>(pub(crate) T);

impl<'de, T: Integer> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor(PhantomData)).map(Self)
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<T: Integer> Visitor<'_> for NumberVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (T::MIN, T::MAX);
        write!(formatter, "an integer from {min} to {max}, as a number or a string")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        let unfit = |_| E::invalid_value(Unexpected::Signed(value), &self);
        T::try_from(value.into()).map_err(unfit)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        let unfit = |_| E::invalid_value(Unexpected::Unsigned(value), &self);
        T::try_from(value.into()).map_err(unfit)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        integer_of(text).and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
            let end = text.floor_char_boundary(ECHO_BYTES_MAX.min(text.len()));
            E::invalid_value(Unexpected::Str(text.get(..end).unwrap_or_default()), &self)
        })
    }
}

/// The integer that a string holds, which is read as etcd reads it: as JSON of its own. Spaces are let
/// be, a plus and zeros before it are not.
fn integer_of(text: &str) -> Option<i128> {
    let text = text.trim_matches(' ');
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let has_idle_zero = digits.len() > 1 && digits.starts_with('0');
    if !is_number || has_idle_zero { None } else { text.parse().ok() }
}
