//! The settings of one port or client, kept in step with their files. Must not know clocks: when to
//! look at the files again is its owner's to decide.

use crate::TlsError;
use crate::files::TlsFiles;
use crate::judge::{Judgement, Stranger};
use crate::snapshot::Snapshot;
use crate::stamp::{Stamp, stamps};
use rustls::client::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConfig;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The settings of one port, or of one client.
///
/// Nothing but [`Tls::load`] and [`Tls::refresh`] reads the files, and nothing else waits for a
/// disk; but the first call of [`Tls::client`] without `trusted_ca` does, for the system's roots.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    paths: Vec<PathBuf>,
    /// The stamps of what `snapshot` was made from; held while that is made anew.
    loaded: Mutex<Vec<Option<Stamp>>>,
    snapshot: RwLock<Arc<Snapshot>>,
}

/// What became of the files.
#[derive(Debug)]
#[must_use]
pub enum Refreshed {
    /// They are as they were.
    Unchanged,
    /// They are others, and hold from the next handshake on.
    Changed,
    /// They are others and cannot be used: what was there before still holds. It is tried again with
    /// every refresh.
    Broken(TlsError),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if the settings contradict each other, or a file cannot be used.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        files.check()?;
        let paths = files.paths();
        // Before they are read: what changes meanwhile is read again.
        let loaded = Mutex::new(stamps(&paths));
        let snapshot = RwLock::new(Arc::new(Snapshot::load(&files)?));
        Ok(Arc::new(Self { files, paths, loaded, snapshot }))
    }

    /// The settings of a listener for its next handshake; `None` if there is no certificate to show.
    #[must_use]
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.snapshot().server.clone()
    }

    /// The settings of a client for its next handshake.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if no CA was named and the system has none either.
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.snapshot().client()
    }

    /// Whether somebody may stay who came from `remote`, and showed these certificates (the own one
    /// first) in a handshake that succeeded. To be asked for every connection of every listener.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn judge(
        &self,
        certificates: &[CertificateDer<'_>],
        remote: IpAddr,
    ) -> Result<Judgement, Stranger> {
        self.snapshot().judge.judge(certificates, remote)
    }

    /// The same for a server that was dialled: revocation and allowed names. That it has the name by
    /// which it was dialled was checked in the handshake.
    ///
    /// # Errors
    ///
    /// Why it shall not be spoken to.
    pub fn judge_server(&self, certificates: &[CertificateDer<'_>]) -> Result<(), Stranger> {
        self.snapshot().judge.check(certificates).map(drop)
    }

    /// Whether there are files at all that could become others.
    #[must_use]
    pub fn has_files(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Looks whether the files are others, and takes them over if so: all of them, or none. Waits
    /// for the disk.
    pub fn refresh(&self) -> Refreshed {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamps(&self.paths);
        if found == *loaded {
            return Refreshed::Unchanged;
        }
        match Snapshot::load(&self.files) {
            Ok(snapshot) => {
                *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
                *loaded = found;
                Refreshed::Changed
            }
            Err(error) => Refreshed::Broken(error),
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }
}
