use super::*;
use crate::serve::Flags;
use std::fs;

fn serve_command() -> Command {
    <Flags as clap::Args>::augment_args(Command::new("serve"))
}

/// What a node would be started with, or why it would not.
fn settled(program: Program, line: &str, variables: &[(&str, &str)]) -> Result<Settled, Refusal> {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    match settle(program, &words, variables)? {
        Asked::Start(settled) => Ok(settled),
        other @ (Asked::Help | Asked::Version) => panic!("{other:?}"),
    }
}

fn value(settled: &Settled, flag: &str) -> Option<String> {
    let given = settled.given.iter().find(|given| given.row.flag == flag);
    given.map(|given| given.value.clone())
}

fn refusal(line: &str, variables: &[(&str, &str)]) -> String {
    let settled = match settled(Program::Quorate, line, variables) {
        Ok(settled) => settled,
        Err(refusal) => return refusal.to_string(),
    };
    settled.matches(serve_command()).unwrap_err().to_string()
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.conf.yml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn the_table_and_clap_know_the_same_flags() {
    let command = serve_command();
    let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    for flag in &known {
        let row = table::by_flag(flag).unwrap_or_else(|| panic!("--{flag} has no row"));
        assert!(row.is_served() && row.flag == *flag, "--{flag}");
    }
    let served = table::ENTRIES.iter().filter(|entry| entry.row.is_served());
    for entry in served.filter(|entry| ![CONFIG_FILE, VERSION].contains(&entry.row.flag)) {
        assert!(known.contains(&entry.row.flag), "--{} is told to be served", entry.row.flag);
    }
}

#[test]
fn clap_takes_a_value_of_every_flag_that_is_true_or_false() {
    let is_bool = |row: &&&Row| row.is_served() && row.takes == Takes::Bool;
    let rows: Vec<&Row> = table::ENTRIES.iter().map(|entry| entry.row).collect();
    for row in rows.iter().filter(is_bool).filter(|row| row.flag != VERSION) {
        for value in ["true", "false"] {
            let line = format!("--{}={value}", row.flag);
            let settled = settled(Program::Etcd, &line, &[]).unwrap();
            assert!(settled.matches(serve_command()).is_ok(), "{line}");
        }
    }
}

#[test]
fn no_two_rows_share_a_name() {
    let mut flags: Vec<&str> = table::ENTRIES.iter().flat_map(|entry| entry.row.flags()).collect();
    let count = flags.len();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(flags.len(), count);
}

#[test]
fn the_help_names_each_variable() {
    let help = with_variables(serve_command()).render_help().to_string();
    assert!(help.contains("[env: ETCD_INITIAL_CLUSTER_STATE]"), "{help}");
    assert!(!help.contains("ETCD_EXIT_WITH_PARENT"), "{help}");
}

#[test]
fn under_our_name_a_flag_wins_over_its_variable_with_a_note() {
    let variables = [("ETCD_NAME", "of-variable"), ("ETCD_ELECTION_TIMEOUT", "500")];
    let settled = settled(Program::Quorate, "--name of-flag", &variables).unwrap();
    assert_eq!(value(&settled, "name").unwrap(), "of-flag");
    assert_eq!(value(&settled, "election-timeout").unwrap(), "500");
    let shadowed = Note::Shadowed { variable: "ETCD_NAME".to_owned() };
    assert!(settled.notes.contains(&shadowed), "{:?}", settled.notes);
}

#[test]
fn under_the_name_etcd_a_flag_and_its_variable_are_a_conflict_as_there() {
    let said = settled(Program::Etcd, "--name a", &[("ETCD_NAME", "a")]).unwrap_err().to_string();
    assert!(said.starts_with("conflicting environment variable is shadowed"), "{said}");
    assert!(said.contains("ETCD_NAME"), "{said}");
}

#[test]
fn a_config_file_counts_alone_and_names_what_it_hides() {
    let (_folder, path) = file("name: of-file\n");
    let variables = [("ETCD_HEARTBEAT_INTERVAL", "7"), ("ETCD_FORCE_NEW_CLUSTER", "true")];
    let line = format!("--name of-flag --exit-with-parent --config-file {path}");
    let settled = settled(Program::Quorate, &line, &variables).unwrap();
    assert!(settled.has_file());
    assert_eq!(value(&settled, "name").unwrap(), "of-file");
    assert_eq!(value(&settled, "heartbeat-interval"), None);
    assert_eq!(value(&settled, "exit-with-parent").unwrap(), "true", "it is not etcd's");
    for origin in ["--name", "ETCD_HEARTBEAT_INTERVAL", "ETCD_FORCE_NEW_CLUSTER"] {
        let ignored = Note::Ignored { origin: origin.to_owned() };
        assert!(settled.notes.contains(&ignored), "{origin}: {:?}", settled.notes);
    }
}

#[test]
fn a_config_file_may_be_named_by_a_variable_and_a_flag_names_a_nearer_one() {
    let (_folder, first) = file("name: first\n");
    let (_other, second) = file("name: second\n");
    let variables = [("ETCD_CONFIG_FILE", first.as_str())];
    let of_variable = settled(Program::Etcd, "", &variables).unwrap();
    assert_eq!(value(&of_variable, "name").unwrap(), "first");
    let of_flag = settled(Program::Etcd, &format!("-config-file={second}"), &variables).unwrap();
    assert_eq!(value(&of_flag, "name").unwrap(), "second");
    let said = refusal("--config-file /none/etcd.conf.yml", &[]);
    assert!(said.contains("cannot read the config file /none/etcd.conf.yml"), "{said}");
}

#[test]
fn a_file_with_every_key_of_etcds_sample_is_taken() {
    let sample = "
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
  allowed-cn:
  allowed-hostname:
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
cipher-suites: [
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
]
tls-min-version: 'TLS1.2'
tls-max-version: 'TLS1.3'
";
    let (_folder, path) = file(sample);
    let settled = settled(Program::Etcd, &format!("--config-file={path}"), &[]).unwrap();
    settled.matches(serve_command()).unwrap();
    let is_idle = |note: &&Note| matches!(note, Note::NoEffect { .. });
    assert_eq!(settled.notes.iter().filter(is_idle).count(), 5, "{:?}", settled.notes);
}

#[test]
fn a_wrong_value_is_refused_with_where_it_was_given_and_what_was_expected() {
    for (line, variables, words) in [
        (
            "",
            [("ETCD_ELECTION_TIMEOUT", "soon")],
            "ETCD_ELECTION_TIMEOUT: expected a whole number, found `soon`",
        ),
        ("", [("ETCD_AUTO_TLS", "maybe")], "ETCD_AUTO_TLS: expected true or false, found `maybe`"),
        ("", [("ETCD_LOG_LEVEL", "loud")], "ETCD_LOG_LEVEL: expected debug, or info"),
        (
            "",
            [("ETCD_LISTEN_CLIENT_URLS", "h:1")],
            "ETCD_LISTEN_CLIENT_URLS: expected http://HOST:PORT",
        ),
        ("", [("ETCD_SNAPSHOT_COUNT", "0")], "ETCD_SNAPSHOT_COUNT: expected a whole number"),
        (
            "",
            [("ETCD_MAX_WALS", "x")],
            "ETCD_MAX_WALS: expected a whole number that is not negative, found `x`",
        ),
        (
            "--watch-progress-notify-interval 5",
            [("A", "")],
            "--watch-progress-notify-interval: expected a time",
        ),
        ("--name=", [("A", "")], "--name: expected a text that is not empty"),
    ] {
        let said = refusal(line, &variables);
        assert!(said.contains(words), "expected `{words}` in `{said}`");
    }
    let (_folder, path) = file("name: n1\nheartbeat-interval: often\n");
    let said = refusal("", &[("ETCD_CONFIG_FILE", &path)]);
    assert!(said.contains("line 2, heartbeat-interval: expected a whole number"), "{said}");
}

#[test]
fn a_level_of_the_log_may_be_written_in_any_case_and_be_any_that_zap_knows() {
    let levels = ["debug", "info", "warn", "error", "dpanic", "panic", "fatal"];
    for level in levels.iter().flat_map(|level| {
        let first = level[..1].to_uppercase() + &level[1..];
        [(*level).to_owned(), level.to_uppercase(), first]
    }) {
        let (_folder, path) = file(&format!("log-level: {level}\n"));
        let flag = settled(Program::Etcd, &format!("--log-level={level}"), &[]).unwrap();
        let variable = settled(Program::Etcd, "", &[("ETCD_LOG_LEVEL", &level)]).unwrap();
        let key = settled(Program::Etcd, &format!("--config-file={path}"), &[]).unwrap();
        for given in [flag, variable, key] {
            assert!(given.matches(serve_command()).is_ok(), "{level}");
        }
    }
    assert!(refusal("--log-level=loud", &[]).contains("expected debug, or info"));
}

/// Some values that a setting may have.
fn values(row: &Row) -> Vec<&'static str> {
    let known =
        if let Takes::OneOf(known, _) = row.takes { known } else { &["true", "false", "7", "7s"] };
    known.iter().copied().filter(|value| row.normal(value).is_ok()).collect()
}

