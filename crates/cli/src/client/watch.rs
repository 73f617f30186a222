//! `quorate watch`. Shows what happens, or runs a command for each change; with `--interactive` whatever
//! standard input asks to watch, one watch a line.

use super::connection::{Connection, Format};
use super::ending::Ending;
use super::fields::quote;
use super::follow::Following;
use super::txn_text::words;
use super::{ClientVerb, KeyRange, fields, json, settle, show};
use crate::go::parse_integer;
use clap::{Args, FromArgMatches};
use futures_util::stream::{FuturesUnordered, StreamExt};
use quorate_etcd_api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use quorate_etcd_api::mvccpb::{Event, KeyValue};
use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::process::Stdio;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Lines of standard input that were read, and not looked at yet.
const LINES_COUNT_MAX: usize = 16;

const EXAMPLES: &str = "\
Examples:
  quorate watch greeting                   until Ctrl-C
  quorate watch --prefix g                 every key that starts with g
  quorate watch --prefix g --rev 5         what happened since revision 5, then what happens
  quorate watch --prefix \"\" -w json       every key, one JSON object a line
  quorate watch --prefix g -- tell.sh -v   runs a command for each change
  quorate watch --interactive              lines such as `watch --prefix g`, and `progress`
The command finds the change in ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE, in quotation marks
as Go writes them, and the member's revision in ETCD_WATCH_REVISION.";

/// Shows changes of a key, or of a range of keys, as they happen.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Watch {
    #[command(flatten)]
    what: WatchArguments,
    /// Watch what standard input says: a line `watch KEY ...` for each watch; `progress` asks how far all are
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What to watch; also a line of standard input.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
struct WatchArguments {
    /// Which key; the first of a range
    #[arg(value_name = "KEY", env = "ETCDCTL_WATCH_KEY")]
    key: Option<OsString>,
    /// The first key after the range
    #[arg(
        value_name = "RANGE_END",
        env = "ETCDCTL_WATCH_RANGE_END",
        conflicts_with_all = ["prefix", "from_key"]
    )]
    range_end: Option<OsString>,
    /// Watch every key that starts with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Watch KEY and every key after it
    #[arg(long)]
    from_key: bool,
    /// Begin with this revision instead of with the next change
    #[arg(
        long, default_value_t = 0, value_parser = parse_integer, allow_negative_numbers = true,
        value_name = "REVISION"
    )]
    rev: i64,
    /// Show what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Tell from time to time how far an idle watch is
    #[arg(long)]
    progress_notify: bool,
    /// What to run for each change
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl ClientVerb for Watch {
    async fn execute(self) -> anyhow::Result<()> {
        if self.interactive {
            return interact(&self.connection).await;
        }
        let create = self.what.request()?;
        tell(Following::new(&self.connection, create), &self.what.command, &self.connection).await
    }
}

impl WatchArguments {
    fn request(&self) -> anyhow::Result<WatchCreateRequest> {
        let Some(key) = &self.key else {
            return Err(Ending::NoKey.into());
        };
        let range = KeyRange::new(key, self.range_end.as_ref(), self.prefix, self.from_key);
        Ok(WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            start_revision: self.rev,
            prev_kv: self.prev_kv,
            progress_notify: self.progress_notify,
            ..WatchCreateRequest::default()
        })
    }
}

/// Shows what a watch tells, and runs a command for each change, for as long as both go on.
async fn tell(
    mut following: Following<'_>,
    command: &[OsString],
    connection: &Connection,
) -> anyhow::Result<()> {
    loop {
        let response = following.next().await?;
        show(&response, connection)?;
        if let Some((program, arguments)) = command.split_first() {
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            for event in &response.events {
                run(program, arguments, event, revision).await?;
            }
        }
    }
}

fn show(response: &WatchResponse, connection: &Connection) -> anyhow::Result<()> {
    match connection.write_out {
        Format::Json | Format::Fields if response.created => Ok(()),
        Format::Json => json::print(&json::watch(response)),
        Format::Fields => {
            fields::watch(response);
            Ok(())
        }
        Format::Simple | Format::Table => {
            let is_progress = response.events.is_empty() && !response.created;
            if is_progress && let Some(header) = &response.header {
                println!("progress notify: {}", header.revision);
            }
            response.events.iter().try_for_each(|event| show::event(event, connection.look()))
        }
    }
}

