//! etcd's config file: YAML with the flags' names as keys, those about TLS in sections. Says in which
//! line each setting is; must not know what becomes of it.

use super::table::{self, Row, Takes};
use super::{Given, Refusal, Source};
use crate::serve::go;
use crate::serve::near::nearest;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::collections::BTreeMap;
use std::fs;

/// Reads the file at `path`.
///
/// # Errors
///
/// If it cannot be read, is no YAML, or says something that no setting is.
pub(super) fn read(path: &str) -> Result<Vec<Given>, Refusal> {
    let text = fs::read_to_string(path)
        .map_err(|source| Refusal::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Reads the text of the file at `path`.
///
/// # Errors
///
/// As [`read`].
fn parse(path: &str, text: &str) -> Result<Vec<Given>, Refusal> {
    let text = without_tabs(text);
    let events = Parser::new_from_str(&text);
    let mut reader = Reader { path, events, given: Vec::new() };
    reader.document()?;
    Ok(reader.given)
}

struct Reader<'a> {
    path: &'a str,
    events: Parser<'a, StrInput<'a>>,
    given: Vec<Given>,
}

/// A key, and where it is.
struct Key<'k> {
    section: Option<&'k str>,
    name: &'k str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Refusal> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, line_of(&span))),
            Some(Err(error)) => Err(self.no_yaml(&error)),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document(&mut self) -> Result<(), Refusal> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (Event::MappingStart(..), _) if self.given.is_empty() => self.mapping(None)?,
                // A file of nothing but comments.
                (Event::Scalar(text, ..), _) if is_none(&text) => {}
                (_, line) => return Err(self.form(line, "one mapping of keys to values")),
            }
        }
    }

    /// The rest of a mapping that has begun.
    fn mapping(&mut self, section: Option<&str>) -> Result<(), Refusal> {
        let mut seen = BTreeMap::new();
        loop {
            let (name, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(()),
                (Event::Scalar(name, ..), line) => (name, line),
                (_, line) => return Err(self.form(line, "a key")),
            };
            let key = Key { section, name: &name, line };
            if let Some(first) = seen.insert(name.to_string(), line) {
                return Err(Refusal::Twice { origin: self.origin(&key), first });
            }
            self.value(&key)?;
        }
    }

    fn value(&mut self, key: &Key<'_>) -> Result<(), Refusal> {
        let section = key.section.map(|outer| format!("{outer}.{}", key.name));
        let section = section.as_deref().unwrap_or(key.name);
        let is_section = table::SECTIONS.contains(&section);
        let row = table::by_key(key.section, key.name);
        if row.is_none() && !is_section {
            let known = table::keys(key.section);
            let nearest = nearest(key.name, known);
            return Err(Refusal::UnknownKey { origin: self.origin(key), nearest });
        }
        match (self.next()?, row) {
            ((Event::Scalar(text, ScalarStyle::Plain, ..), _), _) if is_none(&text) => Ok(()),
            ((Event::Scalar(text, ..), _), Some(row)) => {
                self.keep(row, key, &text);
                Ok(())
            }
            ((Event::SequenceStart(..), _), Some(row)) if row.takes == Takes::List => {
                let text = self.list()?;
                self.keep(row, key, &text);
                Ok(())
            }
            ((Event::MappingStart(..), _), None) => self.mapping(Some(section)),
            ((_, line), Some(row)) => Err(self.form(line, row.takes.expected())),
            ((_, line), None) => Err(self.form(line, "keys and values")),
        }
    }

    /// The rest of a list that has begun, as one text.
    fn list(&mut self) -> Result<String, Refusal> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(elements.join(",")),
                (Event::Scalar(text, ..), _) => elements.push(text.into_owned()),
                (_, line) => return Err(self.form(line, "a text")),
            }
        }
    }

    fn keep(&mut self, row: &'static Row, key: &Key<'_>, text: &str) {
        let value = match row.takes {
            Takes::Time => {
                whole(text).map_or_else(|| text.to_owned(), |number| format!("{number}ns"))
            }
            Takes::Count | Takes::Unsigned => whole(text).unwrap_or_else(|| text.to_owned()),
            Takes::Bool => yaml_boolean(text).unwrap_or(text).to_owned(),
            Takes::Text | Takes::Name | Takes::Literal | Takes::List | Takes::OneOf(..) => {
                text.to_owned()
            }
        };
        self.given.push(Given::new(row, &value, self.origin(key), Source::Key));
    }

    fn origin(&self, key: &Key<'_>) -> String {
        let section = key.section.map(|section| format!("{section}.")).unwrap_or_default();
        format!("{}, line {}, {section}{}", self.path, key.line, key.name)
    }

    fn form(&self, line: usize, expected: &'static str) -> Refusal {
        Refusal::Form { path: self.path.to_owned(), line, expected }
    }

    fn no_yaml(&self, error: &ScanError) -> Refusal {
        Refusal::NoYaml { path: self.path.to_owned(), reason: error.to_string() }
    }
}

