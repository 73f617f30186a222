//! `quorate lease`: grants, revokes, renews and shows leases. What it prints is what etcdctl prints;
//! a renewal goes on through lost connections and members.

use super::connection::{Connection, Format, Kind, Live};
use super::put::parse_lease;
use super::{ClientVerb, fields, json};
use anyhow::bail;
use futures_util::stream;
use quorate_etcd_api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use std::io::{self, Write};
use std::time::Duration;

/// Between two attempts to go on.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  quorate lease grant 60                 a lease that lives for a minute; prints its id
  quorate put --lease ID greeting hello  a key that goes when the lease does
  quorate lease keep-alive ID            renews it until Ctrl-C
  quorate lease timetolive --keys ID     what is left of it, and its keys
  quorate lease revoke ID                ends it now, and deletes its keys";

/// Keys that live only as long as somebody renews their lease.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Lease {
    #[command(subcommand)]
    verb: LeaseVerb,
}

#[derive(Debug, clap::Subcommand)]
enum LeaseVerb {
    /// Makes a lease
    Grant {
        /// How long it lives without being renewed, in seconds
        #[arg(value_name = "TTL", allow_negative_numbers = true)]
        ttl: i64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Ends a lease and deletes its keys
    Revoke {
        /// Which one (hexadecimal)
        #[arg(value_name = "ID", value_parser = parse_lease)]
        id: i64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Renews a lease again and again, until Ctrl-C
    KeepAlive {
        /// Which one (hexadecimal)
        #[arg(value_name = "ID", value_parser = parse_lease)]
        id: i64,
        /// Renew it once
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows how much of its time a lease has left
    Timetolive {
        /// Which one (hexadecimal)
        #[arg(value_name = "ID", value_parser = parse_lease)]
        id: i64,
        /// Show its keys too
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Shows all leases, the one that ends first before the others
    List {
        #[command(flatten)]
        connection: Connection,
    },
}

impl ClientVerb for Lease {
    async fn execute(self) -> anyhow::Result<()> {
        match self.verb {
            LeaseVerb::Grant { ttl, connection } => grant(ttl, &connection).await,
            LeaseVerb::Revoke { id, connection } => revoke(id, &connection).await,
            LeaseVerb::KeepAlive { id, once, connection } => {
                keep_alive(id, once, &connection).await
            }
            LeaseVerb::Timetolive { id, keys, connection } => {
                time_to_live(id, keys, &connection).await
            }
            LeaseVerb::List { connection } => list(&connection).await,
        }
    }
}

async fn grant(ttl: i64, connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut lease = live.lease();
    let call = lease.lease_grant(connection.request(LeaseGrantRequest { ttl, id: 0 }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    match connection.write_out {
        Format::Json => json::print(&json::lease_grant(&response)),
        Format::Fields => {
            fields::header(response.header.as_ref());
            fields::field("ID", response.id);
            fields::field("TTL", response.ttl);
            Ok(())
        }
        Format::Simple | Format::Table => {
            println!("lease {} granted with TTL({}s)", hexadecimal(response.id), response.ttl);
            Ok(())
        }
    }
}

async fn revoke(id: i64, connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut lease = live.lease();
    let call = lease.lease_revoke(connection.request(LeaseRevokeRequest { id }));
    let response = connection.answer(&live, Kind::Write, call).await?;
    match connection.write_out {
        Format::Json => json::print(&json::lease_revoke(&response)),
        Format::Fields => {
            fields::header(response.header.as_ref());
            Ok(())
        }
        Format::Simple | Format::Table => {
            println!("lease {} revoked", hexadecimal(id));
            Ok(())
        }
    }
}

async fn time_to_live(id: i64, keys: bool, connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut lease = live.lease();
    let call = lease.lease_time_to_live(connection.request(LeaseTimeToLiveRequest { id, keys }));
    let response = connection.answer(&live, Kind::Read, call).await?;
    match connection.write_out {
        Format::Json => json::print(&json::lease_time_to_live(&response)),
        Format::Fields => {
            fields::time_to_live(&response);
            Ok(())
        }
        Format::Simple | Format::Table => {
            println!("{}", remaining(&response, keys));
            Ok(())
        }
    }
}

fn remaining(response: &LeaseTimeToLiveResponse, keys: bool) -> String {
    let LeaseTimeToLiveResponse { id, ttl, granted_ttl, .. } = response;
    let id = hexadecimal(*id);
    if *granted_ttl == 0 && *ttl == -1 {
        return format!("lease {id} already expired");
    }
    let text = format!("lease {id} granted with TTL({granted_ttl}s), remaining({ttl}s)");
    if !keys {
        return text;
    }
    let keys: Vec<_> = response.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
    format!("{text}, attached keys([{}])", keys.join(" "))
}

async fn list(connection: &Connection) -> anyhow::Result<()> {
    let live = connection.live().await?;
    let mut lease = live.lease();
    let call = lease.lease_leases(connection.request(LeaseLeasesRequest {}));
    let response = connection.answer(&live, Kind::Read, call).await?;
    match connection.write_out {
        Format::Json => json::print(&json::lease_list(&response)),
        Format::Fields => {
            fields::header(response.header.as_ref());
            for lease in &response.leases {
                fields::field("ID", lease.id);
            }
            Ok(())
        }
        Format::Simple | Format::Table => {
            let mut out = io::stdout().lock();
            writeln!(out, "found {} leases", response.leases.len())?;
            for lease in &response.leases {
                writeln!(out, "{}", hexadecimal(lease.id))?;
            }
            Ok(())
        }
    }
}

/// Renews a lease each third of its time. A renewal that fails is tried again, with whichever
/// endpoint is alive then.
async fn keep_alive(id: i64, once: bool, connection: &Connection) -> anyhow::Result<()> {
    // Who starts it without a cluster wants to know that; later the cluster may come back.
    let mut live = connection.live().await?;
    loop {
        let renewed = match renew(id, &live, connection).await {
            Ok(renewed) => renewed,
            Err(error) if once => return Err(error),
            Err(error) => {
                note(&format!("{error:#}; trying again"));
                tokio::time::sleep(RETRY_PAUSE).await;
                connection.log_in_again();
                if let Ok(found) = connection.live().await {
                    live = found;
                }
                continue;
            }
        };
        if renewed.ttl <= 0 {
            if once {
                bail!("etcdserver: requested lease not found");
            }
            println!("lease {} expired or revoked.", hexadecimal(id));
            return Ok(());
        }
        show_renewal(&renewed, connection)?;
        if once {
            return Ok(());
        }
        let ttl = Duration::from_secs(u64::try_from(renewed.ttl).unwrap_or(0));
        tokio::time::sleep(ttl / 3).await;
    }
}

pub(super) async fn renew(
    id: i64,
    live: &Live,
    connection: &Connection,
) -> anyhow::Result<LeaseKeepAliveResponse> {
    let mut lease = live.lease();
    let requests = stream::iter([LeaseKeepAliveRequest { id }]);
    let call = lease.lease_keep_alive(connection.request(requests));
    let mut answers = connection.answer(live, Kind::Read, call).await?;
    // The answer's time counts anew: it is another one than the stream's.
    let answer = async { Ok(tonic::Response::new(answers.message().await?)) };
    match connection.answer(live, Kind::Read, answer).await? {
        Some(renewed) => Ok(renewed),
        None => bail!("{} ended the stream without an answer", live.address()),
    }
}

fn show_renewal(renewed: &LeaseKeepAliveResponse, connection: &Connection) -> anyhow::Result<()> {
    match connection.write_out {
        Format::Json => json::print(&json::lease_keep_alive(renewed)),
        Format::Fields => {
            fields::header(renewed.header.as_ref());
            fields::field("ID", renewed.id);
            fields::field("TTL", renewed.ttl);
            Ok(())
        }
        Format::Simple | Format::Table => {
            let mut out = io::stdout().lock();
            let id = hexadecimal(renewed.id);
            writeln!(out, "lease {id} keepalived with TTL({})", renewed.ttl)?;
            Ok(out.flush()?)
        }
    }
}

fn note(text: &str) {
    // Nobody is left to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// An id as etcdctl prints it: sixteen places, the sign among them.
fn hexadecimal(id: i64) -> String {
    if id < 0 { format!("-{:015x}", id.unsigned_abs()) } else { format!("{id:016x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_as_etcdctl_prints_them_and_can_be_read_again() {
        assert_eq!(hexadecimal(0x1234), "0000000000001234");
        assert_eq!(hexadecimal(-77), "-00000000000004d");
        for id in [1, -77, i64::MAX] {
            assert_eq!(parse_lease(&hexadecimal(id)), Ok(id));
        }
    }

    #[test]
    fn a_lease_that_is_gone_is_told_from_one_that_is_not() {
        let gone = LeaseTimeToLiveResponse { id: 1, ttl: -1, ..Default::default() };
        assert_eq!(remaining(&gone, true), "lease 0000000000000001 already expired");
        let keys = vec!["a".into(), "b".into()];
        let there =
            LeaseTimeToLiveResponse { id: 1, ttl: 9, granted_ttl: 10, keys, ..Default::default() };
        let text = "lease 0000000000000001 granted with TTL(10s), remaining(9s)";
        assert_eq!(remaining(&there, false), text);
        assert_eq!(remaining(&there, true), format!("{text}, attached keys([a b])"));
    }
}
