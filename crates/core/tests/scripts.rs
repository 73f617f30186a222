//! Runs the scripts in `tests/scripts`: each line that starts with `>` is a command, what follows
//! is the picture it must give. `UPDATE=1 cargo test -p quorate-core --test scripts` redraws.
//!
//! A server is drawn as `n1@2 leader last=4@2 commit=4 applied=4 progress={2:4->5 3:0->1?}`: term
//! after the `@`, for each follower `match->next`, `?` while probing, `*n` with n messages under
//! way, `$n` while being sent a snapshot of which n bytes have arrived. Commands: see `Stage::run`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod harness;

use harness::{Cluster, Disk, command, configuration, describe, index, log_id, node};
use quorate_core::{
    AppendEntries, Configuration, Drift, Entry, Event, InstallSnapshot, LogId, LogIndex,
    MemberRole, MembershipCommand, Message, NodeId, Options, Payload, PeerState, ProtocolVersion,
    Raft, ReadId, Role, SnapshotMeta, Status, Term,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// A cluster on a stage, and what the audience has seen of it.
struct Stage {
    cluster: Cluster,
    drawn: BTreeMap<NodeId, String>,
    answers_shown: usize,
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("a number, not {text:?}"))
}

fn size(text: &str) -> usize {
    usize::try_from(number(text)).unwrap()
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(number(text.trim_end_matches("ms")))
}

/// `3@2`: index and term.
fn parse_log_id(text: &str) -> LogId {
    let (index, term) = text.split_once('@').unwrap();
    log_id(number(index), number(term))
}

/// `3=6`: node 3 speaks version 6.
fn speaks(text: &str) -> Event {
    let (from, version) = text.split_once('=').unwrap();
    let version = ProtocolVersion::new(u16::try_from(number(version)).unwrap());
    Event::Speaks { from: node(number(from)), version }
}

/// `1->2`
fn link(text: &str) -> (NodeId, NodeId) {
    let (from, to) = text.split_once("->").unwrap();
    (node(number(from)), node(number(to)))
}

fn settings<'a>(words: &[&'a str]) -> BTreeMap<&'a str, &'a str> {
    words.iter().filter_map(|word| word.split_once('=')).collect()
}

/// `1,2,3in,4out,5learner` with ranks as in `1^7`.
fn parse_members(text: &str) -> Configuration {
    configuration(text.split(',').map(|member| {
        let (member, rank) = member.split_once('^').unwrap_or((member, "0"));
        let id = member.trim_end_matches(char::is_alphabetic);
        let role = match &member[id.len()..] {
            "" => MemberRole::Voter,
            "in" => MemberRole::Incoming,
            "out" => MemberRole::Outgoing,
            "learner" => MemberRole::Learner,
            other => panic!("an unknown role: {other}"),
        };
        (number(id), role, u32::try_from(number(rank)).unwrap())
    }))
}

fn parse_options(settings: &BTreeMap<&str, &str>) -> Options {
    let mut options = Options::default();
    for (name, value) in settings {
        match *name {
            "append_bytes" => options.append_bytes_max = size(value),
            "in_flight_count" => options.in_flight_count_max = size(value),
            "in_flight_bytes" => options.in_flight_bytes_max = size(value),
            "uncommitted_bytes" => options.uncommitted_bytes_max = size(value),
            "cache_bytes" => options.log_cache_bytes_max = size(value),
            "applying_bytes" => options.applying_bytes_max = size(value),
            "load_bytes" => options.load_bytes_max = size(value),
            "chunk_bytes" => options.snapshot_chunk_bytes_max = size(value),
            "reads" => options.waiting_reads_count_max = size(value),
            "leases" => options.lease_reads = *value == "on",
            _ => {}
        }
    }
    options
}

