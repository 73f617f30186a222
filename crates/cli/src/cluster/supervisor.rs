//! Keeps the nodes of a local cluster: starts them, follows what becomes of them, does what the
//! person at the terminal asks, and stops them all at the end. `next` waits for something to
//! happen, `apply` acts on it; nothing else waits.

use super::command::{self, COMMANDS, Command};
use super::plan::{NodePlan, Plan};
use super::process::{self, Started};
use super::screen::{self, Row, Screen};
use super::watch::{self, Seen};
use anyhow::{Context, bail};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::ChildStdin;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// How long a node may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How often nodes that were started by hand are looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What can happen.
enum Happening {
    Line(String),
    Exited { number: usize, pid: u32, status: ExitStatus },
    Seen { number: usize, seen: Seen },
    Look,
    Stop(&'static str),
}

/// The life of a node, as far as the operating system knows it.
enum Life {
    Down,
    /// Our child. Dropping the leash stops it.
    Ours {
        pid: u32,
        log_offset: u64,
        _leash: Option<ChildStdin>,
    },
    /// Somebody started it in another terminal.
    ByHand {
        pid: Option<u32>,
    },
}

struct Member {
    life: Life,
    seen: Seen,
    paused: bool,
    /// Whether it was said that it serves.
    announced: bool,
    /// Whether it served at any time.
    has_served: bool,
}

impl Member {
    fn pid(&self) -> Option<u32> {
        match &self.life {
            Life::Down => None,
            Life::Ours { pid, .. } => Some(*pid),
            Life::ByHand { pid } => *pid,
        }
    }

    fn is_down(&self) -> bool {
        matches!(self.life, Life::Down)
    }

    /// Whether it knows a leader, and so serves.
    fn serves(&self) -> bool {
        !self.is_down() && self.seen.view.is_some_and(|view| view.leader.is_some())
    }
}

/// A leader: its term and its number.
type Leader = (u64, usize);

/// The keeper of the nodes.
pub(super) struct Supervisor {
    program: PathBuf,
    plan: Plan,
    members: Vec<Member>,
    leader: Option<Leader>,
    welcomed: bool,
    screen: Screen,
    happenings: UnboundedReceiver<Happening>,
    report: UnboundedSender<Happening>,
    seen: UnboundedReceiver<(usize, Seen)>,
    signals: [(SignalStream, &'static str); 3],
}

impl Supervisor {
    /// Starts the nodes.
    ///
    /// # Errors
    ///
    /// If one cannot be started.
    pub(super) fn start(plan: Plan, program: PathBuf) -> anyhow::Result<Self> {
        let (report, happenings) = unbounded_channel();
        let (seen_sender, seen) = unbounded_channel();
        let member = |_: &NodePlan| Member {
            life: Life::Down,
            seen: Seen::default(),
            paused: false,
            announced: false,
            has_served: false,
        };
        let members = plan.nodes.iter().map(member).collect();
        let mut supervisor = Self {
            program,
            members,
            leader: None,
            welcomed: false,
            screen: Screen::new(),
            happenings,
            report: report.clone(),
            seen,
            signals: [
                (signal(SignalKind::interrupt())?, "Ctrl-C"),
                (signal(SignalKind::terminate())?, "SIGTERM"),
                (signal(SignalKind::hangup())?, "SIGHUP"),
            ],
            plan,
        };
        for number in 0..supervisor.members.len() {
            supervisor.start_node(number)?;
        }
        watch::start(&supervisor.plan.nodes, &seen_sender)?;
        std::thread::spawn(move || read_lines(&report));
        Ok(supervisor)
    }

    /// Keeps the nodes until somebody asks to stop.
    ///
    /// # Errors
    ///
    /// If no node came up at all.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let happening = self.next().await;
            if let Happening::Stop(why) = happening {
                self.screen.event(&format!("stopping all nodes ({why})"));
                self.stop_all().await;
                return Ok(());
            }
            self.apply(happening);
            let none_came_up = self.members.iter().all(|m| m.is_down() && !m.has_served);
            if none_came_up && !self.welcomed {
                bail!("no node could be started; what each said is above and in its log");
            }
        }
    }

