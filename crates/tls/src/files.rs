//! What an operator says about TLS: which files, and what is asked of those who come. Must not know
//! what is in the files.

use crate::TlsError;
use crate::names::TlsVersion;
use std::path::PathBuf;

/// Which files, and what is asked of the other side; for one port, or for one client. The names are
/// those of etcd's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate that is shown, and those that it hangs on; PEM.
    pub cert: Option<PathBuf>,
    /// Its private key; PEM.
    pub key: Option<PathBuf>,
    /// The certificate that is shown when dialling, if it is another.
    pub client_cert: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
    /// Who may sign certificates of the other side; PEM. A listener that has it asks everybody for a
    /// certificate. Without it a client believes whom the system believes.
    pub trusted_ca: Option<PathBuf>,
    /// Certificates that are believed no more; PEM or DER.
    pub crl: Option<PathBuf>,
    /// Whether a listener asks for a certificate, even without `trusted_ca`; and whether the common
    /// name in it is somebody's name.
    pub client_cert_auth: bool,
    /// One of these is the certificate's common name; empty for any. Not together with
    /// `allowed_hostnames`.
    pub allowed_cns: Vec<String>,
    /// The certificate is valid for one of these hosts; empty for any.
    pub allowed_hostnames: Vec<String>,
    /// Whether somebody may come from an address that is not in the certificate. As in etcd, clients
    /// may and peers may not, unless a flag says so.
    pub skip_san_check: bool,
    /// Which versions of TLS are spoken.
    pub versions: Versions,
    /// Cipher suites of TLS 1.2, by the names that Go gives them, the best first; empty for all.
    /// Those of TLS 1.3 are not chosen, as in Go.
    pub cipher_suites: Vec<String>,
    /// What is spoken over the connections, by the names that TLS has for that (ALPN), the best
    /// first; empty for not saying.
    pub protocols: Vec<String>,
    /// Whether a client believes every server, whatever it shows: what nobody signed (`--auto-tls`)
    /// can only be believed.
    pub trusts_any_server: bool,
    /// The name that every server's certificate must be valid for, in place of the host that was
    /// dialled; `None` for that host.
    pub server_name: Option<String>,
}

/// The oldest and the newest version of TLS that is spoken; `None` for what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: Option<TlsVersion>,
    /// The newest.
    pub max: Option<TlsVersion>,
}

impl TlsFiles {
    /// What can be told without looking at a file.
    pub(crate) fn check(&self) -> Result<(), TlsError> {
        let text = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
        };
        if self.cert.is_some() != self.key.is_some() {
            return Err(TlsError::Half { cert: text(&self.cert), key: text(&self.key) });
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            let (cert, key) = (text(&self.client_cert), text(&self.client_key));
            return Err(TlsError::HalfClient { cert, key });
        }
        if !self.allowed_cns.is_empty() && !self.allowed_hostnames.is_empty() {
            return Err(TlsError::TwoAllowed {
                cns: self.allowed_cns.clone(),
                hostnames: self.allowed_hostnames.clone(),
            });
        }
        let Versions { min, max } = self.versions;
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(TlsError::Versions { min, max });
        }
        if min == Some(TlsVersion::Tls13) && !self.cipher_suites.is_empty() {
            return Err(TlsError::SuitesWithoutUse);
        }
        Ok(())
    }

    /// All files, in an order that does not change.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let all = [
            &self.cert,
            &self.key,
            &self.client_cert,
            &self.client_key,
            &self.trusted_ca,
            &self.crl,
        ];
        all.into_iter().flatten().cloned().collect()
    }

    /// Whether a listener asks for certificates; as in etcd, either setting is enough.
    #[must_use]
    pub const fn asks_for_certificates(&self) -> bool {
        self.trusted_ca.is_some() || self.client_cert_auth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(files: &TlsFiles) -> String {
        files.check().unwrap_err().to_string()
    }

    #[test]
    fn a_certificate_without_a_key_is_refused_in_etcds_words() {
        let half = TlsFiles { cert: Some("c.pem".into()), ..TlsFiles::default() };
        assert_eq!(refusal(&half), "KeyFile and CertFile must both be present[key: , cert: c.pem]");
        let half = TlsFiles { client_key: Some("k.pem".into()), ..TlsFiles::default() };
        assert_eq!(
            refusal(&half),
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: k.pem, \
             cert: ]"
        );
    }

    #[test]
    fn names_and_hosts_are_not_allowed_together() {
        let both = TlsFiles {
            allowed_cns: vec!["a".to_owned(), "c".to_owned()],
            allowed_hostnames: vec!["b".to_owned()],
            ..TlsFiles::default()
        };
        assert_eq!(
            refusal(&both),
            "AllowedCN and AllowedHostname are mutually exclusive: expected common names or hosts, \
             found the common names a, c and the hosts b"
        );
    }

    #[test]
    fn versions_that_leave_nothing_or_make_suites_useless_are_refused() {
        let versions = Versions { min: Some(TlsVersion::Tls13), max: Some(TlsVersion::Tls12) };
        let error = refusal(&TlsFiles { versions, ..TlsFiles::default() });
        assert_eq!(error, "min version (TLS1.3) is greater than max version (TLS1.2)");
        let error = refusal(&TlsFiles {
            versions: Versions { min: Some(TlsVersion::Tls13), max: None },
            cipher_suites: vec!["TLS_AES_128_GCM_SHA256".to_owned()],
            ..TlsFiles::default()
        });
        assert_eq!(error, "cipher suites cannot be configured when only TLS1.3 is enabled");
    }
}
