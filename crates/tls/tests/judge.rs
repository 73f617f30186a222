//! Who may stay after a handshake: revocation lists, allowed names, addresses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::authority::{Authority, Pair};
use common::{files, folder, load};
use quorate_tls::{Identity, Judgement, Stranger, Tls, TlsFiles};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::IpAddr;
use std::path::PathBuf;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn shown(pair: &Pair) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(&pair.cert).unwrap().map(Result::unwrap).collect()
}

/// Whether somebody with this certificate may stay who comes from here.
fn stays(tls: &Tls, pair: &Pair) -> Result<(), String> {
    match tls.judge(&shown(pair), HERE) {
        Ok(Judgement::Known(_)) => Ok(()),
        Ok(Judgement::Resolve(_)) => Err("depends".to_owned()),
        Err(stranger) => Err(stranger.to_string()),
    }
}

#[test]
fn a_revoked_certificate_is_no_strangers_fault_but_is_refused() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let (friend, former) = (ours.issue("friend", 7, &[]), ours.issue("former", 0x00c0_ffee, &[]));
    let refused = Err("transport: certificate serial c0ffee revoked".to_owned());
    let lists: [PathBuf; 2] = [ours.revoke(&[former.serial]), ours.revoke_in_pem(&[former.serial])];
    for list in lists {
        let tls = load(TlsFiles { crl: Some(list), ..files(&friend, &ours) });
        assert_eq!(stays(&tls, &friend), Ok(()));
        assert_eq!(stays(&tls, &former), refused);
        // It need not be the first: an authority may be on the list, too.
        let chain = [shown(&friend), shown(&former)].concat();
        assert!(matches!(tls.judge(&chain, HERE), Err(Stranger::Revoked { .. })));
        assert!(tls.judge_server(&shown(&former)).is_err());
        assert!(tls.judge_server(&shown(&friend)).is_ok());
    }
}

#[test]
fn a_list_that_revokes_nobody_is_a_list() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let friend = ours.issue("friend", 7, &[]);
    let tls = load(TlsFiles { crl: Some(ours.revoke(&[])), ..files(&friend, &ours) });
    assert_eq!(stays(&tls, &friend), Ok(()));
}

#[test]
fn names_are_checked_as_etcd_does() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let (a, b) = (ours.issue("a", 1, &["a.example", "127.0.0.1"]), ours.issue("b", 2, &[]));
    let base = TlsFiles { skip_san_check: true, ..files(&a, &ours) };
    let refused = Err("client certificate authentication failed".to_owned());
    let of_cns = |cns: &[&str]| {
        let allowed_cns = cns.iter().map(|&cn| cn.to_owned()).collect();
        load(TlsFiles { allowed_cns, ..base.clone() })
    };
    assert_eq!(
        (stays(&of_cns(&["x", "a"]), &a), stays(&of_cns(&["x", "a"]), &b)),
        (Ok(()), refused.clone())
    );
    let of_hosts = |hosts: &[&str]| {
        let allowed_hostnames = hosts.iter().map(|&host| host.to_owned()).collect();
        load(TlsFiles { allowed_hostnames, ..base.clone() })
    };
    for right in ["a.example", "A.Example", "127.0.0.1"] {
        assert_eq!(stays(&of_hosts(&["x.example", right]), &a), Ok(()), "{right}");
        assert_eq!(stays(&of_hosts(&[right]), &b), refused, "{right}");
    }
    assert_eq!(stays(&of_hosts(&["x.example"]), &a), refused);
    // Who must have a certain name cannot come without a certificate.
    assert_eq!(of_cns(&["a"]).judge(&[], HERE), Err(Stranger::NotAllowed));
    assert_eq!(load(base.clone()).judge(&[], HERE), Ok(Judgement::Known(Identity::default())));
}

#[test]
fn a_common_name_is_somebodys_only_with_the_flag() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let root = ours.issue("root", 1, &[]);
    for client_cert_auth in [false, true] {
        let tls = load(TlsFiles { client_cert_auth, ..files(&root, &ours) });
        let common_name = client_cert_auth.then(|| "root".to_owned());
        let known = Judgement::Known(Identity { common_name });
        assert_eq!(tls.judge(&shown(&root), HERE), Ok(known));
    }
}

#[test]
fn a_peer_comes_from_an_address_in_its_certificate_unless_nobody_asks() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let (here, there) =
        (ours.issue("here", 1, &["127.0.0.1", "::1"]), ours.issue("there", 2, &["10.1.2.3"]));
    let anywhere = ours.issue("anywhere", 3, &[]);
    let tls = load(files(&here, &ours));
    assert_eq!(stays(&tls, &here), Ok(()));
    assert_eq!(stays(&tls, &anywhere), Ok(()));
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    assert!(tls.judge(&shown(&here), mapped).is_ok());
    assert_eq!(
        stays(&tls, &there),
        Err("tls: certificate is valid for [10.1.2.3], not 127.0.0.1".to_owned())
    );
    let lax = load(TlsFiles { skip_san_check: true, ..files(&here, &ours) });
    assert_eq!(stays(&lax, &there), Ok(()));
}

#[test]
fn a_peer_with_host_names_comes_from_one_of_their_addresses() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let pair = ours.issue("peer", 1, &["*.example", "a.example", "10.1.2.3"]);
    let tls = load(files(&pair, &ours));
    let ask = || match tls.judge(&shown(&pair), HERE).unwrap() {
        Judgement::Resolve(unresolved) => unresolved,
        known @ Judgement::Known(_) => panic!("{known:?}"),
    };
    assert_eq!(ask().names().collect::<Vec<_>>(), ["a.example"]);
    let elsewhere: IpAddr = "10.9.9.9".parse().unwrap();
    assert!(ask().decide(&[elsewhere, HERE]).is_ok());
    let refusal = ask().decide(&[elsewhere]).unwrap_err().to_string();
    assert!(
        refusal.starts_with(r#"tls: "127.0.0.1" does not match any of DNSNames ["#),
        "{refusal}"
    );
    assert!(refusal.contains("--peer-skip-client-san-verification"), "{refusal}");
    // Whose every name needs a look-up that is not made is refused at once.
    let wild = ours.issue("wild", 2, &["*.example"]);
    assert!(matches!(tls.judge(&shown(&wild), HERE), Err(Stranger::Unnamed { .. })));
}

#[test]
fn what_is_no_certificate_is_a_stranger() {
    let folder = folder();
    let ours = Authority::new(folder.path(), "ours");
    let tls = load(files(&ours.issue("a", 1, &[]), &ours));
    let noise = [CertificateDer::from(vec![0x30, 3, 2, 1])];
    assert!(matches!(tls.judge(&noise, HERE), Err(Stranger::Unreadable { .. })));
}