    async fn next(&mut self) -> Happening {
        let [interrupt, terminate, hang_up] = &mut self.signals;
        tokio::select! {
            // Signals first, then ends, then what was seen before them.
            biased;
            _ = interrupt.0.recv() => Happening::Stop(interrupt.1),
            _ = terminate.0.recv() => Happening::Stop(terminate.1),
            _ = hang_up.0.recv() => Happening::Stop(hang_up.1),
            Some(happening) = self.happenings.recv() => match happening {
                Happening::Line(line) if is_quit(&line) => Happening::Stop("quit"),
                Happening::Line(_)
                | Happening::Exited { .. }
                | Happening::Seen { .. }
                | Happening::Look
                | Happening::Stop(_) => happening,
            },
            Some((number, seen)) = self.seen.recv() => Happening::Seen { number, seen },
            () = tokio::time::sleep(LOOK_INTERVAL) => Happening::Look,
        }
    }

    fn apply(&mut self, happening: Happening) {
        match happening {
            Happening::Line(line) => self.obey(&line),
            Happening::Exited { number, pid, status } => self.note_exit(number, pid, status),
            Happening::Seen { number, seen } => self.note_seen(number, seen),
            Happening::Look => self.look_after_those_started_by_hand(),
            Happening::Stop(_) => {}
        }
        self.follow_leader();
    }

