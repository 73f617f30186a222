//! The log of a node: how much of it, in which form, and where to. Must not know what is logged.

mod json;

use anyhow::{Context, bail};
use clap::ValueEnum;
use json::Json;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    /// As error: what etcd calls the levels above it
    #[value(aliases = ["panic", "dpanic"])]
    Fatal,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// As etcd's: an object with level, ts, caller, msg and fields
    Json,
    /// For people
    Console,
}

/// Wherever lines go if nobody says.
const DEFAULT: &str = "default";

/// Where lines go.
#[derive(Clone, Debug)]
enum Output {
    Stderr,
    Stdout,
    /// Written behind what is there.
    File(Arc<File>),
}

/// Starts the log. `outputs` are etcd's: `default`, `stderr`, `stdout`, or files.
///
/// # Errors
///
/// If a file cannot be opened, or `default` does not stand alone.
pub(super) fn start(level: LogLevel, format: LogFormat, outputs: &[String]) -> anyhow::Result<()> {
    let outputs = Outputs::open(outputs)?;
    let is_for_eyes = outputs.is_stderr_alone() && io::stderr().is_terminal();
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Fatal => LevelFilter::ERROR,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(outputs);
    match format {
        LogFormat::Console => log.with_ansi(is_for_eyes).init(),
        LogFormat::Json => log.with_ansi(false).event_format(Json).init(),
    }
    Ok(())
}

/// All places where lines go.
#[derive(Clone, Debug)]
struct Outputs(Vec<Output>);

impl Outputs {
    fn open(names: &[String]) -> anyhow::Result<Self> {
        let is_new =
            |(at, name): &(usize, &String)| !names.iter().take(*at).any(|other| other == *name);
        let once: Vec<&String> =
            names.iter().enumerate().filter(is_new).map(|(_, name)| name).collect();
        if once.len() > 1 && once.iter().any(|name| *name == DEFAULT) {
            bail!(
                "--log-outputs: expected `{DEFAULT}` alone, or others, such as stderr, found `{}`",
                names.join(",")
            );
        }
        let mut outputs = Vec::new();
        for name in once {
            outputs.push(match name.as_str() {
                // The journal reads standard error.
                DEFAULT | "stderr" | "systemd/journal" => Output::Stderr,
                "stdout" => Output::Stdout,
                path => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    let shown = || format!("--log-outputs: cannot write to {path}");
                    Output::File(Arc::new(file.with_context(shown)?))
                }
            });
        }
        Ok(Self(outputs))
    }

    fn is_stderr_alone(&self) -> bool {
        matches!(self.0[..], [Output::Stderr])
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = &'a Outputs;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut outcome = Ok(line.len());
        for output in &self.0 {
            // One that is full does not keep the others from it.
            let written = match output {
                Output::Stderr => io::stderr().lock().write_all(line),
                Output::Stdout => io::stdout().lock().write_all(line),
                Output::File(file) => (&**file).write_all(line),
            };
            outcome = written.and(outcome);
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_line_goes_to_every_output_behind_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("a"), "before\n").unwrap();
        let outputs = Outputs::open(&[path("a"), path("b")]).unwrap();
        (&outputs).write_all(b"line\n").unwrap();
        assert_eq!(fs::read_to_string(path("a")).unwrap(), "before\nline\n");
        assert_eq!(fs::read_to_string(path("b")).unwrap(), "line\n");
    }

    #[test]
    fn what_is_named_twice_is_written_once_and_the_default_stands_alone() {
        let opened = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Outputs::open(&names).map(|outputs| outputs.0.len()).map_err(|error| error.to_string())
        };
        assert_eq!(opened(&["default"]), Ok(1));
        assert_eq!(opened(&["default", "default"]), Ok(1));
        assert_eq!(opened(&["stderr", "stdout", "stderr"]), Ok(2));
        for several in [["default", "stderr"], ["stdout", "default"]] {
            let said = opened(&several).unwrap_err();
            assert!(said.contains("expected `default` alone"), "{said}");
            assert!(said.contains(&several.join(",")), "{said}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_by_name() {
        let error = Outputs::open(&["/none/log".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "--log-outputs: cannot write to /none/log");
    }
}
