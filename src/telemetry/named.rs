//! Log lines that name the trace to which they belong.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::parent::Ids;
use super::trace::current;

/// How a line is completed.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Json,
}

/// Writes lines as `F` does, and the trace of each at its end.
pub struct Named<F> {
    inner: F,
    form: Form,
}

impl<F> Named<F> {
    pub fn text(inner: F) -> Self {
        let form = Form::Text;
        Self { inner, form }
    }

    pub fn json(inner: F) -> Self {
        let form = Form::Json;
        Self { inner, form }
    }
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(Ids { trace, span }) = current() else {
            return self.inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        let inner = Writer::new(&mut line);
        self.inner.format_event(context, inner, event)?;
        let line = line.trim_end_matches('\n');
        match self.form {
            Form::Text => writeln!(writer, "{line} trace_id={trace} span_id={span}"),
            Form::Json => {
                // An object always ends so.
                let open = line.strip_suffix('}').unwrap_or(line);
                writeln!(
                    writer,
                    r#"{open},"trace_id":"{trace}","span_id":"{span}"}}"#
                )
            }
        }
    }
}
