//! JSON as the gateway takes it: one message, or one after the other, and words for what is none. Must
//! not know what a message is for.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

/// How much is said about what is wrong, in bytes. The words may repeat what a client sent.
const WORDS_BYTES_MAX: usize = 512;

/// Why JSON is not the message that was expected.
#[derive(Debug)]
pub(crate) struct JsonError {
    /// Which field is wrong, if it is one.
    field: Option<Box<str>>,
    error: serde_json::Error,
}

impl From<serde_json::Error> for JsonError {
    /// Of what is no JSON.
    fn from(error: serde_json::Error) -> Self {
        Self { field: None, error }
    }
}

impl From<serde_path_to_error::Error<serde_json::Error>> for JsonError {
    fn from(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let is_field = error.path().iter().next().is_some();
        let field = is_field.then(|| error.path().to_string().into());
        Self { field, error: error.into_inner() }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "field {field}: ")?;
        }
        let words = self.error.to_string();
        let end = words.floor_char_boundary(WORDS_BYTES_MAX.min(words.len()));
        let shown = words.get(..end).unwrap_or_default();
        let rest = if end < words.len() { "..." } else { "" };
        write!(f, "{shown}{rest}")
    }
}

/// How many objects and lists may stand within one another: what our parser has for a limit.
const DEPTH_MAX: usize = 127;

/// Whether this nests deeper than it can be read.
pub(super) fn is_beyond_reader(json: &[u8]) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => depth += 1,
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// Reads a message; no body at all is an empty message.
pub(crate) fn from_json<Q: DeserializeOwned + Default>(json: &[u8]) -> Result<Q, JsonError> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Q::default());
    }
    serde_json::from_slice(json).or_else(|error| {
        // There may be a `null` in it, or something wrong, whose place is then looked for.
        let value: Value = serde_json::from_slice(json).map_err(|_| error)?;
        from_value(value)
    })
}

/// The requests of a stream's body: JSON objects, one after the other. What follows one that is none
/// means nothing.
pub(crate) fn requests_of<Q: DeserializeOwned + Default>(
    body: &[u8],
) -> impl Iterator<Item = Result<Q, JsonError>> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    values.map(|value| from_value(value?))
}

/// Reads a message from JSON that was parsed. `null` stands for a field's zero value, and for an empty
/// message, which our generated code does not know.
fn from_value<Q: DeserializeOwned + Default>(value: Value) -> Result<Q, JsonError> {
    if value.is_null() {
        return Ok(Q::default());
    }
    Ok(serde_path_to_error::deserialize(without_nulls(value))?)
}

/// The same without the fields that are `null`. The parser bounds how deep it goes.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_etcd_api::etcdserverpb as pb;

    #[test]
    fn null_and_nothing_stand_for_the_zero_value() {
        let fields = &br#"{"key":null,"limit":null,"serializable":null}"#[..];
        for json in [fields, b"", b" \n", b"{}", b"null", b" null "] {
            assert_eq!(from_json::<pb::RangeRequest>(json).unwrap(), pb::RangeRequest::default());
        }
        let json = br#"{"success":[{"request_range":{"key":"YQ==","range_end":null}}]}"#;
        let txn: pb::TxnRequest = from_json(json).unwrap();
        assert_eq!(txn.success.len(), 1);
    }

    #[test]
    fn what_nests_deeper_than_can_be_read_is_known_as_such() {
        let list = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (depth, is_beyond) in [(DEPTH_MAX, false), (DEPTH_MAX + 1, true)] {
            let json = list(depth);
            assert_eq!(is_beyond_reader(json.as_bytes()), is_beyond, "{depth}");
            assert_eq!(serde_json::from_str::<Value>(&json).is_err(), is_beyond, "{depth}");
        }
        let text = format!(r#"{{"a":"\"{}","b":{}}}"#, "[".repeat(200), list(DEPTH_MAX - 1));
        assert!(!is_beyond_reader(text.as_bytes()), "what is text nests nothing");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for json in ["{", "[]", "nul", "7", r#"{"key":"!!"}"#, r#"{"key":7}"#, r#"{"limit":"x"}"#] {
            assert!(from_json::<pb::RangeRequest>(json.as_bytes()).is_err(), "{json}");
        }
        let deep = "[".repeat(100_000);
        assert!(from_json::<pb::RangeRequest>(deep.as_bytes()).is_err());
    }

    #[test]
    fn null_is_a_message_of_a_stream_too() {
        let requests: Vec<_> = requests_of::<pb::LeaseKeepAliveRequest>(br#"null {"ID":7}"#)
            .map(|request| request.unwrap().id)
            .collect();
        assert_eq!(requests, [0, 7]);
    }

    fn words<Q: DeserializeOwned + Default + fmt::Debug>(json: &str) -> String {
        from_json::<Q>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field_what_was_expected_and_what_was_found() {
        let integer = "expected an integer from -9223372036854775808 to 9223372036854775807, \
                       as a number or a string";
        for (found, told) in [
            ("1.5", "invalid type: floating point `1.5`"),
            ("1e3", "invalid type: floating point `1000.0`"),
            ("true", "invalid type: boolean `true`"),
            ("[1]", "invalid type: sequence"),
            ("9223372036854775808", "invalid value: integer `9223372036854775808`"),
            (r#""x""#, r#"invalid value: string "x""#),
            (r#""""#, r#"invalid value: string """#),
        ] {
            let json = format!(r#"{{"key":"YQ==","limit":{found}}}"#);
            assert_eq!(words::<pb::RangeRequest>(&json), format!("field limit: {told}, {integer}"));
        }
        let json = r#"{"success":[{},{"request_range":{"rangeEnd":"!"}}]}"#;
        let told = "field success[1].request_range.rangeEnd: expected base64: ";
        let found = words::<pb::TxnRequest>(json);
        assert!(found.starts_with(told), "{found}");
        let found = words::<pb::RangeRequest>(r#"{"key":7}"#);
        assert_eq!(found, "field key: invalid type: integer `7`, expected base64 in a string");
        let found = words::<pb::RangeRequest>(r#"{"sort_order":"UP"}"#);
        let told = "field sort_order: unknown variant `UP`, expected one of `NONE`";
        assert!(found.starts_with(told), "{found}");
        let found = words::<pb::RangeRequest>(r#"{"sort_order":true}"#);
        let told = "field sort_order: invalid type: boolean `true`, expected one of: [\"NONE\", \
                    \"ASCEND\", \"DESCEND\"]";
        assert_eq!(found, told);
        let found = words::<pb::RangeRequest>(r#"{"serializable":"x"}"#);
        let told = r#"field serializable: invalid type: string "x", expected a boolean"#;
        assert_eq!(found, told);
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        let found = words::<pb::RangeRequest>("{");
        assert_eq!(found, "EOF while parsing an object at line 1 column 1");
    }

    #[test]
    fn a_clients_own_words_are_repeated_in_short() {
        for field in ["serializable", "limit", "sort_order", "key"] {
            let json = format!(r#"{{"{field}":"ä{}"}}"#, "ä".repeat(1 << 20));
            let found = words::<pb::RangeRequest>(&json);
            assert!(found.len() < 2 * WORDS_BYTES_MAX, "{field}: {}", found.len());
        }
    }
}
