//! `etcdctl snapshot`, with etcdctl's output. Ours, for people, is `client/snapshot.rs`.

use crate::client::grid::{grid, size};
use crate::client::snapshot::{Save, Summary, summary};
use crate::client::{ClientVerb, Format, fields};
use crate::serve::Restore;
use std::path::PathBuf;

/// Manages snapshots.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Stores what a member holds to a given file
    Save(Box<Save>),
    /// Shows what is in a given file
    Status(Status),
    /// Makes the data folder of a member from a given file
    Restore(Box<Restore>),
}

#[derive(Debug, clap::Args)]
struct Status {
    /// Which
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the output looks like
    #[arg(short, long, value_enum, default_value_t = Format::Simple, value_name = "FORMAT")]
    write_out: Format,
}

impl ClientVerb for Snapshot {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Save(verb) => {
                verb.save().await?;
                println!("Snapshot saved at {}", verb.file.display());
                Ok(())
            }
            Verb::Status(verb) => verb.run(),
            Verb::Restore(verb) => verb.run(),
        }
    }
}

impl Status {
    fn run(&self) -> anyhow::Result<()> {
        let Summary { digest, revision, keys_count, bytes, .. } = summary(&self.file)?;
        let row =
            [format!("{digest:x}"), revision.to_string(), keys_count.to_string(), size(bytes)];
        match self.write_out {
            Format::Simple => println!("{}", row.join(", ")),
            // Not in the order that these names have elsewhere.
            Format::Json => println!(
                "{{\"hash\":{digest},\"revision\":{revision},\"totalKey\":{keys_count},\
                 \"totalSize\":{bytes}}}"
            ),
            Format::Fields => {
                fields::field("Hash", digest);
                fields::field("Revision", revision);
                fields::field("Keys", keys_count);
                fields::field("Size", bytes);
            }
            Format::Table => {
                print!("{}", grid(["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], &[row]));
            }
        }
        Ok(())
    }
}
