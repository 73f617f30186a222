//! Requests as clients send them: decoded, judged by the rules for clients, and carried out on a
//! store that holds a few keys. Whatever passes the rules gets an answer that can be encoded.

use super::input::Input;
use super::store::Store;
use bytes::Bytes;
use prost::Message;
use quorate_kv::api::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, Request, TxnRequest,
};
use quorate_kv::{Command, CommandTag, Reader};

/// One request after the other: a byte for the method, one for the size, the message.
pub(super) fn client_request(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut store) = Store::fresh() else { return };
    for key in [b"a", b"b", b"c"] {
        let put = PutRequest { key: Bytes::from_static(key), ..PutRequest::default() };
        store.apply(Command::wrap(CommandTag::Put, &put.encode_to_vec()));
    }
    while !input.is_empty() {
        let (method, size) = (input.below(5), usize::from(input.byte()));
        // What is decoded is proposed as it came, as the server does it.
        answer(&mut store, method, &Bytes::copy_from_slice(input.bytes(size)));
    }
}

fn answer(store: &mut Store, method: u8, message: &Bytes) {
    match method {
        0 => read(&store.reader, message),
        1 if PutRequest::decode(message.clone()).is_ok_and(|put| is_fine(&Request::Put(put))) => {
            store.apply(Command::wrap(CommandTag::Put, message));
        }
        2 if is_deletion(message) => {
            store.apply(Command::wrap(CommandTag::DeleteRange, message));
        }
        3 => transact(store, message),
        4 if CompactionRequest::decode(message.clone()).is_ok() => {
            store.apply(Command::wrap(CommandTag::Compact, message));
        }
        _ => {}
    }
}

fn is_fine(request: &Request) -> bool {
    quorate_kv::validate(request).is_ok()
}

fn is_deletion(message: &Bytes) -> bool {
    DeleteRangeRequest::decode(message.clone())
        .is_ok_and(|deletion| is_fine(&Request::DeleteRange(deletion)))
}

fn read(reader: &Reader, message: &Bytes) {
    let Ok(range) = RangeRequest::decode(message.clone()) else { return };
    if !is_fine(&Request::Range(range.clone())) {
        return;
    }
    if let Ok(response) = reader.range(&range) {
        let count = usize::try_from(response.count).unwrap_or_default();
        assert!(response.kvs.len() <= count, "no more keys than are counted");
        assert_eq!(response.encode_to_vec().len(), response.encoded_len());
    }
}

fn transact(store: &mut Store, message: &Bytes) {
    let Ok(txn) = TxnRequest::decode(message.clone()) else { return };
    if !is_fine(&Request::Txn(txn.clone())) {
        return;
    }
    if !quorate_kv::is_read_only(&txn) {
        store.apply(Command::wrap(CommandTag::Txn, message));
        return;
    }
    if let Ok(response) = store.reader.txn_read_only(&txn) {
        let response = response.unwrap_or_default();
        assert_eq!(response.encode_to_vec().len(), response.encoded_len());
    }
}
