//! What an entry of a log says, in a few words. Never shows a value, a hash or a token: logs are sent to
//! people who may not see them.

use bytes::Bytes;
use prost::Message;
use quorate::SessionRequest;
use quorate::core::{Configuration, MemberRole, Payload};
use quorate::parts::read_session_entry;
use quorate::wal::RecordContent;
use quorate_kv::auth::api::AuthRequestKind;
use quorate_kv::{
    AlarmKind, AlarmRequest, Command, CommandKind, DeleteRangeRequest, PutRequest, TxnRequest,
};

/// The kind of a record.
pub(super) const fn kind(content: &RecordContent) -> &'static str {
    match content {
        RecordContent::Entry(Payload::Noop) => "no-op",
        RecordContent::Entry(Payload::Command(_)) => "command",
        RecordContent::Entry(Payload::Session(_)) => "session",
        RecordContent::Entry(Payload::Configuration(_)) => "configuration",
        RecordContent::Truncation => "truncate",
        RecordContent::Undecodable => "undecodable",
    }
}

/// What it says.
pub(super) fn content(content: &RecordContent) -> String {
    match content {
        RecordContent::Entry(Payload::Noop) => "a new leader's first entry".to_owned(),
        RecordContent::Entry(Payload::Command(bytes)) => command(bytes),
        RecordContent::Entry(Payload::Session(bytes)) => session(bytes),
        RecordContent::Entry(Payload::Configuration(configuration)) => members(configuration),
        RecordContent::Truncation => "the log ends with this entry from here on".to_owned(),
        RecordContent::Undecodable => "its checksum fits and its content makes no sense".to_owned(),
    }
}

fn command(bytes: &Bytes) -> String {
    match Command::decode(bytes.clone()).ok().and_then(|command| command.kind) {
        Some(kind) => kind_words(&kind),
        None => "no command that this program knows".to_owned(),
    }
}

fn session(bytes: &Bytes) -> String {
    match read_session_entry(bytes.clone()) {
        Ok((_, SessionRequest::Open { .. })) => "opens a session".to_owned(),
        Ok((_, SessionRequest::Command { session, number, command: bytes, .. })) => {
            format!("session {}, number {number}: {}", session.id, command(&bytes))
        }
        Ok((_, SessionRequest::KeepAlive { session })) => format!("session {} lives", session.id),
        Ok((_, SessionRequest::Close { session })) => format!("closes session {}", session.id),
        Err(error) => format!("no session's request: {error}"),
    }
}

fn members(configuration: &Configuration) -> String {
    let roles = configuration.members.iter().map(|(id, member)| {
        let role = match member.role {
            MemberRole::Voter => "voter",
            MemberRole::Incoming => "incoming",
            MemberRole::Outgoing => "outgoing",
            MemberRole::Learner => "learner",
        };
        format!("{:x} {role} at {}", id.get(), member.address)
    });
    let roles: Vec<String> = roles.collect();
    let disks = configuration.storages.len();
    format!("version {}: {}; {disks} disks known", configuration.version, roles.join(", "))
}

fn kind_words(kind: &CommandKind) -> String {
    match kind {
        CommandKind::Put(put) => put_words(put),
        CommandKind::DeleteRange(delete) => format!("del {}", range(delete)),
        CommandKind::Txn(txn) => txn_words(txn),
        CommandKind::Compact(compact) => format!("compact to revision {}", compact.revision),
        CommandKind::LeaseGrant(grant) => format!("grant lease {:x} for {} s", grant.id, grant.ttl),
        CommandKind::LeaseRevoke(revoke) => format!("revoke lease {:x}", revoke.id),
        CommandKind::LeaseRenew(renew) => {
            format!("renew leases {}", ids(renew.ids.iter().copied()))
        }
        CommandKind::LeaseExpire(expire) => {
            format!("expire leases {}", ids(expire.leases.iter().map(|lease| lease.id)))
        }
        CommandKind::Auth(auth) => auth.kind.as_ref().map_or("users", auth_words).to_owned(),
        CommandKind::Alarm(alarm) => alarm_words(alarm),
    }
}

fn put_words(put: &PutRequest) -> String {
    let size_bytes = put.value.len();
    let lease = if put.lease == 0 { String::new() } else { format!(", lease {:x}", put.lease) };
    format!("put {} = {size_bytes} bytes{lease}", key(&put.key))
}

fn range(delete: &DeleteRangeRequest) -> String {
    let first = key(&delete.key);
    match delete.range_end.as_ref() {
        b"" => first,
        b"\0" => format!("everything from {first} on"),
        end => format!("{first} up to before {}", key(end)),
    }
}

fn txn_words(txn: &TxnRequest) -> String {
    let [compares, then, otherwise] = [txn.compare.len(), txn.success.len(), txn.failure.len()];
    format!("txn: {compares} compares, then {then} requests, else {otherwise}")
}

fn ids(ids: impl Iterator<Item = i64>) -> String {
    ids.map(|id| format!("{id:x}")).collect::<Vec<_>>().join(", ")
}

const fn auth_words(kind: &AuthRequestKind) -> &'static str {
    match kind {
        AuthRequestKind::Enable(_) => "auth enable",
        AuthRequestKind::Disable(_) => "auth disable",
        AuthRequestKind::UserAdd(_) => "user add",
        AuthRequestKind::UserDelete(_) => "user delete",
        AuthRequestKind::UserChangePassword(_) => "user passwd",
        AuthRequestKind::UserGrantRole(_) => "user grant-role",
        AuthRequestKind::UserRevokeRole(_) => "user revoke-role",
        AuthRequestKind::RoleAdd(_) => "role add",
        AuthRequestKind::RoleDelete(_) => "role delete",
        AuthRequestKind::RoleGrantPermission(_) => "role grant-permission",
        AuthRequestKind::RoleRevokePermission(_) => "role revoke-permission",
        AuthRequestKind::Authenticate(_) => "authenticate",
    }
}

fn alarm_words(alarm: &AlarmRequest) -> String {
    let kind = AlarmKind::try_from(alarm.alarm).unwrap_or(AlarmKind::None);
    format!("alarm {:?} {kind:?} of member {:x}", alarm.action(), alarm.member_id)
}

/// Keys are bytes; what cannot be printed is escaped.
fn key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => key.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: CommandKind) -> String {
        let bytes = Command::new(kind).encode_to_vec().into();
        content(&RecordContent::Entry(Payload::Command(bytes)))
    }

    #[test]
    fn commands_are_told_without_their_values() {
        let (key, value) = ("k".into(), "secret".into());
        let put = PutRequest { key, value, lease: 26, ..Default::default() };
        assert_eq!(said(CommandKind::Put(put)), "put k = 6 bytes, lease 1a");
        let delete = |end: &'static [u8]| {
            let (key, range_end) = (b"a\x01"[..].into(), end.into());
            said(CommandKind::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
        };
        assert_eq!(delete(b""), "del a\\x01");
        assert_eq!(delete(b"\0"), "del everything from a\\x01 on");
        assert_eq!(delete(b"b"), "del a\\x01 up to before b");
    }

    #[test]
    fn what_does_not_decode_is_said_to() {
        let bytes = Bytes::from_static(b"\xff\xff");
        let entry = |payload| content(&RecordContent::Entry(payload));
        assert!(entry(Payload::Command(bytes.clone())).contains("no command"));
        assert!(entry(Payload::Session(bytes)).contains("no session's request"));
    }
}
