//! Who somebody is, as this member finds out: passwords, tokens of two kinds, and names in certificates.
//! Must not know what anybody may do: that is replicated, and the store's to say.

mod holders;
mod jwt;
mod passwords;
mod tokens;

pub use holders::AuthTokens;
pub use jwt::{Jwt, JwtError, JwtFiles, SignMethod, UnknownSignMethod};

pub(crate) use holders::Tokens;
pub(crate) use jwt::IssueError;
pub(crate) use passwords::Passwords;
pub(crate) use tokens::fresh_prefix;
