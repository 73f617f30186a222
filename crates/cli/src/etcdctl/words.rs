//! etcdctl's command line, in which the flags that all verbs have may stand anywhere: made into one for
//! our verbs, which have theirs behind. Must not know what a verb does.

use crate::client::{GoWordsError, settle};
use crate::go;
use clap::Command;
use std::env;
use std::ffi::{OsStr, OsString};
use std::mem;

/// The flags that all verbs have and that take a value.
const WITH_VALUE: [(&str, Fate); 13] = [
    ("endpoints", Fate::Served),
    ("cacert", Fate::Served),
    ("cert", Fate::Served),
    ("key", Fate::Served),
    ("user", Fate::Served),
    ("password", Fate::Served),
    ("command-timeout", Fate::Served),
    ("dial-timeout", Fate::Served),
    ("write-out", Fate::Served),
    ("keepalive-time", Fate::Idle),
    ("keepalive-timeout", Fate::Idle),
    ("discovery-srv", Fate::Served),
    ("discovery-srv-name", Fate::Served),
];

/// Those that are on or off.
const SWITCHES: [(&str, Fate); 5] = [
    ("insecure-skip-tls-verify", Fate::Served),
    ("insecure-discovery", Fate::On),
    ("debug", Fate::Idle),
    ("hex", Fate::Served),
    (
        "insecure-transport",
        Fate::Refused("TLS is spoken where an endpoint begins with https://, or a file is named"),
    ),
];

/// What is done about a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Served,
    /// A switch that is on if nobody says.
    On,
    Idle,
    /// If it asks for something else than what is so anyway: a switch, if it is off.
    Refused(&'static str),
}

/// A command line, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// The verb and what is its own, up to `--`.
    pub(super) own: Vec<OsString>,
    /// `--` and what follows.
    pub(super) rest: Vec<OsString>,
    /// The flags that all verbs have.
    common: Vec<OsString>,
    /// Their names, of all that are there.
    given: Vec<&'static str>,
    /// What the output shall look like.
    pub(super) format: String,
}

/// Why a command line cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WordsError {
    /// A flag is not as Go reads it.
    #[error(transparent)]
    Go(#[from] GoWordsError),
    /// A time that has no effect, and is none.
    #[error("invalid argument \"{found}\" for \"--{flag}\" flag: expected a time such as 2s")]
    NoTime {
        /// Which.
        flag: &'static str,
        /// What it is instead.
        found: String,
    },
    /// A flag that must not be ignored.
    #[error("--{flag} cannot be followed: {because}")]
    Refused {
        /// Which.
        flag: &'static str,
        /// Why not.
        because: &'static str,
    },
}

