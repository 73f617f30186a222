//! Certificates that are believed no more, by their serial numbers. As in etcd, nobody looks at who
//! says so and when; must not know who shows a certificate.

use crate::TlsError;
use crate::read::{bytes, content};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use std::collections::HashSet;
use std::path::Path;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// What a file with such a list should have in it.
const LIST: &str = "a certificate revocation list, in PEM (-----BEGIN X509 CRL-----) or DER";

/// Serial numbers.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    serials: HashSet<Box<[u8]>>,
}

impl Revoked {
    pub(crate) fn load(path: &Path) -> Result<Self, TlsError> {
        let bytes = bytes(path, "a certificate revocation list")?;
        let is_pem = bytes.trim_ascii_start().starts_with(b"-----");
        let der = if is_pem {
            CertificateRevocationListDer::from_pem_slice(&bytes)
                .map_err(|error| content(path, LIST, error.to_string()))?
        } else {
            CertificateRevocationListDer::from(bytes)
        };
        Self::parse(&der).map_err(|found| content(path, LIST, found))
    }

    fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes after its end", rest.len()));
        }
        let serials = list.iter_revoked_certificates();
        Ok(Self { serials: serials.map(|one| bare(one.raw_serial()).into()).collect() })
    }

    /// Whether the certificate of that serial number is on the list.
    pub(crate) fn has(&self, serial: &[u8]) -> bool {
        self.serials.contains(bare(serial))
    }
}

/// Without the zeros that a number may begin with.
pub(crate) fn bare(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|&&byte| byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_with_and_without_zeros_before_it() {
        let revoked = Revoked { serials: [bare(&[0, 0x80, 1]).into()].into() };
        assert!(revoked.has(&[0x80, 1]) && revoked.has(&[0, 0, 0x80, 1]));
        assert!(!revoked.has(&[0x80, 0, 1]) && !revoked.has(&[]));
    }
}
