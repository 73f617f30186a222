//! What to type: the command that carries a plan out, and those that start the new members. Must not
//! know what they do.

use super::Recover;
use super::plan::Plan;
use std::fmt::Write as _;
use std::path::Path;

/// The command that does what `plan` says, and nothing else.
pub(super) fn recover(flags: &Recover, plan: &Plan) -> String {
    let mut words = vec!["quorate".to_owned(), "recover".to_owned()];
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), quoted(value)]);
    for dir in &flags.data_dirs {
        flag("--data-dir", &text(dir));
    }
    for dir in &flags.wal_dirs {
        flag("--wal-dir", &text(dir));
    }
    for index in &flags.accept_loss_after {
        flag("--accept-loss-after", &index.to_string());
    }
    if let Some(members) = &flags.initial_cluster {
        flag("--initial-cluster", members);
    }
    if let Some(token) = &flags.initial_cluster_token {
        flag("--initial-cluster-token", token);
    }
    flag("--bump-revision", &plan.bump.to_string());
    flag("--output", &text(&plan.output));
    flag("--confirm", &format!("{:x}", plan.cluster.cluster_id));
    words.join(" ")
}

/// The commands that start the new members. The other flags are those that they had.
pub(super) fn serve(plan: &Plan) -> String {
    let mut commands = String::new();
    for (member, dir) in plan.cluster.members.iter().zip(plan.folders()) {
        let urls: Vec<String> = member.peer_urls.iter().map(ToString::to_string).collect();
        let urls = urls.join(",");
        // Writing to a string does not fail.
        let _written = writeln!(
            commands,
            "  quorate serve --name {} --data-dir {} --listen-peer-urls {urls} \
             --initial-advertise-peer-urls {urls} --initial-cluster {} --initial-cluster-token {} \
             --listen-client-urls ... --advertise-client-urls ...",
            quoted(&member.name),
            quoted(&text(&dir)),
            quoted(&plan.initial_cluster),
            quoted(&plan.token),
        );
    }
    commands
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_to_a_shell() {
        for (word, expected) in [
            ("n1.data", "n1.data"),
            ("http://h:1", "http://h:1"),
            ("", "''"),
            ("my folder", "'my folder'"),
            ("it's; rm", r"'it'\''s; rm'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
