//! The tokens that were made through the log, as this member has heard of them: whose they are, and
//! until when they are good here. Must not know who may do what.
//!
//! Every member hears of every token. How long one is good is each member's own: from its last use
//! here, so that a client which goes on asking need not log in again.

use quorate_kv::auth::AuthNews;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many tokens are good at the same time; with one more, the one that ends first goes.
const TOKENS_COUNT_MAX: usize = 65_536;

/// How many letters a token begins with, as in etcd.
const PREFIX_LETTERS: usize = 16;

/// How many bytes of a token's digest stand for it in a log line.
const FINGERPRINT_BYTES: usize = 4;

/// See the module.
pub(crate) struct SimpleTokens {
    table: Mutex<Table>,
    time_to_live: Duration,
}

struct Token {
    user: Arc<str>,
    ends: Instant,
}

#[derive(Default)]
struct Table {
    tokens: HashMap<Arc<str>, Token>,
    /// Every token with the end that it had when it was looked at last: it may end later by now.
    ends: BTreeSet<(Instant, Arc<str>)>,
}

impl SimpleTokens {
    /// None yet; each will be good for so long after its last use.
    pub(crate) fn new(time_to_live: Duration) -> Self {
        Self { table: Mutex::default(), time_to_live }
    }

    /// Whose token that is, if it is one. It is good for longer then.
    pub(crate) fn user_of(&self, token: &str) -> Option<Arc<str>> {
        self.user_at(token, Instant::now())
    }

    fn user_at(&self, token: &str, now: Instant) -> Option<Arc<str>> {
        let mut table = self.lock();
        let found = table.tokens.get_mut(token).filter(|found| now < found.ends)?;
        found.ends = now + self.time_to_live;
        Some(Arc::clone(&found.user))
    }

    /// Something happened to tokens.
    pub(crate) fn hear(&self, news: &[AuthNews]) {
        self.hear_at(news, Instant::now());
    }

