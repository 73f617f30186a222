//! Tokens that say themselves whose they are (JWT), as etcd's: signed by a member that has the key, and
//! believed by every member that can verify it, without anybody keeping them. A token is for the
//! revision of users and roles that it names. Must not know who may do what.
//!
//! Nothing of a token decides how it is verified: there is one way, which is the operator's.

mod keys;
mod method;

pub use method::{SignMethod, UnknownSignMethod};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use keys::Key;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Which keys, and how tokens are signed with them. The names are those of etcd's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtFiles {
    /// How tokens are signed.
    pub sign_method: SignMethod,
    /// What verifies them; PEM, a key or a certificate. Alone it is enough for a member that gives
    /// nobody a token.
    pub public_key: Option<PathBuf>,
    /// What signs them; PEM. With HMAC it is the secret, byte for byte.
    pub private_key: Option<PathBuf>,
    /// How long a token is good.
    pub time_to_live: Duration,
}

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Not enough files.
    #[error("sign-method={method}: expected {wanted}, found no key")]
    NoKey {
        /// How tokens are to be signed.
        method: SignMethod,
        /// What is missing.
        wanted: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read a key in {path}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file has something else in it than it should.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        expected: String,
        /// What is.
        found: String,
    },
    /// Two keys that do not belong together.
    #[error(
        "{public_key}: expected the public key of the private key in {private_key}, found another \
         one", public_key = public_key.display(), private_key = private_key.display()
    )]
    Mismatch {
        /// The one.
        public_key: PathBuf,
        /// The other.
        private_key: PathBuf,
    },
}

/// Makes tokens, and finds out whose they are.
pub struct Jwt {
    key: Key,
    time_to_live: Duration,
}

/// Why no token is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IssueError {
    /// There is only a public key.
    VerifyOnly,
    /// The system has no randomness to give.
    NoRandomness,
}

/// Whom a token names, and as of which revision of users and roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) user: Box<str>,
    pub(crate) revision: u64,
}

#[derive(Serialize)]
struct HeadOut {
    alg: &'static str,
    typ: &'static str,
}

#[derive(Serialize)]
struct ClaimsOut<'a> {
    exp: u64,
    revision: u64,
    username: &'a str,
}

#[derive(Deserialize)]
struct HeadIn<'a> {
    alg: &'a str,
    /// What one must understand to believe the token; there is nothing that we do.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ClaimsIn {
    username: Box<str>,
    revision: u64,
    /// Seconds, perhaps with a fraction.
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    ///
    /// [`JwtError`] if there are not enough, or a file has no such key.
    pub fn load(files: &JwtFiles) -> Result<Self, JwtError> {
        Ok(Self { key: Key::load(files)?, time_to_live: files.time_to_live })
    }

    /// Whether it has what makes tokens, as against looking at them.
    #[must_use]
    pub const fn can_sign(&self) -> bool {
        self.key.can_sign()
    }

    /// A token for a user, as of a revision of users and roles.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub(crate) fn issue(&self, user: &str, revision: u64) -> Result<String, IssueError> {
        let now = since_epoch(SystemTime::now()).unwrap_or_default();
        let ends = now.saturating_add(self.time_to_live);
        let head = HeadOut { alg: self.key.method().name(), typ: "JWT" };
        let claims = ClaimsOut { exp: ends.as_secs(), revision, username: user };
        let mut token = format!("{}.{}", part(&head), part(&claims));
        let signature = self.key.sign(token.as_bytes()).map_err(|_| IssueError::NoRandomness)?;
        let signature = signature.ok_or(IssueError::VerifyOnly)?;
        token.push('.');
        BASE64.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whose token that is; `None` if it is not to be believed, or not any longer.
    pub(crate) fn holder_of(&self, token: &str) -> Option<Holder> {
        self.holder_at(token, SystemTime::now())
    }

    fn holder_at(&self, token: &str, now: SystemTime) -> Option<Holder> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let head = BASE64.decode(head).ok()?;
        let HeadIn { alg, crit } = serde_json::from_slice(&head).ok()?;
        if alg != self.key.method().name() || crit.is_some() {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        if !self.key.verifies(signed.as_bytes(), &signature) {
            return None;
        }
        let claims: ClaimsIn = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        let now = since_epoch(now)?.as_secs_f64();
        let has_ended = claims.exp.is_some_and(|exp| now >= exp);
        let has_begun = [claims.nbf, claims.iat].into_iter().flatten().all(|from| from <= now);
        if has_ended || !has_begun || claims.username.is_empty() {
            return None;
        }
        Some(Holder { user: claims.username, revision: claims.revision })
    }
}

/// Without the keys.
impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Jwt");
        shown.field("method", &self.key.method()).field("can_sign", &self.can_sign());
        shown.finish_non_exhaustive()
    }
}

/// A part of a token.
fn part(content: &impl Serialize) -> String {
    // Numbers and strings always have a JSON form.
    BASE64.encode(serde_json::to_vec(content).unwrap_or_default())
}

/// `None` of a clock that has not been set: by it nothing would ever end.
fn since_epoch(now: SystemTime) -> Option<Duration> {
    now.duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests;