/// Runs a command for a change, to its end.
async fn run(
    program: &OsString,
    arguments: &[OsString],
    event: &Event,
    revision: i64,
) -> anyhow::Result<()> {
    let none = KeyValue::default();
    let kv = event.kv.as_ref().unwrap_or(&none);
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(event.r#type().as_str_name().as_bytes()))
        .env("ETCD_WATCH_KEY", quote(&kv.key))
        .env("ETCD_WATCH_VALUE", quote(&kv.value))
        .stdin(Stdio::null())
        .status()
        .await;
    let why = match status {
        Ok(status) => match Ending::of_command(status) {
            Ok(()) => return Ok(()),
            Err(end) => end.to_string(),
        },
        Err(error) => error.to_string(),
    };
    let words = std::iter::once(program).chain(arguments);
    let command: Vec<String> = words.map(|word| quote(word.as_encoded_bytes())).collect();
    Err(Ending::ChangeCommand { words: format!("command [{}] error ({why})", command.join(" ")) }
        .into())
}

/// What a line asks for.
enum Asked {
    Watch(Box<WatchArguments>),
    Progress,
}

/// Watches what standard input says until it ends, or a watch does. A line that makes no sense is
/// complained about, and the watches go on.
async fn interact(connection: &Connection) -> anyhow::Result<()> {
    let mut lines = lines_of_stdin();
    let mut watches = FuturesUnordered::new();
    let mut all_progress: Vec<Arc<Notify>> = Vec::new();
    loop {
        let line = tokio::select! {
            Some(end) = watches.next() => return end,
            line = lines.recv() => line.ok_or(Ending::InputEnded)?,
        };
        match asked(&line) {
            Ok(Asked::Watch(what)) => match what.request() {
                Ok(create) => {
                    let following = Following::new(connection, create);
                    all_progress.push(following.progress());
                    watches.push(async move { tell(following, &what.command, connection).await });
                }
                Err(error) => complain(&line, &error.to_string()),
            },
            Ok(Asked::Progress) => all_progress.iter().for_each(|progress| progress.notify_one()),
            Err(why) => complain(&line, &why),
        }
    }
}

/// On a thread of its own, which nobody waits for at the end.
fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES_COUNT_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Reads a line, as etcdctl does.
fn asked(line: &str) -> Result<Asked, String> {
    let words = words(line).map_err(|error| error.to_string())?;
    match words.first().and_then(|word| word.to_str()) {
        Some("progress") => Ok(Asked::Progress),
        Some("watch") => {
            let command = WatchArguments::augment_args(clap::Command::new("watch"));
            let command = command.disable_help_flag(true).args_override_self(true);
            let words = settle(&command, words).map_err(|error| error.to_string())?;
            let matches = command.try_get_matches_from(words);
            let what = matches.and_then(|matches| WatchArguments::from_arg_matches(&matches));
            let what = what.map_err(|error| {
                let text = error.to_string();
                text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
            })?;
            if what.key.is_none() {
                return Err("command type or key is not provided".to_owned());
            }
            Ok(Asked::Watch(Box::new(what)))
        }
        Some(_) => Err("only support watch".to_owned()),
        None => Err("watch and progress supported".to_owned()),
    }
}

fn complain(line: &str, why: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "Invalid command {line} ({why})");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_watch_with_its_options_or_asks_how_far_all_are() {
        let Ok(Asked::Watch(what)) = asked(r#"watch --rev 0x5 "a b" c --prev-kv=1 -- sh -c 'x y'"#)
        else {
            panic!("a watch")
        };
        let create = what.request().unwrap();
        assert_eq!((create.key.as_ref(), create.range_end.as_ref()), (&b"a b"[..], &b"c"[..]));
        assert!(create.start_revision == 5 && create.prev_kv && !create.progress_notify);
        assert_eq!(what.command, ["sh", "-c", "x y"]);
        assert!(matches!(asked(" progress "), Ok(Asked::Progress)));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_told_why() {
        for (line, why) in [
            ("", "watch and progress supported"),
            ("nope x", "only support watch"),
            ("watch", "command type or key is not provided"),
            ("watch a --nope", "unexpected argument '--nope' found"),
            ("watch a b --prefix", "cannot be used with"),
            ("watch \"a", "expected a closing"),
        ] {
            let found = asked(line).err().unwrap_or_default();
            assert!(found.contains(why), "{line}: {found}");
        }
    }
}
