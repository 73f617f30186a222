//! Clients that raise alarms, and clear them soon; and what is asked meanwhile that alarms forbid, or
//! just do not. Nobody waits for the answers but the reference model. Knows nothing of why somebody
//! raises one.

use super::codec::value_bytes;
use super::forbidden::{CLEAR, CORRUPT, DISK_FULL, LIST, NO_KIND, NO_SPACE, RAISE};
use crate::application::{OpId, Request};
use crate::rng::{Chance, Rng};
use bytes::Bytes;
use prost::Message;
use quorate_core::NodeId;
use quorate_kv::api::{
    DeleteRangeRequest, PutRequest, RangeRequest, Request as KvRequest, RequestOp, TxnRequest,
};
use quorate_kv::lease::api::{LeaseGrantRequest, LeaseRevokeRequest};
use quorate_kv::{AlarmRequest, Command, CommandKind};
use std::collections::{BTreeMap, BTreeSet};

/// A kind of alarm, and something to do with one, that nobody knows.
const UNKNOWN: i32 = 7;
/// A member that there never is.
const NOBODY: u64 = 1 << 40;

/// The clients that have to do with alarms.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// The chance of a request that raises one.
    chance: Option<Chance>,
    open: BTreeSet<OpId>,
    /// What members' servers say of their disks, until it is answered.
    about_disks: BTreeMap<NodeId, OpId>,
}

impl Alarms {
    /// From now on alarms are raised by this chance a request.
    pub(super) fn set_chance(&mut self, chance: Chance) {
        self.chance = Some(chance).filter(|chance| chance.is_possible());
    }

    /// Perhaps a request that has to do with alarms; else the client does something else. `raised`
    /// are those that stand at the newest place that any replica has come to: whoever raised them,
    /// and however late, somebody clears them.
    pub(super) fn request(
        &mut self,
        op: OpId,
        raised: &BTreeSet<(u64, i32)>,
        nodes: &[NodeId],
        rng: &mut Rng,
    ) -> Option<Request> {
        let kind = match (raised.first(), self.chance) {
            (None, None) => return None,
            (None, Some(chance)) => {
                if !rng.happens(chance) {
                    return None;
                }
                CommandKind::Alarm(first(nodes, rng))
            }
            (Some(first), None) => CommandKind::Alarm(clear(*first)),
            (Some(_), Some(_)) => meanwhile(op, raised, nodes, rng)?,
        };
        Some(self.send(op, kind))
    }

    /// Clears what is raised.
    pub(super) fn clear(&mut self, op: OpId, raised: (u64, i32)) -> Request {
        self.send(op, CommandKind::Alarm(clear(raised)))
    }

    /// What a member says of its disk, unless it is saying something already.
    pub(super) fn about_disk(
        &mut self,
        node: NodeId,
        is_short: bool,
        next_op: &mut dyn FnMut() -> OpId,
    ) -> Option<(OpId, Request)> {
        if self.about_disks.contains_key(&node) {
            return None;
        }
        let (op, action) = (next_op(), if is_short { RAISE } else { CLEAR });
        self.about_disks.insert(node, op);
        let request = AlarmRequest { action, member_id: node.get(), alarm: DISK_FULL };
        Some((op, self.send(op, CommandKind::Alarm(request))))
    }

    /// Whether this was an answer to one of ours.
    pub(super) fn answered(&mut self, op: OpId) -> bool {
        self.about_disks.retain(|_, said| *said != op);
        self.open.remove(&op)
    }

    fn send(&mut self, op: OpId, kind: CommandKind) -> Request {
        self.open.insert(op);
        Request::Command(Command::new(kind).encode_to_vec().into())
    }
}

/// Raises one, or does something that should leave everything as it is.
fn first(nodes: &[NodeId], rng: &mut Rng) -> AlarmRequest {
    let member_id = member(nodes, rng);
    match rng.below(12) {
        0 => AlarmRequest { action: LIST, member_id, alarm: NO_KIND },
        1 => AlarmRequest { action: RAISE, member_id, alarm: UNKNOWN },
        2 => AlarmRequest { action: UNKNOWN, member_id, alarm: NO_SPACE },
        3 => AlarmRequest { action: RAISE, member_id, alarm: NO_KIND },
        4 => clear((member_id, CORRUPT)),
        _ => raise(nodes, rng),
    }
}

/// While something is raised: it is cleared, something else is raised, too, or somebody asks for what
/// is told apart by what alarms forbid; or clients go on as ever.
fn meanwhile(
    op: OpId,
    raised: &BTreeSet<(u64, i32)>,
    nodes: &[NodeId],
    rng: &mut Rng,
) -> Option<CommandKind> {
    let all: Vec<(u64, i32)> = raised.iter().copied().collect();
    let value = value_bytes(op.0);
    Some(match rng.below(32) {
        0..=4 => CommandKind::Alarm(clear(rng.pick(&all).copied()?)),
        5 => CommandKind::Alarm(clear((member(nodes, rng), NO_SPACE))),
        6 => CommandKind::Alarm(raise(nodes, rng)),
        7 => {
            let alarm = rng.pick(&[NO_KIND, NO_SPACE, CORRUPT]).copied()?;
            CommandKind::Alarm(AlarmRequest { action: LIST, member_id: 0, alarm })
        }
        8..=10 => CommandKind::Txn(put_within(value, rng)),
        11 => CommandKind::Txn(without_put()),
        12 => CommandKind::DeleteRange(delete()),
        13 => CommandKind::LeaseGrant(LeaseGrantRequest { ttl: 60, id: 2 }),
        14 => CommandKind::LeaseRevoke(LeaseRevokeRequest { id: 2 }),
        _ => return None,
    })
}

fn member(nodes: &[NodeId], rng: &mut Rng) -> u64 {
    let some = rng.pick(nodes).map_or(NOBODY, |node| node.get());
    if rng.below(4) == 0 { NOBODY + rng.below(3) } else { some }
}

fn raise(nodes: &[NodeId], rng: &mut Rng) -> AlarmRequest {
    let alarm = if rng.below(4) == 0 { CORRUPT } else { NO_SPACE };
    AlarmRequest { action: RAISE, member_id: member(nodes, rng), alarm }
}

const fn clear((member_id, alarm): (u64, i32)) -> AlarmRequest {
    AlarmRequest { action: CLEAR, member_id, alarm }
}

const fn key() -> Bytes {
    Bytes::from_static(b"xa")
}

fn delete() -> DeleteRangeRequest {
    DeleteRangeRequest { key: key(), ..Default::default() }
}

/// The only put is in a transaction within one; half of them never come to it.
fn put_within(value: Bytes, rng: &mut Rng) -> TxnRequest {
    let put = PutRequest { key: key(), value, ..Default::default() };
    let inner = TxnRequest { success: vec![op(KvRequest::Put(put))], ..Default::default() };
    let ops = vec![op(KvRequest::Txn(inner))];
    if rng.coin() {
        TxnRequest { success: ops, ..Default::default() }
    } else {
        TxnRequest { failure: ops, ..Default::default() }
    }
}

fn without_put() -> TxnRequest {
    let read = RangeRequest { key: key(), ..Default::default() };
    let ops = vec![op(KvRequest::Range(read)), op(KvRequest::DeleteRange(delete()))];
    TxnRequest { success: ops, ..Default::default() }
}

const fn op(request: KvRequest) -> RequestOp {
    RequestOp { request: Some(request) }
}