    fn start_node(&mut self, number: usize) -> anyhow::Result<()> {
        let (Some(node), Some(member)) =
            (self.plan.nodes.get(number), self.members.get_mut(number))
        else {
            return Ok(());
        };
        let Started { pid, mut child, leash, log_offset } =
            process::start(&self.program, &self.plan.arguments(node), node)?;
        self.screen.event(&format!("{} started (pid {pid})", node.name));
        member.life = Life::Ours { pid, log_offset, _leash: leash };
        member.paused = false;
        member.announced = false;
        let report = self.report.clone();
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                // Nobody listens any more if the supervisor is gone.
                let _ = report.send(Happening::Exited { number, pid, status });
            }
        });
        Ok(())
    }

    fn note_exit(&mut self, number: usize, pid: u32, status: ExitStatus) {
        let (Some(node), Some(member)) =
            (self.plan.nodes.get(number), self.members.get_mut(number))
        else {
            return;
        };
        let Life::Ours { pid: current, log_offset, .. } = &member.life else { return };
        if *current != pid {
            return;
        }
        let log_offset = *log_offset;
        member.life = Life::Down;
        member.paused = false;
        member.announced = false;
        let arguments = self.plan.arguments(node);
        self.screen.event(&format!("{} (pid {pid}) {}", node.name, process::describe(status)));
        if status.code().is_some_and(|code| code != 0) {
            screen::lines(&process::last_words(&node.log, log_offset));
        }
        self.screen.how_to_start(&node.name, &self.program, &arguments);
        self.warn_without_quorum();
    }

    fn warn_without_quorum(&self) {
        let count = self.members.len();
        let up = self.members.iter().filter(|member| !member.is_down() && !member.paused).count();
        let majority = count / 2 + 1;
        if up < majority {
            self.screen.event(&format!(
                "{up} of {count} nodes run: writes and linearizable reads fail until {majority} do"
            ));
        }
    }

    fn note_seen(&mut self, number: usize, seen: Seen) {
        let (Some(node), Some(member)) =
            (self.plan.nodes.get(number), self.members.get_mut(number))
        else {
            return;
        };
        let answered = member.seen.view.is_some();
        member.seen = seen;
        if seen.view.is_some() && member.is_down() {
            let pid = process::holder(node);
            member.life = Life::ByHand { pid };
            let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            self.screen.event(&format!("{} was started by hand{pid}", node.name));
        }
        if member.serves() && !member.announced {
            let verb = if member.has_served { "rejoined" } else { "is ready" };
            self.screen.event(&format!("{} {verb}", node.name));
            member.announced = true;
            member.has_served = true;
        }
        if seen.view.is_none() && answered && !member.is_down() {
            self.screen.event(&format!("{} does not answer", node.name));
            member.announced = false;
        }
    }

    fn look_after_those_started_by_hand(&mut self) {
        for (node, member) in self.plan.nodes.iter().zip(&mut self.members) {
            let Life::ByHand { pid } = &mut member.life else { continue };
            *pid = pid.or_else(|| process::holder(node));
            let gone = pid.is_none_or(|pid| !process::is_alive(pid));
            if gone && member.seen.view.is_none() {
                member.life = Life::Down;
                member.announced = false;
                self.screen.event(&format!("{} (started by hand) is gone", node.name));
            }
        }
    }

    /// The leader of the newest term that any node speaks of.
    fn current_leader(&self) -> Option<Leader> {
        let up = self.members.iter().filter(|member| !member.is_down() && !member.paused);
        let views = up.filter_map(|member| member.seen.view);
        let (term, leader_id) = views
            .filter_map(|view| Some((view.term, view.leader?)))
            .max_by_key(|(term, _)| *term)?;
        let number = self.plan.nodes.iter().position(|node| node.id == leader_id)?;
        // The others believe in a dead leader until their time is up.
        let alive = self.members.get(number).is_some_and(|m| !m.is_down() && !m.paused);
        alive.then_some((term, number))
    }

    fn follow_leader(&mut self) {
        let leader = self.current_leader();
        if leader != self.leader {
            self.leader = leader;
            match leader.and_then(|(term, number)| Some((term, self.plan.nodes.get(number)?))) {
                Some((term, node)) => {
                    self.screen.event(&format!("{} is elected leader of term {term}", node.name));
                    if self.welcomed {
                        screen::table(self.rows());
                    }
                }
                None => self.screen.event("there is no leader"),
            }
        }
        let all_serve = self.members.iter().all(|member| member.is_down() || member.serves());
        if !self.welcomed && all_serve && self.leader.is_some() {
            self.welcomed = true;
            let leader = self.leader.and_then(|(_, number)| self.members.get(number)?.pid());
            screen::table(self.rows());
            screen::welcome(&self.plan, &self.program, leader);
        }
    }

    fn rows(&self) -> Vec<Row> {
        let nodes = self.plan.nodes.iter().zip(&self.members).enumerate();
        let row = |(number, (node, member)): (usize, (&NodePlan, &Member))| Row {
            name: node.name.clone(),
            role: self.role(number, member).to_owned(),
            client: node.client.clone(),
            peer: node.peer.clone(),
            pid: member.pid(),
            folder: node.folder.clone(),
        };
        nodes.map(row).collect()
    }

    fn role(&self, number: usize, member: &Member) -> &'static str {
        if member.is_down() {
            "down"
        } else if member.paused {
            "paused"
        } else if self.leader.is_some_and(|(_, leader)| leader == number) {
            "leader"
        } else if member.serves() {
            "follower"
        } else if member.seen.view.is_some() {
            "no leader"
        } else {
            "silent"
        }
    }

    fn obey(&mut self, line: &str) {
        match command::parse(line) {
            None => {}
            Some(Err(sentence)) => self.screen.event(&sentence),
            Some(Ok(command)) => {
                if let Err(error) = self.carry_out(command) {
                    self.screen.event(&format!("{error:#}"));
                }
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Status => screen::table(self.rows()),
            Command::Help => self.screen.event(COMMANDS),
            // `next` has turned it into a stop already.
            Command::Quit => {}
            Command::Start(name) => {
                let number = self.number_of(&name)?;
                match self.members.get(number).and_then(Member::pid) {
                    Some(pid) => bail!("{name} runs already (pid {pid})"),
                    None => self.start_node(number)?,
                }
            }
            Command::Stop(name) => self.signal(&name, Signal::TERM, "is asked to stop")?,
            Command::Kill(name) => self.signal(&name, Signal::KILL, "is sent SIGKILL")?,
            Command::Pause(name) => self.signal(&name, Signal::STOP, "is paused")?,
            Command::Resume(name) => self.signal(&name, Signal::CONT, "goes on")?,
        }
        Ok(())
    }

    fn number_of(&self, name: &str) -> anyhow::Result<usize> {
        if name == "leader" {
            let (_, number) = self.leader.context("there is no leader at the moment")?;
            return Ok(number);
        }
        let names: Vec<&str> = self.plan.nodes.iter().map(|node| node.name.as_str()).collect();
        let found = names.iter().position(|known| *known == name);
        found.with_context(|| format!("expected one of {}, found `{name}`", names.join(", ")))
    }

    fn signal(&mut self, name: &str, signal: Signal, what: &str) -> anyhow::Result<()> {
        let number = self.number_of(name)?;
        let node = self.plan.nodes.get(number).context("a number has a node")?;
        let member = self.members.get_mut(number).context("a number has a member")?;
        let name = &node.name;
        let pid = member.pid().with_context(|| format!("{name} is down: `start {name}`"))?;
        if signal == Signal::TERM && member.paused {
            // A process that stands still cannot stop by itself.
            process::signal(pid, Signal::CONT);
        }
        process::signal(pid, signal);
        member.paused = signal == Signal::STOP;
        self.screen.event(&format!("{name} (pid {pid}) {what}"));
        Ok(())
    }

    /// Stops our children, by force if they do not stop by themselves or are told twice.
    async fn stop_all(&mut self) {
        for member in &self.members {
            if let Life::Ours { pid, .. } = member.life {
                process::signal(pid, Signal::TERM);
                process::signal(pid, Signal::CONT);
            }
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.members.iter().any(|member| matches!(member.life, Life::Ours { .. })) {
            match tokio::time::timeout_at(deadline, self.next()).await {
                Ok(Happening::Exited { number, pid, status }) => {
                    self.note_stopped(number, pid, status);
                }
                Ok(Happening::Stop(_)) | Err(_) => self.kill_the_rest(),
                Ok(Happening::Line(_) | Happening::Seen { .. } | Happening::Look) => {}
            }
        }
        for (node, member) in self.plan.nodes.iter().zip(&self.members) {
            if let Life::ByHand { pid: Some(pid) } = member.life {
                let name = &node.name;
                self.screen.event(&format!("{name} was started by hand and runs on: kill {pid}"));
            }
        }
        let folder = screen::short(&self.plan.data_dir);
        self.screen.event(&format!("all nodes are down; the data stays in {folder}"));
    }

    fn note_stopped(&mut self, number: usize, pid: u32, status: ExitStatus) {
        let (Some(node), Some(member)) =
            (self.plan.nodes.get(number), self.members.get_mut(number))
        else {
            return;
        };
        if matches!(member.life, Life::Ours { pid: current, .. } if current == pid) {
            member.life = Life::Down;
            self.screen.event(&format!("{} (pid {pid}) {}", node.name, process::describe(status)));
        }
    }

    fn kill_the_rest(&mut self) {
        for (node, member) in self.plan.nodes.iter().zip(&mut self.members) {
            if let Life::Ours { pid, .. } = member.life {
                self.screen.event(&format!("{} (pid {pid}) does not stop: killing it", node.name));
                process::signal(pid, Signal::KILL);
            }
        }
    }
}

fn is_quit(line: &str) -> bool {
    command::parse(line) == Some(Ok(Command::Quit))
}

/// Reads commands from standard input until it ends; the nodes run on after that.
fn read_lines(report: &UnboundedSender<Happening>) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if report.send(Happening::Line(line)).is_err() {
            return;
        }
    }
}
