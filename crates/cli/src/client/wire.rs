//! The way to one endpoint, on which every request says who asks. Must not know what is asked.

use super::login::Login;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::{Service, ServiceExt};

/// Where etcd's clients put their token.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// What goes on for as long as somebody listens, and cannot be said twice.
const STREAMS: [&str; 2] = ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"];

/// What is said to a token that was good, and is no more.
const STALE: [&str; 3] = [
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
];

/// A connection to an endpoint, for somebody or for nobody.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    channel: Channel,
    login: Option<Arc<Login>>,
}

/// On behalf of nobody.
impl From<Channel> for Wire {
    fn from(channel: Channel) -> Self {
        Self { channel, login: None }
    }
}

impl Wire {
    pub(crate) const fn new(channel: Channel, login: Option<Arc<Login>>) -> Self {
        Self { channel, login }
    }
}

/// Whether these words say that a token has grown old.
pub(crate) fn is_stale(words: &str) -> bool {
    STALE.iter().any(|stale| words.ends_with(stale))
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let Some(login) = self.login.clone() else { return Box::pin(self.channel.call(request)) };
        // The one that is ready goes; its copy must ask first.
        let copy = self.channel.clone();
        let ready = std::mem::replace(&mut self.channel, copy);
        Box::pin(send(login, ready, request))
    }
}

/// Sends a request with a token; once more with another if it has grown old.
async fn send(
    login: Arc<Login>,
    mut channel: Channel,
    request: Request<Body>,
) -> Result<Response<Body>, Error> {
    let token = match login.token(&channel).await {
        Ok(token) => token,
        Err(status) => return Ok(status.into_http()),
    };
    let (head, body) = request.into_parts();
    if STREAMS.contains(&head.uri.path()) {
        return channel.call(signed(Request::from_parts(head, body), token)).await;
    }
    let body: Bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(status) => return Ok(status.into_http()),
    };
    let copy = || Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
    let response = channel.call(signed(copy(), token.clone())).await?;
    if !is_refused_as_stale(response.headers()) {
        return Ok(response);
    }
    login.forget();
    match login.token(&channel).await {
        Ok(other) if other == token => Ok(response),
        Ok(other) => {
            let ready = ServiceExt::<Request<Body>>::ready(&mut channel).await?;
            ready.call(signed(copy(), other)).await
        }
        Err(status) => Ok(status.into_http()),
    }
}

fn signed(mut request: Request<Body>, token: Option<HeaderValue>) -> Request<Body> {
    if let Some(token) = token {
        request.headers_mut().insert(TOKEN, token);
    }
    request
}

/// A refusal has no message, and so its end is in the headers.
fn is_refused_as_stale(headers: &HeaderMap) -> bool {
    let words = headers.get("grpc-message").and_then(|words| words.to_str().ok());
    words.is_some_and(is_stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_has_grown_old_is_told_from_a_right_that_is_missing() {
        for words in STALE {
            assert!(is_stale(words));
            assert!(is_stale(&format!("rpc error: code = Unauthenticated desc = {words}")));
        }
        assert!(!is_stale("etcdserver: permission denied"));
        assert!(!is_stale(""));
    }
}
