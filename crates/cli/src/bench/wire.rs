//! The generator's own gRPC client: HTTP/2 with nothing on top, because the general one costs more
//! CPU per operation than the servers that it should measure. It sends one message, awaits the
//! status and drops the answer's content; knows nothing of what a message means.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Method, Request, Uri};
use prost::Message;
use std::fmt;
use std::future::poll_fn;
use std::time::Duration;
use tokio::net::TcpStream;

/// What a peer may send on one stream, and on all of a connection, before it must wait, in bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// gRPC puts the compression flag and the length before a message.
const PREFIX_BYTES: usize = 5;

/// A method of the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rpc {
    Put,
    Range,
    Txn,
    LeaseGrant,
    /// A stream that ends after its first message is a call like the others.
    LeaseKeepAlive,
}

/// Why an operation failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The server said so.
    #[error("status {code}: {message}")]
    Status {
        /// gRPC's number for it.
        code: String,
        /// What it said.
        message: String,
    },
    /// The connection is broken.
    #[error("connection: {0}")]
    Connection(String),
    /// The answer is not gRPC's.
    #[error("expected a gRPC status, found none")]
    NoStatus,
}

impl CallError {
    /// Whether the server gave this reason.
    pub(super) fn is_because(&self, reason: &str) -> bool {
        matches!(self, Self::Status { message, .. } if message.contains(reason))
    }
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// A connection to one server; clones share it.
#[derive(Clone)]
pub(super) struct Wire {
    sender: SendRequest<Bytes>,
    put: Uri,
    range: Uri,
    txn: Uri,
    grant: Uri,
    keep_alive: Uri,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("put", &self.put).finish_non_exhaustive()
    }
}

impl Wire {
    /// Connects to `host:port`.
    ///
    /// # Errors
    ///
    /// If nobody answers, or not in HTTP/2.
    pub(super) async fn connect(address: &str, timeout: Duration) -> anyhow::Result<Self> {
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(stream)
            .await?;
        // Its end shows in the calls that are under way then.
        tokio::spawn(connection);
        let uri = |method| format!("http://{address}/etcdserverpb.{method}").parse();
        Ok(Self {
            sender,
            put: uri("KV/Put")?,
            range: uri("KV/Range")?,
            txn: uri("KV/Txn")?,
            grant: uri("Lease/LeaseGrant")?,
            keep_alive: uri("Lease/LeaseKeepAlive")?,
        })
    }

    /// Sends one message and awaits the status.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(super) async fn call(&mut self, rpc: Rpc, message: Bytes) -> Result<(), CallError> {
        poll_fn(|context| self.sender.poll_ready(context)).await?;
        let (response, mut body) = self.sender.send_request(self.request(rpc), false)?;
        body.send_data(message, true)?;
        let (parts, mut body) = response.await?.into_parts();
        if let Some(outcome) = status(&parts.headers) {
            return outcome;
        }
        while let Some(piece) = body.data().await {
            body.flow_control().release_capacity(piece?.len())?;
        }
        let trailers = body.trailers().await?;
        trailers.as_ref().and_then(status).unwrap_or(Err(CallError::NoStatus))
    }

    fn request(&self, rpc: Rpc) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = match rpc {
            Rpc::Put => self.put.clone(),
            Rpc::Range => self.range.clone(),
            Rpc::Txn => self.txn.clone(),
            Rpc::LeaseGrant => self.grant.clone(),
            Rpc::LeaseKeepAlive => self.keep_alive.clone(),
        };
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        request
    }
}

/// A message as gRPC sends it.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let size = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + size);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(size).unwrap_or(u32::MAX));
    // The buffer grows: encoding into it cannot fail.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// The status in these headers or trailers, if there is one.
fn status(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    let code = headers.get("grpc-status")?;
    if code == "0" {
        return Some(Ok(()));
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let message = headers.get("grpc-message").map(text).unwrap_or_default();
    Some(Err(CallError::Status { code: text(code), message: message.replace("%20", " ") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        let request =
            quorate_etcd_api::etcdserverpb::RangeRequest { key: "ab".into(), ..Default::default() };
        assert_eq!(framed(&request).as_ref(), b"\0\0\0\0\x04\x0a\x02ab");
    }

    #[test]
    fn a_status_other_than_zero_is_an_error_with_its_text() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("etcdserver:%20no%20leader"));
        let error = status(&headers).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "status 14: etcdserver: no leader");
    }
}
