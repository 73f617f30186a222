//! The lines of JSON that the gateway's streams consist of, in etcd's form. Must not know what they
//! say.

use crate::errors::Rejection;
use bytes::Bytes;
use serde::Serialize;

/// A line that holds a response.
#[derive(Serialize)]
pub(super) struct Line<T> {
    pub(super) result: T,
}

/// The last line, if the stream ends because the server has to end it.
#[derive(Serialize)]
struct LastLine<'a> {
    error: Failure<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    grpc_code: u8,
    http_code: u16,
    message: &'a str,
    http_status: &'a str,
}

pub(super) fn line_of(line: &impl Serialize) -> Bytes {
    // Such values always have a JSON form.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

pub(super) fn last_line(rejection: &Rejection) -> Bytes {
    let (code, message) = rejection.status();
    let status = code.http_status();
    line_of(&LastLine {
        error: Failure {
            grpc_code: code.number(),
            http_code: status.as_u16(),
            message: &message,
            http_status: status.canonical_reason().unwrap_or_default(),
        },
    })
}
