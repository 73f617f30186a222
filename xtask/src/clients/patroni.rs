//! Patroni with three PostgreSQL servers, by the gateway: a primary that dies has a successor, a member
//! of ours that dies costs none, and without a majority nobody is primary. Needs PostgreSQL 15, which
//! does not run as root: if we are, it runs as the user `postgres`.

use super::cluster::{Cluster, Ports, Tls};
use super::programs::{Running, Steps, answer, start_three, wait_for, wait_until};
use super::tools::Tools;
use super::{Tally, installed};
use crate::ci::succeed;
use crate::servers::http_get;
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const PACKAGE: &str = "patroni";
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// Not the first of the path: that may be in a folder of root's.
const PYTHON: &str = "/usr/bin/python3";
/// How long a primary is one without having said so again, in seconds, as in `node.yml`.
const TTL_SECONDS: u64 = 20;
const COUNT_ROWS: &str = "select count(*) from numbers";

/// All of it.
pub(super) fn run(tools: &Tools) -> anyhow::Result<Tally> {
    ensure!(
        Path::new(POSTGRES).join("postgres").exists(),
        "expected PostgreSQL in {POSTGRES}: apt-get install postgresql-15"
    );
    let packages = install(tools)?;
    let place = Place::new(packages)?;
    let (mut cluster, mut ports) = start_three(tools, &tools.data_folder(PACKAGE)?, Tls::No)?;
    let template = fs::read_to_string(tools.pins.join(PACKAGE).join("node.yml"))?;
    let mut nodes = Vec::new();
    for number in 1..=3 {
        nodes.push(Node::new(number, &place, &cluster, &template, &mut ports)?);
    }
    for node in &mut nodes {
        node.start(&place)?;
    }
    let mut team = Team { place: &place, nodes, rows: 0 };
    let result = play(&mut team, &mut cluster, &mut Steps::new());
    if result.is_err() {
        println!("the logs are in {}", place.folder.display());
        team.end();
        return result;
    }
    team.end();
    fs::remove_dir_all(&place.folder)?;
    result
}

fn play(team: &mut Team, cluster: &mut Cluster, steps: &mut Steps) -> anyhow::Result<Tally> {
    let first = team.whole(None, 1)?;
    steps.seen(&format!("{first} leads, and two stream from it"));
    team.write(&first, 1_000)?;
    team.is_everywhere()?;
    steps.seen("1,000 rows are on all three");

    let leader = wait_for("a leader of ours", || Ok(cluster.leader()))?;
    cluster.kill(leader)?;
    team.write(&first, 1)?;
    team.outlives_the_ttl()?;
    let same = team.whole(Some(&first), 1)?;
    steps
        .seen(&format!("our leader was killed; {same} still leads after {TTL_SECONDS} s, writing"));
    cluster.restart(leader)?;

    team.node(&first)?.kill()?;
    let second = team.successor(&first, 2)?;
    steps.seen(&format!("{first} was killed with its PostgreSQL, and {second} leads"));
    team.write(&second, 1)?;
    let place = team.place;
    team.node(&first)?.start(place)?;
    team.whole(Some(&second), 2)?;
    team.is_everywhere()?;
    steps.seen(&format!("{first} is back and follows; all rows are on all three"));

    let switch = ["switchover", "--leader", &second, "--candidate", &first, "--force"];
    team.ctl(&switch)?;
    team.whole(Some(&first), 3)?;
    team.write(&first, 1)?;
    team.is_everywhere()?;
    steps.seen(&format!("patronictl switchover: {first} leads, and all rows are on all three"));

    cluster.kill(0)?;
    cluster.kill(1)?;
    let read_only = |team: &Team, node: &Node| team.psql(node, "select pg_is_in_recovery()");
    wait_until("nobody to be primary without a majority", || {
        team.all(|team, node| Ok(read_only(team, node)? == "t"))
    })?;
    steps.seen("two of ours were killed, and nobody is primary");
    cluster.revive(0)?;
    cluster.restart(1)?;
    let last = team.leader()?;
    team.write(&last, 1)?;
    team.is_everywhere()?;
    steps.seen(&format!("they are back, {last} leads, and all rows are on all three"));
    Ok(steps.tally())
}

