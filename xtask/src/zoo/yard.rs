//! The woven copy of the sources under `target/zoo`, and its build. The product's own files are only
//! read. Knows nothing of how mutants are run.

use super::mutant::{Edit, Group, Mutant};
use super::weave::weave;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The crates that the runner of the simulator is made of.
const OF_THE_RUNNER: [&str; 5] = ["core", "wal", "node", "kv", "sim"];
/// The crates that only tests need: they are built when a mutant asks for one of their tests.
const OF_TESTS: [&str; 3] = ["etcd-api", "server", "tls"];
/// The crate that holds the choice.
const SWITCH: &str = "quorate-zoo";
/// The program that runs the simulator, an example of its crate.
const RUNNER: &str = "zoo_runner";
/// Optimised like a release, but quick to build again after one more mutant.
const PROFILE: &str = "
[profile.release]
opt-level = 2
lto = \"off\"
codegen-units = 16
incremental = true
debug = false
debug-assertions = false
overflow-checks = true
panic = \"unwind\"
";

/// How the woven copy is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Optimised, in a folder of its own: for many worlds.
    Optimised,
    /// As tests are, with the libraries that they have built already: for few worlds.
    AsTests,
}

/// The lints of the woven copy.
const NO_LINTS: &str = "rust.warnings = \"allow\"";

/// The woven copy, and its programs as far as they were built.
pub(crate) struct Yard {
    folder: PathBuf,
    target: PathBuf,
    build: Build,
}

/// Test programs by `crate::target`.
pub(crate) type Programs = BTreeMap<String, PathBuf>;

impl Yard {
    /// The folder of a crate: tests run there.
    pub(crate) fn crate_folder(&self, name: &str) -> PathBuf {
        self.folder.join("crates").join(name)
    }

    /// Builds what runs the simulator.
    ///
    /// # Errors
    ///
    /// If the woven sources do not build.
    pub(crate) fn build_runner(&self) -> anyhow::Result<PathBuf> {
        let programs = self.compile(&["build", "--package", "quorate-sim", "--example", RUNNER])?;
        programs.get(&format!("sim::{RUNNER}")).cloned().context("expected a runner")
    }

    /// Builds the test programs that these tests are in, named as mutants name them.
    ///
    /// # Errors
    ///
    /// If the woven sources do not build.
    pub(crate) fn build_tests(&self, tests: &[&str]) -> anyhow::Result<Programs> {
        let mut what: BTreeSet<[&str; 2]> = BTreeSet::new();
        for test in tests {
            let mut names = test.split("::");
            let [name, target] = [names.next(), names.next()].map(Option::unwrap_or_default);
            what.insert(["--package", package(name)]);
            what.insert(if target == "lib" { ["--lib", ""] } else { ["--test", target] });
        }
        let words = what.into_iter().flatten().filter(|word| !word.is_empty());
        self.compile(&["test", "--no-run"].into_iter().chain(words).collect::<Vec<_>>())
    }

