//! Users, roles, and who may do what with which keys. The replicated half of it: a pure function of
//! the log, asked where commands are applied and where keys are read. Must not know passwords, how
//! somebody proves who they are, or how long a token is good.
//!
//! `docs/decisions/0019-rights-are-asked-where-they-matter.md` says how the two halves fit together.

pub mod api;
mod apply;
mod check;
mod feed;
mod grants;
mod record;
mod state;

pub use check::Access;
pub use feed::{AuthFeed, AuthNews};
pub use grants::Right;
pub use state::{AUTH_BYTES_MAX, AuthState, ROOT, Role, User};

pub(crate) use apply::apply;
pub(crate) use check::{Examiner, check};
pub(crate) use record::{read, write};
