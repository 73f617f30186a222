//! What a person, or a test, types at a running cluster. Knows nothing of how it is done.

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Start a node that is down.
    Start(String),
    /// Stop a node cleanly.
    Stop(String),
    /// Kill a node without warning, as `kill -9` does.
    Kill(String),
    /// Let a node stand still, as `kill -STOP` does.
    Pause(String),
    /// Let it go on.
    Resume(String),
    /// Show the table.
    Status,
    /// Show the commands.
    Help,
    /// Stop everything.
    Quit,
}

/// The commands, for people.
pub(super) const COMMANDS: &str =
    "start|stop|kill|pause|resume NODE (n1, n2, ... or leader), status, help, quit";

/// Reads a line; `None` if it is empty.
///
/// # Errors
///
/// A sentence that says what was expected.
pub(super) fn parse(line: &str) -> Option<Result<Command, String>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let named = |name: &&str| (*name).to_owned();
    let command = match words.as_slice() {
        [] => return None,
        ["start", name] => Command::Start(named(name)),
        ["stop", name] => Command::Stop(named(name)),
        ["kill", name] => Command::Kill(named(name)),
        ["pause", name] => Command::Pause(named(name)),
        ["resume", name] => Command::Resume(named(name)),
        ["status"] => Command::Status,
        ["help" | "?"] => Command::Help,
        ["quit" | "exit" | "q"] => Command::Quit,
        _ => return Some(Err(format!("expected {COMMANDS}; found `{}`", line.trim()))),
    };
    Some(Ok(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_verb_and_perhaps_a_node() {
        assert_eq!(parse(" kill  n2 "), Some(Ok(Command::Kill("n2".to_owned()))));
        assert_eq!(parse("quit"), Some(Ok(Command::Quit)));
        assert_eq!(parse("  "), None);
    }

    #[test]
    fn what_is_no_command_is_answered_with_those_that_are() {
        for line in ["start", "dance n1", "kill n1 n2"] {
            let answer = parse(line).unwrap().unwrap_err();
            assert!(answer.contains("start|stop|kill") && answer.contains(line), "{answer}");
        }
    }
}
