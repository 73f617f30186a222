//! Under which name the program was started, and what it says of its version under it. Must not know
//! what it does then.

use quorate_server::ETCD_VERSION;
use std::ffi::OsString;
use std::path::Path;

/// What the program is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Itself.
    Quorate,
    /// etcd: flags without a verb.
    Etcd,
    /// etcdctl: verbs with its flags, output and exit codes.
    Etcdctl,
}

impl Program {
    /// By the name of the file that was started: a link, or a copy.
    pub(crate) fn called(first_word: Option<&OsString>) -> Self {
        let name = first_word.and_then(|word| Path::new(word).file_name());
        match name.and_then(|name| name.to_str()) {
            Some("etcd") => Self::Etcd,
            Some("etcdctl") => Self::Etcdctl,
            Some(_) | None => Self::Quorate,
        }
    }

    /// What `quorate version` prints.
    pub(crate) fn own_version_text() -> String {
        let own = env!("CARGO_PKG_VERSION");
        format!("quorate {own}\nserves etcd's protocol as of {ETCD_VERSION}\n")
    }

    /// What `--version` prints for a server: etcd's lines, which programs read, and whose they are.
    pub(crate) fn version_text() -> String {
        format!(
            "etcd Version: {ETCD_VERSION}\n\
             Git SHA: none\n\
             Go Version: none\n\
             Go OS/Arch: {}/{}\n\
             Quorate Version: {}, which is no etcd: the version above is that of the protocol which \
             it serves\n",
            std::env::consts::OS,
            go_architecture(std::env::consts::ARCH),
            env!("CARGO_PKG_VERSION"),
        )
    }
}

/// What Go calls a kind of machine.
fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_counts_and_nothing_else() {
        for (word, program) in [
            ("etcd", Program::Etcd),
            ("/usr/local/bin/etcd", Program::Etcd),
            ("./quorate", Program::Quorate),
            ("/etcd/quorate", Program::Quorate),
            ("etcdctl", Program::Etcdctl),
            ("/usr/local/bin/etcdctl", Program::Etcdctl),
            ("etcdctl.sh", Program::Quorate),
            ("", Program::Quorate),
        ] {
            assert_eq!(Program::called(Some(&word.into())), program, "{word}");
        }
        assert_eq!(Program::called(None), Program::Quorate);
    }

    #[test]
    fn the_version_has_etcds_lines_and_says_that_it_is_none() {
        let text = Program::version_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("etcd Version: {ETCD_VERSION}"));
        assert!(lines[3].starts_with("Go OS/Arch: linux/"));
        assert!(lines[4].contains("Quorate") && lines[4].contains("no etcd"));
    }
}
