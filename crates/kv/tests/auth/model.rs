//! Users, roles, keys and leases change at random, everybody asks for everything, and a reference
//! that judges key by key knows what each may be told.

use crate::Store;
use crate::drawn::{ROLES, USERS, change, grant, key, name_of, range};
use crate::reference::{KEYS, Needs, Reference};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_kv::api::{Request, Response, ResponseOp};
use quorate_kv::auth::Right;
use quorate_kv::auth::api::*;
use quorate_kv::lease::api::{LeaseGrantRequest, LeaseRevokeRequest};
use quorate_kv::*;

const LEASES: std::ops::Range<i64> = 1..4;

/// Who asks: a user, how old what is known of it is; nobody; or the cluster itself.
#[derive(Clone, Debug)]
enum Who {
    User(&'static str, u64),
    Nobody,
    System,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Who, AuthRequestKind),
    Write(Who, Request),
    Read(Who, Request),
    Grant(Who, i64),
    Revoke(Who, i64),
    LookAtLease(Who, i64),
    ListLeases(Who),
    /// A range in pieces, and what changes before each but the first.
    Pieces(Who, RangeRequest, Vec<Option<AuthRequestKind>>),
    Compact(Who),
    Restart,
    Copy,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        12 => (name_of(USERS), prop_oneof![12 => Just(0), 1 => 1..3_u64])
            .prop_map(|(name, age)| Who::User(name, age)),
        1 => Just(Who::User("ghost", 0)),
        1 => Just(Who::Nobody),
        1 => Just(Who::System),
    ]
}

fn read() -> impl Strategy<Value = Request> {
    let flags = (any::<bool>(), any::<bool>());
    (range(), flags).prop_map(|((key, range_end), (keys_only, count_only))| {
        Request::Range(RangeRequest { key, range_end, keys_only, count_only, ..Default::default() })
    })
}

fn write() -> impl Strategy<Value = Request> {
    let lease = prop_oneof![3 => Just(0), 1 => LEASES];
    prop_oneof![
        2 => (key(), lease, any::<bool>()).prop_map(|(key, lease, prev_kv)| {
            Request::Put(PutRequest { key, lease, prev_kv, ..Default::default() })
        }),
        1 => (range(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| {
            Request::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv })
        }),
    ]
}

fn txn(depth: u32, only_reads: bool) -> BoxedStrategy<Request> {
    let plain = if only_reads { read().boxed() } else { prop_oneof![read(), write()].boxed() };
    let op = if depth == 0 {
        plain
    } else {
        prop_oneof![2 => plain, 1 => txn(depth - 1, only_reads)].boxed()
    };
    let op = op.prop_map(|request| RequestOp { request: Some(request) }).boxed();
    let compare = (range(), 0..2_i64).prop_map(|((key, range_end), version)| Compare {
        key,
        range_end,
        target_union: Some(CompareUnion::Version(version)),
        ..Default::default()
    });
    (vec(compare, 0..2), vec(op.clone(), 0..3), vec(op, 0..3))
        .prop_map(|(compare, success, failure)| {
            Request::Txn(TxnRequest { compare, success, failure })
        })
        .boxed()
}

