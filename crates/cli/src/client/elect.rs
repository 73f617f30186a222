//! `quorate elect`. Campaigns with a proposal and leads until a signal comes, or shows who leads. The keys
//! are those of etcd's clients, so that they meet in one election.

use super::connection::{Connection, Live};
use super::ending::Ending;
use super::lock::found;
use super::session::{Session, Signals, is_lost};
use super::{ClientVerb, bytes, get};
use anyhow::Context;
use quorate_etcd_api::etcdserverpb::RangeResponse;
use quorate_etcd_api::mvccpb::KeyValue;
use quorate_etcd_api::v3electionpb::{CampaignRequest, LeaderRequest, LeaderResponse};
use std::ffi::OsString;
use std::time::Duration;
use tonic::Request;

/// Between two attempts to go on.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long a leader that is gone goes on to be one, in seconds; as with etcd's clients.
const TTL_SECONDS: i64 = 60;

const EXAMPLES: &str = "\
Examples:
  quorate elect primary host-1        waits to lead, prints its key, and leads until Ctrl-C
  quorate elect --listen primary      shows each leader's key and proposal, until Ctrl-C";

/// Takes part in an election, or shows who leads.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Elect {
    /// Its name: all who say the same are in one election
    #[arg(value_name = "NAME")]
    name: OsString,
    /// What others shall see of us once we lead
    #[arg(value_name = "PROPOSAL", required_unless_present = "listen")]
    proposal: Option<OsString>,
    /// Only show who leads
    #[arg(short, long, conflicts_with = "proposal")]
    listen: bool,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Elect {
    async fn execute(self) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let Some(proposal) = &self.proposal else {
            return tokio::select! {
                end = self.observe() => end,
                () = signals.next() => Ok(()),
            };
        };
        let mut session = Session::begin(&self.connection, TTL_SECONDS).await?;
        let outcome = self.lead(proposal, &mut session, &mut signals).await;
        let ended = session.end().await;
        outcome.and(ended)
    }
}

impl Elect {
    async fn lead(
        &self,
        proposal: &OsString,
        session: &mut Session<'_>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let request = CampaignRequest {
            name: bytes(&self.name),
            lease: session.id(),
            value: bytes(proposal),
        };
        let elected = tokio::select! {
            elected = session.wait(async |live| {
                live.election().campaign(Request::new(request.clone())).await
            }) => elected?,
            () = signals.next() => return Err(Ending::Interrupted.into()),
        };
        let leader = elected.leader.context("the cluster did not say which key is ours")?;
        let found = found(&self.connection, session, leader.key).await?;
        get::show(&found, &self.connection)?;
        tokio::select! {
            end = session.keep() => Err(end.into()),
            () = signals.next() => Ok(()),
        }
    }

    /// Shows each leader once, for as long as there are endpoints.
    async fn observe(&self) -> anyhow::Result<()> {
        let mut live = self.connection.live().await?;
        let mut shown = None;
        loop {
            let end = self.follow(&live, &mut shown).await?;
            eprintln!("{}: {end}; going on", live.address());
            tokio::time::sleep(RETRY_PAUSE).await;
            self.connection.log_in_again();
            if let Ok(found) = self.connection.live().await {
                live = found;
            }
        }
    }

    /// Shows what one endpoint tells, until it is lost: why, in its words.
    async fn follow(&self, live: &Live, shown: &mut Option<KeyValue>) -> anyhow::Result<String> {
        let request = LeaderRequest { name: bytes(&self.name) };
        let refused = |status: tonic::Status| {
            let words = status.message().to_owned();
            if is_lost(&status) { Ok(words) } else { Err(anyhow::anyhow!(words)) }
        };
        let mut leaders = match live.election().observe(Request::new(request)).await {
            Ok(leaders) => leaders.into_inner(),
            Err(status) => return refused(status),
        };
        loop {
            match leaders.message().await {
                Ok(Some(LeaderResponse { header, kv: Some(kv) })) => {
                    if shown.as_ref() != Some(&kv) {
                        *shown = Some(kv.clone());
                        let answer =
                            RangeResponse { header, kvs: vec![kv], ..RangeResponse::default() };
                        get::show(&answer, &self.connection)?;
                    }
                }
                Ok(Some(LeaderResponse { kv: None, .. })) => {}
                Ok(None) => return Ok("ended the election's stream".to_owned()),
                Err(status) => return refused(status),
            }
        }
    }
}