impl Stage {
    fn new(words: &[&str]) -> Self {
        let settings = settings(words);
        let members = parse_members(settings.get("members").unwrap_or(&"1,2,3"));
        let seed = settings.get("seed").map_or(1, |seed| number(seed));
        Self {
            cluster: Cluster::new(&members, parse_options(&settings), seed),
            drawn: BTreeMap::new(),
            answers_shown: 0,
        }
    }

    /// Runs one command and returns what there is to see after it.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut seen = String::new();
        match words[0] {
            "trace" => self.cluster.trace = (words[1] == "on").then(Vec::new),
            "messages" => {
                for envelope in &self.cluster.network {
                    let (from, to) = (envelope.from, envelope.to);
                    writeln!(seen, "n{from}->n{to} {}", describe(&envelope.message)).unwrap();
                }
            }
            "deadline" => {
                let (at, id) = self.cluster.next_deadline().unwrap();
                writeln!(seen, "n{id} in {:?}", at.since(self.cluster.now)).unwrap();
            }
            "memory" => {
                let status = self.cluster.raft(number(words[1])).status();
                let (cached, uncommitted) = (status.cached_bytes, status.uncommitted_bytes);
                writeln!(seen, "cached={cached} uncommitted={uncommitted}").unwrap();
            }
            "waits" => {
                for wait in self.cluster.raft(number(words[1])).status().change_waits {
                    writeln!(seen, "{wait}").unwrap();
                }
            }
            "explain" => {
                let raft = self.cluster.raft(number(words[1]));
                let reasons = match words.get(2) {
                    Some(index) => {
                        raft.explain_commit(LogIndex::new(number(index))).into_iter().collect()
                    }
                    None => raft.explain(),
                };
                for reason in reasons {
                    writeln!(seen, "{reason}").unwrap();
                    reason.advice().iter().for_each(|advice| {
                        writeln!(seen, "  {advice}").unwrap();
                    });
                }
            }
            "sent" => writeln!(seen, "{} messages", self.cluster.sent_count).unwrap(),
            "show" => self.drawn.clear(),
            "timeout" | "stabilize" | "until-joint" | "deliver" | "advance" | "drop"
            | "duplicate" | "isolate" | "cut" | "uncut" | "heal" => self.run_surroundings(&words),
            "disk" | "machine" | "crash" | "start" | "join" | "wound" => self.run_server(&words),
            _ => self.run_event(&words),
        }
        self.cluster.violation.take().iter().for_each(|violation| {
            writeln!(seen, "VIOLATION {violation}").unwrap();
        });
        seen + &self.draw()
    }

    /// Time and network.
    fn run_surroundings(&mut self, words: &[&str]) {
        let cluster = &mut self.cluster;
        match words[0] {
            "timeout" => cluster.time_out(number(words[1])),
            "stabilize" => cluster.stabilize(),
            // Stops as soon as a server decides by two majorities.
            "until-joint" => {
                let id = number(words[1]);
                cluster.stabilize_until(|cluster| cluster.raft(id).configuration().is_joint());
            }
            "advance" => cluster.advance(millis(words[1])),
            "isolate" => cluster.isolate(number(words[1])),
            "heal" => cluster.heal(),
            "cut" => {
                cluster.cut.insert(link(words[1]));
            }
            "uncut" => {
                cluster.cut.remove(&link(words[1]));
            }
            "drop" => {
                let dropped = words.get(1).map(|link_text| link(link_text));
                cluster.network.retain(|envelope| {
                    dropped.is_some_and(|link| link != (envelope.from, envelope.to))
                });
            }
            "duplicate" => {
                let copies = cluster.network.clone();
                cluster.network.extend(copies);
            }
            // Messages of one link, or all that are under way now, in order.
            "deliver" => {
                let wanted = words.get(1).map(|link_text| link(link_text));
                let under_way = std::mem::take(&mut cluster.network);
                for envelope in under_way {
                    if wanted.is_none_or(|link| link == (envelope.from, envelope.to)) {
                        cluster.deliver(envelope);
                    } else {
                        cluster.network.push_back(envelope);
                    }
                }
            }
            other => panic!("an unknown command: {other}"),
        }
    }

    /// Disk, state machine, life and death of one server.
    fn run_server(&mut self, words: &[&str]) {
        let id = number(words[1]);
        let settings = settings(words);
        match (words[0], words.get(2).copied()) {
            ("disk", Some("hold")) => self.cluster.server(id).disk_held = true,
            ("disk", Some("go")) => self.cluster.server(id).disk_held = false,
            ("disk", Some("one")) => self.cluster.finish_write(node(id)),
            ("disk", Some("fail")) => self.cluster.fail_disk(node(id)),
            ("machine", Some("hold")) => self.cluster.server(id).machine_held = true,
            ("machine", Some("go")) => self.cluster.server(id).machine_held = false,
            ("machine", Some("durable")) => self.cluster.server(id).machine_is_durable = true,
            // wound 2 4..6: those entries of server 2, which is down, are damaged
            ("wound", Some(range)) => {
                let (first, last) = range.split_once("..").unwrap();
                self.cluster.wound(node(id), index(number(first)), index(number(last)));
                // Entries that were overwritten by what is damaged now: relic=2@1
                let relics = settings.get("relic").map(|word| forged_entry(word));
                self.cluster.server(id).disk.entries.extend(relics);
            }
            ("crash", _) => {
                self.cluster.crash(node(id), settings.get("written").map_or(0, |n| size(n)));
            }
            ("start", _) => {
                let tail_count = settings.get("tail").map_or(usize::MAX, |n| size(n));
                self.cluster.server(id).tail_count = tail_count;
                self.cluster.start(node(id));
            }
            ("join", Some(members)) => {
                self.cluster.add(node(id), Disk::new(parse_members(members)));
            }
            ("join", None) => self.cluster.add(node(id), Disk::new(Configuration::default())),
            other => panic!("an unknown command: {other:?}"),
        }
    }

    /// `options 1 heartbeat=50ms election=3s`: other settings for server 1.
    fn set_options(&mut self, id: u64, words: &[&str]) {
        let mut options = self.cluster.raft(id).options().clone();
        for (name, value) in settings(words) {
            match name {
                "heartbeat" => options.heartbeat_interval = millis(value),
                "election" => options.election_timeout = millis(value),
                "uncommitted_bytes" => options.uncommitted_bytes_max = size(value),
                other => panic!("an unknown setting: {other}"),
            }
        }
        self.cluster.step(node(id), Event::SetOptions(Box::new(options)));
    }

    /// An event for one server.
    fn run_event(&mut self, words: &[&str]) {
        let id = || number(words[1]);
        match words[0] {
            "propose" => self.cluster.propose(id(), &words[2..]),
            "propose-size" => {
                let text = "x".repeat(size(words[2]));
                self.cluster.propose(id(), &[&text]);
            }
            "read" => self.cluster.read(id(), number(words[2])),
            // lease 1 7 200: read 7, if clocks are off by no more than so many millionths
            "lease" => {
                let max_drift = Drift::parts_per_million(u32::try_from(number(words[3])).unwrap());
                let id = ReadId::new(number(words[2]));
                self.cluster.step(node(number(words[1])), Event::ReadByLease { id, max_drift });
            }
            // jump 1 300ms
            "jump" => {
                let by = millis(words[2]);
                self.cluster.step(node(id()), Event::ClockJumped { by });
            }
            "transfer" => {
                let to = words.get(2).map(|to| node(number(to)));
                self.cluster.step(node(id()), Event::TransferLeadership { to });
            }
            "options" => self.set_options(id(), words),
            // gone 2 1: server 2 is told that 1 is gone
            "gone" => {
                let peer = node(number(words[2]));
                self.cluster.step(node(id()), Event::PeerGone { peer });
            }
            // set 1 1,2,4learner version=3 force
            "set" => {
                let version = settings(words).get("version").map(|version| number(version));
                let command = MembershipCommand::Set {
                    target: parse_members(words[2]).members,
                    expected_version: version,
                    force: words.contains(&"force"),
                };
                self.cluster.change(id(), command);
            }
            // introduce 1 3=30 proven
            "introduce" => {
                let (from, storage_id) = words[2].split_once('=').unwrap();
                let (from, storage_id) = (node(number(from)), u128::from(number(storage_id)));
                let is_proven = words.contains(&"proven");
                let event = Event::Introduced { from, storage_id, is_proven };
                self.cluster.step(node(id()), event);
            }
            // speaks 1 3=6
            "speaks" => self.cluster.step(node(id()), speaks(words[2])),
            "cancel" => self.cluster.change(id(), MembershipCommand::Cancel),
            "compact" => {
                let through = index(number(words[2]));
                self.cluster.step(node(id()), Event::Compact { through });
            }
            // append 1->2 term=1 prev=0@0 commit=0 3@1 4@1=1,2,3in
            "append" => {
                let (from, to) = link(words[1]);
                let message = Message::AppendEntries(forged_append(&words[2..]));
                self.cluster.step(to, Event::Message { from, message });
            }
            // install 1->3 term=1 last=5@1 offset=0 done=true
            "install" => {
                let (from, to) = link(words[1]);
                let configuration = Arc::clone(self.cluster.raft(to.get()).configuration());
                let settings = settings(words);
                let last_included = parse_log_id(settings["last"]);
                let message = Message::InstallSnapshot(InstallSnapshot {
                    term: Term::new(number(settings["term"])),
                    meta: SnapshotMeta { last_included, configuration },
                    offset: number(settings["offset"]),
                    chunk: bytes::Bytes::from_static(b"forged"),
                    done: settings["done"] == "true",
                });
                self.cluster.step(to, Event::Message { from, message });
            }
            other => panic!("an unknown command: {other}"),
        }
    }

    /// Draws what was sent and answered, and every server that looks different from before.
    fn draw(&mut self) -> String {
        let mut seen = String::new();
        for line in self.cluster.trace.iter_mut().flat_map(|trace| trace.drain(..)) {
            writeln!(seen, "  {line}").unwrap();
        }
        for answer in &self.cluster.answers[self.answers_shown..] {
            writeln!(seen, "{answer}").unwrap();
        }
        self.answers_shown = self.cluster.answers.len();
        for (id, server) in &self.cluster.servers {
            let picture = server.raft.as_ref().map_or(format!("n{id} down"), draw_server);
            if self.drawn.get(id) != Some(&picture) {
                writeln!(seen, "{picture}").unwrap();
                self.drawn.insert(*id, picture);
            }
        }
        seen
    }
}

