//! The rules of the dissertation's Figure 3.1, in our own words, and where each is obeyed: a text
//! that occurs once in the code of the core, and the names of tests. Checked by `paper_map`.

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
    /// Words that occur in the name, or in the documentation, of a test in
    /// `crates/core/tests/paper.rs`.
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
        "state.persistent",
    ),
    rule(
        "State, volatile",
        "commit index and last applied only rise",
        "§3.5",
        ("raft/common.rs", "fn commit_through"),
        "state.volatile",
    ),
    rule(
        "State, leader",
        "a new leader starts each next index after its last entry, each match index at 0",
        "§3.5",
        ("progress.rs", "A follower of which nothing is known yet"),
        "state.leader",
    ),
    rule(
        "AppendEntries 1",
        "a request of an older term is refused",
        "§3.3",
        ("raft/append.rs", "AppendEntries rule 1"),
        "append.1",
    ),
    rule(
        "AppendEntries 2",
        "a request is refused unless the log holds the entry before its first",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 2"),
        "append.2",
    ),
    rule(
        "AppendEntries 3",
        "an entry that conflicts with a new one is deleted, and all that follow it",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 3"),
        "append.3",
    ),
    rule(
        "AppendEntries 4",
        "entries that are not in the log yet are appended",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 4"),
        "append.4",
    ),
    rule(
        "AppendEntries 5",
        "the commit index follows the leader's, up to the last new entry",
        "§3.5",
        ("raft/append.rs", "AppendEntries rule 5"),
        "append.5",
    ),
    rule(
        "RequestVote 1",
        "a candidate of an older term gets no vote",
        "§3.3",
        ("raft/election.rs", "RequestVote rule 1"),
        "vote.1",
    ),
    rule(
        "RequestVote 2",
        "one vote a term, to a candidate whose log is at least as up-to-date",
        "§3.6.1",
        ("raft/election.rs", "RequestVote rule 2"),
        "vote.2",
    ),
    rule(
        "All servers 1",
        "what is committed is applied, in order",
        "§3.5",
        ("raft/apply.rs", "fn apply_committed"),
        "all.1",
    ),
    rule(
        "All servers 2",
        "a higher term is taken over and makes a follower",
        "§3.3",
        ("raft.rs", "fn update_term"),
        "all.2",
    ),
    rule(
        "Followers 1",
        "they answer candidates and leaders",
        "§3.4",
        ("raft/append.rs", "fn recognize_leader"),
        "followers.1",
    ),
    rule(
        "Followers 2",
        "without a leader or a vote given for an election timeout, they become candidates",
        "§3.4",
        ("raft/election.rs", "fn timeout"),
        "followers.2",
    ),
    rule(
        "Candidates 1",
        "an election: next term, own vote, new timer, RequestVote to all others",
        "§3.4",
        ("raft/election.rs", "fn become_candidate"),
        "candidates.1",
    ),
    rule(
        "Candidates 2",
        "votes of a majority make a leader",
        "§3.4",
        ("raft/election.rs", "fn become_leader"),
        "candidates.2",
    ),
    rule(
        "Candidates 3",
        "AppendEntries of the term's leader makes a follower",
        "§3.4",
        ("raft/append.rs", "fn recognize_leader"),
        "candidates.3",
    ),
    rule(
        "Candidates 4",
        "another election timeout starts another election",
        "§3.4",
        ("raft/election.rs", "fn timeout"),
        "candidates.4",
    ),
    rule(
        "Leaders 1",
        "heartbeats go out upon election and whenever nothing else does",
        "§3.4",
        ("raft/heartbeat.rs", "fn start_round"),
        "leaders.1",
    ),
    rule(
        "Leaders 2",
        "a command is appended, and answered once it is applied",
        "§3.5",
        ("raft/replicate.rs", "fn client_request(&mut self, common"),
        "leaders.2",
    ),
    rule(
        "Leaders 3",
        "followers are sent what they lack; success advances, a conflict steps back",
        "§3.5",
        ("raft/replicate.rs", "fn handle_append_entries_response"),
        "leaders.3",
    ),
    rule(
        "Leaders 4",
        "an entry of the current term that a majority holds is committed, with all before it",
        "§3.6.2",
        ("raft/commit.rs", "fn advance_commit_index"),
        "leaders.4",
    ),
];
