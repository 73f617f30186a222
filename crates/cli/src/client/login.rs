//! As whom a verb asks: the flags, the password, and the token that stands for both once an endpoint
//! has given one. Must not know what is asked. Nothing here shows a password or a token.

use super::ask::ask;
use anyhow::bail;
use http::HeaderValue;
use quorate_etcd_api::etcdserverpb::AuthenticateRequest;
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tonic::Status;
use tonic::transport::Channel;

/// What the flags and variables say.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoginFlags {
    /// As whom to ask: NAME, or NAME:PASSWORD; a password that is not given is asked for
    // Some verbs have users of another kind.
    #[arg(
        id = "login-user",
        long = "user",
        value_name = "NAME[:PASSWORD]",
        hide_env_values = true
    )]
    user: Option<Secret>,
    /// The password of --user; others of this machine can see a command line, and not a variable
    #[arg(
        id = "login-password",
        long = "password",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    password: Option<Secret>,
    /// What came of it: a password is asked for once.
    #[arg(skip)]
    login: Arc<OnceLock<Outcome>>,
}

/// The user, if there is to be one; or why that is not known.
pub(crate) type Outcome = Result<Option<Arc<Login>>, String>;

/// What nobody shall see.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// What it is.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// A user who can show who they are.
pub(crate) struct Login {
    name: String,
    password: Secret,
    standing: Mutex<Standing>,
}

/// What is known of the login.
#[derive(Clone)]
enum Standing {
    /// Nothing.
    New,
    /// This stands for it.
    Token(HeaderValue),
    /// Nobody is asked who they are.
    Nobody,
    /// It is refused, and would be again.
    Refused(Status),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the name: somebody may have written a password behind it.
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

impl LoginFlags {
    /// The same as if the flags had said so.
    pub(crate) fn of(user: Option<Secret>, password: Option<Secret>) -> Self {
        Self { user, password, login: Arc::default() }
    }

    /// The user, if there is to be one; a password that is missing is asked for.
    ///
    /// # Errors
    ///
    /// A sentence: the flags make no sense, or nobody can be asked.
    pub(crate) fn login(&self) -> Outcome {
        let made = || match self.make() {
            Ok(login) => Ok(login.map(Arc::new)),
            Err(error) => Err(format!("{error:#}")),
        };
        self.login.get_or_init(made).clone()
    }

    /// As in etcdctl, a name with a colon is taken apart only if there is no other password.
    fn make(&self) -> anyhow::Result<Option<Login>> {
        let given = |secret: &Option<Secret>| {
            secret.as_ref().map(Secret::expose).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (user, password) = (given(&self.user), given(&self.password));
        let (name, password) = match (user, password) {
            (None, None) => return Ok(None),
            (None, Some(_)) => bail!("expected --user NAME beside --password, found none"),
            (Some(name), Some(password)) => (name, Secret(password)),
            (Some(user), None) => {
                if let Some((name, password)) = user.split_once(':') {
                    (name.to_owned(), Secret(password.to_owned()))
                } else {
                    let password = ask("Password: ")?;
                    (user, password)
                }
            }
        };
        Ok(Some(Login { name, password, standing: Mutex::new(Standing::New) }))
    }
}

impl Login {
    /// What stands for the user: asked of the endpoint behind `channel` if it is not known. `None` if
    /// nobody is asked there who they are.
    ///
    /// # Errors
    ///
    /// What the endpoint says, or why it says nothing.
    pub(crate) async fn token(&self, channel: &Channel) -> Result<Option<HeaderValue>, Status> {
        let standing = self.lock().clone();
        match standing {
            Standing::Token(token) => return Ok(Some(token)),
            Standing::Nobody => return Ok(None),
            Standing::Refused(status) => return Err(status),
            Standing::New => {}
        }
        // Not under a lock: an endpoint that is slow to answer keeps no other from it.
        let standing = self.ask(channel).await?;
        *self.lock() = standing.clone();
        match standing {
            Standing::Token(token) => Ok(Some(token)),
            Standing::Nobody | Standing::New => Ok(None),
            Standing::Refused(status) => Err(status),
        }
    }

    /// Asks an endpoint; an error is one that another endpoint, or another time, may not have.
    async fn ask(&self, channel: &Channel) -> Result<Standing, Status> {
        let (name, password) = (self.name.clone(), self.password.expose().to_owned());
        let request = AuthenticateRequest { name, password };
        match AuthClient::new(channel.clone()).authenticate(request).await {
            Ok(answer) => {
                let token = HeaderValue::try_from(answer.into_inner().token);
                let mut token = token.map_err(|_| Status::internal("the token is no text"))?;
                token.set_sensitive(true);
                Ok(Standing::Token(token))
            }
            Err(status) if status.message().contains("authentication is not enabled") => {
                Ok(Standing::Nobody)
            }
            Err(status) if status.message().contains("authentication failed") => {
                Ok(Standing::Refused(status))
            }
            Err(status) => Err(status),
        }
    }

    /// What stood for the user does no more: the next request asks anew.
    pub(crate) fn forget(&self) {
        *self.lock() = Standing::New;
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(user: Option<&str>, password: Option<&str>) -> LoginFlags {
        let secret = |text: Option<&str>| text.map(|text| Secret(text.to_owned()));
        LoginFlags { user: secret(user), password: secret(password), login: Arc::default() }
    }

    fn found(user: Option<&str>, password: Option<&str>) -> Option<(String, String)> {
        let login = flags(user, password).login().unwrap()?;
        Some((login.name.clone(), login.password.expose().to_owned()))
    }

    #[test]
    fn a_name_has_its_password_behind_a_colon_unless_there_is_another() {
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(found(None, None), None);
        assert_eq!(found(Some(""), Some("")), None, "variables that are set to nothing");
        assert_eq!(found(Some("root:a:b"), None), pair("root", "a:b"));
        assert_eq!(found(Some("root:"), None), pair("root", ""));
        assert_eq!(found(Some("a:b"), Some("c")), pair("a:b", "c"));
    }

    #[test]
    fn a_password_without_a_name_is_refused() {
        let refusal = flags(None, Some("hush")).login().unwrap_err();
        assert!(refusal.contains("--user") && !refusal.contains("hush"), "{refusal}");
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let flags = flags(Some("root:hush"), Some("hush"));
        flags.login().unwrap();
        assert!(!format!("{flags:?}").contains("hush"), "{flags:?}");
    }
}
