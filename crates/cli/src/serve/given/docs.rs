//! The table of the settings as the documentation has it, and the test that it has it so. Must not
//! know what a setting does.

use super::table::{ENTRIES, Entry, Place, State};

/// What stands around the table.
const BEGIN: &str = "<!-- settings: made from crates/cli/src/serve/given/table.rs -->\n";
const END: &str = "<!-- settings: end -->\n";

fn table() -> String {
    let head = "| Flag | Variable | Key in a config file | State |\n|---|---|---|---|\n";
    let rows = ENTRIES.iter().filter(|entry| entry.row.flag != "exit-with-parent").map(row);
    format!("{head}{}", rows.collect::<String>())
}

fn row(entry: &Entry) -> String {
    let row = entry.row;
    let flags: Vec<String> = row.flags().map(|flag| format!("`--{flag}`")).collect();
    let variables: Vec<String> =
        entry.variables.iter().map(|variable| format!("`{variable}`")).collect();
    let key = match row.place {
        Place::Top => format!("`{}`", row.flag),
        Place::In(section, key) => format!("`{section}`: `{key}`"),
        Place::Nowhere => String::new(),
    };
    let unless = |as_is: &[&str]| match as_is {
        [] => String::new(),
        values => format!(" (not if `{}`)", values.join("`, `")),
    };
    let state = match row.state {
        State::Served => "served".to_owned(),
        State::Ours => "served; ours alone".to_owned(),
        State::NoEffect { as_is, because } => format!("no effect{}: {because}", unless(as_is)),
        State::Refused { as_is, because } => format!("refused{}: {because}", unless(as_is)),
    };
    // A flag that asks for the version is no setting.
    let variables = if row.flag == "version" { Vec::new() } else { variables };
    format!("| {} | {} | {key} | {state} |\n", flags.join(", formerly "), variables.join(", "))
}

#[test]
fn the_documentation_has_every_setting_and_what_is_done_about_it() {
    let text = include_str!("../../../../../docs/etcd-compatibility.md");
    let found = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let found = found.map(|(found, _)| found.trim()).unwrap_or_default();
    let expected = table();
    assert!(
        found == expected.trim(),
        "docs/etcd-compatibility.md: expected between `{}` and `{}`:\n{expected}",
        BEGIN.trim(),
        END.trim()
    );
}