/// As its authors published it, pinned by digests.
fn install(tools: &Tools) -> anyhow::Result<PathBuf> {
    let folder = tools.folder.join(PACKAGE);
    let pins = tools.pins.join(PACKAGE).join("requirements.txt");
    installed(&folder, &[&pins], || {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]);
        // What builds the two that are published as sources is among the pinned packages, too.
        pip.args(["--root-user-action=ignore", "--no-build-isolation", "--target"]).arg(&folder);
        succeed(pip.arg("--requirement").arg(&pins).env("PYTHONPATH", &tools.python))
    })?;
    Ok(folder)
}

/// Where it runs, and as whom.
struct Place {
    packages: PathBuf,
    /// Where the user `postgres` may go, as it may not be able to in ours.
    folder: PathBuf,
    is_root: bool,
}

impl Place {
    fn new(packages: PathBuf) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("quorate-patroni-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let is_root = answer(Command::new("id").arg("-u"))? == "0";
        Ok(Self { packages, folder, is_root })
    }

    fn python(&self) -> Command {
        let mut command = Command::new(PYTHON);
        if self.is_root {
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", PYTHON]);
        }
        command.current_dir(&self.folder).env("HOME", &self.folder);
        command.env("PYTHONPATH", &self.packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// One Patroni and its PostgreSQL.
struct Node {
    name: String,
    port: u16,
    rest_port: u16,
    folder: PathBuf,
    patroni: Option<Running>,
}

impl Node {
    fn new(
        number: u8,
        place: &Place,
        cluster: &Cluster,
        template: &str,
        ports: &mut Ports,
    ) -> anyhow::Result<Self> {
        let name = format!("p{number}");
        let folder = place.folder.join(&name);
        let node =
            Self { port: ports.free()?, rest_port: ports.free()?, patroni: None, folder, name };
        fs::create_dir(&node.folder)?;
        let config = template
            .replace("{name}", &node.name)
            .replace("{hosts}", &cluster.endpoints())
            .replace("{rest}", &format!("127.0.0.1:{}", node.rest_port))
            .replace("{postgres}", &format!("127.0.0.1:{}", node.port))
            .replace("{folder}", &node.folder.display().to_string())
            .replace("{programs}", POSTGRES);
        fs::write(node.config(), config)?;
        if place.is_root {
            succeed(Command::new("chown").args(["-R", "postgres:"]).arg(&node.folder))?;
        }
        Ok(node)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("node.yml")
    }

    fn start(&mut self, place: &Place) -> anyhow::Result<()> {
        let mut command = place.python();
        command.arg(place.packages.join("bin/patroni")).arg(self.config());
        let log = place.folder.join(format!("{}.log", self.name));
        self.patroni = Some(Running::start(&mut command, log)?);
        Ok(())
    }

    /// Ends Patroni and PostgreSQL as a power cut would.
    fn kill(&mut self) -> anyhow::Result<()> {
        self.patroni = None;
        let file = self.folder.join("data/postmaster.pid");
        let lines =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let pid = lines.lines().next().context("a line with the process")?;
        succeed(Command::new("kill").args(["-KILL", pid]))
    }

    /// When it last had an answer from ours.
    fn last_seen(&self) -> anyhow::Result<u64> {
        let page = http_get(&format!("127.0.0.1:{}", self.rest_port), "/patroni")?;
        let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let page: Value = serde_json::from_str(body)?;
        page.get("dcs_last_seen").and_then(Value::as_u64).context("expected dcs_last_seen")
    }
}

/// What Patroni's tool says of a node.
struct Seen {
    name: String,
    is_leader: bool,
    state: String,
    timeline: u64,
}

/// All of them.
struct Team<'a> {
    place: &'a Place,
    nodes: Vec<Node>,
    /// How many rows were written and acknowledged.
    rows: u64,
}

impl Team<'_> {
    fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name == name).context("a node of that name")
    }

    fn all(&self, is_so: impl Fn(&Self, &Node) -> anyhow::Result<bool>) -> anyhow::Result<bool> {
        for node in &self.nodes {
            if !is_so(self, node)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.place.python();
        command.arg(self.place.packages.join("bin/patronictl"));
        let config = self.nodes.first().map(Node::config).context("a node")?;
        answer(command.arg("--config-file").arg(config).args(arguments))
    }

    fn list(&self) -> anyhow::Result<Vec<Seen>> {
        let list: Value = serde_json::from_str(&self.ctl(&["list", "--format", "json"])?)?;
        let text = |node: &Value, field| {
            node.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let seen = |node: &Value| Seen {
            name: text(node, "Member"),
            is_leader: text(node, "Role") == "Leader",
            state: text(node, "State"),
            timeline: node.get("TL").and_then(Value::as_u64).unwrap_or_default(),
        };
        Ok(list.as_array().context("expected a list")?.iter().map(seen).collect())
    }

    /// Waits until this node leads, or any, and the two others stream; all on one timeline, which
    /// counts the changes of primaries.
    fn whole(&self, wanted: Option<&str>, timeline: u64) -> anyhow::Result<String> {
        wait_for("a leader and two that stream from it", || {
            let list = self.list()?;
            if let Some(late) = list.iter().find(|seen| seen.timeline > timeline) {
                bail!("expected timeline {timeline}, found {} at {}", late.timeline, late.name);
            }
            let streaming = list.iter().filter(|seen| seen.state == "streaming").count();
            let is_one = list.iter().all(|seen| seen.timeline == timeline);
            let leader = list.into_iter().find(|seen| seen.is_leader && seen.state == "running");
            let leader = leader.filter(|seen| wanted.is_none_or(|wanted| seen.name == wanted));
            Ok(leader.filter(|_| streaming == 2 && is_one).map(|seen| seen.name))
        })
    }

    /// Waits until another than this one leads.
    fn successor(&self, old: &str, timeline: u64) -> anyhow::Result<String> {
        wait_for("another leader", || {
            let mut list = self.list()?.into_iter();
            let leader = list.find(|seen| seen.is_leader && seen.timeline == timeline);
            Ok(leader
                .filter(|seen| seen.name != old && seen.state == "running")
                .map(|seen| seen.name))
        })
    }

    fn leader(&self) -> anyhow::Result<String> {
        wait_for("a leader", || {
            let leader = self.list()?.into_iter().find(|seen| seen.is_leader);
            Ok(leader.filter(|seen| seen.state == "running").map(|seen| seen.name))
        })
    }

    /// Waits until every node has had an answer of ours when what it had before is long too old.
    fn outlives_the_ttl(&self) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        wait_until("answers for as long as a primary is one unasked", || {
            self.all(|_, node| Ok(node.last_seen()? > now + TTL_SECONDS))
        })
    }

    fn psql(&self, node: &Node, statement: &str) -> anyhow::Result<String> {
        let mut psql = Command::new(Path::new(POSTGRES).join("psql"));
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-p", &node.port.to_string(), "-c", statement]);
        answer(psql.current_dir(&self.place.folder).env("PGCONNECT_TIMEOUT", "5"))
    }

    /// Waits until a node, which leads, has taken so many rows.
    fn write(&mut self, name: &str, count: u64) -> anyhow::Result<()> {
        let first = self.rows + 1;
        let last = self.rows + count;
        // Once more is no other: it is tried until it is acknowledged.
        let statement = format!(
            "create table if not exists numbers (number int primary key); insert into numbers \
             select generate_series({first}, {last}) on conflict do nothing"
        );
        let node = self.nodes.iter().find(|node| node.name == name).context("a node")?;
        wait_until("the primary to take rows", || self.psql(node, &statement).map(|_| true))?;
        self.rows = last;
        Ok(())
    }

    /// Waits until every node has every row.
    fn is_everywhere(&self) -> anyhow::Result<()> {
        let wanted = self.rows.to_string();
        wait_until("all rows on all nodes", || {
            self.all(|team, node| Ok(team.psql(node, COUNT_ROWS)? == wanted))
        })
    }

    fn end(&mut self) {
        for node in &mut self.nodes {
            // One may be down; its data is not needed any more.
            let _ = node.kill();
        }
    }
}
