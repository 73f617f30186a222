//! Which crate may use which: the arrows of `docs/architecture.md`, compared with the
//! `Cargo.toml` files. Knows nothing of what the crates do.

use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where the arrows are written for people.
const DOCUMENT: &str = "docs/architecture.md";
/// Opens the block of arrows in it; a line there reads `quorate-wal -> quorate-core`.
const BLOCK: &str = "```arrows";

/// From a crate to the crates of ours that it uses outside tests.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Every difference between the document and the manifests, as a sentence each.
pub(crate) fn differences(root: &Path) -> anyhow::Result<Vec<String>> {
    let actual = manifest_arrows(root)?;
    let text = fs::read_to_string(root.join(DOCUMENT)).unwrap_or_default();
    let Some(documented) = documented_arrows(&text)? else {
        return Ok(vec![format!(
            "{DOCUMENT}: expected a block of arrows, found none. What the Cargo.toml files say:\n\
             {BLOCK}\n{}```",
            render(&actual)
        )]);
    };
    let mut sentences = Vec::new();
    compare(&actual, &documented, &mut sentences, "Cargo.toml has, but the document lacks");
    compare(&documented, &actual, &mut sentences, "the document has, but Cargo.toml lacks");
    Ok(sentences)
}

fn compare(left: &Arrows, right: &Arrows, sentences: &mut Vec<String>, what: &str) {
    let none = BTreeSet::new();
    for (from, targets) in left {
        for to in targets.difference(right.get(from).unwrap_or(&none)) {
            sentences.push(format!("{DOCUMENT}: {what} the arrow {from} -> {to}"));
        }
    }
}

fn render(arrows: &Arrows) -> String {
    let mut text = String::new();
    for (from, targets) in arrows {
        let list: Vec<&str> = targets.iter().map(String::as_str).collect();
        text.push_str(&format!("{from} -> {}\n", list.join(", ")).replace("-> \n", "->\n"));
    }
    text
}

/// The arrows of the document; `None` if it has no such block.
fn documented_arrows(text: &str) -> anyhow::Result<Option<Arrows>> {
    let Some((_, rest)) = text.split_once(BLOCK) else { return Ok(None) };
    let Some((block, _)) = rest.split_once("```") else {
        bail!("{DOCUMENT}: the block of arrows has no end (expected a line ```)");
    };
    let mut arrows = Arrows::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let (from, targets) = line.split_once("->").with_context(|| {
            format!("{DOCUMENT}: expected `crate -> crate, crate`, found `{line}`")
        })?;
        let list = targets.split(',').map(str::trim).filter(|name| !name.is_empty());
        arrows.insert(from.trim().to_owned(), list.map(str::to_owned).collect());
    }
    Ok(Some(arrows))
}

/// The arrows that the manifests have, test dependencies left out.
fn manifest_arrows(root: &Path) -> anyhow::Result<Arrows> {
    let output = Command::new(crate::ci::cargo())
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("expected packages in cargo metadata")?;
    Ok(packages.iter().filter_map(arrows_of).collect())
}

fn arrows_of(package: &Value) -> Option<(String, BTreeSet<String>)> {
    let name = package.get("name")?.as_str()?.to_owned();
    let dependencies = package.get("dependencies")?.as_array()?;
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let ours = dependencies
        .iter()
        .filter(|one| text(one, "path").is_some() && text(one, "kind").as_deref() != Some("dev"))
        .filter_map(|one| text(one, "name"));
    Some((name, ours.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_of_arrows_is_read_crate_by_crate() {
        let text = "words\n```arrows\na -> b, c\nb ->\n```\nmore\n";
        let arrows = documented_arrows(text).unwrap().unwrap();
        assert_eq!(render(&arrows), "a -> b, c\nb ->\n");
    }

    #[test]
    fn an_arrow_on_one_side_only_is_a_difference() {
        let one = documented_arrows("```arrows\na -> b\n```").unwrap().unwrap();
        let other = documented_arrows("```arrows\na ->\n```").unwrap().unwrap();
        let mut sentences = Vec::new();
        compare(&one, &other, &mut sentences, "has");
        assert_eq!(sentences, ["docs/architecture.md: has the arrow a -> b"]);
    }
}
