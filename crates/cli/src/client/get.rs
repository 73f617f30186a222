//! `quorate get`. Makes a range request and shows the pairs.

use super::connection::{Connection, Format, Kind};
use super::{ClientVerb, KeyRange, fields, json, show};
use crate::go::parse_integer;
use anyhow::bail;
use clap::ValueEnum;
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::{RangeRequest, RangeResponse};
use std::ffi::OsString;

const EXAMPLES: &str = "\
Examples:
  quorate get greeting
  quorate get --print-value-only greeting
  quorate get --prefix user/                 every key that starts with user/
  quorate get a c                            every key from a up to, not including, c
  quorate get --from-key m --limit 10        the first ten keys from m on
  quorate get --prefix '' --count-only       how many keys there are
  quorate get greeting --rev 7               what it held at revision 7
  quorate get greeting --consistency s       what this member has, perhaps old
  quorate get --prefix user/ -w json         for programs";

/// Shows a key, or a range of keys.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Get {
    #[command(flatten)]
    what: GetArguments,
    /// Only the values, one a line
    #[arg(long, conflicts_with = "keys_only")]
    print_value_only: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What to get; also a line of a transaction.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
pub(crate) struct GetArguments {
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
    /// At most this many; 0 for all
    #[arg(
        long, default_value_t = 0, value_parser = parse_integer, allow_negative_numbers = true,
        value_name = "COUNT"
    )]
    limit: i64,
    /// As of this revision; 0 for now
    #[arg(
        long, default_value_t = 0, value_parser = parse_integer, allow_negative_numbers = true,
        value_name = "REVISION"
    )]
    rev: i64,
    /// Sort by what
    #[arg(long, value_enum, ignore_case = true)]
    sort_by: Option<SortBy>,
    /// Sort in which direction
    #[arg(long, value_enum, ignore_case = true)]
    order: Option<Order>,
    /// Without the values
    #[arg(long)]
    keys_only: bool,
    /// Only how many there are
    #[arg(long, conflicts_with = "keys_only")]
    count_only: bool,
    /// l: everything acknowledged before is seen; s: what this member has, perhaps old
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    consistency: Consistency,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortBy {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Consistency {
    L,
    S,
}

impl GetArguments {
    /// The request.
    pub(crate) fn request(&self) -> RangeRequest {
        let range = KeyRange::new(&self.key, self.range_end.as_ref(), self.prefix, self.from_key);
        RangeRequest {
            key: range.key,
            range_end: range.range_end,
            limit: self.limit,
            revision: self.rev,
            sort_order: self.sort_order().into(),
            sort_target: self.sort_target().into(),
            serializable: self.consistency == Consistency::S,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..RangeRequest::default()
        }
    }

    fn sort_order(&self) -> SortOrder {
        match (self.order, self.sort_by) {
            (Some(Order::Ascend), _) | (None, Some(_)) => SortOrder::Ascend,
            (Some(Order::Descend), _) => SortOrder::Descend,
            (None, None) => SortOrder::None,
        }
    }

    fn sort_target(&self) -> SortTarget {
        match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
        }
    }
}

impl ClientVerb for Get {
    async fn execute(self) -> anyhow::Result<()> {
        if self.print_value_only && self.connection.write_out != Format::Simple {
            bail!("--print-value-only is for `-w simple`; found another format");
        }
        let live = self.connection.live().await?;
        let mut kv = live.kv();
        let call = kv.range(self.connection.request(self.what.request()));
        let response = self.connection.answer(&live, Kind::Read, call).await?;
        self.show(&response)
    }
}

impl Get {
    fn show(&self, response: &RangeResponse) -> anyhow::Result<()> {
        match self.connection.write_out {
            Format::Simple | Format::Table if self.what.count_only => {
                println!("{}", response.count);
                Ok(())
            }
            Format::Simple => show::pairs(&response.kvs, self.parts(), self.connection.look()),
            Format::Table | Format::Json | Format::Fields => show(response, &self.connection),
        }
    }

    fn parts(&self) -> show::Parts {
        if self.print_value_only {
            show::Parts::Values
        } else if self.what.keys_only {
            show::Parts::Keys
        } else {
            show::Parts::Both
        }
    }
}

/// Pairs, in whichever form.
pub(super) fn show(response: &RangeResponse, connection: &Connection) -> anyhow::Result<()> {
    match connection.write_out {
        Format::Json => json::print(&json::range(response)),
        Format::Fields => {
            fields::range(response);
            Ok(())
        }
        Format::Simple => show::pairs(&response.kvs, show::Parts::Both, connection.look()),
        Format::Table => {
            show::pairs_as_table(&response.kvs);
            Ok(())
        }
    }
}
