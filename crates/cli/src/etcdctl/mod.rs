//! The program under the name `etcdctl`: etcdctl's command line, output and exit codes, over the verbs
//! that there are. Must not know how a cluster is reached.

mod complaint;
mod help;
mod member;
mod snapshot;
mod words;

use crate::client::{self, SecurityFlags};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use complaint::{BAD_ARGUMENTS, Complaint, FAILED, NOT_SERVED};
use member::Member;
use quorate_server::ETCD_VERSION;
use snapshot::Snapshot;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use words::{Words, WordsError};

/// Where etcdctl asks if nobody says.
const DEFAULT_ENDPOINTS: &str = "127.0.0.1:2379";

/// A client of etcd's, as etcdctl is: a part of Quorate.
#[derive(Parser)]
#[command(name = "etcdctl", arg_required_else_help = true, disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Puts the given key into the store
    Put(client::Put),
    /// Gets the key or a range of keys
    Get(client::Get),
    /// Removes the specified key or range of keys
    Del(client::Del),
    /// Processes all the requests in one transaction
    Txn(client::Txn),
    /// Watches events on keys or prefixes
    Watch(client::Watch),
    /// Lease related commands
    Lease(client::Lease),
    /// Compacts the event history
    Compaction(client::Compaction),
    /// Acquires a named lock
    Lock(client::Lock),
    /// Observes and participates in leader election
    Elect(client::Elect),
    /// Makes a mirror at the destination cluster
    MakeMirror(client::MakeMirror),
    /// Commands for checking properties of the cluster
    Check(client::Check),
    /// Alarm related commands
    Alarm(client::Alarm),
    /// Enables or disables authentication
    Auth(client::Auth),
    /// User related commands
    User(client::User),
    /// Role related commands
    Role(client::Role),
    /// Endpoint related commands
    Endpoint(client::Endpoint),
    /// Membership related commands
    Member(Member),
    /// Transfers leadership to another member
    MoveLeader(client::MoveLeader),
    /// Manages snapshots
    Snapshot(Snapshot),
    /// Makes the state files of endpoints as small as they can be
    Defrag(client::Defrag),
    /// Prints the version
    Version,
}

/// Carries out what the words behind the program's name say.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    match carry_out(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Complaint { code, words, before }) => {
            // Nobody is left to tell if standard error is closed too.
            if let Some(before) = before {
                let _ = writeln!(io::stderr(), "{before}");
            }
            if !words.is_empty() {
                let _ = writeln!(io::stderr(), "Error: {words}");
            }
            ExitCode::from(code)
        }
    }
}

fn carry_out(words: &[OsString]) -> Result<(), Complaint> {
    let wrong = |error: WordsError| Complaint::new(FAILED, error.to_string());
    let mut words = Words::read(words).map_err(wrong)?;
    let mut command = client::with_variables(manners(Arguments::command()));
    words.settle(&command).map_err(wrong)?;
    let verb: Vec<String> = words.verb(2).into_iter().map(str::to_owned).collect();
    let verb: Vec<&str> = verb.iter().map(String::as_str).collect();
    let has_flags = words.own.iter().any(|word| word.as_encoded_bytes().starts_with(b"-"));
    if verb.first() == Some(&"version") && !has_flags {
        // Whatever other words there are.
        return execute(Verb::Version).map_err(|error| Complaint::of(&verb, &error));
    }
    if let Some(text) = help::asked_for(&mut command, &words) {
        return print(&text);
    }
    check_format(&words, &verb)?;
    check_words(&words, &verb)?;
    let (asks, has_format) = (asks_somebody(&command, &verb), has_format(&verb));
    let shadowed = words.shadowed(|variable| env::var_os(variable).is_some());
    let parsed = command.try_get_matches_from(words.ours(has_format, !asks));
    let parsed = parsed.and_then(|matches| {
        let security = asks.then(|| security_of(&matches)).transpose()?;
        Ok((Arguments::from_arg_matches(&matches)?, security))
    });
    let (arguments, security) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return say(&verb, &error),
    };
    if let Some(variable) = shadowed.filter(|_| asks) {
        return Err(conflict(&variable));
    }
    if let Some(Err(why)) = security.map(|security| security.check()) {
        return Err(Complaint::new(BAD_ARGUMENTS, why));
    }
    execute(arguments.verb).map_err(|error| Complaint::of(&verb, &error))
}

/// A flag and its variable, whatever they say.
fn conflict(variable: &str) -> Complaint {
    Complaint::new(
        FAILED,
        format!(
            "conflicting environment variable \"{variable}\" is shadowed by corresponding command-line \
             flag (either unset environment variable or disable flag)"
        ),
    )
}

/// Whether a verb asks an endpoint for something. What was parsed does not tell: with optimisation, clap does
/// not look there whether an argument is the verb's.
fn asks_somebody(command: &clap::Command, verb: &[&str]) -> bool {
    let mut at = command;
    for name in verb {
        at = at.find_subcommand(name).unwrap_or(at);
    }
    at.get_arguments().any(|argument| argument.get_long() == Some("endpoints"))
}

