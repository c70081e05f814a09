use std::io;
use std::sync::{LazyLock, Mutex};

use http::HeaderMap;
use tracing::dispatcher::Dispatch;

use super::trace::{Begin, Tracing};
use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[derive(Clone, Default)]
struct Place(Arc<Mutex<Vec<u8>>>);

impl Place {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Place {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What listens beside a test: as long as it is alone, a place that another thread is the first to
/// use is off for all threads.
static OTHER: LazyLock<Dispatch> =
    LazyLock::new(|| Dispatch::new(lines("trace", LogFormat::Text).1));

fn lines(
    text: &str,
    format: LogFormat,
) -> (Place, Box<dyn tracing::Subscriber + Send + Sync>, Dials) {
    let place = Place::default();
    let writer = place.clone();
    let (subscriber, dials) = subscriber(filter(text).unwrap(), format, move || writer.clone());
    (place, subscriber, dials)
}

/// The lines of what is logged within a trace that is not recorded, and without one.
fn logged(format: LogFormat) -> String {
    LazyLock::force(&OTHER);
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", PARENT.parse().unwrap());
    let trace = Tracing::default().begin(&headers, || Begin {
        name: String::new(),
        attributes: Vec::new(),
        is_call: true,
    });
    let (place, subscriber, _) = lines("info", format);
    tracing::subscriber::with_default(subscriber, || {
        trace.during(|| tracing::info!(operation = "GetService", "within"));
        tracing::info!("without");
    });
    place.text()
}

#[test]
fn a_line_of_text_ends_with_its_trace() {
    let text = logged(LogFormat::Text);
    let (within, without) = text.split_once('\n').unwrap();
    assert!(
        within.ends_with(
            "within operation=\"GetService\" trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331"
        ),
        "{text}"
    );
    assert!(without.ends_with("without\n"), "{text}");
}

#[test]
fn a_line_of_json_has_its_trace_as_members() {
    let text = logged(LogFormat::Json);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["operation"], "GetService");
    assert_eq!(lines[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(lines[0]["span_id"], "b7ad6b7169203331");
    assert_eq!(lines[1].get("trace_id"), None);
}

#[test]
fn the_filter_can_be_changed_while_lines_are_written() {
    LazyLock::force(&OTHER);
    let (place, subscriber, dials) = lines("info", LogFormat::Text);
    tracing::subscriber::with_default(subscriber, || {
        let log = || tracing::debug!("a detail");
        log();
        assert_eq!(place.text(), "");
        dials.set_filter("debug").unwrap();
        log();
        assert_eq!(place.text().lines().count(), 1);
        let wrong = dials.set_filter("loud").unwrap_err();
        assert!(wrong.contains("loud"), "{wrong}");
        log();
        assert_eq!(place.text().lines().count(), 2);
        dials.set_filter("warn").unwrap();
        log();
        assert_eq!(place.text().lines().count(), 2);
    });
}

#[test]
fn a_ratio_beyond_its_bounds_is_refused() {
    let (_, _, dials) = lines("info", LogFormat::Text);
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert!(dials.set_sample_ratio(wrong).is_err(), "{wrong}");
    }
    assert!(dials.set_sample_ratio(0.5).is_ok());
}