fn pieces() -> impl Strategy<Value = Step> {
    let flags = (0..4_i64, any::<bool>(), prop::bool::weighted(0.1));
    let between = vec(prop::option::of(change()), 0..5);
    (who(), range(), flags, between).prop_map(|(who, (key, range_end), flags, between)| {
        let (limit, keys_only, count_only) = flags;
        let request =
            RangeRequest { key, range_end, limit, keys_only, count_only, ..Default::default() };
        Step::Pieces(who, request, between)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop_oneof![3 => Just(Who::System), 1 => who()];
    prop_oneof![
        12 => (changes, change()).prop_map(|(who, kind)| Step::Change(who, kind)),
        10 => (who(), prop_oneof![2 => write().boxed(), 1 => txn(2, false)])
            .prop_map(|(who, request)| Step::Write(who, request)),
        10 => (who(), prop_oneof![2 => read().boxed(), 1 => txn(2, true)])
            .prop_map(|(who, request)| Step::Read(who, request)),
        3 => (who(), LEASES).prop_map(|(who, id)| Step::Grant(who, id)),
        1 => (who(), LEASES).prop_map(|(who, id)| Step::Revoke(who, id)),
        2 => (who(), LEASES).prop_map(|(who, id)| Step::LookAtLease(who, id)),
        2 => who().prop_map(Step::ListLeases),
        4 => pieces(),
        1 => who().prop_map(Step::Compact),
        1 => Just(Step::Restart),
        1 => Just(Step::Copy),
    ]
}

/// The store, and what it should do.
struct World {
    store: Store,
    reference: Reference,
}

impl World {
    /// Most worlds have users with some roles, and ask them who they are.
    fn new(prelude: Vec<AuthRequestKind>, enabled: bool) -> Self {
        let mut world = Self { store: Store::new(), reference: Reference::default() };
        for name in USERS {
            world.change(&Who::System, crate::add_user(name));
        }
        world.change(&Who::System, crate::grant_role("root", "root"));
        for role in &ROLES[..3] {
            world.change(&Who::System, crate::add_role(role));
        }
        for (user, role) in USERS.iter().zip(&ROLES[..3]) {
            world.change(&Who::System, crate::grant_role(user, role));
        }
        for key in KEYS {
            let put = PutRequest { key: key.into(), ..Default::default() };
            world.write(&Who::System, Request::Put(put));
        }
        for kind in prelude {
            world.change(&Who::System, kind);
        }
        if enabled {
            world.change(&Who::System, AuthRequestKind::Enable(EnableRequest {}));
        }
        world
    }

    fn access(&self, who: &Who) -> Access {
        match who {
            Who::User(name, age) => {
                let revision = self.reference.revision().saturating_sub(*age);
                Access::User { name: (*name).into(), revision }
            }
            Who::Nobody => Access::Nobody,
            Who::System => Access::System,
        }
    }

    fn kvs(&self) -> Vec<KeyValue> {
        self.store.reader.range(&crate::common::everything()).unwrap().kvs
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Change(who, kind) => self.change(&who, kind),
            Step::Write(who, request) => self.write(&who, request),
            Step::Read(who, request) => self.read(&who, &request),
            Step::Grant(who, id) => {
                let kind = CommandKind::LeaseGrant(LeaseGrantRequest { ttl: 10, id });
                let verdict = self.reference.judge(&self.access(&who), &Needs::default(), &[]);
                self.carry_out(&who, &kind, verdict);
            }
            Step::Revoke(who, id) => {
                let kind = CommandKind::LeaseRevoke(LeaseRevokeRequest { id });
                let access = self.access(&who);
                let verdict = self.reference.judge(&access, &Needs::of_lease(id), &self.kvs());
                assert_eq!(refusal(self.store.reader.may_keep_lease(&access, id)), verdict.err());
                self.carry_out(&who, &kind, verdict);
            }
            Step::LookAtLease(who, id) => self.look_at_lease(&who, id),
            Step::ListLeases(who) => self.list_leases(&who),
            Step::Pieces(who, request, between) => self.read_in_pieces(&who, &request, between),
            Step::Compact(who) => {
                let revision = self.store.reader.revision().to_wire();
                let kind = crate::common::compact(revision);
                let verdict = self.reference.judge_root(&self.access(&who));
                self.carry_out(&who, &kind, verdict);
            }
            Step::Restart => self.store.restart(),
            Step::Copy => self.store = self.store.copied(),
        }
        self.check();
    }

    fn look_at_lease(&self, who: &Who, id: i64) {
        let access = self.access(who);
        let mut attached = self.kvs();
        attached.retain(|kv| kv.lease == id && id != 0);
        match self.store.reader.lease_keys_for(&access, id) {
            Ok(keys) => {
                self.show(&access, &keys);
                assert_eq!(keys, keys_of(&attached), "whoever is answered is told all of it");
            }
            Err(_) => assert!(!self.may_read_each(&access, &attached), "{access:?}, {attached:?}"),
        }
    }

    fn list_leases(&self, who: &Who) {
        let access = self.access(who);
        let mut attached = self.kvs();
        attached.retain(|kv| kv.lease != 0);
        let is_root = self.reference.judge_root(&access).is_ok();
        let expected = is_root || self.may_read_each(&access, &attached);
        let listed = self.store.reader.may_list_leases(&access);
        assert_eq!(listed.is_ok(), expected, "{access:?}: {listed:?} of {attached:?}");
    }

    fn may_read_each(&self, access: &Access, kvs: &[KeyValue]) -> bool {
        self.reference.judge(access, &Needs::to_read(&keys_of(kvs)), kvs).is_ok()
    }

    /// Each piece shows what its caller may see when it comes, and all of them what there was.
    fn read_in_pieces(
        &mut self,
        who: &Who,
        request: &RangeRequest,
        between: Vec<Option<AuthRequestKind>>,
    ) {
        let access = self.access(who);
        let needs = Needs::of(&Request::Range(request.clone()));
        let verdict = self.reference.judge(&access, &needs, &[]);
        let whole = self.store.reader.range_for(&Access::System, request).unwrap();
        let mut pieces = match (self.store.reader.range_pieces(&access, request.clone()), verdict) {
            (Ok(pieces), Ok(())) => pieces,
            (Err(got), Err(expected)) => {
                return assert_eq!(got.refused(), Some(OpError::Auth(expected)));
            }
            (got, verdict) => panic!("by {access:?}: {:?}, expected {verdict:?}", got.err()),
        };
        let (mut told, mut changes) = (Vec::new(), between.into_iter());
        loop {
            // So small that each key is a piece.
            let piece = pieces.next(1);
            let now = self.as_now(&access);
            match (piece, self.reference.judge(&now, &needs, &[])) {
                (Ok(Some(piece)), Ok(())) => {
                    self.show(&now, &keys_of(&piece.kvs));
                    told.extend(piece.kvs);
                }
                (Ok(None), _) => break assert_eq!(told, whole.kvs),
                (Err(got), Err(expected)) => {
                    break assert_eq!(got.refused(), Some(OpError::Auth(expected)));
                }
                (got, verdict) => panic!("{got:?} by {access:?}, expected {verdict:?}"),
            }
            if let Some(kind) = changes.next().flatten() {
                self.change(&Who::System, kind);
            }
        }
    }

    /// Somebody who is known since an earlier look, as a look now knows them.
    fn as_now(&self, access: &Access) -> Access {
        match access {
            Access::User { name, .. } => {
                Access::User { name: name.clone(), revision: self.reference.revision() }
            }
            Access::Nobody | Access::System => access.clone(),
        }
    }

    fn change(&mut self, who: &Who, kind: AuthRequestKind) {
        let is_open = matches!(kind, AuthRequestKind::Authenticate(_));
        let access = self.access(who);
        let verdict = if is_open { Ok(()) } else { self.reference.judge_root(&access) };
        let verdict = verdict.and_then(|()| self.reference.apply(&kind));
        let got = self.store.send(caller(&access), CommandKind::Auth(AuthRequest::new(kind)));
        assert_eq!(got.map(drop), verdict.map_err(OpError::Auth), "by {access:?}");
    }

    fn write(&mut self, who: &Who, request: Request) {
        let verdict = self.reference.judge(&self.access(who), &Needs::of(&request), &self.kvs());
        let kind = match request {
            Request::Put(request) => CommandKind::Put(request),
            Request::DeleteRange(request) => CommandKind::DeleteRange(request),
            Request::Txn(request) => CommandKind::Txn(request),
            Request::Range(request) => panic!("{request:?} is no write"),
        };
        self.carry_out(who, &kind, verdict);
    }

    /// Sends a command, which is refused as it should be and changes nothing then, or shows nothing
    /// that its sender may not see.
    fn carry_out(&mut self, who: &Who, kind: &CommandKind, verdict: Result<(), AuthError>) {
        let access = self.access(who);
        let before = (self.kvs(), self.store.reader.leases(), self.store.reader.revision());
        let got = self.store.send(caller(&access), kind.clone());
        match (got, verdict) {
            (Ok(outcome), Ok(())) => {
                self.show(&access, &keys_of(&shown(&outcome)));
            }
            (Err(OpError::Auth(got)), Err(expected)) if got == expected => {
                let after = (self.kvs(), self.store.reader.leases(), self.store.reader.revision());
                assert_eq!(before, after, "what is refused changes nothing");
            }
            (Err(OpError::LeaseNotFound | OpError::LeaseExists | OpError::Compacted), Ok(())) => {}
            (got, verdict) => panic!("{kind:?} by {access:?}: {got:?}, expected {verdict:?}"),
        }
    }

    fn read(&mut self, who: &Who, request: &Request) {
        let access = self.access(who);
        let verdict = self.reference.judge(&access, &Needs::of(request), &self.kvs());
        let reader = &self.store.reader;
        let got = match request {
            Request::Range(range) => {
                let may_read = reader.may_read(&access, &range.key, &range.range_end);
                assert_eq!(may_read, verdict, "{request:?} by {access:?}");
                reader.range_for(&access, range).map(Response::Range)
            }
            Request::Txn(txn) => {
                let response = reader.txn_read_only_for(&access, txn);
                response.map(|response| Response::Txn(response.unwrap()))
            }
            Request::Put(_) | Request::DeleteRange(_) => panic!("{request:?} is no read"),
        };
        let got = got.map(|response| kvs_of(&response)).map_err(|error| error.refused());
        match (got, verdict) {
            (Ok(kvs), Ok(())) => self.show(&access, &keys_of(&kvs)),
            (Err(got), Err(expected)) => assert_eq!(got, Some(OpError::Auth(expected))),
            (got, verdict) => panic!("{request:?} by {access:?}: {got:?}, expected {verdict:?}"),
        }
    }

    fn show(&self, access: &Access, keys: &[Bytes]) {
        for key in keys {
            assert!(self.reference.may_show(access, key), "{access:?} was shown {key:?}");
        }
    }

    fn check(&self) {
        let state = self.store.reader.auth();
        let names = |user: &auth::User| user.roles().map(str::to_owned).collect();
        let users = state.users().map(|(name, user)| (name.to_owned(), names(user))).collect();
        let roles =
            state.roles().map(|(name, role)| (name.to_owned(), role.permissions().to_vec()));
        assert_eq!((users, roles.collect()), self.reference.lists());
        assert_eq!(state.is_enabled(), self.reference.enabled);
        assert_eq!(state.revision(), self.reference.revision());
        for key in KEYS {
            for name in USERS {
                let (access, key) = (self.access(&Who::User(name, 0)), Bytes::from(key));
                for right in [Right::Read, Right::Write] {
                    let may = state.admit_to_keys(&access, right, &key, &Bytes::new()).is_ok();
                    let expected = !self.reference.enabled || self.reference.may(name, right, &key);
                    assert_eq!(may, expected, "{right:?} of {key:?} by {name}");
                }
            }
        }
    }
}

fn keys_of(kvs: &[KeyValue]) -> Vec<Bytes> {
    kvs.iter().map(|kv| kv.key.clone()).collect()
}

fn refusal<T>(answer: Result<T, ReadError>) -> Option<AuthError> {
    match answer.err()?.refused() {
        Some(OpError::Auth(error)) => Some(error),
        other => panic!("{other:?}"),
    }
}

fn caller(access: &Access) -> Option<CallerMessage> {
    match access {
        Access::Nobody => None,
        Access::User { name, revision } => Some(CallerMessage::user(name.as_ref(), *revision)),
        Access::System => Some(CallerMessage::system()),
    }
}

/// Every key and value that an answer shows.
fn shown(outcome: &Outcome) -> Vec<KeyValue> {
    match outcome {
        Outcome::Put(put) => kvs_of(&Response::Put(put.clone())),
        Outcome::DeleteRange(delete) => kvs_of(&Response::DeleteRange(delete.clone())),
        Outcome::Txn(txn) => kvs_of(&Response::Txn(txn.clone())),
        Outcome::Compact(_)
        | Outcome::Refused(_)
        | Outcome::LeaseGrant(_)
        | Outcome::LeaseRevoke(_)
        | Outcome::LeaseRenew(_)
        | Outcome::LeaseExpire(_)
        | Outcome::Auth(_)
        | Outcome::Alarm(_) => Vec::new(),
    }
}

fn kvs_of(response: &Response) -> Vec<KeyValue> {
    match response {
        Response::Range(range) => range.kvs.clone(),
        Response::Put(put) => put.prev_kv.iter().cloned().collect(),
        Response::DeleteRange(delete) => delete.prev_kvs.clone(),
        Response::Txn(txn) => {
            let responses = txn.responses.iter();
            let answers = responses.filter_map(|ResponseOp { response }| response.as_ref());
            answers.flat_map(kvs_of).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_shows_a_key_outside_the_callers_grants(
        prelude in vec(grant(), 0..12),
        enabled in prop::bool::weighted(0.8),
        steps in vec(step(), 1..80),
    ) {
        let mut world = World::new(prelude, enabled);
        for step in steps {
            world.take(step);
        }
    }
}
