//! How a system is spoken with: gRPC with messages as they are, proper or not, and HTTP/1.1. Must not
//! know what the messages say, nor which system it is.

use crate::answer::Answer;
use anyhow::Context;
use bytes::{Buf, BufMut, Bytes};
use futures_util::stream::{self, StreamExt};
use http::uri::PathAndQuery;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Messages as bytes.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The way to a system.
#[derive(Clone)]
pub(crate) struct Link {
    channel: Channel,
    /// `host:port`.
    address: String,
}

impl Link {
    pub(crate) fn new(address: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = endpoint.tcp_nodelay(true).connect_lazy();
        Ok(Self { channel, address: address.to_owned() })
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// Asks a method of one message each way; the answer's message as it came.
    pub(crate) async fn unary(
        &self,
        path: &str,
        token: Option<&str>,
        message: Bytes,
    ) -> Result<Bytes, Answer> {
        let asked = async {
            let mut grpc = self.ready().await?;
            let request = with_token(message, token)?;
            grpc.unary(request, path_of(path)?, Raw).await
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(refusal(&status)),
            Err(_) => Err(Answer::Silence(format!("nothing within {PATIENCE:?}"))),
        }
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    /// Begins a method of many messages each way, or of many from there.
    pub(crate) async fn stream(
        &self,
        path: &str,
        token: Option<&str>,
        messages: impl futures_util::Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Answer> {
        let asked = async {
            let mut grpc = self.ready().await?;
            let request = with_token(messages, token)?;
            grpc.streaming(request, path_of(path)?, Raw).await
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(refusal(&status)),
            Err(_) => Err(Answer::Silence(format!("no stream within {PATIENCE:?}"))),
        }
    }

    /// The first message of a method of many, asked once.
    pub(crate) async fn first(
        &self,
        path: &str,
        token: Option<&str>,
        message: Bytes,
    ) -> Result<Bytes, Answer> {
        let mut answers = self.several(path, token, vec![message]).await?;
        answers.pop().ok_or_else(the_end)
    }

    /// As many messages of a method of many as it was asked.
    pub(crate) async fn several(
        &self,
        path: &str,
        token: Option<&str>,
        messages: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, Answer> {
        let count = messages.len();
        // The side that asks stays open: who says no more may be taken for gone.
        let asked = stream::iter(messages).chain(stream::pending());
        let mut messages = self.stream(path, token, asked).await?;
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(next(&mut messages).await?);
        }
        Ok(answers)
    }

    /// All messages of a method of many from there, asked once.
    pub(crate) async fn all(
        &self,
        path: &str,
        token: Option<&str>,
        message: Bytes,
    ) -> Result<Vec<Bytes>, Answer> {
        let mut messages = self.stream(path, token, stream::iter([message])).await?;
        let mut answers = Vec::new();
        loop {
            match next(&mut messages).await {
                Ok(message) => answers.push(message),
                Err(end) if end == the_end() => return Ok(answers),
                Err(answer) => return Err(answer),
            }
        }
    }

    /// One HTTP/1.1 request on a connection of its own.
    pub(crate) async fn page(
        &self,
        verb: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Answer {
        match timeout(PATIENCE, self.try_page(verb, path, token, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Silence(format!("{error:#}")),
            Err(_) => Answer::Silence(format!("nothing within {PATIENCE:?}")),
        }
    }

    async fn try_page(
        &self,
        verb: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> anyhow::Result<Answer> {
        let mut stream = self.request(verb, path, token, body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("reading the answer")?;
        page_of(&answer)
    }

    /// A connection on which this was asked for.
    async fn request(
        &self,
        verb: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).await.context("connecting")?;
        let token = token.map(|token| format!("authorization: {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{token}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        );
        stream.write_all(head.as_bytes()).await.context("asking")?;
        Ok(stream)
    }
}

impl Link {
    /// The first line of an HTTP/1.1 answer that has no end.
    pub(crate) async fn line(&self, path: &str, token: Option<&str>, body: &str) -> Answer {
        match timeout(PATIENCE, self.try_line(path, token, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Silence(format!("{error:#}")),
            Err(_) => Answer::Silence(format!("nothing within {PATIENCE:?}")),
        }
    }

    async fn try_line(
        &self,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> anyhow::Result<Answer> {
        let mut stream = self.request("POST", path, token, body).await?;
        let mut answer = Vec::new();
        while stream.read_buf(&mut answer).await.context("reading the answer")? > 0 {
            if let Some(line) = first_line(&answer) {
                return line;
            }
        }
        page_of(&answer)
    }
}

/// The first line of JSON behind the head, once it is there as a whole.
fn first_line(answer: &[u8]) -> Option<anyhow::Result<Answer>> {
    let text = String::from_utf8_lossy(answer);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let (line, _) = rest.get(rest.find('{')?..)?.split_once('\n')?;
    let body = serde_json::from_str(line.trim_end()).context("a line that is no JSON");
    Some(body.map(|body| Answer::Page { status, body }))
}

/// The next message of a stream.
async fn next(messages: &mut Streaming<Bytes>) -> Result<Bytes, Answer> {
    match timeout(PATIENCE, messages.message()).await {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Ok(None)) => Err(the_end()),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(Answer::Silence(format!("nothing within {PATIENCE:?}"))),
    }
}

fn path_of(path: &str) -> Result<PathAndQuery, Status> {
    PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))
}

fn with_token<M>(message: M, token: Option<&str>) -> Result<Request<M>, Status> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let token = token.parse().map_err(|_| Status::internal("no token looks so"))?;
        request.metadata_mut().insert("token", token);
    }
    Ok(request)
}

/// What a stream says that ends without a reason.
pub(crate) fn the_end() -> Answer {
    Answer::Refused { code: 0, text: "the end".to_owned() }
}

/// What a status says; an error of the connection is none of the system's answers.
pub(crate) fn refusal(status: &Status) -> Answer {
    if std::error::Error::source(status).is_some() {
        return Answer::Silence(format!("{status:?}"));
    }
    Answer::Refused { code: status.code().into(), text: status.message().to_owned() }
}

/// An HTTP/1.1 answer that is there as a whole.
fn page_of(answer: &[u8]) -> anyhow::Result<Answer> {
    let end =
        answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the head")?;
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).to_lowercase();
    let body = body.get(4..).unwrap_or_default();
    let status = head.split(' ').nth(1).context("no status")?.parse().context("no status")?;
    let body =
        if head.contains("transfer-encoding: chunked") { unchunked(body)? } else { body.into() };
    let text = String::from_utf8_lossy(&body).trim_end().to_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer::Page { status, body })
}

fn unchunked(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").context("no length of a chunk")?;
        let (length, rest) = body.split_at(end);
        let length = usize::from_str_radix(std::str::from_utf8(length)?.trim(), 16)?;
        if length == 0 {
            return Ok(whole);
        }
        let chunk = rest.get(2..2 + length).context("a chunk is cut off")?;
        whole.extend_from_slice(chunk);
        body = rest.get(4 + length..).context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_is_read_whole_or_in_chunks() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
        let expected = Answer::Page { status: 200, body: json!({"a": 1}) };
        assert_eq!(page_of(whole).unwrap(), expected);
        assert_eq!(page_of(chunks).unwrap(), expected);
        assert!(page_of(b"HTTP/1.1 200 OK\r\n").is_err());
    }

    #[test]
    fn the_first_line_is_read_once_it_is_there() {
        let all = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n9\r\n{\"a\":1}\n\r\n5\r\n{";
        assert!(first_line(&all[..30]).is_none());
        let expected = Answer::Page { status: 200, body: json!({"a": 1}) };
        assert_eq!(first_line(all).unwrap().unwrap(), expected);
    }

    #[test]
    fn a_page_that_is_no_json_is_a_text() {
        let page = page_of(b"HTTP/1.1 404 Not Found\r\n\r\nNot Found\n").unwrap();
        assert_eq!(page, Answer::Page { status: 404, body: json!("Not Found") });
    }
}
