//! The text form of a transaction, as etcdctl reads it: comparisons, an empty line, the operations
//! if they hold, an empty line, the operations if they do not. Knows nothing of where text comes
//! from or where the request goes.

use super::del::DelArguments;
use super::get::GetArguments;
use super::go_words::settle;
use super::put::{PutArguments, parse_lease};
use bytes::Bytes;
use clap::{CommandFactory, Parser};
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::{Compare, RequestOp};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Why a line makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    /// It is no comparison.
    #[error(
        "expected a comparison such as mod(\"key\") > \"0\" (version, create, mod, value or lease; \
         =, !=, < or >), found `{0}`"
    )]
    Comparison(String),
    /// It compares with something that is no number.
    #[error("expected a number to compare {target} with, found `{found}`")]
    Number {
        /// What is compared.
        target: &'static str,
        /// With what.
        found: String,
    },
    /// A quotation does not end.
    #[error("expected a closing {quote} in `{line}`")]
    Quote {
        /// Which mark is missing.
        quote: char,
        /// Where.
        line: String,
    },
    /// It is no operation.
    #[error("expected `put KEY VALUE`, `get KEY` or `del KEY`, found `{line}`: {why}")]
    Operation {
        /// The line.
        line: String,
        /// What is wrong with it.
        why: String,
    },
}

/// One line of the second or third part.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_subcommand = true, args_override_self = true)]
enum Operation {
    Put(PutArguments),
    Get(GetArguments),
    Del(DelArguments),
}

/// Reads `target("key") op "value"`.
///
/// # Errors
///
/// [`TextError::Comparison`], [`TextError::Number`] or [`TextError::Quote`].
pub(crate) fn comparison(line: &str) -> Result<Compare, TextError> {
    let wrong = || TextError::Comparison(line.to_owned());
    let (target, rest) = line.split_once('(').ok_or_else(wrong)?;
    let (key, rest) = quoted(rest.trim_start(), line)?.ok_or_else(wrong)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(wrong)?.trim_start();
    let (result, rest) = operator(rest).ok_or_else(wrong)?;
    let (value, rest) = quoted(rest.trim_start(), line)?.ok_or_else(wrong)?;
    if !rest.trim().is_empty() {
        return Err(wrong());
    }
    let (target, union) = target_union(target.trim(), value).ok_or_else(wrong)??;
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: Bytes::from(key),
        target_union: Some(union),
        range_end: Bytes::new(),
    })
}

fn operator(text: &str) -> Option<(CompareResult, &str)> {
    let operators = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ];
    operators.into_iter().find_map(|(mark, result)| Some((result, text.strip_prefix(mark)?)))
}

type Target = (CompareTarget, TargetUnion);

/// What is compared with what; `None` if there is no such target.
fn target_union(name: &str, value: Vec<u8>) -> Option<Result<Target, TextError>> {
    let text = String::from_utf8_lossy(&value).into_owned();
    let number =
        |target| text.parse::<i64>().map_err(|_| TextError::Number { target, found: text.clone() });
    let union = match name {
        "version" | "ver" => {
            number("a version").map(|number| (CompareTarget::Version, TargetUnion::Version(number)))
        }
        "create" | "c" => number("a create revision")
            .map(|number| (CompareTarget::Create, TargetUnion::CreateRevision(number))),
        "mod" | "m" => number("a modify revision")
            .map(|number| (CompareTarget::Mod, TargetUnion::ModRevision(number))),
        "value" | "val" => Ok((CompareTarget::Value, TargetUnion::Value(Bytes::from(value)))),
        "lease" => parse_lease(&text)
            .map(|lease| (CompareTarget::Lease, TargetUnion::Lease(lease)))
            .map_err(|_| TextError::Number { target: "a lease id (hexadecimal)", found: text }),
        _ => return None,
    };
    Some(union)
}

/// Reads `put KEY VALUE`, `get KEY ...` or `del KEY ...`, with the options of those verbs.
///
/// # Errors
///
/// [`TextError::Operation`] or [`TextError::Quote`].
pub(crate) fn operation(line: &str) -> Result<RequestOp, TextError> {
    let wrong = |why: String| TextError::Operation { line: line.to_owned(), why };
    let words = settle(&Operation::command(), words(line)?);
    let words = words.map_err(|error| wrong(error.to_string()))?;
    let parsed = Operation::try_parse_from(words).map_err(|error| wrong(first_line(&error)))?;
    let request = match parsed {
        Operation::Put(put) => {
            let missing = || anyhow::bail!("the value is missing");
            Request::RequestPut(put.request(missing).map_err(|error| wrong(error.to_string()))?)
        }
        Operation::Get(get) => Request::RequestRange(get.request()),
        Operation::Del(del) => Request::RequestDeleteRange(del.request()),
    };
    Ok(RequestOp { request: Some(request) })
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// Splits a line at its spaces; a part in quotation marks is one word.
///
/// # Errors
///
/// [`TextError::Quote`].
pub(super) fn words(line: &str) -> Result<Vec<OsString>, TextError> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        if let Some((word, after)) = quoted(rest, line)? {
            words.push(OsString::from_vec(word));
            rest = after.trim_start();
        } else {
            let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            words.push(OsString::from(word));
            rest = after.trim_start();
        }
    }
    Ok(words)
}

