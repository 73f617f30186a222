//! `quorate compaction`. Forgets history; what keys hold now is not touched.

use super::connection::{Connection, Format, Kind};
use super::{ClientVerb, json};
use quorate_etcd_api::etcdserverpb::CompactionRequest;

const EXAMPLES: &str = "\
Examples:
  quorate compaction 1000                what keys held before revision 1000 is forgotten
  quorate compaction --physical 1000     ... and answers when it is gone from the disk
The present revision is in the header of any answer: quorate get --count-only x -w json";

/// Forgets what keys held before a revision.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Compaction {
    /// The first revision that is kept
    #[arg(value_name = "REVISION")]
    revision: i64,
    /// Answer only when the old revisions are gone from the disk
    #[arg(long)]
    physical: bool,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Compaction {
    async fn execute(self) -> anyhow::Result<()> {
        let request = CompactionRequest { revision: self.revision, physical: self.physical };
        let live = self.connection.live().await?;
        let mut kv = live.kv();
        let call = kv.compact(self.connection.request(request));
        let response = self.connection.answer(&live, Kind::Write, call).await?;
        match self.connection.write_out {
            Format::Json => json::print(&json::compaction(&response)),
            Format::Simple | Format::Table | Format::Fields => {
                println!("compacted revision {}", self.revision);
                Ok(())
            }
        }
    }
}
