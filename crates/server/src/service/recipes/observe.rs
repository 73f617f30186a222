//! One client's view of an election: who leads, and each change of it. Must not know how what it tells
//! travels.

use super::party::{News, Party, Watched};
use super::requests::{Line, wire_header, wire_key};
use crate::caller::Caller;
use crate::errors::Rejection;
use crate::method::Method;
use crate::service::watch::WatchSession;
use crate::service::{Origin, Service};
use bytes::Bytes;
use prost::Message;
use quorate::Node;
use quorate_etcd_api::v3electionpb as pb;
use quorate_kv::api::{KeyValue, RangeResponse, ResponseHeader};
use quorate_kv::watch::{EventKind, WatchFilter, WatchResponse};
use std::collections::VecDeque;
use tokio::time::Instant;

/// See the module.
pub(crate) struct Observation {
    node: Node,
    party: Party,
    line: Line,
    stage: Stage,
    /// What is to be told next; no more than one response of a watch holds.
    untold: VecDeque<(ResponseHeader, KeyValue)>,
    /// The key and the change that was told last: after a gap it may be found again.
    told: Option<(Bytes, i64)>,
}

/// What is done next.
enum Stage {
    /// To look who leads.
    Look,
    /// Nobody leads: to wait for the first who does.
    Vacant(WatchSession),
    /// To follow what they proclaim, until they lead no more.
    Follow(WatchSession),
}

impl Service {
    /// Begins to observe the election that the request names.
    pub(crate) async fn observe(
        &self,
        message: Bytes,
        caller: &Caller,
        requires_leader: bool,
    ) -> Result<Observation, Rejection> {
        let pb::LeaderRequest { name } = pb::LeaderRequest::decode(message)?;
        let deadline = Instant::now() + self.options.request_timeout;
        let access = self.enter(Method::Observe, caller, deadline).await?;
        Ok(Observation {
            node: self.node.clone(),
            party: self.party(&access, requires_leader),
            line: Line::of(&name),
            stage: Stage::Look,
            untold: VecDeque::new(),
            told: None,
        })
    }
}

impl Observation {
    /// What the client is told next. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<pb::LeaderResponse, Rejection> {
        loop {
            if let Some((header, leader)) = self.untold.pop_front() {
                return Ok(self.tell(header, leader));
            }
            self.advance().await.map_err(Rejection::of_step)?;
        }
    }

    fn tell(&mut self, header: ResponseHeader, leader: KeyValue) -> pb::LeaderResponse {
        self.told = Some((leader.key.clone(), leader.mod_revision));
        let mut header = Some(header);
        Origin::of(&self.node).complete(&mut header);
        pb::LeaderResponse { header: header.map(wire_header), kv: Some(wire_key(leader)) }
    }

    async fn advance(&mut self) -> Result<(), Rejection> {
        let response = match &mut self.stage {
            Stage::Look => {
                let request = self.line.first();
                let read =
                    self.party.look(move |reader, access| reader.range_for(access, &request));
                let found = read.await?;
                self.found(found);
                return Ok(());
            }
            Stage::Vacant(session) | Stage::Follow(session) => session.next(true).await?,
        };
        let is_vacant = matches!(self.stage, Stage::Vacant(_));
        match self.party.judge(response, &self.line)? {
            News::Missed => self.stage = Stage::Look,
            News::Heard(response) if is_vacant => self.begun(response),
            News::Heard(response) => self.followed(response),
        }
        Ok(())
    }

    /// Who leads, as it was read.
    fn found(&mut self, found: RangeResponse) {
        let header = found.header.unwrap_or_default();
        if let Some(leader) = found.kvs.into_iter().next() {
            return self.follow(header, leader);
        }
        let Line { from: key, end: range_end } = self.line.clone();
        let watched = Watched { key, range_end, unwanted: Some(WatchFilter::NoDelete) };
        self.stage = Stage::Vacant(self.party.watch(vec![watched], header.revision));
    }

    /// Somebody leads where nobody did: the first who came.
    fn begun(&mut self, response: WatchResponse) {
        let Some(leader) = response.events.into_iter().find_map(|event| event.kv) else { return };
        // Others may have come since, and this one may be gone already.
        let header = response.header.unwrap_or_default();
        self.follow(ResponseHeader { revision: leader.mod_revision, ..header }, leader);
    }

    fn follow(&mut self, header: ResponseHeader, leader: KeyValue) {
        let (key, range_end) = (leader.key.clone(), Bytes::new());
        let watched = Watched { key: key.clone(), range_end, unwanted: None };
        self.stage = Stage::Follow(self.party.watch(vec![watched], header.revision));
        if self.told != Some((key, leader.mod_revision)) {
            self.untold.push_back((header, leader));
        }
    }

    /// What became of the key of who leads.
    fn followed(&mut self, response: WatchResponse) {
        let header = response.header.unwrap_or_default();
        for event in response.events {
            if event.kind == i32::from(EventKind::Delete) {
                self.stage = Stage::Look;
                return;
            }
            self.untold.extend(event.kv.map(|leader| (header, leader)));
        }
    }
}
