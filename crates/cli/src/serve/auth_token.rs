//! What `--auth-token` says, in etcd's form: `simple`, or `jwt` and its options. Must not know how a
//! token is made.

use super::go;
use anyhow::{Context, bail};
use quorate_server::{AuthTokens, Jwt, JwtFiles};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a token is good if nothing is said, as in etcd.
const TIME_TO_LIVE: Duration = Duration::from_mins(5);

/// The options of `jwt`.
const OPTIONS: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];

/// What a token is, with the keys that are named.
///
/// # Errors
///
/// If it says something else, or a file has no such key.
pub(super) fn auth_tokens(text: &str) -> anyhow::Result<AuthTokens> {
    tokens(text).context("--auth-token")
}

fn tokens(text: &str) -> anyhow::Result<AuthTokens> {
    let (kind, options) = text.split_once(',').unwrap_or((text, ""));
    match kind {
        "simple" if options.is_empty() => Ok(AuthTokens::Simple),
        "simple" => bail!("expected nothing behind `simple`, found `{options}`"),
        "jwt" => {
            let jwt = Jwt::load(&files(options)?)?;
            if !jwt.can_sign() {
                tracing::warn!(
                    "--auth-token names no priv-key: this member verifies tokens, and nobody can \
                     log in with it"
                );
            }
            Ok(AuthTokens::Jwt(Arc::new(jwt)))
        }
        other => {
            bail!("expected `simple`, or `jwt,sign-method=...,priv-key=FILE`, found `{other}`")
        }
    }
}

fn files(text: &str) -> anyhow::Result<JwtFiles> {
    let mut options = BTreeMap::new();
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let Some((name, value)) = option.split_once('=') else {
            bail!("expected OPTION=VALUE, found `{option}`");
        };
        if !OPTIONS.contains(&name) {
            bail!("expected one of the options {}, found `{name}`", OPTIONS.join(", "));
        }
        if options.insert(name, value).is_some() {
            bail!("expected {name} once, found it twice");
        }
    }
    let mut option = |name: &str| options.remove(name).filter(|value: &&str| !value.is_empty());
    let Some(method) = option("sign-method") else {
        bail!("expected sign-method=METHOD, as in sign-method=RS256, found none");
    };
    let time_to_live = match option("ttl") {
        None => TIME_TO_LIVE,
        Some(text) => match go::duration(text) {
            Some(time) if time >= Duration::from_secs(1) => time,
            Some(_) | None => bail!("ttl: expected a time of 1s or more, as in 5m, found `{text}`"),
        },
    };
    Ok(JwtFiles {
        sign_method: method.parse().context("sign-method")?,
        public_key: option("pub-key").map(PathBuf::from),
        private_key: option("priv-key").map(PathBuf::from),
        time_to_live,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        format!("{:#}", auth_tokens(text).unwrap_err())
    }

    #[test]
    fn simple_tokens_have_no_options() {
        assert_eq!(auth_tokens("simple").unwrap(), AuthTokens::Simple);
        assert_eq!(
            refusal("simple,ttl=5m"),
            "--auth-token: expected nothing behind `simple`, found `ttl=5m`"
        );
        for other in ["", "JWT", "nop"] {
            assert!(refusal(other).starts_with("--auth-token: expected `simple`, or `jwt,"));
        }
    }

    #[test]
    fn the_options_of_jwt_are_etcds() {
        let read = files("pub-key=a,sign-method=RS256,ttl=1h30m,priv-key=b").unwrap();
        assert_eq!((read.public_key, read.private_key), (Some("a".into()), Some("b".into())));
        assert_eq!(
            (read.sign_method.name(), read.time_to_live),
            ("RS256", Duration::from_mins(90))
        );
        let read = files("sign-method=EdDSA,priv-key=b,pub-key=").unwrap();
        assert_eq!((read.public_key, read.time_to_live), (None, TIME_TO_LIVE));
    }

    #[test]
    fn a_refusal_says_which_option_is_wrong() {
        for (text, expected) in [
            ("jwt", "expected sign-method=METHOD, as in sign-method=RS256, found none"),
            ("jwt,sign-method", "expected OPTION=VALUE, found `sign-method`"),
            ("jwt,sign-method=none", "sign-method: expected one of HS256, "),
            ("jwt,ttl=5m,ttl=6m,sign-method=RS256", "expected ttl once, found it twice"),
            ("jwt,key=x", "expected one of the options sign-method, pub-key, priv-key, ttl"),
            ("jwt,sign-method=RS256,ttl=0", "ttl: expected a time of 1s or more"),
            ("jwt,sign-method=RS256,ttl=-5m", "ttl: expected a time of 1s or more"),
            ("jwt,sign-method=RS256", "sign-method=RS256: expected priv-key=FILE"),
            ("jwt,sign-method=RS256,pub-key=/none/k.pem", "cannot read a key in /none/k.pem"),
        ] {
            let said = refusal(text);
            assert!(said.starts_with(&format!("--auth-token: {expected}")), "{said}");
        }
    }
}
