//! `quorate alarm`. Alarms say that something is wrong with a member, and forbid what would make it
//! worse, until somebody clears them.

use super::connection::{Connection, Format, Kind};
use super::{ClientVerb, fields, json};
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse};

const EXAMPLES: &str = "\
Examples:
  quorate alarm list
  quorate alarm disarm

NOSPACE: the data of a member has reached --quota-backend-bytes, and nothing can be stored any more.
Make room first, then clear the alarm:
  quorate compaction --physical REVISION      forgets old values, which is most of it
  quorate del --prefix KEY                    ... and then compact again
  quorate alarm disarm

Or the disk of a member is nearly full: see --disk-reserve, and the log of that member. Then make room on
that disk; this alarm clears itself.";

/// Shows and clears the alarms of a cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Alarm {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Shows the alarms that are raised
    List(Options),
    /// Clears all alarms; one whose cause is still there comes back
    Disarm(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    #[command(flatten)]
    connection: Connection,
}

impl ClientVerb for Alarm {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::List(options) => show(options.connection.write_out, &options.list().await?),
            Verb::Disarm(options) => options.disarm().await,
        }
    }
}

impl Options {
    async fn list(&self) -> anyhow::Result<AlarmResponse> {
        self.ask(AlarmAction::Get, AlarmMember::default()).await
    }

    async fn disarm(&self) -> anyhow::Result<()> {
        let mut cleared = self.list().await?;
        let mut alarms = Vec::new();
        for alarm in std::mem::take(&mut cleared.alarms) {
            let answer = self.ask(AlarmAction::Deactivate, alarm).await?;
            alarms.extend(answer.alarms);
            cleared.header = answer.header;
        }
        show(self.connection.write_out, &AlarmResponse { alarms, ..cleared })
    }

    async fn ask(&self, action: AlarmAction, alarm: AlarmMember) -> anyhow::Result<AlarmResponse> {
        let request =
            AlarmRequest { action: action.into(), member_id: alarm.member_id, alarm: alarm.alarm };
        let live = self.connection.live().await?;
        let mut maintenance = live.maintenance();
        let call = maintenance.alarm(self.connection.request(request));
        self.connection.answer(&live, Kind::Write, call).await
    }
}

fn show(format: Format, response: &AlarmResponse) -> anyhow::Result<()> {
    match format {
        Format::Json => json::print(&json::alarms(response)),
        Format::Fields => {
            fields::alarms(response);
            Ok(())
        }
        Format::Simple | Format::Table => {
            for alarm in &response.alarms {
                println!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm().as_str_name());
            }
            Ok(())
        }
    }
}
