//! The JSON gateway over a WebSocket: each message of the client is a request, each line of the answer a
//! message. A watch and a keep-alive go on for as long as the client asks; everything else has one request.
//! Must not know how the socket came to be, nor what is asked.

use super::lines::{Line, last_line, line_of};
use super::{Content, upgrade};
use super::{gateway, json};
use crate::caller::PeerIdentity;
use crate::errors::Rejection;
use crate::head::Head;
use crate::method::Method;
use crate::service::{Keeper, Service};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::{FuturesOrdered, SplitSink, SplitStream, StreamExt};
use http::request::Parts;
use prost::Message as _;
use quorate_etcd_api::etcdserverpb as pb;
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// The largest message of a client: what is asked for over a socket is small.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What is read at a time.
const READ_BYTES: usize = 4 << 10;

/// How many renewals may wait for their answers before further ones are read, and as many more may come
/// in one message.
const RENEWALS_COUNT_MAX: usize = 1024;

/// How long a client may take to hear that it is over.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a conversation ends.
enum End {
    /// The client says so, or is gone.
    Left,
    /// The server has to end it.
    Rejected(Rejection),
    /// With this code and no words: everything is said, or the client sends what no socket may.
    Silent(CloseCode),
}

impl From<Rejection> for End {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Talks until either side ends it. `head` is that of the request which the socket was before.
pub(crate) async fn talk<S>(service: &Service, peer: &PeerIdentity, head: &Parts, socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(REQUEST_BYTES_MAX))
        .max_frame_size(Some(REQUEST_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let mut talk = Talk {
        service,
        requests: Requests { stream },
        answers: Answers { sink, is_free: true, has_spoken: false },
    };
    let said = talk.until_said(peer, head).await;
    let end = said.err().unwrap_or(End::Silent(CloseCode::Normal));
    let method = gateway::method_of(head.uri.path());
    // Whoever does not listen any more is not waited for.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, talk.say_goodbye(method, end)).await;
}

/// Returns when the server stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the service itself is gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

struct Talk<'a, S> {
    service: &'a Service,
    requests: Requests<S>,
    answers: Answers<S>,
}

/// What the client sends.
struct Requests<S> {
    stream: SplitStream<WebSocketStream<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Requests<S> {
    /// The next message. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            match self.stream.next().await {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                    return Ok(message.into_data());
                }
                // Pings are answered by themselves.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(Error::Capacity(_))) => return Err(End::Silent(CloseCode::Size)),
                Some(Err(Error::Protocol(_))) => return Err(End::Silent(CloseCode::Protocol)),
                Some(Err(Error::Utf8(_))) => return Err(End::Silent(CloseCode::Invalid)),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Left),
            }
        }
    }

    /// Returns when the client ends it; what else it sends means nothing.
    async fn until_left(&mut self) -> End {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }
}

