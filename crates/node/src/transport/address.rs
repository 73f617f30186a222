//! Where a peer is to be found, as a member's address says it: `host:port`, or `https://host:port` for
//! one that speaks TLS. Must not know how either is dialled.

use super::link::LinkError;
use rustls::pki_types::ServerName;

/// What the address of a peer begins with that speaks TLS.
const SECURE: &str = "https://";

/// An address, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress<'a> {
    /// `host:port`.
    pub(crate) authority: &'a str,
    /// Whether TLS is spoken there.
    pub(crate) is_secure: bool,
}

impl<'a> PeerAddress<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let secure = text.strip_prefix(SECURE);
        Self { authority: secure.unwrap_or(text), is_secure: secure.is_some() }
    }

    /// What a certificate must be for that is shown there: a host name, or an address.
    pub(super) fn server_name(self) -> Result<ServerName<'static>, LinkError> {
        let host = self.authority.rsplit_once(':').map_or(self.authority, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned());
        name.map_err(|_| LinkError::Host { found: host.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_says_whether_tls_is_spoken_and_the_host_is_what_a_certificate_is_for() {
        for (text, authority, is_secure, host) in [
            ("10.0.0.1:2380", "10.0.0.1:2380", false, "10.0.0.1"),
            ("https://n1.example:2380", "n1.example:2380", true, "n1.example"),
            ("https://[::1]:2380", "[::1]:2380", true, "::1"),
        ] {
            let address = PeerAddress::parse(text);
            assert_eq!(address, PeerAddress { authority, is_secure });
            assert_eq!(address.server_name().unwrap().to_str(), host);
        }
    }

    #[test]
    fn a_host_that_no_certificate_can_be_for_is_refused() {
        let refused = PeerAddress::parse("https://not a host:1").server_name().unwrap_err();
        assert!(refused.to_string().contains("`not a host`"), "{refused}");
    }
}