fn forged_append(words: &[&str]) -> AppendEntries {
    let settings = settings(words);
    let entries = words.iter().filter(|word| word.contains('@') && !word.starts_with("prev"));
    AppendEntries {
        term: Term::new(number(settings["term"])),
        prev_log: parse_log_id(settings["prev"]),
        leader_commit: index(number(settings["commit"])),
        entries: entries.map(|word| forged_entry(word)).collect(),
    }
}

fn forged_entry(word: &str) -> Entry {
    match word.split_once('=') {
        None => {
            let log_id = parse_log_id(word);
            command(log_id.index.get(), log_id.term.get(), "forged")
        }
        Some((log_id, members)) => {
            let payload = Payload::Configuration(Arc::new(parse_members(members)));
            Entry { log_id: parse_log_id(log_id), payload }
        }
    }
}

fn draw_server(raft: &Raft) -> String {
    let status = raft.status();
    let mut picture = format!("n{}@{} {}", status.id, status.current_term, status.role);
    if status.role == Role::Follower {
        match status.leader {
            Some(leader) => write!(picture, " of n{leader}").unwrap(),
            None => write!(picture, " of nobody").unwrap(),
        }
    }
    if status.base != LogId::ORIGIN {
        write!(picture, " base={}", status.base).unwrap();
    }
    write!(picture, " last={}", status.last_log).unwrap();
    if status.durable_index != status.last_log.index {
        write!(picture, " durable={}", status.durable_index).unwrap();
    }
    if let Some(horizon) = raft.lost() {
        write!(picture, " lost={horizon}").unwrap();
    }
    write!(picture, " commit={} applied={}", status.commit_index, status.applied).unwrap();
    let configuration = &status.configuration;
    if configuration.voters().count() != 3 || configuration.change.is_some() || has_changed(&status)
    {
        write!(picture, " members={}", draw_members(configuration)).unwrap();
    }
    if !configuration.storages.is_empty() {
        let disks: Vec<String> =
            configuration.storages.iter().map(|(id, disk)| format!("{id}:{disk}")).collect();
        write!(picture, " disks={{{}}}", disks.join(" ")).unwrap();
    }
    if configuration.cluster_version != ProtocolVersion::UNRECORDED {
        write!(picture, " speaks={}", configuration.cluster_version).unwrap();
    }
    if let Some(version) = status.removed_at {
        write!(picture, " removed at v{version}").unwrap();
    }
    if status.role == Role::Leader {
        let progress: Vec<String> = status
            .progress
            .iter()
            .map(|(id, p)| {
                let mark = match p.state {
                    PeerState::Probe => "?".to_owned(),
                    PeerState::Replicate if p.in_flight_count > 0 => {
                        format!("*{}", p.in_flight_count)
                    }
                    PeerState::Replicate => String::new(),
                    PeerState::Snapshot { offset } => format!("${offset}"),
                };
                format!("{id}:{}->{}{mark}", p.match_index, p.next_index)
            })
            .collect();
        write!(picture, " progress={{{}}}", progress.join(" ")).unwrap();
    }
    if let Some(to) = status.transferring {
        write!(picture, " transferring to n{to}").unwrap();
    }
    if let Some(poison) = status.poisoned {
        write!(picture, " POISONED: {poison}").unwrap();
    }
    picture
}

