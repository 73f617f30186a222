//! Answers for people. The simple form is etcdctl's: a key on one line, its value on the next; as they are,
//! or in hexadecimal.

use crate::output::{Table, line};
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::etcdserverpb::{DeleteRangeResponse, PutResponse, TxnResponse};
use quorate_etcd_api::mvccpb::{Event, KeyValue};
use std::fmt::Write;

/// How keys and values look in the simple form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// As they are.
    Bytes,
    /// Each byte as `\x` and two digits.
    Hex,
}

impl Look {
    fn line(self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Bytes => line(bytes),
            Self::Hex => line(hexadecimal(bytes).as_bytes()),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
    text
}

/// Which parts of a pair are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Both,
    Keys,
    Values,
}

/// Pairs, as they are.
pub(crate) fn pairs(pairs: &[KeyValue], parts: Parts, look: Look) -> anyhow::Result<()> {
    for pair in pairs {
        if parts != Parts::Values {
            look.line(&pair.key)?;
        }
        match parts {
            Parts::Both | Parts::Values => look.line(&pair.value)?,
            // An empty line, as etcdctl prints it: scripts that read two lines a pair still work.
            Parts::Keys => line(b"")?,
        }
    }
    Ok(())
}

/// Pairs with their history; what is not text is escaped.
pub(crate) fn pairs_as_table(pairs: &[KeyValue]) {
    let mut table = Table::new(["KEY", "CREATED", "MODIFIED", "VERSION", "LEASE", "VALUE"]);
    for pair in pairs {
        table.row([
            printable(&pair.key),
            pair.create_revision.to_string(),
            pair.mod_revision.to_string(),
            pair.version.to_string(),
            if pair.lease == 0 { "-".to_owned() } else { format!("{:x}", pair.lease) },
            printable(&pair.value),
        ]);
    }
    print!("{}", table.render());
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

/// `OK`, and what was there before.
pub(crate) fn put(response: &PutResponse, look: Look) -> anyhow::Result<()> {
    println!("OK");
    pairs(response.prev_kv.as_slice(), Parts::Both, look)
}

/// How many, and what was there before.
pub(crate) fn delete(response: &DeleteRangeResponse, look: Look) -> anyhow::Result<()> {
    println!("{}", response.deleted);
    pairs(&response.prev_kvs, Parts::Both, look)
}

/// Which branch ran, and what each of its operations answered.
pub(crate) fn txn(response: &TxnResponse, look: Look) -> anyhow::Result<()> {
    println!("{}", if response.succeeded { "SUCCESS" } else { "FAILURE" });
    for operation in &response.responses {
        println!();
        match &operation.response {
            Some(Response::ResponseRange(range)) => pairs(&range.kvs, Parts::Both, look)?,
            Some(Response::ResponsePut(response)) => put(response, look)?,
            Some(Response::ResponseDeleteRange(response)) => delete(response, look)?,
            Some(Response::ResponseTxn(response)) => txn(response, look)?,
            None => println!("(the server gave no answer to this operation)"),
        }
    }
    Ok(())
}

/// What happened: `PUT` or `DELETE`, what was there before if that is known, and what is there now.
pub(crate) fn event(event: &Event, look: Look) -> anyhow::Result<()> {
    println!("{}", event.r#type().as_str_name());
    pairs(event.prev_kv.as_slice(), Parts::Both, look)?;
    pairs(event.kv.as_slice(), Parts::Both, look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_look_in_hexadecimal_as_etcdctl_prints_them() {
        assert_eq!(hexadecimal(b"fo\0\xff"), "\\x66\\x6f\\x00\\xff");
        assert_eq!(hexadecimal(b""), "");
    }

    #[test]
    fn control_characters_cannot_disturb_a_table() {
        assert_eq!(printable(b"a\nb\x1b"), "a\\nb\\u{1b}");
    }
}
