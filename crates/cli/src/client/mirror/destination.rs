//! Where a mirror is made: the flags that say which cluster that is. Must not know where
//! the keys come from.

use crate::client::connection::{Address, Connection};
use crate::client::dial::SecurityFlags;
use crate::client::discover::DiscoverFlags;
use crate::client::login::{LoginFlags, Secret};
use std::path::PathBuf;

/// Which cluster, and how it is spoken with.
#[derive(Debug, clap::Args)]
pub(super) struct DestinationFlags {
    /// Where the other cluster answers: HOST:PORT, or with http:// or https:// before it, several
    /// separated by commas
    #[arg(value_name = "DESTINATION", value_delimiter = ',', required = true)]
    destination: Vec<Address>,
    /// Who may sign its certificates [default: whom the system believes]
    #[arg(long, value_name = "FILE")]
    dest_cacert: Option<PathBuf>,
    /// The certificate that is shown to it
    #[arg(long, value_name = "FILE")]
    dest_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    dest_key: Option<PathBuf>,
    /// As whom it is asked: NAME, or NAME:PASSWORD; a password that is not given is asked for
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    dest_user: Option<Secret>,
    /// The password of --dest-user
    #[arg(long, value_name = "PASSWORD")]
    dest_password: Option<Secret>,
    /// Whether it is spoken with as it is, without TLS, if nothing else says how
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set, value_name = "true|false"
    )]
    dest_insecure_transport: bool,
}

impl DestinationFlags {
    /// The way to the cluster that the flags name; `source` says how patient to be.
    ///
    /// # Errors
    ///
    /// If an address is none.
    pub(super) fn connection(&self, source: &Connection) -> anyhow::Result<Connection> {
        let mut endpoints = self.destination.clone();
        if !self.dest_insecure_transport {
            for endpoint in &mut endpoints {
                if endpoint.is_secure().is_none() {
                    *endpoint = format!("https://{endpoint}").parse()?;
                }
            }
        }
        let (cacert, cert) = (self.dest_cacert.clone(), self.dest_cert.clone());
        Ok(Connection {
            endpoints,
            security: SecurityFlags::of_files(cacert, cert, self.dest_key.clone()),
            discovery: DiscoverFlags::none(),
            login: LoginFlags::of(self.dest_user.clone(), self.dest_password.clone()),
            ..source.clone()
        })
    }
}
