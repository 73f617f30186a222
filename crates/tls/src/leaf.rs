//! What a certificate says of its owner: names, addresses, serial number. Whether it may be
//! believed was decided before; must not know what is made of it.

use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// What a certificate says of its owner.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The common name; the last one, as in Go. Empty if there is none.
    pub(crate) common_name: String,
    /// The addresses that it is valid for.
    pub(crate) addresses: Vec<IpAddr>,
    /// The host names that it is valid for; some may begin with `*.`.
    pub(crate) hosts: Vec<String>,
}

impl Leaf {
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let mut leaf = Self { common_name: common_name(certificate.subject()), ..Self::default() };
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            if let GeneralName::DNSName(host) = name {
                leaf.hosts.push((*host).to_owned());
            }
            if let GeneralName::IPAddress(bytes) = name {
                leaf.addresses.push(address(bytes)?);
            }
        }
        Ok(leaf)
    }
}

/// The serial number, most significant byte first.
pub(crate) fn serial(der: &[u8]) -> Result<Vec<u8>, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(certificate.raw_serial().to_vec())
}

fn common_name(subject: &X509Name<'_>) -> String {
    let last = subject.iter_common_name().last();
    last.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| sixteen())
        .map(|address| address.to_canonical())
        .map_err(|_| format!("expected an address of 4 or 16 bytes, found {}", bytes.len()))
}
