//! How deep the messages of a request may stand within one another: less than what the log can carry,
//! which has one more around them. Judged by the encoded bytes, so that no stack and no limit of a
//! decoder comes first. Must not know what a request asks for.

use crate::errors::{MessageRejection, Rejection};
use prost::encoding::{WireType, decode_key, decode_varint};
use quorate_kv::CommandTag;

/// How many transactions may stand within one another in a transaction. Each is two messages, and of
/// those prost reads a hundred: 48 would be the last that the log gives back. The gateway's reader ends
/// at 41.
pub(crate) const TXN_DEPTH_MAX: usize = 32;

/// What may stand within a message.
#[derive(Clone, Copy)]
enum Shape {
    Txn,
    /// An operation of a transaction.
    Op,
    /// No message that has messages in it.
    Flat,
}

/// Whether the log can carry this request. What is no message at all is left to who decodes it.
///
/// # Errors
///
/// [`MessageRejection::TxnTooDeep`] beyond [`TXN_DEPTH_MAX`]; [`MessageRejection::Grouped`] if there is
/// a group, which nests without a bound of ours.
pub(crate) fn check(tag: CommandTag, request: &[u8]) -> Result<(), Rejection> {
    let shape = match tag {
        CommandTag::Txn => Shape::Txn,
        CommandTag::Put
        | CommandTag::DeleteRange
        | CommandTag::Compact
        | CommandTag::LeaseGrant
        | CommandTag::LeaseRevoke
        | CommandTag::LeaseRenew
        | CommandTag::LeaseExpire
        | CommandTag::Auth
        | CommandTag::Alarm => Shape::Flat,
    };
    Ok(walk(shape, request, 0)?)
}

/// Goes as deep as transactions may, and not deeper.
fn walk(shape: Shape, mut rest: &[u8], depth: usize) -> Result<(), MessageRejection> {
    if depth > TXN_DEPTH_MAX {
        return Err(MessageRejection::TxnTooDeep);
    }
    while let Ok((number, wire_type)) = decode_key(&mut rest) {
        let size = match wire_type {
            WireType::Varint => decode_varint(&mut rest).map(|_| 0),
            WireType::SixtyFourBit => Ok(8),
            WireType::ThirtyTwoBit => Ok(4),
            WireType::LengthDelimited => decode_varint(&mut rest),
            WireType::StartGroup | WireType::EndGroup => return Err(MessageRejection::Grouped),
        };
        let content = size.ok().and_then(|size| rest.split_at_checked(usize::try_from(size).ok()?));
        let Some((content, behind)) = content else { return Ok(()) };
        rest = behind;
        match (shape, number) {
            (Shape::Txn, 1) | (Shape::Op, 1..=3) => walk(Shape::Flat, content, depth)?,
            (Shape::Txn, 2 | 3) => walk(Shape::Op, content, depth)?,
            (Shape::Op, 4) => walk(Shape::Txn, content, depth + 1)?,
            (Shape::Txn | Shape::Op | Shape::Flat, _) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use quorate_kv::Command;
    use quorate_kv::api::{PutRequest, Request, RequestOp, TxnRequest};

    /// A put within so many transactions within a transaction.
    fn nested(depth: usize) -> Vec<u8> {
        let mut op = Request::Put(PutRequest { key: "k".into(), ..Default::default() });
        let txn = |request| TxnRequest {
            success: vec![RequestOp { request: Some(request) }],
            ..Default::default()
        };
        for _ in 0..depth {
            op = Request::Txn(txn(op));
        }
        txn(op).encode_to_vec()
    }

    #[test]
    fn transactions_nest_to_the_bound_and_no_deeper() {
        assert!(check(CommandTag::Txn, &nested(TXN_DEPTH_MAX)).is_ok());
        for depth in [TXN_DEPTH_MAX + 1, 1000] {
            let refused = check(CommandTag::Txn, &nested(depth));
            let is_told = matches!(refused, Err(Rejection::Message(MessageRejection::TxnTooDeep)));
            assert!(is_told, "{depth}: {refused:?}");
        }
    }

    #[test]
    fn the_bound_is_below_what_the_log_gives_back() {
        // The last that the log carries, half as much again as the bound.
        for (depth, is_readable) in [(TXN_DEPTH_MAX, true), (48, true), (49, false)] {
            let request = nested(depth);
            assert!(TxnRequest::decode(&*request).is_ok(), "{depth}");
            let command = Command::decode(Command::wrap(CommandTag::Txn, &request));
            assert_eq!(command.is_ok(), is_readable, "{depth}");
        }
    }

    #[test]
    fn a_group_is_refused_wherever_it_stands() {
        // Field 100, as a group that begins and ends.
        let group = [0xa3, 0x06, 0xa4, 0x06];
        let within = |tag: u8, content: &[u8]| {
            let size = u8::try_from(content.len()).unwrap();
            [&[tag << 3 | 2, size], content].concat()
        };
        let op = within(2, &within(2, &group));
        for (tag, request) in [
            (CommandTag::Put, group.to_vec()),
            (CommandTag::LeaseRevoke, group.to_vec()),
            (CommandTag::Txn, group.to_vec()),
            (CommandTag::Txn, within(1, &group)),
            (CommandTag::Txn, within(2, &group)),
            (CommandTag::Txn, op),
        ] {
            let refused = check(tag, &request);
            let is_told = matches!(refused, Err(Rejection::Message(MessageRejection::Grouped)));
            assert!(is_told, "{request:?}: {refused:?}");
        }
        let put =
            PutRequest { key: "\u{2c}".into(), value: group.to_vec().into(), ..Default::default() };
        assert!(check(CommandTag::Put, &put.encode_to_vec()).is_ok(), "a value is no field");
    }
}
