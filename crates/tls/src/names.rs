//! Versions of TLS and cipher suites by the names that etcd's flags have for them, which are Go's.
//! Must not know where the names come from.

use crate::TlsError;
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, cipher_suite as ring};
use rustls::version::{TLS12, TLS13};
use std::fmt;
use std::str::FromStr;

/// A version of TLS that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// A version that is not spoken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected TLS version {found:?} (must be one of: TLS1.2, TLS1.3)")]
pub struct UnknownVersion {
    found: String,
}

impl FromStr for TlsVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        match text {
            "TLS1.2" => Ok(Self::Tls12),
            "TLS1.3" => Ok(Self::Tls13),
            _ => Err(UnknownVersion { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS1.2",
            Self::Tls13 => "TLS1.3",
        })
    }
}

impl TlsVersion {
    /// What rustls calls it.
    pub(crate) const fn supported(self) -> &'static rustls::SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

/// Names that Go knows and nobody should use any more, or that mean TLS 1.3, where nothing can be
/// chosen.
const NOT_CHOSEN: [&str; 19] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// The suites that are spoken, and those names that are nobody's mistake but have no effect.
#[derive(Debug)]
pub(crate) struct Suites {
    pub(crate) spoken: Vec<SupportedCipherSuite>,
    pub(crate) without_effect: Vec<String>,
}

/// All suites of TLS 1.3, and of TLS 1.2 those of these names in their order; of no names, all.
pub(crate) fn suites(names: &[String]) -> Result<Suites, TlsError> {
    let is_of_13 = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    let of_13 = ALL_CIPHER_SUITES.iter().filter(|suite| is_of_13(suite));
    let mut suites = Suites { spoken: of_13.copied().collect(), without_effect: Vec::new() };
    if names.is_empty() {
        suites.spoken = ALL_CIPHER_SUITES.to_vec();
    }
    for name in names {
        match suite(name) {
            Some(suite) => suites.spoken.push(suite),
            None if NOT_CHOSEN.contains(&name.as_str()) => suites.without_effect.push(name.clone()),
            None => return Err(TlsError::Suite { found: name.clone() }),
        }
    }
    Ok(suites)
}

fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        // Go had these two without the digest at first.
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"
        | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => {
            ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Suites, TlsError> {
        suites(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_version_has_gos_name() {
        for (text, version) in [("TLS1.2", TlsVersion::Tls12), ("TLS1.3", TlsVersion::Tls13)] {
            assert_eq!(text.parse(), Ok(version));
            assert_eq!(version.to_string(), text);
        }
        assert_eq!(
            "TLS1.1".parse::<TlsVersion>().unwrap_err().to_string(),
            r#"unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)"#
        );
    }

    #[test]
    fn suites_are_spoken_in_the_order_of_their_names_beside_those_of_1_3() {
        let all = chosen(&[]).unwrap();
        assert_eq!(all.spoken.len(), 9);
        let found = chosen(&[
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ])
        .unwrap();
        let of_12: Vec<_> = found.spoken.iter().filter(|suite| suite.tls13().is_none()).collect();
        let expected = [
            &ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            &ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ];
        assert_eq!(of_12, expected);
        assert_eq!(found.spoken.len(), 5);
    }

    #[test]
    fn a_suite_that_go_knows_has_no_effect_and_one_that_nobody_knows_is_refused() {
        let found = chosen(&["TLS_RSA_WITH_AES_256_GCM_SHA384"]).unwrap();
        assert_eq!(found.without_effect, ["TLS_RSA_WITH_AES_256_GCM_SHA384"]);
        assert_eq!(found.spoken.len(), 3);
        let error = chosen(&["TLS_ROT13"]).unwrap_err();
        assert_eq!(error.to_string(), r#"unexpected TLS cipher suite "TLS_ROT13""#);
    }
}
