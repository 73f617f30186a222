//! What the files said at one moment, as settings for both ends of a connection. Must not know that
//! files change.

use crate::TlsError;
use crate::any_server::AnyServer;
use crate::files::TlsFiles;
use crate::judge::Judge;
use crate::names::{self, TlsVersion};
use crate::one_name::OneName;
use crate::read;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, SupportedProtocolVersion};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// What the files said at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) server: Option<Arc<ServerConfig>>,
    pub(crate) judge: Judge,
    dialling: Dialling,
    client: OnceLock<Arc<ClientConfig>>,
}

/// What is needed to dial.
#[derive(Debug)]
struct Dialling {
    common: Common,
    certified: Option<CertifiedKey>,
    roots: Option<Arc<RootCertStore>>,
    trusts_any_server: bool,
    server_name: Option<ServerName<'static>>,
}

/// What both ends have.
#[derive(Clone, Debug)]
struct Common {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
}

impl Snapshot {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let common = Common::new(files)?;
        let roots = files.trusted_ca.as_deref().map(read::roots).transpose()?.map(Arc::new);
        let shown = certified(files.cert.as_deref(), files.key.as_deref(), &common)?;
        let dialled =
            certified(files.client_cert.as_deref(), files.client_key.as_deref(), &common)?;
        let server = match &shown {
            Some(shown) => Some(Arc::new(server(files, &common, shown, roots.as_ref())?)),
            None => None,
        };
        let dialling = Dialling {
            common,
            certified: dialled.or(shown),
            roots,
            trusts_any_server: files.trusts_any_server,
            server_name: files.server_name.as_deref().map(server_name).transpose()?,
        };
        Ok(Self { server, judge: Judge::new(files)?, dialling, client: OnceLock::new() })
    }

    /// Made when it is first asked for: many never dial, and the system's roots take milliseconds.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(client) = self.client.get() {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.dialling.client()?);
        Ok(Arc::clone(self.client.get_or_init(|| client)))
    }
}

impl Common {
    fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        let suites = names::suites(&files.cipher_suites)?;
        if !suites.without_effect.is_empty() {
            tracing::warn!(
                suites = suites.without_effect.join(","),
                "these TLS cipher suites have no effect: they are not supported, or of TLS 1.3, \
                 which has its own"
            );
        }
        let min = files.versions.min.unwrap_or(TlsVersion::Tls12);
        let max = files.versions.max.unwrap_or(TlsVersion::Tls13);
        let all = [TlsVersion::Tls13, TlsVersion::Tls12].into_iter();
        let versions = all.filter(|version| (min..=max).contains(version));
        // The provider is said each time: a process has one default, and may be others' process.
        let provider = CryptoProvider { cipher_suites: suites.spoken, ..ring::default_provider() };
        Ok(Self {
            provider: Arc::new(provider),
            versions: versions.map(TlsVersion::supported).collect(),
            protocols: files.protocols.iter().map(|name| name.clone().into_bytes()).collect(),
        })
    }
}

fn certified(
    cert: Option<&Path>,
    key: Option<&Path>,
    common: &Common,
) -> Result<Option<CertifiedKey>, TlsError> {
    // That one does not come without the other was checked.
    let Some((cert, key)) = cert.zip(key) else { return Ok(None) };
    read::certified(cert, key, &common.provider).map(Some)
}

fn server_name(text: &str) -> Result<ServerName<'static>, TlsError> {
    let refused = |_| TlsError::ServerName { found: text.to_owned() };
    ServerName::try_from(text.to_owned()).map_err(refused)
}

fn server(
    files: &TlsFiles,
    common: &Common,
    shown: &CertifiedKey,
    roots: Option<&Arc<RootCertStore>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::clone(&common.provider);
    let builder =
        ServerConfig::builder_with_provider(provider).with_protocol_versions(&common.versions)?;
    let builder = if files.asks_for_certificates() {
        let roots = match roots {
            Some(roots) => Arc::clone(roots),
            None => Arc::new(read::system_roots()?),
        };
        let provider = Arc::clone(&common.provider);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| TlsError::Settings(rustls::Error::General(error.to_string())))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let shown = SingleCertAndKey::from(shown.clone());
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols.clone_from(&common.protocols);
    // No session outlives its connection: one that was resumed would be judged by the certificates
    // and lists of before. And a ticket would be a write after the handshake that nobody flushes.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

impl Dialling {
    fn client(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::clone(&self.common.provider);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.common.versions)?;
        let builder = if self.trusts_any_server {
            let verifier = Arc::new(AnyServer(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let roots = match &self.roots {
                Some(roots) => Arc::clone(roots),
                None => Arc::new(read::system_roots()?),
            };
            match &self.server_name {
                Some(name) => {
                    let verifier = OneName::new(name.clone(), roots, provider)?;
                    builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
                }
                None => builder.with_root_certificates(roots),
            }
        };
        let mut config = match &self.certified {
            Some(shown) => {
                let shown = SingleCertAndKey::from(shown.clone());
                builder.with_client_cert_resolver(Arc::new(shown))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.common.protocols);
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}
