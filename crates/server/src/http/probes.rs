//! The pages that probes ask for: `/livez` and `/readyz`, and a page below them for each check, in
//! etcd's form. Must not know what a check looks at.

use super::pages;
use crate::service::{Check, Probe, Service};
use bytes::Bytes;
use http::{Response, StatusCode};
use std::fmt::Write as _;

/// What a path asks for: a probe, and the one check if it names one.
pub(crate) fn asked(path: &str) -> Option<(Probe, Option<Check>)> {
    let path = path.strip_prefix('/')?;
    let (name, check) = match path.split_once('/') {
        Some((name, check)) => (name, Some(check)),
        None => (path, None),
    };
    let probe = Probe::ALL.into_iter().find(|probe| probe.name() == name)?;
    let Some(check) = check else { return Some((probe, None)) };
    let check = probe.checks().iter().find(|known| known.name() == check)?;
    Some((probe, Some(*check)))
}

/// Carries out the checks: all of the probe's but those that `exclude=` names, or the one. What does
/// not hold is always told; with `verbose`, what holds is told too.
pub(super) async fn respond(
    service: &Service,
    probe: Probe,
    only: Option<Check>,
    query: &str,
) -> Response<Bytes> {
    let is_wanted = |check: &Check| match only {
        Some(only) => *check == only,
        None => !is_excluded(query, check.name()),
    };
    let (mut is_well, mut report) = (true, String::new());
    for check in probe.checks().iter().copied().filter(is_wanted) {
        let found = service.check(check).await;
        service.metrics().checked(probe, check, found.is_ok());
        // Writing to a `String` cannot fail.
        let _ = match &found {
            Ok(()) => writeln!(report, "[+]{} ok", check.name()),
            Err(why) => writeln!(report, "[-]{} failed: {why}", check.name()),
        };
        is_well &= found.is_ok();
    }
    if !is_well {
        report.push('\n');
        return pages::text(StatusCode::SERVICE_UNAVAILABLE, report);
    }
    if !has(query, "verbose") {
        report.clear();
    }
    report.push_str("ok\n");
    pages::text(StatusCode::OK, report)
}

/// Whether a query names something, with a value or without.
fn has(query: &str, name: &str) -> bool {
    query.split('&').any(|part| part.split('=').next() == Some(name))
}

fn is_excluded(query: &str, check: &str) -> bool {
    query.split('&').any(|part| part.strip_prefix("exclude=") == Some(check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_probe_or_one_of_its_own_checks() {
        assert_eq!(asked("/livez"), Some((Probe::Live, None)));
        assert_eq!(asked("/readyz"), Some((Probe::Ready, None)));
        let check = Check::SerializableRead;
        assert_eq!(asked("/livez/serializable_read"), Some((Probe::Live, Some(check))));
        for check in Probe::Ready.checks() {
            let path = format!("/readyz/{}", check.name());
            assert_eq!(asked(&path), Some((Probe::Ready, Some(*check))));
        }
        for path in [
            "",
            "/",
            "livez",
            "/livezz",
            "/livez/",
            "/livez/non_learner",
            "/readyz/x",
            "/readyz/non_learner/",
        ] {
            assert_eq!(asked(path), None, "{path}");
        }
    }

    #[test]
    fn verbose_may_have_any_value_and_exclusions_may_be_many() {
        for query in ["verbose", "verbose=", "verbose=false", "a=b&verbose"] {
            assert!(has(query, "verbose"), "{query}");
        }
        for query in ["", "verbosely", "a=verbose"] {
            assert!(!has(query, "verbose"), "{query}");
        }
        let query = "exclude=a&verbose&exclude=b";
        assert!(is_excluded(query, "a") && is_excluded(query, "b") && !is_excluded(query, "c"));
        assert!(!is_excluded("exclude=", "a") && !is_excluded("", "a"));
    }
}
