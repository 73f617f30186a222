//! The variables of the environment that stand for flags of the verbs that talk to a cluster: ours, and
//! where ours is not set, etcdctl's. A flag wins over both. Must not know what a flag does.

use crate::go::parse_boolean;
use anyhow::bail;
use clap::Command;
use clap::builder::ArgAction;
use clap::error::{ContextKind, ContextValue};
use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};

/// A flag, and what stands for it.
struct Row {
    flag: &'static str,
    ours: &'static str,
    etcdctls: &'static str,
}

const fn row(flag: &'static str, ours: &'static str, etcdctls: &'static str) -> Row {
    Row { flag, ours, etcdctls }
}

/// What is heeded.
const ROWS: [Row; 15] = [
    row("endpoints", "QUORATE_ENDPOINTS", "ETCDCTL_ENDPOINTS"),
    row("cacert", "QUORATE_CACERT", "ETCDCTL_CACERT"),
    row("cert", "QUORATE_CERT", "ETCDCTL_CERT"),
    row("key", "QUORATE_KEY", "ETCDCTL_KEY"),
    row(
        "insecure-skip-tls-verify",
        "QUORATE_INSECURE_SKIP_TLS_VERIFY",
        "ETCDCTL_INSECURE_SKIP_TLS_VERIFY",
    ),
    row("write-out", "QUORATE_WRITE_OUT", "ETCDCTL_WRITE_OUT"),
    row("command-timeout", "QUORATE_COMMAND_TIMEOUT", "ETCDCTL_COMMAND_TIMEOUT"),
    row("dial-timeout", "QUORATE_DIAL_TIMEOUT", "ETCDCTL_DIAL_TIMEOUT"),
    row("hex", "QUORATE_HEX", "ETCDCTL_HEX"),
    row("user", "QUORATE_USER", "ETCDCTL_USER"),
    row("password", "QUORATE_PASSWORD", "ETCDCTL_PASSWORD"),
    row("discovery-srv", "QUORATE_DISCOVERY_SRV", "ETCDCTL_DISCOVERY_SRV"),
    row("discovery-srv-name", "QUORATE_DISCOVERY_SRV_NAME", "ETCDCTL_DISCOVERY_SRV_NAME"),
    row("insecure-discovery", "QUORATE_INSECURE_DISCOVERY", "ETCDCTL_INSECURE_DISCOVERY"),
    // etcdctl asks the system's servers, whatever is set.
    row("discovery-srv-server", "QUORATE_DISCOVERY_SRV_SERVER", "QUORATE_DISCOVERY_SRV_SERVER"),
];

/// What must not be ignored, but for the values that ask for what is so anyway, and why.
const REFUSED: [(&str, &[&str], &str); 2] = [
    (
        "ETCDCTL_INSECURE_TRANSPORT",
        &["1", "t", "T", "true", "TRUE", "True"],
        "TLS is spoken where an endpoint begins with https://, or a certificate is named",
    ),
    ("ETCDCTL_API", &["3"], "version 3 of the protocol is the only one that is spoken"),
];

/// What does nothing, and why.
const IDLE: [(&str, &str); 3] = [
    ("ETCDCTL_KEEPALIVE_TIME", "connections are not pinged"),
    ("ETCDCTL_KEEPALIVE_TIMEOUT", "connections are not pinged"),
    ("ETCDCTL_DEBUG", "there is nothing more to tell"),
];