/// Where messages leave: one at a time, at the pace of the client.
struct Answers<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    /// Whether everything was sent.
    is_free: bool,
    /// Whether there was anything to send.
    has_spoken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Answers<S> {
    /// Sends this line next. Everything before must have been sent.
    fn put(&mut self, line: &Bytes) -> Result<(), End> {
        let line = line.slice_ref(line.strip_suffix(b"\n").unwrap_or(line));
        let text = Utf8Bytes::try_from(line).map_err(|_| Rejection::Internal)?;
        (self.is_free, self.has_spoken) = (false, true);
        self.sink.start_send_unpin(Message::Text(text)).map_err(|_| End::Left)
    }

    /// Returns once everything is sent; never if there is nothing to send. Dropping the future loses
    /// nothing.
    async fn flush(&mut self) -> Result<(), End> {
        if self.is_free {
            return pending().await;
        }
        self.sink.flush().await.map_err(|_| End::Left)?;
        self.is_free = true;
        Ok(())
    }

    /// Tells the client that it is over.
    async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        // A client that is gone need not be told.
        let _ = self.sink.send(Message::Close(Some(frame))).await;
    }

    /// Sends each line of this.
    async fn say(&mut self, lines: &Bytes) -> Result<(), End> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.put(&lines.slice_ref(line))?;
            self.flush().await?;
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    /// Returns once everything is said.
    async fn until_said(&mut self, peer: &PeerIdentity, head: &Parts) -> Result<(), End> {
        let asked = Head::by_gateway(&upgrade::headers_of(head), peer)?;
        match gateway::method_of(head.uri.path()) {
            Some(Method::Watch) => self.watch(&asked).await,
            Some(Method::LeaseKeepAlive) => self.keep_alive(&asked).await,
            Some(_) | None => self.answer_one(peer, head).await,
        }
    }

    /// Requests in, responses out, until the client ends it or the server has to.
    async fn watch(&mut self, head: &Head) -> Result<(), End> {
        let Self { service, requests, answers } = self;
        service.may_stream(Method::Watch, head.requires_leader)?;
        let _place = service.take_stream()?;
        let mut session = service.watch_session(head.requires_leader, &head.caller);
        loop {
            let is_free = answers.is_free;
            tokio::select! {
                biased;
                message = requests.next(), if session.has_room() => {
                    for request in json::requests_of::<pb::WatchRequest>(&message?) {
                        let request = request.map_err(Rejection::JsonStreamMalformed)?;
                        session.request(request.encode_to_vec().into())?;
                    }
                }
                flushed = answers.flush() => flushed?,
                response = session.next(is_free) => {
                    let result = pb::WatchResponse::decode(&*response?.encode_to_vec());
                    let result = result.map_err(|_| Rejection::Internal)?;
                    answers.put(&line_of(&Line { result }))?;
                }
            }
        }
    }

    /// Renewals in, answers in their order.
    async fn keep_alive(&mut self, head: &Head) -> Result<(), End> {
        let Self { service, requests, answers } = self;
        service.may_stream(Method::LeaseKeepAlive, head.requires_leader)?;
        let mut leader = service.leader_need(head.requires_leader);
        let _place = service.take_stream()?;
        let mut stopping = service.stopping();
        let keeper = Keeper::new(&head.caller);
        let mut renewals = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                message = requests.next(), if renewals.len() < RENEWALS_COUNT_MAX => {
                    let message = message?;
                    let asked = json::requests_of::<pb::LeaseKeepAliveRequest>(&message);
                    for (place, request) in asked.enumerate() {
                        if place >= RENEWALS_COUNT_MAX {
                            return Err(Rejection::TooManyRequests.into());
                        }
                        let request = request.map_err(Rejection::JsonStreamMalformed)?;
                        renewals.push_back(service.lease_keep_alive(request, &keeper));
                    }
                }
                flushed = answers.flush() => flushed?,
                Some(answer) = renewals.next(), if answers.is_free => {
                    answers.put(&line_of(&Line { result: answer? }))?;
                }
                () = leader.lost() => return Err(Rejection::NoLeader.into()),
                () = stopped(&mut stopping) => return Err(Rejection::Stopped.into()),
            }
        }
    }

    /// One request, and its answer as a page would have it, line by line.
    async fn answer_one(&mut self, peer: &PeerIdentity, head: &Parts) -> Result<(), End> {
        let Self { service, requests, answers } = self;
        let mut stopping = service.stopping();
        let body = tokio::select! {
            message = requests.next() => message?,
            () = stopped(&mut stopping) => return Err(Rejection::Stopped.into()),
        };
        let mut head = head.clone();
        head.headers = upgrade::headers_of(&head);
        head.method = http::Method::POST;
        let answer = gateway::respond(service, peer, &head, body);
        let answer = tokio::select! {
            answer = answer => answer.into_body().with_room(service.unread())?,
            // Whoever waited for something waits no more.
            end = requests.until_left() => return Err(end),
        };
        match answer {
            Content::Whole(rest) => answers.say(&rest).await,
            Content::Large { rest, place } => {
                let said = answers.say(&rest).await;
                drop(place);
                said
            }
            Content::Lines(mut lines) | Content::Pieces(mut lines) => loop {
                let line = tokio::select! {
                    line = lines.next() => line,
                    end = requests.until_left() => return Err(end),
                };
                match line {
                    Some(line) => answers.say(&line).await?,
                    None => return Ok(()),
                }
            },
        }
    }

    /// Says why it is over, if there is something to say, and that it is.
    async fn say_goodbye(&mut self, method: Option<Method>, end: End) {
        let (code, last) = match end {
            End::Left => return,
            End::Silent(code) => (code, None),
            // As in etcd, who has heard nothing yet gets a page's refusal.
            End::Rejected(rejection) if !self.answers.has_spoken => {
                (CloseCode::Normal, Some(gateway::refusal(method, &rejection).into_body()))
            }
            End::Rejected(rejection) => (CloseCode::Normal, Some(last_line(&rejection))),
        };
        if let Some(last) = last
            && self.answers.say(&last).await.is_err()
        {
            return;
        }
        self.answers.close(code).await;
        // What the client has sent meanwhile must be read, or else it may not hear the last of it.
        let _ = self.requests.until_left().await;
    }
}
