//! An authority that signs certificates for tests and writes them into files, and takes them back.
//! Other crates' tests use this file too.

#![allow(dead_code, unreachable_pub)] // Each test file uses a part.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Signs certificates.
pub struct Authority {
    folder: PathBuf,
    /// Its own certificate.
    pub ca: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub serial: u64,
}

impl Authority {
    /// An authority of that name, which writes its files into `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = folder.join(format!("{name}-ca.pem"));
        fs::write(&ca, issuer.pem()).unwrap();
        Self { folder: folder.to_owned(), ca, issuer }
    }

    /// A certificate with that common name, valid for these hosts and addresses. Its files are
    /// called after the name, and are written over.
    pub fn issue(&self, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        self.sign(name, serial, hosts, false)
    }

    /// The same, but it was valid in 1975 only.
    pub fn issue_lapsed(&self, name: &str, serial: u64, hosts: &[&str]) -> Pair {
        self.sign(name, serial, hosts, true)
    }

    fn sign(&self, name: &str, serial: u64, hosts: &[&str], is_lapsed: bool) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = common_name(name);
        params.serial_number = Some(serial.into());
        if is_lapsed {
            params.not_before = date_time_ymd(1975, 1, 1);
            params.not_after = date_time_ymd(1976, 1, 1);
        }
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        let cert = self.folder.join(format!("{name}.pem"));
        let key = self.folder.join(format!("{name}-key.pem"));
        fs::write(&cert, certificate.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        Pair { cert, key, serial }
    }

    /// A list of these serial numbers, in DER; written over if it is there.
    pub fn revoke(&self, serials: &[u64]) -> PathBuf {
        let path = self.folder.join("revoked.crl");
        fs::write(&path, self.list(serials).der()).unwrap();
        path
    }

    /// The same in PEM.
    pub fn revoke_in_pem(&self, serials: &[u64]) -> PathBuf {
        let path = self.folder.join("revoked.pem");
        fs::write(&path, self.list(serials).pem().unwrap()).unwrap();
        path
    }

    fn list(&self, serials: &[u64]) -> rcgen::CertificateRevocationList {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