/// The files that a verb which asks somebody is to show and to believe.
fn security_of(matches: &ArgMatches) -> Result<SecurityFlags, clap::Error> {
    let mut matches = matches;
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    SecurityFlags::from_arg_matches(matches)
}

/// What is different under this name: where to ask, examples that name another program, and a flag that is
/// given twice.
fn manners(command: clap::Command) -> clap::Command {
    let command =
        command.args_override_self(true).mut_subcommands(|verb| manners(verb).after_help(""));
    command.mut_args(|argument| match argument.get_long() {
        Some("endpoints") => argument.default_value(DEFAULT_ENDPOINTS),
        _ => argument,
    })
}

/// Formats that etcdctl has for some verbs only.
fn check_format(words: &Words, verb: &[&str]) -> Result<(), Complaint> {
    let refused = |text: String| Err(Complaint::new(NOT_SERVED, text));
    let format = words.format.as_str();
    let is_of = |verbs: &[&[&str]]| verbs.iter().any(|known| verb.starts_with(known));
    match format {
        "simple" | "json" => {}
        "table" => {
            const DRAWN: [&[&str]; 3] = [&["endpoint"], &["member", "list"], &["snapshot"]];
            if !is_of(&DRAWN) && has_format(verb) {
                return refused("table not supported as output format".to_owned());
            }
        }
        "fields" => {
            const NOT: [&[&str]; 3] = [&["user", "get"], &["user", "list"], &["auth", "status"]];
            if is_of(&NOT) && !(is_of(&[&["user", "get"]]) && words.has("--detail")) {
                return refused("fields not supported as output format".to_owned());
            }
        }
        "protobuf" => return refused("protobuf is not served as an output format".to_owned()),
        _ => return refused("unsupported output format".to_owned()),
    }
    let is_get = verb.first() == Some(&"get");
    let wrong = |text| Err(Complaint::new(BAD_ARGUMENTS, text));
    if is_get && words.has("--count-only") && format == "simple" {
        return wrong("--count-only is only for `--write-out=fields`");
    }
    if is_get && words.has("--print-value-only") && format != "simple" {
        return wrong("print-value-only is only for `--write-out=simple`");
    }
    Ok(())
}

/// What our own parser would take otherwise.
fn check_words(words: &Words, verb: &[&str]) -> Result<(), Complaint> {
    let refused = |text: String| Err(Complaint::new(BAD_ARGUMENTS, text));
    match verb {
        ["watch", ..] if words.rest.len() == 1 => {
            refused("bad number of arguments (found separator --, but no commands)".to_owned())
        }
        ["move-leader", id] if u64::from_str_radix(id, 16).is_err() => {
            refused(format!("strconv.ParseUint: parsing \"{id}\": invalid syntax"))
        }
        _ => Ok(()),
    }
}

/// Whether what a verb prints depends on the format.
fn has_format(verb: &[&str]) -> bool {
    let is_plain = |verb: &[&str]| {
        matches!(
            verb,
            [
                "compaction"
                    | "version"
                    | "help"
                    | "defrag"
                    | "move-leader"
                    | "make-mirror"
                    | "check",
                ..,
            ] | ["auth", "enable" | "disable"]
                | ["snapshot", "save" | "restore"]
                | []
        )
    };
    !is_plain(verb)
}

/// What clap has to say: help, or what is wrong with the words.
fn say(verb: &[&str], error: &clap::Error) -> Result<(), Complaint> {
    if !error.use_stderr() {
        // Nobody is left to tell if standard output is closed.
        let _ = error.print();
        return Ok(());
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // As in etcdctl, that is no error.
        return print(&error.to_string());
    }
    client::name_variable(error);
    Err(Complaint::of_arguments(verb, error))
}

fn print(text: &str) -> Result<(), Complaint> {
    crate::output::text(text).map_err(|_| Complaint::new(FAILED, String::new()))
}

