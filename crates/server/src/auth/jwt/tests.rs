//! Every way of signing, with keys in the forms that OpenSSL writes and tokens that somebody else made;
//! what is not believed; what is said of files that cannot be used.

use super::*;
use std::path::Path;
use std::sync::Arc;

/// Made by another implementation: each with the method's name before it.
const TOKENS: &str = include_str!("../../../tests/jwt/tokens.txt");
/// Each method with a file that has its private key, and one that has the public key.
const FILES: [(&str, &str, Option<&str>); 16] = [
    ("HS256", "secret", None),
    ("HS384", "secret", None),
    ("HS512", "secret", None),
    ("RS256", "rsa.pem", Some("rsa-public.pem")),
    ("RS256", "rsa-pkcs1.pem", Some("rsa-certificate.pem")),
    ("RS384", "rsa.pem", Some("rsa-public.pem")),
    ("RS512", "rsa.pem", Some("rsa-public.pem")),
    ("PS256", "rsa.pem", Some("rsa-certificate.pem")),
    ("PS384", "rsa-pkcs1.pem", Some("rsa-public.pem")),
    ("PS512", "rsa.pem", Some("rsa-public.pem")),
    ("ES256", "p256.pem", Some("p256-public.pem")),
    ("ES384", "p384.pem", Some("p384-public.pem")),
    ("ES384", "p384-sec1.pem", Some("p384-public.pem")),
    ("ES384", "p384-sec1.pem", None),
    ("EdDSA", "ed25519.pem", Some("ed25519-public.pem")),
    ("EdDSA", "ed25519.pem", None),
];

fn file(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jwt")).join(name)
}

fn files(method: &str, private: Option<&str>, public: Option<&str>) -> JwtFiles {
    JwtFiles {
        sign_method: method.parse().unwrap(),
        private_key: private.map(file),
        public_key: public.map(file),
        time_to_live: Duration::from_mins(5),
    }
}

fn jwt(method: &str, private: Option<&str>, public: Option<&str>) -> Jwt {
    Jwt::load(&files(method, private, public)).unwrap()
}

fn refusal(method: &str, private: Option<&str>, public: Option<&str>) -> String {
    let error = Jwt::load(&files(method, private, public)).unwrap_err();
    error.to_string().replace(&format!("{}/", file("").display()).replace("//", "/"), "")
}

fn token_by(method: &str) -> &'static str {
    let line = TOKENS.lines().find(|line| line.starts_with(&format!("{method} "))).unwrap();
    line.split_once(' ').unwrap().1
}

fn alice(revision: u64) -> Holder {
    Holder { user: "alice".into(), revision }
}

/// A token with these parts, signed as `jwt` signs.
fn signed(jwt: &Jwt, head: &str, claims: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
    let signature = jwt.key.sign(signed.as_bytes()).unwrap().unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}

#[test]
fn every_method_believes_its_own_tokens_and_those_of_another_implementation() {
    for (method, private, public) in FILES {
        let jwt = jwt(method, Some(private), public);
        assert!(jwt.can_sign());
        let token = jwt.issue("alice", 7).unwrap();
        assert_eq!(jwt.holder_of(&token), Some(alice(7)), "{method} {private}");
        assert_eq!(jwt.holder_of(token_by(method)), Some(alice(7)), "{method} {private}");
        let Some(public) = public else { continue };
        let other = Jwt::load(&files(method, None, Some(public))).unwrap();
        assert_eq!(other.holder_of(&token), Some(alice(7)), "with the public key alone, {method}");
        assert_eq!(other.issue("alice", 7), Err(IssueError::VerifyOnly));
        assert!(!other.can_sign());
    }
}

#[test]
fn no_token_of_another_method_is_believed() {
    for (method, private, public) in FILES {
        let jwt = jwt(method, Some(private), public);
        for (other, _, _) in FILES.iter().filter(|(other, _, _)| *other != method) {
            assert_eq!(jwt.holder_of(token_by(other)), None, "{other} for {method}");
        }
    }
}

