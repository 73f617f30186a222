//! How an endpoint is reached: directly, or over TLS with what the flags name. Must not know what is
//! asked there.

use super::connection::{Address, root_cause};
use super::login::Outcome;
use super::wire::Wire;
use http::Uri;
use hyper_util::rt::TokioIo;
use quorate_tls::{Tls, TlsFiles};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::Channel;

/// What is shown to endpoints, and what is believed of them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SecurityFlags {
    /// Who may sign the endpoints' certificates [default: whom the system believes]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// The certificate that is shown to endpoints
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key
    // Some verbs have a key of another kind.
    #[arg(id = "cert-key", long = "key", value_name = "FILE")]
    cert_key: Option<PathBuf>,
    /// Believe every endpoint, whatever it shows: for trying out
    #[arg(long)]
    insecure_skip_tls_verify: bool,
}

/// What is needed to reach endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Dialler {
    timeout: Duration,
    /// Whether endpoints that do not say speak TLS.
    is_secure: bool,
    /// What is spoken with those that do; or why that is not possible, for each that is tried.
    tls: Result<Arc<Tls>, String>,
    /// On whose behalf; or why that is not known.
    login: Outcome,
    /// What certificates must be valid for, if it is not their host.
    server_name: Option<String>,
    keep_alive: Option<KeepAlive>,
}

/// How it is found out that an endpoint is gone while something is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    /// After so long without a word it is pinged.
    pub(crate) time: Duration,
    /// So long it may take to answer.
    pub(crate) timeout: Duration,
}

impl SecurityFlags {
    /// The same as if the flags had named these files.
    pub(crate) fn of_files(
        cacert: Option<PathBuf>,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Self {
        Self { cacert, cert, cert_key: key, insecure_skip_tls_verify: false }
    }

    /// The same, but every endpoint is believed if `believes` says so.
    pub(crate) fn believing_all(self, believes: bool) -> Self {
        Self { insecure_skip_tls_verify: believes, ..self }
    }

    /// Whether any of these flags says that there is TLS, as with etcdctl.
    fn is_secure(&self) -> bool {
        self.cacert.is_some()
            || self.cert.is_some()
            || self.cert_key.is_some()
            || self.insecure_skip_tls_verify
    }

    /// Looks whether the files that the flags name can be used, whether an endpoint needs them or not.
    ///
    /// # Errors
    ///
    /// A sentence for a person.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.is_secure() {
            return Ok(());
        }
        self.load()?.client().map_err(|error| sentence(&error.into()))?;
        Ok(())
    }

    /// What it takes to reach endpoints, each within `timeout`.
    pub(crate) fn dialler(&self, timeout: Duration, login: Outcome) -> Dialler {
        let (is_secure, tls) = (self.is_secure(), self.load());
        Dialler { timeout, is_secure, tls, login, server_name: None, keep_alive: None }
    }

    fn load(&self) -> Result<Arc<Tls>, String> {
        let tls = Tls::load(TlsFiles {
            cert: self.cert.clone(),
            key: self.cert_key.clone(),
            trusted_ca: self.cacert.clone(),
            protocols: vec!["h2".to_owned()],
            trusts_any_server: self.insecure_skip_tls_verify,
            ..TlsFiles::default()
        });
        tls.map_err(|error| sentence(&error.into()))
    }
}

impl Dialler {
    /// The same, but certificates must be valid for `name`, if there is one, instead of their hosts.
    pub(crate) fn expecting(self, name: Option<String>) -> Self {
        Self { server_name: name, ..self }
    }

    /// The same with pings, or without.
    pub(crate) fn kept_alive(self, keep_alive: Option<KeepAlive>) -> Self {
        Self { keep_alive, ..self }
    }

    /// Connects to an endpoint.
    ///
    /// # Errors
    ///
    /// A sentence for a person: refused, timed out, unknown host, not believed.
    pub(crate) async fn dial(&self, address: &Address) -> Result<Wire, String> {
        let login = self.login.clone()?;
        Ok(Wire::new(self.reach(address).await?, login))
    }

    /// What the certificate of an endpoint must be valid for.
    fn name_of(&self, address: &Address) -> Result<ServerName<'static>, String> {
        let name = self.server_name.clone().unwrap_or_else(|| address.host().to_owned());
        ServerName::try_from(name).map_err(|error| error.to_string())
    }

    async fn reach(&self, address: &Address) -> Result<Channel, String> {
        let endpoint = address.endpoint(self.timeout)?;
        let endpoint = match self.keep_alive {
            Some(KeepAlive { time, timeout }) => {
                endpoint.http2_keep_alive_interval(time).keep_alive_timeout(timeout)
            }
            None => endpoint,
        };
        if !address.is_secure().unwrap_or(self.is_secure) {
            return Address::connect(&endpoint, self.timeout).await;
        }
        let config = self.tls.clone()?.client().map_err(|error| sentence(&error.into()))?;
        let name = self.name_of(address)?;
        let (connector, authority) = (TlsConnector::from(config), address.to_string());
        let connect = tower::service_fn(move |_: Uri| {
            let (connector, name) = (connector.clone(), name.clone());
            let authority = authority.clone();
            async move {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        match tokio::time::timeout(self.timeout, endpoint.connect_with_connector(connect)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(root_cause(&error)),
            Err(_) => Err(format!("no secure connection within {:?}", self.timeout)),
        }
    }
}

/// A way to an endpoint on which bytes go both ways, secret or not.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> ByteStream for T {}

impl Dialler {
    /// Connects to an endpoint for HTTP/1, on behalf of nobody.
    ///
    /// # Errors
    ///
    /// As [`Dialler::dial`].
    pub(crate) async fn stream(&self, address: &Address) -> Result<Box<dyn ByteStream>, String> {
        let connect = async {
            let stream = TcpStream::connect(address.to_string()).await;
            let stream = stream.map_err(|error| root_cause(&error))?;
            if !address.is_secure().unwrap_or(self.is_secure) {
                return Ok::<Box<dyn ByteStream>, String>(Box::new(stream));
            }
            let config = self.tls.clone()?.client().map_err(|error| sentence(&error.into()))?;
            let mut config = (*config).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = self.name_of(address)?;
            let secure = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
            Ok(Box::new(secure.map_err(|error| root_cause(&error))?))
        };
        let connected = tokio::time::timeout(self.timeout, connect).await;
        connected.unwrap_or_else(|_| Err(format!("no connection within {:?}", self.timeout)))
    }
}

/// An error with what caused it.
fn sentence(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
