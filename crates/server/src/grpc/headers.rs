//! What gRPC says in HTTP headers: that a request is one, how long the client waits, and how a call
//! ended. Must not know where the headers come from.

use crate::errors::{Code, Rejection};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS_OK: HeaderValue = HeaderValue::from_static("0");

/// The longest piece of a client's own words that we repeat, in bytes.
const ECHO_BYTES_MAX: usize = 128;

/// Whether a request is gRPC: `application/grpc`, perhaps with `+proto` or parameters.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(CONTENT_TYPE_GRPC.as_bytes()))
}

/// Which version of the API the client says that it speaks, if it says so.
///
/// # Errors
///
/// [`Rejection::ClientVersion`] if it is no text.
pub(crate) fn client_version(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let version = headers.get("client-api-version").map(|value| str::from_utf8(value.as_bytes()));
    version.transpose().map_err(|_| Rejection::ClientVersion)
}

/// How long the client is willing to wait, if it says so: up to eight digits and a unit.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    time_of(digits.parse().ok()?, unit)
}

/// So many of a unit; as good as for ever, if that is more than can be said.
fn time_of(count: u64, unit: &str) -> Option<Duration> {
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The same by the gateway, which reads it as etcd's does: any number of digits and a sign, 0 for no
/// limit, and less than that for one that is over.
///
/// # Errors
///
/// [`Rejection::TimeoutMalformed`] for what is no such thing.
pub(crate) fn gateway_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Rejection> {
    let Some(value) = headers.get(GRPC_TIMEOUT).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let read = || {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        let count: i64 = digits.parse().ok()?;
        let time = time_of(u64::try_from(count).unwrap_or(0), unit)?;
        Some(Some(time).filter(|_| count != 0))
    };
    read().ok_or_else(|| {
        let value = String::from_utf8_lossy(value.as_bytes());
        Rejection::TimeoutMalformed { value: echo(&value).into() }
    })
}

/// A path as the name of a method, short enough to repeat.
pub(crate) fn method_name(path: &str) -> Cow<'static, str> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Cow::Borrowed("a path without a method"),
        name => Cow::Owned(echo(name).to_owned()),
    }
}

/// As much of a client's own words as we repeat.
pub(super) fn echo(words: &str) -> &str {
    let end = words.floor_char_boundary(ECHO_BYTES_MAX.min(words.len()));
    words.get(..end).unwrap_or_default()
}

/// The head of an answer that has a message.
pub(crate) fn success() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

/// The end of such an answer.
pub(crate) fn success_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, STATUS_OK);
    trailers
}

/// The end of an answer that had messages and did not end well.
pub(crate) fn trailers(code: Code, text: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    put_status(&mut trailers, code, text);
    trailers
}

fn put_status(headers: &mut HeaderMap, code: Code, text: &str) {
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    if let Ok(text) = HeaderValue::try_from(percent_encoded(text)) {
        headers.insert(GRPC_MESSAGE, text);
    }
}

/// The whole of an answer that has none.
pub(crate) fn rejection(code: Code, text: &str) -> Response<()> {
    let mut response = success();
    put_status(response.headers_mut(), code, text);
    response
}

/// Text as `grpc-message` carries it: printable ASCII as it is, everything else and `%` as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(value));
        timeout(&headers)
    }

    #[test]
    fn timeouts_have_digits_and_a_unit_and_nothing_else() {
        assert_eq!(timeout_of("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout_of("4999999u"), Some(Duration::from_micros(4_999_999)));
        assert_eq!(timeout_of("99999999H"), Some(Duration::from_hours(99_999_999)));
        for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "5 S"] {
            assert_eq!(timeout_of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn by_the_gateway_timeouts_are_read_as_etcds_does_and_what_is_none_is_told() {
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_bytes(value).unwrap());
            gateway_timeout(&headers).map_err(|rejection| rejection.status().1.into_owned())
        };
        assert_eq!(gateway_timeout(&HeaderMap::new()).unwrap(), None);
        let seconds = |count| Ok(Some(Duration::from_secs(count)));
        assert_eq!(read(b"5S"), seconds(5));
        assert_eq!(read(b"+5S"), seconds(5));
        assert_eq!(read(b"123456789S"), seconds(123_456_789));
        assert_eq!(read(b"-5S"), seconds(0));
        assert_eq!(read(b"9223372036854775807H"), seconds(u64::MAX));
        assert_eq!(read(b"1n"), Ok(Some(Duration::from_nanos(1))));
        for none in [&b""[..], b"0S", b"-0n"] {
            assert_eq!(read(none), Ok(None));
        }
        for wrong in ["bogus", "1", "S", "5 S", "1x", "5s", "99999999999999999999S", "1S "] {
            assert_eq!(read(wrong.as_bytes()), Err(format!("invalid grpc-timeout: {wrong}")));
        }
        assert_eq!(read(b"\xff"), Err("invalid grpc-timeout: \u{fffd}".to_owned()));
        assert!(read(&[b'x'; 9000]).unwrap_err().len() < 2 * ECHO_BYTES_MAX);
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("100% ä\n"), "100%25 %C3%A4%0A");
        assert_eq!(percent_encoded("etcdserver: no leader"), "etcdserver: no leader");
    }

    #[test]
    fn a_clients_words_are_repeated_in_short() {
        assert_eq!(method_name("/a.B/C"), "a.B/C");
        let long = format!("/{}ä{}", "x".repeat(ECHO_BYTES_MAX - 1), "y".repeat(1000));
        assert_eq!(method_name(&long), "x".repeat(ECHO_BYTES_MAX - 1));
    }
}
