//! The differences that are meant in what operators ask while users are asked who they are: of the
//! members, and of one member. Each says which method, what the reference answered, and which refusal
//! is ours, so that no other refusal passes. Must not know how answers are had.

use super::Case;
use crate::method;

/// Who sent no token is told this by us.
const NOBODY: &str = "etcdserver: user name is empty";
/// Who sent one is told one of these.
const SOMEBODY: [&str; 2] = ["etcdserver: permission denied", "etcdserver: invalid auth token"];

/// Whether it is this file alone that may explain a refusal of ours.
pub(super) fn is_asked(case: &Case<'_>) -> bool {
    let services = ["Cluster", "Maintenance"];
    case.ask.is_some_and(|ask| services.contains(&ask.method.service))
}

/// 3.5.1 tells everybody; etcd 3.7 tells every user, and so do we. No user is refused.
pub(super) fn is_told_to_users(case: &Case<'_>) -> bool {
    case.is(&[&method::STATUS, &method::MEMBER_LIST])
        && case.reference.given().is_some()
        && is_refused_rightly(case)
        && !case.ours.says("etcdserver: permission denied")
}

/// 3.5.1 looks at what is asked alone, does it or says what is wrong with it.
pub(super) fn is_for_root(case: &Case<'_>) -> bool {
    let refusals: &[&str] = if case.is(&[&method::MOVE_LEADER]) {
        &["etcdserver: bad leader transferee"]
    } else if case.is(&[&method::DOWNGRADE]) {
        &[
            "etcdserver: wrong downgrade target version format",
            "etcdserver: invalid downgrade target version",
            "etcdserver: no inflight downgrade job",
        ]
    } else {
        return false;
    };
    let is_unasked =
        case.reference.given().is_some() || refusals.iter().any(|text| case.reference.says(text));
    is_unasked && is_refused_rightly(case)
}

/// The same refusal, which 3.5.1 says with the code of something unknown and the words of its inside.
pub(super) fn is_inside_out(case: &Case<'_>) -> bool {
    let methods = [&method::DEFRAGMENT, &method::HASH, &method::HASH_KV, &method::SNAPSHOT];
    let said = case.ours.refusal().and_then(|(_, text)| text.strip_prefix("etcdserver: "));
    case.is(&methods)
        && is_refused_rightly(case)
        && case.reference.refusal().is_some_and(|(code, text)| {
            code == 2 && text.strip_prefix("auth: ").is_some_and(|text| said == Some(text))
        })
}

/// 3.5.1 looks at the addresses of a member before it asks who adds it.
pub(super) fn is_addition(case: &Case<'_>) -> bool {
    case.is(&[&method::MEMBER_ADD])
        && case.reference.says("etcdserver: given member URLs are invalid")
        && is_refused_rightly(case)
}

/// Somebody who is not root is refused by us, for what they are.
fn is_refused_rightly(case: &Case<'_>) -> bool {
    let has_token = case.ask.is_some_and(|ask| ask.token.is_some());
    case.is_refused_by_us()
        && if has_token {
            SOMEBODY.iter().any(|text| case.ours.says(text))
        } else {
            case.ours.says(NOBODY)
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use crate::driver::Ask;
    use crate::explained::find;
    use crate::known::Known;
    use crate::method::Method;
    use quorate_etcd_api::etcdserverpb as pb;
    use serde_json::json;

    const DENIED: (i32, &str) = (7, "etcdserver: permission denied");
    const EMPTY: (i32, &str) = (3, "etcdserver: user name is empty");
    const STRANGE: (i32, &str) = (16, "etcdserver: invalid auth token");

    fn refused((code, text): (i32, &str)) -> Answer {
        Answer::Refused { code, text: text.to_owned() }
    }

    fn given() -> Answer {
        Answer::Given(json!({}))
    }

    /// Whether it is explained that ours refuses `user` so, where the reference answered this.
    fn is_meant(
        method: &'static Method,
        user: &str,
        reference: &Answer,
        ours: (i32, &str),
    ) -> bool {
        let token = (user != "nobody").then(|| "a.1".to_owned());
        let ask = Ask { token, user: user.to_owned(), ..Ask::new(method, &pb::HashRequest {}) };
        let known = Known { auth: true, ..Known::default() };
        let ours = refused(ours);
        find(&Case { ask: Some(&ask), asked: "", reference, ours: &ours, known: &known }).is_some()
    }

    #[test]
    fn status_and_members_may_be_kept_from_who_is_nobody_and_from_no_user() {
        for method in [&method::STATUS, &method::MEMBER_LIST] {
            assert!(is_meant(method, "nobody", &given(), EMPTY));
            assert!(is_meant(method, "a stranger", &given(), STRANGE));
            assert!(!is_meant(method, "nobody", &given(), STRANGE));
            assert!(!is_meant(method, "u", &given(), EMPTY));
            assert!(!is_meant(method, "u", &given(), DENIED));
            assert!(!is_meant(method, "root", &given(), STRANGE));
            assert!(!is_meant(method, "nobody", &refused((14, "etcdserver: no leader")), EMPTY));
        }
    }

    #[test]
    fn another_leader_and_a_downgrade_may_be_refused_where_the_reference_asked_nobody() {
        let bad_leader = refused((9, "etcdserver: bad leader transferee"));
        for (user, ours) in [("nobody", EMPTY), ("u", DENIED), ("a stranger", STRANGE)] {
            assert!(is_meant(&method::MOVE_LEADER, user, &given(), ours));
            assert!(is_meant(&method::MOVE_LEADER, user, &bad_leader, ours));
            assert!(!is_meant(&method::DOWNGRADE, user, &bad_leader, ours));
            assert!(!is_meant(&method::MOVE_LEADER, user, &refused((14, "x")), ours));
        }
        assert!(!is_meant(&method::MOVE_LEADER, "nobody", &given(), DENIED));
    }

    #[test]
    fn digests_and_backups_are_refused_by_both_for_the_same_reason() {
        for method in [&method::DEFRAGMENT, &method::HASH, &method::HASH_KV, &method::SNAPSHOT] {
            let denied = refused((2, "auth: permission denied"));
            assert!(is_meant(method, "u", &denied, DENIED));
            assert!(!is_meant(method, "u", &refused((2, "auth: user name is empty")), DENIED));
            assert!(!is_meant(method, "u", &refused((7, "auth: permission denied")), DENIED));
            assert!(!is_meant(method, "u", &given(), DENIED));
        }
    }

    #[test]
    fn a_change_of_members_may_be_refused_only_before_a_look_at_its_addresses() {
        let bad = refused((3, "etcdserver: given member URLs are invalid"));
        assert!(is_meant(&method::MEMBER_ADD, "nobody", &bad, EMPTY));
        assert!(!is_meant(&method::MEMBER_ADD, "nobody", &given(), EMPTY));
        for method in [&method::MEMBER_REMOVE, &method::MEMBER_UPDATE, &method::MEMBER_PROMOTE] {
            assert!(!is_meant(method, "nobody", &bad, EMPTY));
            assert!(!is_meant(method, "u", &given(), DENIED));
        }
    }
}
