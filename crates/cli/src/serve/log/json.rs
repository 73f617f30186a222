//! A line of the log as etcd's logger writes it: `{"level":"info","ts":"...","caller":"...","msg":"..."`
//! and the fields. Must not know where it goes.

use serde_json::Value;
use std::error::Error;
use std::fmt::{self, Debug, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// etcd's form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        write!(writer, r#"{{"level":"{}","ts":"{time}""#, level(*metadata.level()))?;
        if let Some(caller) = caller(metadata) {
            write!(writer, r#","caller":{}"#, Value::from(caller))?;
        }
        write!(writer, r#","msg":{}"#, Value::from(fields.message))?;
        writeln!(writer, "{}}}", fields.rest)
    }
}

/// zap knows no level below debug.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// The file in its folder, and the line.
fn caller(metadata: &Metadata<'_>) -> Option<String> {
    let (file, line) = (metadata.file()?, metadata.line()?);
    let mut parts = file.rsplit('/');
    let name = parts.next()?;
    Some(match parts.next() {
        Some(folder) => format!("{folder}/{name}:{line}"),
        None => format!("{name}:{line}"),
    })
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    /// The other fields, each with a comma before it.
    rest: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &Value) {
        // Writing to a text does not fail.
        let _ = write!(self.rest, ",{}:{value}", Value::from(field.name()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, &Value::from(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.put(field, &Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, &Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, &Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, &Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            // Writing to a text does not fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.put(field, &Value::from(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged meanwhile.
    fn lines(act: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Json)
            .finish();
        tracing::subscriber::with_default(log, act);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_begins_as_etcds_and_is_an_object() {
        let lines = lines(|| {
            let error = io::Error::other("full \"disk\"\n");
            tracing::warn!(count = 3, is_new = true, name = "n1", "a \"quoted\"\tword");
            tracing::error!(error = &error as &dyn Error, address = %"h:1", "bad");
            tracing::trace!("fine");
        });
        assert_eq!(lines.len(), 3);
        let first: Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(lines[0].starts_with(r#"{"level":"warn","ts":"2"#), "{}", lines[0]);
        assert!(lines[0].contains(r#"Z","caller":"log/json.rs:"#), "{}", lines[0]);
        assert_eq!(first["msg"], "a \"quoted\"\tword");
        assert_eq!((&first["count"], &first["is_new"]), (&Value::from(3), &Value::from(true)));
        assert_eq!(first["name"], "n1");
        let second: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(
            (second["error"].as_str(), second["address"].as_str()),
            (Some("full \"disk\"\n"), Some("h:1"))
        );
        assert!(lines[2].starts_with(r#"{"level":"debug""#), "{}", lines[2]);
    }
}
