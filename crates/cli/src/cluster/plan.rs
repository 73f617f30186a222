//! Which nodes a local cluster has, where they listen and live, and the command line that starts
//! each. Decided once, before anything starts; knows nothing of processes.

use crate::serve::{HttpUrl, InitialCluster, InitialClusterError};
use anyhow::{Context, bail};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Where nodes listen for clients unless told otherwise; etcd's own habit, for up to seven nodes.
const CLIENT_PORTS: [u16; 7] = [2379, 22379, 32379, 42379, 52379, 62379, 12379];
/// With ports of the user's choosing, each node's are this far from the last's.
const PORT_STEP: u16 = 10;
/// Remembers who the members are, so that another start with other flags is noticed.
const MEMBERS_FILE: &str = "members";
/// Tells this kind of cluster from others at the same addresses.
const TOKEN: &str = "quorate-local";

/// One node of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodePlan {
    pub(super) name: String,
    pub(super) id: u64,
    /// `host:port`
    pub(super) client: String,
    /// `host:port`
    pub(super) peer: String,
    pub(super) folder: PathBuf,
    pub(super) log: PathBuf,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) data_dir: PathBuf,
    pub(super) nodes: Vec<NodePlan>,
    /// Further flags of `serve`, for every node.
    serve_flags: Vec<String>,
}