    fn hear_at(&self, news: &[AuthNews], now: Instant) {
        let mut table = self.lock();
        for one in news {
            match one {
                AuthNews::Assigned { user, token } => {
                    tracing::debug!(user, token = fingerprint(token), "a user has a token");
                    table.make_room(now);
                    table.add(token, user, now + self.time_to_live);
                }
                AuthNews::Dropped { user } => table.drop_of(user),
                AuthNews::AllDropped => *table = Table::default(),
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn count(&self) -> usize {
        let table = self.lock();
        assert_eq!(table.tokens.len(), table.ends.len());
        table.tokens.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, token: &str, user: &str, ends: Instant) {
        let token: Arc<str> = token.into();
        let known = Token { user: user.into(), ends };
        // A log that is applied anew after a snapshot may make one again.
        if self.tokens.insert(Arc::clone(&token), known).is_some() {
            self.ends.retain(|(_, other)| *other != token);
        }
        self.ends.insert((ends, token));
    }

    /// Forgets those that have ended, and the one that ends next if there are too many.
    fn make_room(&mut self, now: Instant) {
        while let Some((noted, token)) = self.ends.pop_first() {
            let Some(known) = self.tokens.get(&token) else { continue };
            if known.ends > noted {
                // It was used since.
                self.ends.insert((known.ends, token));
                continue;
            }
            if noted > now && self.tokens.len() < TOKENS_COUNT_MAX {
                self.ends.insert((noted, token));
                return;
            }
            self.tokens.remove(&token);
        }
    }

    fn drop_of(&mut self, user: &str) {
        self.tokens.retain(|_, token| token.user.as_ref() != user);
        let Self { tokens, ends } = self;
        ends.retain(|(_, token)| tokens.contains_key(token));
    }
}

/// The place in the log that made a token; `None` of what cannot be one.
pub(crate) fn made_at(token: &str) -> Option<u64> {
    let (prefix, index) = token.split_once('.')?;
    if prefix.is_empty() { None } else { index.parse().ok() }
}

/// Letters that nobody can guess.
///
/// # Errors
///
/// If the system has no randomness to give.
pub(crate) fn fresh_prefix() -> Result<String, getrandom::Error> {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut prefix = String::with_capacity(PREFIX_LETTERS);
    while prefix.len() < PREFIX_LETTERS {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        // Six bits of a byte; what is no letter is no choice, so that all are as likely.
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        let wanted = PREFIX_LETTERS - prefix.len();
        prefix.extend(letters.take(wanted).map(|letter| char::from(*letter)));
    }
    Ok(prefix)
}

/// What stands for a token in a log line.
pub(crate) fn fingerprint(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().take(FINGERPRINT_BYTES).fold(String::new(), |mut text, byte| {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME_TO_LIVE: Duration = Duration::from_mins(5);

    fn assigned(user: &str, token: &str) -> AuthNews {
        AuthNews::Assigned { user: user.to_owned(), token: token.to_owned() }
    }

    fn user_of(tokens: &SimpleTokens, token: &str, now: Instant) -> Option<String> {
        tokens.user_at(token, now).map(|user| user.to_string())
    }

    #[test]
    fn a_used_token_lives_on_and_an_idle_one_dies() {
        let (tokens, mut now) = (SimpleTokens::new(TIME_TO_LIVE), Instant::now());
        tokens.hear_at(&[assigned("alice", "a.1"), assigned("bob", "b.2")], now);
        for _ in 0..5 {
            now += TIME_TO_LIVE.saturating_sub(Duration::from_secs(1));
            assert_eq!(user_of(&tokens, "a.1", now).as_deref(), Some("alice"));
        }
        assert_eq!(user_of(&tokens, "b.2", now), None);
        assert_eq!(tokens.count(), 2, "forgotten when somebody needs its place");
        tokens.hear_at(&[assigned("bob", "b.3")], now);
        assert_eq!(tokens.count(), 2);
        now += TIME_TO_LIVE;
        assert_eq!(user_of(&tokens, "a.1", now), None, "at the very moment");
    }

    #[test]
    fn a_token_is_good_until_it_is_dropped() {
        let (tokens, now) = (SimpleTokens::new(TIME_TO_LIVE), Instant::now());
        let three = [assigned("a", "a.1"), assigned("b", "b.2"), assigned("a", "a.3")];
        tokens.hear_at(&three, now);
        tokens.hear_at(&three[..1], now);
        assert_eq!(tokens.count(), 3, "one that comes twice is one");
        assert_eq!(user_of(&tokens, "a.2", now), None);
        tokens.hear_at(&[AuthNews::Dropped { user: "a".to_owned() }, assigned("a", "a.4")], now);
        assert_eq!(user_of(&tokens, "a.1", now).or(user_of(&tokens, "a.3", now)), None);
        assert_eq!(user_of(&tokens, "a.4", now).as_deref(), Some("a"));
        assert_eq!(user_of(&tokens, "b.2", now).as_deref(), Some("b"));
        tokens.hear_at(&[AuthNews::AllDropped, assigned("c", "c.5")], now);
        assert_eq!((tokens.count(), user_of(&tokens, "c.5", now).as_deref()), (1, Some("c")));
    }

    #[test]
    fn with_too_many_the_one_that_ends_first_goes() {
        let (tokens, mut now) = (SimpleTokens::new(TIME_TO_LIVE), Instant::now());
        for number in 0..TOKENS_COUNT_MAX {
            tokens.hear_at(&[assigned("u", &format!("t.{number}"))], now);
        }
        now += Duration::from_secs(1);
        assert!(user_of(&tokens, "t.0", now).is_some());
        for number in 0..10 {
            tokens.hear_at(&[assigned("u", &format!("late.{number}"))], now);
        }
        assert_eq!(tokens.count(), TOKENS_COUNT_MAX);
        assert!(user_of(&tokens, "t.0", now).is_some(), "it was used");
        assert!(user_of(&tokens, "late.0", now).is_some());
    }

    #[test]
    fn a_token_says_where_it_was_made() {
        assert_eq!(made_at("abc.17"), Some(17));
        for other in ["", "abc", ".17", "abc.", "abc.x", "abc.-1", "a.1.2"] {
            assert_eq!(made_at(other), None, "{other}");
        }
    }

    #[test]
    fn prefixes_are_letters_and_differ() {
        let prefixes: BTreeSet<String> = (0..200).map(|_| fresh_prefix().unwrap()).collect();
        assert_eq!(prefixes.len(), 200);
        let is_fine = |prefix: &String| {
            prefix.len() == PREFIX_LETTERS && prefix.bytes().all(|byte| byte.is_ascii_alphabetic())
        };
        assert!(prefixes.iter().all(is_fine));
    }

    #[test]
    fn a_fingerprint_is_short_and_no_part_of_the_token() {
        assert_eq!(fingerprint("abc.17").len(), 8);
        assert_ne!(fingerprint("abc.17"), fingerprint("abc.18"));
    }
}