fn has_changed(status: &Status) -> bool {
    status.configuration.member_count() != 3 || status.configuration.version > 1
}

fn draw_members(configuration: &Configuration) -> String {
    let members = configuration.members.iter().map(|(id, member)| {
        let role = match member.role {
            MemberRole::Voter => "",
            MemberRole::Incoming => "in",
            MemberRole::Outgoing => "out",
            MemberRole::Learner => "learner",
        };
        format!("{id}{role}")
    });
    let mark = if configuration.change.is_some() { "+" } else { "" };
    members.collect::<Vec<_>>().join(",") + mark
}

/// Plays a script and returns it with the pictures redrawn.
fn play(script: &str) -> String {
    let mut stage: Option<Stage> = None;
    let mut played = String::new();
    for line in script.lines() {
        let Some(command) = line.strip_prefix("> ") else {
            if line.is_empty() || line.starts_with('#') {
                writeln!(played, "{line}").unwrap();
            }
            continue;
        };
        writeln!(played, "{line}").unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        if words[0] == "cluster" {
            let new = stage.insert(Stage::new(&words[1..]));
            played += &new.draw();
        } else {
            played += &stage.as_mut().expect("a script starts with a cluster").run(command);
        }
    }
    played
}

#[test]
fn every_script_gives_the_picture_that_it_shows() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "only {} scripts", paths.len());
    let update = std::env::var("UPDATE").is_ok();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        assert!(script.starts_with('#'), "{} says what it shows", path.display());
        let played = play(&script);
        if update {
            std::fs::write(&path, &played).unwrap();
        }
        let differs = script.lines().zip(played.lines()).enumerate().find(|(_, (a, b))| a != b);
        assert!(
            update || script == played,
            "{}: first difference {differs:?}; played:\n{played}",
            path.display()
        );
        assert!(!played.contains("VIOLATION"), "{} breaks an invariant", path.display());
    }
}
