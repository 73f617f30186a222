//! `quorate txn`. Reads a transaction as text from standard input; when that is a terminal, it says
//! what it expects next.

use super::connection::{Connection, Format, Kind};
use super::{ClientVerb, fields, json, show, txn_text};
use anyhow::Context;
use quorate_etcd_api::etcdserverpb::TxnRequest;
use std::io::{self, BufRead, IsTerminal, Write};

const EXAMPLES: &str = r#"The text has three parts, each ended by an empty line:
  1. comparisons, all of which must hold (none: they do)
  2. what to do if they hold
  3. what to do if they do not

Example: create a key only if it does not exist, else show it
  quorate txn <<'END'
  create("lock") = "0"

  put lock "mine, since 9:00"

  get lock

  END

Comparisons: version, create, mod, value or lease of ("key"), then = != < or >, then "value".
Operations: put, get and del with the options that those commands have."#;

/// Does several things in one step, depending on what the keys hold.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Txn {
    /// Say what is expected next, even if standard input is no terminal
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Txn {
    async fn execute(self) -> anyhow::Result<()> {
        let stdin = io::stdin();
        let prompts = self.interactive || stdin.is_terminal();
        let request = read(&mut stdin.lock(), &mut |part| prompt(prompts, part))?;
        let live = self.connection.live().await?;
        let mut kv = live.kv();
        let call = kv.txn(self.connection.request(request));
        let response = self.connection.answer(&live, Kind::Write, call).await?;
        match self.connection.write_out {
            Format::Json => json::print(&json::txn(&response)),
            Format::Fields => {
                fields::txn(&response);
                Ok(())
            }
            Format::Simple | Format::Table => show::txn(&response, self.connection.look()),
        }
    }
}

fn prompt(prompts: bool, part: &str) {
    if prompts {
        // Nobody reads the prompts if standard error is closed.
        let _ = writeln!(io::stderr(), "{part} (end with an empty line):");
    }
}

/// Reads the three parts.
fn read(source: &mut impl BufRead, prompt: &mut impl FnMut(&str)) -> anyhow::Result<TxnRequest> {
    let mut line_number = 0;
    prompt("comparisons, such as mod(\"key\") > \"0\"");
    let compare = part(source, &mut line_number, txn_text::comparison)?;
    prompt("if they hold: put, get, del");
    let success = part(source, &mut line_number, txn_text::operation)?;
    prompt("if they do not: put, get, del");
    let failure = part(source, &mut line_number, txn_text::operation)?;
    Ok(TxnRequest { compare, success, failure })
}

/// Reads lines up to an empty one or the end.
fn part<T>(
    source: &mut impl BufRead,
    line_number: &mut u64,
    parse: impl Fn(&str) -> Result<T, txn_text::TextError>,
) -> anyhow::Result<Vec<T>> {
    let mut parsed = Vec::new();
    loop {
        let mut line = String::new();
        let size = source.read_line(&mut line).context("reading the transaction")?;
        *line_number += 1;
        if size == 0 || line.trim().is_empty() {
            return Ok(parsed);
        }
        let value = parse(line.trim()).with_context(|| format!("line {line_number}"))?;
        parsed.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<TxnRequest> {
        read(&mut text.as_bytes(), &mut |_| ())
    }

    #[test]
    fn empty_lines_part_the_three_parts() {
        let txn = parse("create(\"a\") = \"0\"\n\nput a 1\nput b 2\n\nget a\n\n").unwrap();
        let counts = [txn.compare.len(), txn.success.len(), txn.failure.len()];
        assert_eq!(counts, [1, 2, 1]);
    }

    #[test]
    fn parts_may_be_empty_and_the_end_of_input_ends_them() {
        let txn = parse("\nput a 1").unwrap();
        let counts = [txn.compare.len(), txn.success.len(), txn.failure.len()];
        assert_eq!(counts, [0, 1, 0]);
    }

    #[test]
    fn an_error_names_the_line() {
        let error = parse("\nput a 1\ntake b\n\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 3: expected"), "{error:#}");
    }
}
