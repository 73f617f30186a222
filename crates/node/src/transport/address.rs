//! Where a peer is to be found, as a member's address says it: `host:port`, or `https://host:port` for
//! one that speaks TLS; or several of these, separated by commas. Must not know how any is dialled.

use super::link::LinkError;
use rustls::pki_types::ServerName;
use std::fmt;

/// What the address of a peer begins with that speaks TLS.
const SECURE: &str = "https://";

/// Between two addresses of one peer: part of no host and of no port.
const SEPARATOR: char = ',';

/// An address, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress<'a> {
    /// `host:port`.
    pub(crate) authority: &'a str,
    /// Whether TLS is spoken there.
    pub(crate) is_secure: bool,
}

impl<'a> PeerAddress<'a> {
    /// The addresses in a text, in its order: at least one, if only one that nobody has.
    pub(crate) fn all(text: &'a str) -> impl Iterator<Item = Self> {
        text.split(SEPARATOR).map(|address| Self::parse(address.trim()))
    }

    /// The same from `first` on, if it is among them, and around to the one before.
    pub(super) fn in_turn(text: &'a str, first: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Self::all(text).collect();
        let at = all.iter().position(|address| *address == PeerAddress::parse(first));
        all.rotate_left(at.unwrap_or(0));
        all
    }

    fn parse(text: &'a str) -> Self {
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

impl fmt::Display for PeerAddress<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", if self.is_secure { SECURE } else { "" }, self.authority)
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
            assert_eq!(address.to_string(), text);
        }
    }

    fn shown<'a>(addresses: impl IntoIterator<Item = PeerAddress<'a>>) -> Vec<String> {
        addresses.into_iter().map(|address| address.to_string()).collect()
    }

    #[test]
    fn a_text_has_one_address_or_several_in_its_order() {
        for (text, all) in [
            ("h:1", vec!["h:1"]),
            ("h:1,https://[::1]:2, h:3", vec!["h:1", "https://[::1]:2", "h:3"]),
            ("", vec![""]),
            ("h:1,", vec!["h:1", ""]),
        ] {
            assert_eq!(shown(PeerAddress::all(text)), all, "`{text}`");
        }
    }

    #[test]
    fn the_one_that_answered_last_comes_first_and_the_others_follow_in_their_order() {
        let text = "h:1,h:2,https://h:2,h:3";
        for (first, turn) in [
            ("", ["h:1", "h:2", "https://h:2", "h:3"]),
            ("h:1", ["h:1", "h:2", "https://h:2", "h:3"]),
            ("https://h:2", ["https://h:2", "h:3", "h:1", "h:2"]),
            ("h:3", ["h:3", "h:1", "h:2", "https://h:2"]),
            ("of:9", ["h:1", "h:2", "https://h:2", "h:3"]),
        ] {
            assert_eq!(shown(PeerAddress::in_turn(text, first)), turn, "from `{first}` on");
        }
    }

    #[test]
    fn a_host_that_no_certificate_can_be_for_is_refused() {
        let refused = PeerAddress::parse("https://not a host:1").server_name().unwrap_err();
        assert!(refused.to_string().contains("`not a host`"), "{refused}");
    }
}
