//! From the files that hold keys to what signs and verifies, or to a sentence that says what is in them
//! instead. Must not know what is signed. No key is ever shown.

use super::method::{KeyKind, SignMethod, Signing};
use super::{JwtError, JwtFiles};
use ring::rand::SystemRandom;
use ring::signature::{
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey,
};
use ring::{error, hmac};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The smallest RSA key, in bits.
const RSA_BITS_MIN: usize = 2048;

/// What signs tokens and verifies them, or verifies them alone.
pub(super) struct Key {
    method: SignMethod,
    private: Option<Private>,
    /// In the form that `ring` takes; empty where there are no public keys.
    public: Vec<u8>,
}

enum Private {
    Secret(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    pub(super) fn load(files: &JwtFiles) -> Result<Self, JwtError> {
        let method = files.sign_method;
        let private =
            files.private_key.as_deref().map(|path| Private::load(path, method)).transpose()?;
        if method.key_kind() == KeyKind::Secret {
            return match private {
                Some(private) => Ok(Self { method, private: Some(private), public: Vec::new() }),
                None => Err(JwtError::NoKey { method, wanted: "priv-key=FILE with the secret" }),
            };
        }
        let given =
            files.public_key.as_deref().map(|path| load_public(path, method)).transpose()?;
        let own = private.as_ref().map(Private::public);
        let public = match (given, own) {
            (None, None) => {
                let wanted = "priv-key=FILE, or pub-key=FILE to verify tokens only";
                return Err(JwtError::NoKey { method, wanted });
            }
            (Some(given), Some(own)) if given != own => {
                let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
                return Err(JwtError::Mismatch {
                    public_key: path(&files.public_key),
                    private_key: path(&files.private_key),
                });
            }
            (Some(public), _) | (None, Some(public)) => public,
        };
        Ok(Self { method, private, public })
    }

    pub(super) const fn method(&self) -> SignMethod {
        self.method
    }

    pub(super) const fn can_sign(&self) -> bool {
        self.private.is_some()
    }

    /// The signature of a message; `None` if there is no key for it.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Option<Vec<u8>>, error::Unspecified> {
        let random = SystemRandom::new();
        Ok(Some(match &self.private {
            None => return Ok(None),
            Some(Private::Secret(key)) => hmac::sign(key, message).as_ref().to_vec(),
            Some(Private::Rsa(pair, padding)) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*padding, &random, message, &mut signature)?;
                signature
            }
            Some(Private::Ecdsa(pair)) => pair.sign(&random, message)?.as_ref().to_vec(),
            Some(Private::Ed25519(pair)) => pair.sign(message).as_ref().to_vec(),
        }))
    }

    /// Whether it is the signature of that message by this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (self.method.verification(), &self.private) {
            (Some(algorithm), _) => {
                UnparsedPublicKey::new(algorithm, &self.public).verify(message, signature)
            }
            (None, Some(Private::Secret(key))) => hmac::verify(key, message, signature),
            (None, _) => Err(error::Unspecified),
        };
        verified.is_ok()
    }
}

impl Private {
    fn load(path: &Path, method: SignMethod) -> Result<Self, JwtError> {
        let bytes = read(path)?;
        let expected = method.key_kind();
        let refused = |found: String| content(path, "private", expected, found);
        if let Signing::Hmac(algorithm) = method.signing() {
            // All of the file, as in etcd: a newline at its end is a part of the secret.
            if bytes.is_empty() {
                return Err(refused("nothing".to_owned()));
            }
            return Ok(Self::Secret(hmac::Key::new(algorithm, &bytes)));
        }
        let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| refused(in_pem(&error)))?;
        let unusable = |error: error::KeyRejected| {
            refused(format!("another one, or one that is damaged ({error})"))
        };
        let loaded = match method.signing() {
            Signing::Rsa(padding) => rsa(&der).map(|pair| Self::Rsa(pair, padding)),
            Signing::Ecdsa(algorithm) => ecdsa(algorithm, &der, expected).map(Self::Ecdsa),
            Signing::Ed25519 | Signing::Hmac(_) => {
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()).map(Self::Ed25519)
            }
        };
        loaded.map_err(unusable)
    }

    /// As [`load_public`] gives it.
    fn public(&self) -> Vec<u8> {
        match self {
            Self::Secret(_) => Vec::new(),
            Self::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            Self::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}

fn rsa(der: &PrivateKeyDer<'_>) -> Result<RsaKeyPair, error::KeyRejected> {
    if let PrivateKeyDer::Pkcs1(key) = der {
        return RsaKeyPair::from_der(key.secret_pkcs1_der());
    }
    RsaKeyPair::from_pkcs8(der.secret_der())
}

fn ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    der: &PrivateKeyDer<'_>,
    kind: KeyKind,
) -> Result<EcdsaKeyPair, error::KeyRejected> {
    let random = SystemRandom::new();
    if let PrivateKeyDer::Sec1(key) = der {
        let wrapped = pkcs8_of_sec1(key.secret_sec1_der(), kind);
        return EcdsaKeyPair::from_pkcs8(algorithm, &wrapped, &random);
    }
    EcdsaKeyPair::from_pkcs8(algorithm, der.secret_der(), &random)
}