/// What `watch` heeds by itself.
const OF_WATCH: [&str; 2] = ["ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

/// How etcdctl's variables begin.
const PREFIX: &str = "ETCDCTL_";

/// Lets the flags of a command, and of those below it, be set by their variables.
pub(crate) fn with_variables(command: Command) -> Command {
    let command = command.mut_subcommands(with_variables);
    command.mut_args(|argument| {
        let row = argument.get_long().and_then(|flag| ROWS.iter().find(|row| row.flag == flag));
        match row {
            Some(row) if matches!(argument.get_action(), ArgAction::SetTrue) => {
                argument.env(row.chosen(is_set)).value_parser(parse_boolean)
            }
            Some(row) => argument.env(row.chosen(is_set)),
            None => argument,
        }
    })
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

impl Row {
    fn chosen(&self, is_set: impl Fn(&str) -> bool) -> &'static str {
        if !is_set(self.ours) && is_set(self.etcdctls) { self.etcdctls } else { self.ours }
    }
}

/// Says which variable a value came from that clap refuses.
pub(crate) fn name_variable(error: &clap::Error) {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (Some(argument), Some(value)) =
        (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue))
    else {
        return;
    };
    let flag = argument.trim_start_matches("--").split([' ', '=', '[']).next();
    let Some(row) = ROWS.iter().find(|row| Some(row.flag) == flag) else { return };
    let variable = row.chosen(is_set);
    let is_there = env::var(variable).is_ok_and(|found| found.split(',').any(|part| part == value));
    if is_there {
        eprintln!("error: {variable}: `{value}` cannot be used:");
    }
}

/// Looks at etcdctl's other variables.
///
/// # Errors
///
/// If one of them must not be ignored.
pub(super) fn check() -> anyhow::Result<()> {
    for warning in judge(env::vars_os())? {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

/// What is to be said about variables.
fn judge(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> anyhow::Result<BTreeSet<String>> {
    let mut warnings = BTreeSet::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let is_heeded = ROWS.iter().any(|row| row.etcdctls == name) || OF_WATCH.contains(&name);
        if value.is_empty() || is_heeded {
            continue;
        }
        let refused = REFUSED.iter().find(|(variable, ..)| *variable == name);
        let idle = IDLE.iter().find(|(variable, _)| *variable == name);
        match (refused, idle) {
            (Some((_, as_is, because)), _) => {
                if !as_is.iter().any(|as_is| OsStr::new(as_is) == value) {
                    bail!(
                        "{name} cannot be followed, and to ignore it would be dangerous: {because}"
                    );
                }
            }
            (None, Some((_, because))) => {
                warnings.insert(format!("{name} has no effect: {because}"));
            }
            (None, None) => {
                warnings.insert(format!("unrecognized environment variable {name}"));
            }
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let pairs = pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        match judge(pairs) {
            Ok(warnings) => Ok(warnings.into_iter().collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn our_variable_wins_over_etcdctls() {
        let row = &ROWS[0];
        assert_eq!(row.chosen(|_| true), "QUORATE_ENDPOINTS");
        assert_eq!(row.chosen(|variable| variable.starts_with("ETCDCTL")), "ETCDCTL_ENDPOINTS");
        assert_eq!(row.chosen(|_| false), "QUORATE_ENDPOINTS");
    }

    #[test]
    fn a_variable_that_must_not_be_ignored_is_refused_without_its_value() {
        for (variable, ..) in REFUSED {
            let said = judged(&[(variable, "secret")]).unwrap_err();
            assert!(said.contains(variable) && !said.contains("secret"), "{said}");
        }
        for (variable, as_is, _) in REFUSED {
            for value in as_is {
                assert_eq!(judged(&[(variable, value)]), Ok(Vec::new()), "{variable}={value}");
            }
        }
    }

    #[test]
    fn what_does_nothing_or_is_unknown_is_warned_about() {
        let found =
            [("ETCDCTL_DEBUG", "true"), ("ETCDCTL_X", "1"), ("ETCD_X", "1"), ("ETCDCTL_Y", "")];
        let warnings = judged(&found).unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("ETCDCTL_DEBUG has no effect"), "{warnings:?}");
        assert!(
            warnings[1].contains("unrecognized environment variable ETCDCTL_X"),
            "{warnings:?}"
        );
        for heeded in ["ETCDCTL_ENDPOINTS", "ETCDCTL_HEX", "ETCDCTL_WATCH_KEY"] {
            assert_eq!(judged(&[(heeded, "true")]), Ok(Vec::new()), "{heeded}");
        }
    }
}
