//! What two ends with certificates of their own make of each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::authority::Authority;
use common::{files, folder, handshake, load, shown};
use quorate_tls::{Tls, TlsFiles, TlsVersion, Versions, self_signed};
use rustls::{CertificateError, CipherSuite, Error, ProtocolVersion};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_client_believes_a_server_that_its_authority_signed_for_that_host() {
    let folder = folder();
    let (ours, other) =
        (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let pair = ours.issue("server", 1, &["localhost", "127.0.0.1"]);
    let server = load(shown(&pair));
    let believing = |authority: &Authority| {
        load(TlsFiles { trusted_ca: Some(authority.ca.clone()), ..TlsFiles::default() })
    };
    for host in ["localhost", "127.0.0.1"] {
        let met = handshake(&server, &believing(&ours), host).unwrap();
        assert_eq!((met.of_server.len(), met.of_client.len()), (1, 0));
        assert_eq!(met.version, ProtocolVersion::TLSv1_3);
    }
    assert!(handshake(&server, &believing(&ours), "elsewhere").is_err());
    assert!(matches!(
        handshake(&server, &believing(&other), "localhost").err(),
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    ));
}

#[test]
fn a_client_that_wants_one_name_believes_certificates_for_it_whichever_host_it_dialled() {
    let folder = folder();
    let (ours, other) =
        (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let wanting = |authority: &Authority, name: &str| TlsFiles {
        trusted_ca: Some(authority.ca.clone()),
        server_name: Some(name.to_owned()),
        ..TlsFiles::default()
    };
    let client = load(wanting(&ours, "example.com"));
    let of_domain = load(shown(&ours.issue("domain", 1, &["example.com"])));
    assert_eq!(handshake(&of_domain, &client, "n1.example.com").unwrap().of_server.len(), 1);
    let of_host = load(shown(&ours.issue("host", 2, &["n1.example.com"])));
    assert!(matches!(
        handshake(&of_host, &client, "n1.example.com").err(),
        Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
    ));
    let believing_other = load(wanting(&other, "example.com"));
    assert!(handshake(&of_domain, &believing_other, "n1.example.com").is_err());
    let refused = Tls::load(wanting(&ours, "no name")).unwrap_err().to_string();
    assert!(refused.contains("found `no name`"), "{refused}");
}

#[test]
fn an_authority_that_is_named_makes_certificates_required_even_without_the_flag() {
    let folder = folder();
    let (ours, other) =
        (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "other"));
    let server = load(files(&ours.issue("server", 1, &["localhost"]), &ours));
    let anybody = load(TlsFiles { trusted_ca: Some(ours.ca.clone()), ..TlsFiles::default() });
    assert!(matches!(
        handshake(&server, &anybody, "localhost").err(),
        Some(Error::NoCertificatesPresented)
    ));
    let stranger = load(files(&other.issue("stranger", 2, &[]), &ours));
    assert!(handshake(&server, &stranger, "localhost").is_err());
    let friend = load(files(&ours.issue("friend", 3, &[]), &ours));
    assert_eq!(handshake(&server, &friend, "localhost").unwrap().of_client.len(), 1);
}

#[test]
fn a_client_may_show_another_certificate_than_the_listener_beside_it() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let (pair, dialled) = (ours.issue("server", 1, &["localhost"]), ours.issue("dialled", 2, &[]));
    let both = load(TlsFiles {
        client_cert: Some(dialled.cert),
        client_key: Some(dialled.key),
        ..files(&pair, &ours)
    });
    let met = handshake(&both, &both, "localhost").unwrap();
    assert_ne!(met.of_client, met.of_server);
    let same = load(files(&pair, &ours));
    let met = handshake(&same, &same, "localhost").unwrap();
    assert_eq!(met.of_client, met.of_server);
}

#[test]
fn versions_and_suites_are_what_the_names_say() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["localhost"]);
    let spoken = |min, max, suites: &[&str]| TlsFiles {
        versions: Versions { min, max },
        cipher_suites: suites.iter().map(|&suite| suite.to_owned()).collect(),
        trusted_ca: Some(ours.ca.clone()),
        ..TlsFiles::default()
    };
    let server = |files: TlsFiles| load(TlsFiles { trusted_ca: None, ..files });
    let with_pair = |files: TlsFiles| TlsFiles {
        cert: Some(pair.cert.clone()),
        key: Some(pair.key.clone()),
        ..files
    };
    let any = load(spoken(None, None, &[]));
    let only_12 = server(with_pair(spoken(
        None,
        Some(TlsVersion::Tls12),
        &["TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"],
    )));
    let met = handshake(&only_12, &any, "localhost").unwrap();
    assert_eq!(met.version, ProtocolVersion::TLSv1_2);
    assert_eq!(met.suite, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    let only_13 = server(with_pair(spoken(Some(TlsVersion::Tls13), None, &[])));
    let old = load(spoken(None, Some(TlsVersion::Tls12), &[]));
    assert!(handshake(&only_13, &old, "localhost").is_err());
    assert_eq!(handshake(&only_13, &any, "localhost").unwrap().version, ProtocolVersion::TLSv1_3);
}

#[test]
fn a_certificate_of_ones_own_making_is_believed_by_those_who_believe_all() {
    let folder = folder();
    let place = folder.path().join("fixtures/client");
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned(), "localhost".to_owned()];
    let made = self_signed(&place, &hosts, 1).unwrap();
    assert!(made.is_new);
    assert_eq!(std::fs::metadata(&made.key).unwrap().permissions().mode() & 0o777, 0o600);
    let server = load(TlsFiles {
        cert: Some(made.cert.clone()),
        key: Some(made.key.clone()),
        ..TlsFiles::default()
    });
    let trusting = load(TlsFiles { trusts_any_server: true, ..TlsFiles::default() });
    assert_eq!(handshake(&server, &trusting, "anywhere").unwrap().of_server.len(), 1);
    // Who has it at hand can insist on it, as with any authority.
    let insisting = TlsFiles { trusted_ca: Some(made.cert.clone()), ..TlsFiles::default() };
    assert!(handshake(&server, &load(insisting), "127.0.0.1").is_ok());
    let again = self_signed(&place, &[], 0).unwrap();
    assert_eq!((again.cert, again.is_new), (made.cert, false));
    assert!(self_signed(&folder.path().join("none"), &hosts, 0).is_err());
}
