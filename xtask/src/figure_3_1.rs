//! The rules of the dissertation's Figure 3.1, in our own words, and where each is obeyed: a text
//! that occurs once in the code of the core, and the name of a test. Checked by `paper_map`.

/// One rule.
pub(crate) struct Rule {
    /// Where it stands in the figure.
    pub(crate) id: &'static str,
    /// What it says, in our words.
    pub(crate) words: &'static str,
    /// The section that explains it; cited near the code.
    pub(crate) section: &'static str,
    /// The file below `crates/core/src`, and a text of the line that obeys it.
    pub(crate) code: (&'static str, &'static str),
    /// The name of a test in `crates/core/tests/paper.rs`.
    pub(crate) test: &'static str,
}

/// Shortens the table below.
const fn rule(
    id: &'static str,
    words: &'static str,
    section: &'static str,
    code: (&'static str, &'static str),
    test: &'static str,
) -> Rule {
    Rule { id, words, section, code, test }
}

/// Every rule, in the figure's order.
pub(crate) const RULES: [Rule; 22] = [
    rule(
        "State, persistent",
        "term, vote and log are on stable storage before an RPC is answered",
        "§3.8",
        ("raft/follower.rs", "fn acknowledge_durable_entries"),
        "persistence_term_vote_and_log_come_back_after_a_restart",
    ),
    rule(
        "State, volatile",
        "commit index and last applied only rise",
        "§3.5",
        ("raft/common.rs", "fn commit_through"),
        "append_entries_5_the_commit_index_follows_the_leader_up_to_the_last_new_entry",
    ),
    rule(
        "State, leader",
        "a new leader starts each next index after its last entry, each match index at 0",
        "§3.5",
        ("progress.rs", "A follower of which nothing is known yet"),
        "leaders_start_with_next_index_after_their_log_and_match_index_zero",
    ),
    rule(
        "AppendEntries 1",
        "a request of an older term is refused",
        "§3.3",
        ("raft/append.rs", "AppendEntries rule 1"),
        "append_entries_1_a_request_of_a_stale_term_is_refused_with_the_current_term",
    ),
    rule(
        "AppendEntries 2",
        "a request is refused unless the log holds the entry before its first",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 2"),
        "append_entries_2_a_request_is_refused_if_the_log_lacks_an_entry_at_prev_log",
    ),
    rule(
        "AppendEntries 3",
        "an entry that conflicts with a new one is deleted, and all that follow it",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 3"),
        "append_entries_3_a_conflicting_entry_and_all_that_follow_it_are_deleted",
    ),
    rule(
        "AppendEntries 4",
        "entries that are not in the log yet are appended",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 4"),
        "append_entries_4_entries_that_are_not_in_the_log_are_appended_once",
    ),
    rule(
        "AppendEntries 5",
        "the commit index follows the leader's, up to the last new entry",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 5"),
        "append_entries_5_the_commit_index_follows_the_leader_up_to_the_last_new_entry",
    ),
    rule(
        "RequestVote 1",
        "a candidate of an older term gets no vote",
        "§3.3",
        ("raft/election.rs", "RequestVote rule 1"),
        "request_vote_1_a_request_of_a_stale_term_is_refused",
    ),
    rule(
        "RequestVote 2",
        "one vote a term, to a candidate whose log is at least as up-to-date",
        "§3.6.1",
        ("raft/election.rs", "RequestVote rule 2"),
        "request_vote_2_a_server_votes_for_one_candidate_a_term_and_again_for_the_same",
    ),
    rule(
        "All servers 1",
        "what is committed is applied, in order",
        "§3.5",
        ("raft/apply.rs", "fn apply_committed"),
        "all_servers_committed_entries_are_applied_in_order_once",
    ),
    rule(
        "All servers 2",
        "a higher term is taken over and makes a follower",
        "§3.3",
        ("raft.rs", "fn update_term"),
        "all_servers_a_higher_term_in_a_request_or_a_response_makes_a_follower",
    ),
    rule(
        "Followers 1",
        "they answer candidates and leaders",
        "§3.4",
        ("raft/append.rs", "fn recognize_leader"),
        "append_entries_1_a_request_of_a_stale_term_is_refused_with_the_current_term",
    ),
    rule(
        "Followers 2",
        "without a leader or a vote given for an election timeout, they become candidates",
        "§3.4",
        ("raft/election.rs", "fn timeout"),
        "followers_campaign_when_the_election_timeout_elapses_without_a_leader",
    ),
    rule(
        "Candidates 1",
        "an election: next term, own vote, new timer, RequestVote to all others",
        "§3.4",
        ("raft/election.rs", "fn become_candidate"),
        "candidates_on_conversion_raise_the_term_vote_for_themselves_and_ask_all_in_parallel",
    ),
    rule(
        "Candidates 2",
        "votes of a majority make a leader",
        "§3.4",
        ("raft/election.rs", "fn become_leader"),
        "candidates_become_leaders_with_the_votes_of_a_majority",
    ),
    rule(
        "Candidates 3",
        "AppendEntries of the term's leader makes a follower",
        "§3.4",
        ("raft/append.rs", "fn recognize_leader"),
        "candidates_become_followers_when_a_leader_of_their_term_appears",
    ),
    rule(
        "Candidates 4",
        "another election timeout starts another election",
        "§3.4",
        ("raft/election.rs", "fn timeout"),
        "candidates_start_a_new_election_when_their_timeout_elapses",
    ),
    rule(
        "Leaders 1",
        "heartbeats go out upon election and whenever nothing else does",
        "§3.4",
        ("raft/heartbeat.rs", "fn start_round"),
        "leaders_announce_themselves_at_once_and_repeat_it_when_idle",
    ),
    rule(
        "Leaders 2",
        "a command is appended, and answered once it is applied",
        "§3.5",
        ("raft/replicate.rs", "fn client_request(&mut self, common"),
        "leaders_append_a_command_and_send_it_before_their_own_disk_is_done",
    ),
    rule(
        "Leaders 3",
        "followers are sent what they lack; success advances, a conflict steps back",
        "§3.5",
        ("raft/replicate.rs", "fn handle_append_entries_response"),
        "leaders_advance_next_index_and_match_index_on_success",
    ),
    rule(
        "Leaders 4",
        "an entry of the current term that a majority holds is committed, with all before it",
        "§3.6.2",
        ("raft/commit.rs", "fn advance_commit_index"),
        "leaders_do_not_commit_an_entry_from_an_older_term_by_counting_replicas",
    ),
];
