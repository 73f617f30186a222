//! What happens to tokens, for whoever keeps them: in the order of the log, on the thread that
//! applies it, before anybody can read a state that includes it. Must not know what a token is for.

use crate::reader::Reader;
use crate::store::Observer;
use std::fmt;
use std::sync::Arc;

/// Something that happened to tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthNews {
    /// There is a new one.
    Assigned {
        /// Whose it is.
        user: String,
        /// Which one it is.
        token: String,
    },
    /// A user's are no longer good.
    Dropped {
        /// Whose they were.
        user: String,
    },
    /// None is good any longer.
    AllDropped,
}

/// Without the token.
impl fmt::Debug for AuthNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned { user, .. } => write!(f, "Assigned({user:?})"),
            Self::Dropped { user } => write!(f, "Dropped({user:?})"),
            Self::AllDropped => write!(f, "AllDropped"),
        }
    }
}

/// Tells somebody of tokens for as long as it lives.
pub struct AuthFeed {
    _board: Arc<dyn Observer>,
}

struct Board<F> {
    listen: F,
}

impl AuthFeed {
    /// Calls `listen` with what happens from now on in the store that `reader` reads. It is called
    /// on the thread that applies the log: it must be quick.
    #[must_use]
    pub fn new(reader: &Reader, listen: impl Fn(&[AuthNews]) + Send + Sync + 'static) -> Self {
        let board: Arc<dyn Observer> = Arc::new(Board { listen });
        reader.shared().observe(Arc::downgrade(&board));
        Self { _board: board }
    }
}

impl<F: Fn(&[AuthNews]) + Send + Sync> Observer for Board<F> {
    fn published(&self) {}

    fn compacting(&self) {}

    fn auth_news(&self, news: &[AuthNews]) {
        (self.listen)(news);
    }

    /// Which tokens the new state's log has made is not known.
    fn replaced(&self) {
        (self.listen)(&[AuthNews::AllDropped]);
    }
}