fn execute(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Put(verb) => client::run(verb.wanting_input()),
        Verb::Get(verb) => client::run(verb),
        Verb::Del(verb) => client::run(verb),
        Verb::Txn(verb) => client::run(verb),
        Verb::Watch(verb) => client::run(verb),
        Verb::Lease(verb) => client::run(verb),
        Verb::Compaction(verb) => client::run(verb),
        Verb::Lock(verb) => client::run(verb),
        Verb::Elect(verb) => client::run(verb),
        Verb::MakeMirror(verb) => client::run(verb),
        Verb::Check(verb) => client::run(verb),
        Verb::Alarm(verb) => client::run(verb),
        Verb::Auth(verb) => client::run(verb),
        Verb::User(verb) => client::run(verb),
        Verb::Role(verb) => client::run(verb),
        Verb::Endpoint(verb) => client::run(verb),
        Verb::Member(verb) => client::run(verb),
        Verb::MoveLeader(verb) => client::run(verb),
        Verb::Snapshot(verb) => client::run(verb),
        Verb::Defrag(verb) => client::run(verb),
        Verb::Version => {
            let api = ETCD_VERSION.rsplit_once('.').map_or(ETCD_VERSION, |(api, _)| api);
            let own = env!("CARGO_PKG_VERSION");
            Ok(crate::output::text(&format!(
                "etcdctl version: {ETCD_VERSION}\nAPI version: {api}\nQuorate version: {own}\n"
            ))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> (u8, String) {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let complaint = carry_out(&words).expect_err("it is refused");
        (complaint.code, complaint.words)
    }

    #[test]
    fn formats_that_etcdctl_has_not_are_refused_with_its_code() {
        for (line, words) in [
            ("-w table put a 1", "table not supported as output format"),
            ("role list --write-out=table", "table not supported as output format"),
            ("-w fields user list", "fields not supported as output format"),
            ("-w yaml get a", "unsupported output format"),
        ] {
            assert_eq!(refused(line), (NOT_SERVED, words.to_owned()), "{line}");
        }
    }

    #[test]
    fn arguments_that_are_wrong_have_etcdctls_codes() {
        for (line, code) in [
            ("put", BAD_ARGUMENTS),
            ("get", BAD_ARGUMENTS),
            ("get a --count-only", BAD_ARGUMENTS),
            ("lease grant x", BAD_ARGUMENTS),
            ("member remove zz", BAD_ARGUMENTS),
            ("nope", FAILED),
            ("get a --nope", FAILED),
            ("lock", BAD_ARGUMENTS),
            ("elect e", BAD_ARGUMENTS),
            ("elect e v -l", BAD_ARGUMENTS),
            ("make-mirror", BAD_ARGUMENTS),
            ("make-mirror h:1 --dest-prefix a --no-dest-prefix", BAD_ARGUMENTS),
            ("check perf --load zz", NOT_SERVED),
            ("watch foo --", BAD_ARGUMENTS),
            ("move-leader zz", BAD_ARGUMENTS),
            ("completion bash", FAILED),
            ("lease grant 10 20", BAD_ARGUMENTS),
            ("lease grant --nope 5", FAILED),
            ("role list extra", BAD_ARGUMENTS),
            ("get a --order=BOGUS", NOT_SERVED),
            ("get a --sort-by BOGUS", NOT_SERVED),
            ("get a --consistency=x", NOT_SERVED),
            ("get a --limit=abc", FAILED),
            ("get a --limit", FAILED),
            ("get a --prefix=x", FAILED),
            ("get a --cacert /nonexistent", BAD_ARGUMENTS),
            ("get a --cert /nonexistent", BAD_ARGUMENTS),
            ("get a --print-value-only -w json", BAD_ARGUMENTS),
            ("get a --count-only=1", BAD_ARGUMENTS),
            ("put k v --lease=zz", BAD_ARGUMENTS),
            ("compaction x", FAILED),
            ("--nope", FAILED),
            ("version --nope", FAILED),
        ] {
            assert_eq!(refused(line).0, code, "{line}");
        }
    }

    /// The verbs that have none below them, each with those above it.
    fn verbs(command: &clap::Command, above: &[String]) -> Vec<Vec<String>> {
        let below = command.get_subcommands().flat_map(|verb| {
            let path = [above, &[verb.get_name().to_owned()]].concat();
            if verb.has_subcommands() { verbs(verb, &path) } else { vec![path] }
        });
        below.collect()
    }

    #[test]
    fn all_verbs_ask_somebody_but_those_that_look_at_files() {
        let command = manners(Arguments::command());
        let verbs = verbs(&command, &[]);
        assert!(verbs.len() >= 45, "{verbs:?}");
        let asks = |verb: &&Vec<String>| {
            let verb: Vec<&str> = verb.iter().map(String::as_str).collect();
            let words = [&verb[..], &["status"]].concat();
            assert_eq!(asks_somebody(&command, &words), asks_somebody(&command, &verb));
            asks_somebody(&command, &verb)
        };
        let silent: Vec<String> =
            verbs.iter().filter(|verb| !asks(verb)).map(|verb| verb.join(" ")).collect();
        assert_eq!(silent, ["snapshot status", "snapshot restore", "version"]);
        // A verb that asks knows what it shows and believes, which is read from the same place.
        for verb in verbs.iter().filter(asks) {
            let mut at = &command;
            for name in verb {
                at = at.find_subcommand(name).unwrap();
            }
            for flag in ["cacert", "cert", "key", "insecure-skip-tls-verify"] {
                let has = at.get_arguments().any(|argument| argument.get_long() == Some(flag));
                assert!(has, "{verb:?} --{flag}");
            }
        }
    }

    #[test]
    fn a_verb_that_looks_at_a_file_says_what_is_wrong_with_it() {
        for line in [
            "snapshot status /none/backup.db",
            "--endpoints h:1 snapshot status /none/backup.db",
            "snapshot restore /none/backup.db --data-dir /none/restored",
        ] {
            let (code, words) = refused(line);
            assert!(code == FAILED && words.contains("/none/backup.db"), "{code} {words}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        manners(Arguments::command()).debug_assert();
    }
}
