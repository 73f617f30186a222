//! Who somebody is, as this member finds out: passwords and tokens. Must not know what anybody may
//! do: that is replicated, and the store's to say.

mod passwords;
mod tokens;

pub(crate) use passwords::Passwords;
pub(crate) use tokens::{Tokens, fresh_prefix, made_at};
