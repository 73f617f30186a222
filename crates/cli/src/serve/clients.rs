//! The flags about how clients are served: over TLS or not, and what at which address. Turns them
//! into listeners; must not know what a client says.

use super::tls::{TlsFlags, load};
use super::{HttpUrl, listen};
use anyhow::{Context, bail};
use quorate_server::{Listener, Security, Serves};
use quorate_tls::{Tls, TlsFiles};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What clients and the server may speak, by the names that TLS has for it; the better first.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// Where certificates of one's own making are, below the data folder.
const FIXTURES: &str = "fixtures/client";

/// What an error in these flags begins with.
const WHOSE: &str = "the TLS flags for clients";

/// How clients are served.
#[derive(Debug, clap::Args)]
pub(crate) struct ClientFlags {
    /// The certificate that is shown to clients at https URLs, and those it hangs on
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Who may sign clients' certificates: with it, clients need one
    #[arg(long, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients need a certificate, and the common name in it is a user's
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    client_cert_auth: bool,
    /// Clients' certificates that are not believed any more
    #[arg(long, value_name = "FILE")]
    client_crl_file: Option<PathBuf>,
    /// Hosts, of which a client's certificate must be valid for one
    #[arg(long, value_delimiter = ',', value_name = "HOST,...")]
    client_cert_allowed_hostname: Vec<String>,
    /// Make a certificate, if none is given; for trying out
    #[arg(
        long,
        action = clap::ArgAction::Set,
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    auto_tls: bool,
    /// Where HTTP is served; if given, --listen-client-urls serves gRPC only
    #[arg(long, value_delimiter = ',', value_name = "URL,...")]
    listen_client_http_urls: Vec<HttpUrl>,
    /// Where else /metrics and /health are served
    #[arg(long, value_delimiter = ',', value_name = "URL,...")]
    listen_metrics_urls: Vec<HttpUrl>,
}

/// An address that is listened on, before it is known what is shown there.
#[derive(Debug)]
pub(super) struct Door {
    socket: TcpListener,
    way: Way,
    serves: Serves,
}

/// With which schemes an address was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Secure,
    Either,
}

impl Door {
    /// The listener, which shows what `tls` says.
    pub(super) fn open(self, tls: Option<&Arc<Tls>>) -> anyhow::Result<Listener> {
        let tls = || tls.cloned().context("no certificate, which was checked");
        let security = match self.way {
            Way::Plain => Security::Plain,
            Way::Secure => Security::Tls(tls()?),
            Way::Either => Security::Either(tls()?),
        };
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        Ok(Listener { socket, security, serves: self.serves })
    }
}

impl ClientFlags {
    /// What the files that are named say; `None` if no certificate is, or nobody is to see it:
    /// `client_urls` are those of --listen-client-urls.
    ///
    /// # Errors
    ///
    /// If the flags contradict each other, or a file cannot be used.
    pub(super) fn given(
        &self,
        common: &TlsFlags,
        client_urls: &[HttpUrl],
    ) -> anyhow::Result<Option<Arc<Tls>>> {
        let files = self.files(common)?;
        let others = self.listen_client_http_urls.iter().chain(&self.listen_metrics_urls);
        // As in etcd, nobody looks at files then.
        let is_shown = client_urls.iter().chain(others).any(HttpUrl::is_secure);
        if !self.is_named() || !is_shown {
            return Ok(None);
        }
        if self.auto_tls {
            tracing::warn!("ignoring client auto TLS since certs given");
        }
        load(files, WHOSE).map(Some)
    }

    /// The same with a certificate of one's own making, below `data_dir`, for the hosts of `urls`;
    /// `None` if none is wanted.
    ///
    /// # Errors
    ///
    /// If it cannot be made or kept.
    pub(super) fn made(
        &self,
        common: &TlsFlags,
        data_dir: &Path,
        urls: &[HttpUrl],
    ) -> anyhow::Result<Option<Arc<Tls>>> {
        if !self.auto_tls || self.is_named() {
            return Ok(None);
        }
        let made = common.made(&data_dir.join(FIXTURES), urls, "--auto-tls")?;
        let (cert, key) = (Some(made.cert), Some(made.key));
        load(TlsFiles { cert, key, ..self.files(common)? }, WHOSE).map(Some)
    }

    /// Whether a certificate is, or half of one.
    const fn is_named(&self) -> bool {
        self.cert_file.is_some() || self.key_file.is_some()
    }

    fn files(&self, common: &TlsFlags) -> anyhow::Result<TlsFiles> {
        Ok(TlsFiles {
            cert: self.cert_file.clone(),
            key: self.key_file.clone(),
            trusted_ca: self.trusted_ca_file.clone(),
            crl: self.client_crl_file.clone(),
            client_cert_auth: self.client_cert_auth,
            allowed_hostnames: self.client_cert_allowed_hostname.clone(),
            // Clients come from anywhere; peers do not.
            skip_san_check: true,
            protocols: PROTOCOLS.map(str::to_owned).to_vec(),
            ..common.spoken()?
        })
    }

    /// Listens at all URLs: `client_urls` are those of --listen-client-urls.
    ///
    /// # Errors
    ///
    /// If an address cannot be had, or is to be secure and there is nothing to show.
    pub(super) fn doors(
        &self,
        client_urls: &[HttpUrl],
        is_given: bool,
    ) -> anyhow::Result<Vec<Door>> {
        let serves = match self.listen_client_http_urls.as_slice() {
            [] => Serves::Everything,
            [_, ..] => Serves::GrpcOnly,
        };
        let lists = [
            ("--listen-client-urls", client_urls, serves),
            ("--listen-client-http-urls", &self.listen_client_http_urls, Serves::HttpOnly),
            ("--listen-metrics-urls", &self.listen_metrics_urls, Serves::MetricsOnly),
        ];
        let mut doors = Vec::new();
        for (flag, urls, serves) in lists {
            for (url, way) in by_address(urls) {
                self.check(url, way, is_given)?;
                doors.push(Door { socket: listen(url, flag)?, way, serves });
            }
        }
        Ok(doors)
    }

