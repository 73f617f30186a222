//! The servers of a round, and the disks that they have: set up, struck, started again. Knows which
//! harm is done and to whom; what clients saw of it is for others to judge.

use crate::forgetful::{Disk, Fault, Order};
use crate::harness::{Cluster, Rng, eventually};
use crate::plan::{Kind, Plan};
use crate::workload::Shared;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// No more than so many operations are acknowledged before a strike.
const BEFORE_MAX: usize = 120;
/// No more than so many while state files are made anew.
const RENEWING_MAX: usize = 20;
/// How many are acknowledged after it, by whoever is there.
const AFTER: u64 = 30;
/// No more than so many writes or syncs succeed before one fails.
const GOOD_MAX: usize = 60;
/// How many a round without a strike has.
const CALM: u64 = 250;
/// The name of the state file.
const STATE: &str = "state";
/// What a server says that does not believe its state file.
const WORDS: &str = "Move that file away";

/// Disks that forget, one a server, or none. Dropped while a test fails, they leave copies.
struct Disks {
    list: Vec<Disk>,
    folder: PathBuf,
    replay: String,
}

/// Servers and their disks.
pub(crate) struct Stage {
    // Before the disks: the processes go first.
    pub(crate) cluster: Cluster,
    disks: Disks,
    plan: Plan,
    rng: Rng,
    /// Decides who makes its state file anew.
    renewals: Rng,
}

/// What was done.
#[derive(Default)]
pub(crate) struct Blow {
    what: String,
    victims: Vec<usize>,
    /// Whether a server had to be told to begin its state anew.
    pub(crate) has_moved_state: bool,
}

impl fmt::Display for Blow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.victims.iter().map(|it| format!("n{}", it + 1)).collect();
        write!(out, "{}", self.what)?;
        if !names.is_empty() {
            write!(out, " {}", names.join(", "))?;
        }
        if self.has_moved_state { write!(out, ", its state moved away as it said") } else { Ok(()) }
    }
}