#[test]
fn a_setting_without_effect_takes_what_etcd_takes_and_nothing_else() {
    for (flag, right, wrong) in [
        ("v2-deprecation", "gone", "foo"),
        ("discovery-fallback", "proxy", "foo"),
        ("proxy", "off", "foo"),
        ("max-wals", "0", "-1"),
        ("max-snapshots", "18446744073709551615", "-1"),
        ("proxy-read-timeout", "5", "-1"),
        ("bootstrap-defrag-threshold-megabytes", "0x10", "-1"),
        ("snapshot-catchup-entries", "5", "-1"),
    ] {
        let row = table::by_flag(flag).unwrap();
        assert!(settled(Program::Etcd, &format!("--{flag}={right}"), &[]).is_ok(), "{flag}");
        let expected = format!("expected {}, found `{wrong}`", row.takes.expected());
        let of_flag = settled(Program::Etcd, &format!("--{flag}={wrong}"), &[]).unwrap_err();
        assert_eq!(of_flag.to_string(), format!("--{flag}: {expected}"));
        assert_eq!(of_flag.exit_code(Program::Etcd), 2);
        let variable = table::variable(flag);
        let of_variable = settled(Program::Etcd, "", &[(&variable, wrong)]).unwrap_err();
        assert_eq!(of_variable.to_string(), format!("{variable}: {expected}"));
        assert_eq!(of_variable.exit_code(Program::Etcd), 1);
    }
    // An empty word is none, but for a flag's.
    assert!(settled(Program::Etcd, "", &[("ETCD_PROXY", "")]).is_ok());
    let (_folder, path) = file("proxy: ''\n");
    assert!(settled(Program::Etcd, &format!("--config-file={path}"), &[]).is_ok());
    assert!(refusal("--proxy=", &[]).contains("--proxy: expected off, or readonly, or on"));
}

