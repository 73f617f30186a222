//! Who may stay after a handshake: certificates that were believed, but are revoked, of others than
//! those who may come, or shown from elsewhere. Must not know files or sockets.

use crate::TlsError;
use crate::files::TlsFiles;
use crate::leaf::{self, Leaf};
use crate::revoked::{Revoked, bare};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use std::fmt::Write;
use std::net::IpAddr;

/// Who is at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The common name in the certificate; only with `client_cert_auth`, as in etcd, and not if it
    /// is empty.
    pub common_name: Option<String>,
}

/// What can be said at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It may stay.
    Known(Identity),
    /// That depends on the addresses of some hosts, which take a while to look up.
    Resolve(Unresolved),
}

/// Somebody who may stay if one of the hosts in the certificate has the address it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    identity: Identity,
    remote: IpAddr,
    hosts: Vec<String>,
}

/// Why somebody may not stay; in etcd's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// The certificate, or one it hangs on, is believed no more.
    #[error("transport: certificate serial {serial} revoked")]
    Revoked {
        /// Its serial number, in hex.
        serial: String,
    },
    /// It is not one of those who may come.
    #[error("client certificate authentication failed")]
    NotAllowed,
    /// It comes from an address that is not in its certificate.
    #[error("tls: certificate is valid for {addresses:?}, not {remote}")]
    Elsewhere {
        /// Where it comes from.
        remote: IpAddr,
        /// The addresses in its certificate.
        addresses: Vec<IpAddr>,
    },
    /// None of the hosts in its certificate has the address that it comes from.
    #[error(
        "tls: \"{remote}\" does not match any of DNSNames {hosts:?}{}",
        if hosts.iter().any(|host| is_wildcard(host)) { NO_WILDCARDS } else { "" }
    )]
    Unnamed {
        /// Where it comes from.
        remote: IpAddr,
        /// The hosts.
        hosts: Vec<String>,
    },
    /// What it showed is no certificate after all.
    #[error("expected a certificate, found: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

const NO_WILDCARDS: &str = "; which host has an address is not looked up, so `*.` in a certificate \
                            helps only with --peer-skip-client-san-verification";

/// What certificates are asked for beside being believed.
#[derive(Debug)]
pub(crate) struct Judge {
    revoked: Revoked,
    allowed_cns: Vec<String>,
    allowed_hosts: Vec<ServerName<'static>>,
    skip_san_check: bool,
    names_count: bool,
}

impl Judge {
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let host = |text: &String| {
            let refused = |_| TlsError::AllowedHostname { found: text.clone() };
            ServerName::try_from(text.clone()).map_err(refused)
        };
        Ok(Self {
            revoked: files.crl.as_deref().map(Revoked::load).transpose()?.unwrap_or_default(),
            allowed_cns: files.allowed_cns.clone(),
            allowed_hosts: files.allowed_hostnames.iter().map(host).collect::<Result<_, _>>()?,
            skip_san_check: files.skip_san_check,
            names_count: files.client_cert_auth,
        })
    }

    /// Somebody who came.
    pub(crate) fn judge(
        &self,
        certificates: &[CertificateDer<'_>],
        remote: IpAddr,
    ) -> Result<Judgement, Stranger> {
        let Some(leaf) = self.check(certificates)? else {
            return Ok(Judgement::Known(Identity::default()));
        };
        let is_named = self.names_count && !leaf.common_name.is_empty();
        let identity = Identity { common_name: is_named.then_some(leaf.common_name) };
        let remote = remote.to_canonical();
        let is_anywhere = leaf.addresses.is_empty() && leaf.hosts.is_empty();
        if self.skip_san_check || is_anywhere || leaf.addresses.contains(&remote) {
            return Ok(Judgement::Known(identity));
        }
        if leaf.hosts.is_empty() {
            return Err(Stranger::Elsewhere { remote, addresses: leaf.addresses });
        }
        if leaf.hosts.iter().all(|host| is_wildcard(host)) {
            return Err(Stranger::Unnamed { remote, hosts: leaf.hosts });
        }
        Ok(Judgement::Resolve(Unresolved { identity, remote, hosts: leaf.hosts }))
    }

    /// Revocation and allowed names; what the first certificate says, if there is one.
    pub(crate) fn check(
        &self,
        certificates: &[CertificateDer<'_>],
    ) -> Result<Option<Leaf>, Stranger> {
        for certificate in certificates {
            let serial = leaf::serial(certificate).map_err(unreadable)?;
            if self.revoked.has(&serial) {
                return Err(Stranger::Revoked { serial: hex(bare(&serial)) });
            }
        }
        let Some(certificate) = certificates.first() else {
            // Who must have a certain name must have one.
            let is_open = self.allowed_cns.is_empty() && self.allowed_hosts.is_empty();
            return if is_open { Ok(None) } else { Err(Stranger::NotAllowed) };
        };
        let leaf = Leaf::parse(certificate).map_err(unreadable)?;
        if !self.allowed_cns.is_empty() && !self.allowed_cns.contains(&leaf.common_name) {
            return Err(Stranger::NotAllowed);
        }
        if !self.allowed_hosts.is_empty() {
            let parsed = ParsedCertificate::try_from(certificate)
                .map_err(|error| unreadable(error.to_string()))?;
            let is_valid = |host| verify_server_name(&parsed, host).is_ok();
            if !self.allowed_hosts.iter().any(is_valid) {
                return Err(Stranger::NotAllowed);
            }
        }
        Ok(Some(leaf))
    }
}

impl Unresolved {
    /// The hosts to look up.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(String::as_str).filter(|host| !is_wildcard(host))
    }

    /// Decides, once all the addresses that these hosts have are known.
    ///
    /// # Errors
    ///
    /// [`Stranger::Unnamed`] if none is the one that it comes from.
    pub fn decide(self, addresses: &[IpAddr]) -> Result<Identity, Stranger> {
        let is_there = addresses.iter().any(|address| address.to_canonical() == self.remote);
        if is_there {
            return Ok(self.identity);
        }
        Err(Stranger::Unnamed { remote: self.remote, hosts: self.hosts })
    }
}

fn is_wildcard(host: &str) -> bool {
    host.starts_with("*.")
}

fn unreadable(reason: String) -> Stranger {
    Stranger::Unreadable { reason }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
