//! Which keys some permissions cover: spans that neither overlap nor touch, so that one search
//! answers. Must not know whose permissions they are.

use super::api::{Permission, PermissionType};
use crate::view::KeyRange;
use bytes::Bytes;
use std::cmp::Ordering;

/// What somebody wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// To read them.
    Read,
    /// To write them.
    Write,
}

/// The keys from `from` to before `to`; without `to`, to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    from: Bytes,
    to: Option<Bytes>,
}

impl Span {
    /// What the two fields of a request or a permission mean; `None` if that is no key.
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        let to = KeyRange::new(key, range_end).to();
        let is_empty = to.as_ref().is_some_and(|to| to <= key);
        (!is_empty).then(|| Self { from: key.clone(), to })
    }

    /// The first key after it; `None` if it never ends.
    pub(super) const fn to(&self) -> Option<&Bytes> {
        self.to.as_ref()
    }

    pub(super) const fn from(&self) -> &Bytes {
        &self.from
    }
}

/// Compares the ends of spans, of which `None` is the last.
pub(super) fn compare_ends(one: Option<&Bytes>, other: Option<&Bytes>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

/// What a role permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    read: Vec<Span>,
    write: Vec<Span>,
}

impl Grants {
    pub(super) fn of(permissions: &[Permission]) -> Self {
        Self { read: merged(permissions, Right::Read), write: merged(permissions, Right::Write) }
    }

    /// The span that holds `key`.
    pub(super) fn span_at(&self, right: Right, key: &[u8]) -> Option<&Span> {
        let spans = match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
        };
        let after = spans.partition_point(|span| span.from <= key);
        let span = spans.get(after.checked_sub(1)?)?;
        span.to.as_ref().is_none_or(|to| key < to).then_some(span)
    }
}

fn allows(permission: &Permission, right: Right) -> bool {
    match (PermissionType::try_from(permission.perm_type), right) {
        (Ok(PermissionType::ReadWrite), Right::Read | Right::Write)
        | (Ok(PermissionType::Read), Right::Read)
        | (Ok(PermissionType::Write), Right::Write) => true,
        (Ok(PermissionType::Read), Right::Write)
        | (Ok(PermissionType::Write), Right::Read)
        | (Err(_), Right::Read | Right::Write) => false,
    }
}

fn merged(permissions: &[Permission], right: Right) -> Vec<Span> {
    let allowed = permissions.iter().filter(|permission| allows(permission, right));
    let mut spans: Vec<Span> =
        allowed.filter_map(|given| Span::new(&given.key, &given.range_end)).collect();
    spans.sort_by(|one, other| one.from.cmp(&other.from));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            // Whoever may use both sides of a border may use a range across it.
            Some(last) if last.to.as_ref().is_none_or(|to| span.from <= to) => {
                if compare_ends(last.to.as_ref(), span.to.as_ref()).is_lt() {
                    last.to = span.to;
                }
            }
            Some(_) | None => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(perm_type: i32, key: &str, range_end: &str) -> Permission {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Permission { perm_type, key: bytes(key), range_end: bytes(range_end) }
    }

    fn spans(grants: &[Span]) -> Vec<(String, Option<String>)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        grants.iter().map(|span| (text(&span.from), span.to.as_ref().map(text))).collect()
    }

    #[test]
    fn permissions_that_overlap_or_touch_become_one_span() {
        let read = |key, end| permission(0, key, end);
        let grants = Grants::of(&[
            read("a", "c"),
            read("b", "b\u{1}"),
            read("c", ""),
            read("c\0", "d"),
            read("e", "f"),
            read("x", "z"),
            read("y", "\0"),
            read("zz", ""),
        ]);
        let span = |from: &str, to: Option<&str>| (from.to_owned(), to.map(str::to_owned));
        let expected = [span("a", Some("d")), span("e", Some("f")), span("x", None)];
        assert_eq!(spans(&grants.read), expected);
        assert!(grants.write.is_empty());
    }

    #[test]
    fn a_permission_that_holds_no_key_or_is_of_no_known_type_permits_nothing() {
        let grants = Grants::of(&[
            permission(2, "b", "a"),
            permission(2, "b", "b"),
            permission(3, "b", ""),
            permission(-1, "b", ""),
        ]);
        assert_eq!(grants, Grants::default());
    }

    #[test]
    fn each_type_permits_what_it_says() {
        let types = [(0, true, false), (1, false, true), (2, true, true)];
        for (perm_type, may_read, may_write) in types {
            let grants = Grants::of(&[permission(perm_type, "k", "")]);
            assert_eq!(grants.span_at(Right::Read, b"k").is_some(), may_read);
            assert_eq!(grants.span_at(Right::Write, b"k").is_some(), may_write);
            assert_eq!(grants.span_at(Right::Write, b"k\0"), None);
            assert_eq!(grants.span_at(Right::Read, b""), None);
        }
    }
}
