//! The smallest HTTP/1.1 client that can ask etcd's gateway, as curl would. Knows nothing of what
//! is asked.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A status and a body.
pub(crate) struct Answer {
    /// 200 and so on.
    pub(crate) status: u16,
    /// Everything after the headers, put together if it came in chunks.
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }
}

/// `POST`s a body, as `curl -d` does.
pub(crate) fn post(address: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    send(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n{body}"
        ),
    )
}

/// `GET`s a path.
pub(crate) fn get(address: &str, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// `GET`s a path of a server that may not be there yet.
pub(crate) fn try_get(address: &str, path: &str) -> Option<Answer> {
    drop(TcpStream::connect(address).ok()?);
    Some(get(address, path))
}

fn send(address: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    // A server may answer and hang up before it has read all of a request that is too large; what
    // it said has arrived even then.
    let _sent = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(!answer.is_empty(), "the server hung up without an answer: {ended:?}");
    parse(&String::from_utf8(answer).expect("the gateway answers in text"))
}

fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").expect("headers end with an empty line");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Answer { status, body: if is_chunked { unchunk(body) } else { body.to_owned() } }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk has a size");
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
