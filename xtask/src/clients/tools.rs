//! What every suite needs: the server, the real etcdctl, Python packages, and a folder below `target/`.
//! Knows where they come from; nothing of what is tested with them.

use super::{installed, link, write_program};
use crate::ci::{cargo, fetch, release_binary, succeed, target_folder};
use crate::servers::fetch_etcdctl;
use anyhow::Context;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) struct Tools {
    /// The repository's `clients/`: pins, and what is ours of the tests.
    pub(super) pins: PathBuf,
    /// `target/clients`.
    pub(super) folder: PathBuf,
    /// The server, under the name `etcd`: as a link of that name it takes etcd's flags.
    pub(super) server: PathBuf,
    /// The real etcdctl.
    pub(super) etcdctl: PathBuf,
    /// Our program, if it is what is tested: what can read its backups.
    pub(super) quorate: Option<PathBuf>,
    /// The Python packages, as `PYTHONPATH` takes them.
    pub(super) python: PathBuf,
}

impl Tools {
    /// Builds or fetches what is not there yet.
    ///
    /// # Errors
    ///
    /// If something cannot be built or fetched.
    pub(super) fn at_hand(root: &Path, server: Option<&Path>) -> anyhow::Result<Self> {
        let etcdctl = fetch_etcdctl(root)?;
        let folder = target_folder(root).join("clients");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let program = match server {
            Some(program) => program.canonicalize().context("finding the server to test")?,
            None => build(root)?,
        };
        let quorate = is_ours(&program)?.then(|| program.clone());
        let tools = Self {
            pins: root.join("clients"),
            server: folder.join("etcd"),
            python: folder.join("python"),
            folder,
            etcdctl,
            quorate,
        };
        link(&program, &tools.server)?;
        tools.install_python()?;
        Ok(tools)
    }

    /// Every package is pinned by its digest: pip refuses whatever differs.
    fn install_python(&self) -> anyhow::Result<()> {
        let pins = self.pins.join("aetcd/requirements.txt");
        installed(&self.python, &[&pins], || {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]);
            pip.args(["--root-user-action=ignore", "--only-binary", ":all:", "--target"]);
            fetch(pip.arg(&self.python).arg("--requirement").arg(&pins))
        })
    }

    /// A program like `protoc`, which the build script of the crate wants and no registry of programs
    /// has: the package grpcio-tools carries it as a library.
    pub(super) fn protoc(&self) -> anyhow::Result<PathBuf> {
        let program = self.folder.join("protoc");
        let python = self.python.display();
        let text =
            format!("#!/bin/sh\nPYTHONPATH='{python}' exec python3 -m grpc_tools.protoc \"$@\"\n");
        if !fs::read_to_string(&program).is_ok_and(|found| found == text) {
            write_program(&program, &text)?;
        }
        Ok(program)
    }

    /// An empty folder for one suite's servers.
    pub(super) fn data_folder(&self, suite: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("data").join(suite);
        let _old = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }

    /// The real etcdctl does something at an endpoint.
    pub(super) fn etcdctl(&self, endpoint: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.etcdctl);
        let output = command.args(["--endpoints", endpoint]).args(arguments).output()?;
        if !output.status.success() {
            anyhow::bail!("{command:?} failed: {output:?}");
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The path, with a folder before all others.
pub(super) fn path_with(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--package", "quorate-cli"]);
    succeed(command.current_dir(root))?;
    Ok(release_binary(root))
}

fn is_ours(program: &Path) -> anyhow::Result<bool> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("running {}", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).to_lowercase().contains("quorate"))
}