/// What `openssl ecparam -genkey` writes (`EC PRIVATE KEY`), in the form that other keys have
/// (RFC 5958): a version, the name of the curve, and the key as it is.
fn pkcs8_of_sec1(sec1: &[u8], kind: KeyKind) -> Vec<u8> {
    const VERSION: [u8; 3] = [2, 1, 0];
    const EC_KEY: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    const SEQUENCE: u8 = 0x30;
    const OCTETS: u8 = 0x04;
    let curve = if kind == KeyKind::P384 { P384 } else { P256 };
    let named = tagged(SEQUENCE, &[EC_KEY.as_slice(), curve].concat());
    let key = tagged(OCTETS, sec1);
    tagged(SEQUENCE, &[VERSION.as_slice(), named.as_slice(), key.as_slice()].concat())
}

/// DER: what it is, how long, and the rest.
fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_be_bytes();
    let significant = length.iter().skip_while(|byte| **byte == 0).copied();
    let mut out = vec![tag];
    if body.len() >= 0x80 {
        // Files are smaller than what eight bytes can count.
        out.push(0x80 + u8::try_from(significant.clone().count()).unwrap_or_default());
    }
    out.extend(if body.is_empty() { vec![0] } else { significant.collect() });
    out.extend_from_slice(body);
    out
}

/// The public key in a file, in the form that `ring` takes; a certificate has one, too.
fn load_public(path: &Path, method: SignMethod) -> Result<Vec<u8>, JwtError> {
    let expected = method.key_kind();
    let refused = |found: String| content(path, "public", expected, found);
    let der = spki_der(&read(path)?).map_err(refused)?;
    let (_, key) = SubjectPublicKeyInfo::from_der(&der)
        .map_err(|error| refused(format!("one that is damaged ({error})")))?;
    let curve = key.algorithm.parameters.as_ref().and_then(|any| Oid::try_from(any).ok());
    let curve = curve.map(|oid| oid.to_id_string());
    let kind = key.algorithm.algorithm.to_id_string();
    match KeyKind::of_oids(&kind, curve.as_deref()) {
        Some(found) if found == expected => {}
        Some(found) => return Err(refused(found.words().to_owned())),
        None => return Err(refused("a key of another kind".to_owned())),
    }
    if let Ok(PublicKey::RSA(rsa)) = key.parsed()
        && rsa.key_size() < RSA_BITS_MIN
    {
        return Err(refused(format!("one of {} bits", rsa.key_size())));
    }
    Ok(key.subject_public_key.data.to_vec())
}

fn spki_der(pem: &[u8]) -> Result<Vec<u8>, String> {
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
        return Ok(key.as_ref().to_vec());
    }
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|error| in_pem(&error))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate)
        .map_err(|error| format!("a certificate that is damaged ({error})"))?;
    Ok(certificate.public_key().raw.to_vec())
}

/// What is in a file instead of what was expected in PEM. Nothing of the file itself.
fn in_pem(error: &tokio_rustls::rustls::pki_types::pem::Error) -> String {
    use tokio_rustls::rustls::pki_types::pem::Error;
    if matches!(error, Error::NoItemsFound) {
        return "none".to_owned();
    }
    "what is no PEM".to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>, JwtError> {
    let failed = |source| JwtError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let count = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if count as u64 > FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn content(path: &Path, which: &str, expected: KeyKind, found: String) -> JwtError {
    let words = expected.words();
    let expected = match expected {
        KeyKind::Secret => words.to_owned(),
        KeyKind::Rsa | KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => {
            format!("{words}, its {which} part, in PEM")
        }
    };
    JwtError::Content { path: path.to_owned(), expected, found }
}
