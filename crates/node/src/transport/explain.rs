//! What went wrong within TLS, for whoever looks after the members: what was expected, what was found,
//! what to do. The words do not change while the cause does not. Must not know whose connection it was.

use quorate_tls::Stranger;
use rustls::{CertificateError, Error};

/// A sentence; rustls' own where nothing is to be added.
pub(super) fn explain(error: &Error) -> String {
    if let Error::InvalidCertificate(certificate) = error {
        return of_certificate(certificate);
    }
    if let Error::AlertReceived(alert) = error {
        return format!(
            "the other side refused this node's part of the handshake ({alert:?}); its log may say \
             why"
        );
    }
    if *error == Error::NoCertificatesPresented {
        return NO_CERTIFICATE.to_owned();
    }
    if *error == Error::NoApplicationProtocol {
        return OTHER_PROTOCOL.to_owned();
    }
    error.to_string()
}

fn of_certificate(error: &CertificateError) -> String {
    // The time of the attempt is left out: the next one would read like news.
    if let CertificateError::ExpiredContext { not_after, .. } = error {
        let until = not_after.as_secs();
        return format!(
            "its certificate has expired: it was valid until {until} (Unix time); renew it"
        );
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = error {
        let from = not_before.as_secs();
        return format!(
            "its certificate is valid from {from} on (Unix time); look at the clocks of both machines"
        );
    }
    if let CertificateError::NotValidForNameContext { expected, presented } = error {
        let host = expected.to_str();
        return format!(
            "its certificate is for {presented:?}, and not for `{host}`, the host of its peer URL; \
             make one that names this host, or say another URL"
        );
    }
    if *error == CertificateError::UnknownIssuer {
        return UNKNOWN_ISSUER.to_owned();
    }
    format!("its certificate cannot be believed: {error}")
}

/// Somebody whose certificate is believed, and who may not stay all the same.
pub(super) fn explain_stranger(stranger: &Stranger) -> String {
    match stranger {
        Stranger::Revoked { .. } => format!("{stranger}; give its owner another certificate"),
        Stranger::NotAllowed => NOT_ALLOWED.to_owned(),
        Stranger::Elsewhere { .. } | Stranger::Unnamed { .. } => format!(
            "{stranger}; make a certificate that names this address, or a host that has it, or do \
             not ask for that (--peer-skip-client-san-verification)"
        ),
        Stranger::Unreadable { .. } => stranger.to_string(),
    }
}

const NOT_ALLOWED: &str = "expected one of the names that are allowed here in its certificate, found \
                           none; give its owner a certificate with such a name, or allow its own";
const NO_CERTIFICATE: &str =
    "expected a certificate, found none; the other side needs one to show when it dials";
const OTHER_PROTOCOL: &str = "the other side speaks TLS, and not this protocol over it; expected \
                              the peer port of a member, found another one";
const UNKNOWN_ISSUER: &str = "its certificate is signed by nobody who is trusted here; sign it with \
                              the members' CA, or add its CA to the trusted ones";

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::time::Duration;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_refusal_says_what_to_do_and_the_same_each_time() {
        let expired = |now| {
            let (time, not_after) = (at(now), at(100));
            explain(&CertificateError::ExpiredContext { time, not_after }.into())
        };
        assert!(expired(200).contains("valid until 100 (Unix time); renew it"), "{}", expired(200));
        assert_eq!(expired(200), expired(201));
        let name = explain(
            &CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("n1.example").unwrap(),
                presented: vec!["DnsName(\"n2.example\")".to_owned()],
            }
            .into(),
        );
        assert!(name.contains("n2.example") && name.contains("`n1.example`"), "{name}");
        let unknown = explain(&CertificateError::UnknownIssuer.into());
        assert!(unknown.contains("add its CA to the trusted ones"), "{unknown}");
        let none = explain(&Error::NoCertificatesPresented);
        assert!(none.contains("expected a certificate, found none"), "{none}");
    }

    #[test]
    fn who_may_not_stay_is_told_of_with_what_to_do() {
        let remote = [10, 0, 0, 1].into();
        for (stranger, words) in [
            (Stranger::Revoked { serial: "7".to_owned() }, "serial 7 revoked; give its owner"),
            (Stranger::NotAllowed, "expected one of the names that are allowed here"),
            (
                Stranger::Elsewhere { remote, addresses: Vec::new() },
                "not 10.0.0.1; make a certificate that names this address",
            ),
            (Stranger::Unreadable { reason: "noise".to_owned() }, "found: noise"),
        ] {
            let said = explain_stranger(&stranger);
            assert!(said.contains(words), "expected `{words}` in `{said}`");
        }
    }

    #[test]
    fn what_has_no_words_of_ours_has_those_of_rustls() {
        assert_eq!(explain(&Error::DecryptError), Error::DecryptError.to_string());
    }
}