impl Words {
    /// Takes the words behind the program's name apart.
    ///
    /// # Errors
    ///
    /// [`WordsError`].
    pub(super) fn read(words: &[OsString]) -> Result<Self, WordsError> {
        let default = env::var("ETCDCTL_WRITE_OUT").ok().filter(|text| !text.is_empty());
        let mut found =
            Self { format: default.unwrap_or_else(|| "simple".to_owned()), ..Self::default() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                found.rest.push(word.clone());
                found.rest.extend(words.cloned());
                break;
            }
            let Some((flag, fate, value)) = common_flag(word) else {
                found.own.push(word.clone());
                continue;
            };
            found.given.push(flag);
            let is_switch = SWITCHES.iter().any(|(switch, _)| *switch == flag);
            let value = match value {
                Some(value) => value,
                None if is_switch => "true".into(),
                None => {
                    let missing = GoWordsError::NoValue { flag: flag.to_owned() };
                    words.next().cloned().ok_or(missing)?
                }
            };
            if is_switch {
                found.heed_switch(flag, fate, &value)?;
            } else {
                found.heed(flag, fate, &value)?;
            }
        }
        Ok(found)
    }

    fn heed_switch(
        &mut self,
        flag: &'static str,
        fate: Fate,
        value: &OsStr,
    ) -> Result<(), WordsError> {
        let found = value.to_string_lossy();
        let wrong =
            || GoWordsError::NoBoolean { flag: flag.to_owned(), found: found.clone().into_owned() };
        let is_on = go::boolean(&found).ok_or_else(wrong)?;
        match fate {
            Fate::Refused(because) if !is_on => Err(WordsError::Refused { flag, because }),
            Fate::Idle | Fate::Refused(_) => Ok(()),
            Fate::Served | Fate::On => {
                let is_default = is_on == (fate == Fate::On);
                let value = if fate == Fate::On { "=false" } else { "" };
                let word = OsString::from(format!("--{flag}{value}"));
                self.common.retain(|other| *other != word);
                self.common.extend((!is_default).then_some(word));
                Ok(())
            }
        }
    }

    fn heed(&mut self, flag: &'static str, fate: Fate, value: &OsStr) -> Result<(), WordsError> {
        match fate {
            Fate::Idle => {
                let found = value.to_string_lossy().into_owned();
                if go::duration(&found).is_none() {
                    return Err(WordsError::NoTime { flag, found });
                }
            }
            Fate::Refused(because) => return Err(WordsError::Refused { flag, because }),
            Fate::Served if flag == "write-out" => {
                self.format = value.to_string_lossy().into_owned();
            }
            Fate::Served | Fate::On => {
                let mut word = OsString::from(format!("--{flag}="));
                word.push(value);
                self.common.push(word);
            }
        }
        Ok(())
    }

    /// Makes the verb's own flags those that clap reads.
    ///
    /// # Errors
    ///
    /// [`WordsError::Go`].
    pub(super) fn settle(&mut self, command: &Command) -> Result<(), WordsError> {
        self.own = settle(command, mem::take(&mut self.own))?;
        Ok(())
    }

    /// Whether a switch of the verb's own is on.
    pub(super) fn has(&self, switch: &str) -> bool {
        self.own.iter().any(|word| word == switch)
    }

    /// A variable that says what a flag says, too; `is_set` tells of a variable whether it is there, be it empty.
    pub(super) fn shadowed(&self, is_set: impl Fn(&str) -> bool) -> Option<String> {
        let variable = |flag: &&str| format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"));
        self.given.iter().map(variable).find(|variable| is_set(variable))
    }

    /// The words of the verb that are no flags, up to `count`.
    pub(super) fn verb(&self, count: usize) -> Vec<&str> {
        let words = self.own.iter().filter_map(|word| word.to_str());
        words.filter(|word| !word.starts_with('-')).take(count).collect()
    }

    /// The command line for our verbs; `has_format` says whether this one has formats, and `is_offline`
    /// whether it asks nobody.
    pub(super) fn ours(self, has_format: bool, is_offline: bool) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["etcdctl".into()];
        words.extend(self.own);
        if !is_offline {
            words.extend(self.common);
        }
        if has_format {
            words.push(format!("--write-out={}", self.format).into());
        }
        words.extend(self.rest);
        words
    }
}

