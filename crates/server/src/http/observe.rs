//! The JSON gateway's election that is observed: one request, then a line of JSON for each change for
//! as long as the client listens, in etcd's form. Must not know what an election is.

use super::json;
use super::lines::{Line, line_of};
use crate::errors::Rejection;
use crate::head::Head;
use crate::service::{Observation, Service};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use prost::Message;
use quorate_etcd_api::v3electionpb::LeaderRequest;

/// Begins a stream.
pub(super) async fn begin(
    service: &Service,
    body: &[u8],
    head: &Head,
) -> Result<BoxStream<'static, Result<Bytes, Rejection>>, Rejection> {
    let request: LeaderRequest = json::from_json(body).map_err(Rejection::JsonMalformed)?;
    let request = request.encode_to_vec().into();
    let observation = service.observe(request, &head.caller, head.requires_leader).await?;
    Ok(Box::pin(stream::unfold(Some(observation), next_line)))
}

async fn next_line(
    observation: Option<Observation>,
) -> Option<(Result<Bytes, Rejection>, Option<Observation>)> {
    let mut observation = observation?;
    let line = observation.next().await.map(|result| line_of(&Line { result }));
    let rest = line.is_ok().then_some(observation);
    Some((line, rest))
}
