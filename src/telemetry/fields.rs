//! The fields of a log line, as tracing writes them.
//!
//! Most values are short words and numbers, and each call has a line of them: these are copied as they
//! are. Whatever needs more care is left to tracing's own visitor.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, DefaultVisitor, Writer};

pub struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        if writer.has_ansi_escapes() {
            return DefaultFields::new().format_fields(writer, fields);
        }
        let mut line = Line {
            writer,
            empty: true,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn copy(&mut self, field: &Field, parts: [&str; 3]) {
        let space = if self.empty { "" } else { " " };
        let texts = [space, field.name(), "="].into_iter().chain(parts);
        for text in texts {
            self.result = self.result.and_then(|()| self.writer.write_str(text));
        }
        self.empty = false;
    }

    fn with_care(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        if self.result.is_ok() {
            let mut visitor = DefaultVisitor::new(self.writer.by_ref(), self.empty);
            record(&mut visitor);
            self.result = visitor.finish();
            self.empty = false;
        }
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        let name = field.name();
        if name != "message" && !name.starts_with("r#") && value.bytes().all(plain) {
            self.copy(field, ["\"", value, "\""]);
        } else {
            self.with_care(|visitor| visitor.record_str(field, value));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.copy(field, ["", &value.to_string(), ""]);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.with_care(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.with_care(|visitor| visitor.record_debug(field, value));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Place(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Place {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of some events.
    fn written<F>(fields: F) -> String
    where
        F: for<'writer> FormatFields<'writer> + Send + Sync + 'static,
    {
        let place = Place::default();
        let writer = place.clone();
        let lines = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .fmt_fields(fields)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(lines, || {
            let operation = "GetService";
            let text = String::from("a text");
            tracing::info!(operation, text, micros = 12_u64, "call");
            tracing::info!(a = "\"quoted\\\u{1b}[1m", b = "süß\n", c = "", "with care");
            tracing::info!(count = -3, yes = true, some = ?Some(1), shown = %"as it is");
            let cause = io::Error::other("broken\u{1b}");
            tracing::info!(cause = &cause as &dyn std::error::Error, micros = 0_u64);
            tracing::info!(message = "only text");
            tracing::info!(micros = 1_u64, "a \u{1b}[2m number");
        });
        String::from_utf8(place.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn lines_are_those_of_tracing_to_the_byte() {
        let own = written(Fields);
        assert_eq!(own, written(DefaultFields::new()));
        assert!(own.contains("call operation=\"GetService\" text=\"a text\" micros=12\n"));
    }
}