/// A flag that all verbs have, and its value if that is in the same word.
fn common_flag(word: &OsStr) -> Option<(&'static str, Fate, Option<OsString>)> {
    let text = word.to_str()?;
    if text == "-d" || text.starts_with("-d=") {
        let value = text.strip_prefix("-d=").map(Into::into);
        let (flag, fate) = WITH_VALUE.iter().find(|(flag, _)| *flag == "discovery-srv")?;
        return Some((*flag, *fate, value));
    }
    if let Some(value) = text.strip_prefix("-w") {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Some(("write-out", Fate::Served, (!value.is_empty()).then(|| value.into())));
    }
    let bare = text.strip_prefix("--")?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (bare, None),
    };
    let (flag, fate) = WITH_VALUE.iter().chain(&SWITCHES).find(|(flag, _)| *flag == name)?;
    Some((*flag, *fate, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Words, WordsError> {
        Words::read(&text.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn ours(text: &str) -> String {
        let words = read(text).unwrap().ours(true, false);
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_flags_of_all_verbs_may_stand_anywhere() {
        let expected = "etcdctl member list --endpoints=a:1 --user=root:x --write-out=json";
        for line in [
            "--endpoints a:1 --user root:x -w json member list",
            "member list --endpoints=a:1 --user=root:x -w=json",
            "member --endpoints a:1 list --user root:x --write-out json",
            "member list --endpoints a:1 -wjson --hex=false --user root:x --debug",
        ] {
            assert_eq!(ours(line), expected, "{line}");
        }
    }

    #[test]
    fn behind_two_dashes_nothing_is_a_flag() {
        let expected = "etcdctl put --lease=1 --write-out=simple -- --user -w";
        assert_eq!(ours("put --lease=1 -- --user -w"), expected);
    }

    #[test]
    fn who_asks_nobody_needs_no_endpoints() {
        let words = read("snapshot status f --endpoints a:1").unwrap().ours(true, true);
        assert_eq!(words, ["etcdctl", "snapshot", "status", "f", "--write-out=simple"]);
    }

    #[test]
    fn a_variable_that_a_flag_shadows_is_found_for_each_of_them() {
        let shadowed = |line: &str, name: &str| read(line).unwrap().shadowed(|it| it == name);
        let taken = WITH_VALUE.iter().filter(|(_, fate)| !matches!(fate, Fate::Refused(_)));
        let taken =
            taken.map(|(flag, _)| (*flag, "=1s")).chain(SWITCHES.map(|(flag, _)| (flag, "")));
        for (flag, value) in taken {
            let variable = format!("ETCDCTL_{}", flag.to_uppercase().replace('-', "_"));
            let line = format!("get --{flag}{value} a");
            assert_eq!(shadowed(&line, &variable), Some(variable.clone()), "{line}");
            assert_eq!(shadowed("get a", &variable), None);
            assert_eq!(shadowed(&format!("get -- --{flag}{value}"), &variable), None);
        }
        let found = shadowed("get a -w json", "ETCDCTL_WRITE_OUT");
        assert_eq!(found.as_deref(), Some("ETCDCTL_WRITE_OUT"));
        assert_eq!(shadowed("get a -w json", "QUORATE_WRITE_OUT"), None);
    }

    #[test]
    fn a_domain_is_named_by_a_long_flag_or_a_short_one() {
        let expected = "etcdctl get a --discovery-srv=example.com --write-out=simple";
        for line in
            ["-d example.com get a", "get a -d=example.com", "get --discovery-srv example.com a"]
        {
            assert_eq!(ours(line), expected, "{line}");
        }
        assert!(ours("get a --insecure-discovery=F").contains("--insecure-discovery=false"));
        for line in
            ["get a --insecure-discovery", "get a --insecure-discovery=0 --insecure-discovery=1"]
        {
            assert!(!ours(line).contains("insecure"), "{line}");
        }
    }

    #[test]
    fn a_switch_is_on_or_off() {
        assert!(ours("get a --insecure-skip-tls-verify").contains("--insecure-skip-tls-verify"));
        assert!(!ours("get a --insecure-skip-tls-verify=false").contains("--insecure"));
        assert!(
            ours("get --hex a").contains("--hex") && !ours("get a --hex=false").contains("hex")
        );
        assert!(ours("get a --hex=1").contains("--hex"));
        assert!(!ours("get a --hex --hex=F").contains("hex"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(refused("get a --endpoints"), "flag needs an argument: --endpoints");
        assert!(refused("get a --insecure-transport=false").starts_with("--insecure-transport"));
        assert!(read("get a --insecure-transport").is_ok());
        assert!(read("get a --insecure-transport=T").is_ok());
        for line in ["get a --hex=x", "get a --debug=2", "get a --insecure-discovery="] {
            assert!(refused(line).contains("expected true or false"), "{line}");
        }
        assert!(refused("get a --keepalive-time=x").contains("expected a time"));
    }
}
