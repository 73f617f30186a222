//! Whole clusters of lease clocks, in virtual time and from a seed: real stores, real clocks, and a
//! log that commits, stalls and loses what it is given. Judges that no lease ends before its time,
//! that one whose owner renews it never does, and that one that nobody renews ends at last. Knows no
//! node: who leads, and who believes it, is drawn.

use super::timing::{Leadership, Timing};
use prost::Message;
use quorate::core::{LogId, LogIndex, NodeId, Term};
use quorate::{Committed, Replies, StateMachine};
use quorate_kv::lease::LeaseFeed;
use quorate_kv::lease::api::{LeaseExpireRequest, LeaseGrantRequest, LeaseRenewRequest, Overdue};
use quorate_kv::{Command, CommandKind, Inline, KvStateMachine, MemoryEngine, Reader};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MEMBER_COUNT: usize = 3;
const ELECTION_TIMEOUT_MS: u64 = 1000;
const GRACE: Duration = Duration::from_secs(3);
/// How long a member waits for the fate of what it proposed before it proposes it again.
const PATIENCE_MS: u64 = 2000;
/// How long the leader waits before it gives an attempt to end leases up.
const EXPIRY_TIMEOUT_MS: u64 = 7000;
/// Owners that renew do so three times in this many seconds at least.
const DILIGENT_TTLS: [i64; 3] = [10, 15, 60];
const LAZY_TTLS: [i64; 3] = [2, 5, 20];
const CHAOS_MS: u64 = 600_000;

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` up to, not including, `high`.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    fn member(&mut self) -> usize {
        usize::try_from(self.next() % MEMBER_COUNT as u64).unwrap()
    }
}

/// What a member does about leases whose time is up.
#[derive(Clone, Copy, PartialEq)]
enum Expiry {
    No,
    /// It asks for proof that it leads.
    Confirms {
        until: u64,
    },
    /// It has proposed their end.
    Waits,
}

struct Member {
    machine: KvStateMachine,
    reader: Reader,
    feed: LeaseFeed,
    timing: Timing,
    believes: Leadership,
    expiry: Expiry,
    stopped_until: u64,
}

impl Member {
    fn new(id: u64) -> Self {
        let engine = Arc::new(MemoryEngine::new());
        let (machine, reader) = quorate_kv::open(engine, Arc::new(Inline)).unwrap();
        let feed = LeaseFeed::new(&reader, || ());
        let timing = Timing::new(Duration::ZERO, GRACE);
        let believes = Leadership { leader: None, term: Term::new(id), is_own: false };
        Self { machine, reader, feed, timing, believes, expiry: Expiry::No, stopped_until: 0 }
    }

    fn believe(&mut self, own: usize, leader: Option<usize>, term: u64) {
        let name = |member: usize| NodeId::new(member as u64 + 1);
        let leadership = Leadership {
            leader: leader.map(name),
            term: Term::new(term),
            is_own: leader == Some(own),
        };
        // Nobody goes back to an older term.
        if leadership.term >= self.believes.term {
            self.believes = leadership;
        }
    }

    fn apply(&mut self, log: &[Committed]) {
        let applied = usize::try_from(self.reader.applied().index.get()).unwrap();
        if applied < log.len() {
            self.machine.apply(&log[applied..], &mut Replies::default()).unwrap();
        }
    }

    fn look(&mut self, now: u64) {
        let report = self.feed.take();
        self.timing.look(Duration::from_millis(now), self.believes, report);
    }

    fn ids(&self) -> Vec<i64> {
        self.reader.leases().into_iter().map(|(id, _)| id).collect()
    }
}

/// Who waits for a proposal.
#[derive(Clone, Copy)]
enum Asker {
    /// Of this lease.
    Owner(i64),
    /// It ends leases.
    Member(usize),
}

#[derive(Clone)]
struct Proposal {
    kind: CommandKind,
    sent_at: u64,
    by: Asker,
}

struct Owner {
    ttl: i64,
    is_diligent: bool,
    next_at: u64,
    is_waiting: bool,
    /// When it sent the last request that was committed.
    alive_since: Option<u64>,
}

struct World {
    seed: u64,
    chance: Chance,
    now: u64,
    members: Vec<Member>,
    log: Vec<Committed>,
    /// Who can commit, if anybody can, and since which term.
    leader: Option<usize>,
    term: u64,
    elected_at: u64,
    stuck_until: u64,
    /// In the leader's log, in their order.
    pending: Vec<Proposal>,
    /// On their way to a leader, and since when they may arrive.
    waiting: Vec<(u64, Proposal)>,
    /// What members will believe, and when.
    news: Vec<(u64, usize, Option<usize>, u64)>,
    owners: BTreeMap<i64, Owner>,
    owners_are_gone: bool,
    /// How many leases ended because their time was up.
    ended_count: u64,
    next_trouble_at: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let owner = |id: i64| {
            let place = usize::try_from(id % 3).unwrap();
            let is_diligent = id % 2 == 0;
            let ttl = if is_diligent { DILIGENT_TTLS[place] } else { LAZY_TTLS[place] };
            (id, Owner { ttl, is_diligent, next_at: 0, is_waiting: false, alive_since: None })
        };
        Self {
            seed,
            chance: Chance(seed),
            now: 0,
            members: (0..MEMBER_COUNT as u64).map(|_| Member::new(0)).collect(),
            log: Vec::new(),
            leader: None,
            term: 0,
            elected_at: 0,
            stuck_until: 0,
            pending: Vec::new(),
            waiting: Vec::new(),
            news: Vec::new(),
            owners: (1..=12).map(owner).collect(),
            owners_are_gone: false,
            ended_count: 0,
            next_trouble_at: 20_000,
        }
    }

    fn run(&mut self, until: u64, is_chaos: bool) {
        while self.now < until {
            self.now += self.chance.within(10, 500);
            if is_chaos && self.now >= self.next_trouble_at {
                self.trouble();
                self.next_trouble_at = self.now + self.chance.within(500, 40_000);
            }
            self.elect();
            self.spread_news();
            self.owners_act();
            self.deliver();
            self.commit();
            for member in 0..MEMBER_COUNT {
                self.member_acts(member);
            }
        }
    }

    fn is_running(&self, member: usize) -> bool {
        self.members[member].stopped_until <= self.now
    }

    fn trouble(&mut self) {
        let long = self.chance.within(300, 90_000);
        let victim = self.chance.member();
        match self.chance.next() % 6 {
            // SIGSTOP, or a power failure that takes this long: the others find another leader.
            0 => {
                self.members[victim].stopped_until = self.now + long;
                if self.leader == Some(victim) && long > ELECTION_TIMEOUT_MS {
                    self.lose_leader();
                }
            }
            // The machine that all of them run on was asleep: nobody saw anything.
            1 => {
                for member in &mut self.members {
                    member.stopped_until = self.now + long;
                }
            }
            // The leader's disk does not answer, but its heart beats.
            2 => self.stuck_until = self.now + long,
            // The leader is cut off.
            3 => self.lose_leader(),
            // A hand-over, with the disk stuck or not.
            4 => {
                self.requeue_pending();
                self.install(victim);
            }
            _ => self.restart(victim),
        }
    }

    fn restart(&mut self, victim: usize) {
        let now = Duration::from_millis(self.now);
        let member = &mut self.members[victim];
        member.feed = LeaseFeed::new(&member.reader, || ());
        member.timing = Timing::new(now, GRACE);
        member.expiry = Expiry::No;
        if self.leader == Some(victim) {
            self.lose_leader();
        }
        self.members[victim].believe(victim, None, self.term);
        if self.leader.is_some() {
            self.news.push((self.now + ELECTION_TIMEOUT_MS, victim, self.leader, self.term));
        }
    }

    /// Who was the leader believes it for up to two election timeouts more, the others for one.
    fn lose_leader(&mut self) {
        let Some(old) = self.leader.take() else { return };
        self.requeue_pending();
        self.elected_at = self.now + self.chance.within(1, 2) * ELECTION_TIMEOUT_MS + 300;
        for member in 0..MEMBER_COUNT {
            let longest = if member == old { 2 } else { 1 } * ELECTION_TIMEOUT_MS;
            let at = self.now + self.chance.within(1, longest);
            self.news.push((at, member, None, self.term));
        }
    }

    fn requeue_pending(&mut self) {
        for proposal in std::mem::take(&mut self.pending) {
            if let Asker::Member(member) = proposal.by {
                self.members[member].expiry = Expiry::No;
                self.members[member].timing.hold(false);
            } else {
                let at = self.now + self.chance.within(50, PATIENCE_MS);
                self.waiting.push((at, proposal));
            }
        }
    }

    fn elect(&mut self) {
        if self.leader.is_some() || self.now < self.elected_at {
            return;
        }
        let candidate = self.chance.member();
        if self.is_running(candidate) {
            self.install(candidate);
        }
    }

    fn install(&mut self, leader: usize) {
        self.term += 1;
        self.leader = Some(leader);
        self.stuck_until = 0;
        for member in 0..MEMBER_COUNT {
            let at = self.now + if member == leader { 0 } else { self.chance.within(1, 300) };
            self.news.push((at, member, Some(leader), self.term));
        }
    }

    fn spread_news(&mut self) {
        let due = self.news.extract_if(.., |news| news.0 <= self.now).collect::<Vec<_>>();
        for (at, member, leader, term) in due {
            if self.is_running(member) {
                self.members[member].believe(member, leader, term);
            } else {
                self.news.push((at, member, leader, term));
            }
        }
    }

    fn owners_act(&mut self) {
        for (id, owner) in &mut self.owners {
            if self.owners_are_gone || owner.is_waiting || owner.next_at > self.now {
                continue;
            }
            owner.is_waiting = true;
            let kind = match owner.alive_since {
                Some(_) => CommandKind::LeaseRenew(LeaseRenewRequest { ids: vec![*id] }),
                None => CommandKind::LeaseGrant(LeaseGrantRequest { id: *id, ttl: owner.ttl }),
            };
            let proposal = Proposal { kind, sent_at: self.now, by: Asker::Owner(*id) };
            self.waiting.push((self.now, proposal));
        }
    }

    /// What is on its way reaches the leader; or it does not, and is sent again later.
    fn deliver(&mut self) {
        let reachable = self.leader.filter(|leader| self.is_running(*leader));
        let now = self.now;
        for (at, proposal) in self.waiting.extract_if(.., |it| it.0 <= now).collect::<Vec<_>>() {
            if reachable.is_some() {
                self.pending.push(proposal);
            } else {
                self.waiting.push((at + PATIENCE_MS, proposal));
            }
        }
    }

    fn commit(&mut self) {
        let is_able = self.leader.is_some_and(|leader| self.is_running(leader));
        if !is_able || self.now < self.stuck_until {
            return;
        }
        for proposal in std::mem::take(&mut self.pending) {
            let index = LogIndex::new(self.log.len() as u64 + 1);
            let command = Command::new(proposal.kind.clone()).encode_to_vec().into();
            let log_id = LogId::new(Term::new(1), index);
            self.log.push(Committed { log_id, command });
            self.judge(&proposal);
        }
    }

    /// Looks at what the last entry has changed, in the leader's store.
    fn judge(&mut self, proposal: &Proposal) {
        let leader = &mut self.members[self.leader.unwrap()];
        leader.apply(&self.log[..self.log.len() - 1]);
        let before = leader.ids();
        leader.apply(&self.log);
        let after = leader.ids();
        if let Asker::Member(member) = proposal.by {
            self.members[member].expiry = Expiry::No;
            self.members[member].timing.hold(false);
        }
        for id in before.into_iter().filter(|id| !after.contains(id)) {
            self.judge_end(id);
        }
        let Asker::Owner(asked) = proposal.by else { return };
        let pause = self.chance.within(200, 2_000);
        let owner = self.owners.get_mut(&asked).unwrap();
        let is_alive = after.contains(&asked);
        owner.is_waiting = false;
        // Asking late is still better than never, and what was sent last counts.
        owner.alive_since =
            is_alive.then(|| owner.alive_since.max(Some(proposal.sent_at))).flatten();
        let ttl = u64::try_from(owner.ttl).unwrap() * 1000;
        owner.next_at = self.now + if owner.is_diligent { ttl / 3 } else { ttl * pause / 1000 };
    }

    fn judge_end(&mut self, id: i64) {
        let (seed, now) = (self.seed, self.now);
        let owner = self.owners.get_mut(&id).unwrap();
        let since = owner.alive_since.take().unwrap();
        let lived = now - since;
        let ttl = u64::try_from(owner.ttl).unwrap() * 1000;
        assert!(
            lived >= ttl,
            "seed {seed}: lease {id} of {ttl} ms ended after {lived} ms at {now}"
        );
        let is_renewed = owner.is_diligent && !self.owners_are_gone;
        assert!(!is_renewed, "seed {seed}: lease {id} ended at {now}, renewed as it was");
        self.ended_count += 1;
    }

    fn member_acts(&mut self, place: usize) {
        if !self.is_running(place) || self.chance.next().is_multiple_of(8) {
            return;
        }
        let (now, is_leader) = (self.now, self.leader == Some(place));
        let member = &mut self.members[place];
        if is_leader || self.chance.next().is_multiple_of(2) {
            member.apply(&self.log);
        }
        member.look(now);
        match member.expiry {
            Expiry::No if !overdue(member).is_empty() => {
                member.timing.hold(true);
                member.expiry = Expiry::Confirms { until: now + EXPIRY_TIMEOUT_MS };
            }
            Expiry::Confirms { .. } if is_leader => self.propose_end(place),
            Expiry::Confirms { until } if until <= now => {
                member.expiry = Expiry::No;
                member.timing.hold(false);
            }
            Expiry::No | Expiry::Confirms { .. } | Expiry::Waits => {}
        }
    }

    fn propose_end(&mut self, place: usize) {
        let member = &mut self.members[place];
        let leases = overdue(member);
        if leases.is_empty() {
            member.expiry = Expiry::No;
            member.timing.hold(false);
            return;
        }
        member.expiry = Expiry::Waits;
        let kind = CommandKind::LeaseExpire(LeaseExpireRequest { leases });
        self.pending.push(Proposal { kind, sent_at: self.now, by: Asker::Member(place) });
    }
}

fn overdue(member: &Member) -> Vec<Overdue> {
    member.timing.overdue(256)
}

#[test]
fn no_lease_ends_before_its_time_and_none_that_is_renewed_whatever_happens_to_members() {
    let mut ended_count = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.run(CHAOS_MS, true);
        ended_count += world.ended_count;
    }
    assert!(ended_count > 1000, "leases that nobody renews do end: {ended_count}");
}

#[test]
fn a_lease_that_nobody_renews_any_more_ends_once_somebody_leads_again() {
    for seed in 1000..1050 {
        let mut world = World::new(seed);
        world.run(CHAOS_MS / 10, true);
        world.owners_are_gone = true;
        world.waiting.clear();
        // The longest trouble, an election, the longest lease, and the time after taking over.
        world.run(CHAOS_MS / 10 + 90_000 + 10_000 + 60_000 + 10_000, false);
        let left = world.members[world.leader.unwrap()].ids();
        assert_eq!(left, [0; 0], "seed {seed}");
    }
}
