//! Snapshots of the store whose checksums are right and whose content is anybody's. One that is
//! taken over is a store like any other: it works on, and what it writes out can be read.

use super::input::Input;
use super::store::Store;
use bytes::{BufMut, Bytes};
use prost::Message;
use quorate::{LogId, LogIndex, StateMachine, Term};
use quorate_kv::auth::api::Permission;
use quorate_kv::{AlarmMember, KeyValue, RangeRequest};

/// How far the log goes that the snapshot stands for.
const END: u64 = 10;

/// The head of a snapshot; see the store's `meta.rs`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    applied_term: u64,
    #[prost(uint64, tag = "2")]
    applied_index: u64,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(uint64, optional, tag = "4")]
    compacted: Option<u64>,
    #[prost(uint64, tag = "5")]
    key_count: u64,
    #[prost(uint64, tag = "6")]
    covered: u64,
    #[prost(message, repeated, tag = "15")]
    alarms: Vec<AlarmMember>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Leases {
    #[prost(message, repeated, tag = "1")]
    leases: Vec<Lease>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Lease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(uint64, tag = "3")]
    renewed_at: u64,
}

/// See the store's `auth/record.rs`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Everybody {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(message, repeated, tag = "3")]
    users: Vec<User>,
    #[prost(message, repeated, tag = "4")]
    roles: Vec<Role>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct User {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    password_hash: Bytes,
    #[prost(bool, tag = "3")]
    no_password: bool,
    #[prost(string, repeated, tag = "4")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Role {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<Permission>,
}

/// A snapshot is put together as the input says, and taken over or refused.
pub(super) fn store_snapshot(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut store) = Store::fresh() else { return };
    let snapshot = snapshot(&mut input);
    let last_included = LogId::new(Term::new(1), LogIndex::new(END));
    let before = store.reader.revision();
    if store.machine.restore(last_included, &mut snapshot.as_slice()).is_err() {
        assert_eq!(store.reader.revision(), before, "what is refused changes nothing");
        return;
    }
    store.go_on_from(last_included.index);
    let everything = RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..RangeRequest::default()
    };
    let read = store.reader.range(&everything);
    let Ok(read) = read else { panic!("the store can be read: {read:?}") };
    assert!(read.kvs.len() <= usize::try_from(read.count).unwrap_or_default());
    store.work();
    store.check_copy();
}

fn snapshot(input: &mut Input<'_>) -> Vec<u8> {
    let version = match input.below(16) {
        0 => input.byte(),
        1..6 => 3,
        _ => 2,
    };
    let mut out = b"QRKVSNAP".to_vec();
    out.put_u32_le(version.into());
    let mut chain = 0;
    let mut block = |content: &[u8]| {
        let size = u32::try_from(content.len()).unwrap_or_default().to_le_bytes();
        chain = crc32c::crc32c_append(crc32c::crc32c_append(chain, &size), content);
        out.put_slice(&size);
        out.put_u32_le(chain);
        out.put_slice(content);
    };
    block(&content(input, |input| head(input).encode_to_vec()));
    if version != 1 {
        block(&content(input, |input| leases(input).encode_to_vec()));
    }
    if version > 2 {
        block(&content(input, |input| users(input).encode_to_vec()));
    }
    let (rows, count) = rows(input);
    if !rows.is_empty() {
        block(&rows);
    }
    block(&[]);
    block(&count.to_le_bytes());
    out
}

/// Mostly of the right form.
fn content(input: &mut Input<'_>, made: impl FnOnce(&mut Input<'_>) -> Vec<u8>) -> Vec<u8> {
    if input.below(16) != 0 {
        return made(input);
    }
    let size = usize::from(input.byte());
    input.bytes(size).to_vec()
}

fn head(input: &mut Input<'_>) -> Head {
    let alarms = (0..input.below(3))
        .map(|_| AlarmMember { member_id: input.number(), alarm: i32::from(input.below(5)) })
        .collect();
    Head {
        applied_term: input.number(),
        applied_index: input.number(),
        revision: input.number(),
        compacted: input.flag().then(|| input.number()),
        key_count: input.number(),
        covered: input.number(),
        alarms,
    }
}

fn leases(input: &mut Input<'_>) -> Leases {
    let lease = |input: &mut Input<'_>| Lease {
        id: input.number().cast_signed(),
        ttl: input.number().cast_signed(),
        renewed_at: input.number(),
    };
    Leases { leases: (0..input.below(4)).map(|_| lease(input)).collect() }
}

fn users(input: &mut Input<'_>) -> Everybody {
    let name = |input: &mut Input<'_>| {
        let names = ["", "a", "b", "root"];
        names.get(usize::from(input.below(4))).copied().unwrap_or_default().to_owned()
    };
    let user = |input: &mut Input<'_>| User {
        name: name(input),
        password_hash: if input.flag() { Bytes::from_static(b"hash") } else { Bytes::new() },
        no_password: input.flag(),
        roles: (0..input.below(3)).map(|_| name(input)).collect(),
    };
    let permission = |input: &mut Input<'_>| Permission {
        perm_type: i32::from(input.below(5)),
        key: name(input).into(),
        range_end: name(input).into(),
    };
    let role = |input: &mut Input<'_>| Role {
        name: name(input),
        permissions: (0..input.below(4)).map(|_| permission(input)).collect(),
    };
    Everybody {
        enabled: input.flag(),
        revision: input.number(),
        users: (0..input.below(4)).map(|_| user(input)).collect(),
        roles: (0..input.below(4)).map(|_| role(input)).collect(),
    }
}

fn rows(input: &mut Input<'_>) -> (Vec<u8>, u64) {
    let mut rows = Vec::new();
    let count = input.below(8);
    for _ in 0..count {
        rows.put_u64(input.number());
        rows.put_u32(u32::from(input.below(3)));
        let value = content(input, row);
        rows.put_u32_le(u32::try_from(value.len()).unwrap_or_default());
        rows.put_slice(&value);
    }
    let is_odd = input.below(16) == 1;
    (rows, u64::from(count) + u64::from(is_odd))
}

fn row(input: &mut Input<'_>) -> Vec<u8> {
    let flags = input.below(3);
    let kv = KeyValue {
        key: Bytes::copy_from_slice(match input.below(4) {
            0 => b"k",
            1 => b"a",
            2 => b"\0",
            _ => b"",
        }),
        create_revision: input.number().cast_signed(),
        mod_revision: input.number().cast_signed(),
        version: input.number().cast_signed(),
        value: Bytes::from_static(b"v"),
        lease: input.number().cast_signed(),
    };
    [vec![flags], kv.encode_to_vec()].concat()
}