#[test]
fn a_token_without_a_signature_is_nobodys() {
    let jwt = jwt("RS256", Some("rsa.pem"), None);
    let claims = BASE64.encode(r#"{"username":"root","revision":7}"#);
    for alg in ["none", "None", "NONE", "", "RS256"] {
        let head = BASE64.encode(format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
        for signature in ["", "AA"] {
            let token = format!("{head}.{claims}.{signature}");
            assert_eq!(jwt.holder_of(&token), None, "{alg} {signature}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    // As if the file with the public key were the secret of HMAC: its bytes are known to everybody.
    let forger = jwt("HS256", Some("rsa-public.pem"), None);
    let token = forger.issue("root", 7).unwrap();
    assert_eq!(forger.holder_of(&token).unwrap().user.as_ref(), "root");
    let as_rs256 = signed(&forger, r#"{"alg":"RS256"}"#, r#"{"username":"root","revision":7}"#);
    for judge in [jwt("RS256", None, Some("rsa-public.pem")), jwt("RS256", Some("rsa.pem"), None)] {
        assert_eq!(judge.holder_of(&token), None);
        assert_eq!(judge.holder_of(&as_rs256), None);
    }
}

#[test]
fn a_token_that_was_changed_is_nobodys() {
    let jwt = jwt("HS256", Some("secret"), None);
    let token = jwt.issue("alice", 7).unwrap();
    for place in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(jwt.holder_of(&changed), None, "{place}");
    }
    for wrong in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", &format!("{token}."), &token[1..]] {
        assert_eq!(jwt.holder_of(wrong), None, "{wrong}");
    }
}

#[test]
fn a_token_is_good_from_its_beginning_to_its_end() {
    let jwt = jwt("HS256", Some("secret"), None);
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let head = r#"{"alg":"HS256"}"#;
    let with =
        |more: &str| signed(&jwt, head, &format!(r#"{{"username":"alice","revision":7{more}}}"#));
    for (more, good, bad) in [
        (r#","exp":1000"#, 999, Some(1000)),
        (r#","exp":1000.5"#, 1000, Some(1001)),
        (r#","nbf":1000"#, 1000, Some(999)),
        (r#","iat":1000"#, 1000, Some(999)),
        ("", 1, None),
    ] {
        let token = with(more);
        assert_eq!(jwt.holder_at(&token, at(good)), Some(alice(7)), "{more}");
        if let Some(bad) = bad {
            assert_eq!(jwt.holder_at(&token, at(bad)), None, "{more}");
        }
    }
    let unset = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(jwt.holder_at(&with(""), unset), None);
    let ours = jwt.issue("alice", 7).unwrap();
    assert_eq!(jwt.holder_at(&ours, SystemTime::now() + Duration::from_mins(6)), None);
}

#[test]
fn claims_that_say_nothing_are_nobodys() {
    let jwt = jwt("HS256", Some("secret"), None);
    let head = r#"{"alg":"HS256"}"#;
    for claims in [
        "",
        "{}",
        "null",
        r#"{"username":"alice"}"#,
        r#"{"revision":7}"#,
        r#"{"username":"","revision":7}"#,
        r#"{"username":7,"revision":7}"#,
        r#"{"username":"alice","revision":"7"}"#,
        r#"{"username":"alice","revision":-7}"#,
        r#"{"username":"alice","revision":7,"exp":"soon"}"#,
    ] {
        assert_eq!(jwt.holder_of(&signed(&jwt, head, claims)), None, "{claims}");
    }
    let critical = r#"{"alg":"HS256","crit":["b64"]}"#;
    let claims = r#"{"username":"alice","revision":7}"#;
    assert_eq!(jwt.holder_of(&signed(&jwt, critical, claims)), None, "what we do not understand");
    assert_eq!(jwt.holder_of(&signed(&jwt, head, claims)), Some(alice(7)));
}

#[test]
fn a_refusal_names_the_file_and_what_was_expected() {
    let part = |kind: &str, which: &str| format!("expected {kind}, its {which} part, in PEM");
    let rsa = "an RSA key of 2048 bits or more";
    for (method, private, public, expected) in [
        ("RS256", None, None, "sign-method=RS256: expected priv-key=FILE, or pub-key=FILE".into()),
        ("HS256", None, Some("secret"), "sign-method=HS256: expected priv-key=FILE".into()),
        ("RS256", Some("none.pem"), None, "cannot read a key in none.pem".into()),
        ("RS256", Some("secret"), None, format!("secret: {}, found none", part(rsa, "private"))),
        ("RS256", Some("p256.pem"), None, format!("p256.pem: {}", part(rsa, "private"))),
        ("RS256", Some("rsa-small.pem"), None, format!("rsa-small.pem: {}", part(rsa, "private"))),
        (
            "RS256",
            Some("rsa-public.pem"),
            None,
            format!("rsa-public.pem: {}, found none", part(rsa, "private")),
        ),
        (
            "PS256",
            None,
            Some("p256-public.pem"),
            format!("p256-public.pem: {}, found an ECDSA key on P-256", part(rsa, "public")),
        ),
        ("PS256", None, Some("rsa.pem"), format!("rsa.pem: {}, found none", part(rsa, "public"))),
        (
            "RS256",
            None,
            Some("rsa-small-public.pem"),
            format!("rsa-small-public.pem: {}, found one of 1024 bits", part(rsa, "public")),
        ),
        (
            "ES256",
            Some("p384.pem"),
            None,
            format!("p384.pem: {}", part("an ECDSA key on P-256", "private")),
        ),
        (
            "ES256",
            Some("p384-sec1.pem"),
            None,
            format!("p384-sec1.pem: {}", part("an ECDSA key on P-256", "private")),
        ),
        (
            "ES384",
            Some("p521.pem"),
            None,
            format!("p521.pem: {}", part("an ECDSA key on P-384", "private")),
        ),
        (
            "EdDSA",
            Some("p256.pem"),
            None,
            format!("p256.pem: {}", part("an Ed25519 key", "private")),
        ),
    ] {
        let said = refusal(method, private, public);
        assert!(said.starts_with(&expected), "{said}\n{expected}");
    }
    let said = refusal("RS256", Some("rsa.pem"), Some("rsa-small-public.pem"));
    assert!(said.contains("found one of 1024 bits"), "{said}");
    let said = refusal("ES256", Some("p256.pem"), Some("p384-public.pem"));
    assert!(said.contains("found an ECDSA key on P-384"), "{said}");
}

#[test]
fn keys_of_two_pairs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let path = folder.path().join("other.pem");
    std::fs::write(&path, other.public_key_pem()).unwrap();
    let files = JwtFiles { public_key: Some(path), ..files("ES256", Some("p256.pem"), None) };
    let said = Jwt::load(&files).unwrap_err().to_string();
    assert!(said.contains("other.pem: expected the public key of the private key in"), "{said}");
}

#[test]
fn an_unknown_method_is_refused_with_those_that_there_are() {
    for wrong in ["none", "rs256", "", "ES512"] {
        let said = wrong.parse::<SignMethod>().unwrap_err().to_string();
        assert!(said.starts_with("expected one of HS256, HS384, "), "{said}");
        assert_eq!(said.ends_with("there is no P-521 here"), wrong == "ES512", "{said}");
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let jwt = Arc::new(jwt("HS256", Some("secret"), None));
    assert_eq!(format!("{jwt:?}"), "Jwt { method: Hs256, can_sign: true, .. }");
}
