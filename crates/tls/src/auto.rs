//! A certificate of one's own making, for trying out: `--auto-tls`. It proves nothing to anybody,
//! but what is said is not read by others; must not know which port it is for.

use crate::TlsError;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// etcd's years have no leap days.
const YEAR: Duration = Duration::from_hours(365 * 24);

/// Where such a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether they were made now, and not found.
    pub is_new: bool,
}

/// A certificate for `hosts` (names or addresses) in `folder`, valid for so many years; if both
/// files are there already they are taken as they are, as etcd does.
///
/// # Errors
///
/// [`TlsError`] if a host is none, or the files cannot be written.
pub fn self_signed(folder: &Path, hosts: &[String], years: u32) -> Result<SelfSigned, TlsError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok(SelfSigned { cert, key, is_new: false });
    }
    if years == 0 {
        return Err(TlsError::NoValidity);
    }
    let pair = KeyPair::generate()?;
    let certificate = params(hosts, years)?.self_signed(&pair)?;
    fs::create_dir_all(folder)
        .map_err(|source| TlsError::Writing { path: folder.to_owned(), source })?;
    // The key first: a certificate that is there has its key beside it.
    write(&key, &pair.serialize_pem(), 0o600)?;
    write(&cert, &certificate.pem(), 0o644)?;
    Ok(SelfSigned { cert, key, is_new: true })
}

fn params(hosts: &[String], years: u32) -> Result<CertificateParams, TlsError> {
    let mut hosts = hosts.to_vec();
    hosts.sort();
    hosts.dedup();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + now;
    // Beyond the year 9999 there are no dates.
    params.not_after = params.not_before + YEAR * years.min(1000);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// Writes a file that is whole or not there.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let unfinished = path.with_extension("new");
        // What a start before left unfinished may have another mode.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(|source| TlsError::Writing { path: path.to_owned(), source })
}
