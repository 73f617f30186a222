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
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(count)),
        "M" => Some(Duration::from_mins(count)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A path as the name of a method, short enough to repeat.
pub(crate) fn method_name(path: &str) -> Cow<'static, str> {
    let name = path.strip_prefix('/').unwrap_or(path);
    let end = name.floor_char_boundary(ECHO_BYTES_MAX.min(name.len()));
    Cow::Owned(name.get(..end).unwrap_or_default().to_owned())
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
