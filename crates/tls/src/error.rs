//! Why there can be no TLS with the settings and files that were given, in sentences for whoever
//! gave them; etcd's own where it has one. Must not know who asks.

use crate::names::TlsVersion;
use std::io;
use std::path::PathBuf;

/// Settings or files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of two that belong together.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    Half {
        /// The certificate.
        cert: String,
        /// The key.
        key: String,
    },
    /// The same of what is shown when dialling.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: \
         {cert}]"
    )]
    HalfClient {
        /// The certificate.
        cert: String,
        /// The key.
        key: String,
    },
    /// Common names and hosts.
    #[error(
        "AllowedCN and AllowedHostname are mutually exclusive: expected common names or hosts, found the \
         common names {} and the hosts {}",
        cns.join(", "),
        hostnames.join(", ")
    )]
    TwoAllowed {
        /// The common names.
        cns: Vec<String>,
        /// The hosts.
        hostnames: Vec<String>,
    },
    /// A host that is none.
    #[error("allowed hostname: expected a host name or an IP address, found `{found}`")]
    AllowedHostname {
        /// What was given.
        found: String,
    },
    /// A name that is none.
    #[error("the name of every server: expected a host name or an IP address, found `{found}`")]
    ServerName {
        /// What was given.
        found: String,
    },
    /// There is no version in between.
    #[error("min version ({min}) is greater than max version ({max})")]
    Versions {
        /// The oldest.
        min: TlsVersion,
        /// The newest.
        max: TlsVersion,
    },
    /// Nobody knows such a suite.
    #[error("unexpected TLS cipher suite {found:?}")]
    Suite {
        /// Its name.
        found: String,
    },
    /// TLS 1.3 has its own suites.
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    SuitesWithoutUse,
    /// A file cannot be read.
    #[error("cannot read {what} in {path}", path = path.display())]
    File {
        /// What it should have.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file has something else in it than it should.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What is.
        found: String,
    },
    /// A key of another certificate.
    #[error(
        "{key}: expected the private key of the certificate in {cert}, found another one",
        key = key.display(), cert = cert.display()
    )]
    WrongKey {
        /// The key.
        key: PathBuf,
        /// The certificate.
        cert: PathBuf,
    },
    /// The system believes nobody.
    #[error(
        "expected certificates that the system trusts, found none{reason}; name a file with a CA"
    )]
    NoSystemRoots {
        /// What went wrong, if something did.
        reason: String,
    },
    /// The settings leave nothing that could be spoken.
    #[error("these TLS settings cannot be used")]
    Settings(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Making(#[from] rcgen::Error),
    /// A certificate that was made could not be kept.
    #[error("cannot write {path}", path = path.display())]
    Writing {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A certificate that is of use to nobody.
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    NoValidity,
}
