//! The table of the settings as the documentation has it, and the test that it has it so. Must not
//! know what a setting does.

use super::table::{ENTRIES, Entry, Place, Row, State};
use std::path::Path;

/// What stands around the table.
const BEGIN: &str = "<!-- settings: made from crates/cli/src/serve/given/table.rs -->\n";
const END: &str = "<!-- settings: end -->\n";

/// A test of all flags without effect, and one of all that are refused.
const NO_EFFECT: &str = "cli/src/serve/given/tests.rs: every_setting_without_effect_is_noted_unless_it_asks_for_what_is_so_anyway";
const REFUSED: &str = "cli/src/serve/given/tests.rs: every_setting_that_must_not_be_ignored_is_refused_and_its_harmless_values_are_not";

/// Flags that are served, and a test that uses them or what they set.
const SHOWN_BY: &[(&[&str], &str)] = &[
    (
        &["config-file"],
        "cli/tests/settings.rs: a_node_is_started_by_a_config_file_alone_and_logs_where_it_says",
    ),
    (
        &["log-outputs", "log-format"],
        "cli/tests/settings.rs: a_node_is_started_by_a_config_file_alone_and_logs_where_it_says",
    ),
    (&["version"], "cli/tests/settings.rs: the_version_has_etcds_lines_under_both_names"),
    (
        &["name", "data-dir"],
        "cli/tests/settings.rs: under_the_name_etcd_it_takes_gos_flags_and_tells_who_waits_for_it",
    ),
    (
        &["wal-dir"],
        "cli/tests/wal_dir.rs: a_log_in_a_folder_of_its_own_survives_a_kill_and_is_never_begun_anew",
    ),
    (
        &["force-new-cluster"],
        "cli/tests/force_new_cluster.rs: a_member_whose_quorum_is_lost_for_good_goes_on_alone_and_once",
    ),
    (
        &["rebuild-state"],
        "cli/tests/rebuild_state.rs: a_member_whose_state_is_marked_as_wrong_is_refused_and_comes_back_rebuilt",
    ),
    (
        &["snapshot-count"],
        "cli/tests/kill_and_pause/main.rs: no_acknowledged_write_is_lost_while_servers_are_killed_and_paused",
    ),
    (
        &["snapshot-rate"],
        "node/src/driver/pacing.rs: pieces_for_all_followers_together_are_never_faster_than_the_rate",
    ),
    (
        &["scrub-rate"],
        "cli/tests/scrub.rs: a_bit_that_flips_in_a_sealed_segment_is_noticed_before_a_start_needs_it",
    ),
    (
        &["memory-bytes-max"],
        "cli/tests/bad_input.rs: a_memory_without_room_for_a_request_is_refused_with_what_would_do",
    ),
    (
        &["protocol-version-max"],
        "cli/tests/rolling_upgrade.rs: a_cluster_is_upgraded_one_by_one_under_writes_and_does_not_go_back",
    ),
    (
        &["heartbeat-interval", "election-timeout"],
        "cli/src/serve/flags.rs: timeouts_that_cannot_work_are_refused",
    ),
    (
        &["listen-peer-urls", "listen-client-urls"],
        "cli/tests/bad_input.rs: a_port_in_use_is_named_and_the_process_that_has_it_is_not_disturbed",
    ),
    (
        &["listen-client-http-urls", "listen-metrics-urls"],
        "server/tests/tls.rs: a_listener_serves_what_it_is_for",
    ),
    (
        &["quota-backend-bytes"],
        "cli/tests/maintenance.rs: a_quota_holds_through_restarts_until_it_is_cleared",
    ),
    (
        &["disk-reserve"],
        "cli/tests/full_disk.rs: a_disk_without_any_room_costs_a_leader_its_office_and_nobody_a_promise",
    ),
    (
        &["max-request-bytes"],
        "cli/src/serve/flags.rs: limits_that_nothing_fits_into_or_that_are_too_large_are_refused",
    ),
    (&["max-txn-ops"], "cli/src/serve/instead.rs: what_etcd_starts_with_is_started_with_and_said"),
    (
        &["initial-advertise-peer-urls"],
        "cli/src/serve/flags.rs: a_member_may_be_at_an_https_url_that_is_not_the_one_it_listens_at",
    ),
    (
        &["initial-cluster", "initial-cluster-state"],
        "cli/tests/members.rs: all_members_are_replaced_and_one_that_was_away_learns_that_it_was_removed",
    ),
    (
        &["discovery-token", "discovery-endpoints"],
        "cli/tests/discovery.rs: members_that_register_under_a_token_are_a_cluster_and_one_too_many_is_not",
    ),
    (
        &["discovery-dial-timeout", "discovery-request-timeout"],
        "cli/tests/discovery.rs: a_member_waits_for_a_discovery_service_that_is_away_and_stops_when_told",
    ),
    (
        &["discovery-keepalive-time", "discovery-keepalive-timeout"],
        "cli/src/serve/discovery/flags.rs: pings_are_as_rare_as_a_server_of_etcds_wants_them",
    ),
    (
        &["discovery-insecure-transport"],
        "cli/src/serve/discovery/flags.rs: the_other_cluster_is_asked_over_tls_if_a_flag_says_so",
    ),
    (
        &[
            "discovery-insecure-skip-tls-verify",
            "discovery-cert",
            "discovery-key",
            "discovery-cacert",
            "discovery-user",
            "discovery-password",
        ],
        "cli/tests/discovery.rs: a_discovery_service_with_users_and_tls_is_asked_with_a_password_and_certificates",
    ),
    (
        &["discovery-srv", "discovery-srv-server"],
        "cli/tests/discovery.rs: members_that_a_domain_names_are_a_cluster_and_one_that_it_does_not_is_none",
    ),
    (
        &["discovery-srv-name"],
        "cli/src/serve/discovery/srv.rs: the_records_of_a_server_say_who_the_members_are",
    ),
    (
        &["initial-cluster-client-urls"],
        "cli/tests/cluster_command.rs: it_shows_its_nodes_and_a_second_start_serves_the_same_data",
    ),
    (
        &["initial-cluster-token"],
        "cli/tests/bad_input.rs: a_data_folder_of_another_node_or_another_cluster_is_refused_untouched",
    ),
    (
        &["advertise-client-urls", "client-cert-auth", "trusted-ca-file", "bcrypt-cost"],
        "cli/tests/users.rs: a_name_in_a_certificate_is_a_user_of_the_real_etcdctl",
    ),
    (
        &["strict-reconfig-check", "max-learners"],
        "cli/tests/members.rs: what_would_endanger_the_quorum_is_refused_in_etcds_words",
    ),
    (
        &["auto-compaction-retention", "auto-compaction-mode"],
        "server/tests/space.rs: the_leader_compacts_by_itself_what_is_older_than_the_period",
    ),
    (
        &["cert-file", "key-file", "client-crl-file"],
        "cli/tests/tls.rs: etcdctl_needs_a_certificate_that_was_not_revoked",
    ),
    (&["client-cert-allowed-hostname"], "tls/tests/judge.rs: names_are_checked_as_etcd_does"),
    (
        &["auto-tls"],
        "cli/tests/tls.rs: a_server_that_makes_its_own_certificate_serves_who_believes_it",
    ),
    (
        &["peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-auth"],
        "cli/tests/peer_tls.rs: members_with_certificates_lose_one_exchange_them_and_grow",
    ),
    (
        &[
            "peer-client-cert-file",
            "peer-client-key-file",
            "peer-cert-allowed-cn",
            "peer-cert-allowed-hostname",
        ],
        "cli/src/serve/peers.rs: flags_that_contradict_each_other_and_files_that_are_not_there_are_refused",
    ),
    (
        &["peer-auto-tls"],
        "cli/tests/peer_tls.rs: members_that_make_their_own_certificates_keep_them",
    ),
    (
        &["peer-crl-file"],
        "cli/tests/peer_tls.rs: flags_that_cannot_work_are_refused_before_anything_is_touched",
    ),
    (
        &["peer-skip-client-san-verification"],
        "tls/tests/judge.rs: a_peer_comes_from_an_address_in_its_certificate_unless_nobody_asks",
    ),
    (
        &["cipher-suites", "tls-min-version", "tls-max-version"],
        "tls/tests/handshake.rs: versions_and_suites_are_what_the_names_say",
    ),
    (
        &["cors"],
        "server/tests/gateway.rs: pages_of_listed_origins_may_read_answers_and_by_default_all_may",
    ),
    (
        &["host-whitelist"],
        "server/tests/gateway.rs: a_host_that_is_not_listed_is_misdirected_but_where_it_is_measured",
    ),
    (&["auth-token"], "cli/tests/users.rs: a_signed_token_is_good_with_every_member_and_in_no_log"),
    (&["auth-token-ttl"], "server/src/auth/tokens.rs: a_used_token_lives_on_and_an_idle_one_dies"),
    (
        &["metrics"],
        "cli/tests/metrics.rs: what_members_say_to_each_other_is_measured_for_each_with_etcds_labels",
    ),
    (
        &["log-level"],
        "cli/tests/bad_input.rs: noise_on_the_client_port_is_refused_and_other_clients_are_served_meanwhile",
    ),
    (
        &["watch-progress-notify-interval"],
        "server/tests/watch.rs: idle_watches_that_ask_for_it_are_told_how_far_they_are",
    ),
];

