//! On whose behalf a request is made, by what came with it: a token of the kind that this member knows,
//! or the name in a certificate. Must not know what anybody may do.

use super::jwt::Jwt;
use super::tokens::{SimpleTokens, made_at};
use crate::caller::Caller;
use quorate_kv::auth::AuthNews;
use quorate_kv::{Access, AuthState};
use std::sync::Arc;
use std::time::Duration;

/// What a token is.
#[derive(Clone, Debug, Default)]
pub enum AuthTokens {
    /// Letters that nobody can guess, which all members keep.
    #[default]
    Simple,
    /// Something signed, which nobody keeps.
    Jwt(Arc<Jwt>),
}

impl PartialEq for AuthTokens {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Simple, Self::Simple) => true,
            (Self::Jwt(one), Self::Jwt(other)) => Arc::ptr_eq(one, other),
            (Self::Simple, Self::Jwt(_)) | (Self::Jwt(_), Self::Simple) => false,
        }
    }
}

impl Eq for AuthTokens {}

/// Whom the tokens stand for that this member gives.
pub(crate) enum Tokens {
    Simple(SimpleTokens),
    Jwt(Arc<Jwt>),
}

impl Tokens {
    /// None yet; simple ones will be good for so long after their last use.
    pub(crate) fn new(kind: &AuthTokens, time_to_live: Duration) -> Self {
        match kind {
            AuthTokens::Simple => Self::Simple(SimpleTokens::new(time_to_live)),
            AuthTokens::Jwt(jwt) => Self::Jwt(Arc::clone(jwt)),
        }
    }

    /// Something happened to tokens that are kept.
    pub(crate) fn hear(&self, news: &[AuthNews]) {
        match self {
            Self::Simple(tokens) => tokens.hear(news),
            // What ends them is in them: their time, and the revision that has passed.
            Self::Jwt(_) => {}
        }
    }

    /// What makes tokens, if the log does not.
    pub(crate) fn jwt(&self) -> Option<&Jwt> {
        match self {
            Self::Simple(_) => None,
            Self::Jwt(jwt) => Some(jwt),
        }
    }

    /// On whose behalf `caller` asks, with users and roles as they are in `auth`, which was read
    /// before: a token that is dropped in between is of a revision that has passed. `None` for a token
    /// that nobody is known to have. While users are off everybody is nobody, whatever token comes:
    /// clients go on sending theirs.
    pub(crate) fn access_of(&self, caller: &Caller, auth: &AuthState) -> Option<Access> {
        if !auth.is_enabled() {
            return Some(Access::Nobody);
        }
        let now = auth.revision();
        let Some(token) = caller.token() else {
            let named = |name: &str| Access::User { name: name.into(), revision: now };
            return Some(caller.common_name().map_or(Access::Nobody, named));
        };
        match self {
            Self::Simple(tokens) => {
                let name = tokens.user_of(token)?;
                Some(Access::User { name: name.as_ref().into(), revision: now })
            }
            Self::Jwt(jwt) => {
                let holder = jwt.holder_of(token)?;
                // One that is still to come is not known here yet, or of another cluster.
                (holder.revision <= now)
                    .then_some(Access::User { name: holder.user, revision: holder.revision })
            }
        }
    }

    /// Whether another member may have made the token with what this one has not applied yet: it has
    /// applied the log up to `applied`, and users and roles are as in `auth`.
    pub(crate) fn is_ahead(&self, token: &str, applied: u64, auth: &AuthState) -> bool {
        match self {
            Self::Simple(_) => made_at(token).is_some_and(|index| index > applied),
            Self::Jwt(jwt) => {
                jwt.holder_of(token).is_some_and(|holder| holder.revision > auth.revision())
            }
        }
    }
}