#[test]
fn under_the_name_etcd_the_exit_status_is_etcds() {
    let code = |line: &str, variables: &[(&str, &str)], program| {
        let refusal = settled(program, line, variables).map(|settled| {
            let error = settled.matches(serve_command()).unwrap_err();
            error.downcast::<Refusal>().unwrap()
        });
        refusal.unwrap_or_else(|refusal| refusal).exit_code(program)
    };
    let (_folder, of_level) = file("log-level: foo\n");
    let (_other, of_mode) = file("auto-compaction-mode: foo\n");
    for (line, variable, expected) in [
        ("--auto-compaction-mode=foo", ("A", ""), 1),
        ("--logger=capnslog", ("A", ""), 1),
        ("--name=", ("A", ""), 1),
        ("--log-level=foo", ("A", ""), 2),
        ("--log-format=foo", ("A", ""), 2),
        ("--discovery=foo", ("A", ""), 2),
        ("--initial-cluster-state=foo", ("A", ""), 2),
        ("", ("ETCD_AUTO_COMPACTION_MODE", "foo"), 1),
        ("", ("ETCD_LOGGER", "capnslog"), 1),
        ("", ("ETCD_LOG_LEVEL", "foo"), 2),
        ("", ("ETCD_PROXY", "foo"), 1),
        (&format!("--config-file={of_level}"), ("A", ""), 2),
        (&format!("--config-file={of_mode}"), ("A", ""), 1),
    ] {
        assert_eq!(code(line, &[variable], Program::Etcd), expected, "{line} {variable:?}");
        assert_eq!(code(line, &[variable], Program::Quorate), 2, "{line} {variable:?}");
    }
}

#[test]
fn every_setting_that_must_not_be_ignored_is_refused_and_its_harmless_values_are_not() {
    let refused = table::ENTRIES.iter().filter_map(|entry| match entry.row.state {
        State::Refused { as_is, because } => Some((entry, as_is, because)),
        State::Served | State::Ours | State::NoEffect { .. } => None,
    });
    for (entry, as_is, because) in refused {
        let row = entry.row;
        let values = values(row).into_iter();
        let value = values.rev().find(|value| !as_is.contains(value)).unwrap();
        let said = refusal(&format!("--{}={value}", row.flag), &[]);
        assert!(said.contains(&format!("--{} cannot be followed", row.flag)), "{said}");
        for variable in &entry.variables {
            let said = refusal("", &[(variable.as_str(), value)]);
            assert!(said.contains(variable) && said.contains(because), "{said}");
        }
        for harmless in as_is {
            let line = format!("--{}={harmless}", row.flag);
            assert!(settled(Program::Etcd, &line, &[]).is_ok(), "{line}");
        }
    }
}