    fn check(&self, url: &HttpUrl, way: Way, is_given: bool) -> anyhow::Result<()> {
        let is_shown = is_given || self.auto_tls;
        if way != Way::Plain && !is_shown {
            bail!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with \
                 HTTPS scheme; --auto-tls makes them, for trying out"
            );
        }
        if way != Way::Secure && (is_shown || self.is_named()) {
            tracing::warn!(
                client_url = %url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if way != Way::Secure && self.client_cert_auth {
            tracing::warn!(
                client_url = %url,
                "scheme is HTTP while --client-cert-auth is enabled; ignoring client cert auth for \
                 this URL"
            );
        }
        Ok(())
    }
}

/// Each address once, with the first URL that has it.
fn by_address(urls: &[HttpUrl]) -> Vec<(&HttpUrl, Way)> {
    let mut found: Vec<(&HttpUrl, Way)> = Vec::new();
    for url in urls {
        let way = if url.is_secure() { Way::Secure } else { Way::Plain };
        let known = found.iter_mut().find(|(known, _)| known.authority() == url.authority());
        match known {
            Some((_, known)) if *known != way => *known = Way::Either,
            Some(_) => {}
            None => found.push((url, way)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        clients: ClientFlags,
        #[command(flatten)]
        tls: TlsFlags,
    }

    fn program(arguments: &[&str]) -> Program {
        Program::parse_from(std::iter::once(&"serve").chain(arguments))
    }

    #[test]
    fn an_address_that_is_listed_with_both_schemes_is_listened_on_once() {
        let urls = ["http://a:1", "https://b:1", "https://a:1", "http://c:1", "http://c:1"];
        let urls = urls.map(|url| url.parse::<HttpUrl>().unwrap());
        let found = by_address(&urls);
        let found: Vec<_> = found.iter().map(|(url, way)| (url.authority(), *way)).collect();
        let expected = [("a:1", Way::Either), ("b:1", Way::Secure), ("c:1", Way::Plain)];
        assert_eq!(found, expected.map(|(address, way)| (address.to_owned(), way)));
    }

    #[test]
    fn half_a_certificate_and_unknown_versions_are_refused() {
        let refusal = |arguments: &[&str]| {
            let Program { clients, tls } = program(arguments);
            let urls = ["http://127.0.0.1:1", "https://127.0.0.1:2"];
            let urls = urls.map(|url| url.parse().unwrap());
            format!("{:#}", clients.given(&tls, &urls).unwrap_err())
        };
        let half = refusal(&["--key-file", "k.pem"]);
        assert!(half.contains("KeyFile and CertFile must both be present"), "{half}");
        let version = refusal(&["--tls-min-version", "TLS1.1"]);
        assert!(
            version.contains(r#"--tls-min-version: unexpected TLS version "TLS1.1""#),
            "{version}"
        );
        let missing = refusal(&["--cert-file", "/none/c.pem", "--key-file", "/none/k.pem"]);
        assert!(missing.contains("cannot read certificates in /none/c.pem"), "{missing}");
    }

    #[test]
    fn files_that_nobody_is_to_see_are_not_looked_at_as_in_etcd() {
        let urls = ["http://127.0.0.1:1".parse().unwrap()];
        let given = |arguments: &[&str]| {
            let Program { clients, tls } = program(arguments);
            clients.given(&tls, &urls).map(|tls| tls.is_some())
        };
        let half = ["--cert-file", "/none/c.pem"];
        assert!(!given(&half).unwrap());
        let seen = [&half[..], &["--listen-metrics-urls", "https://127.0.0.1:2"]].concat();
        assert!(given(&seen).is_err(), "another listener shows them");
        let made = [&half[..], &["--auto-tls"]].concat();
        let Program { clients, tls } = program(&made);
        assert!(clients.made(&tls, Path::new("/none"), &urls).unwrap().is_none());
    }

    #[test]
    fn a_secure_address_without_a_certificate_is_refused_in_etcds_words() {
        let urls = ["https://127.0.0.1:1".parse().unwrap()];
        let refusal = program(&[]).clients.doors(&urls, false).unwrap_err().to_string();
        let expected = "TLS key/cert (--cert-file, --key-file) must be provided for client url \
             https://127.0.0.1:1 with HTTPS scheme";
        assert!(refusal.starts_with(expected), "{refusal}");
    }

    #[test]
    fn a_made_certificate_keeps_what_else_was_asked_of_clients() {
        let folder = tempfile::tempdir().unwrap();
        let urls = ["https://127.0.0.1:1".parse().unwrap()];
        let made = |arguments: &[&str]| {
            let Program { clients, tls } = program(arguments);
            clients.made(&tls, folder.path(), &urls)
        };
        assert!(made(&[]).unwrap().is_none());
        assert!(made(&["--auto-tls"]).unwrap().is_some());
        assert!(folder.path().join("fixtures/client/key.pem").exists());
        let strict = ["--auto-tls", "--trusted-ca-file", "/none/ca.pem"];
        let refusal = format!("{:#}", made(&strict).unwrap_err());
        assert!(refusal.contains("/none/ca.pem"), "{refusal}");
    }
}