fn line_of(span: &Span) -> usize {
    span.start.line()
}

/// YAML's words for nothing.
fn is_none(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A whole number as the YAML that etcd reads has it: as in Go, and `1e4` and `1.0` besides.
fn whole(text: &str) -> Option<String> {
    /// Up to here each whole number is one of its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Some(number) = go::integer(text) {
        return Some(number.to_string());
    }
    let is_decimal = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
    let number = text.parse::<f64>().ok().filter(|_| text.chars().all(is_decimal))?;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then(|| format!("{number:.0}"))
}

/// The same with spaces in place of the tabs behind a key at the beginning of a line, which are YAML
/// and which the parser does not take before a word. No column moves.
fn without_tabs(text: &str) -> String {
    let is_key = |letter: char| letter.is_ascii_alphanumeric() || "-\"' \t".contains(letter);
    let mended = |line: &str| match line.split_once(":\t") {
        Some((key, value)) if key.chars().all(is_key) => {
            let rest = value.trim_start_matches('\t');
            format!("{key}:{}{rest}", " ".repeat(1 + value.len() - rest.len()))
        }
        Some(_) | None => line.to_owned(),
    };
    text.split_inclusive('\n').map(mended).collect()
}

/// What the YAML that etcd reads takes for true and false, beside Go's own words.
fn yaml_boolean(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "y" | "yes" | "on" => Some("true"),
        "n" | "no" | "off" => Some("false"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let given = parse("f.yml", text).unwrap_or_else(|refusal| panic!("{refusal}"));
        given.into_iter().map(|given| format!("{}={}", given.row.flag, given.value)).collect()
    }

    fn refusal(text: &str) -> String {
        parse("f.yml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_a_flags_name_and_those_of_tls_are_in_sections() {
        let text = "# A comment.\n\
                    name: 'n1'\n\
                    data-dir:\n\
                    election-timeout: 500\n\
                    initial-cluster: n1=http://h:1,n2=http://h:2\n\
                    strict-reconfig-check: no\n\
                    client-transport-security:\n  \
                      cert-file: c.pem\n  \
                      client-cert-auth: true\n  \
                      trusted-ca-file:\n\
                    peer-transport-security:\n  \
                      cert-file: ~\n  \
                      client-cert-auth: false\n\
                    log-outputs: [stderr, /tmp/log]\n\
                    cipher-suites:\n  - A\n  - B\n";
        let expected = [
            "name=n1",
            "election-timeout=500",
            "initial-cluster=n1=http://h:1,n2=http://h:2",
            "strict-reconfig-check=false",
            "cert-file=c.pem",
            "client-cert-auth=true",
            "peer-client-cert-auth=false",
            "log-outputs=stderr,/tmp/log",
            "cipher-suites=A,B",
        ];
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn a_section_may_have_sections() {
        let text = "discovery-config:\n  \
                      token: t\n  \
                      client:\n    \
                        endpoints: [a:1, b:2]\n    \
                        dial-timeout: 3000000000\n    \
                        secure:\n      \
                          insecure-transport: false\n    \
                        auth:\n      \
                          username: u\n\
                    discovery-srv: ~\n";
        let expected = [
            "discovery-token=t",
            "discovery-endpoints=a:1,b:2",
            "discovery-dial-timeout=3000000000ns",
            "discovery-insecure-transport=false",
            "discovery-user=u",
        ];
        assert_eq!(shown(text), expected);
        let said = refusal("discovery-config:\n  client:\n    endpoint: a:1\n");
        assert!(said.contains("line 3, discovery-config.client.endpoint"), "{said}");
        assert!(said.contains("did you mean endpoints?"), "{said}");
        let said = refusal("discovery-config:\n  clients:\n    endpoints: a:1\n");
        assert!(said.contains("did you mean client?"), "{said}");
        let said = refusal("client:\n  endpoints: a:1\n");
        assert!(said.contains("line 1, client"), "it belongs into its section: {said}");
    }

    #[test]
    fn a_file_may_be_json_and_may_be_empty() {
        assert_eq!(shown(r#"{"name": "n1", "auto-compaction-retention": "1"}"#).len(), 2);
        for nothing in ["", "# nothing\n", "---\n", "---\n...\n"] {
            assert!(shown(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_number_for_a_time_is_of_nanoseconds_as_in_etcd() {
        let times = ["600000000000", "10m"]
            .map(|time| shown(&format!("watch-progress-notify-interval: {time}")).concat());
        let flag = "watch-progress-notify-interval";
        assert_eq!(times, [format!("{flag}=600000000000ns"), format!("{flag}=10m")]);
    }

    #[test]
    fn a_number_may_be_written_as_in_go_and_as_in_json() {
        for (written, number) in [
            ("0x100", "256"),
            ("1_000", "1000"),
            ("010", "8"),
            ("0b11", "3"),
            ("+5", "5"),
            ("1e4", "10000"),
            ("1.0", "1"),
            ("2.5E3", "2500"),
        ] {
            let said = shown(&format!("snapshot-count: {written}")).concat();
            assert_eq!(said, format!("snapshot-count={number}"));
        }
        for wrong in ["1.5", "1e400", "inf", "e4", "soon", "1e"] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
        let time = shown("watch-progress-notify-interval: 6e11").concat();
        assert_eq!(time, "watch-progress-notify-interval=600000000000ns");
    }

    #[test]
    fn a_tab_may_stand_between_a_key_and_its_value() {
        let text = "name:\tn1\ndata-dir:\t \td\npeer-transport-security:\n  auto-tls:\t\ttrue\n";
        assert_eq!(shown(text), ["name=n1", "data-dir=d", "peer-auto-tls=true"]);
        assert_eq!(shown("{\n\t\"pre-vote\":\ttrue\n}"), ["pre-vote=true"]);
        assert_eq!(shown("name: 'a: b:\tc'\n"), ["name=a: b:\tc"]);
        let said = refusal("name:\tn1\n\tdata-dir: d\n");
        assert!(said.contains("f.yml is no YAML"), "tabs are no indentation: {said}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        let said = refusal("name: n1\nelection-timout: 5\n");
        assert!(said.contains("f.yml, line 2, election-timout"), "{said}");
        assert!(said.contains("did you mean election-timeout?"), "{said}");
        let said = refusal("client-transport-security:\n  cert: c.pem\n");
        assert!(said.contains("line 2, client-transport-security.cert"), "{said}");
        let said = refusal("cert-file: c.pem\n");
        assert!(said.contains("line 1, cert-file"), "it belongs into its section: {said}");
    }

    #[test]
    fn what_is_no_mapping_of_keys_to_values_is_refused_with_its_line() {
        for (text, line) in [
            ("- name\n", 1),
            ("name: n1\ndata-dir: [a, b]\n", 2),
            ("name: n1\nname:\n  a: b\n", 2),
            ("name:\n  a: b\n", 2),
            ("client-transport-security: yes\n", 1),
            ("? [a]\n: b\n", 1),
            ("name: n1\n---\nname: n2\n", 3),
            ("name: &a n1\ndata-dir: *a\n", 2),
        ] {
            let said = refusal(text);
            assert!(said.contains(&format!("line {line}")), "{text}: {said}");
        }
        let said = refusal("name: 'n1\n");
        assert!(said.contains("f.yml is no YAML"), "{said}");
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_with_both_lines() {
        let said = refusal("name: n1\ndata-dir: d\nname: n2\n");
        assert!(said.contains("line 3, name") && said.contains("line 1"), "{said}");
    }
}
