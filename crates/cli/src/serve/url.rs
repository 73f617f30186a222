//! The URLs of etcd's flags: http or https, a host and a port; what is not built yet is refused here,
//! by name. Knows nothing of what listens where.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HttpUrl {
    host: String,
    port: u16,
    is_secure: bool,
}

/// Why a URL was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// Sockets of the file system are for later.
    #[error(
        "expected http://HOST:PORT or https://..., found `{found}`: {scheme} is not supported yet"
    )]
    Scheme {
        /// The URL.
        found: String,
        /// Its scheme.
        scheme: &'static str,
    },
    /// It is no such URL.
    #[error("expected http://HOST:PORT or https://HOST:PORT, found `{found}`")]
    Form {
        /// The URL.
        found: String,
    },
    /// The host has no address.
    #[error("the host of `{url}` has no address: {reason}")]
    Unresolved {
        /// The URL.
        url: String,
        /// What the resolver said.
        reason: String,
    },
}

impl FromStr for HttpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        for scheme in ["unix", "unixs"] {
            if text.starts_with(&format!("{scheme}://")) {
                return Err(UrlError::Scheme { found: text.to_owned(), scheme });
            }
        }
        let form = || UrlError::Form { found: text.to_owned() };
        let plain = text.strip_prefix("http://").map(|rest| (rest, false));
        let secure = || text.strip_prefix("https://").map(|rest| (rest, true));
        let (rest, is_secure) = plain.or_else(secure).ok_or_else(form)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // Colons belong in brackets, as in [::1]; nothing but a host belongs before the port.
        let is_host = !bare.is_empty() && (bare.len() < host.len() || !bare.contains(':'));
        if !is_host || bare.contains(['/', '@', ' ', '[', ']', ',', '=']) {
            return Err(form());
        }
        Ok(Self { host: host.to_owned(), port, is_secure })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl HttpUrl {
    /// Whether it says https.
    pub(crate) const fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The host as a certificate has it: an address without brackets.
    pub(crate) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// How members know this URL: `host:port`, and all of it if it says https.
    pub(crate) fn peer_address(&self) -> String {
        if self.is_secure { self.to_string() } else { self.authority() }
    }

    /// The first address of the host; of the fourth version of the protocol, if there is one.
    ///
    /// # Errors
    ///
    /// [`UrlError::Unresolved`] if there is none.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, UrlError> {
        let unresolved = |reason: String| UrlError::Unresolved { url: self.to_string(), reason };
        let found = self.authority().to_socket_addrs();
        let mut found: Vec<_> = found.map_err(|error| unresolved(error.to_string()))?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found.first().copied().ok_or_else(|| unresolved("no address".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        let right = [
            ("http://127.0.0.1:2379", false, "127.0.0.1"),
            ("https://[::1]:2379", true, "::1"),
            ("http://node-1.example:80", false, "node-1.example"),
        ];
        for (right, is_secure, host) in right {
            let url: HttpUrl = right.parse().unwrap();
            assert_eq!(url.to_string(), right);
            assert_eq!((url.is_secure(), url.host()), (is_secure, host));
            assert_eq!(url.peer_address().starts_with("https://"), is_secure);
        }
    }

    #[test]
    fn anything_else_is_refused_and_shown() {
        let wrong = [
            "",
            "127.0.0.1:2379",
            "http://",
            "http://a",
            "http://:1",
            "http://a:0",
            "http://a:b",
            "http://a:1/path",
            // To etcd, this is a path, too.
            "http://a:1/",
            "http://::1:2379",
            "http://a:70000",
            "ftp://a:1",
            "http://u@a:1",
            "https://a",
            "unix://sock",
        ];
        for text in wrong {
            let error = text.parse::<HttpUrl>().unwrap_err();
            assert!(error.to_string().contains(&format!("found `{text}`")), "{error}");
        }
    }

    #[test]
    fn localhost_is_found_at_the_older_protocols_address() {
        let url: HttpUrl = "http://localhost:2379".parse().unwrap();
        assert_eq!(url.resolve().unwrap().port(), 2379);
    }
}
