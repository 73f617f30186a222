//! `quorate put`. The value is an argument or comes from standard input.

use super::connection::{Connection, Format, Kind};
use super::ending::Ending;
use super::{ClientVerb, bytes, fields, json, show};
use anyhow::Context;
use bytes::Bytes;
use quorate_etcd_api::etcdserverpb::{PutRequest, PutResponse};
use std::ffi::OsString;
use std::io::{IsTerminal, Read};

const EXAMPLES: &str = "\
Examples:
  quorate put greeting hello
  quorate put picture < cat.jpg            the value from standard input
  quorate put --prev-kv greeting hi        shows what was there before
  quorate put -- -odd- -value-             after `--` nothing is an option";

/// Stores a value under a key.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Put {
    #[command(flatten)]
    what: PutArguments,
    #[command(flatten)]
    connection: Connection,
    /// Whether an empty standard input is no value.
    #[arg(skip)]
    wants_input: bool,
}

impl Put {
    /// As in etcdctl, an empty standard input is no value.
    pub(crate) fn wanting_input(self) -> Self {
        Self { wants_input: true, ..self }
    }
}

/// What to put; also a line of a transaction.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArguments {
    /// Under which key
    #[arg(value_name = "KEY")]
    key: OsString,
    /// Which value; read from standard input if it is missing
    #[arg(value_name = "VALUE", conflicts_with = "ignore_value")]
    value: Option<OsString>,
    /// Attach the key to this lease (hexadecimal id)
    #[arg(long, value_parser = parse_lease, default_value = "0", value_name = "ID")]
    lease: i64,
    /// Show what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value that is there
    #[arg(long)]
    ignore_value: bool,
    /// Keep the lease that is there; not together with --lease
    #[arg(long)]
    ignore_lease: bool,
}

impl PutArguments {
    /// The request, with `value` for a value that was not given.
    ///
    /// # Errors
    ///
    /// If the value is missing and `value` cannot supply it.
    pub(crate) fn request(
        &self,
        value: impl FnOnce() -> anyhow::Result<Bytes>,
    ) -> anyhow::Result<PutRequest> {
        let value = match &self.value {
            Some(value) => bytes(value),
            None if self.ignore_value => Bytes::new(),
            None => value()?,
        };
        Ok(PutRequest {
            key: bytes(&self.key),
            value,
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

impl ClientVerb for Put {
    async fn execute(self) -> anyhow::Result<()> {
        let request = self.what.request(|| value_from_stdin(self.wants_input))?;
        let live = self.connection.live().await?;
        let mut kv = live.kv();
        let call = kv.put(self.connection.request(request));
        let response = self.connection.answer(&live, Kind::Write, call).await?;
        match self.connection.write_out {
            Format::Json => json::print(&json::put(&response)),
            Format::Fields => {
                fields::put(&response);
                Ok(())
            }
            Format::Simple | Format::Table => show_put(&response, &self.connection),
        }
    }
}

fn show_put(response: &PutResponse, connection: &Connection) -> anyhow::Result<()> {
    match (&response.prev_kv, connection.write_out) {
        (Some(previous), Format::Table) => {
            show::pairs_as_table(std::slice::from_ref(previous));
            Ok(())
        }
        (_, Format::Simple | Format::Json | Format::Table | Format::Fields) => {
            show::put(response, connection.look())
        }
    }
}

/// The whole of standard input.
fn value_from_stdin(wants_input: bool) -> anyhow::Result<Bytes> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        return Err(Ending::NoValue.into());
    }
    let mut value = Vec::new();
    stdin.read_to_end(&mut value).context("reading the value from standard input")?;
    if value.is_empty() && wants_input {
        return Err(Ending::NoValue.into());
    }
    Ok(Bytes::from(value))
}

/// Lease ids are written in hexadecimal, as etcdctl does.
///
/// # Errors
///
/// A sentence that says what was expected.
pub(crate) fn parse_lease(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16)
        .map_err(|_| format!("expected a lease id in hexadecimal, found `{text}`"))
}
