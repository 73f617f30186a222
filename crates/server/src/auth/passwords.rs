//! Hashes of passwords, as etcd makes them: slow on purpose, and therefore few at a time, on threads
//! of their own. Must not know whose they are; nothing here keeps or prints a password.

use crate::errors::{AuthRejection, Rejection};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How many hashes are computed at the same time. Whoever wants one more waits.
const HASHES_COUNT_MAX: usize = 2;

/// The longest password that bcrypt looks at as a whole, in bytes.
const PASSWORD_BYTES_MAX: usize = 72;

/// How long the salt and the digest of a hash are together, in letters.
const DIGEST_LETTERS: usize = 53;

/// See the module.
pub(crate) struct Passwords {
    /// The binary logarithm of the rounds.
    cost: u32,
    /// What a password is compared with that is nobody's: the same work as for somebody's, so that
    /// the time tells nobody who exists.
    nobodys: String,
    places: Arc<Semaphore>,
}

impl Passwords {
    /// Hashes of this cost. What is compared has the cost that it was made with.
    pub(crate) fn new(cost: u32) -> Self {
        // Zeros throughout, as bcrypt writes them: found by no password within the age of the world.
        let nobodys = format!("$2a${cost:02}${}", ".".repeat(DIGEST_LETTERS));
        Self { cost, nobodys, places: Arc::new(Semaphore::new(HASHES_COUNT_MAX)) }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    ///
    /// [`AuthRejection::PasswordTooLong`], or the general ones.
    pub(crate) async fn hash(
        &self,
        password: String,
        deadline: Instant,
    ) -> Result<Bytes, Rejection> {
        if password.len() > PASSWORD_BYTES_MAX || password.contains('\0') {
            return Err(AuthRejection::PasswordTooLong.into());
        }
        let cost = self.cost;
        let hashed = self.apart(deadline, move || bcrypt::hash_with_result(password, cost)).await?;
        let parts = hashed.map_err(|error| {
            tracing::error!(%error, "a password cannot be hashed");
            Rejection::Internal
        })?;
        // The version that Go's implementation writes.
        Ok(parts.format_for_version(bcrypt::Version::TwoA).into())
    }

    /// Whether the password is the one that was hashed. Takes as long if there is no hash.
    ///
    /// # Errors
    ///
    /// The general ones.
    pub(crate) async fn compare(
        &self,
        password: String,
        hash: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<bool, Rejection> {
        let hash = hash.and_then(|hash| std::str::from_utf8(hash).ok());
        let is_somebodys = hash.is_some();
        let hash = hash.unwrap_or(&self.nobodys).to_owned();
        let verified = self.apart(deadline, move || bcrypt::verify(password, &hash)).await?;
        // What is no hash matches nothing.
        Ok(is_somebodys && verified.unwrap_or(false))
    }

    async fn apart<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout_at(deadline, place).await else {
            return Err(Rejection::TooManyRequests);
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // Not sooner: whoever asked may be gone, and the work is not.
            drop(place);
            done
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "a hash was not finished");
            Rejection::Internal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(10)
    }

    fn cheap() -> Passwords {
        Passwords::new(4)
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_alone() {
        let passwords = cheap();
        let hash = passwords.hash("secret".to_owned(), soon()).await.unwrap();
        assert!(hash.starts_with(b"$2a$04$"), "as etcd writes it");
        for (password, expected) in [("secret", true), ("Secret", false), ("", false)] {
            let matches = passwords.compare(password.to_owned(), Some(&hash), soon()).await;
            assert_eq!(matches.unwrap(), expected, "{password}");
        }
        let again = passwords.hash("secret".to_owned(), soon()).await.unwrap();
        assert_ne!(hash, again, "salted");
    }

    #[tokio::test]
    async fn nobodys_password_matches_nothing() {
        let passwords = cheap();
        let nobodys = passwords.nobodys.clone();
        assert!(bcrypt::verify("", &nobodys).is_ok(), "the same work is done for it");
        for hash in [None, Some(&b""[..]), Some(&b"nonsense"[..]), Some(&[0xff][..])] {
            for password in ["", "secret"] {
                let matches = passwords.compare(password.to_owned(), hash, soon()).await;
                assert!(!matches.unwrap(), "{hash:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_password_that_would_be_cut_is_refused() {
        let passwords = cheap();
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        let hash = passwords.hash(longest.clone(), soon()).await.unwrap();
        assert!(passwords.compare(longest.clone(), Some(&hash), soon()).await.unwrap());
        for refused in [format!("{longest}x"), "a\0b".to_owned()] {
            let outcome = passwords.hash(refused, soon()).await;
            assert!(matches!(outcome, Err(Rejection::Auth(AuthRejection::PasswordTooLong))));
        }
    }

    #[tokio::test]
    async fn a_hash_of_any_version_of_today_is_known() {
        let passwords = cheap();
        let hash = passwords.hash("pässword".to_owned(), soon()).await.unwrap();
        let text = String::from_utf8(hash.to_vec()).unwrap();
        for version in ["$2a$", "$2b$", "$2y$"] {
            let other = text.replacen("$2a$", version, 1);
            let matches = passwords.compare("pässword".to_owned(), Some(other.as_bytes()), soon());
            assert!(matches.await.unwrap(), "{version}");
        }
    }
}
