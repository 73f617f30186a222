//! `quorate del`. Shows how many keys were removed.

use super::connection::{Connection, Format, Kind};
use super::{ClientVerb, KeyRange, fields, json, show};
use quorate_etcd_api::etcdserverpb::DeleteRangeRequest;
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  quorate del greeting
  quorate del --prefix user/             every key that starts with user/
  quorate del a c --prev-kv              from a up to, not including, c; shows what was there
It prints how many keys were removed; 0 is no error.";

/// Removes a key, or a range of keys.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Del {
    #[command(flatten)]
    what: DelArguments,
    #[command(flatten)]
    connection: Connection,
}

/// What to remove; also a line of a transaction.
#[derive(Debug, clap::Args)]
pub(crate) struct DelArguments {
    /// Which key, or the first of a range
    #[arg(value_name = "KEY")]
    key: OsString,
    /// The first key after the range
    #[arg(value_name = "RANGE_END", conflicts_with_all = ["prefix", "from_key"])]
    range_end: Option<OsString>,
    /// Every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
    /// Show what was removed
    #[arg(long)]
    prev_kv: bool,
}

impl DelArguments {
    /// The request.
    pub(crate) fn request(&self) -> DeleteRangeRequest {
        let range = KeyRange::new(&self.key, self.range_end.as_ref(), self.prefix, self.from_key);
        DeleteRangeRequest { key: range.key, range_end: range.range_end, prev_kv: self.prev_kv }
    }
}

impl ClientVerb for Del {
    async fn execute(self) -> anyhow::Result<()> {
        let live = self.connection.live().await?;
        let mut kv = live.kv();
        let call = kv.delete_range(self.connection.request(self.what.request()));
        let response = self.connection.answer(&live, Kind::Write, call).await?;
        match self.connection.write_out {
            Format::Json => json::print(&json::delete(&response)),
            Format::Fields => {
                fields::delete(&response);
                Ok(())
            }
            Format::Simple => show::delete(&response, self.connection.look()),
            Format::Table => {
                println!("{}", response.deleted);
                show::pairs_as_table(&response.prev_kvs);
                Ok(())
            }
        }
    }
}
