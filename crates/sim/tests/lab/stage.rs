//! A cluster and the scripts that run beside a story: each script is a sequence of steps that waits
//! for virtual time and for answers. Knows no application; which seed failed, it tells.

use quorate_core::Time;
use quorate_sim::{Application, Cluster, ClusterOptions, Findings, OpId, Outcome, Request, Rng};
use std::cell::{Cell, RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The longest that any story lets its scripts go on after it has no more to tell.
const SCRIPTS_END_WITHIN: Duration = Duration::from_mins(2);

/// Tells a story with each of these seeds, or with the one that `LAB_SEED` names.
pub(crate) fn each_seed(seeds: impl IntoIterator<Item = u64>, story: impl Fn(u64)) {
    if let Some(seed) = std::env::var("LAB_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return story(seed);
    }
    seeds.into_iter().for_each(story);
}

pub(crate) const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

type Script = Pin<Box<dyn Future<Output = ()>>>;

/// What a story is told on.
pub(crate) struct Stage<A: Application> {
    world: Rc<World<A>>,
    scripts: Vec<Script>,
}

/// What scripts share with the story.
pub(crate) struct World<A: Application> {
    seed: u64,
    cluster: RefCell<Cluster<A>>,
    rng: RefCell<Rng>,
    /// The earliest time that a script waits for.
    wake_at: Cell<Option<Time>>,
}

impl<A: Application> Stage<A> {
    pub(crate) fn new(options: ClusterOptions, application: A) -> Self {
        let seed = options.seed;
        let world = World {
            seed,
            cluster: RefCell::new(Cluster::new(options, application)),
            rng: RefCell::new(Rng::new(seed).fork("story")),
            wake_at: Cell::new(None),
        };
        Self { world: Rc::new(world), scripts: Vec::new() }
    }

    /// What a script needs to play.
    pub(crate) fn world(&self) -> Rc<World<A>> {
        Rc::clone(&self.world)
    }

    pub(crate) fn cluster(&self) -> RefMut<'_, Cluster<A>> {
        self.world.cluster()
    }

    pub(crate) fn now(&self) -> Time {
        self.world.now()
    }

    /// A number below `bound`, by the seed.
    pub(crate) fn random(&self, bound: u64) -> u64 {
        self.world.random(bound)
    }

    /// Lets a script play whenever time goes on.
    pub(crate) fn play(&mut self, script: impl Future<Output = ()> + 'static) {
        self.scripts.push(Box::pin(script));
    }

    /// Lets the world and the scripts go on for this long.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let until = self.now().after(duration);
        while self.now() < until {
            self.advance(until);
        }
    }

    /// Lets the world go on until every script has come to its end.
    pub(crate) fn run_scripts(&mut self) {
        let until = self.now().after(SCRIPTS_END_WITHIN);
        while self.poll_scripts() {
            assert!(self.now() < until, "a script does not end");
            self.advance(until);
        }
    }

    /// Plays one script to its end, the others beside it.
    pub(crate) fn run<T: 'static>(&mut self, script: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(Cell::new(None));
        let slot = Rc::clone(&result);
        self.play(async move { slot.set(Some(script.await)) });
        let until = self.now().after(SCRIPTS_END_WITHIN);
        loop {
            self.poll_scripts();
            if let Some(result) = result.take() {
                return result;
            }
            assert!(self.now() < until, "the script does not end");
            self.advance(until);
        }
    }

    /// Everything is healed, and every judge has its say.
    pub(crate) fn finish(mut self) -> Findings {
        self.run_scripts();
        let verdict = self.cluster().converge();
        match verdict {
            Ok(findings) => findings,
            Err(breach) => panic!("{breach}"),
        }
    }

    /// Lets scripts play, then the world go on to the next thing that one of them waits for.
    fn advance(&mut self, until: Time) {
        self.poll_scripts();
        let wake_at = self.world.wake_at.get().map_or(until, |at| at.min(until));
        let mut cluster = self.cluster();
        cluster.run_until_an_answer(wake_at);
        if let Some(breach) = cluster.breach() {
            panic!("{breach}");
        }
    }

    /// Returns whether there are scripts left.
    fn poll_scripts(&mut self) -> bool {
        self.world.wake_at.set(None);
        let mut context = Context::from_waker(Waker::noop());
        self.scripts.retain_mut(|script| script.as_mut().poll(&mut context).is_pending());
        !self.scripts.is_empty()
    }
}

impl<A: Application> Drop for Stage<A> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(cluster) = self.world.cluster.try_borrow()
        {
            let (seed, thread) = (self.world.seed, std::thread::current());
            let name = thread.name().unwrap_or_default().to_owned();
            println!("  {}", cluster.story().join("\n  "));
            println!("repeat: LAB_SEED={seed} cargo test -p quorate-sim --test lab {name}");
        }
    }
}

impl<A: Application> World<A> {
    pub(crate) fn cluster(&self) -> RefMut<'_, Cluster<A>> {
        self.cluster.borrow_mut()
    }

    pub(crate) fn now(&self) -> Time {
        self.cluster.borrow().now()
    }

    pub(crate) fn random(&self, bound: u64) -> u64 {
        self.rng.borrow_mut().below(bound)
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        let until = self.now().after(duration);
        poll_fn(|_| {
            if self.now() >= until {
                return Poll::Ready(());
            }
            let wake_at = self.wake_at.get().map_or(until, |at| at.min(until));
            self.wake_at.set(Some(wake_at));
            Poll::Pending
        })
        .await;
    }

    /// Asks a node, and waits for the answer; the world sees to it that there is one.
    pub(crate) async fn ask(
        &self,
        node: u64,
        request: impl FnOnce(&mut A, OpId, u64) -> Request,
    ) -> Outcome {
        let op = self.cluster().submit(node, request);
        poll_fn(|_| self.cluster().take_answer(op).map_or(Poll::Pending, Poll::Ready)).await
    }
}
