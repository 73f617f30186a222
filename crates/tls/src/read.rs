//! From a file to certificates or a key, or to a sentence that says what is in the file instead.
//! Must not know what they are for.

use crate::TlsError;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::sign::CertifiedKey;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read, in bytes: a revocation list of a million certificates.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What a file with certificates should have in it.
const CERTIFICATES: &str = "certificates in PEM (-----BEGIN CERTIFICATE-----)";

/// What a file with a key should have in it.
const KEY: &str = "a private key in PEM: RSA of at least 2048 bits, ECDSA with P-256 or P-384, or \
                   Ed25519";

/// All of a file.
pub(crate) fn bytes(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { what, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let count = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if count as u64 > FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// A certificate with those that it hangs on, and its key.
pub(crate) fn certified(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    CertifiedKey::from_der(chain, private_key(key)?, provider).map_err(|error| {
        if let rustls::Error::InconsistentKeys(_) = error {
            return TlsError::WrongKey { key: key.to_owned(), cert: cert.to_owned() };
        }
        if let rustls::Error::InvalidCertificate(_) = error {
            return content(cert, CERTIFICATES, error.to_string());
        }
        content(key, KEY, format!("one that cannot be used ({error})"))
    })
}

/// Whom to believe.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, CERTIFICATES, error.to_string()))?;
    }
    Ok(roots)
}

/// Whom the system believes. What it has that is no certificate is its own business.
pub(crate) fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added_count, _) = roots.add_parsable_certificates(found.certs);
    if added_count == 0 {
        let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::NoSystemRoots { reason });
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = bytes(path, "certificates")?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| content(path, CERTIFICATES, error.to_string()))?;
    if found.is_empty() {
        return Err(content(path, CERTIFICATES, "none".to_owned()));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";
    let bytes = bytes(path, "a private key")?;
    if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        let found = "one that is encrypted, and nobody to ask for its password".to_owned();
        return Err(content(path, KEY, found));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let is_absent = matches!(error, pem::Error::NoItemsFound);
        let found = if is_absent { "none".to_owned() } else { error.to_string() };
        content(path, KEY, found)
    })
}

/// Something else than expected.
pub(crate) fn content(path: &Path, expected: &'static str, found: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), expected, found }
}