/// What a quotation at the start of `text` holds, and what follows it; `None` if there is none.
/// Between double marks, `\n`, `\t`, `\r`, `\0`, `\xHH` and an escaped mark mean what they mean in
/// Rust; between single marks everything is as it is.
fn quoted<'text>(text: &'text str, line: &str) -> Result<Option<(Vec<u8>, &'text str)>, TextError> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let mut rest = text.get(1..).unwrap_or_default();
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        if c == quote {
            return Ok(Some((bytes, rest)));
        }
        if c == '\\' && quote == '"' {
            rest = escape(rest, &mut bytes);
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Err(TextError::Quote { quote, line: line.to_owned() })
}

/// Reads what follows a backslash into `bytes`; returns what follows that.
fn escape<'text>(rest: &'text str, bytes: &mut Vec<u8>) -> &'text str {
    let Some(c) = rest.chars().next() else { return rest };
    let after = rest.get(c.len_utf8()..).unwrap_or_default();
    match c {
        'n' => bytes.push(b'\n'),
        't' => bytes.push(b'\t'),
        'r' => bytes.push(b'\r'),
        '0' => bytes.push(0),
        'x' => {
            let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            if let Some(byte) = byte {
                bytes.push(byte);
                return after.get(2..).unwrap_or_default();
            }
            bytes.extend_from_slice(b"\\x");
        }
        _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_names_target_key_operator_and_value() {
        let compare = comparison(r#"mod("foo") > "0""#).unwrap();
        assert_eq!(compare.key, "foo");
        assert_eq!(compare.result(), CompareResult::Greater);
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(0)));
        let compare = comparison(r#"value("a b")!='x"y'"#).unwrap();
        assert_eq!(compare.result(), CompareResult::NotEqual);
        assert_eq!(compare.target_union, Some(TargetUnion::Value("x\"y".into())));
        let compare = comparison(r#"lease("k") = "1f""#).unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::Lease(31)));
    }

    #[test]
    fn a_comparison_that_makes_no_sense_is_an_error_that_shows_it() {
        for line in ["mox(\"a\") > \"0\"", "mod(a) > \"0\"", "mod(\"a\") ~ \"0\"", "mod", "(", ""] {
            let error = comparison(line).unwrap_err();
            assert_eq!(error, TextError::Comparison(line.to_owned()), "{line}");
        }
        let error = comparison("ver(\"a\") > \"x\"").unwrap_err();
        assert!(error.to_string().contains("found `x`"));
        let error = comparison("ver(\"a) > 1").unwrap_err();
        assert!(error.to_string().contains("closing \""));
    }

    #[test]
    fn an_operation_takes_the_options_of_its_verb() {
        let put = operation(r#"put --prev-kv k "v w""#).unwrap();
        let Some(Request::RequestPut(put)) = put.request else { panic!("{put:?}") };
        assert_eq!((put.key.as_ref(), put.value.as_ref()), (&b"k"[..], &b"v w"[..]));
        assert!(put.prev_kv);
        let del = operation("del foo --prefix").unwrap();
        let Some(Request::RequestDeleteRange(del)) = del.request else { panic!("{del:?}") };
        assert_eq!(del.range_end, "fop");
    }

    #[test]
    fn an_operation_takes_switches_and_numbers_as_go_writes_them() {
        let get = operation("get foo --prefix=T --keys-only=0 --limit -1 --rev 0x10").unwrap();
        let Some(Request::RequestRange(get)) = get.request else { panic!("{get:?}") };
        assert_eq!((get.range_end.as_ref(), get.keys_only), (&b"fop"[..], false));
        assert_eq!((get.limit, get.revision), (-1, 16));
        let refused = operation("put k v --prev-kv=x").unwrap_err().to_string();
        assert!(refused.contains("expected true or false"), "{refused}");
    }

    #[test]
    fn an_operation_that_makes_no_sense_is_an_error_that_shows_it() {
        for line in ["take x", "put k", "get", "put k \"v"] {
            assert!(operation(line).unwrap_err().to_string().contains(line), "{line}");
        }
    }

    #[test]
    fn quotations_hold_any_byte() {
        let words = words(r#"put "a\x00\n\"b" 'c\d' é"#).unwrap();
        let words: Vec<Vec<u8>> = words.into_iter().map(OsStringExt::into_vec).collect();
        assert_eq!(words, [&b"put"[..], b"a\x00\n\"b", b"c\\d", "é".as_bytes()]);
    }
}
