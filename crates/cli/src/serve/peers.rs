//! The flags about how members speak with each other: over TLS or not, what they show, and whom they
//! believe. Must not know what they say.

use super::HttpUrl;
use super::tls::{TlsFlags, load};
use anyhow::bail;
use quorate::{PEER_PROTOCOL, PeerTls};
use quorate_tls::TlsFiles;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where certificates of one's own making are, below the data folder.
const FIXTURES: &str = "fixtures/peer";

/// What an error in these flags begins with.
const WHOSE: &str = "the TLS flags for peers";

/// How members speak with each other.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "they are what the flags are called")]
pub(crate) struct PeerFlags {
    /// The certificate that is shown to other members at an https URL, and those it hangs on
    #[arg(long, value_name = "FILE")]
    peer_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    peer_key_file: Option<PathBuf>,
    /// The certificate that is shown when dialling other members, if it is another
    #[arg(long, value_name = "FILE")]
    peer_client_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    peer_client_key_file: Option<PathBuf>,
    /// Who may sign other members' certificates: with it, who calls needs one
    #[arg(long, value_name = "FILE")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Members who call need a certificate
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    peer_client_cert_auth: bool,
    /// Members' certificates that are not believed any more
    #[arg(long, value_name = "FILE")]
    peer_crl_file: Option<PathBuf>,
    /// Common names, of which a member's certificate must have one
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    peer_cert_allowed_cn: Vec<String>,
    /// Hosts, of which a member's certificate must be valid for one
    #[arg(long, value_delimiter = ',', value_name = "HOST,...")]
    peer_cert_allowed_hostname: Vec<String>,
    /// Let in members that call from an address that is not in their certificate
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    peer_skip_client_san_verification: bool,
    /// Make a certificate, if none is given, and believe every member; for trying out
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    peer_auto_tls: bool,
}

impl PeerFlags {
    /// What the files that are named say, for a node whose peers call it at `urls`. If a certificate is
    /// to be made it is not there yet: nobody can be called in by this, but others can be asked. As in
    /// etcd, their certificates must be valid for the `domain` that names them, if one does, instead of
    /// for their hosts, unless it is said who may sign them.
    ///
    /// # Errors
    ///
    /// If the flags contradict each other, a file cannot be used, or there is nothing to show at an
    /// https URL.
    pub(super) fn given(
        &self,
        common: &TlsFlags,
        urls: &[HttpUrl],
        domain: Option<String>,
    ) -> anyhow::Result<PeerTls> {
        if self.has_certificate() && self.peer_auto_tls {
            tracing::warn!("ignoring peer auto TLS since certs given");
        }
        if self.allows_two() && !self.names_tls() {
            tracing::warn!(
                "--peer-cert-allowed-cn and --peer-cert-allowed-hostname cannot both be followed, and \
                 are ignored: no certificate is named"
            );
        }
        let server_name = domain.filter(|_| self.peer_trusted_ca_file.is_none());
        let tls = load(TlsFiles { server_name, ..self.files(common)? }, WHOSE)?;
        check_distinct(urls)?;
        urls.iter().try_for_each(|url| self.check(url))?;
        Ok(PeerTls { tls, listens: urls.iter().any(HttpUrl::is_secure) })
    }

    /// The same with a certificate of one's own making below `data_dir`, if one is to be made.
    ///
    /// # Errors
    ///
    /// If it cannot be made or kept.
    pub(super) fn made(
        &self,
        given: PeerTls,
        common: &TlsFlags,
        data_dir: &Path,
        urls: &[HttpUrl],
    ) -> anyhow::Result<PeerTls> {
        if !self.makes_certificate() {
            return Ok(given);
        }
        let made = common.made(&data_dir.join(FIXTURES), urls, "--peer-auto-tls")?;
        let files = TlsFiles { cert: Some(made.cert), key: Some(made.key), ..self.files(common)? };
        Ok(PeerTls { tls: load(files, WHOSE)?, ..given })
    }

    const fn has_certificate(&self) -> bool {
        self.peer_cert_file.is_some() || self.peer_key_file.is_some()
    }

    fn makes_certificate(&self) -> bool {
        self.peer_auto_tls && !self.has_certificate()
    }

    /// Whether common names are listed, and hosts as well, which contradicts itself.
    const fn allows_two(&self) -> bool {
        !self.peer_cert_allowed_cn.is_empty() && !self.peer_cert_allowed_hostname.is_empty()
    }

    /// Whether a certificate or an authority is named, or a certificate is to be made.
    const fn names_tls(&self) -> bool {
        self.has_certificate()
            || self.peer_auto_tls
            || self.peer_client_cert_file.is_some()
            || self.peer_trusted_ca_file.is_some()
    }

    fn files(&self, common: &TlsFlags) -> anyhow::Result<TlsFiles> {
        let is_idle = self.allows_two() && !self.names_tls();
        let names = |names: &[String]| if is_idle { Vec::new() } else { names.to_vec() };
        Ok(TlsFiles {
            cert: self.peer_cert_file.clone(),
            key: self.peer_key_file.clone(),
            client_cert: self.peer_client_cert_file.clone(),
            client_key: self.peer_client_key_file.clone(),
            trusted_ca: self.peer_trusted_ca_file.clone(),
            crl: self.peer_crl_file.clone(),
            client_cert_auth: self.peer_client_cert_auth,
            allowed_cns: names(&self.peer_cert_allowed_cn),
            allowed_hostnames: names(&self.peer_cert_allowed_hostname),
            skip_san_check: self.peer_skip_client_san_verification,
            protocols: vec![PEER_PROTOCOL.to_owned()],
            trusts_any_server: self.makes_certificate(),
            ..common.spoken()?
        })
    }

