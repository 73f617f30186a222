//! What there is of etcd's metrics and pages, name by name: two lists, which are held against a server
//! here, and which are the documentation's tables.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use common::Server;
use quorate_server::ServerOptions;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const METRICS: &str = include_str!("etcd-3.5.1-metrics.txt");
const PAGES: &str = include_str!("etcd-3.5.1-pages.txt");
const DOCS: &str = "../../docs/etcd-compatibility.md";

/// What is there only on some members, or once there is something to say.
const NOT_ALWAYS: &str = "quorate_disk_";

/// What is done about something that etcd has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Served,
    Differs,
    Missing,
    Ours,
}

/// A line of a list: what it is about, in two or three fields, and what is said of that.
struct Row {
    fields: Vec<&'static str>,
    state: State,
    words: &'static str,
    /// `crate/path.rs: function`; empty for none.
    test: &'static str,
}

fn rows(list: &'static str, fields_count: usize) -> Vec<Row> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let row = |line: &'static str| {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        assert!((fields_count + 1..=fields_count + 3).contains(&parts.len()), "{line}");
        let (fields, rest) = parts.split_at(fields_count);
        let state = match rest[0] {
            "served" => State::Served,
            "differs" => State::Differs,
            "missing" => State::Missing,
            "ours" => State::Ours,
            other => panic!("{other} is no state: {line}"),
        };
        let part = |at: usize| rest.get(at).copied().unwrap_or_default();
        let (words, test) = (part(1), part(2));
        assert!(state == State::Served || !words.is_empty(), "why? {line}");
        Row { fields: fields.to_vec(), state, words, test }
    };
    lines.map(row).collect()
}

impl Row {
    /// What the documentation says of it.
    fn line(&self) -> String {
        let fields: Vec<String> = self.fields.iter().map(|field| format!("`{field}`")).collect();
        let state = match (self.state, self.words) {
            (State::Served, "") => "served".to_owned(),
            (State::Served | State::Differs, words) => format!("served: {words}"),
            (State::Missing, words) => format!("not there: {words}"),
            (State::Ours, words) => format!("ours alone: {words}"),
        };
        let (file, name) = self.test.split_once(": ").unwrap_or_default();
        let test = if name.is_empty() { String::new() } else { format!("`{name}` ({file})") };
        format!("| {} | {state} | {test} |\n", fields.join(" | "))
    }
}

/// What the documentation has between the two marks of this table.
fn documented(name: &str) -> String {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCS)).unwrap();
    let begin = format!("<!-- {name}: made from crates/server/tests/etcd-3.5.1-{name}.txt -->\n");
    let end = format!("<!-- {name}: end -->\n");
    let found = docs.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    found.map(|(found, _)| found.trim().to_owned()).unwrap_or_default()
}

fn check_documented(name: &str, head: &str, rows: &[Row]) {
    let expected = format!("{head}{}", rows.iter().map(Row::line).collect::<String>());
    assert!(
        documented(name) == expected.trim(),
        "docs/etcd-compatibility.md: expected between the marks of `{name}`:\n{expected}"
    );
}

#[test]
fn the_documentation_has_every_metric_and_what_is_done_about_it() {
    let head = "| Metric | Type | State | A test of its value |\n|---|---|---|---|\n";
    check_documented("metrics", head, &rows(METRICS, 2));
}

#[test]
fn the_documentation_has_every_page_and_what_is_done_about_it() {
    let head =
        "| Listener | Page | Method | State | A test of what it says |\n|---|---|---|---|---|\n";
    check_documented("pages", head, &rows(PAGES, 3));
}

#[test]
fn every_test_that_is_named_is_there() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let named = rows(METRICS, 2).into_iter().chain(rows(PAGES, 3)).map(|row| row.test);
    let named: BTreeSet<&str> = named.filter(|test| !test.is_empty()).collect();
    assert!(named.len() > 10);
    for test in named {
        let (file, name) = test.split_once(": ").expect(test);
        let text = std::fs::read_to_string(crates.join(file)).expect(test);
        let is_there =
            ["#[test]\n", "#[tokio::test]\n", "#[tokio::test("].into_iter().any(|mark| {
                let mut after = text.split(mark).skip(1).filter_map(|rest| rest.split_once("fn "));
                after.any(|(_, rest)| rest.starts_with(&format!("{name}(")))
            });
        assert!(is_there, "{test}: there is no such test");
    }
}

#[tokio::test]
async fn every_metric_of_etcds_is_there_with_its_type_or_not_as_the_table_says() {
    let options = ServerOptions { measures_calls: true, ..Default::default() };
    let server = Server::start_with(options).await;
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut there: BTreeMap<&str, &str> = heads.collect();
    for Row { fields, state, .. } in rows(METRICS, 2) {
        let (name, kind) = (fields[0], fields[1]);
        let found = there.remove(name);
        match state {
            State::Missing => assert_eq!(found, None, "{name} is there"),
            State::Ours if name.starts_with(NOT_ALWAYS) => {
                assert!(found.is_none_or(|found| found == kind), "{name} is no {kind}");
            }
            State::Served | State::Differs | State::Ours => {
                assert_eq!(found, Some(kind), "{name}, in:\n{text}");
            }
        }
    }
    assert!(there.is_empty(), "in no table: {there:?}");
    server.stop().await;
}

#[tokio::test]
async fn every_page_is_there_or_not_as_the_table_says() {
    let server = Server::start().await;
    for Row { fields, state, .. } in rows(PAGES, 3) {
        let [listener, path, method] = fields[..] else { panic!("{fields:?}") };
        if listener != "client" {
            continue;
        }
        // With the method that is none of its own, so that nothing happens.
        let other = if method == "GET" { "POST" } else { "GET" };
        let expected = match (state, path) {
            (State::Missing, _) => 404,
            // Metrics are given however one asks.
            (_, "/metrics") => 200,
            _ => 405,
        };
        assert_eq!(server.http(other, path, "").await.0, expected, "{other} {path}");
        if method == "GET" {
            let expected = if state == State::Missing { 404 } else { 200 };
            assert_eq!(server.get(path).await.0, expected, "{path}");
        }
    }
    server.stop().await;
}