fn table() -> String {
    let head =
        "| Flag | Variable | Key in a config file | State | A test |\n|---|---|---|---|---|\n";
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
    let (flags, variables) = (flags.join(", formerly "), variables.join(", "));
    let test = match test_of(row).split_once(": ") {
        Some((file, name)) => format!("`{name}` ({file})"),
        None => String::new(),
    };
    format!("| {flags} | {variables} | {key} | {state} | {test} |\n")
}

/// A test that uses the flag, or that of all flags of its kind.
fn test_of(row: &Row) -> &'static str {
    match row.state {
        State::Served | State::Ours => {
            let shown = SHOWN_BY.iter().find(|(flags, _)| flags.contains(&row.flag));
            shown.map_or("", |(_, test)| test)
        }
        State::NoEffect { .. } => NO_EFFECT,
        State::Refused { .. } => REFUSED,
    }
}

#[test]
fn every_test_that_is_named_is_there_and_is_named_for_a_flag_that_is_served() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tests = SHOWN_BY.iter().map(|(_, test)| *test).chain([NO_EFFECT, REFUSED]);
    for test in tests {
        let (file, name) = test.split_once(": ").expect(test);
        let text = std::fs::read_to_string(crates.join(file)).expect(file);
        let is_there =
            ["#[test]\n", "#[tokio::test]\n", "#[tokio::test("].into_iter().any(|mark| {
                let mut after = text.split(mark).skip(1).filter_map(|rest| rest.split_once("fn "));
                after.any(|(_, rest)| rest.starts_with(&format!("{name}(")))
            });
        assert!(is_there, "there is no test {name} in {file}");
    }
    for flag in SHOWN_BY.iter().flat_map(|(flags, _)| *flags) {
        let is_served = |entry: &Entry| entry.row.flag == *flag && entry.row.is_served();
        assert!(ENTRIES.iter().any(is_served), "--{flag} is not served");
    }
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
