//! Users, roles and keys change at random while clients of several users watch, and a reference that
//! judges key by key, which the store's tests have too, knows what each may be told when it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../../../kv/tests/auth/drawn.rs"]
mod drawn;
#[allow(dead_code)] // The tests of the store judge more.
#[path = "../../../../kv/tests/auth/reference.rs"]
mod reference;

use super::*;
use crate::auth::AuthTokens;
use crate::caller::PeerIdentity;
use drawn::{ROLES, USERS, change, grant, key, name_of, range};
use http::HeaderMap;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use quorate::core::{LogId, LogIndex, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::auth::AuthFeed;
use quorate_kv::auth::api::*;
use quorate_kv::watch::{Event, EventKind, WatchHub, WatchLimits};
use quorate_kv::{
    CallerMessage, Command, CommandKind, CommandReply, DeleteRangeRequest, Inline, KvStateMachine,
    MemoryEngine, Outcome, PutRequest, RangeRequest, Request,
};
use reference::{KEYS, Needs, Reference};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How many streams there are at a time.
const STREAMS: usize = 4;

/// Who opens a stream.
#[derive(Clone, Debug)]
enum Who {
    /// Whoever logged in last but so many.
    LoggedIn(usize),
    /// Who has a certificate.
    Named(&'static str),
    Nobody,
}

#[derive(Clone, Debug)]
enum Step {
    Change(AuthRequestKind),
    LogIn(&'static str),
    Put(Bytes),
    Delete((Bytes, Bytes)),
    Open(usize, Who),
    /// A watch of a range, from so many revisions ago or in so many.
    Watch(usize, (Bytes, Bytes), Option<i64>, bool),
    /// The hub hands on what is new.
    Feed,
    /// A client takes what there is, and this changes once something was taken for it.
    Pull(usize, Option<AuthRequestKind>),
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => (0..6_usize).prop_map(Who::LoggedIn),
        3 => name_of(USERS).prop_map(Who::Named),
        1 => Just(Who::Nobody),
    ]
}

fn watched() -> impl Strategy<Value = (Bytes, Bytes)> {
    range().prop_filter("something can be in it", |(key, end)| {
        end.is_empty() || *end == b"\0"[..] || end > key
    })
}

fn step() -> impl Strategy<Value = Step> {
    let start = || prop::option::weighted(0.5, -8..3_i64);
    prop_oneof![
        8 => change().prop_map(Step::Change),
        3 => name_of(USERS).prop_map(Step::LogIn),
        12 => key().prop_map(Step::Put),
        3 => range().prop_map(Step::Delete),
        4 => (0..STREAMS, who()).prop_map(|(slot, who)| Step::Open(slot, who)),
        8 => (0..STREAMS, watched(), start(), any::<bool>())
            .prop_map(|(slot, range, start, prev_kv)| Step::Watch(slot, range, start, prev_kv)),
        8 => Just(Step::Feed),
        12 => (0..STREAMS, prop::option::weighted(0.3, change()))
            .prop_map(|(slot, between)| Step::Pull(slot, between)),
    ]
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Happened {
    revision: i64,
    key: Bytes,
    kind: i32,
}

/// What a watch should be told.
#[derive(Clone, Debug)]
struct Watch {
    range: (Bytes, Bytes),
    start: i64,
    /// Up to where it was told what happened.
    told_count: usize,
    /// Its right was found to be gone.
    is_lost: bool,
}

impl Watch {
    fn wants(&self, happened: &Happened) -> bool {
        happened.revision >= self.start && is_in(&self.range, &happened.key)
    }
}

fn is_in((from, end): &(Bytes, Bytes), key: &[u8]) -> bool {
    match end.as_ref() {
        [] => key == from,
        [0] => key >= from.as_ref(),
        end => key >= from.as_ref() && key < end,
    }
}

struct Token {
    text: String,
    user: &'static str,
    is_good: bool,
}

/// A client's stream, and what it should say.
struct Client {
    guarded: GuardedStream,
    /// The place of its token, if that is how it says who it is.
    token: Option<usize>,
    /// As whom it is known.
    user: Option<&'static str>,
    named: Option<&'static str>,
    /// What the client asked for and was not answered yet; `None` for what is to be refused.
    asked: VecDeque<Option<Watch>>,
    watches: BTreeMap<i64, Watch>,
}

struct World {
    machine: KvStateMachine,
    reader: Reader,
    next_index: u64,
    hub: WatchHub,
    tokens: Arc<Tokens>,
    _feed: AuthFeed,
    reference: Reference,
    given: Vec<Token>,
    clients: [Option<Client>; STREAMS],
    living: BTreeSet<Bytes>,
    happened: Vec<Happened>,
}

impl World {
    fn new(prelude: Vec<AuthRequestKind>, is_enabled: bool) -> Self {
        let engine = Arc::new(MemoryEngine::new());
        let (machine, reader) = quorate_kv::open(engine, Arc::new(Inline)).unwrap();
        let tokens = Arc::new(Tokens::new(&AuthTokens::Simple, Duration::from_hours(1)));
        let hearing = Arc::clone(&tokens);
        let mut world = Self {
            hub: WatchHub::new(&reader, WatchLimits::default(), || {}),
            _feed: AuthFeed::new(&reader, move |news| hearing.hear(news)),
            machine,
            reader,
            next_index: 1,
            tokens,
            reference: Reference::default(),
            given: Vec::new(),
            clients: [const { None }; STREAMS],
            living: BTreeSet::new(),
            happened: Vec::new(),
        };
        for name in USERS {
            let (name, password_hash) = (name.to_owned(), "hash".into());
            let request = UserAddRequest { name, password_hash, no_password: false };
            world.change(&AuthRequestKind::UserAdd(request));
        }
        for role in &ROLES[..3] {
            world.change(&AuthRequestKind::RoleAdd(RoleAddRequest { name: (*role).to_owned() }));
        }
        for (user, role) in USERS.iter().zip(ROLES) {
            let (user, role) = ((*user).to_owned(), role.to_owned());
            world.change(&AuthRequestKind::UserGrantRole(UserRoleRequest { user, role }));
        }
        for kind in prelude {
            world.change(&kind);
        }
        if is_enabled {
            world.change(&AuthRequestKind::Enable(EnableRequest {}));
            for name in USERS {
                world.log_in(name);
            }
        }
        for key in KEYS {
            world.put(key.into());
        }
        for (slot, name) in USERS.into_iter().enumerate() {
            world.open(slot, &Who::Named(name));
        }
        world
    }

    fn send(&mut self, kind: CommandKind) -> Result<Outcome, quorate_kv::OpError> {
        let log_id = LogId::new(Term::new(1), LogIndex::new(self.next_index));
        self.next_index += 1;
        let command = Command::new(kind).by(CallerMessage::system()).encode_to_vec().into();
        let mut replies = Replies::default();
        self.machine.apply(&[Committed { log_id, command }], &mut replies).unwrap();
        CommandReply::decode(replies.into_vec()[0].clone()).unwrap().into_result()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Change(kind) => self.change(&kind),
            Step::LogIn(name) => self.log_in(name),
            Step::Put(key) => self.put(key),
            Step::Delete(range) => self.delete(&range),
            Step::Open(slot, who) => self.open(slot, &who),
            Step::Watch(slot, range, start, prev_kv) => self.watch(slot, range, start, prev_kv),
            Step::Feed => self.feed(),
            Step::Pull(slot, between) => self.pull(slot, between),
        }
    }

    /// The cluster itself changes users and roles, as the reference says.
    fn change(&mut self, kind: &AuthRequestKind) {
        let verdict = self.reference.apply(kind);
        let got = self.send(CommandKind::Auth(AuthRequest::new(kind.clone())));
        assert_eq!(got.is_ok(), verdict.is_ok(), "{kind:?}: {got:?}");
        if verdict.is_err() {
            return;
        }
        let ended = |user: &str| match kind {
            AuthRequestKind::Disable(_) => true,
            AuthRequestKind::UserDelete(request) => request.name == user,
            AuthRequestKind::UserChangePassword(request) => request.name == user,
            AuthRequestKind::Enable(_)
            | AuthRequestKind::UserAdd(_)
            | AuthRequestKind::UserGrantRole(_)
            | AuthRequestKind::UserRevokeRole(_)
            | AuthRequestKind::RoleAdd(_)
            | AuthRequestKind::RoleDelete(_)
            | AuthRequestKind::RoleGrantPermission(_)
            | AuthRequestKind::RoleRevokePermission(_)
            | AuthRequestKind::Authenticate(_) => false,
        };
        for token in &mut self.given {
            token.is_good &= !ended(token.user);
        }
    }

    fn log_in(&mut self, name: &'static str) {
        // Where in the log it is made tells it from others.
        let token_prefix = "abc".to_owned();
        let auth_revision = self.reference.revision();
        let request = AuthenticateRequest { name: name.to_owned(), token_prefix, auth_revision };
        let kind = AuthRequestKind::Authenticate(request);
        let verdict = self.reference.apply(&kind);
        match self.send(CommandKind::Auth(AuthRequest::new(kind))) {
            Ok(Outcome::Auth(reply)) if verdict.is_ok() => {
                self.given.push(Token { text: reply.token, user: name, is_good: true });
            }
            got => assert_eq!(got.is_ok(), verdict.is_ok(), "{got:?}"),
        }
    }

    fn put(&mut self, key: Bytes) {
        let value = Bytes::from(self.next_index.to_string());
        let put = PutRequest { key: key.clone(), value, ..Default::default() };
        self.send(CommandKind::Put(put)).unwrap();
        self.living.insert(key.clone());
        self.note(key, EventKind::Put);
    }

    fn delete(&mut self, range: &(Bytes, Bytes)) {
        let (key, range_end) = range.clone();
        let delete = DeleteRangeRequest { key, range_end, ..Default::default() };
        self.send(CommandKind::DeleteRange(delete)).unwrap();
        let gone: Vec<Bytes> =
            self.living.iter().filter(|key| is_in(range, key)).cloned().collect();
        for key in gone {
            self.living.remove(&key);
            self.note(key, EventKind::Delete);
        }
    }

    fn note(&mut self, key: Bytes, kind: EventKind) {
        let revision = self.reader.revision().to_wire();
        self.happened.push(Happened { revision, key, kind: kind.into() });
    }

    fn open(&mut self, slot: usize, who: &Who) {
        let (mut headers, mut token, mut named) = (HeaderMap::new(), None, None);
        match who {
            Who::LoggedIn(back) => token = self.given.len().checked_sub(back + 1),
            Who::Named(name) => named = Some(*name),
            Who::Nobody => {}
        }
        if let Some(place) = token {
            headers.insert("token", self.given[place].text.parse().unwrap());
        }
        let peer = PeerIdentity { common_name: named.map(Arc::from), is_secure: true };
        let rights = WatchRights {
            reader: self.reader.clone(),
            tokens: Arc::clone(&self.tokens),
            caller: Some(Caller::by_grpc(&headers, &peer)),
            user: None,
            seen: self.reader.auth(),
        };
        let guarded = GuardedStream::new(self.hub.stream(|| {}), rights);
        let (asked, watches) = (VecDeque::new(), BTreeMap::new());
        self.clients[slot] = Some(Client { guarded, token, user: None, named, asked, watches });
    }

    fn watch(&mut self, slot: usize, range: (Bytes, Bytes), start: Option<i64>, prev_kv: bool) {
        let Some(client) = &mut self.clients[slot] else { return };
        let now = self.reader.revision().to_wire();
        let start_revision = start.map_or(0, |start| (now + start).max(1));
        let (key, range_end) = range.clone();
        let request =
            WatchCreateRequest { key, range_end, start_revision, prev_kv, ..Default::default() };
        client.guarded.create(&request);
        let is_believed = client.token.is_none_or(|token| self.given[token].is_good);
        let may = !self.reference.enabled
            || is_believed && {
                client.user = client.token.map(|token| self.given[token].user).or(client.named);
                may_read(&self.reference, client.user, &range)
            };
        let start = if start_revision == 0 { now + 1 } else { start_revision };
        client.asked.push_back(may.then_some(Watch {
            range,
            start,
            told_count: 0,
            is_lost: false,
        }));
    }

    fn feed(&self) {
        while self.hub.advance().unwrap() {}
    }

    /// A client takes what there is. If something `changes` after the first was taken and before it
    /// was shown, it is judged as of then.
    fn pull(&mut self, slot: usize, mut changes: Option<AuthRequestKind>) {
        let Some(mut client) = self.clients[slot].take() else { return };
        loop {
            client.look(&self.reference);
            let pulled = match changes.take() {
                None => client.guarded.pull().unwrap(),
                Some(kind) => {
                    client.guarded.rights.look_again(&mut client.guarded.stream);
                    let pulled = client.guarded.stream.pull().unwrap();
                    self.change(&kind);
                    if !client.may_be_shown(&pulled, &self.reference) {
                        client.look(&self.reference);
                    }
                    client.guarded.shown(pulled)
                }
            };
            match pulled {
                Pulled::Response(response) => {
                    client.hear(&response, &self.reference, &self.happened);
                }
                Pulled::Busy => {}
                Pulled::Idle => break,
            }
        }
        self.clients[slot] = Some(client);
    }

    /// At the end everybody has been told everything that was theirs to know.
    fn finish(mut self) {
        self.feed();
        for slot in 0..STREAMS {
            self.pull(slot, None);
            let Some(client) = &self.clients[slot] else { continue };
            assert!(client.asked.is_empty(), "every request is answered");
            for watch in client.watches.values() {
                assert!(!watch.is_lost, "{:?} ends and says so", watch.range);
                let missing = self.happened[watch.told_count..].iter().find(|one| watch.wants(one));
                assert_eq!(missing, None, "{:?} is told everything", watch.range);
            }
        }
    }
}

fn may_read(reference: &Reference, user: Option<&str>, (key, end): &(Bytes, Bytes)) -> bool {
    let (key, range_end) = (key.clone(), end.clone());
    let request = Request::Range(RangeRequest { key, range_end, ..Default::default() });
    reference.judge(&access(reference, user), &Needs::of(&request), &[]).is_ok()
}

fn access(reference: &Reference, user: Option<&str>) -> Access {
    match user {
        Some(user) => Access::User { name: user.into(), revision: reference.revision() },
        None => Access::Nobody,
    }
}

impl Client {
    /// The rights of its watches are looked at now.
    fn look(&mut self, reference: &Reference) {
        let watches = self.watches.values_mut().chain(self.asked.iter_mut().flatten());
        for watch in watches {
            watch.is_lost |= !may_read(reference, self.user, &watch.range);
        }
    }

    fn may_be_shown(&self, pulled: &Pulled, reference: &Reference) -> bool {
        let Pulled::Response(response) = pulled else { return true };
        let access = access(reference, self.user);
        let mut keys = response.events.iter().filter_map(|event| event.kv.as_ref());
        keys.all(|kv| reference.may_show(&access, &kv.key))
    }

    /// The client is told something.
    fn hear(&mut self, response: &WatchResponse, reference: &Reference, happened: &[Happened]) {
        let id = response.watch_id;
        if response.created {
            let watch = self.asked.pop_front().expect("it was asked for");
            assert_eq!(watch.is_none(), response.canceled, "{response:?}, expected {watch:?}");
            if let Some(watch) = watch {
                self.watches.insert(id, watch);
            }
            return;
        }
        let watch = self.watches.get_mut(&id).expect("it was created and has not ended");
        if response.canceled {
            assert!(watch.is_lost, "{:?} ends without a reason", watch.range);
            self.watches.remove(&id);
            return;
        }
        assert!(!watch.is_lost, "{:?} has lost its right: {response:?}", watch.range);
        let access = access(reference, self.user);
        for Event { kind, kv, prev_kv } in &response.events {
            let kv = kv.as_ref().unwrap();
            for shown in [Some(kv), prev_kv.as_ref()].into_iter().flatten() {
                assert!(reference.may_show(&access, &shown.key), "{access:?} was shown {shown:?}");
                assert_eq!(shown.key, kv.key);
            }
            let (revision, key) = (kv.mod_revision, kv.key.clone());
            let told = Happened { revision, key, kind: *kind };
            let next = (watch.told_count..happened.len()).find(|at| watch.wants(&happened[*at]));
            let next = next.expect("nothing is told that did not happen");
            assert_eq!(happened[next], told, "each is told once, in order");
            watch.told_count = next + 1;
        }
    }
}

/// alice watches a key, something happens to it, and her role loses it while that is on its way.
fn kept_back() -> (World, Client, AuthRequestKind) {
    let (key, range_end) = (Bytes::from("b"), Bytes::new());
    let permission = Some(Permission { perm_type: 0, key: key.clone(), range_end });
    let name = ROLES[0].to_owned();
    let grant = RoleGrantPermissionRequest { name: name.clone(), permission };
    let grant = AuthRequestKind::RoleGrantPermission(grant);
    let mut world = World::new(vec![grant.clone()], true);
    world.watch(0, (key.clone(), Bytes::new()), None, false);
    world.pull(0, None);
    world.put(key.clone());
    world.feed();
    let mut client = world.clients[0].take().unwrap();
    client.guarded.rights.look_again(&mut client.guarded.stream);
    let pulled = client.guarded.stream.pull().unwrap();
    assert!(matches!(&pulled, Pulled::Response(response) if !response.events.is_empty()));
    let revoke = RoleRevokePermissionRequest { role: name, key, range_end: Bytes::new() };
    world.change(&AuthRequestKind::RoleRevokePermission(revoke));
    let shown = client.guarded.shown(pulled);
    assert!(matches!(shown, Pulled::Busy), "what was on its way is kept back: {shown:?}");
    (world, client, grant)
}

#[test]
fn a_watch_whose_events_were_kept_back_ends_though_its_right_comes_back_at_once() {
    let (mut world, mut client, grant) = kept_back();
    world.change(&grant);
    let told = loop {
        match client.guarded.pull().unwrap() {
            Pulled::Response(response) => break response,
            Pulled::Busy => {}
            Pulled::Idle => panic!("it goes on with a gap"),
        }
    };
    assert!(told.canceled, "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_watch_shows_a_key_outside_its_users_grants(
        prelude in vec(grant(), 0..12),
        is_enabled in prop::bool::weighted(0.8),
        steps in vec(step(), 1..100),
    ) {
        let mut world = World::new(prelude, is_enabled);
        for step in steps {
            world.take(step);
        }
        world.finish();
    }
}
