//! What files may have in them, and what happens when they change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::authority::Authority;
use common::{files, folder, handshake, load};
use quorate_tls::{Refreshed, Tls, TlsFiles};
use std::fs;
use std::path::{Path, PathBuf};

fn refusal(files: TlsFiles) -> String {
    Tls::load(files).unwrap_err().to_string()
}

fn written(folder: &Path, name: &str, text: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn files_that_changed_are_taken_over_and_broken_ones_are_not() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("server", 1, &["localhost"]);
    let client = load(files(&ours.issue("client", 2, &[]), &ours));
    let tls = load(files(&pair, &ours));
    let served = || handshake(&tls, &client, "localhost").unwrap().of_server;
    let first = served();
    assert!(matches!(tls.refresh(), Refreshed::Unchanged));

    // Half of a change: the new certificate with the old key.
    let old_key = fs::read(&pair.key).unwrap();
    ours.issue("server", 3, &["localhost"]);
    let new_key = fs::read(&pair.key).unwrap();
    fs::write(&pair.key, old_key).unwrap();
    for _ in 0..2 {
        let Refreshed::Broken(error) = tls.refresh() else { panic!("taken over") };
        assert!(error.to_string().contains("private key of the certificate in"), "{error}");
        assert_eq!(served(), first);
    }
    fs::write(&pair.key, new_key).unwrap();
    assert!(matches!(tls.refresh(), Refreshed::Changed));
    assert!(matches!(tls.refresh(), Refreshed::Unchanged));
    let second = served();
    assert_ne!(second, first);

    fs::remove_file(&pair.cert).unwrap();
    assert!(matches!(tls.refresh(), Refreshed::Broken(_)));
    assert_eq!(served(), second);
}

#[test]
fn authorities_and_revocation_lists_are_taken_over_too() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let other = Authority::new(folder.path(), "other");
    let bundle = written(folder.path(), "bundle.pem", &fs::read(&ours.ca).unwrap());
    let newcomer = load(files(&other.issue("newcomer", 2, &[]), &ours));
    let tls = load(TlsFiles {
        trusted_ca: Some(bundle.clone()),
        crl: Some(ours.revoke(&[])),
        ..files(&ours.issue("server", 1, &["localhost"]), &ours)
    });
    assert!(handshake(&tls, &newcomer, "localhost").is_err());
    fs::write(&bundle, [fs::read(&ours.ca).unwrap(), fs::read(&other.ca).unwrap()].concat())
        .unwrap();
    assert!(matches!(tls.refresh(), Refreshed::Changed));
    let met = handshake(&tls, &newcomer, "localhost").unwrap();
    let here = [127, 0, 0, 1].into();
    assert!(tls.judge(&met.of_client, here).is_ok());
    ours.revoke(&[2]);
    assert!(matches!(tls.refresh(), Refreshed::Changed));
    assert!(tls.judge(&met.of_client, here).is_err());
}

#[test]
fn a_link_that_leads_elsewhere_is_a_change() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let (first, second) = (ours.issue("first", 1, &[]), ours.issue("second", 2, &[]));
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    let lead = |pair: &common::authority::Pair| {
        for (from, to) in [(&cert, &pair.cert), (&key, &pair.key)] {
            let _ = fs::remove_file(from);
            std::os::unix::fs::symlink(to, from).unwrap();
        }
    };
    lead(&first);
    let named =
        TlsFiles { cert: Some(cert.clone()), key: Some(key.clone()), ..TlsFiles::default() };
    let tls = load(named);
    lead(&second);
    assert!(matches!(tls.refresh(), Refreshed::Changed));
}

#[test]
fn a_file_with_something_else_in_it_is_refused_with_what_was_expected_and_found() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("a", 1, &[]);
    let base = files(&pair, &ours);
    let empty = written(folder.path(), "empty", b"");
    let locked =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----";
    let locked = written(folder.path(), "locked", locked);
    let noise = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    let noise = written(folder.path(), "noise", noise);
    let missing = folder.path().join("missing");
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = base.clone();
        change(&mut files);
        refusal(files)
    };
    let expected_and_found = [
        (
            with(&|files| files.cert = Some(empty.clone())),
            "expected certificates in PEM",
            "found none",
        ),
        (with(&|files| files.cert = Some(noise.clone())), "expected certificates in PEM", "found "),
        (
            with(&|files| files.key = Some(empty.clone())),
            "expected a private key in PEM",
            "found none",
        ),
        (with(&|files| files.key = Some(locked.clone())), "expected a private key", "encrypted"),
        (
            with(&|files| files.key = Some(pair.cert.clone())),
            "expected a private key",
            "found none",
        ),
        (with(&|files| files.trusted_ca = Some(noise.clone())), "expected certificates", "found "),
        (with(&|files| files.trusted_ca = Some(pair.key.clone())), "expected certificates", "none"),
        (
            with(&|files| files.crl = Some(empty.clone())),
            "expected a certificate revocation list",
            "found ",
        ),
        (
            with(&|files| files.crl = Some(pair.cert.clone())),
            "expected a certificate revocation",
            "found ",
        ),
        (
            with(&|files| files.crl = Some(missing.clone())),
            "cannot read a certificate revocation",
            "missing",
        ),
    ];
    for (refusal, expected, found) in expected_and_found {
        assert!(refusal.contains(expected) && refusal.contains(found), "{refusal}");
        assert!(refusal.contains(folder.path().to_str().unwrap()), "{refusal}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let (a, b) = (ours.issue("a", 1, &[]), ours.issue("b", 2, &[]));
    let refusal = refusal(TlsFiles { key: Some(b.key), ..files(&a, &ours) });
    assert!(
        refusal.contains("b-key.pem: expected the private key of the certificate in"),
        "{refusal}"
    );
}

#[test]
fn a_client_needs_no_certificate_and_a_listener_has_none_to_show_then() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let tls = load(TlsFiles { trusted_ca: Some(ours.ca), ..TlsFiles::default() });
    assert!(tls.server().is_none());
    assert!(tls.client().is_ok());
}
