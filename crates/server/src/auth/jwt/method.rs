//! The ways in which a token may be signed: their names, and what each needs. Must not know where keys
//! come from.

use ring::hmac;
use ring::signature::{self, EcdsaSigningAlgorithm, RsaEncoding, VerificationAlgorithm};
use std::fmt;
use std::str::FromStr;

/// A way of signing tokens, by its name in JWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignMethod {
    /// HMAC with SHA-256: who can verify can sign.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA with SHA-256, padded as in PKCS #1 v1.5.
    Rs256,
    /// RSA with SHA-384.
    Rs384,
    /// RSA with SHA-512.
    Rs512,
    /// RSA with SHA-256, padded as in PSS.
    Ps256,
    /// RSA with SHA-384, padded as in PSS.
    Ps384,
    /// RSA with SHA-512, padded as in PSS.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// A name that is no way of signing, or none that is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected one of {}, found `{found}`{}",
    SignMethod::ALL.map(SignMethod::name).join(", "),
    if found == "ES512" { ": there is no P-521 here" } else { "" }
)]
pub struct UnknownSignMethod {
    found: String,
}

/// The kinds of keys that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// How to make a signature.
pub(super) enum Signing {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm),
    Ed25519,
}

impl SignMethod {
    /// All there are.
    const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// As in the head of a token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn key_kind(self) -> KeyKind {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyKind::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                KeyKind::Rsa
            }
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
            Self::EdDsa => KeyKind::Ed25519,
        }
    }

    pub(super) fn signing(self) -> Signing {
        match self {
            Self::Hs256 => Signing::Hmac(hmac::HMAC_SHA256),
            Self::Hs384 => Signing::Hmac(hmac::HMAC_SHA384),
            Self::Hs512 => Signing::Hmac(hmac::HMAC_SHA512),
            Self::Rs256 => Signing::Rsa(&signature::RSA_PKCS1_SHA256),
            Self::Rs384 => Signing::Rsa(&signature::RSA_PKCS1_SHA384),
            Self::Rs512 => Signing::Rsa(&signature::RSA_PKCS1_SHA512),
            Self::Ps256 => Signing::Rsa(&signature::RSA_PSS_SHA256),
            Self::Ps384 => Signing::Rsa(&signature::RSA_PSS_SHA384),
            Self::Ps512 => Signing::Rsa(&signature::RSA_PSS_SHA512),
            Self::Es256 => Signing::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::Es384 => Signing::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::EdDsa => Signing::Ed25519,
        }
    }

    /// How to look at a signature with a public key; `None` where there are no public keys.
    pub(super) fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => return None,
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::EdDsa => &signature::ED25519,
        })
    }
}

impl fmt::Display for SignMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SignMethod {
    type Err = UnknownSignMethod;

    fn from_str(text: &str) -> Result<Self, UnknownSignMethod> {
        let known = Self::ALL.into_iter().find(|method| method.name() == text);
        known.ok_or_else(|| UnknownSignMethod { found: text.to_owned() })
    }
}

impl KeyKind {
    /// What such a public key is called in X.509: the kind of key, and the curve.
    pub(super) fn of_oids(kind: &str, curve: Option<&str>) -> Option<Self> {
        match (kind, curve) {
            ("1.2.840.113549.1.1.1", _) => Some(Self::Rsa),
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Some(Self::P256),
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Some(Self::P384),
            ("1.3.101.112", _) => Some(Self::Ed25519),
            _ => None,
        }
    }

    /// In a sentence.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Secret => "a secret of at least one byte",
            Self::Rsa => "an RSA key of 2048 bits or more",
            Self::P256 => "an ECDSA key on P-256",
            Self::P384 => "an ECDSA key on P-384",
            Self::Ed25519 => "an Ed25519 key",
        }
    }
}