#[test]
fn every_setting_without_effect_is_noted_unless_it_asks_for_what_is_so_anyway() {
    for entry in table::ENTRIES.iter() {
        let State::NoEffect { as_is, because } = entry.row.state else { continue };
        let value = values(entry.row).into_iter().find(|value| !as_is.contains(value));
        let line = format!("--{}={}", entry.row.flag, value.unwrap());
        let noted = settled(Program::Etcd, &line, &[]).unwrap();
        let note = Note::NoEffect { origin: format!("--{}", entry.row.flag), because };
        assert!(noted.notes.contains(&note), "{line}: {:?}", noted.notes);
        for value in as_is {
            let line = format!("--{}={value}", entry.row.flag);
            let silent = settled(Program::Etcd, &line, &[]).unwrap();
            assert!(silent.notes.is_empty(), "{line}: {:?}", silent.notes);
        }
    }
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_one_counts_with_a_note() {
    let settled = settled(Program::Etcd, "--name a --name b", &[]).unwrap();
    assert_eq!(value(&settled, "name").unwrap(), "b");
    assert_eq!(settled.notes, [Note::Again { origin: "--name".to_owned() }]);
}

#[test]
fn a_number_is_read_as_go_reads_it_wherever_it_stands() {
    let counts = table::ENTRIES.iter().map(|entry| entry.row);
    let counts = counts.filter(|row| matches!(row.takes, Takes::Count | Takes::Unsigned));
    for row in counts {
        for (written, number) in [("0x1F", "31"), ("1_000", "1000"), ("+017", "15")] {
            assert_eq!(row.normal(written).as_deref(), Ok(number), "--{}", row.flag);
        }
        for wrong in ["1e4", "1.0", "", "08", "0x"] {
            assert!(row.normal(wrong).is_err(), "--{} {wrong}", row.flag);
        }
    }
    let variables = [("ETCD_QUOTA_BACKEND_BYTES", "0x100000")];
    let settled = settled(Program::Etcd, "--snapshot-count 1_000", &variables).unwrap();
    assert_eq!(value(&settled, "snapshot-count").unwrap(), "1000");
    assert_eq!(value(&settled, "quota-backend-bytes").unwrap(), "1048576");
    let most = u64::MAX.to_string();
    assert_eq!(table::by_flag("snapshot-count").unwrap().normal(&most), Ok(most.clone()));
}

#[test]
fn a_flag_that_makes_a_node_who_it_is_and_is_empty_by_mistake_is_refused_or_warned_of() {
    for flag in IDENTITY {
        let settled = settled(Program::Etcd, &format!("--{flag}="), &[]).unwrap();
        assert_eq!(settled.notes, [Note::Empty { origin: format!("--{flag}") }]);
    }
    for variable in ["ETCD_INITIAL_CLUSTER", "ETCD_DATA_DIR", "ETCD_INITIAL_CLUSTER_STATE"] {
        let settled = settled(Program::Etcd, "", &[(variable, "")]).unwrap();
        assert!(settled.given.is_empty() && settled.notes.is_empty(), "{variable}");
    }
    let said = refusal("--initial-cluster-state=", &[]);
    assert!(
        said.contains("--initial-cluster-state: expected new, or existing, found ``"),
        "{said}"
    );
    let (_folder, path) = file("initial-cluster: ''\n");
    for line in ["--initial-cluster=".to_owned(), format!("--config-file={path}")] {
        let settled = settled(Program::Etcd, &line, &[]).unwrap();
        assert_eq!(
            value(&settled, "initial-cluster").unwrap(),
            "",
            "it is for whoever knows who we are"
        );
    }
}

#[test]
fn an_empty_text_is_as_none() {
    let settled = settled(Program::Etcd, "--cert-file= --listen-metrics-urls= --wal-dir=", &[]);
    assert!(settled.unwrap().given.is_empty());
}

#[test]
fn an_error_that_speaks_of_flags_tells_which_variables_they_were() {
    let settled =
        settled(Program::Quorate, "--name a", &[("ETCD_LISTEN_CLIENT_URLS", "x")]).unwrap();
    let explained = |said: &'static str| format!("{:#}", settled.explain(anyhow::anyhow!(said)));
    let said = explained("--listen-client-urls: cannot listen");
    assert!(said.contains("--listen-client-urls is what ETCD_LISTEN_CLIENT_URLS says"), "{said}");
    for said in ["--name: no", "--listen-client-urls-of-others: no", "no"] {
        assert_eq!(explained(said), said);
    }
}

#[test]
fn the_version_is_asked_for_by_either_kind_of_dash() {
    for line in ["--version", "-version", "--name a --version=true"] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(matches!(settle(Program::Etcd, &words, []), Ok(Asked::Version)), "{line}");
    }
}