impl Stage {
    /// Servers that are not started yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut cluster = Cluster::new("crash", &plan.options());
        let folder = cluster.path();
        let mut list = Vec::new();
        if plan.needs_disks() {
            for index in cluster.indexes() {
                let server = cluster.server(index);
                let mountpoint = folder.join(format!("{}-disk", server.name));
                let disk = Disk::mounted(&mountpoint, plan.has_short_reads);
                list.push(disk.expect("it was possible a moment ago"));
                server.data_dir = mountpoint.join("data");
                let path = server.data_dir.to_str().expect("a plain name").to_owned();
                server.set_flag("--data-dir", &path);
            }
        }
        if plan.has_log_elsewhere {
            for index in cluster.indexes() {
                let server = cluster.server(index);
                let log = folder.join(format!("{}-wal", server.name));
                let log = log.to_str().expect("a plain name").to_owned();
                server.flags.extend(["--wal-dir".to_owned(), log]);
            }
        }
        let disks = Disks { list, folder, replay: plan.replay() };
        let (rng, renewals) = (Rng::new(plan.seed, 1), Rng::new(plan.seed, 3));
        Self { cluster, disks, plan: plan.clone(), rng, renewals }
    }

    /// Some harm, while clients are at work, until all serve again.
    pub(crate) async fn strike(&mut self, shared: &Shared) -> Blow {
        if self.plan.kind == Kind::Flip {
            shared.acknowledged(CALM).await;
            return Blow { what: "nobody struck".to_owned(), ..Blow::default() };
        }
        shared.acknowledged(self.rng.below(BEFORE_MAX) as u64).await;
        let victims = self.victims();
        let fails_state = self.plan.kind == Kind::Fail && self.rng.below(3) == 0;
        if !fails_state && self.renewals.coin() {
            self.renew(&victims);
            shared.acknowledged(self.renewals.below(RENEWING_MAX) as u64).await;
        }
        let what = match self.plan.kind {
            Kind::Fail if fails_state => self.fail_state(victims[0]).await,
            Kind::Fail => self.fail(victims[0], shared).await,
            Kind::Cut => "cut the power of",
            Kind::Kill | Kind::Flip => "killed",
        };
        self.bring_down(&victims);
        if victims.len() * 2 < self.cluster.indexes().len() && self.rng.coin() {
            shared.acknowledged(AFTER).await;
        }
        let mut blow = Blow { what: what.to_owned(), victims, has_moved_state: false };
        for victim in &blow.victims {
            self.cluster.server(*victim).start();
        }
        for victim in blow.victims.clone() {
            blow.has_moved_state |= self.serve_again(victim).await;
        }
        assert!(
            blow.has_moved_state || !fails_state,
            "a start believed a state file that could not be written"
        );
        shared.acknowledged(AFTER).await;
        blow
    }

    /// Lets these make their state files anew, again and again, for as long as they are there.
    fn renew(&self, victims: &[usize]) {
        for victim in victims {
            let client = self.cluster.client(*victim).clone();
            tokio::spawn(async move { while client.defragment().await.is_ok() {} });
        }
    }

    /// One, or all at once, or another number.
    fn victims(&mut self) -> Vec<usize> {
        let mut victims: Vec<usize> = self.cluster.indexes().collect();
        let count = match self.rng.below(4) {
            0 | 1 => 1,
            2 => victims.len(),
            _ => 1 + self.rng.below(victims.len()),
        };
        let count = if self.plan.kind == Kind::Fail { 1 } else { count };
        while victims.len() > count {
            victims.remove(self.rng.below(victims.len()));
        }
        victims
    }

    /// Lets a write or a sync of this server's fail, and waits until it has ended, or has not minded.
    async fn fail(&mut self, victim: usize, shared: &Shared) -> &'static str {
        let (fault, what) = *self.rng.pick(&[
            (Fault::Write, "a write failed, and then the power, of"),
            (Fault::Sync, "a sync failed, and then the power, of"),
        ]);
        let disk = &self.disks.list[victim];
        disk.arm(Order { fault, after: self.rng.below(GOOD_MAX) as u64, only: None });
        let server = self.cluster.server(victim);
        eventually("a fault that was ordered", async || (!disk.is_armed()).then_some(())).await;
        let count = shared.acknowledged_count();
        eventually("the end of a server whose disk failed, or acknowledgements", async || {
            let goes_on = shared.acknowledged_count() > count + AFTER;
            (server.try_ended().is_some() || goes_on).then_some(())
        })
        .await;
        what
    }

    /// Tells this server to stop, and lets it fail to write its state file then: no start may believe
    /// that file.
    async fn fail_state(&mut self, victim: usize) -> &'static str {
        let fault = *self.rng.pick(&[Fault::Write, Fault::Sync]);
        let disk = &self.disks.list[victim];
        disk.arm(Order { fault, after: 0, only: Some(STATE) });
        let status = self.cluster.server(victim).terminate().await;
        assert!(!disk.is_armed(), "a server that stops writes its state file");
        assert!(!status.success(), "{status}, although the state file could not be written");
        "the state of one that stopped could not be written, and then the power failed, of"
    }

    /// Kills these, and their power if their disks can lose it: in one moment.
    fn bring_down(&mut self, victims: &[usize]) {
        let has_disks = !self.disks.list.is_empty();
        for victim in victims.iter().filter(|_| has_disks) {
            self.disks.list[*victim].cut_power();
        }
        for victim in victims {
            self.cluster.server(*victim).strike();
        }
        for victim in victims.iter().filter(|_| has_disks) {
            self.disks.list[*victim].turn_off();
        }
        for victim in victims {
            self.cluster.server(*victim).bury();
        }
        for victim in victims.iter().filter(|_| has_disks) {
            self.disks.list[*victim].come_back(&mut self.rng);
        }
    }

    /// Waits for a server that was started. One whose disk failed may ask for its state to be moved
    /// away first, and gets that; returns whether it did.
    async fn serve_again(&mut self, victim: usize) -> bool {
        let client = self.cluster.client(victim).with_timeout(Duration::from_secs(5));
        let server = self.cluster.server(victim);
        let what = format!("{} to serve again, or to say why not", server.name);
        let is_there = eventually(&what, async || {
            if server.try_ended().is_some() {
                return Some(false);
            }
            client.get("is-anybody-there").await.ok().map(|_| true)
        })
        .await;
        if is_there {
            return false;
        }
        let said = server.log_of_last_life();
        assert!(
            self.plan.kind == Kind::Fail && said.contains(WORDS),
            "{} does not start again: {said}",
            server.name
        );
        fs::remove_file(server.data_dir.join(STATE)).expect("what it speaks of is there");
        self.cluster.restart(victim).await;
        true
    }

    /// The end of a round that went well: nothing may have panicked.
    pub(crate) fn finish(self) {
        let Self { mut cluster, disks, .. } = self;
        for index in cluster.indexes() {
            cluster.server(index).kill();
        }
        drop(disks);
        // Damage may make the engine of the state file panic, which is caught; `flips` looks at that.
        if self.plan.kind != Kind::Flip {
            cluster.finish();
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (index, disk) in self.list.iter().enumerate() {
            let copy = self.folder.join(format!("n{}-disk-as-it-was", index + 1));
            // What cannot be copied cannot be looked at; the failure itself has been told.
            let copied = disk.dump(&copy);
            eprintln!("The disk of n{} is in {} ({copied:?})", index + 1, copy.display());
        }
        eprintln!("To try that round again: {}", self.replay);
    }
}
