//! Which versions of the API clients say that they speak, and how much they ask, with etcd's name: the one
//! way to see who is old. What a client says is its own: only so many versions are told apart. Must not
//! know what is asked.

use super::{Page, add, load};
use std::sync::atomic::AtomicU64;
use std::sync::{PoisonError, RwLock};

/// How many versions are told apart; the rest is counted together.
const VERSIONS_COUNT_MAX: usize = 16;
/// The longest version that is told from others, in bytes.
const VERSION_BYTES_MAX: usize = 32;
/// What all others are counted as.
const OTHERS: &str = "other";
/// Who does not say.
const UNKNOWN: &str = "unknown";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ClientVersions(RwLock<Vec<Asked>>);

#[derive(Debug)]
struct Asked {
    version: Box<str>,
    calls: AtomicU64,
    streams: AtomicU64,
}

impl Asked {
    fn count(&self, is_stream: bool) {
        add(if is_stream { &self.streams } else { &self.calls }, 1);
    }
}

impl ClientVersions {
    pub(super) fn asked(&self, version: Option<&str>, is_stream: bool) {
        let version = version.unwrap_or(UNKNOWN);
        let version = if version.len() > VERSION_BYTES_MAX { OTHERS } else { version };
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = known.iter().find(|asked| *asked.version == *version) {
            return asked.count(is_stream);
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let version = if known.len() < VERSIONS_COUNT_MAX { version } else { OTHERS };
        if !known.iter().any(|asked| *asked.version == *version) {
            let (calls, streams) = (AtomicU64::new(0), AtomicU64::new(0));
            known.push(Asked { version: version.into(), calls, streams });
        }
        if let Some(asked) = known.iter().find(|asked| *asked.version == *version) {
            asked.count(is_stream);
        }
    }

    pub(super) fn render(&self, out: &mut Page) {
        let name = "etcd_server_client_requests_total";
        out.head(name, "counter", "Requests of clients, by the version of the API that they name.");
        for Asked { version, calls, streams } in
            &*self.0.read().unwrap_or_else(PoisonError::into_inner)
        {
            let version = version.replace('\\', "\\\\").replace('"', "\\\"");
            for (kind, counter) in [("stream", streams), ("unary", calls)] {
                let labels = format!("client_api_version=\"{version}\",type=\"{kind}\"");
                out.line(&format!("{name}{{{labels}}}"), load(counter));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(versions: &ClientVersions) -> String {
        let mut page = Page::default();
        versions.render(&mut page);
        page.text
    }

    #[test]
    fn versions_are_told_apart_and_so_are_calls_and_streams() {
        let versions = ClientVersions::default();
        for (version, is_stream) in
            [(Some("3.5"), false), (Some("3.5"), false), (Some("3.5"), true), (None, false)]
        {
            versions.asked(version, is_stream);
        }
        versions.asked(Some(r#"a"b\c"#), false);
        let text = shown(&versions);
        for (labels, count) in [
            (r#"client_api_version="3.5",type="unary""#, 2),
            (r#"client_api_version="3.5",type="stream""#, 1),
            (r#"client_api_version="unknown",type="unary""#, 1),
            (r#"client_api_version="a\"b\\c",type="unary""#, 1),
        ] {
            let line = format!("etcd_server_client_requests_total{{{labels}}} {count}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn however_many_versions_there_are_only_so_many_are_remembered() {
        let versions = ClientVersions::default();
        for number in 0..1_000 {
            versions.asked(Some(&number.to_string()), false);
        }
        versions.asked(Some(&"9".repeat(100_000)), false);
        let text = shown(&versions);
        assert!(text.lines().count() <= 2 + 2 * (VERSIONS_COUNT_MAX + 1), "{text}");
        assert!(text.contains(r#"client_api_version="other",type="unary"} 985"#), "{text}");
    }
}
