//! What is answered with help instead of a complaint, as etcdctl does: no words at all, `help`, and words below
//! a verb that it does not have. Must not know what a verb does.

use super::words::Words;
use clap::Command;

/// The help, if that is the answer.
pub(super) fn asked_for(command: &mut Command, words: &Words) -> Option<String> {
    let names = words.verb(usize::MAX);
    let has_flags = words.own.len() > names.len();
    let path = match names[..] {
        ["help", ref topic @ ..] if is_known(command, topic) => topic.to_vec(),
        [] | ["help", ..] => Vec::new(),
        [first, ref below @ ..] => {
            let parent = command.find_subcommand(first)?;
            if !parent.has_subcommands() {
                return None;
            }
            match below {
                ["help", topic] if is_known(parent, &[*topic]) => vec![first, *topic],
                [name, ..] if is_known(parent, &[*name]) => return None,
                _ => vec![first],
            }
        }
    };
    (!has_flags).then(|| of(command, &path))
}

fn is_known(command: &Command, path: &[&str]) -> bool {
    let mut at = Some(command);
    for name in path {
        at = at.and_then(|command| command.find_subcommand(name));
    }
    at.is_some()
}

/// The help of a verb; of all if there is none of that name.
fn of(command: &mut Command, path: &[&str]) -> String {
    command.build();
    let mut at = &*command;
    for name in path {
        at = at.find_subcommand(name).unwrap_or(at);
    }
    at.clone().render_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn help(line: &str) -> Option<String> {
        let lease = Command::new("lease").about("of leases").subcommand_required(true);
        let lease = lease.subcommand(Command::new("grant").about("makes one"));
        let get = Command::new("get").about("of keys");
        let mut command = Command::new("etcdctl").about("of all").subcommand(get).subcommand(lease);
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        asked_for(&mut command, &Words::read(&words).unwrap())
    }

    #[test]
    fn what_has_no_verb_below_it_that_there_is_is_explained() {
        for (line, about) in [
            ("", "of all"),
            ("--endpoints h:1", "of all"),
            ("help", "of all"),
            ("--endpoints h:1 help", "of all"),
            ("--endpoints h:1 help get", "of keys"),
            ("help lease grant", "makes one"),
            ("help nope", "of all"),
            ("lease", "of leases"),
            ("lease --endpoints h:1", "of leases"),
            ("lease nope", "of leases"),
            ("lease help", "of leases"),
            ("lease help grant", "makes one"),
        ] {
            let text = help(line).unwrap_or_default();
            assert!(text.starts_with(about), "{line}: {text}");
        }
    }

    #[test]
    fn what_has_a_verb_or_a_flag_is_carried_out_or_complained_about() {
        for line in ["get", "get a", "nope", "lease grant", "--nope", "lease --nope", "lease x -y"]
        {
            assert_eq!(help(line), None, "{line}");
        }
    }
}
