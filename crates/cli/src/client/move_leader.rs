//! `quorate move-leader`. Finds the leader among the endpoints, and asks it to hand over.

use super::ClientVerb;
use super::connection::{Connection, Kind};
use super::member::identified;
use anyhow::Context;
use quorate_etcd_api::etcdserverpb::MoveLeaderRequest;

const EXAMPLES: &str = "\
Examples:
  quorate status                   shows the members' names and ids, and who leads
  quorate move-leader n2
  quorate move-leader 8e9e05c52164694d
The endpoints must name the leader: only it can hand over. Writes wait meanwhile, for about a round
trip.";

/// Lets another member lead.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MoveLeader {
    /// Who shall lead: its name or id
    #[arg(value_name = "MEMBER")]
    member: String,
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for MoveLeader {
    async fn execute(self) -> anyhow::Result<()> {
        let (live, own) = self.connection.leader().await.context(
            "no endpoint that answered leads: name the leader's with --endpoints; \
             `quorate status` shows who it is",
        )?;
        let target_id = identified(&self.connection, &live, &self.member).await?;
        let mut maintenance = live.maintenance();
        let call =
            maintenance.move_leader(self.connection.request(MoveLeaderRequest { target_id }));
        self.connection.answer(&live, Kind::Write, call).await?;
        println!("Leadership transferred from {own:x} to {target_id:x}");
        Ok(())
    }
}
