//! API servers and controllers as processes, and kubectl, by which they are asked. Knows nothing of
//! what is stored.

use crate::clients::cluster::Ports;
use crate::clients::programs::{Running, answer, wait_until};
use anyhow::ensure;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Who may do everything, by this token.
const TOKEN: &str = "open-sesame";

/// Where the programs are, and where data goes.
pub(super) struct Place {
    pub(super) programs: PathBuf,
    /// With certificates, too.
    pub(super) folder: PathBuf,
    /// Of ours; with certificates if they are of https.
    pub(super) urls: Vec<String>,
}

/// An API server.
pub(super) struct Api {
    name: String,
    port: u16,
    flags: Vec<String>,
    kubectl: PathBuf,
    folder: PathBuf,
    process: Option<Running>,
}

impl Api {
    pub(super) fn start(
        place: &Place,
        name: &str,
        ports: &mut Ports,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let folder = place.folder.join(name);
        fs::create_dir(&folder)?;
        let mut api = Self {
            name: name.to_owned(),
            port: ports.free()?,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            kubectl: place.programs.join("kubectl"),
            folder,
            process: None,
        };
        fs::write(api.folder.join("tokens.csv"), format!("{TOKEN},admin,1,\"system:masters\"\n"))?;
        fs::write(api.config(), api.config_text())?;
        api.restart(place)?;
        Ok(api)
    }

    /// Kills it, if it runs, and starts it.
    pub(super) fn restart(&mut self, place: &Place) -> anyhow::Result<()> {
        self.kill();
        let mut command = Command::new(place.programs.join("kube-apiserver"));
        command.args(self.own_flags(place)).args(&self.flags);
        self.process = Some(Running::start(&mut command, self.log("api"))?);
        Ok(())
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn log(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{what}.log"))
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config.yml")
    }

    fn own_flags(&self, place: &Place) -> Vec<String> {
        let file = |name: &str| place.folder.join(name).display().to_string();
        // An address that is nobody's: two servers of one machine have to differ somehow.
        let address = format!("192.0.2.{}", self.name.len());
        let tokens = self.folder.join("tokens.csv").display().to_string();
        let pairs = [
            ("--etcd-servers", place.urls.join(",")),
            ("--etcd-compaction-interval", "5s".to_owned()),
            ("--etcd-count-metric-poll-period", "2s".to_owned()),
            ("--etcd-db-metric-poll-interval", "2s".to_owned()),
            ("--event-ttl", "5s".to_owned()),
            ("--bind-address", "127.0.0.1".to_owned()),
            ("--advertise-address", address),
            ("--secure-port", self.port.to_string()),
            ("--cert-dir", self.folder.display().to_string()),
            ("--token-auth-file", tokens),
            ("--authorization-mode", "RBAC".to_owned()),
            ("--service-cluster-ip-range", "10.0.0.0/24".to_owned()),
            ("--service-account-issuer", "https://quorate.test".to_owned()),
            ("--service-account-key-file", file("tokens.key")),
            ("--service-account-signing-key-file", file("tokens.key")),
            // Pods would need an account that a controller makes.
            ("--disable-admission-plugins", "ServiceAccount".to_owned()),
        ];
        let mut pairs = pairs.to_vec();
        if place.urls.iter().any(|url| url.starts_with("https://")) {
            pairs.push(("--etcd-cafile", file("ca.pem")));
            pairs.push(("--etcd-certfile", file("cert.pem")));
            pairs.push(("--etcd-keyfile", file("key.pem")));
        }
        pairs.into_iter().map(|(flag, value)| format!("{flag}={value}")).collect()
    }

    fn config_text(&self) -> String {
        let port = self.port;
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: \"https://127.0.0.1:{port}\", \
             insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: it, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
        )
    }

    /// kubectl, before its arguments.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.config());
        command.arg("--cache-dir").arg(self.folder.join("cache"));
        command
    }

    /// What kubectl says.
    pub(super) fn ctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        answer(self.command().args(arguments))
    }

    /// Whether kubectl is refused, in these words.
    pub(super) fn is_refused(&self, arguments: &[&str], words: &str) -> anyhow::Result<()> {
        let output = self.command().args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && said.contains(words),
            "expected a refusal with `{words}` of {arguments:?}, found {} {said}",
            output.status
        );
        Ok(())
    }

    pub(super) fn wait_until_ready(&self) -> anyhow::Result<()> {
        wait_until("an API server that is ready", || {
            Ok(self.ctl(&["get", "--raw", "/readyz"])? == "ok")
        })
    }

    /// Those controllers that are asked for here; they end with what is returned.
    pub(super) fn start_controllers(&self, place: &Place) -> anyhow::Result<Running> {
        let mut command = Command::new(place.programs.join("kube-controller-manager"));
        command.arg("--kubeconfig").arg(self.config());
        command.arg("--controllers=namespace,deployment,replicaset,garbagecollector");
        command.args(["--leader-elect-resource-lock=leases", "--port=0", "--secure-port=0"]);
        Running::start(&mut command, self.log("controllers"))
    }
}
