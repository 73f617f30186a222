//! How a client may have compressed what it sends: not, or by gzip, which is what Go's clients have.
//! Answers are never compressed, which every client must be ready for. Must not know what is sent.

use crate::errors::{MessageRejection, Rejection};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::header::{HeaderMap, HeaderName};
use std::io::Read;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// What a request's headers say of its messages; each of them says for itself whether it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// # Errors
    ///
    /// [`MessageRejection::CodingUnknown`] if it is none of these.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let Some(name) = headers.get(GRPC_ENCODING) else { return Ok(Self::Identity) };
        match name.as_bytes() {
            b"" | b"identity" => Ok(Self::Identity),
            b"gzip" => Ok(Self::Gzip),
            other => {
                let name = super::headers::echo(&String::from_utf8_lossy(other)).to_owned();
                Err(MessageRejection::CodingUnknown { name }.into())
            }
        }
    }

    /// The message that these bytes are, if the byte in front of them is this flag. It may be of at
    /// most `size_max` bytes, whatever came.
    pub(super) fn message(
        self,
        flag: u8,
        received: Bytes,
        size_max: usize,
    ) -> Result<Bytes, Rejection> {
        match (flag, self) {
            (0, Self::Identity | Self::Gzip) => Ok(received),
            (1, Self::Gzip) => expand(&received, size_max),
            (1, Self::Identity) => Err(MessageRejection::NotCoded.into()),
            (flag, Self::Identity | Self::Gzip) => Err(MessageRejection::Flag { flag }.into()),
        }
    }
}

fn expand(received: &[u8], size_max: usize) -> Result<Bytes, Rejection> {
    let beyond = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut message = Vec::new();
    MultiGzDecoder::new(received)
        .take(beyond)
        .read_to_end(&mut message)
        .map_err(MessageRejection::Expansion)?;
    if message.len() > size_max {
        return Err(Rejection::MessageTooLarge { size: message.len(), limit: size_max });
    }
    Ok(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Code;
    use flate2::{Compression, write::GzEncoder};
    use http::header::HeaderValue;
    use std::io::Write;

    fn compressed(message: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap().into()
    }

    fn told(outcome: Result<Bytes, Rejection>) -> (Code, String) {
        let (code, text) = outcome.unwrap_err().status();
        (code, text.into_owned())
    }

    #[test]
    fn what_is_compressed_comes_out_whole_and_what_is_not_stays_as_it_is() {
        let message = Bytes::from_static(b"abc");
        for coding in [Coding::Identity, Coding::Gzip] {
            assert_eq!(coding.message(0, message.clone(), 3).unwrap(), message);
        }
        assert_eq!(Coding::Gzip.message(1, compressed(b"abc"), 3).unwrap(), message);
        let halves = [compressed(b"a"), compressed(b"bc")].concat();
        assert_eq!(Coding::Gzip.message(1, halves.into(), 3).unwrap(), message);
    }

    #[test]
    fn what_would_grow_beyond_the_limit_is_given_up_there() {
        let bomb = compressed(&vec![0; 10 << 20]);
        assert!(bomb.len() < 100 << 10);
        let outcome = Coding::Gzip.message(1, bomb, 1000);
        assert!(matches!(outcome, Err(Rejection::MessageTooLarge { size: 1001, limit: 1000 })));
        assert_eq!(Coding::Gzip.message(1, compressed(&[0; 1000]), 1000).unwrap().len(), 1000);
    }

    #[test]
    fn what_is_no_message_is_told_in_the_words_of_gos_grpc() {
        let whole = compressed(b"abc");
        for end in [whole.len() - 1, whole.len() - 9, 3, 0] {
            let (code, text) = told(Coding::Gzip.message(1, whole.slice(..end), 3));
            let words = "grpc: failed to decompress the received message ";
            assert!(code == Code::Internal && text.starts_with(words), "{end}: {text}");
        }
        let text = "grpc: compressed flag set with identity or empty encoding".to_owned();
        assert_eq!(told(Coding::Identity.message(1, whole.clone(), 3)), (Code::Internal, text));
        let text = "grpc: received unexpected payload format 2".to_owned();
        assert_eq!(told(Coding::Gzip.message(2, whole, 3)), (Code::Internal, text));
    }

    #[test]
    fn a_coding_is_known_by_its_exact_name() {
        let of = |name: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_ENCODING, HeaderValue::from_bytes(name).unwrap());
            Coding::of(&headers).map_err(|rejection| rejection.status().1.into_owned())
        };
        assert_eq!(Coding::of(&HeaderMap::new()).unwrap(), Coding::Identity);
        assert_eq!((of(b"identity"), of(b"gzip")), (Ok(Coding::Identity), Ok(Coding::Gzip)));
        for (other, shown) in [(&b"GZIP"[..], "GZIP"), (b"snappy", "snappy"), (b"\xff", "\u{fffd}")]
        {
            let text = format!("grpc: Decompressor is not installed for grpc-encoding \"{shown}\"");
            assert_eq!(of(other), Err(text));
        }
        assert!(of(&[b'x'; 9000]).unwrap_err().len() < 300);
    }
}
