//! The flags about TLS that hold for clients and for peers alike, and certificates of one's own making.
//! Must not know who is at the other end.

use super::HttpUrl;
use anyhow::Context;
use quorate_tls::{SelfSigned, Tls, TlsError, TlsFiles, TlsVersion, Versions, self_signed};
use std::path::Path;
use std::sync::Arc;

/// How TLS is spoken, with whomever.
#[derive(Debug, clap::Args)]
pub(crate) struct TlsFlags {
    /// For how many years a certificate is valid that --auto-tls or --peer-auto-tls makes
    #[arg(long, default_value_t = 1, value_name = "YEARS")]
    self_signed_cert_validity: u32,
    /// The oldest version of TLS that is spoken: TLS1.2 or TLS1.3
    #[arg(long, default_value = "TLS1.2", value_name = "VERSION")]
    tls_min_version: String,
    /// The newest; empty for any
    #[arg(long, default_value = "", value_name = "VERSION")]
    tls_max_version: String,
    /// Cipher suites of TLS 1.2, by Go's names, the best first; all if not given
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    cipher_suites: Vec<String>,
}

impl TlsFlags {
    /// Versions and suites, and no files yet.
    ///
    /// # Errors
    ///
    /// If there is no such version.
    pub(super) fn spoken(&self) -> anyhow::Result<TlsFiles> {
        let version = |flag: &str, text: &str| -> anyhow::Result<Option<TlsVersion>> {
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).with_context(|| flag.to_owned())
        };
        Ok(TlsFiles {
            versions: Versions {
                min: version("--tls-min-version", &self.tls_min_version)?,
                max: version("--tls-max-version", &self.tls_max_version)?,
            },
            cipher_suites: self.cipher_suites.clone(),
            ..TlsFiles::default()
        })
    }

    /// A certificate of one's own making in `folder`, for the hosts of `urls`, because of `flag`.
    ///
    /// # Errors
    ///
    /// If it cannot be made or kept.
    pub(super) fn made(
        &self,
        folder: &Path,
        urls: &[HttpUrl],
        flag: &'static str,
    ) -> anyhow::Result<SelfSigned> {
        let hosts: Vec<String> = urls.iter().map(|url| url.host().to_owned()).collect();
        let years = self.self_signed_cert_validity;
        let made = self_signed(folder, &hosts, years).context(flag)?;
        if made.is_new {
            tracing::warn!(cert = %made.cert.display(), years, flag, "made a certificate");
        }
        Ok(made)
    }
}

/// What the files say; `whose` flags they are is told if that cannot be used.
///
/// # Errors
///
/// If the flags contradict each other, or a file cannot be used.
pub(super) fn load(files: TlsFiles, whose: &'static str) -> anyhow::Result<Arc<Tls>> {
    if let (Some(crl), false) = (&files.crl, files.asks_for_certificates()) {
        tracing::warn!(
            crl = %crl.display(),
            "{whose} name revoked certificates, and nobody is asked for one: name a trusted CA file, \
             or require certificates; ignoring the list"
        );
    }
    Tls::load(files).map_err(|error: TlsError| anyhow::Error::from(error).context(whose))
}
