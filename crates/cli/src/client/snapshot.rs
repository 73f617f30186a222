//! `quorate snapshot`. Saves what a member holds to a file, and looks into such a file; making a member
//! from it is `serve/restore.rs`.

use super::connection::{Address, Connection, Format, Kind};
use super::{ClientVerb, json};
use crate::backup_file::verify;
use crate::output::{Table, size};
use crate::serve::Restore;
use anyhow::{Context, ensure};
use quorate::StateMachine;
use quorate::core::{LogId, LogIndex, Term};
use quorate_etcd_api::etcdserverpb::SnapshotRequest;
use quorate_kv::{Inline, MemoryEngine, Reader};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  quorate snapshot save backup.db --endpoints 127.0.0.1:2379
  quorate snapshot status backup.db
  quorate snapshot restore backup.db --data-dir restored      (more: quorate snapshot restore --help)
The file is that member's whole store as of one moment; writes go on meanwhile. etcdctl snapshot save
writes the same. It is not a file of etcd's: etcdutl cannot read it.";

/// Saves a backup, shows what is in one, and begins a new cluster with one.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Writes what one endpoint holds to a file, which must not exist
    Save(Box<Save>),
    /// Checks such a file, and shows what is in it
    Status(Status),
    /// Makes the data folder of a member of a new cluster from such a file
    Restore(Box<Restore>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Save {
    /// Where to
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    connection: Connection,
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
            Verb::Save(verb) => verb.run().await,
            Verb::Status(verb) => verb.run(),
            Verb::Restore(verb) => verb.run(),
        }
    }
}

impl Save {
    /// A backup that is there already is kept: it may be the only one.
    async fn run(&self) -> anyhow::Result<()> {
        ensure!(!self.file.exists(), "{} exists already", self.file.display());
        let (address, bytes) = self.save().await?;
        println!("Snapshot of {address} saved at {} ({})", self.file.display(), size(bytes));
        Ok(())
    }

    /// Where it is from, and how large it is. The file gets its name when all of it is on the disk; what has that
    /// name is there until then.
    pub(crate) async fn save(&self) -> anyhow::Result<(Address, i64)> {
        let shown = self.file.display();
        let partial = self.file.with_added_extension("part");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        // Whoever reads it knows all keys, and what passwords are checked by.
        let file = options.mode(0o600).open(&partial);
        let mut file = file.with_context(|| format!("creating {}", partial.display()))?;
        let received = self.receive(&mut file).await;
        let kept = received.and_then(|address| {
            file.sync_all()?;
            verify(&mut file)?;
            let renamed = fs::rename(&partial, &self.file);
            renamed.with_context(|| format!("renaming {} to {shown}", partial.display()))?;
            File::open(folder_of(&self.file))?.sync_all()?;
            Ok(address)
        });
        match kept {
            Ok(address) => {
                let bytes = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
                Ok((address, bytes))
            }
            Err(error) => {
                // What is left of it is of no use.
                let _removed = fs::remove_file(&partial);
                Err(error.context(format!("saving {shown}")))
            }
        }
    }

    /// Takes piece after piece, each within the time of a command; the whole may take longer.
    async fn receive(&self, file: &mut File) -> anyhow::Result<Address> {
        let connection = &self.connection;
        let live = connection.live().await?;
        let mut maintenance = live.maintenance();
        let call = maintenance.snapshot(SnapshotRequest {});
        let mut pieces = connection.answer(&live, Kind::Read, call).await?;
        loop {
            let piece = tokio::time::timeout(connection.command_timeout, pieces.message()).await;
            let piece = piece.context("nothing came for too long")?;
            match piece.map_err(|status| anyhow::anyhow!("{}", status.message()))? {
                Some(piece) => file.write_all(&piece.blob)?,
                None => return Ok(live.address().clone()),
            }
        }
    }
}

impl Status {
    fn run(&self) -> anyhow::Result<()> {
        let Summary { digest, revision, keys_count, changes_count, bytes } = summary(&self.file)?;
        match self.write_out {
            Format::Json => json::print(&json!({
                "hash": digest, "revision": revision, "totalKey": keys_count, "totalSize": bytes,
            })),
            Format::Simple | Format::Table | Format::Fields => {
                let mut table = Table::new(["HASH", "REVISION", "KEYS", "CHANGES", "SIZE"]);
                table.row([
                    format!("{digest:x}"),
                    revision.to_string(),
                    keys_count.to_string(),
                    changes_count.to_string(),
                    size(bytes),
                ]);
                print!("{}", table.render());
                Ok(())
            }
        }
    }
}

/// The folder that a file is in.
fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// What is in a backup.
pub(crate) struct Summary {
    /// Of all of it.
    pub(crate) digest: u32,
    /// As of which revision.
    pub(crate) revision: u64,
    /// How many keys there are.
    pub(crate) keys_count: u64,
    /// How many changes of keys are known.
    pub(crate) changes_count: u64,
    /// How large the file is.
    pub(crate) bytes: i64,
}

/// Checks a file, and looks what is in it.
///
/// # Errors
///
/// If it cannot be read, or is no backup.
pub(crate) fn summary(path: &Path) -> anyhow::Result<Summary> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| format!("opening {shown}"))?;
    let bytes = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
    verify(&mut file).with_context(|| format!("{shown}"))?;
    let reader = load(path).with_context(|| format!("{shown}"))?;
    let hash = reader.hash(None).context("reading what is in it")?;
    Ok(Summary {
        digest: hash.digest,
        revision: reader.revision().get(),
        keys_count: reader.key_count(),
        changes_count: hash.change_count,
        bytes,
    })
}

/// Reads it into memory, with all checks that a member makes before it takes a snapshot over.
fn load(path: &Path) -> anyhow::Result<Reader> {
    let (mut machine, reader) = quorate_kv::open(Arc::new(MemoryEngine::new()), Arc::new(Inline))?;
    let anything = LogId::new(Term::new(u64::MAX), LogIndex::new(u64::MAX));
    machine.restore(anything, &mut File::open(path)?)?;
    Ok(reader)
}
