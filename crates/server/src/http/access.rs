//! What protects a member from pages of the web that a browser shows: the names that it may be called
//! by, and the origins that may read its answers. Must not know what is asked.

use super::pages;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{Response, StatusCode, Version};

/// Stands for everything.
const ANY: &str = "*";

/// The refusal for who asks by HTTP/1 and does not name one host, as RFC 9112 (3.2) demands: what is
/// between us and a client could take the other name for ours. In etcd's words.
pub(crate) fn misaddressed(head: &Parts) -> Option<Response<Bytes>> {
    let mut hosts = head.headers.get_all(HOST).into_iter();
    let words = match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 => {
            "400 Bad Request: missing required Host header\n"
        }
        (Some(_), Some(_)) => "400 Bad Request: too many Host headers\n",
        (Some(host), None) if !host.as_bytes().iter().copied().all(is_of_a_host) => {
            "400 Bad Request: malformed Host header\n"
        }
        (None | Some(_), None) | (None, Some(_)) => return None,
    };
    let mut refusal = pages::plain(StatusCode::BAD_REQUEST, words);
    // Whoever does not agree with us about one request may not about where the next begins.
    refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Some(refusal)
}

/// Whether a host and its port may have this byte (RFC 3986, 3.2.2 and 3.2.3).
fn is_of_a_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)
}

/// The refusal for who calls this member by a name that is not among `names`, as a page does whose own
/// name leads to our address all of a sudden (CVE-2018-5702). Over TLS a name was checked already.
pub(super) fn refused(names: &[String], is_secure: bool, head: &Parts) -> Option<Response<Bytes>> {
    if is_secure || allows_any(names) {
        return None;
    }
    let host = host_of(head);
    if names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return None;
    }
    tracing::debug!(host, "a request to another host was refused");
    let words = format!(
        "quorate: the host {host:?} that this request names is none of this member's, as a page of \
         the web would name one that wants to reach it through a browser (CVE-2018-5702). Name the \
         member otherwise, or start it with --host-whitelist {host:?}, or with TLS.\n"
    );
    Some(pages::text(StatusCode::MISDIRECTED_REQUEST, words))
}

fn allows_any(list: &[String]) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == ANY)
}

/// The host that a request names, without a port and without brackets.
fn host_of(head: &Parts) -> &str {
    let named = head.uri.host().unwrap_or_else(|| {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        without_port(host)
    });
    named.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(named)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // What is left of an address in brackets has its end.
        Some((name, _)) if !name.starts_with('[') || name.ends_with(']') => name,
        Some(_) | None => host,
    }
}

/// Whether a page of the request's origin, if it has one, may read answers.
pub(super) fn may_read(origins: &[String], request: &HeaderMap) -> bool {
    let Some(origin) = request.get(ORIGIN) else { return true };
    allows_any(origins) || origins.iter().any(|one| *origin == one.as_str())
}

/// Tells the browser whether a page of the request's origin may read the answer, which it may if its
/// origin is among `origins`.
pub(super) fn tell_browser(origins: &[String], request: &HeaderMap, answer: &mut HeaderMap) {
    let origin = if allows_any(origins) {
        HeaderValue::from_static(ANY)
    } else {
        let listed = |origin: &&HeaderValue| origins.iter().any(|one| *origin == one.as_str());
        let Some(origin) = request.get(ORIGIN).filter(listed) else { return };
        origin.clone()
    };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    answer.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("accept, content-type, authorization"),
    );
    answer.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(uri: &str, host: Option<&str>) -> Parts {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_http_1_request_names_one_host_and_before_1_1_it_may_name_none() {
        let status = |version: Version, hosts: &[&str]| {
            let mut head = head("/version", None);
            head.version = version;
            for host in hosts {
                head.headers.append(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
            }
            misaddressed(&head).map(|answer| {
                assert_eq!(answer.headers()[CONNECTION], "close");
                answer.status()
            })
        };
        let refused = Some(StatusCode::BAD_REQUEST);
        for one in ["a", "", "a:1", "[::1]:1", "a_b.example"] {
            assert_eq!(status(Version::HTTP_11, &[one]), None, "{one}");
            assert_eq!(status(Version::HTTP_10, &[one]), None, "{one}");
        }
        assert_eq!(status(Version::HTTP_11, &[]), refused);
        assert_eq!(status(Version::HTTP_10, &[]), None);
        for wrong in [&["a", "a"][..], &["a", "b"], &["a b"], &["a@b"], &["ä"]] {
            assert_eq!(status(Version::HTTP_11, wrong), refused, "{wrong:?}");
            assert_eq!(status(Version::HTTP_10, wrong), refused, "{wrong:?}");
        }
    }

    #[test]
    fn the_host_is_what_the_request_names_first_without_port_and_brackets() {
        for (uri, host, expected) in [
            ("/version", Some("member.example:2379"), "member.example"),
            ("/version", Some("member.example"), "member.example"),
            ("/version", Some("127.0.0.1:2379"), "127.0.0.1"),
            ("/version", Some("[::1]:2379"), "::1"),
            ("/version", Some("[::1]"), "::1"),
            ("/version", None, ""),
            ("http://one:1/version", Some("other:2"), "one"),
            ("http://[::1]:1/version", None, "::1"),
        ] {
            assert_eq!(host_of(&head(uri, host)), expected, "{uri} {host:?}");
        }
    }

    #[test]
    fn only_a_name_that_is_listed_passes_and_over_tls_all_do() {
        let names = ["a.example".to_owned(), "::1".to_owned()];
        let passes = |names: &[String], is_secure, host| {
            refused(names, is_secure, &head("/", Some(host))).is_none()
        };
        assert!(passes(&names, false, "a.example:1") && passes(&names, false, "A.Example"));
        assert!(passes(&names, false, "[::1]:1"));
        for wrong in ["b.example", "a.example.evil", "", "a.example:1:1", "*"] {
            assert!(!passes(&names, false, wrong), "{wrong}");
            assert!(passes(&names, true, wrong) && passes(&[], false, wrong), "{wrong}");
            assert!(passes(&["b".to_owned(), "*".to_owned()], false, wrong), "{wrong}");
        }
    }

    #[test]
    fn an_origin_that_is_not_listed_is_told_nothing() {
        let origins = ["https://a.example".to_owned()];
        let told = |origins: &[String], origin: &str| {
            let mut request = HeaderMap::new();
            request.insert(ORIGIN, origin.parse().unwrap());
            let mut answer = HeaderMap::new();
            tell_browser(origins, &request, &mut answer);
            let origin = answer.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            origin.map(|origin| origin.to_str().unwrap().to_owned())
        };
        assert_eq!(told(&origins, "https://a.example").as_deref(), Some("https://a.example"));
        for other in ["https://b.example", "https://a.example:1", "http://a.example", "*", "null"] {
            assert_eq!(told(&origins, other), None, "{other}");
            assert_eq!(told(&[], other).as_deref(), Some("*"));
        }
    }
}