    fn check(&self, url: &HttpUrl) -> anyhow::Result<()> {
        let is_shown = self.has_certificate() || self.peer_auto_tls;
        if url.is_secure() && !is_shown {
            bail!(
                "--listen-peer-urls: cannot listen on TLS for {}: KeyFile and CertFile are not \
                 presented. --peer-cert-file and --peer-key-file name them; --peer-auto-tls makes \
                 them, for trying out",
                url.authority()
            );
        }
        if !url.is_secure() && is_shown {
            tracing::warn!(
                peer_url = %url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if !url.is_secure() && self.peer_client_cert_auth {
            tracing::warn!(
                peer_url = %url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth \
                 for this URL"
            );
        }
        Ok(())
    }
}

/// Who calls at an address speaks TLS there or does not: both is for clients only.
fn check_distinct(urls: &[HttpUrl]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    match urls.iter().find(|url| !seen.insert(url.authority())) {
        None => Ok(()),
        Some(url) => bail!(
            "--listen-peer-urls: {} is there twice; expected each address once, with http or with https",
            url.authority()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        peers: PeerFlags,
        #[command(flatten)]
        tls: TlsFlags,
    }

    fn program(arguments: &[&str]) -> Program {
        Program::parse_from(std::iter::once(&"serve").chain(arguments))
    }

    fn given(arguments: &[&str], urls: &str) -> Result<PeerTls, String> {
        let Program { peers, tls } = program(arguments);
        let urls: Vec<HttpUrl> = urls.split(',').map(|url| url.parse().unwrap()).collect();
        peers.given(&tls, &urls, None).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_https_url_without_a_certificate_is_refused_in_etcds_words_and_with_what_to_do() {
        let refusal = given(&[], "https://127.0.0.1:2380").unwrap_err();
        let expected =
            "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented";
        assert!(refusal.contains(expected) && refusal.contains("--peer-auto-tls"), "{refusal}");
        assert!(!given(&[], "http://127.0.0.1:2380").unwrap().listens);
        assert!(given(&["--peer-auto-tls"], "https://127.0.0.1:2380").unwrap().listens);
    }

    #[test]
    fn one_https_url_among_several_is_enough_to_need_a_certificate_and_no_address_is_both() {
        let both = "http://127.0.0.1:2380,https://127.0.0.1:2381";
        let refusal = given(&[], both).unwrap_err();
        assert!(refusal.contains("cannot listen on TLS for 127.0.0.1:2381"), "{refusal}");
        assert!(given(&["--peer-auto-tls"], both).unwrap().listens);
        let twice = given(&["--peer-auto-tls"], "http://h:1,http://h:2,https://h:1").unwrap_err();
        assert!(twice.contains("h:1 is there twice"), "{twice}");
    }

    #[test]
    fn flags_that_contradict_each_other_and_files_that_are_not_there_are_refused() {
        let refused = |arguments: &[&str]| given(arguments, "http://h:1").unwrap_err();
        let half = refused(&["--peer-key-file", "k.pem"]);
        assert!(half.contains("KeyFile and CertFile must both be present"), "{half}");
        let half = refused(&["--peer-client-cert-file", "c.pem"]);
        assert!(half.contains("ClientKeyFile and ClientCertFile must both be present"), "{half}");
        let both = ["--peer-cert-allowed-cn", "a", "--peer-cert-allowed-hostname", "b"];
        assert!(given(&both, "http://h:1").is_ok(), "there is no TLS");
        let ca = [&both[..], &["--peer-trusted-ca-file", "/none/ca.pem"]].concat();
        assert!(refused(&ca).contains("mutually exclusive"), "somebody is to be believed");
        let both = refused(&[&both[..], &["--peer-auto-tls"]].concat());
        assert!(both.contains("AllowedCN and AllowedHostname are mutually exclusive"), "{both}");
        let missing = refused(&["--peer-trusted-ca-file", "/none/ca.pem"]);
        assert!(missing.contains("the TLS flags for peers"), "{missing}");
        assert!(missing.contains("cannot read certificates in /none/ca.pem"), "{missing}");
        let version = refused(&["--tls-min-version", "TLS1.1"]);
        assert!(version.contains("--tls-min-version"), "{version}");
    }

    #[test]
    fn a_certificate_is_made_if_one_is_wanted_and_none_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let urls = ["https://127.0.0.1:1".parse().unwrap()];
        let made = |arguments: &[&str]| {
            let Program { peers, tls } = program(arguments);
            let given = peers.given(&tls, &["http://h:1".parse().unwrap()], None).unwrap();
            peers.made(given, &tls, folder.path(), &urls).unwrap().tls.server().is_some()
        };
        assert!(!made(&[]));
        assert!(made(&["--peer-auto-tls"]));
        assert!(folder.path().join("fixtures/peer/key.pem").exists());
    }
}