    fn compile(&self, what: &[&str]) -> anyhow::Result<Programs> {
        let profile = match self.build {
            Build::Optimised => "release",
            Build::AsTests => "dev",
        };
        let output = Command::new(crate::ci::cargo())
            .args(what)
            .args(["--profile", profile, "--quiet"])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .stderr(Stdio::inherit())
            .output()
            .context("building the zoo")?;
        if !output.status.success() {
            bail!("the woven sources do not build; they are in {}", self.folder.display());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(messages.filter_map(|message| program(&message)).collect())
    }
}

/// The sources that the runner is made of, without tests of their own crates: path and content.
///
/// # Errors
///
/// If one cannot be read.
pub(crate) fn sources(root: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        OF_THE_RUNNER.map(|name| root.join("crates").join(name)).to_vec();
    for folder in &mut folders {
        folder.push("src");
    }
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path)?;
                found.push((path.strip_prefix(root).unwrap_or(&path).to_owned(), content));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The package in a crate's folder.
fn package(folder: &str) -> &str {
    match folder {
        "core" => "quorate-core",
        "wal" => "quorate-wal",
        "kv" => "quorate-kv",
        "sim" => "quorate-sim",
        "server" => "quorate-server",
        "tls" => "quorate-tls",
        _ => "quorate",
    }
}

/// Where everything of the zoo is that can be made again.
pub(crate) fn folder(root: &Path) -> PathBuf {
    target(root).join("zoo")
}

/// Where the product itself is built.
fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The woven text of every file that a mutant changes.
///
/// # Errors
///
/// If a mutant does not fit the source.
pub(crate) fn woven(root: &Path, groups: &[Group]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut by_file: BTreeMap<String, Vec<(&Mutant, &Edit)>> = BTreeMap::new();
    for mutant in groups.iter().flat_map(|group| &group.mutants) {
        for edit in &mutant.edits {
            by_file.entry(format!("crates/{}", edit.file)).or_default().push((mutant, edit));
        }
    }
    let mut texts = BTreeMap::new();
    let mut misfits = Vec::new();
    for (file, edits) in by_file {
        let text = fs::read_to_string(root.join(&file));
        let text = text.with_context(|| format!("reading {file}, which a mutant changes"))?;
        match weave(&text, &edits) {
            Ok(woven) => drop(texts.insert(file, woven)),
            Err(error) => misfits.push(format!("{file}: {error:#}")),
        }
    }
    if !misfits.is_empty() {
        bail!("mutants do not fit the source any more:\n{}", misfits.join("\n"));
    }
    Ok(texts)
}

/// Copies and weaves.
///
/// # Errors
///
/// If a mutant does not fit.
pub(crate) fn lay_out(root: &Path, groups: &[Group], build: Build) -> anyhow::Result<Yard> {
    let folder = folder(root).join("yard");
    let woven = woven(root, groups)?;
    // All of them are copied, each with its tests.
    for name in OF_THE_RUNNER.into_iter().chain(OF_TESTS) {
        let from = root.join("crates").join(name);
        copy(root, &from, &folder, &woven)?;
        let manifest = fs::read_to_string(from.join("Cargo.toml"))?;
        let manifest = manifest.replace(
            "\n[dependencies]\n",
            &format!("\n[dependencies]\n{SWITCH} = {{ path = \"../switch\" }}\n"),
        );
        write(&folder.join("crates").join(name).join("Cargo.toml"), &manifest)?;
    }
    write(&folder.join("Cargo.toml"), &workspace_manifest(root)?)?;
    write(&folder.join("Cargo.lock"), &fs::read_to_string(root.join("Cargo.lock"))?)?;
    let switch = folder.join("crates/switch");
    let manifest =
        format!("[package]\nname = \"{SWITCH}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n");
    write(&switch.join("Cargo.toml"), &manifest)?;
    write(&switch.join("src/lib.rs"), &fs::read_to_string(root.join("zoo/switch.rs"))?)?;
    let runner = fs::read_to_string(root.join("zoo/runner.rs"))?;
    write(&folder.join(format!("crates/sim/examples/{RUNNER}.rs")), &runner)?;
    let target = match build {
        Build::Optimised => self::folder(root).join("build"),
        Build::AsTests => target(root),
    };
    Ok(Yard { folder, target, build })
}

/// The workspace's own manifest, with other members, another way to optimise, and no lints: what
/// there is to say of the product is said when the product is built.
fn workspace_manifest(root: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(root.join("Cargo.toml"))?;
    let mut manifest: toml::Table = toml::from_str(&text)?;
    if let Some(profiles) = manifest.get_mut("profile").and_then(toml::Value::as_table_mut) {
        profiles.retain(|name, _| name == "dev");
    }
    let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
    let workspace = workspace.context("expected [workspace] in Cargo.toml")?;
    workspace.insert("members".to_owned(), vec!["crates/*".to_owned()].into());
    workspace.remove("default-members");
    workspace.insert("lints".to_owned(), toml::from_str::<toml::Value>(NO_LINTS)?);
    Ok(format!("{}{PROFILE}", toml::to_string(&manifest)?))
}

/// Copies a crate's files, those of the zoo with mutants in them; what the crate no longer has, the
/// copy loses. A file that did not change is left alone, so that cargo builds little.
fn copy(
    root: &Path,
    from: &Path,
    yard: &Path,
    woven: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let relative = from.strip_prefix(root)?;
    let to = yard.join(relative);
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&to)? {
        let entry = entry?;
        let is_gone = !from.join(entry.file_name()).exists();
        if is_gone && entry.path().is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            copy(root, &path, yard, woven)?;
            continue;
        }
        let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        if name.ends_with("Cargo.toml") {
            continue;
        }
        match woven.get(&name) {
            Some(text) => write(&yard.join(&name), text)?,
            None => write_bytes(&yard.join(&name), &fs::read(&path)?)?,
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    write_bytes(path, text.as_bytes())
}

fn write_bytes(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// The program that a message of cargo's announces, under the name by which tests are called.
fn program(message: &Value) -> Option<(String, PathBuf)> {
    let executable = message.get("executable")?.as_str()?;
    let manifest = Path::new(message.get("manifest_path")?.as_str()?);
    let folder = manifest.parent()?.file_name()?.to_str()?;
    let target = message.get("target")?;
    let kind = target.get("kind")?.get(0)?.as_str()?;
    let name = if kind == "lib" { "lib" } else { target.get("name")?.as_str()? };
    Some((format!("{folder}::{name}"), PathBuf::from(executable)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::mutant;

    #[test]
    fn every_mutant_of_the_zoo_fits_the_source() {
        let root = crate::root();
        let groups = mutant::read_all(&root).unwrap();
        assert!(!woven(&root, &groups).unwrap().is_empty());
    }

    #[test]
    fn programs_are_named_by_crate_and_target() {
        let message = serde_json::json!({
            "executable": "/t/paper-1", "manifest_path": "/r/crates/core/Cargo.toml",
            "target": { "name": "paper", "kind": ["test"] },
        });
        assert_eq!(program(&message).unwrap(), ("core::paper".into(), "/t/paper-1".into()));
    }
}