impl Plan {
    /// `count` nodes below `data_dir`.
    ///
    /// # Errors
    ///
    /// If there are no ports for so many.
    pub(super) fn new(
        data_dir: &Path,
        count: u16,
        base_client_port: Option<u16>,
        serve_flags: &[String],
    ) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            let (client, peer) = ports(number, base_client_port)?;
            let name = format!("n{number}");
            nodes.push(NodePlan {
                id: 0,
                client: format!("127.0.0.1:{client}"),
                peer: format!("127.0.0.1:{peer}"),
                folder: data_dir.join(&name),
                log: data_dir.join(format!("{name}.log")),
                name,
            });
        }
        let mut plan =
            Self { data_dir: data_dir.to_owned(), nodes, serve_flags: serve_flags.to_vec() };
        plan.assign_ids()?;
        Ok(plan)
    }

    fn assign_ids(&mut self) -> anyhow::Result<()> {
        let first = self.nodes.first().context("a cluster has at least one node")?;
        let url: HttpUrl = format!("http://{}", first.peer).parse()?;
        let cluster: Result<InitialCluster, InitialClusterError> =
            InitialCluster::parse(&self.members(), TOKEN, &first.name, &[url]);
        for member in cluster?.members {
            let node = self.nodes.iter_mut().find(|node| node.name == member.name);
            node.context("the members are the nodes")?.id = member.id;
        }
        Ok(())
    }

    /// The value of `--initial-cluster`.
    fn members(&self) -> String {
        let member = |node: &NodePlan| format!("{}=http://{}", node.name, node.peer);
        self.nodes.iter().map(member).collect::<Vec<_>>().join(",")
    }

    /// The value of `--initial-cluster-client-urls`.
    fn client_urls(&self) -> String {
        let member = |node: &NodePlan| format!("{}=http://{}", node.name, node.client);
        self.nodes.iter().map(member).collect::<Vec<_>>().join(",")
    }

    /// The client addresses, as `--endpoints` takes them.
    pub(super) fn endpoints(&self) -> String {
        let clients: Vec<&str> = self.nodes.iter().map(|node| node.client.as_str()).collect();
        clients.join(",")
    }

    /// What follows `quorate` on the command line of a node.
    pub(super) fn arguments(&self, node: &NodePlan) -> Vec<String> {
        let client = format!("http://{}", node.client);
        let peer = format!("http://{}", node.peer);
        let folder = node.folder.to_string_lossy().into_owned();
        let members = self.members();
        let pairs = [
            ("--name", &node.name),
            ("--data-dir", &folder),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster-token", &TOKEN.to_owned()),
            ("--initial-cluster", &members),
            ("--initial-cluster-client-urls", &self.client_urls()),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value.clone()]);
        std::iter::once("serve".to_owned())
            .chain(pairs)
            .chain(self.serve_flags.iter().cloned())
            .collect()
    }

    /// Makes the data folder, or recognises it.
    ///
    /// # Errors
    ///
    /// If it belongs to a cluster with other members.
    pub(super) fn claim_folder(&self) -> anyhow::Result<()> {
        let dir = self.data_dir.display();
        fs::create_dir_all(&self.data_dir).with_context(|| format!("creating {dir}"))?;
        let path = self.data_dir.join(MEMBERS_FILE);
        let wanted = self.members();
        match fs::read_to_string(&path) {
            Ok(found) if found.trim() == wanted => Ok(()),
            Ok(found) => bail!(
                "{dir} holds a cluster with other members.\n  found:    {}\n  expected: {wanted}\n\
                 Start it with the --nodes and --base-client-port that it was made with, or choose \
                 another --data-dir.",
                found.trim()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::write(&path, wanted).with_context(|| format!("writing {}", path.display()))
            }
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Checks that every address can be listened on.
    ///
    /// # Errors
    ///
    /// If one cannot: which, for what, and what to do.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        let mut taken = Vec::new();
        for node in &self.nodes {
            for (address, purpose) in [(&node.client, "clients"), (&node.peer, "peers")] {
                if let Err(error) = TcpListener::bind(address) {
                    taken.push(format!(
                        "  {address} ({purpose} of {}): {}",
                        node.name,
                        error.kind()
                    ));
                }
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        bail!(
            "nothing was started, because these addresses cannot be listened on:\n{}\nPerhaps a \
             cluster is running already: stop it, or choose other ports with --base-client-port \
             (and another --data-dir).",
            taken.join("\n")
        )
    }
}

fn ports(number: u16, base_client_port: Option<u16>) -> anyhow::Result<(u16, u16)> {
    let position = number - 1;
    let client = match base_client_port {
        None => CLIENT_PORTS.get(usize::from(position)).copied(),
        Some(base) => position.checked_mul(PORT_STEP).and_then(|step| base.checked_add(step)),
    };
    let pair = client.and_then(|client| Some((client, client.checked_add(1)?)));
    pair.with_context(|| {
        format!(
            "there is no port for node {number}: use fewer --nodes or a lower --base-client-port"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(base: Option<u16>, count: u16) -> Plan {
        Plan::new(Path::new("data"), count, base, &[]).unwrap()
    }

    #[test]
    fn three_nodes_listen_where_etcds_examples_do() {
        let plan = plan(None, 3);
        assert_eq!(plan.endpoints(), crate::client::DEFAULT_ENDPOINTS);
        let peers: Vec<&str> = plan.nodes.iter().map(|node| node.peer.as_str()).collect();
        assert_eq!(peers, ["127.0.0.1:2380", "127.0.0.1:22380", "127.0.0.1:32380"]);
    }

    #[test]
    fn other_ports_count_up_from_the_base() {
        assert_eq!(plan(Some(4000), 2).endpoints(), "127.0.0.1:4000,127.0.0.1:4010");
        assert!(Plan::new(Path::new("data"), 3, Some(65_530), &[]).is_err());
    }

    #[test]
    fn a_folder_of_other_members_is_refused_with_both() {
        let folder = tempfile::tempdir().unwrap();
        let plan = |count| Plan::new(folder.path(), count, None, &[]).unwrap();
        plan(3).claim_folder().unwrap();
        plan(3).claim_folder().unwrap();
        let error = plan(1).claim_folder().unwrap_err().to_string();
        assert!(error.contains("expected: n1=http://127.0.0.1:2380\n"), "{error}");
    }

    #[test]
    fn a_port_in_use_is_named_with_its_purpose() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = plan(Some(port), 1).check_ports().unwrap_err().to_string();
        assert!(error.contains(&format!("127.0.0.1:{port} (clients of n1)")), "{error}");
    }
}
