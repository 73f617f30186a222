//! A password from whoever sits at the terminal, unseen. Must not know whose it is.

use super::login::Secret;
use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

/// The terminal of this process, wherever its input comes from.
const TERMINAL: &str = "/dev/tty";

/// A terminal that shows nothing of what is typed, for as long as this lives.
struct Unseen<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Unseen<'a> {
    fn new(terminal: &'a File) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Flush, &unseen)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs it no more.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Asks for a password.
///
/// # Errors
///
/// If there is no terminal to ask at, or it ends before a line does.
pub(crate) fn ask(prompt: &str) -> anyhow::Result<Secret> {
    let terminal = File::options().read(true).write(true).open(TERMINAL);
    let terminal = terminal.context("there is no terminal to ask for a password at")?;
    let unseen = Unseen::new(&terminal).context("there is no terminal to ask at unseen")?;
    (&terminal).write_all(prompt.as_bytes())?;
    let mut line = String::new();
    let count = BufReader::new(&terminal).read_line(&mut line).context("reading a password")?;
    drop(unseen);
    anyhow::ensure!(count > 0, "the terminal ended before a password came");
    Ok(Secret::from(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The next line of standard input, as etcdctl takes it with `--interactive=false`.
///
/// # Errors
///
/// If there is none.
pub(crate) fn read() -> anyhow::Result<Secret> {
    let mut line = String::new();
    let count = std::io::stdin().lock().read_line(&mut line).context("reading a password")?;
    anyhow::ensure!(count > 0, "expected a password on standard input, found its end");
    Ok(Secret::from(line.trim_end_matches(['\r', '\n']).to_owned()))
}
